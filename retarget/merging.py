"""Merging two ids of one visitor, as when a cookie signs in: what the one did and was shown becomes the other's.

Rules:
- Two keys may lie on two servers, so it is three writes, each whole by itself: what is to be moved is noted at the
  source under a number of its own (a parcel); it is entered at the target with that number as the id; it is taken out
  at the source together with the note.
- Whoever finds a parcel delivers it: a merge that was broken off is finished by the next one, two at once move
  everything once, and what comes to the source meanwhile stays there for the next round.
- Until the last write, what is moved counts for both: nobody is shown more than she may be.
- Ids of events stay at the source until they lapse: a repeat that comes late, to the old id, is known there.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from retarget import timeline, wire
from retarget.changes import DENIED, FULL, Alternative, Answer, Entry, Guard, Write
from retarget.errors import NotExecuted, StoreError
from retarget.plan import Plan
from retarget.steps import Request, Steps
from retarget.timeline import ACTIVITY, HELD, HOLD, PARCEL, SESSIONS

_MOST_ENTRIES = 4_000
"""A parcel has about so many entries at most: one write must not hold the server up."""

_ROUNDS = 100
_FOREVER = timeline.head(2**32, shield=False)
_ALL = 0xFFFF
_SHIELD = 0x8000

State = Mapping[bytes, bytes]


def merging(plan: Plan, source: bytes, into: bytes, now: int) -> Steps[bool]:
    """Move what is known under one key to the other; True if there was anything. Raises StoreError."""
    moved = False
    for _ in range(_ROUNDS):
        states: list[State | StoreError] = yield Request("read_many", [source, into])
        state, target = (_readable(state) for state in states)
        if PARCEL in state:
            number = timeline.newest(state[PARCEL])
            parcel = {field[1:]: raw for field, raw in state.items() if field[:1] == PARCEL and field != PARCEL}
        else:
            number, parcel = 1 + secrets.randbelow(2**32 - 2), _movable(state, now)
            if not parcel:
                return moved
            answer: Answer = yield Request("write", _noted(source, parcel, number, now))
            if answer == DENIED:  # another merge was quicker: its parcel is delivered first
                continue
        id_ = wire.event_id("merge", f"{source.hex()} {number}")
        answer = yield Request("write", Write(into, now, id_, (_entered(plan, parcel, target, now),)))
        if answer == FULL:
            raise NotExecuted("the timelines of the visitor merged into are full: what is left stays where it was")
        yield Request("write", _taken_out(source, parcel, number, now))
        moved = True
    return moved


def _readable(state: State | StoreError) -> State:
    if isinstance(state, StoreError):
        raise state
    for field, raw in state.items():
        if field[:1] != b"#" and not timeline.is_packed(raw):
            raise StoreError(f"the timeline {timeline.readable(field)!r} is corrupt: {len(raw)} bytes")
    return state


def _movable(state: State, now: int) -> dict[bytes, bytes]:
    """The timelines that matter still, as many as one parcel takes."""
    parcel: dict[bytes, bytes] = {}
    entries = 0
    for field, raw in state.items():
        if field[:1] != b"#" and timeline.is_live(raw, now):
            entries += len(raw) // timeline.ENTRY
            if parcel and entries > _MOST_ENTRIES:
                break
            parcel[field] = raw
    return parcel


def _noted(source: bytes, parcel: State, number: int, now: int) -> Write:
    """Note the parcel at the source, unless there is one."""
    note = Entry(PARCEL, number, 1, 1, _FOREVER)
    copies = [
        Entry(PARCEL + field, at, times, _ALL, _head(raw) & ~_SHIELD)
        for field, raw in parcel.items()
        for at, times in _times(raw)
    ]
    none_yet = Guard(PARCEL, 1, 0, wanted=False, more=False, anchored=False)
    return Write(source, now, b"", (Alternative((none_yet,), (note, *copies), 1),))


def _entered(plan: Plan, parcel: State, target: State, now: int) -> Alternative:
    """Enter the parcel at the target, each timeline with what the policy asks of it."""
    entries: list[Entry] = []
    ttl = 1
    for field, raw in parcel.items():
        place = plan.place_of(field)
        keep = place.keep if place is not None else max(timeline.MIN_KEEP, len(timeline.moments(raw)))
        code = place.head if place is not None else _head(raw)
        if field[:1] in (HELD, HOLD):
            keep, code = 1 if field == HELD or field[:1] == HOLD else _ALL, _head(raw)
        ttl = max(ttl, timeline.newest(raw) + timeline.seconds_of(code) + 1 - now)
        entries += [Entry(field, at, times, keep, code) for at, times in _times(raw)]
    return Alternative((), (*entries, *_joined_session(plan, parcel, target, now)), ttl)


def _joined_session(plan: Plan, parcel: State, target: State, now: int) -> Iterator[Entry]:
    """Where both are in a session, the one that began first has begun both."""
    gap = plan.alive.window.horizon
    both = (parcel, target)
    if not all(SESSIONS in s and ACTIVITY in s and timeline.newest(s[ACTIVITY]) >= now - gap for s in both):
        return
    begun, other = (timeline.newest(s[SESSIONS]) for s in both)
    for later in {begun, other} - {min(begun, other)}:
        yield Entry(SESSIONS, later, 1, 0, 0)
        yield Entry(SESSIONS, min(begun, other), 1, 1, _head(parcel[SESSIONS]))


def _taken_out(source: bytes, parcel: State, number: int, now: int) -> Write:
    """Take the parcel out at the source, and the note of it, if it is there still."""
    there = Guard(PARCEL, 1, number, wanted=True, more=False, anchored=False)
    not_later = Guard(PARCEL, 1, number + 1, wanted=False, more=False, anchored=False)
    entries = [
        Entry(name, at, times, 0, 0)
        for field, raw in parcel.items()
        for at, times in _times(raw)
        for name in (field, PARCEL + field)
    ]
    note = Entry(PARCEL, number, 1, 0, 0)
    return Write(source, now, b"", (Alternative((there, not_later), (*entries, note), 1),))


def _times(raw: bytes) -> Iterable[tuple[int, int]]:
    return Counter(timeline.moments(raw)).items()


def _head(raw: bytes) -> int:
    return int.from_bytes(raw[: timeline.HEAD])
