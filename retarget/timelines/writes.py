"""What a store is asked to do: one write, as alternatives of guards and changes.

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


class Enter(NamedTuple):
    """Enter `at` `weight` times in a timeline of this head, which keeps its newest `keep`."""

    field: bytes
    at: int
    weight: int
    keep: int
    head: int


class Remove(NamedTuple):
    """Take `at` out of the timeline, at most `times` times."""

    field: bytes
    at: int
    times: int


class Reserve(NamedTuple):
    """Enter `end` in the timeline that the write names as its `hold`: the same alternative serves all visitors."""

    end: int
    head: int


class Unreserve(NamedTuple):
    """Take the end that the write's `hold` timeline holds out of this timeline, at most `times` times."""

    field: bytes
    times: int


Change: TypeAlias = Enter | Remove | Reserve | Unreserve


@dataclass(frozen=True, slots=True, eq=False)
class Alternative:
    """If all guards hold, make all changes; the visitor is then kept for `ttl` seconds at least.

    `outcome` (3 bytes) is remembered with the event's id and is the answer when the id comes again.
    """

    guards: tuple[Guard, ...]
    changes: tuple[Change, ...]
    ttl: int
    outcome: bytes = NO_OUTCOME


@dataclass(frozen=True, slots=True)
class Write:
    """One write for one visitor. `id` is 5 bytes, or empty for an event without one.

    `hold` is the timeline of the one reserved impression that changes refer to, or empty.
    """

    key: bytes
    now: int
    id: bytes
    alternatives: tuple[Alternative, ...]
    hold: bytes = b""


Answer: TypeAlias = int | bytes
"""The 1-based number of the alternative applied, `DENIED`, `FULL`, `LATE`, or the outcome remembered with the id."""
