"""What a replay tells: figures of the impressions of a log and of what became of them, and how they are added up.

Rules:
- `impressions` = `served` + `suppressed` + `repeated`, for each campaign and for all.
- Money is added up in whole billionths, so the sum does not depend on the order.
- Everything in it can be written as JSON, with `to_dict()`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, TypeAlias

from retarget.engine import Reason, Verdict
from retarget.logs import UNIT, Kind
from retarget.timelines import IMPRESSION

Denial: TypeAlias = tuple[Reason, str]
"""Why an impression was suppressed: the kind of the rule, and the rule as written."""

Denials: TypeAlias = dict[int, Denial]
"""Which of a visitor's rows are suppressed, by their place, and why."""


def denial(said: Verdict) -> Denial:
    """What a verdict that forbids says of it."""
    assert not said  # noqa: S101 - it was denied
    return said.reason, said.rule or said.reason


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the impressions of a campaign, or of all. `impressions` = `served` + `suppressed` + `repeated`."""

    impressions: int
    served: int
    suppressed: int
    repeated: int
    """Those whose id was there before: the same impression once more. It costs nothing."""
    cost: float
    """What the impressions of the log cost: as the row says, or else the policy's campaign."""
    cost_saved: float
    """What the suppressed ones of them cost."""
    clicks: int
    clicks_on_suppressed: int
    """Clicks on impressions that would not have been there: the policy's risk."""
    conversions: int
    conversions_on_suppressed: int
    value: float
    """What the conversions were worth."""
    value_on_suppressed: float
    rules: Mapping[Denial, int] = field(repr=False)
    """How many impressions each rule suppressed: by its kind, and by its text. Most first."""

    @property
    def suppressed_by(self) -> dict[str, int]:
        """How many impressions each rule suppressed, by its text; of several, the one that lets go last."""
        by_text: Counter[str] = Counter()
        for (_, rule), n in self.rules.items():
            by_text[rule] += n
        return dict(by_text.most_common())

    def to_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rules"}
        return {**plain, "suppressed_by": self.suppressed_by}


@dataclass(frozen=True, slots=True)
class Frequency:
    """How many impressions visitors got: `histogram[n]` visitors got n, for n of 1 and more."""

    histogram: Mapping[int, int]

    @property
    def visitors(self) -> int:
        """How many visitors got any."""
        return sum(self.histogram.values())

    @property
    def mean(self) -> float:
        """Impressions for each visitor who got any; 0 without visitors."""
        return sum(n * visitors for n, visitors in self.histogram.items()) / max(1, self.visitors)

    @property
    def max(self) -> int:
        """The most that any visitor got."""
        return max(self.histogram, default=0)

    @property
    def p99(self) -> int:
        """What at least 99 of 100 visitors did not exceed."""
        more = self.visitors // 100
        for n in sorted(self.histogram, reverse=True):
            more -= self.histogram[n]
            if more < 0:
                return n
        return 0

    def to_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        histogram = {str(n): self.histogram[n] for n in sorted(self.histogram)}
        return {"mean": self.mean, "p99": self.p99, "max": self.max, "histogram": histogram}


@dataclass(frozen=True, slots=True)
class Replay:
    """What a policy would have made of a log."""

    total: Figures
    """All campaigns together; its main figures are here under the same names, too."""
    campaigns: Mapping[str, Figures]
    """Each campaign's figures, those of most impressions first."""
    visitors: int
    """Known visitors with an impression in the log."""
    reached: int
    """Those of them with one that was served."""
    unknown_visitors: int
    """Impressions without a visitor: served or suppressed as the policy's `on_unknown_visitor` says."""
    dropped: int
    """Other events for which there was no room: that visitor's timelines were full."""
    events: int
    """Rows of the log."""
    first: datetime | None
    """The time of the first row; None for a log without rows."""
    last: datetime | None
    frequency_before: Frequency
    frequency_after: Frequency
    unknown_campaigns: tuple[str, ...]
    """The campaigns that the policy does not name."""
    defaults: bool
    """Whether the policy has [defaults], which are what those campaigns got. If not, only what concerns everyone
    ([annoyance], [caps] on labels) held for them."""
    seconds: float
    """How long the replay took, the reading of the log left out."""
    prefix: str | None = None
    """With `keep`: what the keys that are left in the store begin with."""

    @property
    def impressions(self) -> int:
        """Impressions in the log."""
        return self.total.impressions

    @property
    def served(self) -> int:
        """Those that the policy lets be shown."""
        return self.total.served

    @property
    def suppressed(self) -> int:
        """Those that it does not."""
        return self.total.suppressed

    @property
    def suppressed_by(self) -> dict[str, int]:
        """How many impressions each rule suppressed, by its text; of several, the one that lets go last."""
        return self.total.suppressed_by

    @property
    def repeated(self) -> int:
        """Impressions whose id was there before."""
        return self.total.repeated

    @property
    def cost_saved(self) -> float:
        """What the suppressed impressions cost."""
        return self.total.cost_saved

    @property
    def clicks_on_suppressed(self) -> int:
        """Clicks on impressions that would not have been there."""
        return self.total.clicks_on_suppressed

    @property
    def per_second(self) -> float:
        """Rows replayed in a second."""
        return self.events / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: what `retarget replay --json` writes."""
        held = "[defaults]" if self.defaults else "only [annoyance] and [caps]"
        return {
            **self.total.to_dict(),
            "visitors": self.visitors,
            "reached": self.reached,
            "unknown_visitors": self.unknown_visitors,
            "dropped": self.dropped,
            "events": self.events,
            "first": self.first.isoformat() if self.first else None,
            "last": self.last.isoformat() if self.last else None,
            "frequency_before": self.frequency_before.to_dict(),
            "frequency_after": self.frequency_after.to_dict(),
            "unknown_campaigns": {"campaigns": list(self.unknown_campaigns), "held": held},
            "campaigns": {id_: figures.to_dict() for id_, figures in self.campaigns.items()},
            "seconds": self.seconds,
            "events_per_second": self.per_second,
        }


@dataclass(slots=True)
class Tally:
    """`Figures` in the making; money in whole units. What the log holds and what is suppressed are added up apart."""

    impressions: int = 0
    repeated: int = 0
    suppressed: int = 0
    cost: int = 0
    saved: int = 0
    clicks: int = 0
    clicks_lost: int = 0
    conversions: int = 0
    conversions_lost: int = 0
    value: int = 0
    value_lost: int = 0
    rules: Counter[Denial] = field(default_factory=Counter)

    def hold(self, kind: Kind) -> None:
        """Add what the log holds of a kind."""
        impression, (click, conversion) = kind.event == IMPRESSION, kind.reactions()
        if impression:
            self.impressions += kind.rows
        if kind.repeated:
            self.repeated += kind.rows * impression
            return
        self.cost += (kind.cost if kind.priced else kind.price * kind.rows) * impression
        self.clicks += kind.rows * click
        self.conversions += kind.rows * conversion
        self.value += kind.value * conversion

    def add(self, other: Tally) -> None:
        for name in self.__slots__[:-1]:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.rules.update(other.rules)

    def figures(self) -> Figures:
        return Figures(
            impressions=self.impressions,
            served=self.impressions - self.suppressed - self.repeated,
            suppressed=self.suppressed,
            repeated=self.repeated,
            cost=self.cost / UNIT,
            cost_saved=self.saved / UNIT,
            clicks=self.clicks,
            clicks_on_suppressed=self.clicks_lost,
            conversions=self.conversions,
            conversions_on_suppressed=self.conversions_lost,
            value=self.value / UNIT,
            value_on_suppressed=self.value_lost / UNIT,
            rules=dict(sorted(self.rules.items(), key=lambda item: (-item[1], item[0]))),
        )


@dataclass(slots=True)
class Losses:
    """What a policy takes from some visitors."""

    tallies: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """By campaign."""
    visitors: Counter[tuple[int, int]] = field(default_factory=Counter)
    """How many visitors with so many impressions get so many of them, where that is fewer."""
    dropped: int = 0

    def add(self, other: Losses) -> None:
        for campaign, tally in other.tallies.items():
            self.tallies[campaign].add(tally)
        self.visitors.update(other.visitors)
        self.dropped += other.dropped


@dataclass(slots=True)
class Followed:
    """One visitor: told her rows in order, with what became of each, it adds up what the policy takes from her.

    Which impression was clicked, a click's own row does not say; it may have been an earlier one that was served. So it
    is at risk if the campaign's last impression was suppressed.
    """

    losses: Losses
    impressions: int = 0
    suppressed: int = 0
    hidden: set[str | None] = field(default_factory=set)
    """The campaigns whose last impression was suppressed."""

    def row(self, kind: Kind, why: Denial | None, cost: float, value: float) -> None:
        """`why` it was suppressed, if it was; what it cost and was worth, if the log says that."""
        campaign = kind.campaign
        if kind.event != IMPRESSION:
            if campaign not in self.hidden:
                return
        else:
            self.impressions += 1
            if why is None:
                self.hidden.discard(campaign)
                return
            self.suppressed += 1
            self.hidden.add(campaign)
        tally = self.losses.tallies[str(campaign)]
        if why is not None:
            tally.suppressed += 1
            tally.saved += round(cost * UNIT) if kind.priced else kind.price
            tally.rules[why] += 1
        click, conversion = kind.reactions()
        tally.clicks_lost += click
        tally.conversions_lost += conversion
        tally.value_lost += round(value * UNIT) * conversion

    def leave(self) -> None:
        """Her last row has been told."""
        if self.suppressed:
            self.losses.visitors[self.impressions, self.impressions - self.suppressed] += 1
