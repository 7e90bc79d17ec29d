"""Writes: alternatives of guards and changes, which a store applies atomically.

Rules:
- A guard is the one question about a timeline with the answer that is wanted. A guard marked `more` is joined to the
  next by "or"; the clauses this makes are joined by "and".
- The first alternative whose guards all hold is applied whole; if none does, nothing is changed.
- Nothing here knows a policy: a store never learns why it is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

MOST_TIMELINES = 512
"""A visitor with this many timelines is full: dead ones are evicted, then the oldest no blocking rule asks about."""

IDS_KEPT = 16
"""How many event ids are remembered per visitor."""

RECORD = 8
"""Bytes remembered of an identified event: five of its id, three of its outcome."""

DENIED = 0
"""Answer to a write: no alternative's guards held; nothing was changed."""

FULL = -1
"""Answer to a write: the visitor is full and nothing can be evicted; nothing was changed."""

LATE = -2
"""Answer to a write: every entry is too old to matter; nothing was changed."""

NO_OUTCOME = b"\0\0\0"
"""The outcome of an event without a subject."""


class Guard(NamedTuple):
    """Is the n-th newest entry of the timeline at or after `since`? The guard holds if the answer is `wanted`.

    `anchored`: the session's start counts instead of `since` if it is later.
    """

    field: bytes
    n: int
    since: int
    wanted: bool
    more: bool
    anchored: bool


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


class Reserve(NamedTuple):
    """Enter `end` in the timeline that the write names as its `hold`: one alternative serves all visitors."""

    end: int
    head: int


class Unreserve(NamedTuple):
    """Remove the end stored in the write's `hold` timeline from this timeline, at most `times` times."""

    field: bytes
    times: int


Change: TypeAlias = Enter | Remove | Reserve | Unreserve


@dataclass(frozen=True, slots=True, eq=False)
class Alternative:
    """If all guards hold, all changes are made, and the visitor is kept for at least `ttl` seconds.

    `outcome` (3 bytes) is remembered with the event's id, and is the answer if the id is repeated.
    """

    guards: tuple[Guard, ...]
    changes: tuple[Change, ...]
    ttl: int
    outcome: bytes = NO_OUTCOME


@dataclass(frozen=True, slots=True)
class Write:
    """One write for one visitor. `id` is 5 bytes, or empty for an event without one.

    `hold` is the timeline of the hold that changes refer to, or empty.
    """

    key: bytes
    now: int
    id: bytes
    alternatives: tuple[Alternative, ...]
    hold: bytes = b""


Answer: TypeAlias = int | bytes
"""The 1-based number of the applied alternative, `DENIED`, `FULL`, `LATE`, or the outcome remembered with the id."""
