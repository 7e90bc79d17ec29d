"""Parcels: a part of one visitor's history on its way to another, and the four writes that move it.

Two visitors may be on two servers, so no write sees both. What moves is a parcel with a number of its own:

    announce  at the target   a parcel of this number is due here
    note      at the source   its number, where it goes, and a copy of what is in it; what is in it stays in place
    deliver   at the target   if it is still due: it is no longer due, and what is in it is entered
    remove    at the source   if it is still noted: what is in it is removed, and the note

Rules:
- A parcel is delivered at most once, whoever tries, and however late: whether it is due is decided by the write that
  delivers it, and once it is not, it never is again. So a note whose parcel is no longer due has been delivered.
- A parcel is noted only if everything in it is at the source, and no other parcel is noted there.
- From the note on its content and its target do not change. Whoever finds a note can finish the move: deliver, remove.
- Until it is removed, what is in a parcel counts at the source, and once it is delivered at the target as well. So it
  counts for at least one of them all along, and for one in the end.
- Forgetting the source withdraws the parcel first; forgetting the target does so by itself. Then nobody delivers it.
- Reservations move as far as they count. What confirms or releases one, its mark and its record, stays at the source.
- When the visitor was active is copied, not moved. Event ids stay: they are asked for under the old id.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from retarget.engine import Plan
from retarget.errors import StoreError
from retarget.timelines import (
    ACTIVITY,
    DUE,
    ENTRY,
    HEAD,
    HELD,
    HOLD,
    LAST_MOMENT,
    MOST_TIMELINES,
    PARCEL,
    PARCEL_TO,
    TAKEN,
    Alternative,
    Change,
    Cover,
    Enter,
    Guard,
    Remove,
    State,
    Write,
    timeline,
)

MOST_NUMBERS = 2**32 - 2
"""Numbers of parcels are random, from 1 to this."""

_MOST_ENTRIES = 1_000
"""About how many entries a parcel has at most: one write must not block the server."""

_MOST_OF_ONE = 100
"""How many of them from one timeline: the server searches the whole timeline for each."""

_FOREVER = timeline.head(2**32, shield=True)
"""A note never expires, and is never evicted."""

_HELD = timeline.head(0, shield=True)
_SHIELD = 0x8000
_ALL = 0xFFFF
_STAY = (b"#", PARCEL, DUE, HOLD, TAKEN)
"""What begins the names of fields that belong to one visitor id, and do not move."""


class Parcel(NamedTuple):
    """What is to be moved from one key to another, by timelines. `announced`: the second of its announcement."""

    source: bytes
    target: bytes
    number: int
    announced: int
    timelines: dict[bytes, bytes]

    @property
    def due(self) -> bytes:
        """The field at the target that says that the parcel may be delivered."""
        return DUE + self.number.to_bytes(4)


def noted(source: bytes, state: State) -> Parcel | None:
    """The parcel that is noted here, if any. Raises StoreError for a corrupt note."""
    number = state.get(PARCEL)
    if number is None:
        return None
    fields = {field: timeline.check(field, raw) for field, raw in state.items() if field[:1] == PARCEL}
    targets = [field for field in fields if field.startswith(PARCEL_TO)]
    if len(targets) != 1:
        raise StoreError(f"the note of a merge is corrupt: it names {len(targets)} targets")
    timelines = {field[1:]: raw for field, raw in fields.items() if field not in (PARCEL, *targets)}
    target = targets[0]
    return Parcel(source, target[len(PARCEL_TO) :], timeline.newest(number), timeline.newest(fields[target]), timelines)


def next_timelines(plan: Plan, state: State, target: State, now: int) -> tuple[dict[bytes, bytes], bool]:
    """As much of what still matters as one parcel takes, and whether that is all of it.

    The newest entries of each timeline, the shortest timelines first.
    """
    parcel, is_all = _activity(plan, state, target, now)
    room, fields = _MOST_ENTRIES, max(1, MOST_TIMELINES - len(state) - 3)
    for field, raw in sorted(state.items(), key=lambda item: len(item[1])):
        left = _left_to_move(field, raw, now)
        taken = left[-ENTRY * _MOST_OF_ONE :] if room > 0 and len(parcel) < fields else b""
        is_all = is_all and taken == left
        if taken:
            parcel[field] = raw[:HEAD] + taken
            room -= len(taken) // ENTRY
    return parcel, is_all


def announce(parcel: Parcel, now: int) -> Write:
    """Say at the target that the parcel is due, for as long as anything in it matters."""
    seconds = _ttl(parcel, now)
    announcement = Enter(parcel.due, parcel.announced, 1, 1, timeline.head(seconds, shield=True))
    return Write(parcel.target, now, b"", (Alternative((), (announcement,), seconds),))


def withdraw(parcel: Parcel, now: int) -> Write:
    """Let the parcel no longer be due."""
    return Write(parcel.target, now, b"", (Alternative((), (_collected(parcel),), 1),))


def note(parcel: Parcel, state: State, now: int) -> Write:
    """Note the parcel at the source, unless there already is one, or what it takes is no longer as it was read."""
    notes = (
        Enter(PARCEL, parcel.number, 1, 1, _FOREVER),
        Enter(PARCEL_TO + parcel.target, parcel.announced, 1, 1, _FOREVER),
    )
    copies = (
        Enter(PARCEL + field, at, times, _ALL, _head(raw) | _SHIELD)
        for field, raw in parcel.timelines.items()
        for at, times in _times(raw)
    )
    holds = [*_holds(parcel, state)]
    moved = (Enter(field, end, 1, _ALL, _HELD) for field, end in holds)
    are_held = (Guard(field, 1, end, wanted=True) for field, end in holds)
    guards = (no_parcel(), *are_held, *_unchanged(parcel, state, now))
    return Write(parcel.source, now, b"", (Alternative(guards, (*notes, *copies, *moved), _ttl(parcel, now)),))


def deliver(plan: Plan, parcel: Parcel, now: int) -> Write:
    """Enter the parcel at the target, if it is due there; each timeline keeps what the policy asks about.

    What the source kept is kept, too: it may be the work of a newer policy.
    """
    changes = (_collected(parcel), *_entries(plan, parcel))
    is_due = Guard(parcel.due, 1, 0, wanted=True)
    return Write(parcel.target, now, b"", (Alternative((is_due,), changes, _ttl(parcel, now)),))


def remove(parcel: Parcel, now: int) -> Write:
    """Remove the parcel and its note from the source, if it is still noted there.

    The end of the last reserved impression stays: it may be the end of one reserved meanwhile.
    """
    removals = (
        Remove(name, at, times)
        for field, raw in parcel.timelines.items()
        for at, times in _times(raw)
        for name in (field, PARCEL + field)
        if name != ACTIVITY
    )
    notes = Remove(PARCEL, parcel.number, 1), Remove(PARCEL_TO + parcel.target, parcel.announced, 1)
    return Write(parcel.source, now, b"", (Alternative(tuple(is_noted(parcel.number)), (*removals, *notes), 1),))


def no_parcel() -> Guard:
    """The guard that holds while no parcel is noted."""
    return Guard(PARCEL, 1, 0, wanted=False)


def is_noted(number: int) -> Iterator[Guard]:
    """The guards that hold while the parcel of this number is noted."""
    yield Guard(PARCEL, 1, number, wanted=True)
    yield Guard(PARCEL, 1, number + 1, wanted=False)


def _left_to_move(field: bytes, raw: bytes, now: int) -> bytes:
    """The entries of this timeline that move; empty if none does."""
    if field in (HELD, ACTIVITY) or field[:1] in _STAY or not timeline.is_live(raw, now):
        return b""
    if field[:1] == HELD:  # dated at their own ends
        return b"".join(end.to_bytes(ENTRY) for end in timeline.moments(raw) if end > now)
    return raw[HEAD:]


def _activity(plan: Plan, state: State, target: State, now: int) -> tuple[dict[bytes, bytes], bool]:
    """The latest intervals in which the source was active and the target is not known to have been; whether it is all.

    One parcel takes a limited number.
    """
    asked, own = plan.activity(now, now), state.get(ACTIVITY)
    if not asked or own is None:
        return {}, True
    raw, missing, is_all = target.get(ACTIVITY), list[int](), True
    known = _pairs(raw) if raw is not None else []
    for first, last in reversed(_pairs(own)):
        before = bisect_right(known, (first, LAST_MOMENT)) - 1
        if before >= 0 and known[before][1] >= last:
            continue
        is_all = len(missing) < _MOST_OF_ONE
        if not (is_all and _would_change(raw, first, last, asked[0], now)):
            break  # what is older is too old as well
        missing += (last, first)
    entries = b"".join(at.to_bytes(ENTRY) for at in reversed(missing))
    return ({ACTIVITY: own[:HEAD] + entries} if entries else {}), is_all


def _would_change(raw: bytes | None, first: int, last: int, asked: Cover, now: int) -> bool:
    """Whether the interval would be kept."""
    covered = timeline.cover(raw, first, last, asked.pause, asked.keep, asked.head, now)
    return covered is not None and (raw is None or covered[HEAD:] != raw[HEAD:])


def _holds(parcel: Parcel, state: State) -> Iterator[tuple[bytes, int]]:
    """The holds whose reservations may be in the parcel, each with its end, which they then say once more.

    Their reservations are no longer theirs to remove: another's may end in the same second.
    """
    ends = {end for field, raw in parcel.timelines.items() if field[:1] == HELD for end in timeline.moments(raw)}
    for field, raw in state.items() if ends else ():
        if field[:1] == HOLD and timeline.newest(raw) in ends:
            yield field, timeline.newest(raw)


def _unchanged(parcel: Parcel, state: State, now: int) -> Iterator[Guard]:
    """Guards that hold while the newest entries of each timeline are those of the parcel; holds are counted first.

    Where holds come or go meanwhile they hold only if all entries of the parcel are still there.
    """
    held = timeline.live_holds(state, now)
    for field, raw in parcel.timelines.items():
        newer = len(held.get(field, ()))
        entries = [(timeline.newest(state[ACTIVITY]), 1)] if field == ACTIVITY else reversed(_times(raw))
        for at, times in entries:
            if at < LAST_MOMENT:
                yield Guard(field, newer + 1, at + 1, wanted=False)
            newer += times
            yield Guard(field, newer, at, wanted=True)


def _entries(plan: Plan, parcel: Parcel) -> Iterator[Change]:
    """What enters the parcel at the target."""
    for field, raw in parcel.timelines.items():
        if field == ACTIVITY:
            for first, last in _pairs(raw):
                yield from plan.activity(first, last)
            continue
        place = None if field[:1] == HELD else plan.place_of(field)
        keep, code = (_ALL, _head(raw)) if place is None else timeline.widest(raw, place.keep, place.head)
        for at, times in _times(raw):
            yield Enter(field, at, times, keep, code)
    ends = [timeline.newest(raw) for field, raw in parcel.timelines.items() if field[:1] == HELD]
    if ends:
        yield Enter(HELD, max(ends), 1, 1, _HELD)


def _collected(parcel: Parcel) -> Remove:
    return Remove(parcel.due, parcel.announced, 1)


def _ttl(parcel: Parcel, now: int) -> int:
    """For how many seconds anything in the parcel matters."""
    ends = (timeline.newest(raw) + timeline.horizon_of(raw) + 1 - now for raw in parcel.timelines.values())
    return min(max(1, *ends), LAST_MOMENT)


def _pairs(raw: bytes) -> list[tuple[int, int]]:
    moments = timeline.moments(raw)
    return list(zip(moments[::2], moments[1::2], strict=True))


def _times(raw: bytes) -> list[tuple[int, int]]:
    return list(Counter(timeline.moments(raw)).items())


def _head(raw: bytes) -> int:
    return int.from_bytes(raw[:HEAD])
