"""The settled questions of the design as tables of examples, and cases that other systems' tests pin down.

RV: Revive Adserver, LM: limits, PL: PyrateLimiter, MA: Mautic, AC: AdCP; in our words, with our answers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from retarget import (
    Candidate,
    Event,
    InputError,
    MemoryStore,
    NotExecuted,
    PartlyExecuted,
    Policy,
    PolicyError,
    Retargeter,
    StoreError,
)
from retarget.events import Subject
from tests.support.fixtures import Ads, Clock

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def at(moment: int) -> datetime:
    """The aware datetime of an epoch second."""
    return datetime.fromtimestamp(moment, UTC)


def second(text: str) -> int:
    """The epoch second of an ISO 8601 text."""
    return int(datetime.fromisoformat(text).timestamp())


def lets_go(ads: Retargeter, subject: Subject = "a", visitor: str = "v") -> int | None:
    """`eligible_at` in epoch seconds, having looked that one second before she is blocked, and free at it."""
    verdict = ads.decide(visitor, [subject])[subject]
    assert not verdict.eligible
    assert verdict.reason != "eligible"
    if verdict.eligible_at is None:
        return None
    again = int(verdict.eligible_at.timestamp())
    assert ads.decide(visitor, [subject], now=again - 1).eligible == ()
    assert ads.decide(visitor, [subject], now=again).eligible == (subject,)
    return again


def see(ads: Retargeter, campaign: Subject, *ages: int, clock: Clock, visitor: str = "v") -> None:
    """Record an impression so many seconds ago, each."""
    for age in ages:
        assert ads.record(visitor, "impression", campaign, at=clock.now - age) is True


# -- windows and limits ------------------------------------------------------------------------------------------------


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
    """One second before it she is blocked, at it she is free; None where that takes a new event, or never comes."""
    shop = ads(f"[campaign.a]\n{rules}")
    see(shop, "a", *ages, clock=clock)
    assert lets_go(shop) == (None if again is None else clock.now + again)


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
    """(RV1, LM3) Zero, negative, absurd, or dearer than the threshold: an error that names the campaign."""
    with pytest.raises(PolicyError, match=r"campaign\.a"):
        Policy.from_text(policy)


# -- attempts, several rules -------------------------------------------------------------------------------------------


def test_a_denied_attempt_uses_nothing_up(ads: Ads, clock: Clock) -> None:
    """A hundred denied claims and decisions later the next slot opens when it would have opened anyway."""
    shop = ads('[annoyance]\nthreshold = ["9 per day"]\n[campaign.a]\ncaps = ["2 per hour"]')
    assert [bool(shop.claim("v", ["a"])) for _ in range(100)] == [True] * 2 + [False] * 98
    assert all(not shop.decide("v", ["a"])["a"] for _ in range(100))
    assert (shop.decide("v", ["a"])["a"].seen, shop.decide("v", ["a"])["a"].limit) == (2, 2)
    assert lets_go(shop) == clock.now + HOUR + 1


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
    """(RV17, PL2) All rules must hold; the one told is the one to wait for, with what it counted."""
    shop = ads(RULES)
    see(shop, "a", *ages, clock=clock)
    verdict = shop.decide("v", ["a"])["a"]
    assert (verdict.reason, verdict.rule, verdict.seen, verdict.limit) == (reason, rule, seen, limit)
    lets_go(shop)


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


# -- events: same second, same id, late, early -------------------------------------------------------------------------


def test_two_events_in_one_second_both_count(ads: Ads) -> None:
    """(PL9) Nothing merges them."""
    shop = ads('[campaign.a]\ncaps = ["2 per day"]')
    assert [bool(shop.claim("v", ["a"])) for _ in range(3)] == [True, True, False]


def test_the_same_id_counts_once(ads: Ads) -> None:
    """True the first time, False after; another event of that id, another visitor, another id count by themselves."""
    shop = ads('[campaign.a]\ncaps = ["9 per day"]\nexclude = ["click a"]')
    assert [shop.record("v", "impression", "a", id="x") for _ in range(3)] == [True, False, False]
    assert shop.record("v", "click", "a", id="x") is True
    assert shop.record("w", "impression", "a", id="x") is True
    assert shop.record("v", "impression", "a", id="y") is True
    assert len(shop.export("v")["timelines"]["impression a"]["at"]) == 2


def test_the_last_twelve_ids_are_remembered(ads: Ads) -> None:
    """A repeat that comes within twelve identified events of the visitor is known."""
    shop = ads('[campaign.a]\ncaps = ["99 per day"]')
    for number in range(12):
        assert shop.record("v", "impression", "a", id=f"id-{number}") is True
    assert [shop.record("v", "impression", "a", id=f"id-{number}") for number in range(12)] == [False] * 12


def test_a_claim_repeated_with_its_id_returns_the_same_campaign(ads: Ads) -> None:
    """Nothing more is counted, whatever the ranking or the caps say by then; `repeated` tells."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]\ncaps = ["1 per day"]')
    first = shop.claim("v", ["a", "b"], id="x")
    again = shop.claim("v", ["b", "a"], id="x")
    assert first is not None
    assert again is not None
    assert (first.campaign, first.repeated, again.campaign, again.repeated) == ("a", False, "a", True)
    assert (first.counted, again.counted) == (True, True)
    assert list(shop.export("v")["timelines"]) == ["impression a"]
    other = shop.claim("v", ["b", "a"], id="y")
    assert other is not None
    assert other.campaign == "b"


def test_a_claim_repeated_is_known_even_where_nothing_could_be_claimed(ads: Ads, clock: Clock) -> None:
    """The flight ended between the two: the first answer stands."""
    shop = ads("[campaign.a]\nend = 2026-11-10T12:00:01")
    assert shop.claim("v", id="x") is not None
    clock.now += 5
    again = shop.claim("v", id="x")
    assert again is not None
    assert (again.campaign, again.repeated) == ("a", True)


def test_an_id_recorded_and_then_claimed_is_the_same_impression(ads: Ads) -> None:
    """The impression was recorded already: the claim of that id counts nothing and returns it."""
    shop = ads('[campaign.a]\ncaps = ["9 per day"]\n[campaign.b]')
    shop.record("v", "impression", "a", id="x")
    claim = shop.claim("v", ["b", "a"], id="x")
    assert claim is not None
    assert (claim.campaign, claim.repeated) == ("a", True)


def test_a_claim_repeated_without_its_candidate_is_an_error(ads: Ads) -> None:
    """What was counted is not among what is offered now, nor in the policy: the caller is told."""
    shop = ads("[defaults]")
    shop.claim("v", ["stranger"], id="x")
    with pytest.raises(InputError, match="id"):
        shop.claim("v", ["other"], id="x")


def test_a_denied_claim_does_not_remember_its_id(ads: Ads, clock: Clock) -> None:
    """Denied is not counted: the same id may be claimed when there is room again."""
    shop = ads('[campaign.a]\ncaps = ["1 per hour"]')
    shop.claim("v", ["a"], id="x")
    assert shop.claim("v", ["a"], id="y") is None
    clock.now += HOUR + 1
    claim = shop.claim("v", ["a"], id="y")
    assert claim is not None
    assert not claim.repeated


def test_late_and_disordered_events_land_in_their_own_place(ads: Ads, clock: Clock) -> None:
    """Whatever the order of arrival, the answer is that of their times."""
    shop = ads('[campaign.a]\ncaps = ["3 per day"]')
    see(shop, "a", 10, DAY - 5, HOUR, clock=clock)
    assert lets_go(shop) == clock.now + 6
    assert shop.export("v")["timelines"]["impression a"]["at"] == [
        at(clock.now - age).isoformat() for age in (DAY - 5, HOUR, 10)
    ]


@pytest.mark.parametrize(("age", "stored"), [(DAY, True), (DAY + 1, False), (1_000 * DAY, False)])
def test_what_is_older_than_any_rule_asks_about_is_dropped_and_reported(
    ads: Ads, clock: Clock, caplog: pytest.LogCaptureFixture, age: int, *, stored: bool
) -> None:
    """False, a warning in the log `retarget` that names no visitor, and nothing stored."""
    shop = ads('[campaign.a]\ncaps = ["3 per day"]')
    with caplog.at_level(logging.WARNING, "retarget"):
        assert shop.record("visitor-4711", "impression", "a", at=clock.now - age) is stored
    assert (shop.export("visitor-4711")["timelines"] != {}) is stored
    assert [record.name for record in caplog.records] == ([] if stored else ["retarget"])
    assert "4711" not in caplog.text
    assert ("older" in caplog.text) is not stored


def test_what_is_late_beside_newer_entries_is_dropped_and_reported(
    ads: Ads, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """An old clock writes after a new one: False and a warning, the newer entries stay."""
    shop = ads('[campaign.a]\ncaps = ["3 per day"]')
    see(shop, "a", 0, clock=clock)
    clock.now -= 5 * DAY
    with caplog.at_level(logging.WARNING, "retarget"):
        assert shop.record("v", "impression", "a") is False
    assert "older" in caplog.text
    assert len(shop.export("v")["timelines"]["impression a"]["at"]) == 1


def test_what_is_dropped_may_be_kept_for_another_rule(ads: Ads, clock: Clock) -> None:
    """Too old for the cap of a day, in time for the audience of a month: it counts there."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]\naudience = ["impression within 30 days"]')
    assert shop.record("v", "impression", "a", at=clock.now - 2 * DAY) is True
    assert shop.decide("v").eligible == ("a", "b")


@pytest.mark.parametrize(("ahead", "taken"), [(1, True), (300, True), (301, False), (10 * DAY, False)])
def test_the_future_is_refused_beyond_five_minutes(ads: Ads, clock: Clock, ahead: int, *, taken: bool) -> None:
    """300 seconds are clock skew; more is an error, and nothing is stored."""
    shop = ads('[campaign.a]\ncaps = ["3 per day"]')
    if taken:
        assert shop.record("v", "impression", "a", at=clock.now + ahead) is True
    else:
        with pytest.raises(InputError, match=f"{ahead} seconds in the future; at most 300"):
            shop.record("v", "impression", "a", at=clock.now + ahead)
    assert (shop.export("v")["timelines"] != {}) is taken


def test_a_log_of_long_ago_replays_as_it_went_then(ads: Ads) -> None:
    """Every moment is judged against the now given, never the server's clock."""
    shop = ads('[campaign.a]\ncaps = ["2 per day"]', clock=None)
    then = second("2013-06-01T12:00:00Z")
    shown = [shop.claim("v", ["a"], now=then + hour * HOUR) is not None for hour in range(0, 50, 5)]
    assert shown == [True, True, False, False, False, True, True, False, False, False]


def test_a_past_moment_is_taken_at_its_word_without_a_clock(ads: Ads) -> None:
    """No clock given: an impression of 2013 is recorded and counts in 2013."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]', clock=None)
    then = second("2013-06-01T12:00:00Z")
    assert shop.record("v", "impression", "a", at=then) is True
    assert shop.decide("v", ["a"], now=then + DAY).eligible == ()
    assert shop.decide("v", ["a"], now=then + DAY + 1).eligible == ("a",)


# -- calendars ---------------------------------------------------------------------------------------------------------


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
    assert lets_go(shop) == second(again)


def test_a_visitor_may_have_a_zone_of_her_own(ads: Ads, clock: Clock) -> None:
    """Noon in UTC: past midnight in Auckland since her impression, the same day in Zurich."""
    shop = ads('[campaign.a]\ncaps = ["1 per calendar day"]')
    see(shop, "a", 2 * HOUR, clock=clock)
    assert shop.decide("v", timezone="Pacific/Auckland").eligible == ("a",)
    assert shop.decide("v", timezone="Europe/Zurich").eligible == ()
    assert shop.claim("v", timezone="Europe/Zurich") is None
    assert shop.claim("v", timezone="Pacific/Auckland") is not None


# -- policies that change ----------------------------------------------------------------------------------------------


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
    """(RV5) Five seen, two allowed: capped, and told as it is."""
    shop = ads('[campaign.a]\ncaps = ["9 per day"]')
    see(shop, "a", 5, 4, 3, 2, 1, clock=clock)
    shop.policy = Policy.from_text('[campaign.a]\ncaps = ["2 per day"]')
    verdict = shop.decide("v")["a"]
    assert (verdict.eligible, verdict.seen, verdict.limit) == (False, 5, 2)
    assert lets_go(shop) == clock.now - 2 + DAY + 1


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
    later = shop.decide("v", now=decision.at + 61)
    assert later.eligible == ("a",)


def test_a_policy_set_later_holds_for_the_next_call(ads: Ads) -> None:
    """`ads.policy = other`, read back, in force."""
    shop = ads("[campaign.a]")
    other = Policy.from_text("[campaign.b]")
    shop.policy = other
    assert shop.policy is other
    assert shop.decide("v").eligible == ("b",)


# -- a full visitor ----------------------------------------------------------------------------------------------------


def test_a_bots_interests_push_out_each_other_and_never_an_impression(ads: Ads, clock: Clock) -> None:
    """Seven hundred products visited: the newest are known, and the cap still holds."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]\naudience = ["visit product/{item} within 30 days"]')
    see(shop, "a", 100, clock=clock)
    events = [Event("v", "visit", f"product/{n}", at=clock.now - 1) for n in range(700)]
    assert shop.record_many(events) == [True] * 700
    assert len(shop.export("v")["timelines"]) <= 512
    newest, oldest = Candidate("b", item="699"), Candidate("b", item="0")
    assert shop.decide("v", ["a", newest, oldest]).eligible in [(newest,), (newest, oldest)]
    assert shop.decide("v", ["a"]).eligible == ()


def test_a_visitor_full_of_impressions_is_blocked_with_that_reason(
    ads: Ads, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """512 campaigns seen today, each capped: nothing may go, so nothing may be shown; tomorrow she is free again."""
    shop = ads('[defaults]\ncaps = ["2 per day"]')
    shop.record_many([("bot", "impression", f"c{n}") for n in range(512)])
    decision = shop.decide("bot", ["c1", "new"])
    assert decision.eligible == ()
    assert [decision[c].reason for c in decision] == ["full", "full"]
    assert shop.claim("bot", ["c1", "new"]) is None
    with caplog.at_level(logging.WARNING, "retarget"):
        assert shop.record("bot", "impression", "new") is False
    assert "full" in caplog.text
    assert "bot" not in caplog.text
    clock.now += DAY + 200
    assert shop.claim("bot", ["c1", "new"]) is not None


# -- no visitor, no consent, no store ----------------------------------------------------------------------------------


class Untouchable:
    """A store that must not be used."""

    def _touched(self, *_: object) -> Any:
        raise AssertionError("the store was touched")

    read = write = delete = read_many = write_many = health = close = _touched


class Broken(MemoryStore):
    """A store that fails while `broken` is set."""

    broken: StoreError | None = NotExecuted("gone")

    def read(self, key: bytes) -> Any:
        if self.broken:
            raise self.broken
        return super().read(key)

    def write(self, write: Any) -> Any:
        if self.broken:
            raise self.broken
        return super().write(write)

    def read_many(self, keys: Sequence[bytes]) -> list[Any]:
        return [self.broken] * len(keys) if self.broken else super().read_many(keys)

    def write_many(self, writes: Sequence[Any]) -> list[Any]:
        return [self.broken] * len(writes) if self.broken else super().write_many(writes)


@pytest.mark.parametrize("answer", ["block", "allow"])
@pytest.mark.parametrize("who", ["unknown visitor", "no consent"])
def test_no_visitor_and_no_consent_touch_no_store(clock: Clock, answer: str, who: str) -> None:
    """The policy says what they get; nothing is read, nothing counted."""
    key = "on_unknown_visitor" if who == "unknown visitor" else "on_no_consent"
    policy = Policy.from_text(f'{key} = "{answer}"\n[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]')
    shop = Retargeter(policy, Untouchable(), clock=clock)
    visitor, consent = (None, True) if who == "unknown visitor" else ("v", False)
    decision = shop.decide(visitor, consent=consent)
    assert decision.eligible == (("a", "b") if answer == "allow" else ())
    assert [decision[c].reason for c in decision] == [who, who]
    assert decision.degraded is None
    assert decision.annoyance is None
    claim = shop.claim(visitor, ["b", "a"], consent=consent, id="x")
    assert (claim and (claim.campaign, claim.counted)) == (("b", False) if answer == "allow" else None)
    assert shop.record(visitor, "impression", "a", consent=consent) is False


def test_without_a_visitor_the_clock_still_holds_for_decide_as_for_claim(clock: Clock) -> None:
    """Allowed is not around the clock: before its flight or out of its hours a campaign is shown to nobody."""
    campaigns = '[campaign.late]\nstart = 2027-01-01\n[campaign.night]\nhours = "01:00-05:00"\n[campaign.a]'
    text = f'on_unknown_visitor = "allow"\n{campaigns}'
    shop = Retargeter(Policy.from_text(text), Untouchable(), clock=clock)
    claim = shop.claim(None)
    assert claim is not None
    assert claim.campaign == "a"
    assert shop.decide(None).eligible == ("a",)


@pytest.mark.parametrize("store", [Untouchable(), Broken()])
def test_a_wrong_candidate_is_an_error_whoever_the_visitor_is(clock: Clock, store: Any) -> None:
    """Allowing the unknown visitor, or a store's failure, does not allow a campaign that the policy does not know."""
    text = 'on_unknown_visitor = "allow"\non_store_error = "allow"\n[campaign.a]'
    shop = Retargeter(Policy.from_text(text), store, clock=clock)
    visitor = None if isinstance(store, Untouchable) else "v"
    for call in (shop.claim, shop.decide):
        with pytest.raises(InputError, match="stranger"):
            call(visitor, ["a", "stranger"])


def test_a_batch_of_visitors_may_hold_unknown_ones(ads: Ads) -> None:
    """`decide_many` answers each in her place."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]')
    shop.claim("seen", ["a"])
    decisions = list(shop.decide_many(["seen", None, "new"]))
    assert [decision.eligible for decision in decisions] == [(), (), ("a",)]
    assert [decision["a"].reason for decision in decisions] == ["cap", "unknown visitor", "eligible"]


@pytest.mark.parametrize(("answer", "eligible"), [("block", ()), ("allow", ("a", "b"))])
def test_when_the_store_fails_the_policy_answers_and_marks_it(
    clock: Clock, caplog: pytest.LogCaptureFixture, answer: str, eligible: tuple[str, ...]
) -> None:
    """Block or allow; `.degraded` is the error; a claim allowed is not counted; and it recovers by itself."""
    store = Broken()
    shop = Retargeter(
        Policy.from_text(f'on_store_error = "{answer}"\n[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]'),
        store,
        clock=clock,
    )
    decision = shop.decide("v")
    assert decision.eligible == eligible
    assert decision.degraded is store.broken
    assert decision["a"].reason == "store error"
    assert [d.degraded is store.broken for d in shop.decide_many(["v", None])] == [True, False]
    claim = shop.claim("v", ["a", "b"])
    if answer == "allow":
        assert claim is not None
        assert (claim.campaign, claim.counted, claim.degraded) == ("a", False, store.broken)
    else:
        assert claim is None
    store.broken = None
    assert shop.decide("v").degraded is None
    assert shop.decide("v").eligible == ("a", "b")


def test_when_the_store_fails_the_policy_may_raise(clock: Clock) -> None:
    """`raise`: decide, claim and decide_many raise the store's error."""
    shop = Retargeter(Policy.from_text('on_store_error = "raise"\n[campaign.a]'), Broken(), clock=clock)
    for call in (lambda: shop.decide("v"), lambda: shop.claim("v"), lambda: list(shop.decide_many(["v"]))):
        with pytest.raises(NotExecuted, match="gone"):
            call()


@pytest.mark.parametrize("answer", ["block", "allow", "raise"])
def test_record_export_and_forget_always_raise(clock: Clock, answer: str) -> None:
    """Whatever the policy says about deciding, an event that was not counted is told."""
    store = Broken()
    shop = Retargeter(
        Policy.from_text(f'on_store_error = "{answer}"\n[campaign.a]\ncaps = ["1 per day"]'), store, clock=clock
    )
    with pytest.raises(NotExecuted):
        shop.record("v", "impression", "a")
    with pytest.raises(StoreError):
        shop.export("v")
    with pytest.raises(PartlyExecuted, match="2 of 3") as raised:
        shop.record_many([("v", "impression", "a"), (None, "impression", "a"), Event("w", "impression", "a")])
    assert raised.value.results == [store.broken, False, store.broken]


# -- candidates --------------------------------------------------------------------------------------------------------


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
    assert lets_go(shop, one) == clock.now + DAY + 1
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
    """The slot sells another advertiser's product: his cap counts, not the campaign's."""
    shop = ads('[caps]\nadvertiser = ["1 per day"]\n[campaign.a]\nlabels = { advertiser = "x" }')
    other = Candidate("a", advertiser="y")
    assert shop.claim("v", [other]) is not None
    assert shop.decide("v", [other, "a"]).eligible == ("a",)


# -- cases of other systems --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", ["lifetime", "session"])
@pytest.mark.parametrize(("seen", "eligible"), [(0, True), (2, True), (3, False), (4, False)])
def test_rv2_to_rv9_caps_by_what_was_seen(ads: Ads, clock: Clock, window: str, seen: int, *, eligible: bool) -> None:
    """Three for life or per session: free below three, capped at three and beyond."""
    shop = ads(f'[campaign.a]\ncaps = ["3 per {window}"]')
    see(shop, "a", *[0] * seen, clock=clock)
    assert bool(shop.decide("v")["a"]) is eligible
    assert (shop.claim("v") is not None) is eligible


def test_rv6_a_session_ends_after_a_pause_and_counts_anew(ads: Ads, clock: Clock) -> None:
    """Half an hour without any event: what was seen before is of another session; any event keeps it going."""
    shop = ads('[campaign.a]\ncaps = ["2 per session", "9 per day"]')
    see(shop, "a", 0, 0, clock=clock)
    clock.now += 1_800
    assert shop.decide("v").eligible == ()
    shop.record("v", "visit", "shop")
    clock.now += 1_800
    assert shop.decide("v").eligible == ()
    clock.now += 1
    assert shop.decide("v").eligible == ("a",)
    assert shop.claim("v") is not None
    assert shop.decide("v").eligible == ("a",)
    assert shop.claim("v") is not None
    assert shop.claim("v") is None


@pytest.mark.parametrize(
    ("ages", "eligible"),
    [([], True), ([59], False), ([60], False), ([61], True), ([70, 59], False), ([100, 61], False)],
)
def test_rv10_to_rv15_a_cap_and_a_gap_must_both_hold(
    ads: Ads, clock: Clock, ages: list[int], *, eligible: bool
) -> None:
    """(AC3) Unlike there: the gap spaces whether a cap is set or not, and a session's cap is not reset by it."""
    shop = ads('[campaign.a]\ncaps = ["2 per session"]\ngap = "60 seconds"')
    see(shop, "a", *ages, clock=clock)
    assert bool(shop.decide("v")["a"]) is eligible


def test_rv16_a_gap_runs_from_the_last_impression(ads: Ads, clock: Clock) -> None:
    """Also where a late one arrives after a newer."""
    shop = ads('[campaign.a]\ngap = "60 seconds"')
    see(shop, "a", 10, 50, clock=clock)
    assert lets_go(shop) == clock.now + 51


def test_lm1_and_lm2_all_pass_then_none(ads: Ads) -> None:
    """Ten per two minutes: ten pass at once, the eleventh does not; unused, nothing is used."""
    shop = ads('[campaign.a]\ncaps = ["10 per 2 minutes"]')
    assert [bool(shop.claim("v")) for _ in range(11)] == [True] * 10 + [False]
    assert shop.decide("v")["a"].seen == 10


COSTS = """
[annoyance]
threshold = ["10 per 2 minutes"]
points = { five = 5, six = 6, one = 1 }
[campaign.five]
labels = { channel = "five" }
[campaign.six]
labels = { channel = "six" }
[campaign.one]
labels = { channel = "one" }
"""


def test_lm3_a_cost_too_high_takes_nothing(ads: Ads) -> None:
    """Five of ten used: six do not fit and use nothing; five do."""
    shop = ads(COSTS)
    assert shop.claim("v", ["five"]) is not None
    assert shop.decide("v", ["six"]).eligible == ()
    assert shop.claim("v", ["six"]) is None
    level = shop.decide("v").annoyance
    assert level is not None
    assert (level.points, level.limit) == (5, 10)
    assert shop.claim("v", ["six", "five"]) is not None
    assert shop.claim("v", ["one"]) is None


def test_lm4_looking_takes_nothing(ads: Ads) -> None:
    """Claim, look, claim, look, claim: yes, yes, yes, no, no."""
    shop = ads('[campaign.a]\ncaps = ["2 per hour"]')
    seen = [bool(shop.decide("v").eligible if turn % 2 else shop.claim("v")) for turn in range(5)]
    assert seen == [True, True, True, False, False]


def test_lm5_a_clock_aligned_window_is_no_help(ads: Ads, clock: Clock) -> None:
    """Five, five more 1.3 windows of a half later: the eleventh fails though a minute of the clock has turned."""
    shop = ads('[campaign.a]\ncaps = ["10 per 2 minutes"]')
    assert all(shop.claim("v") for _ in range(5))
    clock.now += 78
    assert [bool(shop.claim("v")) for _ in range(6)] == [True] * 5 + [False]


def test_lm6_exactly_what_left_is_free_again(ads: Ads, clock: Clock) -> None:
    """Five early, five later: when the first five have left, five are free, not ten."""
    shop = ads('[campaign.a]\ncaps = ["10 per 2 minutes"]')
    for wait in (100, 21):
        assert all(shop.claim("v") for _ in range(5))
        clock.now += wait
    assert [bool(shop.claim("v")) for _ in range(6)] == [True] * 5 + [False]


def test_lm7_the_wait_is_until_the_oldest_leaves(ads: Ads, clock: Clock) -> None:
    """Two per minute, at 0 s and 1 s, asked at 2 s: free at 61 s, not a whole minute later."""
    shop = ads('[campaign.a]\ncaps = ["2 per minute"]')
    see(shop, "a", 2, 1, clock=clock)
    assert lets_go(shop) == clock.now - 2 + 61


def test_lm8_a_forgotten_visitor_is_new(ads: Ads) -> None:
    """Everything is free at once; the second time there is nothing to forget."""
    shop = ads('[campaign.a]\ncaps = ["1 per lifetime"]')
    shop.claim("v", id="x")
    assert shop.decide("v").eligible == ()
    assert [shop.forget("v"), shop.forget("v")] == [True, False]
    assert shop.export("v") == {"visitor": "v", "timelines": {}, "event_ids": []}
    assert shop.claim("v", id="x") is not None


def test_lm9_and_pl10_heavy_weights_pass(ads: Ads) -> None:
    """A thousand points of ten thousand, ten times: no limit of the script's is met, the eleventh does not fit."""
    shop = ads(
        '[annoyance]\nthreshold = ["10000 per day"]\npoints = { c = 1000 }\n[campaign.a]\nlabels = { channel = "c" }'
    )
    assert [bool(shop.claim("v")) for _ in range(11)] == [True] * 10 + [False]
    verdict = shop.decide("v")["a"]
    assert (verdict.seen, verdict.limit) == (10_000, 10_000)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1 per 3 hours", 3 * HOUR),
        ("1 per 3 hour", 3 * HOUR),
        ("1/2 days", 2 * DAY),
        ("1 / 2 day", 2 * DAY),
        ("1 PER Day", DAY),
        ("  1  per  90  minutes ", 90 * MINUTE),
        ("1 per 2 weeks", 14 * DAY),
    ],
)
def test_lm12_ways_to_write_a_cap(ads: Ads, clock: Clock, text: str, seconds: int) -> None:
    """Any case, singular or plural, a slash for `per`."""
    shop = ads(f'[campaign.a]\ncaps = ["{text}"]')
    see(shop, "a", 0, clock=clock)
    assert lets_go(shop) == clock.now + seconds + 1


@pytest.mark.parametrize("text", ["1 per millenium", "1 per yearl", "2 per decade", "3", "per day", "1 per 0 days", ""])
def test_lm12_and_ac4_what_is_no_cap(text: str) -> None:
    """A count without a window, a window without a count, a word that is none."""
    with pytest.raises(PolicyError, match=r"campaign\.a\.caps\[0\]"):
        Policy.from_text(f'[campaign.a]\ncaps = ["{text}"]')


def test_pl1_filling_exactly_is_fine(ads: Ads, clock: Clock) -> None:
    """3 per second and 5 per 5 seconds, 2 and 4 used: one more fits, then none."""
    shop = ads('[campaign.a]\ncaps = ["3 per second", "5 per 5 seconds"]')
    see(shop, "a", 4, 3, 0, 0, clock=clock)
    assert [bool(shop.claim("v")) for _ in range(2)] == [True, False]


def test_pl3_weights_fit_or_do_not(ads: Ads) -> None:
    """Nine of ten used: one point fits, five do not."""
    shop = ads(COSTS)
    for campaign in ("five", "one", "one", "one", "one"):
        assert shop.claim("v", [campaign]) is not None
    assert shop.decide("v", ["five", "six", "one"]).eligible == ("one",)


def test_pl4_and_pl8_events_are_kept_for_the_widest_window(ads: Ads, clock: Clock) -> None:
    """3 per second and 5 per 5 seconds: what has left the wider one is dropped by a later write, not before."""
    shop = ads('[campaign.a]\ncaps = ["3 per second", "5 per 5 seconds"]')
    see(shop, "a", 0, clock=clock)
    assert shop.export("v")["timelines"]["impression a"]["matters_for_seconds"] == 5
    clock.now += 5 + 300
    see(shop, "a", 0, clock=clock)
    assert len(shop.export("v")["timelines"]["impression a"]["at"]) == 2
    clock.now += 1
    see(shop, "a", 0, clock=clock)
    assert len(shop.export("v")["timelines"]["impression a"]["at"]) == 2


def test_pl6_the_wait_for_one_two_or_three_slots(ads: Ads, clock: Clock) -> None:
    """Until the first, the second, the third oldest leaves."""
    points = ", ".join(f"w{n} = {n}" for n in (1, 2, 3))
    campaigns = "".join(f'[campaign.w{n}]\nlabels = {{ channel = "w{n}" }}\n' for n in (1, 2, 3))
    shop = ads(f'[annoyance]\nthreshold = ["3 per 500 seconds"]\npoints = {{ {points} }}\n{campaigns}')
    see(shop, "w1", 200, 100, 0, clock=clock)
    assert [lets_go(shop, f"w{n}") for n in (1, 2, 3)] == [clock.now + wait for wait in (301, 401, 501)]


def test_pl7_both_ceilings_hold_at_every_instant(ads: Ads, clock: Clock) -> None:
    """3 per 10 s and 8 per minute over ten minutes of greedy claims: no window of either length holds more."""
    shop = ads('[campaign.a]\ncaps = ["3 per 10 seconds", "8 per minute"]')
    shown = []
    for _ in range(300):
        clock.now += 2
        if shop.claim("v"):
            shown.append(clock.now)
    for end in shown:
        assert sum(end - 10 <= moment <= end for moment in shown) <= 3
        assert sum(end - 60 <= moment <= end for moment in shown) <= 8
    assert len(shown) > 70


def test_ma4_a_month_is_the_callers_word(ads: Ads) -> None:
    """Rolling or calendar: "month" alone is refused, both readings can be written."""
    with pytest.raises(PolicyError) as raised:
        Policy.from_text('[campaign.a]\ncaps = ["1 per month"]')
    assert '"30 days"' in str(raised.value)
    assert '"calendar month"' in str(raised.value)
    assert ads('[campaign.a]\ncaps = ["1 per 30 days", "1 per calendar month"]').claim("v") is not None


def test_ac1_frequency_never_exceeds_the_cap(ads: Ads, clock: Clock) -> None:
    """Far more opportunities than reach times three: nobody is shown more than three."""
    shop = ads('[campaign.a]\ncaps = ["3 per 1 day"]')
    shown = {f"v{n}": sum(shop.claim(f"v{n}") is not None for _ in range(20)) for n in range(5)}
    assert set(shown.values()) == {3}


def test_ac2_what_cannot_be_enforced_is_refused_not_dropped() -> None:
    """A cap on what the policy does not know is an error when loaded."""
    with pytest.raises(PolicyError, match="unknown key; did you mean 'caps'"):
        Policy.from_text('[campaign.a]\ncap = ["3 per day"]')


def test_switches_obeys_and_counts_are_separate(ads: Ads) -> None:
    """A service message is never capped but uses the threshold up; a house ad obeys it and uses nothing."""
    shop = ads(
        '[annoyance]\nthreshold = ["2 per day"]\n[campaign.a]\n'
        "[campaign.service]\nobeys = false\n[campaign.house]\ncounts = false"
    )
    assert all(shop.claim("v", ["house"]) for _ in range(5))
    assert all(shop.claim("v", ["service"]) for _ in range(3))
    assert shop.decide("v").eligible == ("service",)
    assert timedelta(days=1, seconds=1) == (shop.decide("v")["a"].eligible_at or at(0)) - at(shop.decide("v").at)


def test_without_a_visitor_decide_and_claim_agree_on_what_nobody_can_be_shown() -> None:
    """Allowed without history: neither a campaign outside its hours, nor one whose rule needs an absent label."""
    policy = Policy.from_text(
        'on_unknown_visitor = "allow"\n[campaign.shut]\nhours = "08:00-09:00"\n'
        '[campaign.needs-item]\naudience = ["visit product/{item}"]\n[campaign.free]\ncaps = ["1 per day"]'
    )
    ads = Retargeter(policy, "memory://", clock=lambda: 1_795_600_000)
    decision = ads.decide(None)
    assert decision.eligible == ("free",)
    assert [decision[c].reason for c in ("shut", "needs-item", "free")] == ["hours", "audience", "unknown visitor"]
    assert ads.claim(None, ["shut", "needs-item"]) is None
    claim = ads.claim(None, ["shut", "needs-item", "free"])
    assert claim is not None
    assert (claim.campaign, claim.counted) == ("free", False)
