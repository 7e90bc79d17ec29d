"""A workload, and the distribution of visitors that it implies: their timelines and the sizes of these.

Rules:
- With a plan (a compiled policy), an impression enters the plan's timelines; without one, only its campaign's.
- A visitor is a `Shape`: lengths only. No clock, no redis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from retarget.engine import Plan
from retarget.operate.quantities import require
from retarget.operate.redis_memory import Field, Shape
from retarget.timelines import ENTRY, HEAD, IDS_KEPT, IMPRESSION, MIN_KEEP, MOST_TIMELINES, RECORD

Spread: TypeAlias = Literal["uneven", "even"]

_TAIL = 1e-6
_HASHED = len(b"p1:") + 16


@dataclass(frozen=True, slots=True)
class Workload:
    """How many visitors are remembered, and how many calls are made.

    `impressions`: remembered impressions per visitor, on average. `campaigns`: how many they are spread over.
    `visits`: other timelines per visitor. `spread`: "uneven" is a geometric distribution of impressions, so that few
    visitors have many; "even" gives each visitor the same number. `id_bytes`: length of a visitor's id, None with a
    pepper. `qps`: calls per second, of which these shares are claims and records; the rest decide over `candidates`.
    Raises InputError for a value out of range.
    """

    visitors: int
    impressions: float = 20
    campaigns: int = 4
    visits: int = 0
    spread: Spread = "uneven"
    id_bytes: int | None = 36
    campaign_bytes: int = 12
    prefix_bytes: int = 3
    event_ids: bool = False
    qps: float = 0
    share_of_claims: float = 0.05
    share_of_records: float = 0.05
    candidates: int = 10

    def __post_init__(self) -> None:
        require(self.visitors >= 1, "visitors", self.visitors, "at least 1")
        require(1 <= self.impressions <= 10_000, "impressions", self.impressions, "from 1 to 10,000")
        require(1 <= self.campaigns <= MOST_TIMELINES, "campaigns", self.campaigns, f"from 1 to {MOST_TIMELINES}")
        require(0 <= self.visits <= MOST_TIMELINES, "visits", self.visits, f"from 0 to {MOST_TIMELINES}")
        require(self.id_bytes is None or 1 <= self.id_bytes <= 510, "id_bytes", self.id_bytes, "from 1 to 510")
        require(1 <= self.campaign_bytes <= 256, "campaign_bytes", self.campaign_bytes, "from 1 to 256")
        require(self.qps >= 0, "qps", self.qps, "0 or more")
        for name in ("share_of_claims", "share_of_records"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        rest = 1 - self.share_of_claims
        require(self.share_of_records <= rest, "share_of_records", self.share_of_records, f"at most {rest:g}")

    @property
    def share_of_decisions(self) -> float:
        """The share of calls that neither claim nor record."""
        return 1 - self.share_of_claims - self.share_of_records


class _Kept(NamedTuple):
    """A timeline that an impression enters: bytes of its name, entries per impression, how many are kept, for how long
    (seconds).
    """

    name: int
    weight: int
    keep: int
    horizon: int


def shapes(workload: Workload, plan: Plan | None = None) -> list[tuple[float, Shape]]:
    """The visitors as the server stores them: each distinct shape with its share of all visitors."""
    entered = places(workload, plan)
    others = tuple(_others(workload, plan))
    name = _HASHED if workload.id_bytes is None else 1 + workload.id_bytes
    key = workload.prefix_bytes + 1 + name
    found: dict[Shape, float] = {}
    for share, impressions in _numbers(workload):
        ids = min(IDS_KEPT, impressions) if workload.event_ids else 0
        halves = (min(ids, IDS_KEPT // 2), ids - min(ids, IDS_KEPT // 2))
        remembered = tuple(Field(2, RECORD * half) for half in halves if half)
        shape = Shape(key, (*_timelines(entered, impressions), *others, *remembered))
        found[shape] = found.get(shape, 0) + share
    return [(share, shape) for shape, share in found.items()]


def _numbers(workload: Workload) -> Iterator[tuple[float, int]]:
    """The distribution of impressions per visitor, at least one: (share of visitors, number)."""
    mean = workload.impressions
    if workload.spread == "even":
        whole = math.floor(mean)
        yield whole + 1 - mean, whole
        if mean > whole:
            yield mean - whole, whole + 1
        return
    # In steps of a fortieth of the mean: finer steps change no visible digit.
    step = max(1, round(mean / 40))
    stays = (1 - 1 / mean) ** step
    left, number = 1.0, (step + 1) // 2
    while left * stays > _TAIL:
        yield left * (1 - stays), number
        left, number = left * stays, number + step
    yield left, number


def places(workload: Workload, plan: Plan | None) -> list[list[tuple[object, _Kept]]]:
    """For each campaign that a visitor is shown, the timelines that its impressions enter."""
    numbers = range(workload.campaigns)
    if plan is None:
        return [[(number, _Kept(1 + workload.campaign_bytes, 1, MIN_KEEP, 1))] for number in numbers]
    known = list(plan.policy.campaign)
    step = max(1, len(known) // workload.campaigns)
    names = [*known[::step][: workload.campaigns]]
    if len(names) < workload.campaigns and plan.policy.defaults is not None:
        names += [f"{number:0{workload.campaign_bytes}}" for number in range(workload.campaigns - len(names))]
    return [
        [(p.field, _Kept(len(p.field), p.weight, p.keep, p.horizon)) for p in plan.places(IMPRESSION, name)]
        for name in names
    ]


def _timelines(places: list[list[tuple[object, _Kept]]], impressions: int) -> Iterator[Field]:
    """The timelines of a visitor whose impressions are spread evenly over these campaigns and the longest horizon.

    A timeline with a shorter horizon has proportionally fewer entries, but at least one: expired entries are removed
    up to a day later.
    """
    total: dict[object, tuple[_Kept, int]] = {}
    shown = places[: min(impressions, len(places))]
    for number, entered in enumerate(shown):
        times = impressions // len(shown) + (number < impressions % len(shown))
        for name, kept in entered:
            total[name] = (kept, (total[name][1] if name in total else 0) + times * kept.weight)
    longest = max((kept.horizon for kept, _ in total.values()), default=1)
    for kept, entries in total.values():
        lasting = max(1, math.ceil(entries * kept.horizon / longest))
        yield Field(kept.name, HEAD + ENTRY * min(kept.keep, lasting))


def _others(workload: Workload, plan: Plan | None) -> Iterator[Field]:
    """The visitor's other timelines: other events, and the session."""
    single = HEAD + ENTRY
    if plan is None:
        yield from [Field(len(b"evisit ") + workload.campaign_bytes, single)] * workload.visits
        return
    asked = dict.fromkeys(fact.field for fact in plan.numbered if fact.field[:1] == b"e")
    yield from (Field(len(name), single) for name in list(asked)[: workload.visits])
    if plan.has_sessions:
        yield from (Field(len(place.field), single) for place in plan.session_places())
