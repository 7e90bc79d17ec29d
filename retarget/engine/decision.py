"""The decision: facts + a visitor's timelines + a moment -> who may be shown, why not the others, when again.

Rules:
- Facts are looked up on the timelines that the visitor has; then it is set algebra. So the cost follows her history,
  not the number of campaigns.
- A verdict is worked out when somebody asks for it: most of an ad server's candidates are never asked about.
- Everything is judged against one `now`; nothing here reads a clock or a store.
- As time goes on and nothing else happens, facts only become false. So a rule that forbids a fact lets go once, at a
  known second, and the next eligible moment is found by going from one such second to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime

from retarget.engine.plan import BoundClause, Fact, Plan, Reason, Rule, compile_subject
from retarget.engine.view import PlanAt, View
from retarget.errors import StoreError
from retarget.events import Subject


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says to one candidate.

    `reason` is one of a closed set of words; `rule` is the rule as written that lets go last; `seen` of `limit` is what
    it counted (points for the annoyance threshold); `eligible_at` is the first second at which she may be shown it if
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
    """Points used within the window of the threshold in force that is nearest to its limit."""

    segment: str
    rule: str
    points: int
    limit: int


class Decision:
    """The answer to "what may she be shown?": `eligible`, and a `Verdict` for each candidate by `decision[candidate]`.

    `degraded` is the store's error where the answer is the policy's `on_store_error` instead of the visitor's history.
    """

    __slots__ = ("_candidates", "_known", "_moment", "_uniform", "_view", "degraded", "eligible")

    def __init__(
        self,
        moment: PlanAt,
        candidates: Sequence[Subject] | None,
        *,
        view: View | None = None,
        uniform: Verdict | None = None,
        degraded: StoreError | None = None,
    ) -> None:
        self._moment = moment
        self._view = view
        self._uniform = uniform
        self._candidates = candidates
        self._known: AbstractSet[Subject] | None = None
        self.degraded = degraded
        if view is not None:
            self.eligible: tuple[Subject, ...] = tuple(_eligible(moment.plan, view, candidates))
        else:  # one verdict for all, but for those whose hours or flight forbid it: the clock needs no history
            self.eligible = tuple(c for c in self.candidates if uniform and is_open(moment, c))

    @property
    def at(self) -> int:
        """The moment everything was judged by, epoch seconds."""
        return self._moment.now

    @property
    def candidates(self) -> Sequence[Subject]:
        """What was decided over, in the caller's order; every campaign of the policy where none were given."""
        return self._candidates if self._candidates is not None else tuple(self._moment.plan.compiled)

    def __getitem__(self, candidate: Subject) -> Verdict:
        """Raises KeyError for what was not decided over."""
        plan = self._moment.plan
        if self._known is None:
            self._known = plan.compiled.keys() if self._candidates is None else frozenset(self._candidates)
        if candidate not in self._known:
            raise KeyError(candidate)
        if self._view is not None:
            return verdict(plan, self._view, candidate)
        assert self._uniform is not None  # noqa: S101 - a decision has one or the other
        return (
            closed(self._moment, candidate) if self._uniform and not is_open(self._moment, candidate) else self._uniform
        )

    def __iter__(self) -> Iterator[Subject]:
        return iter(self.candidates)

    def __len__(self) -> int:
        return len(self.candidates)

    def __repr__(self) -> str:
        return f"<Decision {len(self.eligible)} of {len(self)} eligible at {_utc(self.at)}>"

    @property
    def annoyance(self) -> AnnoyanceLevel | None:
        """The points used and the threshold in force; None without a threshold, or without a look at her history."""
        return annoyance_level(self._moment.plan, self._view) if self._view is not None else None


def _eligible(plan: Plan, view: View, candidates: Sequence[Subject] | None) -> list[Subject]:
    if candidates is None:
        ids = {id_ for number in view.true for id_ in plan.by_fact.get(number, ())}
        ids.update(plan.always)
        fitting = [id_ for id_ in ids if view.eligible(plan.compiled[id_])]
        return [*sorted(fitting, key=plan.position.__getitem__)]
    true, quick = view.true, plan.quick
    stop = true & plan.forbidding  # mostly empty: asking five facts each whether they are true would take as long again
    try:  # what nearly all candidates come to, said inline: a call for each would double a decision's time
        return [
            candidate
            for candidate in candidates
            if (
                (found := quick.get(candidate)) is not None
                and found[0] <= true
                and (not stop or found[1].isdisjoint(stop))
                and (found[2] is None or view.eligible(found[2]))
            )
            or (found is None and view.eligible(compile_subject(plan, candidate)))
        ]
    except TypeError:  # unhashable, so no candidate: compile_subject says it properly
        return [candidate for candidate in candidates if view.eligible(compile_subject(plan, candidate))]


def verdict(plan: Plan, view: View, subject: Subject) -> Verdict:
    """The verdict on one candidate: of the rules that forbid it, the one that lets go last."""
    compiled = compile_subject(plan, subject)
    labels = plan.labels(compiled.candidate)
    rule = denying_rule(view, plan.bound_rules(compiled.candidate))
    if rule is None:
        return Verdict(eligible=True, reason="eligible", eligible_at=_utc(view.moment.now))
    joint = view.next_moment(compiled.guards, compiled.openings)
    fact = plan.fact(rule.counted, labels) if rule.counted is not None else None
    seen = _seen(view, plan, fact) if rule.limit is not None else None
    again = None if joint is None else _utc(joint)
    return Verdict(eligible=False, reason=rule.reason, rule=rule.text, seen=seen, limit=rule.limit, eligible_at=again)


def denying_rule(view: View, rules: Iterable[tuple[Rule, Sequence[BoundClause]]]) -> Rule | None:
    """Which of the rules forbids the candidate, of several the one that lets go last; None if none does."""
    now, last = view.moment.now, None
    for rule, clauses in rules:
        lets_go = view.next_moment(clauses, [rule.opening] if rule.opening else [])
        if lets_go != now and (last is None or _later(lets_go, last[0])):
            last = (lets_go, rule)
    return last[1] if last else None


def is_open(moment: PlanAt, subject: Subject) -> bool:
    """Whether the candidate could be shown to anybody now: its hours are open, and no label that it needs is absent."""
    compiled = compile_subject(moment.plan, subject)
    return () not in compiled.guards and moment.is_open(compiled.openings)


def closed(moment: PlanAt, subject: Subject) -> Verdict:
    """The verdict on a candidate that could be shown to nobody now."""
    compiled = compile_subject(moment.plan, subject)
    rules = moment.plan.bound_rules(compiled.candidate)
    impossible = [rule for rule, clauses in rules if () in clauses]
    shut = [rule for rule, _ in rules if rule.opening and not moment.is_open((rule.opening,))]
    last = (impossible or shut)[0]
    again = None if impossible else View(moment, {}).next_moment([], compiled.openings)
    return Verdict(
        eligible=False, reason=last.reason, rule=last.text, eligible_at=None if again is None else _utc(again)
    )


def annoyance_level(plan: Plan, view: View) -> AnnoyanceLevel | None:
    """Which threshold is in force for the visitor, and how much of it is used."""
    for segment, who, threshold in plan.segments:
        if all(any(view.holds(fact) is wanted for fact, wanted in clause) for clause in plan.bind_formula(who, {})):
            used = [(_seen(view, plan, plan.points(cap)), cap) for cap in threshold]
            points, cap = max(used, key=lambda pair: pair[0] / pair[1].limit)
            return AnnoyanceLevel(segment, cap.text, points, cap.limit)
    return None


def _seen(view: View, plan: Plan, fact: Fact | None) -> int:
    """How much of the rule's limit is used; nothing where what it counts cannot be named, or the session is over."""
    if fact is None or (fact.window.anchored and not view.holds(plan.alive)):
        return 0
    return view.count(fact)


def _later(moment: int | None, than: int | None) -> bool:
    return than is not None and (moment is None or moment > than)


def _utc(moment: int) -> datetime:
    return datetime.fromtimestamp(moment, UTC)
