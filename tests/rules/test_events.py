"""Events of one second, of one id, late and early: the settled questions as examples."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from retarget import (
    InputError,
)
from tests.support.fixtures import Ads, Clock
from tests.support.verdicts import DAY, HOUR, at, eligible_again, second, see


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
    """Nothing more is counted, whatever the ranking or the caps say by then; `repeated` is set."""
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
    """What was counted is neither a candidate now nor in the policy: an InputError."""
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
    assert eligible_again(shop) == clock.now + 6
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


@pytest.mark.parametrize(("ahead", "taken"), [(1, True), (290, True), (320, False), (10 * DAY, False)])
def test_the_future_is_refused_beyond_five_minutes(ads: Ads, ahead: int, *, taken: bool) -> None:
    """300 seconds are clock skew; more is an error, and nothing is stored."""
    shop = ads('[campaign.a]\ncaps = ["3 per day"]', clock=None)
    at = datetime.now(UTC) + timedelta(seconds=ahead)
    if taken:
        assert shop.record("v", "impression", "a", at=at) is True
    else:
        with pytest.raises(InputError, match="seconds in the future; at most 300"):
            shop.record("v", "impression", "a", at=at)
    assert (shop.export("v")["timelines"] != {}) is taken


def test_a_retargeter_with_a_clock_of_its_own_takes_any_time(ads: Ads, clock: Clock) -> None:
    """Its caller says what time it is."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]')
    assert shop.record("v", "impression", "a", at=clock.now + 10 * DAY) is True
    assert shop.decide("v", now=clock.now + 10 * DAY).eligible == ()


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


def test_a_late_event_counts_for_a_caller_whose_clock_is_behind(ads: Ads, clock: Clock) -> None:
    """Out of a short window for who reports it, and inside for who is behind: each sees it where it happened."""
    shop = ads('[campaign.a]\ncaps = ["1 per 5 seconds"]\n[campaign.b]\nexclude = ["2 impression within 1 hour"]')
    assert shop.record("v", "impression", "a", at=clock.now - 60)
    assert shop.decide("v")["a"].eligible
    clock.now -= 58
    assert shop.decide("v")["a"].seen == 1
    clock.now += 4
    assert shop.decide("v")["a"].eligible
