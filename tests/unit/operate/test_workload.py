"""workload.py: visitors and their timelines, compared with what the library writes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from retarget.engine import Plan
from retarget.errors import InputError
from retarget.events import Candidate
from retarget.operate.redis_memory import Field
from retarget.operate.workload import Spread, Workload, labels_of_candidates, other_timelines, shapes
from retarget.policy import Policy
from retarget.retargeter import Retargeter
from retarget.stores import MemoryStore
from retarget.timelines import MOST_TIMELINES, keys, timeline

LARGE = Workload(visitors=500_000_000, impressions=20, qps=400_000)
NOW = 1_794_312_000
POLICY = Policy.from_text(
    """
    [annoyance]
    threshold = ["20 per 7 days"]

    [caps]
    advertiser = ["5 per 7 days"]

    [campaign.brand]
    labels = { advertiser = "oyashop" }
    caps = ["2 per day", "6 per 7 days"]

    [campaign.comeback]
    labels = { advertiser = "oyashop" }
    caps = ["6 per 7 days"]
    audience = ["visit shop within 7 days"]
    exclude = ["purchase within 7 days"]
    """
)


def recorded(policy: Policy, impressions: int) -> tuple[int, set[Field]]:
    """The key and fields of a visitor with impressions of two campaigns and a visit, as the library stores them."""
    store = MemoryStore()
    ads = Retargeter(policy, store, clock=lambda: NOW)
    ads.record("v" * 36, "visit", "shop", at=NOW - 3_600 * impressions)
    for turn in range(impressions):
        ads.record("v" * 36, "impression", ("brand", "comeback")[turn % 2], at=NOW - 60 * (impressions - turn))
    key = keys.key("rt:", "v" * 36)
    return len(key), {Field(len(name), len(value)) for name, value in store.read(key).items()}


@pytest.mark.parametrize("impressions", [2, 5, 11, 40])
def test_a_policy_says_which_timelines_there_are(impressions: int) -> None:
    """Names and lengths are those that the library writes, up to what each timeline keeps."""
    work = Workload(visitors=1, impressions=impressions, campaigns=2, visits=1, spread="even")
    ((share, shape),) = shapes(work, Plan(POLICY))
    assert share == 1
    assert (shape.key, set(shape.fields)) == recorded(POLICY, impressions)


SHOP = Policy.from_text(
    """
    [annoyance]
    threshold = ["90 per 7 days"]

    [caps]
    item = ["3 per 7 days"]
    slot = ["40 per 7 days"]
    advertiser = ["50 per 7 days"]

    [defaults]
    exclude = ["dismiss {campaign} within 7 days", "impression place:{place} within 7 days"]
    audience = [{ any = ["visit product/{item} within 7 days", "visit within 7 days"] }]

    [campaign.brand]
    labels = { advertiser = "oyashop" }

    [campaign.guest]
    labels = { advertiser = "oyashop", slot = "side" }
    counts = false
    """
)


def shopper(
    policy: Policy, impressions: int, visits: int, names: tuple[str, ...], values: dict[str, int]
) -> list[Field]:
    """The fields of a visitor who was shown these campaigns and visited products, as the library stores them."""
    store = MemoryStore()
    ads = Retargeter(policy, store, clock=lambda: NOW)
    for turn in range(visits):
        ads.record("v", "visit", f"product/{turn:012}")
    for turn in range(impressions):
        labels = {kind: f"{turn % number:012}" for kind, number in values.items()}
        ads.record("v", "impression", Candidate(names[turn % len(names)], **labels), at=NOW - impressions + turn)
    return sorted(Field(len(name), len(value)) for name, value in store.read(keys.key("rt:", "v")).items())


@pytest.mark.parametrize("impressions", [1, 7, 12, 30, 60])
@pytest.mark.parametrize(
    ("distinct", "spread"),
    [
        ({"item": 12, "slot": 3, "place": 2}, {"item": 12, "slot": 3, "place": 2}),
        ({"slot": 5, "advertiser": 4}, {"item": 1, "slot": 5, "place": 1, "advertiser": 4}),
    ],
    ids=["given", "partly given"],
)
def test_labels_that_come_with_candidates(impressions: int, distinct: dict[str, int], spread: dict[str, int]) -> None:
    """Each value has a timeline: those given, and a value for each campaign where nothing is given."""
    work = Workload(visitors=1, impressions=impressions, campaigns=1, visits=0, spread="even", distinct=distinct)
    assert labels_of_candidates(work, SHOP) == spread
    ((_, shape),) = shapes(work, Plan(SHOP))
    assert sorted(shape.fields) == shopper(SHOP, impressions, 0, ("brand",), spread)


def test_subjects_that_fill_templates() -> None:
    """Other events are taken in turn, each on a new subject if its own is a template, until there are enough."""
    plan = Plan(SHOP)
    work = Workload(visitors=1, impressions=1, campaigns=1, spread="even", distinct={"item": 1, "slot": 1, "place": 1})
    for visits in (0, 1, 4, 12, 300):
        names = other_timelines(replace(work, visits=visits), plan)
        assert len(set(names)) == len(names) == visits
    names = other_timelines(replace(work, visits=7), plan)
    assert sorted(map(timeline.readable, names)) == [
        "dismiss 000000000002",
        "dismiss brand",
        "dismiss guest",
        "visit",
        "visit product/000000000000",
        "visit product/000000000001",
        "visit product/000000000002",
    ]


def test_visits_of_products_are_those_that_the_library_writes() -> None:
    """Names and lengths of a visitor who visited a few products."""
    policy = Policy.from_text(
        '[campaign.brand]\naudience = ["visit product/{item} within 7 days"]\ncaps = ["2 per day"]'
    )
    work = Workload(visitors=1, impressions=2, campaigns=1, visits=9, spread="even")
    ((_, shape),) = shapes(work, Plan(policy))
    assert sorted(shape.fields) == sorted([Field(6, 10), *[Field(len("evisit product/") + 12, 6)] * 9])
    assert sorted(shape.fields) == shopper(policy, 2, 9, ("brand",), {})


def test_named_campaigns_alone_are_dismissed() -> None:
    """Without [defaults], `{campaign}` is one of the policy's own."""
    policy = Policy.from_text('[campaign.a]\nexclude = ["dismiss {campaign}"]\n[campaign.b]')
    work = Workload(visitors=1, visits=9)
    assert other_timelines(work, Plan(policy)) == [b"edismiss a"]


def test_a_label_that_no_rule_counts() -> None:
    """Takes nothing; nor does one whose campaigns do not count."""
    work = Workload(visitors=1, campaigns=1, distinct={"item": 9}, spread="even")
    plain = Policy.from_text('[campaign.a]\ncaps = ["2 per day"]')
    uncounted = Policy.from_text('[caps]\nitem = ["2 per day"]\n[campaign.a]\ncounts = false\ncaps = ["2 per day"]')
    for policy in (plain, uncounted):
        ((_, shape),) = shapes(work, Plan(policy))
        assert len(shape.fields) == 1


def test_shares_add_up_and_the_mean_is_kept() -> None:
    """Uneven or even, shares add up to 1 and impressions have the given mean."""
    spreads: tuple[Spread, ...] = ("uneven", "even")
    for spread, mean in itertools.product(spreads, (1, 2.5, 20, 100)):
        work = Workload(visitors=1, impressions=mean, campaigns=1, visits=0, spread=spread)
        long = Plan(Policy.from_text('[campaign.c]\ncaps = ["5000 per 7 days"]'))
        likely = shapes(work, long)
        assert sum(share for share, _ in likely) == pytest.approx(1)
        entries = sum(share * (shape.fields[0].value - 2) / 4 for share, shape in likely)
        assert entries == pytest.approx(mean, rel=0.01)


def test_shorter_windows_have_fewer_entries() -> None:
    """A timeline of a day has a seventh of the entries of one of a week, and at least one."""
    policy = Policy.from_text(
        '[caps]\nadvertiser = ["500 per 7 days"]\n[campaign.c]\nlabels = { advertiser = "a" }\ncaps = ["500 per day"]'
    )
    work = Workload(visitors=1, impressions=70, campaigns=1, spread="even")
    ((_, shape),) = shapes(work, Plan(policy))
    assert shape.fields == (Field(2, 2 + 4 * 10), Field(13, 2 + 4 * 70))


def test_ids_take_their_length() -> None:
    """A longer id takes more, a pepper always the same; event ids are in at most three fields."""
    plain, pepper = (shapes(replace(LARGE, id_bytes=size))[0][1].key for size in (36, None))
    assert (plain, pepper) == (len(keys.key("rt:", "v" * 36)), len(keys.hashed_key("rt:", 1, bytes(16))))
    with_ids = shapes(replace(LARGE, event_ids=True, spread="even"))[0][1]
    assert with_ids.fields[-3:] == (Field(2, 64), Field(2, 64), Field(2, 36))


@pytest.mark.parametrize(
    "wrong",
    [
        {"visitors": 0},
        {"impressions": 0.5},
        {"campaigns": MOST_TIMELINES + 1},
        {"visits": -1},
        {"id_bytes": 511},
        {"qps": -1},
        {"share_of_claims": 0.7, "share_of_records": 0.7},
        {"campaign_bytes": 0},
        {"distinct": {"item": 0}},
        {"distinct": {"item": MOST_TIMELINES + 1}},
    ],
)
def test_an_invalid_workload_is_refused(wrong: dict[str, Any]) -> None:
    """The message names the field."""
    with pytest.raises(InputError, match=next(reversed(wrong))):
        replace(LARGE, **wrong)


def test_campaigns_that_the_policy_does_not_name_have_its_defaults() -> None:
    """With [defaults] alone, each campaign of the workload has a timeline under a made-up id."""
    work = Workload(visitors=1, impressions=3, campaigns=3, campaign_bytes=7, spread="even")
    ((_, shape),) = shapes(work, Plan(Policy.from_text('[defaults]\ncaps = ["5 per day"]')))
    assert shape.fields == (Field(8, 6),) * 3


def test_a_session_has_a_timeline_of_its_own() -> None:
    """With a cap by session, the visitor's activity is included: an interval, which has two ends."""
    work = Workload(visitors=1, impressions=1, campaigns=1, spread="even")
    with_session = Plan(Policy.from_text('[campaign.c]\ncaps = ["2 per session"]'))
    without = Plan(Policy.from_text('[campaign.c]\ncaps = ["2 per day"]'))
    ((_, long),), ((_, short),) = shapes(work, with_session), shapes(work, without)
    assert long.fields == (*short.fields, Field(len(timeline.ACTIVITY), 2 + 2 * 4))


def test_what_neither_claims_nor_records_decides() -> None:
    """The three shares add up to all calls."""
    work = Workload(visitors=1, share_of_claims=0.25, share_of_records=0.5)
    assert work.share_of_decisions == 0.25


SESSIONS = Policy.from_text('[campaign.a]\ncaps = ["9 per session"]\n[campaign.b]\ncaps = ["9 since visit {campaign}"]')


@pytest.mark.parametrize("impressions", [1, 4, 9, 16, 20])
def test_activity_and_ids_of_events(impressions: int) -> None:
    """An interval for each impression that is a session of its own, and ids with their deadline: as written."""
    only = SESSIONS.model_copy(update={"campaign": {"a": SESSIONS.campaign["a"]}})
    store = MemoryStore()
    ads = Retargeter(only, store, clock=lambda: NOW)
    for turn in range(impressions):
        ads.record("v", "impression", "a", at=NOW - 3_600 * (impressions - turn), id=str(turn))
    work = Workload(visitors=1, impressions=impressions, campaigns=1, spread="even", event_ids=True)
    ((_, shape),) = shapes(work, Plan(only))
    kept = store.read(keys.key("rt:", "v"))
    found = sorted(Field(len(name), len(value)) for name, value in kept.items())
    assert sorted(shape.fields) == found


def test_events_that_windows_begin_at() -> None:
    """A visit that a cap begins at has a timeline, though no condition asks about it."""
    work = Workload(visitors=1, impressions=1, campaigns=2, visits=3, spread="even")
    assert other_timelines(work, Plan(SESSIONS)) == [timeline.name("visit", "b")]
