"""`since EVENT [SUBJECT]`: a window that begins at another event of the visitor, in every rule, on every store.

The promises: what happened strictly after the newest such event counts; where it never happened, the window is a
lifetime; the order in which events arrive makes no difference; what is reserved is no event yet.
"""

from __future__ import annotations

import itertools
from random import Random

import pytest

from retarget import Candidate, Decision
from tests.support.fixtures import Ads, Clock
from tests.support.verdicts import DAY, HOUR, MINUTE, at, eligible_again, see

CART = '[campaign.cart]\naudience = ["add cart since purchase"]'
CLICKED = '[campaign.a]\ncaps = ["2 since click {campaign}"]'


# ---- conditions ----


def test_an_audience_since_an_event(ads: Ads, clock: Clock) -> None:
    """A cart that was filled after the last order: whoever buys has none, and whoever fills another has one again."""
    shop = ads(CART)
    assert not shop.decide("v")["cart"]
    shop.record("v", "add", "cart")
    assert shop.decide("v")["cart"]
    clock.now += MINUTE
    shop.record("v", "purchase")
    assert not shop.decide("v")["cart"]
    clock.now += MINUTE
    shop.record("v", "add", "cart")
    assert shop.decide("v")["cart"]
    assert shop.claim("v", ["cart"]) is not None


@pytest.mark.parametrize("order", [("add", "purchase"), ("purchase", "add")])
def test_what_happened_in_the_same_second_does_not_count(ads: Ads, clock: Clock, order: tuple[str, str]) -> None:
    """Strictly after: which of two events of one second came first is not known, whichever was recorded first."""
    shop = ads(CART)
    for event in order:
        shop.record("v", event, "cart" if event == "add" else None)
    assert not shop.decide("v")["cart"]
    assert shop.claim("v", ["cart"]) is None
    clock.now += 1
    shop.record("v", "add", "cart")
    assert shop.decide("v")["cart"]


def test_an_exclusion_since_an_event(ads: Ads, clock: Clock) -> None:
    """Shown three times and ignored since: a click begins the count anew."""
    shop = ads('[campaign.a]\nexclude = ["3 impression {campaign} since click {campaign}"]')
    see(shop, "a", 30, 20, clock=clock)
    shop.record("v", "click", "a", at=clock.now - 10)
    see(shop, "a", 9, 5, clock=clock)
    verdict = shop.decide("v")["a"]
    assert verdict.eligible
    see(shop, "a", 0, clock=clock)
    verdict = shop.decide("v")["a"]
    assert (verdict.reason, verdict.rule, verdict.seen, verdict.limit) == (
        "exclude",
        "3 impression {campaign} since click {campaign}",
        3,
        3,
    )
    clock.now += 1
    shop.record("v", "click", "a")
    assert shop.decide("v")["a"]


def test_one_of_several_conditions_since_an_event(ads: Ads, clock: Clock) -> None:
    """Within `any`, each has a window of its own."""
    shop = ads('[campaign.a]\naudience = [{ any = ["visit pricing since purchase", "2 visit home within 1 hour"] }]')
    shop.record("v", "visit", "pricing", at=clock.now - 9)
    shop.record("v", "purchase", at=clock.now - 8)
    assert not shop.decide("v")["a"]
    assert shop.claim("v", ["a"]) is None
    shop.record("v", "visit", "home", at=clock.now - 60)
    shop.record("v", "visit", "home", at=clock.now - 50)
    assert shop.decide("v")["a"]
    assert shop.claim("v", ["a"]) is not None


def test_an_event_since_itself_has_never_happened(ads: Ads, clock: Clock) -> None:
    """Nothing is newer than the newest; where there is none, there is nothing to count either."""
    shop = ads('[campaign.a]\naudience = ["visit since visit"]\n[campaign.b]\nexclude = ["visit since visit"]')
    assert shop.decide("v").eligible == ("b",)
    shop.record("v", "visit", "x")
    clock.now += 1
    shop.record("v", "visit", "x")
    assert shop.decide("v").eligible == ("b",)


# ---- caps ----


def test_a_cap_since_an_event(ads: Ads, clock: Clock) -> None:
    """Two without a click; each click allows two more. A lifetime where nothing was ever clicked."""
    shop = ads(CLICKED)
    assert [shop.claim("v", ["a"]) is not None for _ in range(3)] == [True, True, False]
    clock.now += 100 * DAY
    verdict = shop.decide("v")["a"]
    assert (verdict.reason, verdict.rule, verdict.seen, verdict.limit) == ("cap", "2 since click {campaign}", 2, 2)
    shop.record("v", "click", "b")
    assert shop.claim("v", ["a"]) is None
    shop.record("v", "click", "a")
    assert shop.decide("v")["a"]
    assert [shop.claim("v", ["a"]) is not None for _ in range(3)] == [True] * 3  # in the second of the click itself
    clock.now += 1
    assert [shop.claim("v", ["a"]) is not None for _ in range(3)] == [True, True, False]


def test_a_default_cap_since_an_event(ads: Ads, clock: Clock) -> None:
    """Of every campaign its own clicks, named in the policy or not."""
    shop = ads('[defaults]\ncaps = ["1 since click {campaign}"]\n[campaign.a]')
    for campaign in ("a", "stranger"):
        assert shop.claim("v", [campaign]) is not None
        clock.now += 1
        assert shop.claim("v", [campaign]) is None
        clock.now += 1
        shop.record("v", "click", campaign)
        assert shop.claim("v", [campaign]) is not None
    clock.now += 1
    assert shop.decide("v", ["a", "stranger"]).eligible == ("a", "stranger")


def test_a_label_cap_since_an_event(ads: Ads, clock: Clock) -> None:
    """On a kind and on one label; the anchor may be about the label, the campaign, or nothing."""
    shop = ads(
        '[caps]\nchannel = ["2 since click channel:{channel}"]\n"channel:call" = ["1 since login"]\n'
        '[campaign.a]\nlabels = { channel = "email" }\n[campaign.b]\nlabels = { channel = "email" }\n'
        '[campaign.c]\nlabels = { channel = "call" }'
    )
    see(shop, "a", 50, clock=clock)
    see(shop, "b", 40, clock=clock)
    see(shop, "c", 40, clock=clock)
    assert {shop.decide("v")[id_].rule for id_ in "ab"} == {"channel: 2 since click channel:{channel}"}
    assert shop.decide("v")["c"].rule == "channel:call: 1 since login"
    shop.record("v", "click", "b", at=clock.now - 45)
    assert shop.decide("v").eligible == ("a", "b")
    see(shop, "b", 30, clock=clock)
    assert shop.claim("v", ["a", "b", "c"]) is None
    shop.record("v", "login", at=clock.now - 20)
    assert shop.decide("v").eligible == ("c",)
    assert shop.claim("v", ["a", "b", "c"]) is not None
    assert shop.claim("v", ["a", "b", "c"]) is None


def test_a_cap_on_the_candidates_own_label_since_a_click_on_the_campaign(ads: Ads, clock: Clock) -> None:
    """The campaign itself does not carry the label: its clicks are kept all the same, the policy naming it or not."""
    shop = ads('[caps]\nitem = ["1 since click {campaign}"]\n[defaults]\n[campaign.a]')
    for campaign in ("a", "stranger"):
        candidate = Candidate(campaign, item=f"of {campaign}")
        assert shop.claim("v", [candidate]) is not None
        clock.now += 1
        assert shop.claim("v", [candidate]) is None
        shop.record("v", "click", campaign)
        assert shop.claim("v", [candidate]) is not None


def test_a_threshold_since_an_event(ads: Ads, clock: Clock) -> None:
    """Points since the last purchase."""
    shop = ads(
        '[annoyance]\nthreshold = ["4 since purchase"]\npoints = { email = 3 }\n'
        '[campaign.mail]\nlabels = { channel = "email" }\n[campaign.ad]'
    )
    see(shop, "mail", 60, clock=clock)
    decision = shop.decide("v")
    assert decision.eligible == ("ad",)
    assert decision["mail"].rule == "annoyance: 4 since purchase"
    assert decision.annoyance is not None
    assert (decision.annoyance.points, decision.annoyance.limit) == (3, 4)
    shop.record("v", "purchase", at=clock.now - 30)
    assert shop.decide("v").eligible == ("mail", "ad")
    level = shop.decide("v").annoyance
    assert level is not None
    assert level.points == 0
    assert shop.claim("v", ["mail"]) is not None
    assert shop.claim("v", ["mail"]) is None


def test_a_segment_since_an_event(ads: Ads, clock: Clock) -> None:
    """Who has come back since they bought has a threshold of their own; who buys again has the general one."""
    shop = ads(
        '[annoyance]\nthreshold = ["1 per day"]\n[annoyance.segment.back]\nwho = ["visit since purchase"]\n'
        'threshold = ["3 per day"]\n[campaign.ad]'
    )
    see(shop, "ad", 60, clock=clock)
    assert not shop.decide("v")["ad"]
    shop.record("v", "purchase", at=clock.now - 50)
    shop.record("v", "visit", "x", at=clock.now - 40)
    level = shop.decide("v").annoyance
    assert level is not None
    assert level.segment == "segment back"
    assert shop.claim("v", ["ad"]) is not None
    shop.record("v", "purchase")
    assert shop.claim("v", ["ad"]) is None
    assert shop.decide("v")["ad"].rule == "annoyance: 1 per day"


# ---- templates ----

ITEMS = '[campaign.a]\naudience = ["visit {item} since purchase {item}"]\ncaps = ["1 since visit {item}"]'


def test_templates_are_filled_in_the_anchor_too(ads: Ads, clock: Clock) -> None:
    """A purchase of one item says nothing of another."""
    shop = ads(ITEMS)
    tea, coffee = Candidate("a", item="tea"), Candidate("a", item="coffee")
    for item in ("tea", "coffee"):
        shop.record("v", "visit", item, at=clock.now - 50)
    shop.record("v", "purchase", "tea", at=clock.now - 40)
    assert shop.decide("v", [tea, coffee]).eligible == (coffee,)
    claim = shop.claim("v", [tea, coffee])
    assert claim is not None
    assert claim.candidate == coffee
    assert shop.claim("v", [tea, coffee]) is None
    clock.now += 1
    shop.record("v", "visit", "coffee")
    assert shop.claim("v", [tea, coffee]) is not None


def test_an_anchor_that_cannot_be_named_never_happened(ads: Ads, clock: Clock) -> None:
    """A label is missing: the window is a lifetime."""
    shop = ads('[campaign.a]\ncaps = ["1 since click {item}"]\n[campaign.b]\nexclude = ["visit since click {item}"]')
    shop.record("v", "visit", "x", at=clock.now - 9)
    see(shop, "a", 9, clock=clock)
    shop.record("v", "click", "tea", at=clock.now - 5)
    with_item = Candidate("a", item="tea"), Candidate("b", item="tea")
    assert shop.decide("v", ["a", "b", *with_item]).eligible == with_item
    assert shop.claim("v", ["a", "b"]) is None
    assert shop.claim("v", with_item) is not None


@pytest.mark.parametrize("condition", ["visit since click slot:top", "visit since click slot:{slot}"])
def test_an_anchor_may_be_about_a_label(ads: Ads, clock: Clock, condition: str) -> None:
    """Written `kind:value`, as in every condition."""
    shop = ads(f'[campaign.a]\nlabels = {{ slot = "top" }}\nexclude = ["{condition}"]\n[campaign.b]')
    shop.record("v", "visit", "x", at=clock.now - 9)
    assert not shop.decide("v")["a"]
    shop.record("v", "click", Candidate("b", slot="top"), at=clock.now - 5)
    assert shop.decide("v")["a"]
    assert shop.claim("v", ["a"]) is not None


# ---- when events arrive ----


def test_a_late_anchor_counts_at_its_own_time(ads: Ads, clock: Clock) -> None:
    """It moves the beginning only if it is newer than the newest."""
    shop = ads(CLICKED)
    see(shop, "a", 30, 20, clock=clock)
    assert not shop.decide("v")["a"]
    shop.record("v", "click", "a", at=clock.now - 25)
    assert shop.decide("v")["a"].eligible
    see(shop, "a", 10, clock=clock)
    assert not shop.decide("v")["a"]
    shop.record("v", "click", "a", at=clock.now - 28)
    assert not shop.decide("v")["a"]
    assert shop.claim("v", ["a"]) is None


def test_every_order_of_arrival_gives_the_same_answers(ads: Ads, clock: Clock) -> None:
    """Random histories of adds, purchases, impressions and clicks, shuffled."""
    shop, random = ads(CART + "\n" + CLICKED), Random(7)
    subjects = {"add": "cart", "impression": "a", "click": "a", "purchase": None}
    for round_ in range(12):
        events = [(random.choice([*subjects]), clock.now - random.randrange(12)) for _ in range(7)]
        answers: set[object] = set()
        for turn in range(4):
            visitor = f"v{round_}-{turn}"
            for event, second in events:
                shop.record(visitor, event, subjects[event], at=second)
            answers.add(verdicts(shop.decide(visitor)))
            random.shuffle(events)
        assert len(answers) == 1


def verdicts(decision: Decision) -> tuple[object, ...]:
    """The verdicts on all candidates."""
    return tuple(decision[candidate] for candidate in decision)


@pytest.mark.parametrize("order", [*itertools.permutations(("visit", "purchase", "visit late"))])
def test_only_the_newest_anchor_counts(ads: Ads, clock: Clock, order: tuple[str, ...]) -> None:
    """An older one neither hides what came after it nor brings back what came before the newest."""
    shop = ads('[campaign.a]\naudience = ["visit since purchase"]')
    shop.record("v", "purchase", at=clock.now - 90)
    for event in order:
        shop.record("v", event.partition(" ")[0], at=clock.now - {"visit": 60, "purchase": 50, "visit late": 40}[event])
    assert shop.decide("v")["a"]
    shop.record("v", "purchase", at=clock.now - 40)
    assert not shop.decide("v")["a"]


# ---- what is reserved ----


def test_a_pending_hold_is_no_anchor(ads: Ads, clock: Clock) -> None:
    """It may yet be released; once it is confirmed it is an impression at the time it was shown."""
    shop = ads('[campaign.a]\naudience = ["visit since impression b"]\n[campaign.b]')
    shop.record("v", "visit", "x")
    clock.now += 1
    claim = shop.claim("v", ["b"], hold="10 minutes")
    assert claim is not None
    clock.now += MINUTE
    assert shop.decide("v")["a"]
    assert shop.claim("v", ["a"]) is not None
    assert shop.confirm(claim) == "confirmed"
    assert not shop.decide("v")["a"]
    assert shop.claim("v", ["a"]) is None


def test_what_is_reserved_counts_since_any_event(ads: Ads, clock: Clock) -> None:
    """It may be shown at any moment until it lapses, so later than any click."""
    shop = ads(CLICKED)
    held = [shop.claim("v", ["a"], hold="10 minutes") for _ in range(2)]
    assert None not in held
    clock.now += 1
    shop.record("v", "click", "a")
    assert shop.claim("v", ["a"]) is None
    verdict = shop.decide("v")["a"]
    assert (verdict.seen, verdict.limit) == (2, 2)
    assert eligible_again(shop) is not None
    clock.now += 10 * MINUTE
    assert shop.claim("v", ["a"]) is not None


# ---- when eligible again ----


def test_a_cap_since_an_event_ends_with_what_is_remembered(ads: Ads, clock: Clock) -> None:
    """If nothing else happens: when the first of what it counts is older than the retention."""
    shop = ads('retention = "30 days"\n' + CLICKED)
    see(shop, "a", 9 * DAY, 2 * DAY, clock=clock)
    shop.record("v", "click", "a", at=clock.now - 10 * DAY)
    assert eligible_again(shop) == clock.now - 9 * DAY + 30 * DAY + 1


def test_an_audience_since_an_event_takes_a_new_event(ads: Ads, clock: Clock) -> None:
    """Nothing that time alone brings about."""
    shop = ads(CART)
    shop.record("v", "purchase", at=clock.now - 9)
    verdict = shop.decide("v")["cart"]
    assert (verdict.reason, verdict.seen, verdict.limit, verdict.eligible_at) == ("audience", 0, 1, None)


def test_of_a_gap_and_a_cap_since_an_event_the_later_is_named(ads: Ads, clock: Clock) -> None:
    """Both have to end; a click ends the cap alone."""
    shop = ads('retention = "30 days"\n[campaign.a]\ncaps = ["1 since click {campaign}"]\ngap = "2 hours"')
    see(shop, "a", HOUR, clock=clock)
    verdict = shop.decide("v")["a"]
    assert (verdict.reason, verdict.eligible_at) == ("cap", at(clock.now - HOUR + 30 * DAY + 1))
    shop.record("v", "click", "a", at=clock.now - 60)
    verdict = shop.decide("v")["a"]
    assert (verdict.reason, verdict.eligible_at) == ("gap", at(clock.now + HOUR + 1))
    assert eligible_again(shop) == clock.now + HOUR + 1


# ---- what is kept ----


def test_an_anchor_is_remembered_as_long_as_anything(ads: Ads, clock: Clock) -> None:
    """The policy's retention, and then it never happened, nor did anything before it."""
    shop = ads('retention = "30 days"\n' + CART)
    shop.record("v", "add", "cart")
    clock.now += 1
    shop.record("v", "purchase")
    clock.now += 30 * DAY - 1
    assert not shop.decide("v")["cart"]
    shop.record("v", "add", "cart")
    assert shop.decide("v")["cart"]


def test_an_anchor_is_kept_although_no_other_rule_asks_about_it(ads: Ads, clock: Clock) -> None:
    """Exported under its own name."""
    shop = ads(CLICKED)
    shop.record("v", "click", "a")
    kept = shop.export("v")["timelines"]
    assert [*kept] == ["click a"]
    assert kept["click a"]["at"] == [at(clock.now).isoformat()]


def test_the_newest_anchor_is_enough(ads: Ads, clock: Clock) -> None:
    """Hundreds of clicks leave a short timeline, and the newest counts."""
    shop = ads(CLICKED)
    see(shop, "a", 1, 1, clock=clock)
    for age in range(300, 1, -1):
        shop.record("v", "click", "a", at=clock.now - age)
    assert not shop.decide("v")["a"]
    shop.record("v", "click", "a", at=clock.now - 1)
    assert shop.decide("v")["a"]
    assert len(shop.export("v")["timelines"]["click a"]["at"]) == 16


def test_merged_visitors_share_their_anchors(ads: Ads, clock: Clock) -> None:
    """What the cookie bought ends the customer's cart."""
    shop = ads(CART)
    shop.record("customer", "add", "cart", at=clock.now - 60)
    shop.record("cookie", "purchase", at=clock.now - 30)
    assert shop.decide("customer")["cart"]
    assert shop.merge("cookie", into="customer") is True
    assert not shop.decide("customer")["cart"]
