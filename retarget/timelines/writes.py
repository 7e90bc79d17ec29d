"""Writes: alternatives of guards and changes, which a store applies atomically.

Rules:
- A guard is the one question about a timeline with the answer that is wanted. A guard marked `more` is joined to the
  next by "or"; the clauses this makes are joined by "and".
- The first alternative whose guards all hold is applied whole; if none does, nothing is changed.
- A reservation is undone or counted by the record that it left in the store, never by what a policy says later.
- Nothing here knows a policy: a store never learns why it is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from retarget.timelines.windows import Anchor

MOST_TIMELINES = 2_048
"""A visitor with this many timelines is full: dead ones are evicted, then the oldest no blocking rule asks about."""

ROOM = MOST_TIMELINES // 16
"""For how many timelines room is made for at once: looking for the oldest costs as much for one."""

LOOK_EVERY = 16
"""Dead timelines are searched for when the number of a visitor's fields passes a multiple of this: all are read."""

MARK_BYTES = 5
"""The length of what identifies a hold."""

DENIED = 0
"""Answer to a write: no alternative's guards held; nothing was changed."""

FULL = -1
"""Answer to a write: the visitor is full and nothing can be evicted; nothing was changed."""

LATE = -2
"""Answer to a write: every entry is too old to matter; nothing was changed."""

NO_OUTCOME = b"\0\0\0\0\0"
"""The outcome of an event without a subject."""


class Guard(NamedTuple):
    """Is the n-th newest entry of the timeline at or after `since`? The guard holds if the answer is `wanted`.

    With an anchor, the moment it names counts instead of `since` if that is later.
    """

    field: bytes
    n: int
    since: int
    wanted: bool
    more: bool = False
    anchor: Anchor | None = None


class Enter(NamedTuple):
    """Enter `at` `weight` times in a timeline with this head, which keeps its newest `keep` entries."""

    field: bytes
    at: int
    weight: int
    keep: int
    head: int


class Remove(NamedTuple):
    """Remove `at` from the timeline, at most `times` times."""

    field: bytes
    at: int
    times: int


class Cover(NamedTuple):
    """Unite the interval from `first` to `last` with those in the timeline, joined where at most `pause` seconds lie
    between them. The newest `keep` entries are kept; `keep` is even.
    """

    field: bytes
    first: int
    last: int
    pause: int
    keep: int
    head: int


class Reserved(NamedTuple):
    """A timeline in which an impression is reserved, and how it is entered there once it is confirmed.

    With a `keep` of 0 it is only reserved: a confirmation enters nothing.
    """

    field: bytes
    weight: int
    keep: int
    head: int


class Reserve(NamedTuple):
    """Reserve an impression in these places until `end`, and leave a record of them under the write's `hold`.

    The write, not the change, names the hold: so one alternative serves all visitors.
    """

    end: int
    places: tuple[Reserved, ...]


class Settle(NamedTuple):
    """Remove what the write's `hold` reserved, as its record says; with `at`, enter the impression there instead."""

    at: int | None


class Clear(NamedTuple):
    """Remove everything, whatever it is: fields that are no timelines, and parcels' marks, too."""


Change: TypeAlias = Enter | Remove | Cover | Reserve | Settle | Clear


@dataclass(frozen=True, slots=True, eq=False)
class Alternative:
    """If all guards hold, all changes are made, and the visitor is kept for at least `ttl` seconds.

    `outcome` (5 bytes) is remembered with the event's id, and is the answer if the id is repeated.
    """

    guards: tuple[Guard, ...]
    changes: tuple[Change, ...]
    ttl: int
    outcome: bytes = NO_OUTCOME


@dataclass(frozen=True, slots=True)
class Write:
    """One write for one visitor. `id` is 5 bytes, or empty for an event without one.

    `hold` is the mark of the hold that changes refer to (`MARK_BYTES` bytes), or empty.
    """

    key: bytes
    now: int
    id: bytes
    alternatives: tuple[Alternative, ...]
    hold: bytes = b""


Answer: TypeAlias = int | bytes
"""The 1-based number of the applied alternative, `DENIED`, `FULL`, `LATE`, or the outcome remembered with the id."""
