"""What a store is asked to do: one write, as alternatives of guards and entries.

Rules:
- A guard is the one question about a timeline with the answer that is wanted. Guards stand in clauses: those marked
  `more` are joined to the next by "or"; clauses are joined by "and".
- The first alternative whose guards all hold is applied, whole; if none does, nothing is.
- No policy is known here: a store never learns why it is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

MOST_TIMELINES = 512
"""A visitor with this many timelines is full: dead ones go, then the oldest that no blocking rule asks about."""

IDS_KEPT = 16
"""So many identified events of a visitor are remembered."""

RECORD = 8
"""Bytes remembered of an identified event: five of its id, three of its outcome."""

DENIED = 0
"""Answer to a write: no alternative's guards held; nothing was changed."""

FULL = -1
"""Answer to a write: the visitor has no room and nothing can go; nothing was changed."""

LATE = -2
"""Answer to a write: every entry is too old to matter beside what the timelines hold; nothing was changed."""

NO_OUTCOME = b"\0\0\0"
"""What is remembered with the id of an event that has no subject."""


class Guard(NamedTuple):
    """Is the n-th newest entry of the timeline at or after `since`? `wanted` is the answer that holds.

    `anchored` takes the newest entry of the session timeline where that is later than `since`.
    """

    field: bytes
    n: int
    since: int
    wanted: bool
    more: bool
    anchored: bool


class Entry(NamedTuple):
    """Enter `at` `weight` times in a timeline of this head that keeps `keep`. Without a name: in the write's `hold`.

    `keep` 0: take `at` out instead, `weight` times; `at` 0 then means the moment in the write's `hold` timeline.
    """

    field: bytes
    at: int
    weight: int
    keep: int
    head: int


@dataclass(slots=True, eq=False)
class Alternative:
    """If all guards hold, make all entries; the visitor is then kept for `ttl` seconds at least.

    `outcome` (3 bytes) is remembered with the event's id and is the answer when the id comes again.
    """

    guards: tuple[Guard, ...]
    entries: tuple[Entry, ...]
    ttl: int
    outcome: bytes = NO_OUTCOME
    packed: bytes = b""
    """The bytes of it, kept by `wire.py`: within one second many visitors are sent the same alternative."""
    names: tuple[bytes, ...] = ()
    """The timelines that it names, kept with them."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write for one visitor. `id` is 5 bytes, or empty for an event without one.

    `hold` is the timeline of the one reserved impression that entries take out, or empty.
    """

    key: bytes
    now: int
    id: bytes
    alternatives: tuple[Alternative, ...]
    hold: bytes = b""


Answer: TypeAlias = int | bytes
"""The 1-based number of the alternative applied, `DENIED`, `FULL`, `LATE`, or the outcome remembered with the id."""
