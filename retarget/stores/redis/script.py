"""The write script and its arguments, packed as write.lua reads them.

Rules:
- The script is named by its SHA-1 and sent whole only to a server that does not have it.
- Its constants are filled in from Python, so that the memory store and the script cannot drift apart.
- An alternative is packed once: within a second, the same one is sent for many visitors.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple, TypeAlias, assert_never

from retarget.timelines import (
    DAY,
    HELD,
    HOLD,
    IDS_KEPT,
    LAST_MOMENT,
    LOOK_EVERY,
    MOST_TIMELINES,
    RECORD,
    ROOM,
    SLACK,
    Alternative,
    Change,
    Clear,
    Cover,
    Enter,
    Guard,
    Remove,
    Reserve,
    Settle,
    Write,
    keys,
    reservations,
    timeline,
)

_HELD_HEAD = timeline.head(0, shield=True)
_HELD_KEEP = 0xFFFF

_RECORDED, _ENTER, _COVER, _REMOVE, _RESERVE, _SETTLE, _CLEAR = range(7)
"""The kinds of changes. A recorded entry is never sent: write.lua reads it from a hold's record."""

_CONSTANTS = {
    "ID": keys.ID_BYTES,
    "DEADLINE": keys.DEADLINE_BYTES,
    "HEAD": timeline.HEAD,
    "ENTRY": timeline.ENTRY,
    "SHIELD": timeline.head(0, shield=True),
    "SLACK": SLACK,
    "DAY": DAY,
    "LAST_MOMENT": LAST_MOMENT,
    "MOST_TIMELINES": MOST_TIMELINES,
    "ROOM": ROOM,
    "LOOK_EVERY": LOOK_EVERY,
    "MOST_WORDS": 4_000,
    "IDS_KEPT": IDS_KEPT,
    "RECORD": RECORD,
    "PIECE": keys.PIECE,
    "RECORDED": _RECORDED,
    "ENTER": _ENTER,
    "COVER": _COVER,
    "REMOVE": _REMOVE,
    "RESERVE": _RESERVE,
    "SETTLE": _SETTLE,
    "CLEAR": _CLEAR,
}


def source(**others: int) -> str:
    """The script with numbers for its constants: as variables they would cost a microsecond in every call.

    `others` are constants with another value, for measurements.
    """
    numbers = _CONSTANTS | others
    text = files("retarget.stores.redis").joinpath("write.lua").read_text(encoding="utf-8")
    return re.sub(r"\b[A-Z_]+\b", lambda word: str(numbers.get(word[0], word[0])), text)


SCRIPT = source()
SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

_ALTERNATIVE = struct.Struct(">III5sI")
_GUARD = struct.Struct(">BHIH")
_ANCHOR = struct.Struct(">HIH")
_CHANGE = struct.Struct(">BIHHHH")
_TWO = struct.Struct(">II")
_LENGTH = struct.Struct(">I")

_NAMES = 64
"""The most timelines that the script reads by one command: a merge names hundreds."""

_CACHED = 64
"""Alternatives with more changes than this are not cached: they are from merges, which never repeat one."""


class Packed(NamedTuple):
    """An alternative's bytes, and the timelines that it names, each once, in order.

    An empty name is that of the hold which the write names.
    """

    data: bytes
    names: tuple[bytes, ...]


def pack(alternative: Alternative) -> Packed:
    """One alternative as write.lua reads it."""
    return _pack(alternative) if len(alternative.changes) > _CACHED else _pack_cached(alternative)


def arguments(write: Write) -> tuple[bytes, ...]:
    """KEYS[1] and ARGV of write.lua, all bytes: hiredis 3.5 packs an int by its `repr`; a signal then crashes it."""
    choices = [pack(alternative) for alternative in write.alternatives]
    names = choices[0].names if choices else ()
    if write.hold:
        names = tuple(dict.fromkeys(name or HOLD + write.hold for name in names))
    return write.key, b"%d" % write.now, write.id, b"".join(choice.data for choice in choices), write.hold, *names


def _pack(alternative: Alternative) -> Packed:
    guards = [_guard(guard) for guard in alternative.guards]
    changes = [part for change in alternative.changes for part in _parts(change)]
    block = b"".join([*(data for data, _ in guards), *(data for data, _ in changes)])
    names = dict.fromkeys(name for _, named in (*guards, *changes) for name in named)
    counts = len(guards), len(changes)
    packed = _ALTERNATIVE.pack(*counts, alternative.ttl, alternative.outcome, len(block)) + block
    return Packed(packed, tuple(names)[:_NAMES])


_pack_cached = lru_cache(4_096)(_pack)

_Part: TypeAlias = tuple[bytes, tuple[bytes, ...]]
"""The bytes of a guard or a change, and the names in it."""


def _guard(guard: Guard) -> _Part:
    flags = guard.wanted + 2 * guard.more + 4 * (guard.anchor is not None)
    data = _GUARD.pack(flags, guard.n, guard.since, len(guard.field)) + guard.field
    if guard.anchor is None:
        return data, (guard.field,)
    field, n, after = guard.anchor
    return data + _ANCHOR.pack(n, after, len(field)) + field, (guard.field, field)


def _parts(change: Change) -> list[_Part]:
    """A change as write.lua makes it: a reservation is several of them."""
    match change:
        case Enter(field, at, weight, keep, head):
            return [_change(_ENTER, field, at, weight, keep, head)]
        case Cover(field, first, last, pause, keep, head):
            return [_change(_COVER, field, last, 1, keep, head, _TWO.pack(first, pause))]
        case Remove(field, at, times):
            return [_change(_REMOVE, field, at, times)]
        case Reserve(end, places):
            record = reservations.pack(places)
            held = [(HELD + place.field, place.weight, _HELD_KEEP) for place in places]
            pieces = reservations.count(record)
            marks = [(HELD, 1, 1), (b"", pieces, pieces)]
            return [
                _change(_RESERVE, b"", end, more=_LENGTH.pack(len(record)) + record),
                *(_change(_ENTER, field, end, weight, keep, _HELD_HEAD) for field, weight, keep in held + marks),
            ]
        case Settle(at):
            return [_change(_SETTLE, b"", at or 0, at is not None)]
        case Clear():
            return [(_change(_CLEAR, b"")[0], ())]
        case _:
            assert_never(change)


def _change(
    kind: int, field: bytes, at: int = 0, weight: int = 0, keep: int = 0, head: int = 0, more: bytes = b""
) -> _Part:
    return _CHANGE.pack(kind, at, weight, keep, head, len(field)) + field + more, (field,)
