"""What a change of the policy does to what is remembered."""

from __future__ import annotations

import pytest

from retarget import (
    InputError,
    Policy,
)
from tests.support.fixtures import Ads, Clock
from tests.support.verdicts import DAY, eligible_again, see


@pytest.mark.parametrize(("shown", "kept"), [(2, 2), (10, 10), (16, 16), (20, 16)])
def test_a_raised_limit_finds_what_was_kept(ads: Ads, clock: Clock, shown: int, kept: int) -> None:
    """At least 16 entries are kept whatever the limit was."""
    shop = ads('[campaign.a]\ncaps = ["2 per day"]')
    see(shop, "a", *range(shown), clock=clock)
    shop.policy = Policy.from_text(f'[campaign.a]\ncaps = ["{kept} per day"]')
    verdict = shop.decide("v")["a"]
    assert (verdict.seen, verdict.limit, verdict.eligible) == (kept, kept, False)
    shop.policy = Policy.from_text(f'[campaign.a]\ncaps = ["{kept + 1} per day"]')
    assert shop.claim("v") is not None
    assert shop.claim("v") is None


def test_a_lowered_limit_binds_at_once(ads: Ads, clock: Clock) -> None:
    """(RV5) Five seen, two allowed: capped, and reported as it is."""
    shop = ads('[campaign.a]\ncaps = ["9 per day"]')
    see(shop, "a", 5, 4, 3, 2, 1, clock=clock)
    shop.policy = Policy.from_text('[campaign.a]\ncaps = ["2 per day"]')
    verdict = shop.decide("v")["a"]
    assert (verdict.eligible, verdict.seen, verdict.limit) == (False, 5, 2)
    assert eligible_again(shop) == clock.now - 2 + DAY + 1


def test_a_campaign_taken_out_of_the_policy_breaks_nothing(ads: Ads, clock: Clock) -> None:
    """Its entries stay until they age out; it is accepted by record, and what it shares with others still counts."""
    shop = ads('[annoyance]\nthreshold = ["3 per day"]\n[campaign.a]\ncaps = ["2 per day"]\n[campaign.b]')
    see(shop, "a", 10, clock=clock)
    shop.policy = Policy.from_text('[annoyance]\nthreshold = ["3 per day"]\n[campaign.b]')
    assert shop.decide("v").eligible == ("b",)
    assert shop.record("v", "impression", "a") is True
    assert shop.record("v", "click", "a") is True
    assert shop.claim("v", ["b"]) is not None
    assert shop.decide("v")["b"].reason == "annoyance"
    with pytest.raises(InputError, match="'a' is not in the policy"):
        shop.decide("v", ["a"])


def test_a_campaign_comes_back_with_what_was_kept(ads: Ads, clock: Clock) -> None:
    """Taken out and put in again, it finds its impressions."""
    with_a, without = '[campaign.a]\ncaps = ["1 per day"]', "[campaign.b]"
    shop = ads(with_a)
    see(shop, "a", 10, clock=clock)
    shop.policy = Policy.from_text(without)
    shop.record("v", "visit", "shop")
    shop.policy = Policy.from_text(with_a)
    assert shop.decide("v").eligible == ()


def test_deciding_on_an_unknown_campaign_needs_defaults(ads: Ads) -> None:
    """An error that says what to add; with [defaults], an empty one too, it is decided on."""
    shop = ads("[campaign.a]")
    for call in (shop.decide, shop.claim):
        with pytest.raises(InputError, match=r"\[defaults\]"):
            call("v", ["a", "stranger"])
    assert shop.export("v")["timelines"] == {}
    shop.policy = Policy.from_text("[defaults]\n[campaign.a]")
    assert shop.decide("v", ["a", "stranger"]).eligible == ("a", "stranger")
    shop.policy = Policy.from_text('[defaults]\ncaps = ["1 per day"]\n[campaign.a]')
    assert shop.claim("v", ["stranger"]) is not None
    assert shop.decide("v", ["stranger", "a", "other"]).eligible == ("a", "other")


def test_an_own_rule_replaces_the_default_of_its_kind(ads: Ads) -> None:
    """(MA1) One rule, not two; kinds of which the campaign says nothing stay the defaults'."""
    shop = ads('[defaults]\ncaps = ["1 per day"]\ngap = "1 minute"\n[campaign.a]\ncaps = ["3 per day"]\n[campaign.b]')
    shop.claim("v", ["a"])
    shop.claim("v", ["b"])
    decision = shop.decide("v")
    assert (decision["a"].reason, decision["b"].rule) == ("gap", "1 per day")
    later = shop.decide("v", now=decision.second + 61)
    assert later.eligible == ("a",)


def test_a_policy_set_later_holds_for_the_next_call(ads: Ads) -> None:
    """`ads.policy = other`, read back, in force."""
    shop = ads("[campaign.a]")
    other = Policy.from_text("[campaign.b]")
    shop.policy = other
    assert shop.policy is other
    assert shop.decide("v").eligible == ("b",)
