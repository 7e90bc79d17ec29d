"""The plan: a policy compiled to facts, and each campaign to sets of them.

Rules:
- A fact is "the n-th newest entry of this timeline is at or after the window's start". As time passes and nothing else
  happens, a fact can only become false.
- A rule is a set of clauses; a clause holds if any of its literals does; a literal is a fact that must be true, or one
  that must be false. A candidate is eligible iff all clauses of all its rules hold and the clock is open.
- Most clauses have one literal; these go into two sets: `requires` and `forbids`.
- The facts also say which timelines an event enters, how many entries each keeps, and for how long.
- A subject may be a template: `{item}` is filled from the candidate's labels. A missing label makes the fact false:
  what cannot be named has not happened. So does a missing label in an anchor: the window begins where it would without.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from retarget.engine.places import Place, Places
from retarget.engine.rules import Rule, Rulebook
from retarget.engine.terms import Formula, Term
from retarget.errors import InputError
from retarget.events import Candidate, Subject
from retarget.policy import Cap, Policy, check_text
from retarget.timelines import ACTIVITY, IMPRESSION, Anchor, Cover, Opening, Reserved, Window, timeline

CACHE_SIZE = 4_096
"""How many candidates with labels, and events with subjects, a plan remembers the compiled form of."""


class Fact(NamedTuple):
    """Is the n-th newest entry of this timeline at or after the window's start? (n below 1: always).

    With an anchor, the window starts at the moment that it names if that is later.
    """

    field: bytes
    n: int
    window: Window
    anchor: Anchor | None = None


BoundClause: TypeAlias = tuple[tuple[Fact, bool], ...]
"""Facts, one of which must have the answer beside it. An empty clause can never hold."""


class BoundRule(NamedTuple):
    """A rule with its clauses about one candidate."""

    rule: Rule
    clauses: tuple[BoundClause, ...]


class Counted(NamedTuple):
    """A fact whose entries are counted if all clauses hold; None cannot be named, so there is none to count."""

    fact: Fact | None
    provided: tuple[BoundClause, ...]


class NumberedClause(NamedTuple):
    """A clause of several numbered facts: one of `wanted` is true, or one of `unwanted` is false."""

    wanted: frozenset[int]
    unwanted: frozenset[int]


class Start(NamedTuple):
    """Where facts begin to count: at the start of a window, or at an anchor if that is later."""

    window: Window
    anchor: Anchor | None


@dataclass(frozen=True, slots=True)
class Lookup:
    """How a numbered fact is looked up in its packed timeline, if that is longer than `size` bytes.

    Not a NamedTuple: the decision reads these fields for every fact of a visitor, and slots read faster.
    """

    size: int
    entry: slice
    start: int
    """The number of its start in the plan."""
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
        self._book = book = Rulebook(policy)
        self.zone, self.retention, self.segments = book.zone, book.retention, book.segments
        self.facts: dict[Fact, int] = {}
        self.numbered: list[Fact] = []
        self.starts: list[Start] = []
        self._start_numbers: dict[Start, int] = {}
        self.on: dict[bytes, list[Lookup]] = {}
        self.anchored_on: dict[bytes, list[Lookup]] = {}
        self._places = Places(book)
        self.compiled: dict[Subject, Compiled] = {}
        self.always: list[str] = []
        self.by_fact: dict[int, list[str]] = {}
        self.position: dict[str, int] = {}
        for position, id_ in enumerate(policy.campaign):
            self.position[id_] = position
            self.compiled[id_] = self._index(id_, self._compile(Candidate(id_), known=True))
        self.forbidding = frozenset(number for compiled in self.compiled.values() for number in compiled.forbids)
        self.activity_place = self._places.of_activity()
        self.places = lru_cache(CACHE_SIZE)(self._places.of_event)
        self.blocking = lru_cache(CACHE_SIZE)(self._places.blocking)  # a visitor who is full asks it of each timeline
        self.bind = lru_cache(CACHE_SIZE)(self._bind)
        self.bound_rules = lru_cache(CACHE_SIZE)(self._bound_rules)

    # -- candidates -------------------------------------------------------------------------------------------------

    def rules(self, candidate: Candidate) -> list[Rule]:
        """Every rule that applies to the candidate, in the order of the policy file."""
        return self._book.rules(candidate)

    def labels(self, candidate: Candidate) -> dict[str, str]:
        """The campaign's labels, overridden by the candidate's own, and `campaign` itself."""
        return self._book.labels(candidate)

    def knows(self, campaign: str) -> bool:
        """Whether the policy can decide on this campaign."""
        return campaign in self.compiled or self.policy.defaults is not None

    def fact(self, term: Term, labels: dict[str, str]) -> Fact | None:
        """The term about these labels; None (false) if one is missing."""
        field = term.topic.about(labels)
        anchor = None if term.anchor is None else term.anchor.about(labels)
        return None if field is None else Fact(field, term.n, term.window, anchor)

    def counted(self, term: Term, labels: dict[str, str]) -> Counted:
        """What says how much of a rule's limit is used."""
        return Counted(self.fact(term, labels), tuple(self.bind_formula(self._book.provided(term), labels)))

    def points(self, cap: Cap) -> Counted:
        """What says how much of a threshold is used."""
        return self.counted(self._book.used_up(cap), {})

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
            for rule in rules:
                self._places.ask(rule.formula, rule.text, candidate.campaign)
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
            first = -timeline.ENTRY * fact.n
            entry = slice(first, first + timeline.ENTRY or None)
            start = Start(fact.window, fact.anchor)
            start_number = self._start_numbers.setdefault(start, len(self.starts))
            if start_number == len(self.starts):
                self.starts.append(start)
            on = self.on if fact.anchor is None else self.anchored_on
            on.setdefault(fact.field, []).append(Lookup(timeline.ENTRY * fact.n, entry, start_number, number))

    def _index(self, id_: str, compiled: Compiled) -> Compiled:
        """Index the campaign by facts without which it cannot be eligible: those of one clause without a "must not"."""
        choices = [compiled.requires] if compiled.requires else [c.wanted for c in compiled.clauses if not c.unwanted]
        if choices:
            for number in min(choices, key=len) if not compiled.requires else [min(compiled.requires)]:
                self.by_fact.setdefault(number, []).append(id_)
        else:
            self.always.append(id_)
        return compiled

    # -- events -----------------------------------------------------------------------------------------------------

    def place_of(self, field: bytes) -> Place | None:
        """What the policy asks of the timeline of this name; None where it asks nothing."""
        return self._places.of_field(field)

    def activity(self, first: int, last: int) -> tuple[Cover, ...]:
        """The change that notes that the visitor was active from `first` to `last`; none if no rule asks about it."""
        place = self.activity_place
        return () if place is None else (Cover(ACTIVITY, first, last, self._places.pause, place.keep, place.head),)

    def asks_activity(self, at: int, now: int) -> bool:
        """Whether it matters at `now` that the visitor was active at this second."""
        return self.activity_place is not None and at >= now - self.activity_place.horizon

    def reserved(self, subject: Subject) -> tuple[Reserved, ...]:
        """Where an impression is reserved: where it will be counted, and where it keeps a session going meanwhile."""
        counted = (
            Reserved(place.field, place.weight, place.keep, place.head) for place in self.places(IMPRESSION, subject)
        )
        going_on = () if self.activity_place is None else (Reserved(ACTIVITY, 1, 0, self.activity_place.head),)
        return (*counted, *going_on)


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
