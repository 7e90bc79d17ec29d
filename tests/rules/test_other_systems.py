"""Cases that other systems' tests pin down, in our words and with our answers.

RV: Revive Adserver, LM: limits, PL: PyrateLimiter, MA: Mautic, AC: AdCP.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from retarget import (
    Policy,
    PolicyError,
)
from retarget.timelines import SLACK
from tests.support.fixtures import Ads, Clock
from tests.support.verdicts import DAY, HOUR, MINUTE, at, eligible_again, see


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
    assert eligible_again(shop) == clock.now + 51


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
    assert eligible_again(shop) == clock.now - 2 + 61


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
    assert eligible_again(shop) == clock.now + seconds + 1


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
    clock.now += 5 + SLACK
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
    assert [eligible_again(shop, f"w{n}") for n in (1, 2, 3)] == [clock.now + wait for wait in (301, 401, 501)]


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
    assert timedelta(days=1, seconds=1) == (shop.decide("v")["a"].eligible_at or at(0)) - shop.decide("v").at
