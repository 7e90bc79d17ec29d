"""What happened to a visitor, and what they may be shown: two plain values.

Rules:
- An event has a name, often a subject, and a time.
- A candidate is a campaign with labels of this one opportunity (an item, a slot); a campaign id stands for one without.
- Both are compared by value, and can be pickled and copied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TypeAlias
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True, init=False)
class Candidate:
    """A campaign that may be shown, with labels of this opportunity.

    `Candidate("shop", item="sku-1")` fills `{item}` in the campaign's rules and counts under the label `item`. A label
    given here overrides the campaign's own label of that name.
    """

    campaign: str
    labels: tuple[tuple[str, str], ...]

    def __init__(self, campaign: str, **labels: str) -> None:
        object.__setattr__(self, "campaign", campaign)
        object.__setattr__(self, "labels", tuple(sorted(labels.items())))

    def __str__(self) -> str:
        return " ".join([self.campaign, *(f"{kind}={value}" for kind, value in self.labels)])


Subject: TypeAlias = str | Candidate
When: TypeAlias = datetime | float
Zone: TypeAlias = str | int | ZoneInfo | timezone
"""A time zone: an IANA name, "+02:00", minutes east of UTC, a ZoneInfo or a fixed `datetime.timezone`."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: `record_many` takes these.

    `at` is an aware datetime or epoch seconds (None: the retargeter's clock); `id` makes a repeat harmless.
    """

    visitor: str | None = field(repr=False)
    event: str
    subject: Subject | None = None
    at: When | None = None
    id: str | None = None
