"""The record of a reservation: where an impression is reserved, and how it is entered there once it is confirmed.

Rules:
- The record is kept with the visitor, in pieces that a small hash can hold, and goes with the hold: confirming and
  releasing read it, not the policy, which may have changed since.
- What a merge has moved is no longer the hold's to remove: the hold's timeline says so.
- Per place: weight, keep, head and the length of the name, 2 bytes each, then the name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from itertools import takewhile

from retarget.errors import StoreError
from retarget.timelines.keys import PIECE
from retarget.timelines.timeline import ENTRY, HEAD, HOLD, RECORDED
from retarget.timelines.writes import MARK_BYTES, Reserved

_PLACE = struct.Struct(">HHHH")


def pack(places: Iterable[Reserved]) -> bytes:
    """The record of these places."""
    return b"".join(_PLACE.pack(p.weight, p.keep, p.head, len(p.field)) + p.field for p in places)


def unpack(record: bytes) -> tuple[Reserved, ...]:
    """The places of a record. Raises StoreError for a corrupt one."""
    places, at = [], 0
    while at < len(record):
        if len(record) - at < _PLACE.size:
            raise StoreError("the record of a reservation is corrupt")
        weight, keep, head, length = _PLACE.unpack_from(record, at)
        at += _PLACE.size + length
        if at > len(record):
            raise StoreError("the record of a reservation is corrupt")
        places.append(Reserved(record[at - length : at], weight, keep, head))
    return tuple(places)


def pieces(mark: bytes, record: bytes) -> dict[bytes, bytes]:
    """The fields that keep a hold's record."""
    return {_field(mark, n): record[at : at + PIECE] for n, at in enumerate(range(0, len(record), PIECE))}


def count(record: bytes) -> int:
    """How many pieces a record has, and how often the hold's timeline says its end: so they are read at once."""
    return max(1, -(-len(record) // PIECE))


def fields(mark: bytes, state: Mapping[bytes, bytes]) -> list[bytes]:
    """The fields that keep a hold's record, in order, as far as none is missing."""
    pieces = (len(state.get(HOLD + mark, b"")) - HEAD) // ENTRY
    return list(takewhile(state.__contains__, (_field(mark, number) for number in range(pieces))))


def is_moved(mark: bytes, state: Mapping[bytes, bytes]) -> bool:
    """Whether a merge has moved what was reserved: then the hold's timeline says its end once more than for its pieces.

    So settling the hold leaves alone what another has reserved until the same second.
    """
    entries = (len(state.get(HOLD + mark, b"")) - HEAD) // ENTRY
    return entries > max(1, len(fields(mark, state)))


def joined(mark: bytes, state: Mapping[bytes, bytes]) -> bytes:
    """A hold's record, from its fields; empty where there is none."""
    return b"".join(state[field] for field in fields(mark, state))


def mark_of(field: bytes) -> bytes | None:
    """The hold's mark in the name of a record's field; None for another field."""
    return field[len(RECORDED) : len(RECORDED) + MARK_BYTES] if field.startswith(RECORDED) else None


def _field(mark: bytes, number: int) -> bytes:
    return RECORDED + mark + number.to_bytes(2)
