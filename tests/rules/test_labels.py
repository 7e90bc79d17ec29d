"""Labels, subjects and campaigns have timelines of their own: none is taken for another, and none is lost."""

from __future__ import annotations

import pytest

from retarget import Candidate
from tests.support.fixtures import Ads, Clock
from tests.support.verdicts import DAY, eligible_again

# ---- what campaigns inherit is kept whoever the subject is ----


def test_a_template_of_the_defaults_may_name_a_campaign(ads: Ads) -> None:
    """The teaser of `X` is a campaign of the policy, that of `Y` is not: a click on either blocks."""
    shop = ads('[defaults]\nexclude = ["click {campaign}-teaser"]\n[campaign.X-teaser]\n[campaign.Z]')
    for teaser in ("X-teaser", "Y-teaser"):
        shop.record("v", "click", teaser)
    assert shop.decide("v", ["X", "Y", "Z", "X-teaser"]).eligible == ("Z", "X-teaser")
    assert shop.claim("v", ["Y"]) is None
    assert shop.claim("v", ["X"]) is None


# ---- counts = false ----

QUIET = """
    [annoyance]
    threshold = ["1 per day"]
    [caps]
    item = ["1 per day"]
    [campaign.quiet]
    labels = { item = "sku-1" }
    counts = false
    [campaign.loud]
    labels = { item = "sku-1" }
    [campaign.dismissed]
    exclude = ["dismiss item:{item}"]
    [campaign.seen]
    exclude = ["impression item:{item}"]
    obeys = false
    [campaign.clicked]
    audience = ["click item:sku-1"]
    obeys = false
"""


def test_counts_false_hides_impressions_from_caps_on_labels_and_the_threshold(ads: Ads) -> None:
    """Nothing else is used up by them."""
    shop = ads(QUIET)
    shop.record("v", "impression", "quiet")
    assert shop.decide("v", ["loud"]).eligible == ("loud",)
    assert shop.decide("v").annoyance is not None
    shop.record("v", "impression", "loud")
    assert shop.decide("v", ["loud"])["loud"].reason in ("cap", "annoyance")


def test_counts_false_hides_nothing_from_conditions(ads: Ads) -> None:
    """Clicks, dismissals and impressions enter the timelines of its labels, as of every campaign."""
    shop = ads(QUIET)
    item = Candidate("dismissed", item="sku-1"), Candidate("seen", item="sku-1"), "clicked"
    assert shop.decide("v", item).eligible == item[:2]
    for event in ("dismiss", "impression", "click"):
        shop.record("v", event, "quiet")
    assert shop.decide("v", item).eligible == ("clicked",)
    assert shop.claim("v", item[:2]) is None


# ---- labels and campaigns of the same name ----

SLOTS = """
    [campaign."slot:top"]
    caps = ["1 per day"]
    gap = "1 hour"
    exclude = ["dismiss {campaign}"]
    [campaign.x]
    [campaign.watching]
    exclude = ["impression slot:top"]
"""


def test_a_campaign_named_like_a_label_is_not_capped_by_it(ads: Ads) -> None:
    """Another campaign was shown in the slot `top`; the campaign `slot:top` was not."""
    shop = ads(SLOTS)
    assert shop.claim("v", [Candidate("x", slot="top")]) is not None
    shop.record("v", "dismiss", Candidate("x", slot="top"))
    assert shop.decide("v").eligible == ("slot:top", "x", "watching")
    assert shop.claim("v", ["slot:top"]) is not None
    assert shop.decide("v").eligible == ("x",)


def test_a_label_is_not_capped_by_a_campaign_of_its_name(ads: Ads) -> None:
    """Not even where the policy does not name the campaign."""
    shop = ads('[defaults]\n[caps]\nslot = ["1 per day"]')
    shop.record("v", "impression", "slot:top")
    assert shop.decide("v", [Candidate("x", slot="top")])
    assert shop.claim("v", [Candidate("x", slot="top")]) is not None
    assert shop.claim("v", [Candidate("y", slot="top")]) is None


def test_a_label_in_a_condition_does_not_count_for_its_cap(ads: Ads) -> None:
    """`impression channel:email` counts every campaign's, the cap only those that count."""
    shop = ads(
        '[caps]\nchannel = ["2 per day"]\n[campaign.mail]\nlabels = { channel = "email" }\n'
        '[campaign.system]\nlabels = { channel = "email" }\ncounts = false\nexclude = ["3 impression channel:email"]'
    )
    for campaign in ("mail", "system", "system"):
        shop.record("v", "impression", campaign)
    assert shop.decide("v").eligible == ("mail",)


@pytest.mark.parametrize("condition", ["visit product:notebook", "visit product:{product}"])
def test_a_plain_subject_may_be_written_as_a_label(ads: Ads, condition: str) -> None:
    """A visit of `product:notebook` is one under that label; so is a visit of a candidate that carries it."""
    shop = ads(f'[campaign.ad]\nlabels = {{ product = "notebook" }}\naudience = ["{condition}"]')
    assert not shop.decide("v")["ad"]
    shop.record("v", "visit", "product:notebook")
    assert shop.decide("v")["ad"]
    shop.record("w", "visit", Candidate("other", product="notebook"))
    assert shop.decide("w")["ad"]
    assert shop.claim("w", ["ad"]) is not None


def test_addresses_are_subjects_as_any_other(ads: Ads) -> None:
    """They are written as labels are, and it makes no difference."""
    shop = ads('[campaign.ad]\naudience = ["2 visit https://shop/tea"]')
    for _ in range(2):
        shop.record("v", "visit", "https://shop/tea")
    assert shop.decide("v")["ad"]


# ---- label caps per flight ----


def test_a_label_cap_per_flight_looks_back_as_far_as_anything_is_remembered(ads: Ads, clock: Clock) -> None:
    """It is no campaign's, so no campaign's start begins it: the answer is the same whichever is asked about."""
    shop = ads(
        'retention = "60 days"\n[caps]\nadvertiser = ["1 per flight"]\n[campaign.a]\nlabels = { advertiser = "x" }\n'
        '[campaign.b]\nlabels = { advertiser = "x" }\nstart = 2026-11-20'
    )
    shown = clock.now
    shop.record("v", "impression", "a")
    clock.now += 30 * DAY
    assert {verdict.reason for verdict in (shop.decide("v")[id_] for id_ in "ab")} == {"cap"}
    assert shop.claim("v", ["b", "a"]) is None
    assert eligible_again(shop, "b") == shown + 60 * DAY + 1


def test_an_export_keeps_labels_and_subjects_apart(ads: Ads) -> None:
    """A campaign, the label of its name, and what a cap on a label counts have names of their own."""
    shop = ads(
        '[caps]\nitem = ["3 per day"]\n[campaign."slot:top"]\ncaps = ["3 per day"]\n'
        '[campaign.x]\nexclude = ["impression slot:{slot}", "click slot:{slot}", "impression item:{item}"]\n'
        '[campaign.y]\nexclude = ["click slot:top"]'
    )
    for event in ("impression", "click"):
        shop.record("v", event, Candidate("slot:top", slot="top", item="sku"))
    assert sorted(shop.export("v")["timelines"]) == [
        "capped impression item:sku",
        "click labelled slot:top",
        "click slot:top",
        "impression labelled item:sku",
        "impression labelled slot:top",
        "impression slot:top",
    ]
