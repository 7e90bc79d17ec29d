"""Sessions: they do not depend on the order in which events arrive, on any store, and look back at most 24 hours."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random

import pytest

from retarget import Decision
from tests.support.fixtures import Ads, Clock
from tests.support.verdicts import DAY, HOUR, MINUTE, at, eligible_again

PAUSE = 30 * MINUTE
CAPPED = '[campaign.a]\ncaps = ["1 per session"]\n[campaign.b]\naudience = ["2 visit within session"]'


@pytest.mark.parametrize("own_clock", [True, False])
def test_every_order_of_arrival_gives_the_same_session(ads: Ads, clock: Clock, *, own_clock: bool) -> None:
    """An impression and two visits, 20 minutes apart: one session, whichever comes first, late or not."""
    start = clock.now - HOUR
    events = [(start, "impression", "a"), (start + 20 * MINUTE, "visit", "x"), (start + 40 * MINUTE, "visit", "x")]
    shop = ads(CAPPED, **({} if own_clock else {"clock": None}))
    for number, order in enumerate(itertools.permutations(events)):
        visitor = f"v{number}"
        for second, event, subject in order:
            assert shop.record(visitor, event, subject, at=second)
        assert shop.decide(visitor, now=clock.now).eligible == ("b",)
        verdict = shop.decide(visitor, now=clock.now)["a"]
        assert (verdict.reason, verdict.seen) == ("cap", 1)
        assert verdict.eligible_at == at(start + 40 * MINUTE + PAUSE + 1)


def test_random_arrivals_agree(ads: Ads, clock: Clock) -> None:
    """Histories of four hours, shuffled: each order leaves the same answers, now and later."""
    random = Random(5)
    shop = ads('[campaign.a]\ncaps = ["2 per session"]\n[campaign.b]\naudience = ["3 visit within session"]')
    for round_ in range(6):
        ages = [random.randrange(0, 4 * HOUR, 7 * MINUTE) for _ in range(12)]
        events = [(clock.now - age, random.choice(["visit", "impression"])) for age in ages]
        answers = set()
        for turn in range(4):
            visitor = f"v{round_}-{turn}"
            for second, event in events:
                shop.record(visitor, event, "a" if event == "impression" else "x", at=second)
            answers.add(
                tuple(_verdicts(shop.decide(visitor, now=now)) for now in range(clock.now, clock.now + HOUR, 601))
            )
            random.shuffle(events)
        assert len(answers) == 1


def _verdicts(decision: Decision) -> tuple[object, ...]:
    return tuple(decision[candidate] for candidate in ("a", "b"))


def test_a_late_event_begins_no_session(ads: Ads, clock: Clock) -> None:
    """What happened hours ago ends no session that is going on, and counts in none."""
    shop = ads(CAPPED)
    shop.record("v", "visit", "x")
    shop.record("v", "impression", "a", at=clock.now - 3 * HOUR)
    assert shop.decide("v")["a"]
    shop.record("v", "visit", "x", at=clock.now - MINUTE)
    assert shop.decide("v").eligible == ("a", "b")


def test_what_is_too_old_for_its_own_rule_is_activity(ads: Ads, clock: Clock) -> None:
    """A click of 20 minutes ago: nobody asks about clicks that old, and the visitor was there all the same."""
    shop = ads('[campaign.a]\ncaps = ["1 per session"]\nexclude = ["click within 5 seconds"]')
    shop.record("v", "impression", "a", at=clock.now - 40 * MINUTE)
    shop.record("v", "visit", "x")
    assert shop.decide("v")["a"]
    assert shop.record("v", "click", "a", at=clock.now - 20 * MINUTE) is True
    assert not shop.decide("v")["a"]
    assert shop.record("v", "click", "a", at=clock.now - 2 * DAY) is False


def test_a_late_event_joins_two_sessions(ads: Ads, clock: Clock) -> None:
    """It happened between them: they were one, and what was shown in the first counts."""
    shop = ads(CAPPED)
    shop.record("v", "impression", "a", at=clock.now - 50 * MINUTE)
    shop.record("v", "visit", "x")
    assert shop.decide("v")["a"]
    shop.record("v", "visit", "x", at=clock.now - 25 * MINUTE)
    assert not shop.decide("v")["a"]
    assert shop.claim("v", ["a"]) is None


def test_a_pause_of_exactly_its_length_goes_on(ads: Ads, clock: Clock) -> None:
    """One second more and the session is over: for what is claimed as for what is decided."""
    shop = ads('[campaign.a]\ncaps = ["1 per session"]')
    assert shop.claim("v", ["a"]) is not None
    clock.now += PAUSE
    assert shop.claim("v", ["a"]) is None
    assert eligible_again(shop) == clock.now + 1
    clock.now += 1
    assert shop.claim("v", ["a"]) is not None


def test_a_session_that_never_pauses_looks_back_24_hours(ads: Ads, clock: Clock) -> None:
    """It is rolling, not begun anew: of two impressions in the last day both count, the day before none."""
    shop = ads('[campaign.a]\ncaps = ["2 per session"]')
    start = clock.now
    for minute in range(0, 24 * 60 + 20, 10):
        clock.now = start + minute * MINUTE
        shop.record("v", "visit", "x")
        if minute in (0, 1_380, 1_390):
            shop.record("v", "impression", "a")
    verdict = shop.decide("v")["a"]
    assert (verdict.seen, verdict.eligible_at) == (2, at(clock.now + PAUSE + 1))
    assert shop.claim("v", ["a"]) is None


def test_a_session_of_days_is_remembered_as_one_interval(ads: Ads, clock: Clock) -> None:
    """However long it lasts: a start and an end."""
    shop = ads(CAPPED)
    for _ in range(300):
        clock.now += 20 * MINUTE
        shop.record("v", "visit", "x")
    assert len(shop.export("v")["timelines"]["activity"]["at"]) == 2


def test_activity_of_the_day_before_yesterday_is_forgotten(ads: Ads, clock: Clock) -> None:
    """Only as many intervals are kept as a session can look back to."""
    shop = ads(CAPPED)
    for _ in range(100):
        clock.now += HOUR
        shop.record("v", "visit", "x")
    kept = shop.export("v")["timelines"]["activity"]["at"]
    assert len(kept) % 2 == 0
    assert 2 * 24 <= len(kept) <= 2 * 27


# ---- holds ----


def test_a_pending_hold_keeps_its_session_going(ads: Ads, clock: Clock) -> None:
    """What is reserved counts in a session for as long as it may yet be shown; then the session is over."""
    shop = ads('[campaign.a]\ncaps = ["1 per session"]')
    claim = shop.claim("v", ["a"], hold="2 hours")
    assert claim is not None
    clock.now += HOUR
    assert shop.claim("v", ["a"]) is None
    assert not shop.decide("v")["a"]
    assert shop.release(claim) is True
    assert shop.claim("v", ["a"]) is not None


def test_a_confirmed_impression_is_activity_when_it_was_shown(ads: Ads, clock: Clock) -> None:
    """The session goes on from there."""
    shop = ads('[campaign.a]\ncaps = ["1 per session"]')
    claim = shop.claim("v", ["a"], hold="2 hours")
    assert claim is not None
    clock.now += HOUR
    assert shop.confirm(claim) == "confirmed"
    clock.now += PAUSE
    assert shop.claim("v", ["a"]) is None
    clock.now += 1
    assert shop.claim("v", ["a"]) is not None


def test_what_is_released_leaves_the_visit(ads: Ads, clock: Clock) -> None:
    """The visitor was there when the claim was made: that is activity, whatever became of it."""
    shop = ads('[campaign.b]\naudience = ["visit within session"]\n[campaign.a]')
    shop.record("v", "visit", "x")
    clock.now += 20 * MINUTE
    claim = shop.claim("v", ["a"], hold="1 minute")
    assert claim is not None
    shop.release(claim)
    clock.now += 20 * MINUTE
    assert "b" in shop.decide("v").eligible


# ---- any pause ----


def pauses() -> Iterator[tuple[str, int]]:
    """Policies' pauses, in words and seconds."""
    yield from (("1 second", 1), ("10 minutes", 600), ("24 hours", DAY), ("3 days", 3 * DAY))


@pytest.mark.parametrize(("text", "seconds"), [*pauses()])
def test_the_policy_says_what_a_pause_is(ads: Ads, clock: Clock, text: str, seconds: int) -> None:
    """From a second to days; a session looks back a day at most, however long it may pause."""
    shop = ads(f'session = "{text}"\n[campaign.a]\ncaps = ["1 per session"]')
    shop.record("v", "impression", "a")
    clock.now += min(seconds, DAY)
    assert not shop.decide("v")["a"]
    clock.now += 1
    assert shop.decide("v")["a"]
