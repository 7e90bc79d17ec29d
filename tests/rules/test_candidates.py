"""Candidates: their order, and the labels that they bring."""

from __future__ import annotations

import pytest

from retarget import (
    Candidate,
)
from tests.support.fixtures import Ads, Clock
from tests.support.verdicts import DAY, eligible_again


def test_candidates_keep_their_order_and_none_means_every_campaign(ads: Ads) -> None:
    """The caller's ranking is kept, twice the same too; without candidates the policy's order."""
    shop = ads("[campaign.b]\n[campaign.a]\n[campaign.c]")
    assert shop.decide("v", ["c", "a", "c"]).eligible == ("c", "a", "c")
    assert shop.decide("v", iter(["c", "b"])).eligible == ("c", "b")
    assert shop.decide("v").eligible == ("b", "a", "c")
    assert shop.decide("v", []).eligible == ()
    assert shop.claim("v", []) is None
    assert list(shop.decide("v", ("c", "a"))) == ["c", "a"]
    with pytest.raises(KeyError):
        shop.decide("v", ["c"])["a"]


ITEMS = """
[caps]
item = ["2 per day"]
[campaign.shop]
audience = ["visit product/{item} within 30 days"]
exclude = ["purchase product/{item} within 90 days"]
[campaign.other]
"""


def test_a_candidates_labels_fill_templates_and_count_under_their_name(ads: Ads, clock: Clock) -> None:
    """Retargeting a product: those who visited it, did not buy it, and saw it less than twice, in any campaign."""
    shop = ads(ITEMS)
    one, two = Candidate("shop", item="sku-1"), Candidate("shop", item="sku-2")
    assert shop.decide("v", [one, two, "shop"]).eligible == ()
    shop.record("v", "visit", "product/sku-1")
    assert shop.decide("v", [one, two, "shop"]).eligible == (one,)
    assert shop.claim("v", [two, one]) is not None
    assert shop.record("v", "impression", Candidate("other", item="sku-1")) is True
    verdict = shop.decide("v", [one])[one]
    assert (verdict.reason, verdict.rule, verdict.seen) == ("cap", "item: 2 per day", 2)
    assert shop.decide("v", ["other", Candidate("other", item="sku-2")]).eligible == (
        "other",
        Candidate("other", item="sku-2"),
    )
    assert eligible_again(shop, one) == clock.now + DAY + 1
    clock.now += DAY + 1
    shop.record("v", "purchase", "product/sku-1")
    assert shop.decide("v", [one])[one].reason == "exclude"


def test_a_missing_label_means_it_has_not_happened(ads: Ads) -> None:
    """Without an item nothing was visited: an audience is not met, and a cap per item does not bind."""
    shop = ads(ITEMS)
    verdict = shop.decide("v", ["shop"])["shop"]
    assert (verdict.reason, verdict.rule) == ("audience", "visit product/{item} within 30 days")
    assert [bool(shop.claim("v", ["other"])) for _ in range(5)] == [True] * 5


def test_a_candidates_own_label_stands_before_the_campaigns(ads: Ads) -> None:
    """The slot sells another advertiser's product: that advertiser's cap counts, not the campaign's own."""
    shop = ads('[caps]\nadvertiser = ["1 per day"]\n[campaign.a]\nlabels = { advertiser = "x" }')
    other = Candidate("a", advertiser="y")
    assert shop.claim("v", [other]) is not None
    assert shop.decide("v", [other, "a"]).eligible == ("a",)
