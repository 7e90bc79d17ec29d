"""Limits, windows and calendars: the settled questions as tables of examples."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from retarget import (
    Policy,
    PolicyError,
)
from tests.support.fixtures import Ads, Clock
from tests.support.verdicts import DAY, HOUR, at, eligible_again, second, see


@pytest.mark.parametrize(
    ("age", "eligible"), [(0, False), (DAY - 1, False), (DAY, False), (DAY + 1, True), (-300, False)]
)
def test_an_entry_exactly_as_old_as_the_window_still_counts(
    ads: Ads, clock: Clock, age: int, *, eligible: bool
) -> None:
    """1 per day: 86,400 s old still counts, 86,401 s old does not; one that a fast clock dated ahead counts."""
    shop = ads('[campaign.a]\ncaps = ["1 per day", "16 per 3 days"]')
    see(shop, "a", age, clock=clock)
    assert bool(shop.decide("v", ["a"])["a"]) is eligible


def test_times_are_floored_to_the_second(ads: Ads, clock: Clock) -> None:
    """Shown at 0.9 s: a cap holds up to a second longer, never shorter."""
    shop = ads('[campaign.a]\ncaps = ["1 per minute"]')
    shop.record("v", "impression", "a", at=clock.now - 60 + 0.9)
    assert shop.decide("v", ["a"], now=clock.now + 0.99).eligible == ()
    assert shop.decide("v", ["a"], now=clock.now + 1).eligible == ("a",)


def test_datetimes_of_any_zone_and_seconds_are_the_same_moment(ads: Ads, clock: Clock) -> None:
    """An aware datetime is taken by its instant."""
    shop = ads('[campaign.a]\ncaps = ["1 per minute"]')
    zurich = datetime.fromtimestamp(clock.now, UTC).astimezone()
    shop.record("v", "impression", "a", at=zurich)
    assert shop.decide("v", ["a"], now=at(clock.now + 60)).eligible == ()
    assert shop.decide("v", ["a"], now=at(clock.now + 61)).eligible == ("a",)


@pytest.mark.parametrize(
    ("rules", "ages", "again"),
    [
        ('caps = ["2 per hour"]', [1_000, 500], 3_601 - 1_000),
        ('caps = ["2 per hour"]', [3_000, 1_000, 500], 3_601 - 1_000),
        ('caps = ["2 per calendar day"]', [1_000, 500], 12 * HOUR),
        ('caps = ["1 per calendar hour"]', [0], HOUR),
        ('caps = ["1 per calendar week"]', [0], 5 * DAY + 12 * HOUR),
        ('caps = ["1 per calendar month"]', [0], 20 * DAY + 12 * HOUR),
        ('caps = ["1 per lifetime"]', [100], 400 * DAY - 99),
        ('caps = ["1 per flight"]\nstart = 2026-11-01\nend = 2026-12-24', [100], None),
        ('caps = ["1 per session"]', [100], 1_801 - 100),
        ('gap = "2 hours"', [100], 7_201 - 100),
        ('caps = [{ cap = "4 per day", spread = true }]', [100], 6 * HOUR + 1 - 100),
        ('exclude = ["impression a within 10 minutes"]', [100], 601 - 100),
        ('exclude = ["2 impression a within 10 minutes"]', [100, 50], 601 - 100),
        ('caps = ["2 per hour"]\ngap = "10 minutes"', [3_500, 100], 601 - 100),
        ('caps = ["2 per hour"]\nhours = "08:00-12:30"', [0, 0], 20 * HOUR),
        ('caps = ["2 per hour"]\ndays = "sat"', [0, 0], 3 * DAY + 12 * HOUR),
        ('caps = ["2 per hour"]\nend = 2026-11-10T12:30:00', [0, 0], None),
        ('audience = ["impression a within 50 minutes"]\ncaps = ["1 per hour"]', [0], None),
    ],
)
def test_the_next_eligible_time_is_exact(
    ads: Ads, clock: Clock, rules: str, ages: list[int], again: int | None
) -> None:
    """One second before it the visitor is blocked, at it not; None where that takes a new event, or never comes."""
    shop = ads(f"[campaign.a]\n{rules}")
    see(shop, "a", *ages, clock=clock)
    assert eligible_again(shop) == (None if again is None else clock.now + again)


@pytest.mark.parametrize(
    "policy",
    [
        '[campaign.a]\ncaps = ["0 per day"]',
        '[campaign.a]\ncaps = ["-1 per day"]',
        '[campaign.a]\ncaps = ["10001 per day"]',
        '[campaign.a]\naudience = ["0 visit"]',
        '[annoyance]\nthreshold = ["5 per day"]\npoints = { call = 10 }\n[campaign.a]\nlabels = { channel = "call" }',
    ],
)
def test_limits_that_can_never_be_met_or_mean_nothing_are_refused(policy: str) -> None:
    """(RV1, LM3) Zero, negative, absurd, or dearer than the threshold: an error that names the place."""
    with pytest.raises(PolicyError, match=r"^(campaign\.a|annoyance\.points\.call)"):
        Policy.from_text(policy)


def test_a_denied_attempt_uses_nothing_up(ads: Ads, clock: Clock) -> None:
    """A hundred denied claims and decisions later the next slot opens when it would have opened anyway."""
    shop = ads('[annoyance]\nthreshold = ["9 per day"]\n[campaign.a]\ncaps = ["2 per hour"]')
    assert [bool(shop.claim("v", ["a"])) for _ in range(100)] == [True] * 2 + [False] * 98
    assert all(not shop.decide("v", ["a"])["a"] for _ in range(100))
    assert (shop.decide("v", ["a"])["a"].seen, shop.decide("v", ["a"])["a"].limit) == (2, 2)
    assert eligible_again(shop) == clock.now + HOUR + 1


def test_a_denial_by_one_rule_consumes_none_of_the_others(ads: Ads, clock: Clock) -> None:
    """Blocked by the advertiser's cap, campaign `b` keeps all of its own."""
    shop = ads(
        '[caps]\nadvertiser = ["1 per hour"]\n'
        '[campaign.a]\nlabels = { advertiser = "x" }\n[campaign.b]\nlabels = { advertiser = "x" }\ncaps = ["2 per day"]'
    )
    shop.claim("v", ["a"])
    assert [shop.claim("v", ["b"]) for _ in range(5)] == [None] * 5
    clock.now += HOUR + 1
    assert shop.claim("v", ["b"]) is not None
    clock.now += HOUR + 1
    assert shop.claim("v", ["b"]) is not None
    clock.now += HOUR + 1
    assert shop.claim("v", ["b"]) is None


RULES = """
[annoyance]
threshold = ["3 per 3 hours"]
[caps]
advertiser = ["2 per 2 hours"]
[campaign.a]
labels = { advertiser = "x" }
caps = ["1 per hour"]
gap = "20 minutes"
"""


@pytest.mark.parametrize(
    ("ages", "reason", "rule", "seen", "limit"),
    [
        ([0], "cap", "1 per hour", 1, 1),
        ([0, 0], "cap", "advertiser: 2 per 2 hours", 2, 2),
        ([0, 0, 0], "annoyance", "annoyance: 3 per 3 hours", 3, 3),
        ([HOUR + 1, HOUR], "cap", "advertiser: 2 per 2 hours", 2, 2),
        ([2 * HOUR + 1, 0], "cap", "1 per hour", 1, 1),
    ],
)
def test_the_verdict_names_the_rule_that_lets_go_last(
    ads: Ads, clock: Clock, ages: list[int], reason: str, rule: str, seen: int, limit: int
) -> None:
    """(RV17, PL2) All rules must hold; the one named is the one to wait for, with what it counted."""
    shop = ads(RULES)
    see(shop, "a", *ages, clock=clock)
    verdict = shop.decide("v", ["a"])["a"]
    assert (verdict.reason, verdict.rule, verdict.seen, verdict.limit) == (reason, rule, seen, limit)
    eligible_again(shop)


def test_a_rule_that_never_lets_go_is_named_before_those_that_do(ads: Ads, clock: Clock) -> None:
    """No purchase, no ad: waiting does not help, and the verdict says so."""
    shop = ads('[campaign.a]\naudience = ["purchase"]\ncaps = ["1 per hour"]')
    see(shop, "a", 0, clock=clock)
    verdict = shop.decide("v", ["a"])["a"]
    assert (verdict.reason, verdict.rule, verdict.eligible_at) == ("audience", "purchase", None)


def test_an_eligible_verdict_says_so(ads: Ads, clock: Clock) -> None:
    """Truthy, reason `eligible`, eligible now, no rule."""
    verdict = ads("[campaign.a]").decide("v")["a"]
    assert verdict
    assert (verdict.reason, verdict.rule, verdict.seen, verdict.limit) == ("eligible", None, None, None)
    assert verdict.eligible_at == at(clock.now)


@pytest.mark.parametrize(
    ("shown", "rule", "again"),
    [
        ("2026-10-25T00:00:00+02:00", "1 per calendar day", "2026-10-26T00:00:00+01:00"),
        ("2026-10-25T00:00:00+02:00", "1 per day", "2026-10-25T23:00:01+01:00"),
        ("2026-03-29T00:00:00+01:00", "1 per calendar day", "2026-03-30T00:00:00+02:00"),
        ("2026-03-29T00:00:00+01:00", "1 per day", "2026-03-30T01:00:01+02:00"),
        ("2026-10-25T02:30:00+02:00", "1 per calendar hour", "2026-10-25T03:00:00+01:00"),
        ("2026-11-30T23:59:59+01:00", "1 per calendar month", "2026-12-01T00:00:00+01:00"),
        ("2026-12-31T23:59:59+01:00", "1 per calendar week", "2027-01-04T00:00:00+01:00"),
    ],
)
def test_a_calendar_day_is_the_local_day_and_a_day_is_24_hours(
    ads: Ads, clock: Clock, shown: str, rule: str, again: str
) -> None:
    """25 and 23 hours where the clocks change; the rolling day does not care."""
    clock.now = second(shown)
    shop = ads(f'timezone = "Europe/Zurich"\n[campaign.a]\ncaps = ["{rule}"]')
    see(shop, "a", 0, clock=clock)
    assert eligible_again(shop) == second(again)


def test_a_visitor_may_have_a_zone_of_her_own(ads: Ads, clock: Clock) -> None:
    """Noon in UTC: past midnight in Auckland since the impression, the same day in Zurich."""
    shop = ads('[campaign.a]\ncaps = ["1 per calendar day"]')
    see(shop, "a", 2 * HOUR, clock=clock)
    assert shop.decide("v", timezone="Pacific/Auckland").eligible == ("a",)
    assert shop.decide("v", timezone="Europe/Zurich").eligible == ()
    assert shop.claim("v", timezone="Europe/Zurich") is None
    assert shop.claim("v", timezone="Pacific/Auckland") is not None
