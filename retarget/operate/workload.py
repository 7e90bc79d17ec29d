"""A workload, and the distribution of visitors that it implies: their timelines and the sizes of these.

Rules:
- With a plan (a compiled policy), an impression enters the plan's timelines; without one, only its campaign's.
- What the policy does not name is made up: campaigns, values of labels that come with candidates, subjects of
  templates. Impressions take them in turn.
- A visitor is a `Shape`: lengths only. No clock, no redis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from retarget.engine import Plan, is_label
from retarget.events import Candidate
from retarget.operate.quantities import require
from retarget.operate.redis_memory import Field, Shape
from retarget.policy import Policy, events_named, fill, labels_in
from retarget.timelines import ENTRY, HEAD, IDS_KEPT, IMPRESSION, MIN_KEEP, MOST_TIMELINES, keys

Spread: TypeAlias = Literal["uneven", "even"]

_TAIL = 1e-6
_HASHED = len(keys.hashed_key("", 1, bytes(16))) - len(keys.FORMAT)


@dataclass(frozen=True, slots=True)
class Workload:
    """How many visitors are remembered, and how many calls are made.

    `impressions`: remembered impressions per visitor, on average. `campaigns`: how many they are spread over.
    `distinct`: over how many values of a label that comes with candidates: `{"item": 12}`. A label that rules count,
    and that neither the policy's campaigns nor `distinct` name, has a value for each campaign. `visits`: other
    timelines per visitor, of one entry each: of events that the policy asks about, in turn. `spread`: "uneven" is a
    geometric distribution of impressions, so that few visitors have many; "even" gives each visitor the same number.
    `id_bytes`: length of a visitor's id, None with a pepper. `campaign_bytes`: length of what the policy does not name:
    campaigns, a label's values, subjects. `qps`: calls per second, of which these shares are claims and records; the
    rest decide over `candidates`. Raises InputError for a value out of range.
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
    distinct: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.visitors >= 1, "visitors", self.visitors, "at least 1")
        require(1 <= self.impressions <= 10_000, "impressions", self.impressions, "from 1 to 10,000")
        require(1 <= self.campaigns <= MOST_TIMELINES, "campaigns", self.campaigns, f"from 1 to {MOST_TIMELINES:,}")
        require(0 <= self.visits <= MOST_TIMELINES, "visits", self.visits, f"from 0 to {MOST_TIMELINES:,}")
        require(self.id_bytes is None or 1 <= self.id_bytes <= 510, "id_bytes", self.id_bytes, "from 1 to 510")
        require(1 <= self.campaign_bytes <= 256, "campaign_bytes", self.campaign_bytes, "from 1 to 256")
        require(self.qps >= 0, "qps", self.qps, "0 or more")
        for name in ("share_of_claims", "share_of_records"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        for kind, values in self.distinct.items():
            require(1 <= values <= MOST_TIMELINES, f"distinct {kind}", values, f"from 1 to {MOST_TIMELINES:,}")
        rest = 1 - self.share_of_claims
        require(self.share_of_records <= rest, "share_of_records", self.share_of_records, f"at most {rest:g}")

    @property
    def share_of_decisions(self) -> float:
        """The share of calls that neither claim nor record."""
        return 1 - self.share_of_claims - self.share_of_records


class _Kept(NamedTuple):
    """A timeline that an impression enters: bytes of its name, entries per impression, how many are kept, for how long
    (seconds), and the bytes of each.
    """

    name: int
    weight: int
    keep: int
    horizon: int
    entry: int = ENTRY


Axis: TypeAlias = list[list[tuple[object, _Kept]]]
"""What a visitor's impressions are spread over: for each campaign, or for each value of a label, the timelines that an
impression enters for it."""


def shapes(workload: Workload, plan: Plan | None = None) -> list[tuple[float, Shape]]:
    """The visitors as the server stores them: each distinct shape with its share of all visitors."""
    entered = axes(workload, plan)
    others = tuple(_others(workload, plan))
    name = _HASHED if workload.id_bytes is None else len(keys.CLEAR) + workload.id_bytes
    key = workload.prefix_bytes + len(keys.FORMAT) + name
    found: dict[Shape, float] = {}
    for share, impressions in _numbers(workload):
        ids = min(IDS_KEPT, impressions) if workload.event_ids else 0
        remembered = tuple(Field(len(name), len(piece)) for name, piece in _remembered(ids).items())
        shape = Shape(key, (*_timelines(entered, impressions), *others, *remembered))
        found[shape] = found.get(shape, 0) + share
    return [(share, shape) for shape, share in found.items()]


def _remembered(ids: int) -> dict[bytes, bytes]:
    """The fields of as many event ids."""
    if not ids:
        return {}
    return keys.remember(bytes(keys.RECORD * (ids - 1)), bytes(keys.ID_BYTES), bytes(keys.OUTCOME_BYTES), 0)


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


# -- what impressions enter --------------------------------------------------------------------------------------------


def axes(workload: Workload, plan: Plan | None) -> list[Axis]:
    """The campaigns that a visitor is shown, and each label that comes with candidates: what impressions enter."""
    if plan is None:
        return [
            [[(number, _Kept(1 + workload.campaign_bytes, 1, MIN_KEEP, 1))] for number in range(workload.campaigns)]
        ]
    spread = labels_of_candidates(workload, plan.policy)
    shown = candidates(workload, plan)
    labelled: list[Axis] = []
    of_labels: set[object] = set()
    for kind, values in spread.items():
        # The first campaign whose impressions count for this label: the timelines are the same for all.
        counts = next((ad for ad in shown if _added(plan, ad, kind, _made_up(0, workload))), None)
        if counts is not None:
            axis = [_added(plan, counts, kind, _made_up(number, workload)) for number in range(values)]
            labelled.append(axis)
            of_labels |= {name for entered in axis for name, _ in entered}
    campaigns = [[(name, kept) for name, kept in _entered(plan, ad) if name not in of_labels] for ad in shown]
    return [campaigns, *labelled]


def candidates(workload: Workload, plan: Plan) -> list[Candidate]:
    """The campaigns that a visitor is shown, each with a value of every label that comes with candidates."""
    known = list(plan.policy.campaign)
    step = max(1, len(known) // workload.campaigns)
    names = [*known[::step][: workload.campaigns]]
    if len(names) < workload.campaigns and plan.policy.defaults is not None:
        names += [_made_up(number, workload) for number in range(workload.campaigns - len(names))]
    labels = dict.fromkeys(labels_of_candidates(workload, plan.policy), _made_up(0, workload))
    return [Candidate(name, **labels) for name in names]


def labels_of_candidates(workload: Workload, policy: Policy) -> dict[str, int]:
    """The labels that come with candidates, and the values of each that a visitor's impressions are spread over."""
    counted = [key for key in policy.caps if ":" not in key]
    for event, subject in events_named(policy):
        kind, _, value = (subject or "").partition(":")
        if event == IMPRESSION and subject is not None and is_label(subject) and "{" in value:
            counted.append(kind)
    own = {kind for campaign in policy.campaign.values() for kind in campaign.labels}
    return {**{kind: workload.campaigns for kind in counted if kind not in own}, **workload.distinct}


def _added(plan: Plan, ad: Candidate, kind: str, value: str) -> list[tuple[object, _Kept]]:
    """The timelines that an impression enters for this value of the label alone."""
    others = {name: label for name, label in ad.labels if name != kind}
    without = {name for name, _ in _entered(plan, Candidate(ad.campaign, **others))}
    entered = _entered(plan, Candidate(ad.campaign, **others, **{kind: value}))
    return [(name, kept) for name, kept in entered if name not in without]


def _entered(plan: Plan, ad: Candidate) -> list[tuple[object, _Kept]]:
    entered = [(p.field, _Kept(len(p.field), p.weight, p.keep, p.horizon)) for p in plan.places(IMPRESSION, ad)]
    active = plan.activity_place
    if active is not None:  # each impression is taken to be an interval of its own, of two entries
        kept = _Kept(len(active.field), active.weight, active.keep // 2, active.horizon, 2 * ENTRY)
        return [*entered, (active.field, kept)]
    return [*entered]


def _made_up(number: int, workload: Workload) -> str:
    """A text that the policy does not name."""
    return f"{number:0{workload.campaign_bytes}}"


def _timelines(entered: list[Axis], impressions: int) -> Iterator[Field]:
    """The timelines of a visitor whose impressions are spread evenly over each axis and the longest horizon.

    A timeline with a shorter horizon has proportionally fewer entries, but at least one: expired entries are removed
    up to a day later.
    """
    total: dict[object, tuple[_Kept, int]] = {}
    for axis in entered:
        shown = axis[: min(impressions, len(axis))]
        for number, places in enumerate(shown):
            times = impressions // len(shown) + (number < impressions % len(shown))
            for name, kept in places:
                total[name] = (kept, (total[name][1] if name in total else 0) + times * kept.weight)
    longest = max((kept.horizon for kept, _ in total.values()), default=1)
    for kept, entries in total.values():
        lasting = max(1, math.ceil(entries * kept.horizon / longest))
        yield Field(kept.name, HEAD + kept.entry * min(kept.keep, lasting))


# -- other events ------------------------------------------------------------------------------------------------------


def _others(workload: Workload, plan: Plan | None) -> Iterator[Field]:
    """The visitor's other timelines: of other events than impressions."""
    single = HEAD + ENTRY
    if plan is None:
        yield from [Field(len(b"evisit ") + workload.campaign_bytes, single)] * workload.visits
        return
    yield from (Field(len(name), single) for name in other_timelines(workload, plan))


def other_timelines(workload: Workload, plan: Plan) -> list[bytes]:
    """The names of the timelines of other events: at most `visits`, fewer if the policy asks about fewer."""
    found: dict[bytes, None] = {}
    under_way = [_subjects(event, subject, workload, plan.policy) for event, subject in other_events(plan.policy)]
    while under_way and len(found) < workload.visits:
        for subjects in tuple(under_way):
            happened = next(subjects, None)
            if happened is None:
                under_way.remove(subjects)
            else:
                found |= dict.fromkeys(place.field for place in plan.places(*happened))
    return list(found)[: workload.visits]


def other_events(policy: Policy) -> list[tuple[str, str | None]]:
    """The events but impressions that rules ask about, with their subjects as the policy writes them."""
    return [(event, subject) for event, subject in dict.fromkeys(events_named(policy)) if event != IMPRESSION]


def _subjects(event: str, subject: str | None, workload: Workload, policy: Policy) -> Iterator[tuple[str, str | None]]:
    """Such events on one subject after the other: one if the policy names it, any number if it is a template."""
    kinds = labels_in(subject or "")
    if subject is None or not kinds:
        yield event, subject
        return
    named = list(policy.campaign) if "campaign" in kinds else []
    for number in range(MOST_TIMELINES):
        value = _made_up(number, workload)
        campaign = named[number] if number < len(named) else value
        if "campaign" in kinds and number >= len(named) and policy.defaults is None:
            return
        yield event, fill(subject, {**dict.fromkeys(kinds, value), "campaign": campaign})
