"""Keys and event ids: what a visitor and an identified event are called in the store, and which ids are remembered.

Rules:
- A key carries the version of the data format: a library with another format uses other keys.
- A prefix contains neither `~` nor `!`. So the first of them in a key ends the prefix, and the keys of two prefixes, or
  of an id in clear and a hashed one, never meet.
- The latest ids of a visitor are known until a deadline that each new one extends: it is stored with them, so every
  store answers alike, whenever it evicts a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from retarget.errors import StoreError

FORMAT = "2"
"""The version of the data format, behind the prefix in every key."""

CLEAR = "~"
"""Ends the prefix of a key that contains the visitor's id."""

HASHED = "!"
"""Ends the prefix of a key that contains a hash; the pepper's version and a `~` follow."""

IDS_KEPT = 16
"""How many event ids are remembered per visitor."""

ID_BYTES = 5
OUTCOME_BYTES = 5
DEADLINE_BYTES = 4
RECORD = ID_BYTES + OUTCOME_BYTES
"""Bytes remembered of an identified event: its id and its outcome."""

IDS = (b"#0", b"#1", b"#2")
"""The fields of the remembered ids: a deadline of 4 bytes, then the records, the oldest first, in pieces."""

PIECE = 64
"""The longest value that a small hash of Redis may have."""


def key(prefix: str, visitor: str) -> bytes:
    """The key of a visitor's hash."""
    return f"{prefix}{FORMAT}{CLEAR}{visitor}".encode()


def hashed_key(prefix: str, version: int, digest: bytes) -> bytes:
    """The key of a visitor whose id is hashed with the pepper of this version."""
    return f"{prefix}{FORMAT}{HASHED}{version}{CLEAR}".encode() + digest


def event_id(event: str, id_: str) -> bytes:
    """Five bytes for an event's id. The event's name is hashed too: an impression and its click may share an id."""
    return blake2b(f"{event}\0{id_}".encode(), digest_size=ID_BYTES).digest()


def remembered(state: Mapping[bytes, bytes], now: int) -> bytes:
    """The records of the ids still known at `now`, the oldest first. Raises StoreError for a corrupt one."""
    raw = _joined(state)
    if not raw:
        return b""
    if len(raw) < DEADLINE_BYTES or (len(raw) - DEADLINE_BYTES) % RECORD:
        raise StoreError(f"the remembered ids are corrupt: {len(raw)} bytes")
    return raw[DEADLINE_BYTES:] if now <= int.from_bytes(raw[:DEADLINE_BYTES]) else b""


def deadline(state: Mapping[bytes, bytes]) -> int:
    """The last second at which the remembered ids are known; 0 if there are none."""
    return int.from_bytes(_joined(state)[:DEADLINE_BYTES])


def _joined(state: Mapping[bytes, bytes]) -> bytes:
    return b"".join(state.get(field, b"") for field in IDS)


def outcome_of(records: bytes, id_: bytes) -> bytes | None:
    """The outcome remembered with an id; None for one that is not known."""
    for start in range(0, len(records), RECORD):
        if records[start : start + ID_BYTES] == id_:
            return records[start + ID_BYTES : start + RECORD]
    return None


def remember(records: bytes, id_: bytes, outcome: bytes, until: int) -> dict[bytes, bytes]:
    """The fields of the remembered ids with one more, the oldest dropped; known until this second."""
    raw = until.to_bytes(DEADLINE_BYTES) + (records + id_ + outcome)[-IDS_KEPT * RECORD :]
    return {field: raw[at : at + PIECE] for field, at in zip(IDS, range(0, len(raw), PIECE), strict=False)}
