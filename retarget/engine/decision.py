"""The decision: which candidates may be shown to a visitor, why not the others, and when they are eligible again.

Rules:
- A verdict is computed when it is asked for: most of an ad server's candidates are never asked about.
- A pickled or copied decision carries its verdicts, and neither the policy nor the visitor's history.
- Nothing here reads a clock or a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from retarget.engine.fullness import crowding_rule
from retarget.engine.plan import BoundClause, Counted, Plan, compile_subject
from retarget.engine.rules import Reason, Rule
from retarget.engine.view import PlanAt, View
from retarget.errors import StoreError
from retarget.events import Subject
from retarget.timelines import State


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says of one candidate.

    `reason` is one of a closed set of words; `rule` is the rule as written, of several the one that stops binding last,
    and for a visitor who is full the one that makes most of their timelines; `seen` of `limit` is what it counted
    (points for the annoyance threshold); `eligible_at` is the first second at which the candidate is eligible if
    nothing else happens, None if that takes a new event.
    """

    eligible: bool
    reason: Reason
    rule: str | None = None
    seen: int | None = None
    limit: int | None = None
    eligible_at: datetime | None = None

    def __bool__(self) -> bool:
        return self.eligible


@dataclass(frozen=True, slots=True)
class AnnoyanceLevel:
    """Points used of the threshold in force, within that of its windows which is nearest to its limit."""

    segment: str
    rule: str
    points: int
    limit: int


Pickled: TypeAlias = tuple[
    tuple[Subject, ...], tuple[Subject, ...], int, StoreError | None, AnnoyanceLevel | None, dict[Subject, Verdict]
]
"""What a pickled decision carries: eligible, candidates, second, degraded, annoyance, verdicts."""


class Decision:
    """The answer to "what may this visitor be shown?": `eligible`, and `decision[candidate]`, the `Verdict` on each.

    `second` is the time it was judged at, in epoch seconds. `degraded` is the store's error if the answer is the
    policy's `on_store_error` instead of one from the visitor's history.
    """

    __slots__ = (
        "_annoyance",
        "_candidates",
        "_full",
        "_known",
        "_plan_at",
        "_uniform",
        "_verdicts",
        "_view",
        "degraded",
        "eligible",
        "second",
    )

    def __init__(
        self,
        plan_at: PlanAt,
        candidates: Sequence[Subject] | None,
        *,
        view: View | None = None,
        full: State | None = None,
        uniform: Verdict | None = None,
        degraded: StoreError | None = None,
    ) -> None:
        """Decide by the `view` of a visitor, by the state of one who is `full`, or with one verdict for all."""
        self._plan_at = plan_at
        self._view = view
        self._full = full
        self._uniform = uniform
        self._candidates = candidates
        self._known: AbstractSet[Subject] | None = None
        self._verdicts: Mapping[Subject, Verdict] | None = None  # set where the decision was unpickled
        self.second = plan_at.now
        self.degraded = degraded
        if view is not None:
            self.eligible: tuple[Subject, ...] = tuple(_eligible(plan_at.plan, view, candidates))
        else:  # one verdict for all but those whose hours, days or flight forbid it: that takes no history
            self.eligible = tuple(c for c in self.candidates if uniform and is_open(plan_at, c))

    @property
    def at(self) -> datetime:
        """The time it was judged at, in UTC."""
        return _utc(self.second)

    @property
    def candidates(self) -> Sequence[Subject]:
        """What was decided on, in the caller's order; every campaign of the policy if none were given."""
        return self._candidates if self._candidates is not None else tuple(self._plan_at.plan.compiled)

    def __getitem__(self, candidate: Subject) -> Verdict:
        """The verdict on a candidate. Raises KeyError for one that was not decided on."""
        if self._verdicts is not None:
            return self._verdicts[candidate]
        plan = self._plan_at.plan
        if self._known is None:
            self._known = plan.compiled.keys() if self._candidates is None else frozenset(self._candidates)
        if candidate not in self._known:
            raise KeyError(candidate)
        if self._view is not None:
            return verdict(plan, self._view, candidate)
        if self._full is not None and self._uniform is None:
            rule = crowding_rule(plan, self._full, self._plan_at.now)
            self._uniform = Verdict(eligible=False, reason="full", rule=rule)
        assert self._uniform is not None  # noqa: S101 - a decision has a view or a uniform verdict
        if self._uniform and not is_open(self._plan_at, candidate):
            return closed(self._plan_at, candidate)
        return self._uniform

    def __iter__(self) -> Iterator[Subject]:
        return iter(self.candidates)

    def __len__(self) -> int:
        return len(self.candidates)

    def __repr__(self) -> str:
        return f"<Decision {len(self.eligible)} of {len(self)} eligible at {self.at}>"

    @property
    def annoyance(self) -> AnnoyanceLevel | None:
        """The points used and the threshold in force; None without a threshold, or without the visitor's history."""
        if self._verdicts is not None:
            return self._annoyance
        return annoyance_level(self._plan_at.plan, self._view) if self._view is not None else None

    def __getstate__(self) -> Pickled:
        """Everything the decision can answer, computed now. Raises StoreError for a corrupt timeline."""
        candidates = tuple(self.candidates)
        verdicts = {candidate: self[candidate] for candidate in candidates}
        return self.eligible, candidates, self.second, self.degraded, self.annoyance, verdicts

    def __setstate__(self, state: Pickled) -> None:
        self.eligible, self._candidates, self.second, self.degraded, self._annoyance, self._verdicts = state


def _eligible(plan: Plan, view: View, candidates: Sequence[Subject] | None) -> list[Subject]:
    if candidates is None:
        ids = {id_ for number in view.true for id_ in plan.by_fact.get(number, ())}
        ids.update(plan.always)
        fitting = [id_ for id_ in ids if view.eligible(plan.compiled[id_])]
        return [*sorted(fitting, key=plan.position.__getitem__)]
    true, known = view.true, plan.compiled.get
    forbidding = true & plan.forbidding  # Usually empty, which skips the per-candidate test.
    return [  # Fast path, inlined: a call per candidate would double the cost.
        candidate
        for candidate in candidates
        if (
            (compiled := known(candidate)) is not None
            and compiled.requires <= true
            and (not forbidding or compiled.forbids.isdisjoint(forbidding))
            and (compiled.simple or view.eligible(compiled))
        )
        or (compiled is None and view.eligible(compile_subject(plan, candidate)))
    ]


def verdict(plan: Plan, view: View, subject: Subject) -> Verdict:
    """The verdict on one candidate; it names the forbidding rule that stops binding last."""
    compiled = compile_subject(plan, subject)
    rule = denying_rule(view, plan.bound_rules(compiled.candidate))
    if rule is None:
        return Verdict(eligible=True, reason="eligible", eligible_at=_utc(view.plan_at.now))
    seen = None
    if rule.counted is not None:
        seen = _seen(view, plan.counted(rule.counted, plan.labels(compiled.candidate)))
    again = view.next_second(compiled.guards, compiled.openings)
    return Verdict(
        eligible=False,
        reason=rule.reason,
        rule=rule.text,
        seen=seen,
        limit=rule.limit,
        eligible_at=None if again is None else _utc(again),
    )


def denying_rule(view: View, rules: Iterable[tuple[Rule, Sequence[BoundClause]]]) -> Rule | None:
    """The rule that forbids the candidate, of several the one that stops binding last; None if none forbids it."""
    now, last = view.plan_at.now, None
    for rule, clauses in rules:
        until = view.next_second(clauses, [rule.opening] if rule.opening else [])
        if until != now and (last is None or _is_later(until, last[0])):
            last = (until, rule)
    return last[1] if last else None


def is_open(plan_at: PlanAt, subject: Subject) -> bool:
    """Whether the candidate could be shown to anybody now: the clock allows it, and no label it needs is missing."""
    compiled = compile_subject(plan_at.plan, subject)
    return () not in compiled.guards and plan_at.is_open(compiled.openings)


def closed(plan_at: PlanAt, subject: Subject) -> Verdict:
    """The verdict on a candidate that could be shown to nobody now."""
    compiled = compile_subject(plan_at.plan, subject)
    rules = plan_at.plan.bound_rules(compiled.candidate)
    impossible = [rule for rule, clauses in rules if () in clauses]
    shut = [rule for rule, _ in rules if rule.opening and not plan_at.is_open((rule.opening,))]
    rule = (impossible or shut)[0]
    again = None if impossible else View(plan_at, {}).next_second([], compiled.openings)
    return Verdict(
        eligible=False, reason=rule.reason, rule=rule.text, eligible_at=None if again is None else _utc(again)
    )


def annoyance_level(plan: Plan, view: View) -> AnnoyanceLevel | None:
    """Which threshold is in force for the visitor, and how much of it is used; None without a threshold."""
    for segment in plan.segments:
        if all(map(view.holds_any, plan.bind_formula(segment.who, {}))):
            used = [(_seen(view, plan.points(cap)), cap) for cap in segment.threshold]
            points, cap = max(used, key=lambda pair: pair[0] / pair[1].limit)
            return AnnoyanceLevel(segment.name, cap.text, points, cap.limit)
    return None


def _seen(view: View, counted: Counted) -> int:
    """How much of a limit is used; 0 if what it counts cannot be named, or counts nothing now."""
    if counted.fact is None or not all(map(view.holds_any, counted.provided)):
        return 0
    return view.count(counted.fact)


def _is_later(second: int | None, than: int | None) -> bool:
    """Whether one second is later than another; None is never, later than all."""
    return than is not None and (second is None or second > than)


def _utc(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
