"""The bytes on the wire: a visitor's key, an event's id, and the program that write.lua runs.

Rules:
- The key carries the version of the data format: a library that reads it otherwise uses another key.
- The script is named by its SHA-1 and sent whole only where the server does not have it.
- An alternative is packed once: within one second many visitors are sent the same one.
"""

from __future__ import annotations

import struct
from hashlib import blake2b, sha1
from importlib.resources import files

from retarget.timelines.writes import Alternative, Write

FORMAT = "1"
"""The version of the data format: what stands behind the prefix in every key."""

SCRIPT = files("retarget").joinpath("stores/redis/write.lua").read_text(encoding="utf-8")
SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

_ALTERNATIVE = struct.Struct(">HHI3sI")
_GUARD = struct.Struct(">BHIH")
_NAMES = 64
"""So many timelines at most are read together: a merge names hundreds."""

_ENTRY = struct.Struct(">IHHHH")


def key(prefix: str, visitor: str) -> bytes:
    """The key of a visitor's hash."""
    return f"{prefix}{FORMAT}:{visitor}".encode()


def event_id(event: str, id_: str) -> bytes:
    """Five bytes for an event's id. The event's name is part of it: a bid's impression and click may share an id."""
    return blake2b(f"{event}\0{id_}".encode(), digest_size=5).digest()


def packed(alternative: Alternative) -> bytes:
    """One alternative as write.lua reads it."""
    if alternative.packed:
        return alternative.packed
    parts: list[bytes] = []
    for guard in alternative.guards:
        flags = guard.wanted + 2 * guard.more + 4 * guard.anchored
        parts += (_GUARD.pack(flags, guard.n, guard.since, len(guard.field)), guard.field)
    for entry in alternative.entries:
        parts += (_ENTRY.pack(entry.at, entry.weight, entry.keep, entry.head, len(entry.field)), entry.field)
    fields = [*(guard.field for guard in alternative.guards), *(entry.field for entry in alternative.entries)]
    alternative.names = tuple(name for name in dict.fromkeys(fields) if name)[:_NAMES]
    block = b"".join(parts)
    counts = len(alternative.guards), len(alternative.entries)
    alternative.packed = _ALTERNATIVE.pack(*counts, alternative.ttl, alternative.outcome, len(block)) + block
    return alternative.packed


def arguments(write: Write) -> tuple[bytes, ...]:
    """KEYS[1] and ARGV of write.lua. No numbers: hiredis 3.5 packs one by its `repr`, and crashes if a signal comes."""
    program = b"".join(map(packed, write.alternatives))
    names = write.alternatives[0].names if write.alternatives else ()
    return write.key, b"%d" % write.now, write.id, program, write.hold, *names
