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
from hashlib import blake2b
from typing import TypeVar
from zoneinfo import ZoneInfo

from retarget.engine.plan import BoundClause, Compiled, Fact, Place, Plan, Reason, Rule
from retarget.errors import InputError, StoreError
from retarget.events import Candidate, Subject
from retarget.policy import check_text
from retarget.timelines import (
    ACTIVITY,
    DAY,
    HELD,
    LAST_MOMENT,
    MOST_TIMELINES,
    NO_OUTCOME,
    SESSIONS,
    Alternative,
    Enter,
    Guard,
    Opening,
    State,
    Window,
    timeline,
)

K = TypeVar("K")
V = TypeVar("V")

_STEPS = 1_000
_MOST_REMEMBERED = 4_096


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
                    raise StoreError(f"the timeline {timeline.readable(field)!r} is corrupt: {length} bytes")
                for need, piece, window, number in facts:
                    if length > need and raw[piece] >= since[window]:
                        true.add(number)
        if HELD in state and not all(timeline.is_packed(raw) for field, raw in state.items() if field[:1] == HELD):
            raise StoreError("a reservation of this visitor is corrupt")
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
        if raw and len(raw) & 3 != timeline.HEAD:
            raise StoreError(f"the timeline {timeline.readable(field)!r} is corrupt: {len(raw)} bytes")
        return raw

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
            raise StoreError(f"the timeline {timeline.readable(fact.field)!r} is corrupt: it is not in order")
        return leaving[-fact.n]


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


def compile_subject(plan: Plan, subject: Subject) -> Compiled:
    """What decides over this candidate. Raises InputError for one that the policy cannot decide on."""
    if isinstance(subject, str) and subject in plan.compiled:
        return plan.compiled[subject]
    candidate = as_candidate(subject)
    if not plan.knows(candidate.campaign):
        raise InputError(
            f"campaign {candidate.campaign!r} is not in the policy, which has no [defaults]; "
            "add it, or a [defaults] table (an empty one will do)"
        )
    return plan.bind(candidate)


def as_candidate(subject: object) -> Candidate:
    """The candidate, given as one or by its campaign's id. Raises InputError for anything that can be neither."""
    try:
        candidate = subject if isinstance(subject, Candidate) else Candidate(check_text(subject, "campaign"))
        check_text(candidate.campaign, "campaign")
        for kind, value in candidate.labels:
            check_text(kind, "the name of a label")
            check_text(value, f"label {kind}")
    except ValueError as error:
        raise InputError(f"{error}; a candidate is a campaign id or a Candidate") from error
    return candidate


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


# -- claims and records: the same facts as guards, for the store to judge ---------------------------------------------


def claim_alternatives(moment: PlanAt, subject: Subject) -> tuple[Alternative, ...]:
    """What counts an impression of the candidate if it is eligible; none where the clock forbids it."""
    try:
        known = moment.claims.get(subject)
    except TypeError:  # unhashable, so no candidate: compile_subject says it properly
        known = None
    if known is None:
        compiled = compile_subject(moment.plan, subject)
        known = ()
        if moment.is_open(compiled.openings) and () not in compiled.guards:
            places = moment.plan.places(timeline.IMPRESSION, compiled.candidate)
            guards = claim_guards(moment, subject)
            known = alternatives(moment.plan, places, moment.now, moment.now, guards, outcome(subject))
        moment.claims[subject] = known
    return known


def claim_guards(moment: PlanAt, subject: Subject) -> tuple[Guard, ...]:
    """The questions whose answers let the candidate be shown."""
    clauses = compile_subject(moment.plan, subject).guards
    return tuple(guard for clause in clauses for guard in _guards(clause, moment))


def alternatives(
    plan: Plan, places: Iterable[Place], at: int, now: int, guards: tuple[Guard, ...] = (), outcome: bytes = NO_OUTCOME
) -> tuple[Alternative, ...]:
    """What enters an event of moment `at` in these places: one alternative, or two where sessions are asked about."""
    if not plan.has_sessions:
        return (_alternative(places, at, now, guards, outcome),)
    activity, begun = plan.session_places()
    going_on = Guard(ACTIVITY, 1, max(0, at - plan.alive.window.horizon), wanted=True, more=False, anchored=False)
    return (
        _alternative([*places, activity], at, now, (*guards, going_on), outcome),
        _alternative([*places, activity, begun], at, now, guards, outcome),
    )


def outcome(subject: Subject) -> bytes:
    """Three bytes that tell the candidates of one claim apart, remembered with the claim's id."""
    return blake2b(str(subject).encode(), digest_size=3).digest()


def _alternative(places: Iterable[Place], at: int, now: int, guards: tuple[Guard, ...], outcome: bytes) -> Alternative:
    """An id is remembered as long as the entries it counted; for a day where no rule asks about its event."""
    places = tuple(places)
    entries = tuple(Enter(place.field, at, place.weight, place.keep, place.head) for place in places)
    ttl = max((place.horizon + 1 + at - now for place in places), default=DAY)
    return Alternative(guards, entries, max(1, ttl), outcome)


def _guards(clause: BoundClause, moment: PlanAt) -> Iterator[Guard]:
    for position, (fact, wanted) in enumerate(clause):
        since = min(max(0, fact.window.since(moment.now, moment.zone)), LAST_MOMENT)
        more = position < len(clause) - 1
        yield Guard(fact.field, max(0, fact.n), since, wanted, more, fact.window.anchored)


def is_full(state: State, now: int) -> bool:
    """Whether so much of a visitor's state matters still that nothing more can be counted. Raises StoreError."""
    if len(state) < MOST_TIMELINES:
        return False
    kept = [raw for field, raw in state.items() if not field.startswith(b"#")]
    if not all(map(timeline.is_packed, kept)):
        raise StoreError("a timeline of this visitor is corrupt")
    return sum(timeline.is_shield(raw) and timeline.is_live(raw, now) for raw in kept) >= MOST_TIMELINES


def _later(moment: int | None, than: int | None) -> bool:
    return than is not None and (moment is None or moment > than)


def _packed(moment: int) -> bytes:
    return min(max(moment, 0), LAST_MOMENT).to_bytes(4)


def _utc(moment: int) -> datetime:
    return datetime.fromtimestamp(moment, UTC)
