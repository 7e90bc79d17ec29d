"""Visitors who became full: how many, and which rules make their timelines.

Rules:
- A visitor is full when rules that block ask about `MOST_TIMELINES` of their timelines: nothing more can be counted.
- Each such timeline is counted under one rule: of those that ask about it, the one that needs it longest.
- A rule is known by its text, as in a verdict: a cap that a thousand campaigns share is one rule.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from retarget.engine import Plan, Reason, Rule, Topic
from retarget.events import Candidate
from retarget.timelines import IMPRESSION, State, timeline

_ANY = "\0"
"""Stands for any campaign, and for any value of a label; no text has it."""


class FullRule(NamedTuple):
    """A rule that gives a visitor a timeline for each campaign, or each value of a label, that they meet."""

    reason: Reason
    rule: str
    """The rule as written."""
    timeline: str
    """What its timelines count, as a policy writes it: `impression {campaign}`."""


@dataclass(frozen=True, slots=True)
class Fullness:
    """The visitors who became full, and the rules that made their timelines."""

    visitors: int
    """Visitors for whom something could not be counted at least once."""
    rules: Mapping[FullRule, float]
    """The timelines of such a visitor when they became full, on average: by rule, most first."""

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "visitors": self.visitors,
            "rules": [{**rule._asdict(), "timelines": timelines} for rule, timelines in self.rules.items()],
        }


@dataclass(slots=True)
class FullTally:
    """Sums for `Fullness`."""

    visitors: int = 0
    timelines: Counter[FullRule] = field(default_factory=Counter)

    def add(self, other: FullTally) -> None:
        self.visitors += other.visitors
        self.timelines.update(other.timelines)

    def figures(self) -> Fullness:
        in_order = sorted(self.timelines.items(), key=lambda item: (-item[1], item[0]))
        return Fullness(self.visitors, {rule: round(count / self.visitors, 1) for rule, count in in_order})


class FullRules:
    """Finds the rules behind a visitor's timelines. `labels` are the names of the labels that a rule can ask about."""

    def __init__(self, plan: Plan, labels: tuple[str, ...]) -> None:
        self._plan = plan
        self._labels = dict.fromkeys(labels, _ANY)
        self._found: dict[bytes, FullRule | None] = {}

    def count(self, state: State, now: int) -> Counter[FullRule]:
        """The timelines that leave no room at `now`, by rule."""
        counted = Counter[FullRule]()
        for name, raw in state.items():
            if not name.startswith(b"#") and timeline.is_shield(raw) and timeline.is_live(raw, now):
                if name not in self._found:
                    self._found[name] = self._rule(name)
                if (rule := self._found[name]) is not None:
                    counted[rule] += 1
        return counted

    def _rule(self, name: bytes) -> FullRule | None:
        """The rule that needs this timeline longest."""
        exact, patterns = self._asked
        if name in exact:
            return exact[name].rule
        # The most literal template first: `impression creative:{creative}` before `impression {campaign}`.
        fitting = [asked for pattern, asked in patterns.items() if pattern.fullmatch(name)]
        return max(fitting, key=lambda asked: (asked.literal, asked.horizon)).rule if fitting else None

    @cached_property
    def _asked(self) -> tuple[dict[bytes, _Asked], dict[re.Pattern[bytes], _Asked]]:
        """The rules that block by the timelines they ask about, and by the patterns of such."""
        exact: dict[bytes, _Asked] = {}
        patterns: dict[re.Pattern[bytes], _Asked] = {}
        for name, asked in self._all_asked():
            if _ANY.encode() not in name:
                exact[name] = max(exact.get(name, asked), asked, key=lambda one: one.horizon)
            else:
                pattern = re.compile(b".+".join(map(re.escape, name.split(_ANY.encode()))), re.DOTALL)
                patterns[pattern] = max(patterns.get(pattern, asked), asked, key=lambda one: one.horizon)
        return exact, patterns

    def _all_asked(self) -> Iterator[tuple[bytes, _Asked]]:
        valued = (key.split(":", 1) for key in self._plan.policy.caps if ":" in key)
        of_one_value = [Candidate(_ANY, **{**self._labels, kind: value}) for kind, value in valued]
        named = [Candidate(id_, **self._labels) for id_ in self._plan.policy.campaign]
        for candidate in (Candidate(_ANY, **self._labels), *of_one_value, *named):
            labels = self._plan.labels(candidate)
            for rule in self._plan.rules(candidate):
                for topic, horizon in self._topics(rule):
                    name = topic.about(labels)
                    if name is not None:
                        yield name, _Asked(FullRule(rule.reason, rule.text, _written(topic)), len(name), horizon)

    def _topics(self, rule: Rule) -> Iterator[tuple[Topic, int]]:
        """What a rule that blocks counts, and where its windows begin, each with how many seconds it matters."""
        for term in (term for clause in rule.formula for term, wanted in clause if not wanted):
            yield term.topic, term.window.horizon
            if term.anchor is not None:
                yield term.anchor.topic, self._plan.retention


def _written(topic: Topic) -> str:
    """The topic as a policy writes it."""
    if topic.subject is None:
        return timeline.readable(topic.field)
    return f"{topic.begins[1:].strip() or IMPRESSION} {topic.subject}"


class _Asked(NamedTuple):
    """A rule that asks about a timeline: how much of the timeline's name is literal, how many seconds it matters."""

    rule: FullRule
    literal: int
    horizon: int
