"""A plan at one second, and one visitor's timelines under it: which facts are true, and until when.

Rules:
- Facts are looked up on the timelines that the visitor has: the cost follows the history, not the number of campaigns.
- Everything is judged at one `now`; nothing here reads a clock or a store.
- As time passes and nothing else happens, facts only become false. So a rule that forbids a fact stops binding once, at
  a known second, and the next eligible second is found by stepping from one such second to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar
from zoneinfo import ZoneInfo

from retarget.engine.plan import BoundClause, Compiled, Fact, Plan
from retarget.events import Subject
from retarget.timelines import (
    LAST_MOMENT,
    MOST_TIMELINES,
    SESSIONS,
    Alternative,
    Opening,
    State,
    Window,
    timeline,
)

K = TypeVar("K")
V = TypeVar("V")

_STEPS = 1_000
_MOST_REMEMBERED = 4_096


class _Since(dict[int, bytes]):
    """Since when each of the plan's windows looks at one moment, packed; worked out when first asked for."""

    def __init__(self, plan: Plan, now: int, zone: ZoneInfo, begun: int = 0) -> None:
        self.plan, self.now, self.zone, self.begun = plan, now, zone, begun

    def __missing__(self, number: int) -> bytes:
        window = self.plan.windows[number]
        since = window.since(self.now, self.zone)
        packed = self[number] = _packed(max(since, self.begun) if window.anchored else since)
        return packed


class _Remembered(dict[K, V]):
    """What the calls of one second share, forgotten when it grows too large: new names are made up without end."""

    def __setitem__(self, key: K, value: V) -> None:
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        super().__setitem__(key, value)


class PlanAt:
    """A plan at one second in one zone. Kept between the calls of that second: all visitors share it."""

    def __init__(self, plan: Plan, now: int, zone: ZoneInfo) -> None:
        self.plan, self.now, self.zone = plan, now, zone
        self.since = _Since(plan, now, zone)
        self.claims: dict[Subject, tuple[Alternative, ...]] = _Remembered()
        self.holds: dict[tuple[Subject, int], tuple[Alternative, ...]] = _Remembered()
        self.records: dict[tuple[str, Subject | None], tuple[Alternative, ...]] = _Remembered()

    def is_open(self, openings: tuple[Opening, ...]) -> bool:
        """Whether the clock lets a candidate be shown."""
        return all(opening.next_open(self.now, self.zone) == self.now for opening in openings)


class View:
    """One visitor at one moment: which facts are true, and when they will have ceased to be."""

    def __init__(self, moment: PlanAt, state: State) -> None:
        self.moment, self.state = moment, state
        plan = moment.plan
        since = moment.since
        if plan.has_sessions:
            begun = state.get(SESSIONS)
            since = _Since(plan, moment.now, moment.zone, timeline.newest(begun) if begun else 0)
        self._begun = since.begun
        true: set[int] = set()
        on = plan.on
        for field, raw in state.items():
            facts = on.get(field)
            if facts is not None:
                length = len(raw)
                if length & 3 != timeline.HEAD:
                    timeline.check(field, raw)
                for need, piece, window, number in facts:
                    if length > need and raw[piece] >= since[window]:
                        true.add(number)
        self.held = timeline.live_holds(state, moment.now)
        self.true = true
        for field in self.held:
            true.update(number for *_, number in on.get(field, ()) if self.holds(plan.numbered[number]))

    def holds(self, fact: Fact) -> bool:
        """Whether the fact is true, looked up by itself."""
        if fact.n < 1:
            return True
        held = len(self.held.get(fact.field, ())) if self.held else 0
        if fact.n <= held:
            return True
        entry = timeline.nth_newest(self._timeline(fact.field), fact.n - held)
        return entry is not None and entry >= self.begins(fact.window)

    def _timeline(self, field: bytes) -> bytes:
        """The packed timeline, empty where there is none. Raises StoreError for one that is corrupt."""
        raw = self.state.get(field, b"")
        return timeline.check(field, raw) if len(raw) & 3 != timeline.HEAD and raw else raw

    def begins(self, window: Window) -> int:
        """The first second that counts."""
        since = max(0, window.since(self.moment.now, self.moment.zone))
        return max(since, self._begun) if window.anchored else since

    def count(self, fact: Fact) -> int:
        """How many kept entries of the fact's timeline count, those reserved included."""
        raw = self._timeline(fact.field)
        counted = timeline.count_since(raw, self.begins(fact.window)) if raw else 0
        return counted + len(self.held.get(fact.field, ()))

    def satisfies(self, compiled: Compiled) -> bool:
        """Whether the visitor's history lets the candidate be shown; the clock is asked apart."""
        true = self.true
        return (
            compiled.requires <= true
            and compiled.forbids.isdisjoint(true)
            and all(not wanted.isdisjoint(true) or not unwanted <= true for wanted, unwanted in compiled.clauses)
            and all(any(self.holds(fact) is wanted for fact, wanted in clause) for clause in compiled.bound)
        )

    def eligible(self, compiled: Compiled) -> bool:
        """Whether the candidate may be shown."""
        return self.satisfies(compiled) and (not compiled.openings or self.moment.is_open(compiled.openings))

    # -- when again -------------------------------------------------------------------------------------------------

    def next_moment(self, clauses: Sequence[BoundClause], openings: Iterable[Opening]) -> int | None:
        """The first second from now at which all clauses hold and the clock is open; None if that takes an event."""
        openings, at = tuple(openings), self.moment.now
        for _ in range(_STEPS):
            later = at
            for clause in clauses:
                holds = self._clause_from(clause, later)
                if holds is None:
                    return None
                later = holds
            for opening in openings:
                opens = opening.next_open(later, self.moment.zone)
                if opens is None:
                    return None
                later = opens
            if later == at:
                return at
            at = later
        return None

    def _clause_from(self, clause: BoundClause, at: int) -> int | None:
        """The first second from `at` on at which one of the literals holds."""
        first = None
        for fact, wanted in clause:
            moment = self._literal_from(fact, at, wanted=wanted)
            if moment == at:
                return at
            if moment is not None and (first is None or moment < first):
                first = moment
        return first

    def _literal_from(self, fact: Fact, at: int, *, wanted: bool) -> int | None:
        if not self.holds(fact):
            return None if wanted else at
        if fact.n < 1:
            return at if wanted else None
        if wanted and at == self.moment.now:
            return at
        leaves = self._leaves(fact)
        if wanted:
            return at if at < leaves else None
        return max(at, leaves)

    def _leaves(self, fact: Fact) -> int:
        """The first second at which a fact that holds does so no more: when too few of its entries are left."""
        held = self.held.get(fact.field)
        raw = self._timeline(fact.field)
        if not held:
            entry = timeline.nth_newest(raw, fact.n)
            assert entry is not None  # noqa: S101 - the fact holds
            return fact.window.leaves(entry, self.moment.zone)
        since = self.begins(fact.window)
        entries = [entry for entry in timeline.moments(raw)[-fact.n :] if entry >= since] if raw else []
        leaving = sorted([*held, *(fact.window.leaves(entry, self.moment.zone) for entry in entries)])
        if len(leaving) < fact.n:
            raise timeline.corrupt(fact.field, "it is not in order")
        return leaving[-fact.n]


def is_full(state: State, now: int) -> bool:
    """Whether so much of a visitor's state matters still that nothing more can be counted. Raises StoreError."""
    if len(state) < MOST_TIMELINES:
        return False
    kept = [timeline.check(field, raw) for field, raw in state.items() if not field.startswith(b"#")]
    return sum(timeline.is_shield(raw) and timeline.is_live(raw, now) for raw in kept) >= MOST_TIMELINES


def _packed(moment: int) -> bytes:
    return min(max(moment, 0), LAST_MOMENT).to_bytes(4)
