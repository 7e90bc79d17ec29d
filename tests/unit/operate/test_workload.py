"""workload.py: visitors and their timelines, compared with what the library writes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from retarget.engine import Plan
from retarget.errors import InputError
from retarget.operate.redis_memory import Field
from retarget.operate.workload import Spread, Workload, shapes
from retarget.policy import Policy
from retarget.retargeter import Retargeter
from retarget.stores import MemoryStore
from retarget.timelines import keys

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
    """A longer id takes more, a pepper always the same; event ids are in at most two fields."""
    plain, pepper = (shapes(replace(LARGE, id_bytes=size))[0][1].key for size in (36, None))
    assert (plain, pepper) == (len(keys.key("rt:", "v" * 36)), len(b"rt:1p1:") + 16)
    with_ids = shapes(replace(LARGE, event_ids=True, spread="even"))[0][1]
    assert with_ids.fields[-2:] == (Field(2, 64), Field(2, 64))


@pytest.mark.parametrize(
    "wrong",
    [
        {"visitors": 0},
        {"impressions": 0.5},
        {"campaigns": 513},
        {"visits": -1},
        {"id_bytes": 511},
        {"qps": -1},
        {"share_of_claims": 0.7, "share_of_records": 0.7},
        {"campaign_bytes": 0},
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


def test_a_session_has_timelines_of_its_own() -> None:
    """With a cap by session, the session's timelines are included."""
    work = Workload(visitors=1, impressions=1, campaigns=1, spread="even")
    with_session = Plan(Policy.from_text('[campaign.c]\ncaps = ["2 per session"]'))
    without = Plan(Policy.from_text('[campaign.c]\ncaps = ["2 per day"]'))
    ((_, long),), ((_, short),) = shapes(work, with_session), shapes(work, without)
    assert len(long.fields) == len(short.fields) + len(with_session.session_places()) > len(short.fields)


def test_what_neither_claims_nor_records_decides() -> None:
    """The three shares add up to all calls."""
    work = Workload(visitors=1, share_of_claims=0.25, share_of_records=0.5)
    assert work.share_of_decisions == 0.25
