"""The oracle checked by hand on what depends on order: `since`, holds, ids, merges, labels and other policies."""

from __future__ import annotations

from typing import Any

import pytest

from retarget.events import Candidate
from retarget.policy import Policy
from tests.property.asking import T, ok, oracle, shown
from tests.property.local_time import DAY, HOUR
from tests.property.oracle import Oracle

# ---- since ----


@pytest.mark.parametrize(
    ("rules", "happened", "eligible"),
    [
        ({"audience": ["add cart since purchase"]}, [("add", "cart", 5)], True),
        ({"audience": ["add cart since purchase"]}, [("add", "cart", 5), ("purchase", None, 3)], False),
        ({"audience": ["add cart since purchase"]}, [("add", "cart", 3), ("purchase", None, 3)], False),
        ({"audience": ["add cart since purchase"]}, [("add", "cart", 2), ("purchase", None, 3)], True),
        ({"audience": ["add cart since purchase"]}, [("purchase", None, 3)], False),
        ({"audience": ["add cart since purchase shop"]}, [("add", "cart", 5), ("purchase", "other", 3)], True),
        ({"caps": ["2 since click {campaign}"]}, [("impression", "ad", 9)] * 2, False),
        ({"caps": ["2 since click {campaign}"]}, [("impression", "ad", 9)] * 2 + [("click", "ad", 8)], True),
        ({"caps": ["2 since click {campaign}"]}, [("impression", "ad", 9)] * 2 + [("click", "b", 8)], False),
        ({"caps": ["2 since click {campaign}"]}, [("impression", "ad", 10 * DAY + 1)] * 2, True),
        ({"exclude": ["2 impression since click channel:email"]}, [("impression", "ad", 9)] * 2, False),
        (
            {"exclude": ["2 impression since click channel:email"]},
            [("impression", "ad", 9), ("impression", "ad", 9), ("click", "b", 8)],
            True,
        ),
        ({"exclude": ["buy since visit {item}"]}, [("buy", None, 9), ("visit", "i", 8)], False),
        ({"exclude": ["buy {item} since visit"]}, [("buy", None, 9)], True),
    ],
)
def test_since(rules: dict[str, Any], happened: list[tuple[str, Any, int]], eligible: bool) -> None:  # noqa: FBT001
    """Strictly after the newest such event; as `lifetime` where it never happened, or where its label is missing."""
    asked = oracle(rules, campaign={"b": {"labels": {"channel": "email"}}}, retention="10 days")
    for event, subject, ago in happened:
        asked.record("v", event, subject, T - ago, now=T)
    assert ok(asked, T) is eligible


def test_since_does_not_go_by_the_order_of_arrival() -> None:
    """A late anchor counts at its own time, and one that is late but not the newest changes nothing."""
    asked = shown(oracle({"caps": ["1 since click {campaign}"]}), T)
    asked.record("v", "click", "ad", T - 60, now=T)
    assert not ok(asked, T)
    asked.record("v", "click", "ad", T, now=T + 60)
    assert ok(asked, T + 60)


def test_a_reservation_is_no_anchor() -> None:
    """It may yet be released; confirmed, it is one."""
    asked = oracle({}, campaign={"b": {"exclude": ["click since impression ad"]}})
    asked.record("v", "click", "b", T)
    held = asked.hold("v", ["ad"], T + 1, 60)
    assert held
    assert not ok(asked, T + 1, "b")
    assert asked.confirm(held, T + 2) == "confirmed"
    assert ok(asked, T + 2, "b")


def test_since_in_label_caps_thresholds_and_segments() -> None:
    """Everywhere a window stands; templates are filled from the candidate."""
    mail = {"labels": {"channel": "email"}}
    segments = {"buyers": {"who": ["buy since complaint"], "threshold": ["2 since visit"]}}
    asked = oracle(
        mail,
        campaign={"b": mail},
        caps={"channel": ["2 since click {campaign}"]},
        annoyance={"threshold": ["9 per day"], "segment": segments},
    )
    shown(asked, T, T, what="b")
    assert not ok(asked, T)
    asked.record("v", "click", "ad", T)
    assert (ok(asked, T), ok(asked, T, "b")) == (True, False)
    asked.record("v", "buy", None, T)
    assert asked.decide("v", "ad", T).violated == ["annoyance.segment.buyers.threshold 2 since visit"]
    asked.record("v", "visit", None, T)
    assert ok(asked, T)


# ---- reservations ----


def held_by(rules: dict[str, Any], seconds: int = 60) -> tuple[Oracle, Any]:
    """An oracle of one campaign, and a reservation of it."""
    asked = oracle(rules)
    held = asked.hold("v", ["ad"], T, seconds)
    assert held
    return asked, held


def test_a_hold_lasts_at_least_as_long_as_was_asked() -> None:
    """One second more, since times are rounded down; then it is free, and a confirmation is late."""
    asked, held = held_by({"caps": ["1 per day"]})
    assert not ok(asked, T + 60)
    assert ok(asked, T + 61)
    assert asked.eligible_at("v", "ad", T) == T + 61
    assert asked.confirm(held, T + 61) == "late"
    assert asked.confirm(held, T + 61) == "repeated"
    assert not asked.release(held, T + 61)
    assert not ok(asked, T + 61 + DAY)
    assert ok(asked, T + 62 + DAY)


def test_the_clock_says_whether_a_hold_is_open_and_at_says_when_it_was_shown() -> None:
    """Confirmed late with an `at` in time: late, and it counts at `at`."""
    asked, held = held_by({"caps": ["1 per day"]})
    assert asked.confirm(held, T + 61, T + 5) == "late"
    assert asked.eligible_at("v", "ad", T + 61) == T + 6 + DAY


def test_released_after_confirmed_and_confirmed_after_released() -> None:
    """The first stays as it is; the second counts, late."""
    asked, held = held_by({"caps": ["1 per day"]})
    assert asked.confirm(held, T) == "confirmed"
    assert not asked.release(held, T)
    assert not ok(asked, T)
    asked, held = held_by({"caps": ["1 per day"]})
    assert asked.release(held, T)
    assert ok(asked, T)
    assert asked.confirm(held, T) == "late"
    assert not ok(asked, T)


def test_what_was_reserved_is_counted_whatever_the_policy_says_by_then() -> None:
    """A label added, points raised, the campaign gone: it is undone and counted where it was reserved."""
    asked, held = held_by({})
    caps = {"channel": ["1 per day"]}
    campaigns = {"ad": {"labels": {"channel": "email"}}, "b": {"labels": {"channel": "email"}}}
    points = {"threshold": ["3 per day"], "points": {"email": 3}}
    asked.policy = Policy.model_validate({"campaign": campaigns, "caps": caps, "annoyance": points})
    assert asked.decide("v", "b", T).violated == ["annoyance.threshold 3 per day"]
    assert asked.confirm(held, T) == "confirmed"
    assert asked.decide("v", "b", T).violated == ["annoyance.threshold 3 per day"]
    asked.policy = Policy.model_validate({"campaign": campaigns, "caps": caps})
    assert ok(asked, T, "b")
    asked.record("v", "impression", "ad", T)
    assert not ok(asked, T, "b")


def test_a_claim_repeated_with_its_id_gives_the_same_reservation() -> None:
    """Also when it is confirmed by then."""
    asked = oracle({"caps": ["1 per day"]})
    held = asked.hold("v", ["ad"], T, 60, "bid")
    assert held
    assert asked.hold("v", ["ad"], T, 60, "bid") is held
    assert asked.confirm(held, T) == "confirmed"
    assert asked.hold("v", ["ad"], T, 60, "bid") is held
    assert asked.release(held, T) is False


# ---- ids ----


def test_the_latest_sixteen_ids_are_known() -> None:
    """A confirmation uses one of them; after a day the docs leave it open."""
    asked = oracle({})
    for number in range(17):
        assert asked.record("v", "visit", None, T, id=str(number))
    assert not asked.record("v", "visit", None, T, id="1")
    assert asked.record("v", "visit", None, T, id="0")
    assert not asked.in_doubt("v", ("visit", "0"), T + DAY)
    assert asked.in_doubt("v", ("visit", "0"), T + DAY + 1)
    assert asked.record("v", "visit", None, T + DAY + 1, id="new")
    assert asked.in_doubt("v", ("visit", "0"), T + DAY + 1)
    assert not asked.in_doubt("v", ("visit", "new"), T + DAY + 1)


# ---- many claims ----


def test_claims_of_a_page() -> None:
    """In their order, each after those before it; distinct: no two of one visitor are of the same campaign."""
    asked = oracle({"caps": ["2 per day"]}, campaign={"b": {}})
    page: list[Any] = [("v", ["ad", "b"], "1"), ("v", ["ad", "b"], "2"), ("v", ["ad", "b"], "3"), ("w", ["ad"], "4")]
    assert asked.claim_many(page, T, distinct=False) == ["ad", "ad", "b", "ad"]
    asked = oracle({"caps": ["2 per day"]}, campaign={"b": {}})
    for _ in range(2):
        assert asked.claim_many(page, T, distinct=True) == ["ad", "b", None, "ad"]
    assert asked.claim("v", ["ad"], T) == "ad"


# ---- merges and forgetting ----


def test_a_merge_moves_everything_but_ids_and_tokens() -> None:
    """History and reservations count for the target; a token is confirmed where it was reserved, and moves then."""
    asked = shown(oracle({"caps": ["3 per day"]}), T)
    assert asked.record("v", "click", "ad", T, id="1")
    held = asked.hold("v", ["ad"], T, 60)
    assert held
    asked.merge("v", "w")
    assert asked.decide("w", "ad", T).broken == []
    asked.record("w", "impression", "ad", T)
    assert not asked.decide("w", "ad", T).eligible
    assert ok(asked, T)
    assert not asked.record("v", "click", "ad", T, id="1")
    assert asked.record("w", "click", "ad", T, id="1")
    assert asked.confirm(held, T) == "confirmed"
    assert not asked.decide("w", "ad", T + 60).eligible
    assert asked.decide("w", "ad", T + 61).eligible
    asked.merge("v", "w")
    assert not asked.decide("w", "ad", T + 61).eligible
    assert asked.confirm(held, T) == "repeated"


def test_a_merge_joins_sessions_only_where_they_touch() -> None:
    """The source's session of hours ago is not the target's; one of minutes ago is."""
    for ago, eligible in ((2 * HOUR, True), (1_800, False)):
        asked = shown(oracle({"caps": ["1 per session"]}), T - ago)
        asked.record("w", "visit", None, T)
        asked.merge("v", "w")
        assert asked.decide("w", "ad", T).eligible is eligible


def test_forgotten_is_forgotten() -> None:
    """Ids and reservations too: a token of before is late."""
    asked, held = held_by({"caps": ["1 per day"]})
    asked.record("v", "visit", None, T, id="1")
    asked.forget("v")
    assert ok(asked, T)
    assert asked.record("v", "visit", None, T, id="1")
    assert not asked.release(held, T)
    assert asked.confirm(held, T) == "late"
    assert not ok(asked, T)


# ---- labels ----


def test_a_label_never_counts_for_a_campaign_of_its_name() -> None:
    """`slot:top` the campaign, and `slot=top` on another."""
    asked = oracle({"exclude": ["click slot:top"]}, campaign={"slot:top": {"caps": ["1 per day"]}, "b": {}})
    shown(asked, T, what=Candidate("b", slot="top"))
    asked.record("v", "click", Candidate("b", slot="top"), T)
    assert ok(asked, T, "slot:top")
    assert ok(asked, T)
    asked.record("v", "click", "slot:top", T)
    assert not ok(asked, T)


def test_a_label_cap_counts_impressions_of_campaigns_that_count() -> None:
    """And nothing else that is called like the label; per flight it reaches back as far as the retention."""
    mail = {"labels": {"channel": "email"}}
    campaigns = {"b": mail, "quiet": {**mail, "counts": False}}
    rules = {**mail, "start": "2026-03-04"}
    asked = oracle(rules, campaign=campaigns, caps={"channel": ["1 per flight"]}, retention="10 days")
    asked.record("v", "impression", "quiet", T)
    asked.record("v", "click", "b", T)
    asked.record("v", "impression", "channel:email", T)
    assert ok(asked, T)
    shown(asked, T - 10 * DAY, what="b")
    assert not ok(asked, T)
    assert ok(asked, T + 1)


def test_a_template_of_the_defaults_asks_about_named_campaigns_too() -> None:
    """`{campaign}-teaser`, where there is a campaign of that name."""
    asked = oracle({}, defaults={"exclude": ["click {campaign}-teaser"]}, campaign={"ad-teaser": {}})
    asked.record("v", "click", "ad-teaser", T)
    assert (ok(asked, T), ok(asked, T, "ad-teaser")) == (False, True)
