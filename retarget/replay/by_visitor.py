"""The replay judge in memory: one visitor after the other, by lists of all their timestamps.

Rules:
- Lists say *whether* an impression is denied, as far as they can: for most, they rule out that any rule forbids it.
- Where a window begins at another event (an anchor), the lists look that event up as the engine does. A session is such
  a window; a visitor's activity is one more list, of the newest interval.
- The engine says *why*, and decides whatever lists cannot.
- A visitor whose state may be full is judged through a store, which knows what to evict.
- The answers are those of `by_store`.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, TypeAlias

from retarget.engine import BoundClause, Plan, PlanAt, Rule, View, compile_subject, denying_rule
from retarget.logs import Kind
from retarget.policy import Policy
from retarget.replay.by_store import StoreJudge
from retarget.replay.figures import Denial, Denials
from retarget.replay.full import FullRules, FullTally
from retarget.replay.meanings import Meaning, Meanings, labels_of
from retarget.stores import MemoryStore
from retarget.timelines import ACTIVITY, MOST_TIMELINES, Anchor, Opening, Rolling

_NEVER_FULL = MOST_TIMELINES - 12
"""A visitor with at most this many timelines is certainly not full."""

_Timelines: TypeAlias = Mapping[bytes, list[int]]
"""A visitor's timestamps by timeline, oldest first, none trimmed."""


class _Limit(NamedTuple):
    """What most rules compile to: reached while the n-th newest entry is at most `seconds` old."""

    n: int
    seconds: int


class _Limits(NamedTuple):
    """All limits on one timeline."""

    timeline: bytes
    least: int
    """With fewer entries than this none is reached: for most impressions nothing else is looked at."""
    limits: tuple[_Limit, ...]


class _Test(NamedTuple):
    """Is the n-th newest entry at most `seconds` old, and not before the anchor?

    Sufficient for a clause where the answer is `wanted`.
    """

    timeline: bytes
    n: int
    seconds: int
    wanted: bool
    anchor: Anchor | None


class _Rule(NamedTuple):
    """A rule of an ad."""

    rule: Rule
    clauses: Sequence[BoundClause]
    tests: tuple[tuple[_Test, ...], ...]
    """For each clause. Where none succeeds, the clause may hold or not: ask the engine."""
    asked: tuple[tuple[bytes, int], ...]
    """The timelines that it asks about, and how many entries of each are enough."""


class _Ad(NamedTuple):
    """What the engine needs to judge an ad, and the tests that save asking it."""

    tests: tuple[tuple[_Test, ...], ...]
    """For each clause that is not a limit."""
    openings: tuple[Opening, ...]
    rules: tuple[_Rule, ...]


_NO_AD = _Ad((), (), ())


@dataclass(slots=True)
class _Prepared:
    """A kind of row, ready to be judged."""

    meaning: Meaning
    enters: tuple[bytes, ...]
    """The timelines that it enters; an event of weight w has the timeline w times."""
    limits: tuple[_Limits, ...] = ()
    ad: _Ad = _NO_AD
    only_limits: bool = True
    """Whether it is eligible wherever no limit is reached."""


class VisitorJudge:
    """Judges a visitor by all their rows at once.

    `dropped` events found no room in a visitor who was full; `full` counts such visitors.
    """

    def __init__(self, policy: Policy, kinds: Sequence[Kind], labels: Sequence[str]) -> None:
        """`labels` are the names of the labels that the kinds carry. Raises InputError for an unusable kind."""
        self.kinds = kinds
        self.dropped = 0
        self.full = FullTally()
        self._policy = policy
        self._plan = Plan(policy)
        self._pause = next((cover.pause for cover in self._plan.activity(0, 0)), None)
        self._full_rules = FullRules(self._plan, labels_of(policy))
        self._meanings = Meanings(policy, labels)
        self._prepared = [self._prepare(kind) for kind in kinds]
        self.harmless = self._harmless()
        """A visitor of at most this many rows is denied nothing."""

    def denials(self, seconds: Sequence[int], kinds: Sequence[int]) -> Denials:
        """Which of a visitor's rows are suppressed: their seconds and kinds, in time order."""
        prepared, pause = self._prepared, self._pause
        timelines: defaultdict[bytes, list[int]] = defaultdict(list)
        denials: Denials = {}
        for place, (at, number) in enumerate(zip(seconds, kinds, strict=True)):
            kind, why = prepared[number], None
            for name, least, limits in kind.limits:  # Fast path, inlined: a call per row would double the cost.
                entries = timelines[name]
                if len(entries) >= least:
                    for n, window in limits:
                        if len(entries) >= n and entries[-n] >= at - window:
                            why = self._why(kind, at, timelines)
                            break
                    if why is not None:
                        break
            if why is None and not kind.only_limits:
                why = self._beyond_limits(kind, at, timelines)
            if why is not None:
                denials[place] = why
                continue
            for name in kind.enters:
                timelines[name].append(at)
            if pause is not None:
                active = timelines[ACTIVITY]
                if active and at - active[1] <= pause:
                    active[1] = at
                else:  # the interval before is over: no rule asks about it
                    active[:] = at, at
        return denials if len(timelines) <= _NEVER_FULL else self._through_store(seconds, kinds)

    def _why(self, kind: _Prepared, at: int, timelines: _Timelines) -> Denial:
        """The rule that denies a kind of which a limit is reached."""
        if kind.only_limits:
            reached = [one.rule for one in kind.ad.rules if not _hold(one.tests, at, timelines)]
            if len(reached) == 1:  # Nothing to choose between, and asking the engine costs ten times as much.
                return reached[0].reason, reached[0].text
        why = self._ask_engine(kind, at, timelines)
        assert why is not None  # noqa: S101 - a limit is reached
        return why

    def _beyond_limits(self, kind: _Prepared, at: int, timelines: _Timelines) -> Denial | None:
        """The rule that denies it where no limit does."""
        zone = kind.meaning.zone
        if _hold(kind.ad.tests, at, timelines) and all(one.next_open(at, zone) == at for one in kind.ad.openings):
            return None
        return self._ask_engine(kind, at, timelines)

    def _ask_engine(self, kind: _Prepared, at: int, timelines: _Timelines) -> Denial | None:
        """The engine's answer on the rules whose tests fail, from timelines packed as a store keeps them."""
        doubtful = [one for one in kind.ad.rules if one.rule.opening or not _hold(one.tests, at, timelines)]
        state = {}
        for name, most in chain.from_iterable(one.asked for one in doubtful):
            if entries := timelines.get(name):
                state[name] = struct.pack(f">2x{min(most, len(entries))}I", *entries[-most:])
        view = View(PlanAt(self._plan, at, kind.meaning.zone), state)
        rule = denying_rule(view, ((one.rule, one.clauses) for one in doubtful))
        return None if rule is None else (rule.reason, rule.text)

    def _through_store(self, seconds: Sequence[int], kinds: Sequence[int]) -> Denials:
        """The same for a visitor with enough timelines to be full."""
        judge = StoreJudge(self._policy, MemoryStore(), "", self._full_rules)
        rows = enumerate(zip(seconds, kinds, strict=True))
        answers = {place: judge.take("visitor", self._prepared[kind].meaning, at) for place, (at, kind) in rows}
        judge.finish()
        self.dropped += judge.dropped
        self.full.add(judge.full)
        return {place: why for place, why in answers.items() if why is not None}

    # -- preparing kinds

    def _prepare(self, kind: Kind) -> _Prepared:
        meaning = self._meanings.of(kind)
        places = [place for event, subject in meaning.events for place in self._plan.places(event, subject)]
        enters = tuple(place.field for place in places for _ in range(place.weight))
        if meaning.ad is None:
            return _Prepared(meaning, enters)
        compiled = compile_subject(self._plan, meaning.ad)
        plain = {clause: found for clause in compiled.guards if (found := _limit(clause)) is not None}
        by_timeline: dict[bytes, list[_Limit]] = {}
        for name, limit in plain.values():
            by_timeline.setdefault(name, []).append(limit)
        limits = tuple(_Limits(name, min(on)[0], tuple(on)) for name, on in by_timeline.items())
        others = tuple(_tests(clause) for clause in compiled.guards if clause not in plain and not _is_true(clause))
        most: dict[bytes, int] = {}
        for name, n in _asked(compiled.guards):
            most[name] = max(n, most.get(name, 1))
        rules = []
        for rule, clauses in self._plan.bound_rules(compiled.candidate):
            tests = tuple(_tests(clause) for clause in clauses if not _is_true(clause))
            asked = dict.fromkeys(name for name, _ in _asked(clauses))
            rules.append(_Rule(rule, clauses, tests, tuple((name, most[name]) for name in asked)))
        ad = _Ad(others, compiled.openings, tuple(rules))
        return _Prepared(meaning, enters, limits, ad, only_limits=not others and not compiled.openings)

    def _harmless(self) -> int:
        """The rows it takes to reach the lowest limit, if each enters its timeline at the greatest weight.

        At most those that cannot fill a visitor, if each enters as many timelines as any does.
        """
        most = max((kind.enters.count(name) for kind in self._prepared for name in kind.enters), default=1)
        least = min((limits.least for kind in self._prepared for limits in kind.limits), default=1 << 31)
        if not all(kind.only_limits for kind in self._prepared):
            return 0
        entered = max([1, *(len({*kind.enters}) for kind in self._prepared)])
        return min(-(-least // most), _NEVER_FULL // entered)


def _limit(clause: BoundClause) -> tuple[bytes, _Limit] | None:
    """The clause as a limit on a timeline, if it is one."""
    fact, wanted = clause[0] if len(clause) == 1 else (None, True)
    if fact is None or wanted or fact.n < 1 or fact.anchor is not None or type(fact.window) is not Rolling:
        return None
    return fact.field, _Limit(fact.n, fact.window.horizon)


def _tests(clause: BoundClause) -> tuple[_Test, ...]:
    """The tests each of which is sufficient for the clause."""
    return tuple(
        _Test(fact.field, fact.n, fact.window.horizon, wanted, fact.anchor)
        for fact, wanted in clause
        if fact.n >= 1 and (not wanted or type(fact.window) is Rolling)  # no window reaches back beyond its horizon
    )


def _hold(clauses: Iterable[Iterable[_Test]], at: int, timelines: _Timelines) -> bool:
    """Whether one test of each clause succeeds. Sufficient; if it fails, ask the engine."""
    for clause in clauses:
        for name, n, seconds, wanted, anchor in clause:
            entries = timelines.get(name, ())
            reached = len(entries) >= n and entries[-n] >= at - seconds
            if reached and anchor is not None:
                begins = timelines.get(anchor.field, ())
                reached = len(begins) < anchor.n or entries[-n] >= begins[-anchor.n] + anchor.after
            if reached is wanted:
                break
        else:
            return False
    return True


def _asked(clauses: Iterable[BoundClause]) -> Iterator[tuple[bytes, int]]:
    """The timelines that the clauses ask about, and how many entries of each are enough."""
    for fact, _ in chain.from_iterable(clauses):
        yield fact.field, fact.n
        if fact.anchor is not None:
            yield fact.anchor.field, fact.anchor.n


def _is_true(clause: BoundClause) -> bool:
    """Whether it always holds: a fact that asks for less than one entry is true."""
    return any(fact.n < 1 and wanted for fact, wanted in clause)
