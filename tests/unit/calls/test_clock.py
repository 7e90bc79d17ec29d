"""clock.py: when something happened, what the clock says is still open, and the plan at a second, shared."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from retarget import InputError, Policy, Retargeter
from retarget.calls.clock import Clock
from retarget.engine import Plan
from retarget.timelines import Store
from tests.support.fixtures import Ads
from tests.support.fixtures import Clock as Hands
from tests.support.holds import HOUR, MINUTE, hold, shown

NOW = 1_795_600_000
PLAN = Plan(Policy.from_text('timezone = "Europe/Zurich"\n[campaign.a]\nhours = "08:00-09:00"'))
TWO = '[campaign.a]\ncaps = ["2 per day"]'


def test_a_decision_is_judged_at_its_own_time_or_the_clocks() -> None:
    """Floored to the second; an aware datetime and epoch seconds mean the same; however far ahead."""
    clock = Clock(lambda: NOW + 0.9, own=False)
    assert clock.now(None) == NOW
    assert clock.now(NOW - 5.5) == NOW - 6
    assert clock.now(datetime.fromtimestamp(NOW - 7, UTC)) == NOW - 7
    assert clock.now(NOW + 400 * 86_400) == NOW + 400 * 86_400


@pytest.mark.parametrize(
    ("own", "at", "happened", "judged"),
    [
        (False, None, (NOW, NOW), NOW),
        (True, None, (NOW, NOW), NOW),
        (False, NOW - 100, (NOW - 100, NOW), NOW - 100),
        (True, NOW - 100, (NOW - 100, NOW), NOW),
        (False, NOW + 300.9, (NOW + 300, NOW), NOW + 300),
        (True, NOW + 300, (NOW + 300, NOW), NOW),
        (True, NOW + 400 * 86_400, (NOW + 400 * 86_400, NOW), NOW),
    ],
)
def test_an_event_has_its_own_time_and_the_clocks(
    *, own: bool, at: int | None, happened: tuple[int, int], judged: int
) -> None:
    """A past event is judged at its own time unless a clock was given; with one, no time is too far ahead."""
    clock = Clock(lambda: NOW, own=own)
    moment = clock.happened(at, "at")
    assert moment == happened
    assert clock.judged(moment) == judged


@pytest.mark.parametrize("name", ["at", "now"])
def test_a_write_too_far_ahead_of_the_clock_is_refused(name: str) -> None:
    """More than 300 seconds: an error that names the argument, says how many, and what to do for simulated time."""
    with pytest.raises(InputError, match=rf"^{name}=1795600301 is 301 seconds in the future; at most 300.*a clock=$"):
        Clock(lambda: NOW, own=False).happened(NOW + 301, name)


CALLS: dict[str, Callable[[Retargeter, float], object]] = {
    "claim": lambda ads, when: ads.claim("v", ["a"], now=when),
    "claim_many": lambda ads, when: ads.claim_many([("v", ["a"])], now=when),
    "confirm": lambda ads, when: ads.confirm(hold(ads), at=when),
    "record": lambda ads, when: ads.record("v", "impression", "a", at=when),
    "record_many": lambda ads, when: ads.record_many([("v", "impression", "a", when)]),
    "release": lambda ads, when: ads.release(hold(ads), now=when),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_write_has_the_same_limit(store: Store, call: str) -> None:
    """300 seconds ahead of the system's clock are taken, more are refused, and nothing is changed by then."""
    ads = Retargeter(Policy.from_text(TWO), store)
    now = datetime.now(UTC).timestamp()
    with pytest.raises(InputError, match=r"^(at|now)=.* seconds in the future; at most 300 are allowed"):
        CALLS[call](ads, now + 360)
    assert shown(ads) == []
    CALLS[call](ads, now + 240)
    assert len(shown(ads)) == (call != "release")


@pytest.mark.parametrize("call", CALLS)
def test_with_a_clock_of_its_own_no_time_is_too_far_ahead(ads: Ads, clock: Hands, call: str) -> None:
    """The caller says what time it is: a simulation may go as it likes."""
    shop = ads('[campaign.a]\ncaps = ["9 per day"]')
    CALLS[call](shop, clock.now + 400 * 86_400)


def test_a_claim_far_ahead_does_not_forget_today(store: Store) -> None:
    """Refused, so that what counts today is still there."""
    ads = Retargeter(Policy.from_text('[campaign.a]\ncaps = ["3 per day"]'), store)
    for _ in range(3):
        assert ads.record("v", "impression", "a")
    with pytest.raises(InputError, match=r"^now=.* is 34,5\d\d,\d\d\d seconds in the future"):
        ads.claim("v", ["a"], now=datetime.now(UTC) + timedelta(days=400))
    assert ads.claim("v", ["a"]) is None


@pytest.mark.parametrize("own", [True, False])
def test_the_clock_says_whether_a_hold_still_lasts(store: Store, *, own: bool) -> None:
    """2 per day, the second of them reserved and lapsed, its place given away: "late", though `at` is in time."""
    clock = Hands(int(datetime.now(UTC).timestamp()))
    given = {"clock": clock} if own else {}
    ads = Retargeter(Policy.from_text(TWO), store, **given)  # type: ignore[arg-type]
    begin = clock.now - HOUR
    ads.record("v", "impression", "a", at=begin - MINUTE)
    reserved = [ads.claim("v", ["a"], hold="1 minute", now=begin), ads.claim("w", ["a"], hold="1 minute", now=begin)]
    claim = ads.claim("v", ["a"], now=begin + 2 * MINUTE)
    assert claim is not None
    first, second = reserved
    assert first is not None
    assert second is not None
    assert ads.confirm(first, at=begin + MINUTE // 2) == "late"
    assert ads.release(second, now=begin + MINUTE // 2) is False
    assert shown(ads) == [begin - MINUTE, begin + MINUTE // 2, begin + 2 * MINUTE]


def test_a_hold_that_lasts_is_confirmed_at_a_time_of_the_past_or_ahead(ads: Ads, clock: Hands) -> None:
    """The impression is placed at `at`, whatever that is; the hold is judged by the clock."""
    shop = ads('[campaign.a]\ncaps = ["9 per day"]')
    claims = [hold(shop, length="1 minute") for _ in range(3)]
    for claim, at in zip(claims, (clock.now - HOUR, clock.now + 200, clock.now + HOUR), strict=True):
        assert shop.confirm(claim, at=at) == "confirmed"
    assert shown(shop) == [clock.now - HOUR, clock.now + 200, clock.now + HOUR]


# -- the plan at a second ----------------------------------------------------------------------------------------------


def test_the_plan_at_a_second_is_computed_once() -> None:
    """Shared by the calls of that second, one for each zone; another second or another plan has its own."""
    clock = Clock(lambda: NOW, own=False)
    first = clock.plan_at(PLAN, NOW, None)
    assert clock.plan_at(PLAN, NOW, "Europe/Zurich") is clock.plan_at(PLAN, NOW, ZoneInfo("Europe/Zurich")) is first
    assert (first.now, first.zone) == (NOW, ZoneInfo("Europe/Zurich"))
    other_zone = clock.plan_at(PLAN, NOW, "Asia/Tokyo")
    assert other_zone is not first
    assert clock.plan_at(PLAN, NOW, None) is first
    offsets = [clock.plan_at(PLAN, NOW, zone) for zone in (120, "+02:00", timezone(timedelta(hours=2)))]
    assert offsets[0] is offsets[1] is offsets[2]
    other_second = clock.plan_at(PLAN, NOW + 1, None)
    assert other_second.now == NOW + 1
    other_plan = clock.plan_at(Plan(PLAN.policy), NOW + 1, None)
    assert other_plan is not other_second


def test_an_unknown_zone_is_refused() -> None:
    """The message names the argument, what was given and what would be right."""
    with pytest.raises(InputError, match=r"^timezone='Mars/Olympus': give an IANA name such as Europe/Zurich, an off"):
        Clock(lambda: NOW, own=False).plan_at(PLAN, NOW, "Mars/Olympus")
