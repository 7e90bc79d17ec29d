"""The rules of a policy as formulas. Every kind of rule becomes the one question here, and nowhere else.

Rules:
- A rule's formula is about topics that may be templates: `{item}` is filled from the candidate's labels when the rule
  is bound to one.
- A condition whose subject is written `kind:value` asks about the label, unless the policy names a campaign of exactly
  that id.
- A window that begins at another event is a window with an anchor. A session is one, too: it begins where the visitor's
  newest interval of activity does, and counts nothing unless that is going on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from retarget.engine.terms import (
    BEING_ACTIVE,
    THRESHOLD,
    AnchorTerm,
    Formula,
    Term,
    Topic,
    capped_by,
    is_label,
    on_subject,
    under_label,
)
from retarget.events import Candidate
from retarget.policy import (
    TRUE,
    Campaign,
    Cap,
    Condition,
    Policy,
    Span,
    all_of,
    any_of,
    literal,
    load_zone,
    negated,
    outsides,
)
from retarget.timelines import (
    IMPRESSION,
    SESSION_AT_MOST,
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
)

Reason: TypeAlias = Literal[
    "eligible", "cap", "gap", "annoyance", "audience", "exclude", "hours", "days", "start", "end",
    "unknown visitor", "no consent", "store error", "full",
]  # fmt: skip
"""Why a candidate may be shown or not. In the docs: `docs/reference/verdicts.md`."""

SESSION_START = AnchorTerm(BEING_ACTIVE, n=2, after=0)
"""The newest interval of activity: its start is the second newest entry."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as written, and as a formula or an opening.

    `counted` and `limit` are what a verdict reports as `seen` and `limit`.
    """

    reason: Reason
    text: str
    formula: Formula = TRUE
    counted: Term | None = None
    limit: int | None = None
    opening: Opening | None = None


class Segment(NamedTuple):
    """A threshold, the formula of its being the one in force, and that of its not being it."""

    name: str
    who: Formula
    threshold: list[Cap]
    outside: Formula


class Lookback(NamedTuple):
    """How far back a rule looks: as far as the window says, and no further than the anchor."""

    window: Window
    anchor: AnchorTerm | None = None


class Rulebook:
    """The rules of a policy as formulas. `alive` is the term that the visitor's session is going on."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.zone = load_zone(policy.timezone)
        self.retention = policy.retention.seconds
        self.alive = Term(BEING_ACTIVE, 1, Rolling(policy.session.seconds), 1)
        self.segments = self._segments()
        self._label_caps = {key: position for position, key in enumerate(policy.caps)}
        self._annoyance_at: dict[int, tuple[Rule, ...]] = {}

    def labels(self, candidate: Candidate) -> dict[str, str]:
        """The campaign's labels, overridden by the candidate's own, and `campaign` itself."""
        own = self.policy.campaign.get(candidate.campaign)
        return {**(own.labels if own else {}), **dict(candidate.labels), "campaign": candidate.campaign}

    def weight(self, labels: Mapping[str, str]) -> int:
        """The points that an impression with these labels costs."""
        annoyance = self.policy.annoyance
        return annoyance.points.get(labels.get("channel", ""), 1) if annoyance else 1

    def rules(self, candidate: Candidate) -> list[Rule]:
        """Every rule that applies to the candidate, in the order of the policy file."""
        rules = self.policy.rules(candidate.campaign)
        assert rules is not None  # noqa: S101 - callers ask `knows` first
        return [*self._clock(rules), *self._behaviour(rules), *self._limits(rules, self.labels(candidate))]

    def shared(self) -> Iterable[Rule]:
        """The rules over all campaigns: label caps and thresholds; segments are apart."""
        for key in self.policy.caps:
            yield from self._label_cap(key)
        yield from self.annoyance(1)

    def defaults(self) -> Iterable[Rule]:
        """The rules of campaigns that the policy does not name."""
        rules = self.policy.rules("{campaign}") if self.policy.defaults is not None else None
        if rules is not None:
            yield from [*self._behaviour(rules), *self._limits(rules, {})]

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

    def _limits(self, rules: Campaign, labels: Mapping[str, str]) -> Iterable[Rule]:
        """The campaign's caps and gap, the caps on its labels, and the threshold."""
        if not rules.obeys:
            return
        own = on_subject(IMPRESSION, "{campaign}")
        for cap in rules.caps:
            yield from self._cap(cap, own, rules)
        if rules.gap is not None:
            term = Term(own, 1, Rolling(rules.gap.seconds), 1)
            yield Rule("gap", f"gap {rules.gap.text}", negated(self._reached(term)), term, 1)
        keys = {key for kind, value in labels.items() for key in (kind, f"{kind}:{value}") if key in self._label_caps}
        for key in sorted(keys, key=self._label_caps.__getitem__):
            yield from self._label_cap(key)
        yield from self.annoyance(self.weight(labels))

    def _label_cap(self, key: str) -> Iterable[Rule]:
        """The caps on a kind of labels, or on one label. They belong to no campaign, so a flight is as `lifetime`."""
        kind, _, value = key.partition(":")
        label = key if value and "{" not in value else f"{kind}:{{{kind}}}"
        for cap in self.policy.caps[key]:
            yield from self._cap(cap, capped_by(label), _NO_RULES, prefix=f"{key}: ")

    def _cap(self, cap: Cap, topic: Topic, rules: Campaign, prefix: str = "") -> Iterable[Rule]:
        window, anchor = self._lookback(cap.window, rules)
        term = Term(topic, cap.limit, window, cap.limit, anchor)
        yield Rule("cap", prefix + cap.text, negated(self._reached(term)), term, cap.limit)
        if cap.spacing:
            spaced = Term(topic, 1, Rolling(cap.spacing), 1)
            yield Rule("gap", f"{prefix}{cap.text}, spread", negated(self._reached(spaced)), spaced, 1)

    def annoyance(self, weight: int) -> tuple[Rule, ...]:
        """Each segment's threshold: it is not reached, or the visitor is not in that segment (or in an earlier one)."""
        known = self._annoyance_at.get(weight)
        if known is None:
            known = self._annoyance_at[weight] = tuple(self._annoyance(weight))
        return known

    def _annoyance(self, weight: int) -> Iterable[Rule]:
        for name, _, threshold, outside in self.segments:
            for cap in threshold:
                term = self.used_up(cap)._replace(n=cap.limit - weight + 1)
                formula = any_of([negated(self._reached(term)), outside])
                yield Rule("annoyance", f"{name}: {cap.text}", formula, term, cap.limit)
                if cap.spacing:
                    spaced = Term(THRESHOLD, 1, Rolling(cap.spacing), 1)
                    formula = any_of([negated(self._reached(spaced)), outside])
                    yield Rule("annoyance", f"{name}: {cap.text}, spread", formula, spaced, 1)

    def _segments(self) -> list[Segment]:
        """The thresholds in the order in which they are tried; the general one last."""
        annoyance = self.policy.annoyance
        if annoyance is None:
            return []
        whos = [
            all_of(any_of(self._reached(self._term(c, _NO_RULES)) for c in clause) for clause in segment.who)
            for segment in annoyance.segment.values()
        ]
        *outside, anywhere = outsides(whos)
        segments: list[Segment] = []
        earlier: Formula = TRUE
        for (name, segment), who, apart in zip(annoyance.segment.items(), whos, outside, strict=True):
            segments.append(Segment(f"segment {name}", all_of([earlier, who]), segment.threshold, apart))
            earlier = all_of([earlier, negated(who)])
        return [*segments, Segment("annoyance", earlier, annoyance.threshold, anywhere)]

    def used_up(self, cap: Cap) -> Term:
        """The term that a threshold is used up; its window says which points count."""
        window, anchor = self._lookback(cap.window, _NO_RULES)
        return Term(THRESHOLD, cap.limit, window, cap.limit, anchor)

    def _term(self, condition: Condition, rules: Campaign) -> Term:
        window, anchor = self._lookback(condition.window or Span("lifetime"), rules)
        return Term(self._topic(condition.event, condition.subject), condition.count, window, condition.count, anchor)

    def _topic(self, event: str, subject: str | None) -> Topic:
        """What a condition asks about: a label where its subject is written as one, and no campaign has that id."""
        if subject is None or not is_label(subject) or subject in self.policy.campaign:
            return on_subject(event, subject)
        return under_label(event, subject)

    def provided(self, term: Term) -> Formula:
        """What must hold for anything to count towards the term: within a session, that it is going on."""
        return literal(self.alive) if term.anchor == SESSION_START else TRUE

    def _reached(self, term: Term) -> Formula:
        """The formula of a term being true. What costs more than a whole limit is too much in any session."""
        return literal(term) if term.n < 1 else all_of([literal(term), self.provided(term)])

    def _lookback(self, span: Span, rules: Campaign) -> Lookback:
        match span.period:
            case "rolling":
                return Lookback(Rolling(span.seconds))
            case "session":
                return Lookback(Rolling(SESSION_AT_MOST), SESSION_START)
            case "since" if span.event is not None:
                strictly_after = AnchorTerm(self._topic(span.event, span.subject), n=1, after=1)
                return Lookback(Rolling(self.retention), strictly_after)
            case "flight" if rules.start is not None:
                seconds = self.retention
                if rules.end is not None:  # two days to spare: the flight may begin and end in different zones
                    flight = end_instant(rules.end, self.zone) - instant(rules.start, self.zone)
                    seconds = min(seconds, flight + 2 * 86_400)
                return Lookback(Flight(rules.start, seconds))
            case "hour" | "day" | "week" | "month":
                return Lookback(Calendar(span.period, sunday_first=self.policy.week_start == "sunday"))
            case _:
                return Lookback(Rolling(self.retention))


_NO_RULES = Campaign()
