"""Places: the timelines that an event enters, and what the rules of a policy ask of each.

Rules:
- A timeline keeps what the most demanding rule asks of it, and at least `MIN_KEEP` entries.
- A template such as `product/{item}` asks about every subject that fits it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from retarget.timelines import MIN_KEEP


@dataclass(slots=True)
class Asked:
    """What rules ask of one timeline: entries to keep, seconds they matter, whether a blocking rule asks (a shield)."""

    keep: int = MIN_KEEP
    horizon: int = 0
    shield: bool = False

    def add(self, keep: int, horizon: int, *, shield: bool) -> None:
        self.keep, self.horizon = max(self.keep, keep), max(self.horizon, horizon)
        self.shield = self.shield or shield


class Place(NamedTuple):
    """A timeline an event enters: how many times, how many entries it keeps, its head, how many seconds they matter."""

    field: bytes
    weight: int
    keep: int
    head: int
    horizon: int


@dataclass(slots=True)
class Patterns:
    """The templates that rules ask about, by event name."""

    by_event: dict[str, dict[str, tuple[re.Pattern[str], Asked]]] = field(default_factory=dict)

    def asked(self, event: str, template: str) -> Asked:
        patterns = self.by_event.setdefault(event, {})
        if template not in patterns:
            literal = re.split(r"\{[^{}]*\}", template)
            patterns[template] = (re.compile("(.+)".join(map(re.escape, literal)), re.DOTALL), Asked())
        return patterns[template][1]

    def matching(self, event: str, subject: str, kind: str, *, known: bool) -> Iterable[Asked]:
        """What the templates that fit this subject ask of its timeline.

        A label's subject only fits a template that starts with its kind. Where the policy names the campaign (`known`),
        `{campaign}` has been filled in already.
        """
        for template, (pattern, asked) in self.by_event.get(event, {}).items():
            if template.startswith(kind) and not (known and "{campaign}" in template) and pattern.fullmatch(subject):
                yield asked
