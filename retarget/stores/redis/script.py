"""The write script and its arguments, packed as write.lua reads them.

Rules:
- The script is named by its SHA-1 and sent whole only to a server that does not have it.
- Its constants are filled in from Python, so that the memory store and the script cannot drift apart.
- An alternative is packed once: within a second, the same one is sent for many visitors.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

from retarget.timelines import (
    DAY,
    IDS_KEPT,
    MOST_TIMELINES,
    RECORD,
    Alternative,
    Change,
    Enter,
    Remove,
    Reserve,
    Write,
    timeline,
)

_CONSTANTS = {
    "HEAD": timeline.HEAD,
    "ENTRY": timeline.ENTRY,
    "SKEW": timeline.SKEW,
    "DAY": DAY,
    "MOST_TIMELINES": MOST_TIMELINES,
    "IDS_KEPT": IDS_KEPT,
    "RECORD": RECORD,
}

SCRIPT = f"local {', '.join(_CONSTANTS)} = {', '.join(map(str, _CONSTANTS.values()))}\n" + files(
    "retarget.stores.redis"
).joinpath("write.lua").read_text(encoding="utf-8")
SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

_ALTERNATIVE = struct.Struct(">HHI3sI")
_GUARD = struct.Struct(">BHIH")
_CHANGE = struct.Struct(">IHHHH")

_NAMES = 64
"""The most timelines that the script reads by one command: a merge names hundreds."""

_CACHED = 64
"""Alternatives with more changes than this are not cached: they are from merges, which never repeat one."""


class Packed(NamedTuple):
    """An alternative's bytes, and the timelines that it names, each once, in order."""

    data: bytes
    names: tuple[bytes, ...]


def pack(alternative: Alternative) -> Packed:
    """One alternative as write.lua reads it."""
    return _pack(alternative) if len(alternative.changes) > _CACHED else _pack_cached(alternative)


def arguments(write: Write) -> tuple[bytes, ...]:
    """KEYS[1] and ARGV of write.lua, all bytes: hiredis 3.5 packs an int by its `repr`; a signal then crashes it."""
    choices = [pack(alternative) for alternative in write.alternatives]
    names = choices[0].names if choices else ()
    return write.key, b"%d" % write.now, write.id, b"".join(choice.data for choice in choices), write.hold, *names


def _pack(alternative: Alternative) -> Packed:
    parts: list[bytes] = []
    for guard in alternative.guards:
        flags = guard.wanted + 2 * guard.more + 4 * guard.anchored
        parts += (_GUARD.pack(flags, guard.n, guard.since, len(guard.field)), guard.field)
    fields = [guard.field for guard in alternative.guards]
    for change in alternative.changes:
        at, times, keep, head, field = _fields(change)
        parts += (_CHANGE.pack(at, times, keep, head, len(field)), field)
        fields.append(field)
    names = tuple(name for name in dict.fromkeys(fields) if name)[:_NAMES]
    block = b"".join(parts)
    counts = len(alternative.guards), len(alternative.changes)
    return Packed(_ALTERNATIVE.pack(*counts, alternative.ttl, alternative.outcome, len(block)) + block, names)


def _fields(change: Change) -> tuple[int, int, int, int, bytes]:
    """`at`, `weight`, `keep`, `head` and name of a change, as the header of write.lua defines them."""
    if isinstance(change, Enter):
        return change.at, change.weight, change.keep, change.head, change.field
    if isinstance(change, Remove):
        return change.at, change.times, 0, 0, change.field
    if isinstance(change, Reserve):
        return change.end, 1, 1, change.head, b""
    return 0, change.times, 0, 0, change.field


_pack_cached = lru_cache(4_096)(_pack)
