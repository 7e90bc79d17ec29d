"""The plan: a policy compiled to facts. Every kind of rule becomes the one question here, and nowhere else.

Rules:
- A fact is "the n-th newest entry of this timeline is at or after the window's start". As time passes and nothing else
  happens, a fact can only become false.
- A rule is a set of clauses; a clause holds if any of its literals does; a literal is a fact that must be true, or one
  that must be false. A candidate is eligible iff all clauses of all its rules hold and the clock is open.
- Most clauses have one literal; these go into two sets: `requires` and `forbids`.
- The facts also say which timelines an event enters, how many entries each keeps, and for how long.
- A subject may be a template: `{item}` is filled from the candidate's labels. A missing label makes the fact false:
  what cannot be named has not happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from retarget.engine.formula import TRUE, Formula, Term, all_of, any_of, negated
from retarget.engine.places import Asked, Patterns, Place
from retarget.errors import InputError
from retarget.events import Candidate, Subject
from retarget.policy import Campaign, Cap, Condition, Policy, Span, check_text, fill, load_zone
from retarget.timelines import (
    ACTIVITY,
    IMPRESSION,
    POINTS,
    SESSIONS,
    Calendar,
    Days,
    Ends,
    Flight,
    Hours,
    Opening,
    Rolling,
    Starts,
    Window,
    end_instant,
    instant,
    session,
    timeline,
)

Reason: TypeAlias = Literal[
    "eligible", "cap", "gap", "annoyance", "audience", "exclude", "hours", "days", "start", "end",
    "unknown visitor", "no consent", "store error", "full",
]  # fmt: skip
"""Why a candidate may be shown or not. In the docs: `docs/reference/verdicts.md`."""


CACHE_SIZE = 4_096
"""How many candidates with labels, and events with subjects, a plan remembers the compiled form of."""


class Fact(NamedTuple):
    """Is the n-th newest entry of this timeline at or after the window's start? (n below 1: always)."""

    field: bytes
    n: int
    window: Window


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as written, and as a formula or an opening.

    `counted` and `limit` are what a verdict reports as `seen` and `limit`.
    """

    reason: Reason
    text: str
    formula: Formula = frozenset()
    counted: Term | None = None
    limit: int | None = None
    opening: Opening | None = None


BoundClause: TypeAlias = tuple[tuple[Fact, bool], ...]
"""Facts, one of which must have the answer beside it. An empty clause can never hold."""


class BoundRule(NamedTuple):
    """A rule with its clauses about one candidate."""

    rule: Rule
    clauses: tuple[BoundClause, ...]


class NumberedClause(NamedTuple):
    """A clause of several numbered facts: one of `wanted` is true, or one of `unwanted` is false."""

    wanted: frozenset[int]
    unwanted: frozenset[int]


class Segment(NamedTuple):
    """A threshold, and the formula of its being the one in force."""

    name: str
    who: Formula
    threshold: list[Cap]


@dataclass(frozen=True, slots=True)
class Lookup:
    """How a numbered fact is looked up in its packed timeline, if that is longer than `size` bytes.

    Not a NamedTuple: the decision reads these fields for every fact of a visitor, and slots read faster.
    """

    size: int
    entry: slice
    window: int
    fact: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """What decides on one candidate: sets of numbered facts, and what the sets cannot express.

    `simple`: `requires` and `forbids` are all there is. `guards` are all clauses, for the store.
    """

    candidate: Candidate
    requires: frozenset[int]
    forbids: frozenset[int]
    clauses: tuple[NumberedClause, ...]
    bound: tuple[BoundClause, ...]
    openings: tuple[Opening, ...]
    guards: tuple[BoundClause, ...]
    simple: bool


class Plan:
    """A compiled policy. Immutable once built; the caches only save computing the same again."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.zone = load_zone(policy.timezone)
        self.retention = policy.retention.seconds
        self.facts: dict[Fact, int] = {}
        self.numbered: list[Fact] = []
        self.windows: list[Window] = []
        self.on: dict[bytes, list[Lookup]] = {}
        self.alive = Fact(ACTIVITY, 1, Rolling(policy.session.seconds))
        self._asked: dict[bytes, Asked] = {}
        self._patterns = Patterns()
        self.segments = self._segments()
        self.compiled: dict[Subject, Compiled] = {}
        self.always: list[str] = []
        self.by_fact: dict[int, list[str]] = {}
        self.position: dict[str, int] = {}
        self._ask_shared()
        for position, id_ in enumerate(policy.campaign):
            self.position[id_] = position
            self.compiled[id_] = self._index(id_, self._compile(Candidate(id_), known=True))
        self.forbidding = frozenset(number for compiled in self.compiled.values() for number in compiled.forbids)
        self.has_sessions = ACTIVITY in self._asked
        self.places = lru_cache(CACHE_SIZE)(self._places)
        self.bind = lru_cache(CACHE_SIZE)(self._bind)
        self.bound_rules = lru_cache(CACHE_SIZE)(self._bound_rules)

    # -- candidates -------------------------------------------------------------------------------------------------

    def rules(self, candidate: Candidate) -> list[Rule]:
        """Every rule that applies to the candidate, in the order of the policy file."""
        rules = self.policy.rules(candidate.campaign)
        assert rules is not None  # noqa: S101 - callers ask `knows` first
        return [*self._clock(rules), *self._behaviour(rules), *self._caps(rules, self.labels(candidate))]

    def labels(self, candidate: Candidate) -> dict[str, str]:
        """The campaign's labels, overridden by the candidate's own, and `campaign` itself."""
        own = self.policy.campaign.get(candidate.campaign)
        return {**(own.labels if own else {}), **dict(candidate.labels), "campaign": candidate.campaign}

    def knows(self, campaign: str) -> bool:
        """Whether the policy can decide on this campaign."""
        return campaign in self.compiled or self.policy.defaults is not None

    def fact(self, term: Term, labels: dict[str, str]) -> Fact | None:
        """The term about these labels; None (false) if one is missing."""
        if term.event in (POINTS.decode(), ACTIVITY.decode()):
            return Fact(term.event.encode(), term.n, term.window)
        subject = None if term.subject is None else fill(term.subject, labels)
        if term.subject is not None and subject is None:
            return None
        return Fact(timeline.name(term.event, subject), term.n, term.window)

    def bind_formula(self, formula: Formula, labels: dict[str, str]) -> list[BoundClause]:
        """The clauses about these labels. An empty one can never hold."""
        clauses: list[BoundClause] = []
        for clause in formula:
            literals = [(self.fact(term, labels), wanted) for term, wanted in clause]
            if not any(fact is None and not wanted for fact, wanted in literals):
                known = [(fact, wanted) for fact, wanted in literals if fact is not None]
                clauses.append(tuple(sorted(known, key=lambda literal: (literal[0].field, literal[0].n, literal[1]))))
        return clauses

    def _bound_rules(self, candidate: Candidate) -> tuple[BoundRule, ...]:
        """Every rule that applies to the candidate, bound to its labels: a verdict names the one that forbids it."""
        labels = self.labels(candidate)
        return tuple(BoundRule(rule, tuple(self.bind_formula(rule.formula, labels))) for rule in self.rules(candidate))

    def _bind(self, subject: Subject) -> Compiled:
        """The candidate's rules, compiled. Cached, since checking and compiling cost more than the decision."""
        candidate = as_candidate(subject)
        if not self.knows(candidate.campaign):
            raise InputError(
                f"campaign {candidate.campaign!r} is not in the policy, which has no [defaults]; "
                "add it, or a [defaults] table (an empty one will do)"
            )
        if not candidate.labels and candidate.campaign in self.compiled:
            return self.compiled[candidate.campaign]
        return self._compile(candidate, known=False)

    def _compile(self, candidate: Candidate, *, known: bool) -> Compiled:
        """Sort a candidate's clauses. Facts of the policy's own campaigns are numbered; others stay as they are."""
        rules, labels = self.rules(candidate), self.labels(candidate)
        if known:
            self._ask_rules(rules, candidate.campaign)
        guards = dict.fromkeys(clause for rule in rules for clause in self.bind_formula(rule.formula, labels))
        requires: set[int] = set()
        forbids: set[int] = set()
        clauses: list[NumberedClause] = []
        bound: list[BoundClause] = []
        for clause in guards:
            if known:
                for fact, _ in clause:
                    self._number(fact)
            numbers = [(self.facts[fact], wanted) for fact, wanted in clause if fact in self.facts]
            if not clause or len(numbers) < len(clause):
                bound.append(clause)
            elif len(numbers) == 1:
                number, wanted = numbers[0]
                (requires if wanted else forbids).add(number)
            else:
                trues = frozenset(number for number, wanted in numbers if wanted)
                clauses.append(NumberedClause(trues, frozenset(number for number, wanted in numbers if not wanted)))
        openings = tuple(rule.opening for rule in rules if rule.opening is not None)
        return Compiled(
            candidate,
            frozenset(requires),
            frozenset(forbids),
            tuple(clauses),
            tuple(bound),
            openings,
            tuple(guards),
            simple=not (clauses or bound or openings),
        )

    def _number(self, fact: Fact) -> None:
        if fact in self.facts:
            return
        number = self.facts[fact] = len(self.facts)
        self.numbered.append(fact)
        if fact.n >= 1:
            start = -timeline.ENTRY * fact.n
            entry = slice(start, start + timeline.ENTRY or None)
            if fact.window not in self.windows:
                self.windows.append(fact.window)
            window = self.windows.index(fact.window)
            self.on.setdefault(fact.field, []).append(Lookup(timeline.ENTRY * fact.n, entry, window, number))

    def _index(self, id_: str, compiled: Compiled) -> Compiled:
        """Index the campaign by facts without which it cannot be eligible: those of one clause without a "must not"."""
        choices = [compiled.requires] if compiled.requires else [c.wanted for c in compiled.clauses if not c.unwanted]
        if choices:
            for number in min(choices, key=len) if not compiled.requires else [min(compiled.requires)]:
                self.by_fact.setdefault(number, []).append(id_)
        else:
            self.always.append(id_)
        return compiled

    # -- rules, as formulas -----------------------------------------------------------------------------------------

    def _clock(self, rules: Campaign) -> Iterable[Rule]:
        if rules.start is not None:
            yield Rule("start", f"start {rules.start.isoformat()}", opening=Starts(rules.start))
        if rules.end is not None:
            yield Rule("end", f"end {rules.end.isoformat()}", opening=Ends(rules.end))
        if rules.days is not None:
            yield Rule("days", f"days {rules.days.text}", opening=Days(rules.days.days))
        if rules.hours is not None:
            yield Rule("hours", f"hours {rules.hours.text}", opening=Hours(rules.hours.spans))

    def _behaviour(self, rules: Campaign) -> Iterable[Rule]:
        for clause in rules.audience:
            terms = [self._term(condition, rules) for condition in clause]
            text = " or ".join(condition.text for condition in clause)
            single = clause[0].count if len(clause) == 1 else None
            formula = any_of(map(self._reached, terms))
            yield Rule("audience", text, formula, terms[0] if single else None, single)
        for condition in rules.exclude:
            term = self._term(condition, rules)
            yield Rule("exclude", condition.text, negated(self._reached(term)), term, condition.count)

    def _caps(self, rules: Campaign, labels: Mapping[str, str]) -> Iterable[Rule]:
        if not rules.obeys:
            return
        for cap in rules.caps:
            yield from self._cap(cap, "{campaign}", rules)
        if rules.gap is not None:
            term = Term(IMPRESSION, "{campaign}", 1, Rolling(rules.gap.seconds), 1)
            yield Rule("gap", f"gap {rules.gap.text}", negated(self._reached(term)), term, 1)
        for key, caps in self.policy.caps.items():
            kind, _, value = key.partition(":")
            if kind in labels and (not value or labels[kind] == value):
                for cap in caps:
                    yield from self._cap(cap, f"{kind}:{{{kind}}}", rules, prefix=f"{key}: ")
        yield from self._annoyance(labels)

    def _cap(self, cap: Cap, subject: str, rules: Campaign, prefix: str = "") -> Iterable[Rule]:
        term = Term(IMPRESSION, subject, cap.limit, self._window(cap.window, rules), cap.limit)
        yield Rule("cap", prefix + cap.text, negated(self._reached(term)), term, cap.limit)
        if cap.spacing:
            spaced = Term(IMPRESSION, subject, 1, Rolling(cap.spacing), 1)
            yield Rule("gap", f"{prefix}{cap.text}, spread", negated(self._reached(spaced)), spaced, 1)

    def _annoyance(self, labels: Mapping[str, str]) -> Iterable[Rule]:
        """Each segment's threshold: it is not reached, or the visitor is not in that segment (or in an earlier one)."""
        annoyance = self.policy.annoyance
        if annoyance is None:
            return
        weight = annoyance.points.get(labels.get("channel", ""), 1)
        for name, who, threshold in self.segments:
            outside = negated(who)
            for cap in threshold:
                window = self._window(cap.window, _NO_RULES)
                term = Term(POINTS.decode(), None, cap.limit - weight + 1, window, cap.limit)
                formula = any_of([negated(self._reached(term)), outside])
                yield Rule("annoyance", f"{name}: {cap.text}", formula, term, cap.limit)
                if cap.spacing:
                    spaced = Term(POINTS.decode(), None, 1, Rolling(cap.spacing), 1)
                    formula = any_of([negated(self._reached(spaced)), outside])
                    yield Rule("annoyance", f"{name}: {cap.text}, spread", formula, spaced, 1)

    def _segments(self) -> list[Segment]:
        """The thresholds in the order in which they are tried; the general one last."""
        annoyance = self.policy.annoyance
        if annoyance is None:
            return []
        segments: list[Segment] = []
        earlier: Formula = TRUE
        for name, segment in annoyance.segment.items():
            clauses = [any_of(self._reached(self._term(c, _NO_RULES)) for c in clause) for clause in segment.who]
            who = all_of(clauses)
            segments.append(Segment(f"segment {name}", all_of([earlier, who]), segment.threshold))
            earlier = all_of([earlier, negated(who)])
        return [*segments, Segment("annoyance", earlier, annoyance.threshold)]

    def points(self, cap: Cap) -> Fact:
        """The fact that a threshold is used up; its window says which points count."""
        return Fact(POINTS, cap.limit, self._window(cap.window, _NO_RULES))

    def _term(self, condition: Condition, rules: Campaign) -> Term:
        window = self._window(condition.window or Span("lifetime"), rules)
        return Term(condition.event, condition.subject, condition.count, window, condition.count)

    def _reached(self, term: Term) -> Formula:
        """The formula of a term being true. What counts within a session needs the session to be going on."""
        reached = frozenset([frozenset([(term, True)])])
        if not term.window.anchored or term.n < 1:  # what costs more than the whole limit is too much in any session
            return reached
        alive = Term(ACTIVITY.decode(), None, 1, self.alive.window, 1)
        return all_of([reached, frozenset([frozenset([(alive, True)])])])

    def _window(self, span: Span, rules: Campaign) -> Window:
        match span.period:
            case "rolling":
                return Rolling(span.seconds)
            case "session":
                return session()
            case "flight" if rules.start is not None:
                seconds = self.retention
                if rules.end is not None:  # two days to spare: the flight may begin and end in different zones
                    flight = end_instant(rules.end, self.zone) - instant(rules.start, self.zone)
                    seconds = min(seconds, flight + 2 * 86_400)
                return Flight(rules.start, seconds)
            case "flight" | "lifetime":
                return Rolling(self.retention)
            case _:
                return Calendar(span.period, sunday_first=self.policy.week_start == "sunday")

    # -- events -----------------------------------------------------------------------------------------------------

    def _places(self, event: str, subject: Subject | None) -> tuple[Place, ...]:
        """The timelines that an event enters: only those that a rule asks about."""
        candidate = subject if isinstance(subject, Candidate) else Candidate(subject) if subject is not None else None
        labels = self.labels(candidate) if candidate else {}
        rules = self.policy.rules(candidate.campaign) if candidate else None
        places = [self._place(timeline.name(event), self._asked.get(timeline.name(event)))]
        if candidate:
            places.append(
                self._subject_place(event, candidate.campaign, known=candidate.campaign in self.policy.campaign)
            )
            if rules is None or rules.counts:
                kinds = (kind for kind in labels if kind != "campaign")
                places += [self._subject_place(event, f"{kind}:{labels[kind]}", f"{kind}:") for kind in kinds]
        if event == IMPRESSION and self.policy.annoyance and (rules is None or rules.counts):
            weight = self.policy.annoyance.points.get(labels.get("channel", ""), 1)
            places.append(self._place(POINTS, self._asked[POINTS], weight))
        return tuple({place.field: place for place in places if place is not None}.values())

    def _subject_place(self, event: str, subject: str, kind: str = "", *, known: bool = False) -> Place | None:
        name, total = timeline.name(event, subject), Asked()
        asked = [*self._patterns.matching(event, subject, kind, known=known), self._asked.get(name)]
        for part in asked:
            if part is not None:
                total.add(part.keep, part.horizon, shield=part.shield)
        return self._place(name, total if total.horizon else None)

    def _place(self, name: bytes, asked: Asked | None, weight: int = 1) -> Place | None:
        if asked is None:
            return None
        return Place(name, weight, asked.keep, timeline.head(asked.horizon, shield=asked.shield), asked.horizon)

    def place_of(self, field: bytes) -> Place | None:
        """What the policy asks of the timeline of this name; None where it asks nothing."""
        if field in (ACTIVITY, SESSIONS):
            return self.session_places()[field == SESSIONS] if self.has_sessions else None
        text = field.decode(errors="replace")
        event, subject = (IMPRESSION, text[1:]) if text[:1] == "i" else text[1:].partition(" ")[::2]
        if field[:1] not in (b"i", b"e") or not subject:
            return self._place(field, self._asked.get(field))
        kind = f"{subject.partition(':')[0]}:"
        labelled = any(template.startswith(kind) for template in self._patterns.by_event.get(event, ()))
        return self._subject_place(event, subject, kind if labelled else "", known=subject in self.policy.campaign)

    def session_places(self) -> tuple[Place, Place]:
        """Where every event enters if a rule asks about sessions: the last activity, and the session's start."""
        alive, started = self.alive.window, session()
        return (
            Place(ACTIVITY, 1, 1, timeline.head(alive.horizon, shield=True), alive.horizon),
            Place(SESSIONS, 1, 1, timeline.head(started.horizon, shield=True), started.horizon),
        )

    def _ask_shared(self) -> None:
        """Note what rules that belong to no one campaign ask about: label caps, thresholds, segments, the defaults."""
        anyone = Candidate("{campaign}")  # stands for every campaign that the policy does not name
        for key, caps in self.policy.caps.items():
            kind, _, value = key.partition(":")
            for cap in caps:
                subject = key if value else f"{kind}:{{{kind}}}"
                self._ask_rules(self._cap(cap, subject, _NO_RULES))
        self._ask_rules(self._annoyance({}))
        for _, who, _ in self.segments:
            self._ask_formula(who)
        if self.policy.defaults is not None:
            rules = self.policy.rules(anyone.campaign)
            if rules is not None:
                self._ask_rules([*self._behaviour(rules), *self._caps(rules, {})])

    def _ask_rules(self, rules: Iterable[Rule], campaign: str = "{campaign}") -> None:
        for rule in rules:
            self._ask_formula(rule.formula, campaign)

    def _ask_formula(self, formula: Formula, campaign: str = "{campaign}") -> None:
        for clause in formula:
            for term, wanted in clause:
                subject = term.subject and term.subject.replace("{campaign}", campaign)
                if subject is not None and "{" in subject:
                    asked = self._patterns.asked(term.event, subject)
                else:
                    fact = self.fact(term, {"campaign": campaign})
                    assert fact is not None  # noqa: S101 - nothing else to fill in
                    asked = self._asked.setdefault(fact.field, Asked())
                asked.add(term.keep, term.window.horizon, shield=not wanted)


def compile_subject(plan: Plan, subject: Subject) -> Compiled:
    """The candidate's rules, compiled. Raises InputError for one that the policy cannot decide on."""
    return plan.compiled[subject] if isinstance(subject, str) and subject in plan.compiled else plan.bind(subject)


def as_candidate(subject: object) -> Candidate:
    """The candidate, given as one or as its campaign's id. Raises InputError for anything else."""
    try:
        candidate = subject if isinstance(subject, Candidate) else Candidate(check_text(subject, "campaign"))
        check_text(candidate.campaign, "campaign")
        for kind, value in candidate.labels:
            check_text(kind, "the name of a label")
            check_text(value, f"label {kind}")
    except ValueError as error:
        raise InputError(f"{error}; a candidate is a campaign id or a Candidate") from error
    return candidate


_NO_RULES = Campaign()
