"""Merging two ids of one visitor, as when a cookie signs in: the history of the source becomes the target's.

Rules:
- What moves, moves in parcels (parcels.py); a long history in several, the newest entries first.
- A parcel that is found at either end is finished first, wherever it goes: so an interrupted merge is finished by the
  next one, and what two merges of one source into two targets find is moved to one of them.
- What happens at the source meanwhile is a new parcel.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeAlias

from retarget.calls.parcels import (
    MOST_NUMBERS,
    Parcel,
    announce,
    deliver,
    next_timelines,
    note,
    noted,
    remove,
    withdraw,
)
from retarget.calls.requests import Apply, ReadMany, Steps
from retarget.engine import Plan
from retarget.errors import NotExecuted, StoreError
from retarget.timelines import ACTIVITY, DENIED, FULL, Answer, State, Write, timeline

ROUNDS = 200
"""How many parcels one merge moves, or finds to be out of date, before it gives up."""

Applying: TypeAlias = Callable[[Write], Steps[Answer]]
"""How a write is requested: whoever drives a merge may want to know which visitors change."""


def apply(write: Write) -> Steps[Answer]:
    """Request a write, and nothing else."""
    return (yield from Apply(write))


def move_history(plan: Plan, source: bytes, into: bytes, now: int, applying: Applying = apply) -> Steps[bool]:
    """Move what is stored under one key to the other; True if there was anything. Raises StoreError."""
    moved = False
    for _ in range(ROUNDS):
        state, target = (checked(state) for state in (yield from ReadMany([source, into])))
        found = noted(source, state) or noted(into, target)
        if found is not None:
            yield from _finish(plan, found, now, applying)
            moved = moved or found[:2] == (source, into)
            continue
        timelines, is_all = next_timelines(plan, state, target, now)
        if not timelines:
            return moved
        parcel = Parcel(source, into, 1 + secrets.randbelow(MOST_NUMBERS), now, timelines)
        if (yield from _noted(parcel, state, now, applying)):
            yield from _finish(plan, parcel, now, applying)
            moved = True
            if is_all:
                return moved
    raise NotExecuted(f"the visitor to be merged changed {ROUNDS} times meanwhile: what is left was not moved")


def _noted(parcel: Parcel, state: State, now: int, applying: Applying) -> Steps[bool]:
    """Announce the parcel and note it; False if the source is no longer as it was read."""
    if (yield from applying(announce(parcel, now))) == FULL:
        raise NotExecuted("the timelines of the visitor merged into are full: nothing more was moved")
    try:
        answer = yield from applying(note(parcel, state, now))
    except NotExecuted:
        with suppress(StoreError):
            yield from applying(withdraw(parcel, now))
        raise
    if answer in (DENIED, FULL):
        yield from applying(withdraw(parcel, now))
    if answer == FULL:
        raise NotExecuted("the timelines of the visitor to be merged are full: nothing more was moved")
    return answer != DENIED


def _finish(plan: Plan, parcel: Parcel, now: int, applying: Applying) -> Steps[None]:
    """Deliver the parcel, unless that has been done, and remove it from the source."""
    if (yield from applying(deliver(plan, parcel, now))) == FULL:
        raise NotExecuted("the timelines of the visitor merged into are full: the rest was not moved")
    yield from applying(remove(parcel, now))


def checked(state: State | StoreError) -> Mapping[bytes, bytes]:
    """The timelines as they are. Raises StoreError if they could not be read, or one is corrupt."""
    if isinstance(state, StoreError):
        raise state
    for field, raw in state.items():
        if field == ACTIVITY:
            timeline.check_intervals(field, raw)
        elif field[:1] != b"#":
            timeline.check(field, raw)
    return state
