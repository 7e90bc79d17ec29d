"""claims.py: reservations that outlive the policy they were made under are undone and counted as they were made."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from retarget import Candidate, Claim, Policy, Retargeter
from retarget.events import Subject
from retarget.timelines import Store
from tests.support.fixtures import Ads, Clock
from tests.support.holds import LAPSED, MINUTE, SECRET, hold, reserved, shown

LABEL = 'labels = { advertiser = "acme" }'
BEFORE = f'[caps]\nadvertiser = ["2 per day"]\n[campaign.a]\n[campaign.b]\n{LABEL}\n[campaign.c]\n{LABEL}'
AFTER = f'[caps]\nadvertiser = ["2 per day"]\n[campaign.a]\n{LABEL}\n[campaign.b]\n{LABEL}\n[campaign.c]\n{LABEL}'


def test_a_release_leaves_the_reservations_of_others_alone(ads: Ads) -> None:
    """A label added meanwhile: the campaign that did not have it frees no place under it."""
    shop = ads(BEFORE)
    one, other, two = (hold(shop, campaign) for campaign in "bab")
    shop.policy = Policy.from_text(AFTER)
    assert shop.release(other) is True
    assert shop.claim("v", ["c"]) is None
    assert [shop.confirm(one), shop.confirm(two)] == ["confirmed", "confirmed"]
    verdict = shop.decide("v", ["c"])["c"]
    assert (verdict.seen, verdict.limit) == (2, 2)


def test_a_release_frees_what_the_policy_no_longer_names(ads: Ads) -> None:
    """A label taken away meanwhile: the places under it are free again."""
    shop = ads(AFTER)
    claims = [hold(shop, "a", length="1 day") for _ in range(2)]
    shop.policy = Policy.from_text(BEFORE)
    assert not shop.decide("v", ["c"]).eligible
    assert [shop.release(claim) for claim in claims] == [True, True]
    assert shop.decide("v", ["c"]).eligible == ("c",)
    assert reserved(shop) == []


@pytest.mark.parametrize("settle", ["confirm", "release"])
@pytest.mark.parametrize(("first", "then"), [(1, 5), (5, 1)])
def test_points_are_those_of_the_day_of_the_claim(ads: Ads, settle: str, first: int, then: int) -> None:
    """Raised or lowered meanwhile: what is undone or counted is what was reserved."""
    text = '[annoyance]\nthreshold = ["20 per day"]\npoints = {{ email = {} }}\n[campaign.a]\n{}'
    mail = 'labels = { channel = "email" }'
    shop = ads(text.format(first, mail))
    kept, settled = hold(shop), hold(shop)
    shop.policy = Policy.from_text(text.format(then, mail))
    getattr(shop, settle)(settled)
    level = shop.decide("v").annoyance
    assert level is not None
    assert level.points == (first if settle == "release" else 2 * first)
    assert shop.release(kept) is True


@pytest.mark.parametrize("other", ["[campaign.other]\ncaps = ['1 per day']", "[defaults]", "[campaign.a]"])
def test_a_process_with_another_policy_counts_what_was_reserved(store: Store, clock: Clock, other: str) -> None:
    """Confirmed there and counted here, for as long as the claim's policy asks: so the cap is full."""
    here = Retargeter(Policy.from_text('[campaign.a]\ncaps = ["1 per day"]'), store, clock=clock, secret=SECRET)
    there = Retargeter(Policy.from_text(other), store, clock=clock, secret=SECRET)
    claim = hold(here, length="1 minute")
    assert [there.confirm(claim.token), here.confirm(claim), there.confirm(claim)] == ["confirmed", *2 * ["repeated"]]
    assert shown(here) == [clock.now]
    clock.now += 23 * 60 * MINUTE
    assert here.claim("v", ["a"]) is None


def test_late_it_counts_by_the_policy_in_force(ads: Ads, clock: Clock) -> None:
    """Nothing is reserved any more: the impression is entered where an event of today would be."""
    shop = ads(BEFORE)
    claim = hold(shop, "a")
    clock.now += LAPSED
    shop.policy = Policy.from_text(AFTER)
    assert shop.confirm(claim) == "late"
    verdict = shop.decide("v", ["c"])["c"]
    assert verdict.eligible
    for campaign in "b":
        assert shop.claim("v", [campaign]) is not None
    verdict = shop.decide("v", ["c"])["c"]
    assert (verdict.seen, verdict.limit) == (2, 2)


def test_a_hold_lasts_at_least_as_long_as_was_asked(store: Store) -> None:
    """Claimed at the end of a second, confirmed in the next one, and at any time until its length is over."""
    now = [1_795_600_000.95]
    ads = Retargeter(Policy.from_text('[campaign.a]\ncaps = ["9 per day"]'), store, clock=lambda: now[0])
    claims = [hold(ads, length="1 second") for _ in range(3)]
    assert {claim.held_for for claim in claims} == {1}
    said = []
    for claim, later in zip(claims, (0.1, 0.9, 0.2), strict=True):
        now[0] += later
        said.append(ads.confirm(claim))
    assert said == ["confirmed", "confirmed", "late"]


POLICIES = [
    '[campaign.a]\ncaps = ["9 per day"]\n[campaign.b]',
    f'[caps]\nadvertiser = ["4 per day"]\n[campaign.a]\n{LABEL}\n[campaign.b]\n{LABEL}\ncaps = ["3 per 2 hours"]',
    '[annoyance]\nthreshold = ["9 per day"]\npoints = { email = 3 }\n[campaign.a]\nlabels = { channel = "email" }',
    '[annoyance]\nthreshold = ["9 per day"]\n[campaign.b]\nlabels = { channel = "email" }\n[defaults]\ngap = "1 day"',
    '[caps]\nitem = ["2 per day"]\n[campaign.a]\ncounts = false\n[campaign.b]\ncaps = ["5 per session"]\n[defaults]',
    "[campaign.c]",
]
SUBJECTS: list[Subject] = ["a", "b", Candidate("a", item="x"), Candidate("b", item="x", advertiser="acme")]


@pytest.mark.parametrize("seed", range(12))
def test_under_any_changes_of_policy_nothing_is_left_or_lost(ads: Ads, clock: Clock, seed: int) -> None:
    """200 random steps: after all reservations are settled none is left, and each that was confirmed in time is entered
    once in every place where it was reserved.
    """
    rng, shop = random.Random(seed), ads(POLICIES[0])
    open_: list[tuple[Claim, dict[str, int]]] = []
    expected: dict[str, int] = {}
    for _ in range(200):
        shop.policy = Policy.from_text(rng.choice(POLICIES))
        step = rng.randrange(3)
        if step == 0:
            before = _reserved(shop)
            claim = _try(shop, rng.choice(SUBJECTS))
            if claim is not None:
                open_.append((claim, _difference(_reserved(shop), before)))
        elif open_:
            claim, places = open_.pop(rng.randrange(len(open_)))
            if step == 1:
                assert shop.release(claim) is True
            else:
                assert shop.confirm(claim) == "confirmed"
                for place, times in places.items():
                    if place != "activity":
                        expected[place] = expected.get(place, 0) + times
        assert _reserved(shop) == _sum(places for _, places in open_)
    timelines = shop.export("v")["timelines"]
    entered = {name: len(found["at"]) for name, found in timelines.items() if not name.startswith(("reserv", "act"))}
    assert all(entered[name] == min(times, 16) or entered[name] == times for name, times in expected.items())
    assert entered.keys() == expected.keys()
    for claim, _ in open_:
        assert shop.release(claim) is True
    assert _reserved(shop) == {}
    assert reserved(shop) == []


def _try(shop: Retargeter, subject: Subject) -> Claim | None:
    try:
        return shop.claim("v", [subject], hold="1 day")
    except ValueError:  # the policy cannot decide on it
        return None


def _reserved(shop: Retargeter) -> dict[str, int]:
    """How many entries are reserved in each timeline."""
    found = shop.export("v")["timelines"]
    return {
        name.removeprefix("reserved "): len(held["at"])
        for name, held in found.items()
        if name.startswith("reserved ") and name != "reserved until"
    }


def _difference(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    changed = {name: times - other.get(name, 0) for name, times in one.items()}
    return {name: times for name, times in changed.items() if times}


def _sum(dicts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for places in dicts:
        for name, times in places.items():
            total[name] = total.get(name, 0) + times
    return total
