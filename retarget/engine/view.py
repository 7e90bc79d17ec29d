"""A plan at one second, and one visitor's timelines under it: which facts are true, and until when.

Rules:
- Facts are looked up on the timelines that the visitor has: the cost follows the history, not the number of campaigns.
- Everything is judged at one `now`; nothing here reads a clock or a store.
- As time passes and nothing else happens, facts only become false. So a rule that forbids a fact stops binding once, at
  a known second, and the next eligible second is found by stepping from one such second to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import tzinfo
from typing import Generic, TypeVar

from retarget.engine.plan import BoundClause, Compiled, Fact, Lookup, Plan
from retarget.events import Subject
from retarget.timelines import LAST_MOMENT, Alternative, Anchor, Opening, State, timeline

K = TypeVar("K")
V = TypeVar("V")

_STEPS = 1_000
"""The most rounds of the search for the next eligible second; a policy that needs more counts as never."""

CACHE_SIZE = 4_096


class Cache(Generic[K, V]):
    """At most `CACHE_SIZE` entries, emptied when full: callers can invent new labels without end."""

    __slots__ = ("_entries", "get")

    def __init__(self) -> None:
        self._entries: dict[K, V] = {}
        self.get = self._entries.get  # hot path: the dictionary's own method, without a Python call in between

    def __setitem__(self, key: K, value: V) -> None:
        if len(self._entries) >= CACHE_SIZE:
            self._entries.clear()
        self._entries[key] = value

    def __len__(self) -> int:
        return len(self._entries)


class PlanAt:
    """A plan at one second in one zone, with what every visitor of that second shares: window starts, alternatives."""

    def __init__(self, plan: Plan, now: int, zone: tzinfo) -> None:
        self.plan, self.now, self.zone = plan, now, zone
        self.starts: dict[int, bytes] = {}
        self.claims: Cache[Subject, tuple[Alternative, ...]] = Cache()
        self.holds: Cache[tuple[Subject, int], tuple[Alternative, ...]] = Cache()
        self.records: Cache[tuple[str, Subject | None], tuple[Alternative, ...]] = Cache()

    def start(self, number: int) -> bytes:
        """The first second that counts in the window of the plan's start of this number, packed. Computed once."""
        start = self.starts.get(number)
        if start is None:
            start = self.starts[number] = _packed(self.plan.starts[number].window.since(self.now, self.zone))
        return start

    def is_open(self, openings: tuple[Opening, ...]) -> bool:
        """Whether the clock lets a candidate be shown."""
        return all(opening.next_open(self.now, self.zone) == self.now for opening in openings)


class View:
    """One visitor at one second: which facts are true, and when they cease to be.

    Raises StoreError for a corrupt timeline; one that no rule asks about is not looked at.
    """

    def __init__(self, plan_at: PlanAt, state: State) -> None:
        self.plan_at, self.state = plan_at, state
        plan = plan_at.plan
        self.held = timeline.live_holds(state, plan_at.now)
        self.true = true = self._true(plan.on, plan_at.starts, plan_at.start)
        if plan.anchored_on:  # the visitor's own starts: these windows begin at events of theirs
            true |= self._true(plan.anchored_on, {}, self._anchored_start)
        for field in self.held:
            lookups = (*plan.on.get(field, ()), *plan.anchored_on.get(field, ()))
            true.update(lookup.fact for lookup in lookups if self.holds(plan.numbered[lookup.fact]))

    def _true(
        self, on: Mapping[bytes, list[Lookup]], starts: dict[int, bytes], start_of: Callable[[int], bytes]
    ) -> set[int]:
        """The numbered facts that are true. Fast path, inlined: `holds` per fact would double the cost."""
        true: set[int] = set()
        for field, raw in self.state.items():
            lookups = on.get(field)
            if lookups is not None:
                length = len(raw)
                if length & 3 != timeline.HEAD:
                    timeline.check(field, raw)
                for lookup in lookups:
                    if length > lookup.size:
                        try:
                            start = starts[lookup.start]
                        except KeyError:
                            start = starts[lookup.start] = start_of(lookup.start)
                        if raw[lookup.entry] >= start:
                            true.add(lookup.fact)
        return true

    def _anchored_start(self, number: int) -> bytes:
        """The first second that counts for this visitor in the plan's start of this number, packed."""
        anchor = self.plan_at.plan.starts[number].anchor
        return max(self.plan_at.start(number), _packed(self._moment(anchor)))

    def holds(self, fact: Fact) -> bool:
        """Whether the fact is true, looked up by itself."""
        if fact.n < 1:
            return True
        held = len(self.held.get(fact.field, ())) if self.held else 0
        if fact.n <= held:
            return True
        entry = timeline.nth_newest(self._timeline(fact.field), fact.n - held)
        return entry is not None and entry >= self.first_second(fact)

    def _timeline(self, field: bytes) -> bytes:
        """The packed timeline, empty where there is none. Raises StoreError for a corrupt one."""
        raw = self.state.get(field, b"")
        return timeline.check(field, raw) if raw and len(raw) & 3 != timeline.HEAD else raw

    def first_second(self, fact: Fact) -> int:
        """The first second that counts in the fact's window, or the moment of its anchor if that is later."""
        since = fact.window.since(self.plan_at.now, self.plan_at.zone)
        return max(0, since, self._moment(fact.anchor))

    def _moment(self, anchor: Anchor | None) -> int:
        """The moment that the anchor names; 0 where it says nothing."""
        raw = self._timeline(anchor.field) if anchor is not None else b""
        entry = timeline.nth_newest(raw, anchor.n) if anchor is not None and raw else None
        return entry + anchor.after if anchor is not None and entry is not None else 0

    def count(self, fact: Fact) -> int:
        """How many kept entries of the fact's timeline count, reserved ones included."""
        raw = self._timeline(fact.field)
        counted = timeline.count_since(raw, self.first_second(fact)) if raw else 0
        return counted + len(self.held.get(fact.field, ()))

    def satisfies(self, compiled: Compiled) -> bool:
        """Whether the visitor's history lets the candidate be shown; the clock is a separate question."""
        true = self.true
        return (
            compiled.requires <= true
            and compiled.forbids.isdisjoint(true)
            and all(not wanted.isdisjoint(true) or not unwanted <= true for wanted, unwanted in compiled.clauses)
            and all(self.holds_any(clause) for clause in compiled.bound)
        )

    def holds_any(self, clause: BoundClause) -> bool:
        """Whether one of the clause's literals holds."""
        return any(self.holds(fact) is wanted for fact, wanted in clause)

    def eligible(self, compiled: Compiled) -> bool:
        """Whether the candidate may be shown."""
        return self.satisfies(compiled) and (not compiled.openings or self.plan_at.is_open(compiled.openings))

    # -- when eligible again ----------------------------------------------------------------------------------------

    def next_second(self, clauses: Sequence[BoundClause], openings: Iterable[Opening]) -> int | None:
        """The first second from now at which all clauses hold and the clock is open; None if that takes an event."""
        openings, at = tuple(openings), self.plan_at.now
        for _ in range(_STEPS):
            later = at
            for clause in clauses:
                holds = self._clause_holds_from(clause, later)
                if holds is None:
                    return None
                later = holds
            for opening in openings:
                opens = opening.next_open(later, self.plan_at.zone)
                if opens is None:
                    return None
                later = opens
            if later == at:
                return at
            at = later
        return None

    def _clause_holds_from(self, clause: BoundClause, at: int) -> int | None:
        """The first second from `at` on at which one of the literals holds."""
        first = None
        for fact, wanted in clause:
            second = self._literal_holds_from(fact, at, wanted=wanted)
            if second == at:
                return at
            if second is not None and (first is None or second < first):
                first = second
        return first

    def _literal_holds_from(self, fact: Fact, at: int, *, wanted: bool) -> int | None:
        if not self.holds(fact):
            return None if wanted else at
        if fact.n < 1:
            return at if wanted else None
        if wanted and at == self.plan_at.now:
            return at
        leaves = self._leaves(fact)
        if wanted:
            return at if at < leaves else None
        return max(at, leaves)

    def _leaves(self, fact: Fact) -> int:
        """The first second at which a fact that holds no longer does: when too few of its entries are left."""
        held = self.held.get(fact.field)
        raw = self._timeline(fact.field)
        zone = self.plan_at.zone
        if not held:
            entry = timeline.nth_newest(raw, fact.n)
            assert entry is not None  # noqa: S101 - the fact holds
            return fact.window.leaves(entry, zone)
        since = self.first_second(fact)
        entries = [entry for entry in timeline.moments(raw)[-fact.n :] if entry >= since] if raw else []
        leaving = sorted([*held, *(fact.window.leaves(entry, zone) for entry in entries)])
        if len(leaving) < fact.n:
            raise timeline.corrupt(fact.field, "it is not in order")
        return leaving[-fact.n]


def _packed(second: int) -> bytes:
    return min(max(second, 0), LAST_MOMENT).to_bytes(timeline.ENTRY)
