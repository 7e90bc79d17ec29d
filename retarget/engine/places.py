"""Places: the timelines that an event enters, and what the rules of a policy ask of each.

Rules:
- A timeline keeps what the most demanding rule asks of it, and at least `MIN_KEEP` entries.
- A template such as `product/{item}` asks about every subject that fits it, whoever that is.
- Only timelines that a rule asks about are entered.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from retarget.engine.rules import Rulebook
from retarget.engine.terms import THRESHOLD, Formula, Topic, capped_by, is_label, on_subject, topic_of, under_label
from retarget.events import Candidate, Subject
from retarget.policy import labels_in
from retarget.timelines import ACTIVITY, IMPRESSION, MIN_KEEP, SESSION_AT_MOST, timeline

_CAMPAIGN = "{campaign}"
"""Stands for every campaign that the policy does not name."""

_ANYONE = "{any campaign}"
"""Stands for every campaign: a cap on labels that come with the candidate is not among the campaign's own rules.

No label has this name.
"""

_MOST_KEPT = 0xFFFE


@dataclass(slots=True)
class Asked:
    """What rules ask of one timeline: entries to keep, seconds they matter, whether a blocking rule asks (a shield).

    `rule` is the text of the blocking rule that looks back furthest, by `reach` seconds.
    """

    keep: int = MIN_KEEP
    horizon: int = 0
    shield: bool = False
    rule: str | None = None
    reach: int = 0

    def add(self, keep: int, horizon: int, *, shield: bool, rule: str | None = None) -> None:
        self.keep, self.horizon = max(self.keep, keep), max(self.horizon, horizon)
        self.shield = self.shield or shield
        if shield and horizon > self.reach:
            self.rule, self.reach = rule, horizon


class Place(NamedTuple):
    """A timeline an event enters: how many times, how many entries it keeps, its head, how many seconds they matter."""

    field: bytes
    weight: int
    keep: int
    head: int
    horizon: int


class Template(NamedTuple):
    """A template that rules ask about. `only_campaign`: it has no label but `{campaign}`."""

    pattern: re.Pattern[str]
    only_campaign: bool
    asked: Asked


@dataclass(slots=True)
class Patterns:
    """The templates that rules ask about, by how names of their kind begin, and by their own first and last letters."""

    by_kind: dict[str, dict[str, Template]] = field(default_factory=dict)
    _by_ends: dict[str, dict[tuple[int, int], dict[tuple[str, str], list[Template]]]] = field(default_factory=dict)

    def asked(self, topic: Topic) -> Asked:
        """What is asked about the template's subjects."""
        text = topic.subject or ""
        templates = self.by_kind.setdefault(topic.begins, {})
        known = templates.get(text)
        if known is None:
            known = templates[text] = Template(_pattern(text), {*labels_in(text)} == {"campaign"}, Asked())
            first, last = text.partition("{")[0], text.rpartition("}")[2]
            by_length = self._by_ends.setdefault(topic.begins, {}).setdefault((len(first), len(last)), {})
            by_length.setdefault((first, last), []).append(known)
        return known.asked

    def matching(self, topic: Topic, campaigns: Container[str]) -> Iterator[Asked]:
        """What the templates that fit this subject ask of its timeline.

        A template of a campaign alone was filled in already where the policy names the campaign.
        """
        subject = topic.subject or ""
        for (first, last), templates in self._by_ends.get(topic.begins, {}).items():
            for pattern, only_campaign, asked in templates.get((subject[:first], subject[len(subject) - last :]), ()):
                fits = pattern.fullmatch(subject)
                if fits is not None and not (only_campaign and fits["campaign"] in campaigns):
                    yield asked


def _pattern(template: str) -> re.Pattern[str]:
    """What fits a template; a label that stands in it twice is the same both times."""
    parts, groups = [], dict[str, str]()
    for number, part in enumerate(re.split(r"\{([^{}]*)\}", template)):
        if number % 2 == 0:
            parts.append(re.escape(part))
        elif part in groups:
            parts.append(f"(?P={groups[part]})")
        else:
            groups[part] = "campaign" if part == "campaign" else f"g{number}"
            parts.append(f"(?P<{groups[part]}>.+)")
    return re.compile("".join(parts), re.DOTALL)


class Places:
    """The timelines that a policy's rules ask about."""

    def __init__(self, book: Rulebook) -> None:
        self._book = book
        self._asked: dict[bytes, Asked] = {}
        self._patterns = Patterns()
        for rule in book.defaults():
            self.ask(rule.formula, rule.text)
        for rule in book.shared():
            self.ask(rule.formula, rule.text, _ANYONE)
        for segment in book.segments:
            self.ask(segment.who, segment.name, _ANYONE)

    # -- what rules ask ---------------------------------------------------------------------------------------------

    def ask(self, formula: Formula, rule: str, campaign: str = _CAMPAIGN) -> None:
        """Note what this rule of this campaign asks about; without a campaign, of all that the policy does not name."""
        for clause in formula:
            for term, wanted in clause:
                asked = self._at(term.topic, campaign)
                asked.add(term.keep, term.window.horizon, shield=not wanted, rule=rule)
                if term.anchor is not None:
                    asked = self._at(term.anchor.topic, campaign)
                    asked.add(MIN_KEEP, self._book.retention, shield=not wanted, rule=rule)

    def _at(self, topic: Topic, campaign: str) -> Asked:
        subject = topic.subject and topic.subject.replace(_CAMPAIGN, campaign)
        if subject is not None and "{" in subject:
            return self._patterns.asked(Topic(topic.begins, subject))
        return self._asked.setdefault(Topic(topic.begins, subject).field, Asked())

    # -- where an event enters --------------------------------------------------------------------------------------

    def of_event(self, event: str, subject: Subject | None) -> tuple[Place, ...]:
        """The timelines that an event enters, but for the visitor's activity."""
        candidate = subject if isinstance(subject, Candidate) else Candidate(subject) if subject is not None else None
        labels = self._book.labels(candidate) if candidate else {}
        rules = self._book.policy.rules(candidate.campaign) if candidate else None
        topics = {on_subject(event): 1}
        if candidate is not None:
            named = [f"{kind}:{value}" for kind, value in labels.items() if kind != "campaign"]
            topics[on_subject(event, candidate.campaign)] = 1
            topics |= {under_label(event, label): 1 for label in (candidate.campaign, *named) if is_label(label)}
            if event == IMPRESSION and (rules is None or rules.counts):
                topics |= {capped_by(label): 1 for label in named}
        if event == IMPRESSION and (rules is None or rules.counts):
            topics[THRESHOLD] = self._book.weight(labels)
        places = (self._place(topic, weight) for topic, weight in topics.items())
        return tuple(place for place in places if place is not None)

    def of_field(self, field: bytes) -> Place | None:
        """What the policy asks of the timeline of this name; None where it asks nothing."""
        return self.of_activity() if field == ACTIVITY else self._place(topic_of(field), 1)

    def of_activity(self) -> Place | None:
        """Where the visitor's activity is kept, if a rule asks about sessions.

        As many intervals as fit into the longest session, and one to spare.
        """
        if ACTIVITY not in self._asked:
            return None
        horizon = SESSION_AT_MOST + self.pause
        keep = min(_MOST_KEPT, 2 * (SESSION_AT_MOST // self.pause + 2))
        return Place(ACTIVITY, 1, keep, timeline.head(horizon, shield=True), horizon)

    @property
    def pause(self) -> int:
        """Seconds without an event after which a session is over."""
        return self._book.alive.window.horizon

    def blocking(self, field: bytes) -> str | None:
        """The blocking rule that asks about the timeline of this name, of several the one that looks back furthest."""
        total = self._total(topic_of(field))
        return total.rule if total is not None else None

    def _place(self, topic: Topic, weight: int) -> Place | None:
        total = self._total(topic)
        if total is None:
            return None
        head = timeline.head(total.horizon, shield=total.shield)
        return Place(topic.field, weight, total.keep, head, total.horizon)

    def _total(self, topic: Topic) -> Asked | None:
        """All that is asked of the timeline about this topic; None if nothing is."""
        exact = self._asked.get(topic.field)
        fitting = self._patterns.matching(topic, self._book.policy.campaign) if topic.subject else ()
        total = Asked()
        for part in fitting if exact is None else (exact, *fitting):
            total.add(part.keep, part.reach, shield=part.shield, rule=part.rule)
            total.add(part.keep, part.horizon, shield=False)
        return total if total.horizon else None
