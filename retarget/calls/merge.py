"""Merging two ids of one visitor, as when a cookie signs in: what the one did and was shown becomes the other's.

Rules:
- Two keys may lie on two servers, so it is three writes, each whole by itself: what is to be moved is noted at the
  source under a number of its own (a parcel); it is entered at the target with that number as the id; it is taken out
  at the source together with the note. What is much goes in several parcels, the newest first.
- A parcel is noted only if all in it is at the source still, just as it was read: another merge may have been quicker.
- Whoever finds a parcel delivers it: a merge that was broken off is finished by the next one, two at once move
  everything once, and what comes to the source meanwhile stays there for the next round.
- Until the last write, what is moved counts for both: nobody is shown more than she may be.
- Ids of events stay at the source until they lapse: a repeat that comes late, to the old id, is known there.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator

from retarget.calls.requests import Request, Steps
from retarget.engine import Plan
from retarget.errors import NotExecuted, StoreError
from retarget.timelines import (
    ACTIVITY,
    DENIED,
    FULL,
    HELD,
    HOLD,
    PARCEL,
    SESSIONS,
    Alternative,
    Answer,
    Change,
    Enter,
    Guard,
    Remove,
    State,
    Write,
    keys,
    timeline,
)

_MOST_ENTRIES = 4_000
"""A parcel has about so many entries at most: one write must not hold the server up."""

_MOST_OF_ONE = 100
"""And so many of one timeline: each is found, or put in its place, among all of that timeline."""

_ROUNDS = 200
_FOREVER = timeline.head(2**32, shield=True)
"""A note never lapses, and never goes for want of room."""

_ALL = 0xFFFF
_SHIELD = 0x8000


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
            answer: Answer = yield Request("write", _noted(source, state, parcel, number, now))
            if answer == FULL:
                raise NotExecuted("the timelines of the visitor to be merged are full: nothing was moved")
            if answer == DENIED:  # something came, or another merge was quicker
                continue
        id_ = keys.event_id("merge", f"{source.hex()} {number}")
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
        if field[:1] != b"#":
            timeline.check(field, raw)
    return state


def _movable(state: State, now: int) -> dict[bytes, bytes]:
    """Of the timelines that matter still as much as one parcel takes, the newest entries first.

    The shortest come first: so what reserves and what tells the session go together.
    """
    parcel: dict[bytes, bytes] = {}
    room = _MOST_ENTRIES
    for field, raw in sorted(state.items(), key=lambda item: len(item[1])):
        if room > 0 and field[:1] not in (b"#", PARCEL) and timeline.is_live(raw, now):
            parcel[field] = raw[: timeline.HEAD] + raw[timeline.HEAD :][-timeline.ENTRY * _MOST_OF_ONE :]
            room -= _size(parcel[field])
    return parcel if parcel.keys() != {HELD} else {}


def _noted(source: bytes, state: State, parcel: State, number: int, now: int) -> Write:
    """Note the parcel at the source, unless there is one, or something is not as it was read."""
    note = Enter(PARCEL, number, 1, 1, _FOREVER)
    copies = [
        Enter(PARCEL + field, at, times, _ALL, _head(raw) & ~_SHIELD)
        for field, raw in parcel.items()
        for at, times in _times(raw)
    ]
    none_yet = Guard(PARCEL, 1, 0, wanted=False, more=False, anchored=False)
    return Write(source, now, b"", (Alternative((none_yet, *_unchanged(state, parcel, now)), (note, *copies), 1),))


def _unchanged(state: State, parcel: State, now: int) -> Iterator[Guard]:
    """What holds while the newest entries of each timeline are those of the parcel; reserved ones are counted first."""
    held = timeline.live_holds(state, now)
    for field, raw in parcel.items():
        newer = len(held.get(field, ()))
        for at, times in reversed(_times(raw)):
            if at < timeline.LAST_MOMENT:
                yield Guard(field, newer + 1, at + 1, wanted=False, more=False, anchored=False)
            newer += times
            yield Guard(field, newer, at, wanted=True, more=False, anchored=False)


def _entered(plan: Plan, parcel: State, target: State, now: int) -> Alternative:
    """Enter the parcel at the target, each timeline with what the policy asks of it."""
    entries: list[Change] = []
    ttl = 1
    for field, raw in parcel.items():
        place = plan.place_of(field)
        keep = place.keep if place is not None else max(timeline.MIN_KEEP, _size(raw) + _size(target.get(field, b"")))
        code = place.head if place is not None else _head(raw)
        if field[:1] in (HELD, HOLD):
            keep, code = 1 if field == HELD or field[:1] == HOLD else _ALL, _head(raw)
        ttl = max(ttl, min(timeline.newest(raw) + timeline.seconds_of(code) + 1 - now, timeline.LAST_MOMENT))
        entries += [Enter(field, at, times, keep, code) for at, times in _times(raw)]
    return Alternative((), (*entries, *_joined_session(plan, parcel, target, now)), ttl)


def _joined_session(plan: Plan, parcel: State, target: State, now: int) -> Iterator[Change]:
    """Where both are in a session, the one that began first has begun both; one of unknown beginning is that one."""
    if not all(_in_session(plan, state, now) for state in (parcel, target)):
        return
    begun = [timeline.newest(state[SESSIONS]) if SESSIONS in state else 0 for state in (parcel, target)]
    for later in {*begun} - {min(begun)}:
        yield Remove(SESSIONS, later, 1)
        yield Enter(SESSIONS, min(begun), 1, 1, plan.session_places()[1].head)


def _in_session(plan: Plan, state: State, now: int) -> bool:
    active = state.get(ACTIVITY)
    going_on = active is not None and timeline.newest(active) >= now - plan.alive.window.horizon
    return plan.has_sessions and (going_on or ACTIVITY in timeline.live_holds(state, now))


def _taken_out(source: bytes, parcel: State, number: int, now: int) -> Write:
    """Take the parcel out at the source, and the note of it, if it is there still.

    When the last reserved impression ends stays: it may be that of one reserved meanwhile.
    """
    there = Guard(PARCEL, 1, number, wanted=True, more=False, anchored=False)
    not_later = Guard(PARCEL, 1, number + 1, wanted=False, more=False, anchored=False)
    entries = [
        Remove(name, at, times)
        for field, raw in parcel.items()
        for at, times in _times(raw)
        for name in (field, PARCEL + field)
        if name != HELD
    ]
    note = Remove(PARCEL, number, 1)
    return Write(source, now, b"", (Alternative((there, not_later), (*entries, note), 1),))


def _times(raw: bytes) -> list[tuple[int, int]]:
    return list(Counter(timeline.moments(raw)).items())


def _size(raw: bytes) -> int:
    return len(raw) // timeline.ENTRY


def _head(raw: bytes) -> int:
    return int.from_bytes(raw[: timeline.HEAD])
