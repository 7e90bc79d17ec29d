"""The figures of a replay: what became of a log's impressions, and how that is added up.

Rules:
- `impressions` = `served` + `suppressed` + `repeated`, per campaign and in total.
- Money is summed in whole billionths, so a sum does not depend on the order.
- All of it can be written as JSON, with `to_dict()`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, TypeAlias

from retarget.engine import Reason, Verdict
from retarget.logs import UNIT, Kind
from retarget.replay.full import Fullness, FullTally
from retarget.timelines import IMPRESSION

Denial: TypeAlias = tuple[Reason, str]
"""Why an impression was suppressed: the verdict's reason, and the rule as written."""

Denials: TypeAlias = dict[int, Denial]
"""Which of a visitor's rows are suppressed, by position, and why."""


def denial(verdict: Verdict) -> Denial:
    """Why this verdict denies; it must not be an eligible one."""
    assert not verdict  # noqa: S101 - it was denied
    if verdict.reason == "full":  # the rule that a full visitor's verdict names suppressed nothing by itself
        return "full", "full"
    return verdict.reason, verdict.rule or verdict.reason


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of a campaign's impressions, or of all. `impressions` = `served` + `suppressed` + `repeated`."""

    impressions: int
    served: int
    suppressed: int
    repeated: int
    """Impressions whose id was seen before: duplicates, which cost nothing."""
    cost: float
    """What the log's impressions cost: the row's cost, or else the campaign's in the policy."""
    cost_saved: float
    """What the suppressed impressions cost."""
    clicks: int
    clicks_on_suppressed: int
    """Clicks on impressions that the policy suppresses: its risk."""
    conversions: int
    conversions_on_suppressed: int
    value: float
    """Of the conversions."""
    value_on_suppressed: float
    rules: Mapping[Denial, int] = field(repr=False)
    """How many impressions each rule suppressed, by reason and text, largest first."""

    @property
    def suppressed_by(self) -> dict[str, int]:
        """How many impressions each rule suppressed, by text; of several, the one that expires last is counted."""
        by_text: Counter[str] = Counter()
        for (_, rule), n in self.rules.items():
            by_text[rule] += n
        return dict(by_text.most_common())

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rules"}
        return {**plain, "suppressed_by": self.suppressed_by}


@dataclass(frozen=True, slots=True)
class Frequency:
    """Impressions per visitor: `histogram[n]` visitors got n, for n of 1 or more."""

    histogram: Mapping[int, int]

    @property
    def visitors(self) -> int:
        """Visitors with at least one impression."""
        return sum(self.histogram.values())

    @property
    def mean(self) -> float:
        """Average frequency: impressions per visitor reached; 0 without visitors."""
        return sum(n * visitors for n, visitors in self.histogram.items()) / max(1, self.visitors)

    @property
    def max(self) -> int:
        """The most impressions of any visitor."""
        return max(self.histogram, default=0)

    @property
    def p99(self) -> int:
        """The 99th percentile: at least 99 of 100 visitors got at most this many."""
        more = self.visitors // 100
        for n in sorted(self.histogram, reverse=True):
            more -= self.histogram[n]
            if more < 0:
                return n
        return 0

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        histogram = {str(n): self.histogram[n] for n in sorted(self.histogram)}
        return {"mean": self.mean, "p99": self.p99, "max": self.max, "histogram": histogram}


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of replaying a log under a policy."""

    total: Figures
    """All campaigns together; its main figures are also properties of the replay."""
    campaigns: Mapping[str, Figures]
    """Figures by campaign, most impressions first."""
    visitors: int
    """Known visitors with an impression in the log."""
    reached: int
    """Visitors with an impression that was served."""
    unknown_visitors: int
    """Impressions without a visitor: served or suppressed by the policy's `on_unknown_visitor`."""
    dropped: int
    """Other events that were not recorded because their visitor was full."""
    full: Fullness
    """The visitors who became full, and the rules that make their timelines."""
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
    """Whether the policy has [defaults], which applied to those campaigns. If not, only the rules for everyone did:
    [annoyance], and [caps] on labels."""
    seconds: float
    """How long the replay took, without reading the log."""
    prefix: str | None = None
    """With `keep`: the prefix of the keys left in the store."""

    @property
    def impressions(self) -> int:
        """Impressions in the log."""
        return self.total.impressions

    @property
    def served(self) -> int:
        """Impressions that the policy allows."""
        return self.total.served

    @property
    def suppressed(self) -> int:
        """Impressions that it forbids."""
        return self.total.suppressed

    @property
    def suppressed_by(self) -> dict[str, int]:
        """How many impressions each rule suppressed, by text; of several, the one that expires last is counted."""
        return self.total.suppressed_by

    @property
    def repeated(self) -> int:
        """Impressions whose id was seen before."""
        return self.total.repeated

    @property
    def cost_saved(self) -> float:
        """What the suppressed impressions cost."""
        return self.total.cost_saved

    @property
    def clicks_on_suppressed(self) -> int:
        """Clicks on impressions that the policy suppresses."""
        return self.total.clicks_on_suppressed

    @property
    def per_second(self) -> float:
        """Rows replayed per second."""
        return self.events / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values: what `retarget replay --json` writes."""
        held = "[defaults]" if self.defaults else "only [annoyance] and [caps]"
        return {
            **self.total.to_dict(),
            "visitors": self.visitors,
            "reached": self.reached,
            "unknown_visitors": self.unknown_visitors,
            "dropped": self.dropped,
            "full": self.full.to_dict(),
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
    """Sums for `Figures`; money in whole units (`UNIT` in 1). What the log has and what is suppressed are separate."""

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

    def add_kind(self, kind: Kind) -> None:
        """Add what the log has of a kind."""
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
    """What a policy suppresses for some visitors, and what is lost with it."""

    tallies: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """By campaign."""
    visitors: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(impressions in the log, impressions served) -> visitors, for visitors who lose any."""
    dropped: int = 0
    full: FullTally = field(default_factory=FullTally)

    def add(self, other: Losses) -> None:
        for campaign, tally in other.tallies.items():
            self.tallies[campaign].add(tally)
        self.visitors.update(other.visitors)
        self.dropped += other.dropped
        self.full.add(other.full)


@dataclass(slots=True)
class VisitorLosses:
    """Adds one visitor's losses to `losses`, from their rows in time order.

    A click's own row does not say which impression was clicked; it may be an earlier one that was served. So the click
    is at risk if the campaign's last impression was suppressed.
    """

    losses: Losses
    impressions: int = 0
    suppressed: int = 0
    hidden: set[str | None] = field(default_factory=set)
    """The campaigns whose last impression was suppressed."""

    def add(self, kind: Kind, why: Denial | None, cost: float, value: float) -> None:
        """Add a row: `why` it was suppressed, None if it was not; its cost and value, 0 where the log has none."""
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

    def finish(self) -> None:
        """Add the visitor after their last row."""
        if self.suppressed:
            self.losses.visitors[self.impressions, self.impressions - self.suppressed] += 1
