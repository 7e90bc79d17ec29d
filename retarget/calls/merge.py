"""Merging two ids of one visitor, as when a cookie signs in: the history of the source becomes the target's.

Rules:
- The two keys may live on two servers, so a move takes three atomic writes: note at the source what is to be moved,
  under a number of its own (a parcel); enter it at the target with that number as the event id; remove it and the note
  at the source. A long history is moved in several parcels, the newest entries first.
- A parcel is noted only if everything in it is still at the source as it was read: another merge may have been faster.
- Whichever merge finds a parcel delivers it: an interrupted merge is finished by the next one, two concurrent merges
  move everything once, and what the source receives meanwhile stays there for the next round.
- Until the last write, what is being moved counts for both: no cap is exceeded meanwhile.
- Event ids stay at the source until they expire: a late repeat under the old id is recognised there.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator

from retarget.calls.requests import Apply, ReadMany, Steps
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
"""About how many entries a parcel has at most: one write must not block the server."""

_MOST_OF_ONE = 100
"""How many of them from one timeline: the server searches the whole timeline for each."""

_ROUNDS = 200
_FOREVER = timeline.head(2**32, shield=True)
"""A note never expires, and is never evicted."""

_ALL = 0xFFFF
_SHIELD = 0x8000


def move_history(plan: Plan, source: bytes, into: bytes, now: int) -> Steps[bool]:
    """Move what is stored under one key to the other; True if there was anything. Raises StoreError."""
    moved = False
    for _ in range(_ROUNDS):
        state, target = (_checked(state) for state in (yield from ReadMany([source, into])))
        if PARCEL in state:
            number = timeline.newest(state[PARCEL])
            parcel = {field[1:]: raw for field, raw in state.items() if field[:1] == PARCEL and field != PARCEL}
        else:
            number, parcel = 1 + secrets.randbelow(2**32 - 2), _next_parcel(state, now)
            if not parcel:
                return moved
            answer = yield from Apply(_note_write(source, state, parcel, number, now))
            if answer == FULL:
                raise NotExecuted("the timelines of the visitor to be merged are full: nothing was moved")
            if answer == DENIED:  # something was entered or moved since the read
                continue
        id_ = keys.event_id("merge", f"{source.hex()} {number}")
        answer = yield from Apply(Write(into, now, id_, (_entries(plan, parcel, target, now),)))
        if answer == FULL:
            raise NotExecuted("the timelines of the visitor merged into are full: the rest was not moved")
        yield from Apply(_removal_write(source, parcel, number, now))
        moved = True
    return moved


def _checked(state: State | StoreError) -> State:
    """The timelines as they are. Raises StoreError if they could not be read, or one is corrupt."""
    if isinstance(state, StoreError):
        raise state
    for field, raw in state.items():
        if field[:1] != b"#":
            timeline.check(field, raw)
    return state


def _next_parcel(state: State, now: int) -> dict[bytes, bytes]:
    """As much of the live timelines as one parcel takes, the newest entries first.

    Shortest timelines first, so that all that belongs to a reservation or a session moves together.
    """
    parcel: dict[bytes, bytes] = {}
    room = _MOST_ENTRIES
    for field, raw in sorted(state.items(), key=lambda item: len(item[1])):
        if room > 0 and field[:1] not in (b"#", PARCEL) and timeline.is_live(raw, now):
            parcel[field] = raw[: timeline.HEAD] + raw[timeline.HEAD :][-timeline.ENTRY * _MOST_OF_ONE :]
            room -= _size(parcel[field])
    return parcel if parcel.keys() != {HELD} else {}


def _note_write(source: bytes, state: State, parcel: State, number: int, now: int) -> Write:
    """Note the parcel at the source, unless there already is one, or something changed since it was read."""
    note = Enter(PARCEL, number, 1, 1, _FOREVER)
    copies = [
        Enter(PARCEL + field, at, times, _ALL, _head(raw) & ~_SHIELD)
        for field, raw in parcel.items()
        for at, times in _times(raw)
    ]
    no_parcel = Guard(PARCEL, 1, 0, wanted=False, more=False, anchored=False)
    return Write(source, now, b"", (Alternative((no_parcel, *_unchanged(state, parcel, now)), (note, *copies), 1),))


def _unchanged(state: State, parcel: State, now: int) -> Iterator[Guard]:
    """Guards that hold while the newest entries of each timeline are those of the parcel; holds are counted first."""
    held = timeline.live_holds(state, now)
    for field, raw in parcel.items():
        newer = len(held.get(field, ()))
        for at, times in reversed(_times(raw)):
            if at < timeline.LAST_MOMENT:
                yield Guard(field, newer + 1, at + 1, wanted=False, more=False, anchored=False)
            newer += times
            yield Guard(field, newer, at, wanted=True, more=False, anchored=False)


def _entries(plan: Plan, parcel: State, target: State, now: int) -> Alternative:
    """Enter the parcel at the target; each timeline keeps what the policy asks about."""
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
    return Alternative((), (*entries, *_session_changes(plan, parcel, target, now)), ttl)


def _session_changes(plan: Plan, parcel: State, target: State, now: int) -> Iterator[Change]:
    """If both are in a session, it began when the earlier one did; an unknown start counts as the earlier one."""
    if not all(_in_session(plan, state, now) for state in (parcel, target)):
        return
    starts = [timeline.newest(state[SESSIONS]) if SESSIONS in state else 0 for state in (parcel, target)]
    for later in {*starts} - {min(starts)}:
        yield Remove(SESSIONS, later, 1)
        yield Enter(SESSIONS, min(starts), 1, 1, plan.session_places()[1].head)


def _in_session(plan: Plan, state: State, now: int) -> bool:
    active = state.get(ACTIVITY)
    is_active = active is not None and timeline.newest(active) >= now - plan.alive.window.horizon
    return plan.has_sessions and (is_active or ACTIVITY in timeline.live_holds(state, now))


def _removal_write(source: bytes, parcel: State, number: int, now: int) -> Write:
    """Remove the parcel and its note from the source, if the note is still there.

    The end of the last reserved impression stays: it may be the end of one reserved meanwhile.
    """
    not_earlier = Guard(PARCEL, 1, number, wanted=True, more=False, anchored=False)
    not_later = Guard(PARCEL, 1, number + 1, wanted=False, more=False, anchored=False)
    removals = [
        Remove(name, at, times)
        for field, raw in parcel.items()
        for at, times in _times(raw)
        for name in (field, PARCEL + field)
        if name != HELD
    ]
    note = Remove(PARCEL, number, 1)
    return Write(source, now, b"", (Alternative((not_earlier, not_later), (*removals, note), 1),))


def _times(raw: bytes) -> list[tuple[int, int]]:
    return list(Counter(timeline.moments(raw)).items())


def _size(raw: bytes) -> int:
    return len(raw) // timeline.ENTRY


def _head(raw: bytes) -> int:
    return int.from_bytes(raw[: timeline.HEAD])
