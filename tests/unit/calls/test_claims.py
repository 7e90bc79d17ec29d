"""Reserved impressions: they count at once, lapse at their end, become impressions or are undone; and their tokens."""

from __future__ import annotations

import base64
import json
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget import (
    Candidate,
    Claim,
    ConfigError,
    InputError,
    MemoryStore,
    NotExecuted,
    Policy,
    Retargeter,
    StoreError,
    TokenError,
)
from retarget.calls.tokens import Token, seal, unseal
from retarget.events import Subject
from retarget.timelines import MOST_TIMELINES, Answer, State, Store, Write
from tests.support import servers
from tests.support.fixtures import Ads, Clock
from tests.support.servers import Server

MINUTE, HOUR, DAY = 60, 3_600, 86_400
QUARTER = 15 * MINUTE
SECRET = "sixteen bytes or more"  # noqa: S105 - of these tests only
CAP = '[campaign.a]\ncaps = ["1 per hour"]'


def hold(ads: Retargeter, subject: Subject = "a", length: str = "15 minutes", visitor: str = "v") -> Claim:
    """Reserve an impression, which must be possible."""
    claim = ads.claim(visitor, [subject], hold=length)
    assert claim is not None
    return claim


def free(ads: Retargeter, subject: Subject = "a", now: int | None = None) -> bool:
    """Whether she may be shown it; asking changes nothing."""
    return bool(ads.decide("v", [subject], now=now).eligible)


def again(ads: Retargeter, subject: Subject = "a") -> int | None:
    """`eligible_at` in epoch seconds, tried: free then, and not one second before."""
    verdict = ads.decide("v", [subject])[subject]
    assert not verdict
    if verdict.eligible_at is None:
        return None
    at = int(verdict.eligible_at.timestamp())
    assert (free(ads, subject, at - 1), free(ads, subject, at)) == (False, True)
    return at


def shown(ads: Retargeter, campaign: str = "a", visitor: str = "v") -> list[int]:
    """The moments of the impressions that are remembered, reserved ones left aside."""
    found = ads.export(visitor)["timelines"].get(f"impression {campaign}", {"at": []})["at"]
    return [int(datetime.fromisoformat(at).timestamp()) for at in found]


def reserved(ads: Retargeter, visitor: str = "v") -> list[str]:
    """The names of the reservations that are remembered, also of those that have lapsed."""
    return [name for name in ads.export(visitor)["timelines"] if name.startswith("reserv") and name != "reserved until"]


# -- what a reserved impression counts for -----------------------------------------------------------------------------

_SHOP = 'labels = { advertiser = "acme", channel = "email" }'
RULES: list[tuple[str, Subject, Subject, str]] = [
    ('[campaign.a]\ncaps = ["1 per 10 minutes"]', "a", "a", "cap"),
    ('[campaign.a]\ncaps = ["1 per day"]', "a", "a", "cap"),
    *[(f'[campaign.a]\ncaps = ["1 per calendar {p}"]', "a", "a", "cap") for p in ("hour", "day", "week", "month")],
    ('[campaign.a]\nstart = 2026-11-01\nend = 2026-12-24\ncaps = ["1 per flight"]', "a", "a", "cap"),
    ('[campaign.a]\ncaps = ["1 per lifetime"]', "a", "a", "cap"),
    ('[defaults]\ncaps = ["1 per day"]', "any", "any", "cap"),
    ('[campaign.a]\ngap = "2 hours"', "a", "a", "gap"),
    ('[campaign.a]\ncaps = [{ cap = "4 per day", spread = true }]', "a", "a", "gap"),
    (f'[caps]\nadvertiser = ["1 per day"]\n[campaign.a]\n{_SHOP}\n[campaign.b]\n{_SHOP}', "a", "b", "cap"),
    (f'[caps]\n"channel:email" = ["1 per week"]\n[campaign.a]\n{_SHOP}\n[campaign.b]\n{_SHOP}', "a", "b", "cap"),
    (
        '[caps]\nitem = ["1 per day"]\n[campaign.a]\n[campaign.b]',
        Candidate("a", item="x"),
        Candidate("b", item="x"),
        "cap",
    ),
    ('[annoyance]\nthreshold = ["1 per day"]\n[campaign.a]\n[campaign.b]', "a", "b", "annoyance"),
    (
        f'[annoyance]\nthreshold = ["3 per day"]\npoints = {{ email = 3 }}\n[campaign.a]\n{_SHOP}\n[campaign.b]',
        "a",
        "b",
        "annoyance",
    ),
    ('[campaign.a]\n[campaign.b]\nexclude = ["impression a"]', "a", "b", "exclude"),
]


@pytest.mark.parametrize(("policy", "held", "asked", "reason"), RULES)
def test_a_hold_counts_at_once_and_lapses_exactly_at_its_end(
    ads: Ads, clock: Clock, policy: str, held: Subject, asked: Subject, reason: str
) -> None:
    """Every kind of cap, gaps, labels and points: blocked to the last second of the hold, free at its end."""
    shop, end = ads(policy), clock.now + QUARTER
    assert free(shop, asked)
    hold(shop, held)
    verdict = shop.decide("v", [asked])[asked]
    assert (verdict.reason, verdict.eligible_at) == (reason, datetime.fromtimestamp(end, UTC))
    assert verdict.seen == verdict.limit
    assert again(shop, asked) == end
    clock.now = end - 1
    assert shop.claim("v", [asked]) is None
    assert shop.claim("v", [asked], hold="1 minute") is None
    clock.now = end
    assert shop.claim("v", [asked]) is not None


def test_a_hold_counts_within_a_session_that_nothing_else_has_begun(ads: Ads, clock: Clock) -> None:
    """1 per session: a reserved impression is her first event, and counts all the same."""
    shop = ads('[campaign.a]\ncaps = ["1 per session"]')
    hold(shop)
    assert not free(shop)
    assert shop.claim("v", ["a"], hold="15 minutes") is None
    clock.now += QUARTER
    assert free(shop)


def test_a_hold_that_outlasts_the_session_counts_in_the_next_one_too(ads: Ads, clock: Clock) -> None:
    """1 per session: else both were confirmed in one session, and the cap passed."""
    shop = ads('[campaign.a]\ncaps = ["1 per session"]')
    shop.record("v", "visit", "x")
    first = hold(shop, length="2 hours")
    clock.now += HOUR
    second = shop.claim("v", ["a"], hold="15 minutes")
    done = [shop.confirm(claim) for claim in (first, second) if claim is not None]
    assert done == ["confirmed"]


def test_points_of_holds_show_in_the_level_of_annoyance(ads: Ads, clock: Clock) -> None:
    """What is reserved uses the threshold as what was shown does."""
    shop = ads(f'[annoyance]\nthreshold = ["5 per day"]\npoints = {{ email = 3 }}\n[campaign.a]\n{_SHOP}\n[campaign.b]')
    hold(shop, "a")
    shop.claim("v", ["b"])
    level = shop.decide("v").annoyance
    assert level is not None
    assert (level.points, level.limit) == (4, 5)
    clock.now += QUARTER
    level = shop.decide("v").annoyance
    assert level is not None
    assert level.points == 1


def test_an_audience_of_those_who_were_shown_counts_holds_too(ads: Ads, clock: Clock) -> None:
    """Counted is counted: what a cap sees as an impression, an audience sees as one."""
    shop = ads('[campaign.a]\n[campaign.b]\naudience = ["impression a"]')
    claim = hold(shop, "a")
    assert free(shop, "b")
    shop.release(claim)
    assert not free(shop, "b")


def test_a_hold_counts_across_a_calendar_boundary(ads: Ads, clock: Clock) -> None:
    """Reserved before midnight it counts today, and tomorrow until it lapses: nobody knows yet when it is shown."""
    shop = ads('[campaign.a]\ncaps = ["1 per calendar day"]')
    clock.now += 12 * HOUR - 5 * MINUTE
    claim = hold(shop)
    clock.now += 10 * MINUTE
    assert again(shop) == clock.now + 5 * MINUTE
    assert shop.confirm(claim) == "confirmed"
    assert again(shop) == clock.now - 5 * MINUTE + DAY


@pytest.mark.parametrize(
    ("ages", "lengths", "wait"),
    [
        ([50 * MINUTE], ["15 minutes"], 10 * MINUTE + 1),  # the impression leaves first
        ([50 * MINUTE], ["1 minute"], MINUTE),  # the hold lapses first
        ([], ["15 minutes", "5 minutes"], 5 * MINUTE),
        ([], ["5 minutes", "15 minutes"], 5 * MINUTE),
        ([61 * MINUTE], ["15 minutes", "1 day"], QUARTER),  # an old impression does not matter
        ([59 * MINUTE, 50 * MINUTE], [], MINUTE + 1),
    ],
)
def test_eligible_at_heeds_holds_and_impressions_together(
    ads: Ads, clock: Clock, ages: list[int], lengths: list[str], wait: int
) -> None:
    """2 per hour: whichever of the two leaves first makes room."""
    shop = ads('[campaign.a]\ncaps = ["2 per hour"]')
    for age in ages:
        shop.record("v", "impression", "a", at=clock.now - age)
    for length in lengths:
        hold(shop, length=length)
    verdict = shop.decide("v", ["a"])["a"]
    assert (verdict.seen, verdict.limit) == (2, 2)
    assert again(shop) == clock.now + wait


def test_eligible_at_heeds_all_rules_of_a_campaign_with_a_hold(ads: Ads, clock: Clock) -> None:
    """The hold's end lies in closed hours: free when they open."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]\nhours = "08:00-12:05"')
    hold(shop)
    assert again(shop) == clock.now + 20 * HOUR


@pytest.mark.parametrize("length", ["1 second", "day", "86400 seconds", timedelta(seconds=1), timedelta(days=1)])
def test_the_shortest_and_the_longest_hold(ads: Ads, clock: Clock, length: str | timedelta) -> None:
    """One second, and a day; a text or a timedelta."""
    shop = ads(CAP)
    claim = shop.claim("v", ["a"], hold=length)
    assert claim is not None
    assert claim.held_for in (1, DAY)
    assert again(shop) == clock.now + (claim.held_for or 0)


def test_the_first_eligible_candidate_is_reserved(ads: Ads) -> None:
    """Ranking is as for a plain claim; where none is eligible nothing is reserved."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]\ncaps = ["1 per day"]')
    ranked: Sequence[Subject] = ["a", Candidate("b", item="x")]
    claims = [shop.claim("v", ranked, hold="15 minutes") for _ in range(3)]
    assert [claim and claim.campaign for claim in claims] == ["a", "b", None]
    assert claims[1] is not None
    assert claims[1].candidate == Candidate("b", item="x")
    assert claims[1].counted


# -- confirmed, late, released -----------------------------------------------------------------------------------------


def test_confirm_makes_it_an_impression_at_the_confirms_moment(ads: Ads, clock: Clock) -> None:
    """The window begins when it was shown, not when it was reserved; of the reservation nothing is left."""
    shop = ads(CAP)
    claim = hold(shop)
    clock.now += 10 * MINUTE
    assert shop.confirm(claim) == "confirmed"
    assert shown(shop) == [clock.now]
    assert reserved(shop) == []
    assert again(shop) == clock.now + HOUR + 1


def test_confirm_takes_a_moment_of_its_own(ads: Ads, clock: Clock) -> None:
    """`at`: a notice that comes late says when it was shown; one from the future is refused and changes nothing."""
    shop = ads(CAP)
    claim = hold(shop)
    clock.now += 10 * MINUTE
    with pytest.raises(InputError, match="future"):
        shop.confirm(claim, at=clock.now + 301)
    with pytest.raises(InputError, match="time zone"):
        shop.confirm(claim, at=datetime.fromtimestamp(clock.now))  # noqa: DTZ006 - the mistake
    assert shown(shop) == []
    assert shop.confirm(claim, at=clock.now - MINUTE) == "confirmed"
    assert shown(shop) == [clock.now - MINUTE]


@pytest.mark.parametrize(("after", "said"), [(QUARTER - 1, "confirmed"), (QUARTER, "late"), (2 * HOUR, "late")])
def test_confirm_after_the_end_counts_and_says_late(ads: Ads, clock: Clock, after: int, said: str) -> None:
    """It was shown, so it counts, even where that passes the cap: the caller is told."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]')
    claim = hold(shop)
    clock.now += after
    other = shop.claim("v", ["a"])
    assert (other is None) == (said == "confirmed")
    assert shop.confirm(claim) == said
    assert shown(shop) == [clock.now] * (1 + (other is not None))


def test_confirm_and_release_may_be_repeated(ads: Ads, clock: Clock) -> None:
    """A repeat changes nothing and says so."""
    shop = ads('[campaign.a]\ncaps = ["3 per day"]')
    claim, other = hold(shop), hold(shop)
    assert [shop.confirm(claim) for _ in range(3)] == ["confirmed", "repeated", "repeated"]
    clock.now += QUARTER
    assert shop.confirm(claim.token) == "repeated"
    assert shown(shop) == [clock.now - QUARTER]
    assert shop.confirm(other) == "late"
    assert shop.confirm(other) == "repeated"


def test_release_frees_at_once(ads: Ads) -> None:
    """The lost bid leaves no trace that counts; a second release finds nothing."""
    shop = ads(CAP)
    claim = hold(shop)
    assert not free(shop)
    assert [shop.release(claim), shop.release(claim.token), shop.release(claim)] == [True, False, False]
    assert reserved(shop) == []
    assert shop.claim("v", ["a"]) is not None


def test_release_after_the_end_finds_nothing(ads: Ads, clock: Clock) -> None:
    """It has lapsed by itself; one second before there was something to release."""
    shop = ads('[campaign.a]\ncaps = ["2 per day"]')
    first, second = hold(shop), hold(shop)
    assert shop.release(first, now=clock.now + QUARTER - 1) is True
    assert shop.release(second, now=clock.now + QUARTER) is False


def test_release_after_confirm_does_nothing(ads: Ads) -> None:
    """What was shown cannot be unshown."""
    shop = ads(CAP)
    claim = hold(shop)
    shop.confirm(claim)
    assert shop.release(claim) is False
    assert len(shown(shop)) == 1
    assert not free(shop)


def test_confirm_after_release_counts_as_late(ads: Ads) -> None:
    """Whoever says "lost" and then "shown" was wrong once; that it was shown is what a cap is about."""
    shop = ads(CAP)
    claim = hold(shop)
    assert shop.release(claim) is True
    assert [shop.confirm(claim), shop.confirm(claim)] == ["late", "repeated"]
    assert len(shown(shop)) == 1


def test_the_label_and_the_points_are_released_and_confirmed_with_it(ads: Ads) -> None:
    """Every timeline that the reserved impression stood in is freed, and entered."""
    shop = ads(
        '[annoyance]\nthreshold = ["6 per day"]\npoints = { email = 3 }\n[caps]\nadvertiser = ["2 per day"]\n'
        f'item = ["2 per day"]\n[campaign.a]\n{_SHOP}\ncaps = ["2 per day"]'
    )
    candidate = Candidate("a", item="x")
    one, two = hold(shop, candidate), hold(shop, candidate)
    assert shop.release(one) is True
    assert shop.confirm(two) == "confirmed"
    assert reserved(shop) == []
    timelines = shop.export("v")["timelines"]
    counts = {name: len(found["at"]) for name, found in timelines.items() if name != "reserved until"}
    assert counts == {"impression a": 1, "impression advertiser:acme": 1, "impression item:x": 1, "points": 3}


def test_two_holds_that_end_in_the_same_second_are_told_apart(ads: Ads, clock: Clock) -> None:
    """One is released, one confirmed, one lapses: each by itself."""
    shop = ads('[campaign.a]\ncaps = ["3 per day"]')
    one, two, three = hold(shop), hold(shop), hold(shop)
    assert len({one.token, two.token, three.token}) == 3
    assert shop.claim("v", ["a"]) is None
    assert [shop.release(one), shop.release(one)] == [True, False]
    assert shop.decide("v")["a"].seen is None
    assert hold(shop).token != one.token
    assert shop.confirm(two) == "confirmed"
    assert not free(shop)
    clock.now += QUARTER
    assert shop.confirm(three) == "late"
    assert len(shown(shop)) == 2


def test_holds_of_different_lengths_end_in_their_own_order(ads: Ads, clock: Clock) -> None:
    """The last one reserved may be the first to lapse."""
    shop = ads('[campaign.a]\ncaps = ["3 per day"]')
    hold(shop, length="30 minutes")
    hold(shop, length="10 minutes")
    middle = hold(shop, length="20 minutes")
    clock.now += 10 * MINUTE
    plain = shop.claim("v", ["a"])
    assert plain is not None
    assert not free(shop)
    assert shop.release(middle) is True
    assert free(shop)


# -- from elsewhere ----------------------------------------------------------------------------------------------------

_ELSEWHERE = """
import sys
from retarget import Policy, Retargeter
url, token, secret, now = sys.argv[1:]
with Retargeter(Policy.from_text('[campaign.other]'), url, secret=secret, timeout=1, clock=lambda: int(now)) as ads:
    print(ads.confirm(token), ads.confirm(token), ads.release(token))
"""


def test_another_process_confirms_by_the_token(server: Server, clock: Clock) -> None:
    """The token and the secret are all it takes; its policy need not even know the campaign."""
    with Retargeter(Policy.from_text(CAP), servers.open_store(server.url), clock=clock, secret=SECRET) as shop:
        claim = hold(shop)
        words = [sys.executable, "-c", _ELSEWHERE, server.url, claim.token, SECRET, str(clock.now + MINUTE)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=servers.PATIENCE, check=True)
        assert done.stdout.split() == ["confirmed", "repeated", "False"]
        assert shop.confirm(claim) == "repeated"


def test_another_retargeter_confirms_what_this_one_reserved(ads: Ads, store: Store, clock: Clock) -> None:
    """The same store, prefix and policy: the impression is entered as if it were its own."""
    here = ads(CAP, prefix="rt:shared:", secret=SECRET)
    there = ads(CAP, prefix="rt:shared:", secret=SECRET.encode())
    claim = hold(here)
    clock.now += MINUTE
    assert there.confirm(claim.token) == "confirmed"
    assert shown(here) == [clock.now]


def test_a_hold_outlives_its_campaign(ads: Ads) -> None:
    """The policy has lost it: confirm and release work, and count where something asks still."""
    shop = ads('[annoyance]\nthreshold = ["9 per day"]\n[campaign.a]\ncaps = ["5 per day"]')
    one, two = hold(shop), hold(shop)
    shop.policy = Policy.from_text('[annoyance]\nthreshold = ["9 per day"]\n[campaign.b]')
    assert shop.confirm(one) == "confirmed"
    assert shop.release(two) is True
    level = shop.decide("v").annoyance
    assert level is not None
    assert level.points == 1
    shop.policy = Policy.from_text("[campaign.b]")
    assert shop.confirm(two) == "late"


def test_a_claim_repeated_with_its_id_reserves_once(ads: Ads, clock: Clock) -> None:
    """The same campaign, and a token that confirms the same reservation: the first answer may have been lost."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]')
    first = shop.claim("v", ["a", "b"], id="bid-1", hold="15 minutes")
    clock.now += MINUTE
    second = shop.claim("v", ["b", "a"], id="bid-1", hold="15 minutes")
    assert first is not None
    assert second is not None
    assert (first.campaign, first.repeated) == ("a", False)
    assert (second.campaign, second.repeated) == ("a", True)
    assert shop.confirm(second.token) == "confirmed"
    assert shop.confirm(first.token) == "repeated"
    assert shown(shop) == [clock.now]
    assert shop.record("v", "impression", "a", id="bid-1") is False


def test_the_same_id_of_two_visitors_are_two_reservations(ads: Ads) -> None:
    """An id names an event of one visitor."""
    shop = ads(CAP)
    claims = [shop.claim(visitor, ["a"], id="bid-1", hold="15 minutes") for visitor in ("v", "w")]
    assert [claim and shop.confirm(claim) for claim in claims] == ["confirmed", "confirmed"]
    assert [len(shown(shop, visitor=visitor)) for visitor in ("v", "w")] == [1, 1]


def test_a_hold_that_was_denied_does_not_use_its_id_up(ads: Ads, clock: Clock) -> None:
    """As for a plain claim: it is judged anew."""
    shop = ads(CAP)
    hold(shop)
    assert shop.claim("v", ["a"], id="bid-1", hold="1 minute") is None
    clock.now += QUARTER
    claim = shop.claim("v", ["a"], id="bid-1", hold="1 minute")
    assert claim is not None
    assert not claim.repeated


# -- many --------------------------------------------------------------------------------------------------------------


def test_forty_holds_on_one_campaign_are_forty(ads: Ads, clock: Clock) -> None:
    """More than a timeline keeps at least: each counts, and each is confirmed or released by itself."""
    shop = ads('[campaign.a]\ncaps = ["40 per day"]')
    claims = [hold(shop, length=f"{600 + n % 7} seconds") for n in range(40)]
    assert shop.claim("v", ["a"]) is None
    verdict = shop.decide("v")["a"]
    assert (verdict.seen, again(shop)) == (40, clock.now + 600)
    assert [shop.release(claim) for claim in claims[::2]] == [True] * 20
    assert {shop.confirm(claim) for claim in claims[1::2]} == {"confirmed"}
    assert len(shown(shop)) == 20
    assert reserved(shop) == []
    for _ in range(20):
        assert shop.claim("v", ["a"]) is not None
    assert shop.claim("v", ["a"]) is None


def test_a_bot_that_reserves_without_end_stays_within_bounds(ads: Ads, store: Store, clock: Clock) -> None:
    """No rule limits it: at 512 timelines she is full, and free again when the holds have lapsed."""
    shop = ads("[campaign.a]\n[campaign.b]", prefix="rt:bot:")
    claims = [shop.claim("v", ["a"], hold="15 minutes") for _ in range(MOST_TIMELINES + 50)]
    state = store.read(b"rt:bot:1:v")
    assert len(state) <= MOST_TIMELINES
    assert sum(len(field) + len(raw) for field, raw in state.items()) <= MOST_TIMELINES * 12
    assert claims[-1] is None
    assert shop.decide("v")["b"].reason == "full"
    clock.now += QUARTER + 1
    assert shop.claim("v", ["b"], hold="1 minute") is not None
    assert len(store.read(b"rt:bot:1:v")) <= 3


def test_lapsed_holds_leave_no_bytes(ads: Ads, store: Store, clock: Clock) -> None:
    """A visitor who comes each hour for a week, and never wins: she costs what one reservation costs."""
    shop = ads('[campaign.a]\ncaps = ["5 per day"]', prefix="rt:week:")
    sizes = set()
    for _ in range(7 * 24):
        hold(shop)
        sizes.add(sum(len(field) + len(raw) for field, raw in store.read(b"rt:week:1:v").items()))
        clock.now += HOUR
    assert len(sizes) == 1


def test_a_full_visitors_confirm_does_not_say_that_it_counted(ads: Ads) -> None:
    """Reserved while there was room, full by then: what could not be counted must not be said to have been."""
    shop = ads('[defaults]\ncaps = ["3 per day"]')
    claim = hold(shop)
    shop.record_many([("v", "impression", f"c{n}") for n in range(MOST_TIMELINES)])
    try:
        said = str(shop.confirm(claim))
    except StoreError:
        said = "refused"
    assert said not in ("confirmed", "late") or len(shown(shop)) == 1


def test_a_full_visitors_hold_can_be_released(ads: Ads) -> None:
    """Taking out needs no room."""
    shop = ads('[defaults]\ncaps = ["3 per day"]')
    claim = hold(shop)
    shop.record_many([("v", "impression", f"c{n}") for n in range(MOST_TIMELINES)])
    assert shop.release(claim) is True


def test_holds_beyond_what_a_timeline_keeps_still_count_when_others_are_released(ads: Ads) -> None:
    """A campaign that obeys no cap reserves twenty under a label of 2 per day; four that are left fill it still."""
    label = 'labels = { advertiser = "acme" }'
    shop = ads(f'[caps]\nadvertiser = ["2 per day"]\n[campaign.a]\nobeys = false\n{label}\n[campaign.b]\n{label}')
    claims = [hold(shop, "a") for _ in range(20)]
    assert [shop.release(claim) for claim in claims[:16]] == [True] * 16
    assert shop.claim("v", ["b"]) is None


@pytest.mark.parametrize("seed", range(4))
def test_holds_and_plain_claims_mixed_never_pass_a_cap(ads: Ads, clock: Clock, seed: int) -> None:
    """200 steps by chance: what is reserved and what was shown within the window is never more than the cap."""
    shop, chance = ads('[campaign.a]\ncaps = ["4 per hour"]'), random.Random(seed)
    impressions: list[int] = []
    live: dict[str, int] = {}
    for _ in range(200):
        clock.now += chance.choice([0, 0, 1, MINUTE, 5 * MINUTE])
        live = {token: end for token, end in live.items() if end > clock.now}
        used = len(live) + sum(at >= clock.now - HOUR for at in impressions)
        match chance.randrange(5):
            case 0:
                claim = shop.claim("v", ["a"])
                assert (claim is not None) is (used < 4)
                impressions += [clock.now] if claim else []
            case 1 | 2:
                length = chance.choice([1, MINUTE, QUARTER, 3 * HOUR])
                claim = shop.claim("v", ["a"], hold=timedelta(seconds=length))
                assert (claim is not None) is (used < 4)
                if claim is not None:
                    live[claim.token] = clock.now + length
            case 3 if live:
                token = chance.choice(list(live))
                assert shop.confirm(token) == "confirmed"
                impressions.append(clock.now)
                del live[token]
            case _ if live:
                token = chance.choice(list(live))
                assert shop.release(token) is True
                del live[token]
        now_used = len(live) + sum(at >= clock.now - HOUR for at in impressions)
        assert now_used <= 4
        assert free(shop) is (now_used < 4)


# -- claims that reserved nothing --------------------------------------------------------------------------------------


class Counting(MemoryStore):
    """A store that counts its calls, and is down while `down` says so."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.down = 0, False

    def _asked(self) -> None:
        self.calls += 1
        if self.down:
            raise NotExecuted("down for the test")

    def read(self, key: bytes) -> State:
        self._asked()
        return super().read(key)

    def write(self, write: Write) -> Answer:
        self._asked()
        return super().write(write)


def local(policy: str = CAP, store: Store | None = None, secret: Any = None) -> Retargeter:
    """A retargeter in memory whose clock stands."""
    store = MemoryStore() if store is None else store
    return Retargeter(Policy.from_text(policy), store, clock=lambda: 1_794_312_000, secret=secret)


def test_a_claim_without_hold_is_confirmed_already(ads: Ads) -> None:
    """Callers may confirm whatever they claimed: "repeated", and nothing to release; the store is not asked."""
    store = Counting()
    shop = local(store=store)
    claim = shop.claim("v", ["a"])
    assert claim is not None
    before = store.calls
    assert [shop.confirm(claim), shop.confirm(claim.token), shop.release(claim)] == ["repeated", "repeated", False]
    assert store.calls == before == 1
    assert len(shown(shop)) == 1


@pytest.mark.parametrize("length", [None, "15 minutes"])
def test_an_uncounted_claim_can_be_confirmed_later(length: str | None) -> None:
    """The store was down and the policy allowed: once it is back the impression counts after all, once."""
    store = Counting()
    shop = local(f'on_store_error = "allow"\n{CAP}', store)
    store.down = True
    claim = shop.claim("v", ["a"], hold=length)
    assert claim is not None
    assert not claim.counted
    with pytest.raises(NotExecuted):
        shop.confirm(claim)
    with pytest.raises(NotExecuted):
        shop.release(claim)
    store.down = False
    assert shop.release(claim) is False
    assert [shop.confirm(claim), shop.confirm(claim)] == ["late", "repeated"]
    assert len(shown(shop)) == 1


@pytest.mark.parametrize(("answer", "raises"), [("block", False), ("raise", True)])
def test_a_store_that_fails_reserves_nothing(answer: str, *, raises: bool) -> None:
    """As for a plain claim: None, or the error."""
    store = Counting()
    store.down = True
    shop = local(f'on_store_error = "{answer}"\n{CAP}', store)
    if raises:
        with pytest.raises(NotExecuted):
            shop.claim("v", ["a"], hold="1 minute")
    else:
        assert shop.claim("v", ["a"], hold="1 minute") is None


@pytest.mark.parametrize("key", ["on_unknown_visitor", "on_no_consent"])
@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_claim_without_a_visitor_has_nothing_to_confirm(key: str, secret: str | None) -> None:
    """Allowed without a look: the token can be used like any other, does nothing, and touches no store."""
    store = Counting()
    shop = local(f'{key} = "allow"\n{CAP}', store, secret=secret)
    visitor, consent = (None, True) if key == "on_unknown_visitor" else ("v", False)
    claim = shop.claim(visitor, ["a"], hold="15 minutes", consent=consent)
    assert claim is not None
    assert not claim.counted
    assert (shop.confirm(claim), shop.confirm(claim.token), shop.release(claim)) == ("repeated", "repeated", False)
    assert store.calls == 0
    assert local(CAP, store).claim(visitor, ["a"], hold="15 minutes", consent=consent) is None


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [None, SECRET])
@pytest.mark.parametrize("visitor", ["v", "\N{SNOWMAN} {x}\n\0/+=", "x" * 510])
def test_a_token_is_url_safe_and_says_whom_it_is_for(ads: Ads, secret: str | None, visitor: str) -> None:
    """Letters, digits, `-`, `_` and `.` alone; whatever the visitor and the candidate are called."""
    candidate = Candidate("caf\N{LATIN SMALL LETTER E WITH ACUTE} & co", item="\N{SNOWMAN}?", slot="a/b=c")
    shop = ads('[defaults]\ncaps = ["1 per day"]', secret=secret)
    claim = hold(shop, candidate, visitor=visitor)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", claim.token)
    assert shop.confirm(claim.token) == "confirmed"
    assert len(shown(shop, candidate.campaign, visitor)) == 1


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


@pytest.mark.parametrize("secret", [None, SECRET])
def test_no_character_of_a_token_can_be_altered(secret: str | None) -> None:
    """Every single character flipped, dropped or doubled, and every truncation: TokenError, and nothing is changed."""
    store = Counting()
    shop = local(store=store, secret=secret)
    token = hold(shop).token
    before, calls = dict(store.read(b"rt:1:v")), store.calls
    chance = random.Random(1)
    for place, letter in enumerate(token):
        head, tail = token[:place], token[place + 1 :]
        other = chance.choice(ALPHABET.replace(letter, ""))
        near = chr(ord(letter) ^ 1)
        for altered in (head + other + tail, head + near + tail, head + tail, head + letter + letter + tail, head):
            if altered != token:
                for call in (shop.confirm, shop.release):
                    with pytest.raises(TokenError):
                        call(altered)
    for suffix in ("=", "\n", ".", " "):
        with pytest.raises(TokenError):
            shop.confirm(token + suffix)
    assert store.calls == calls
    assert dict(store.read(b"rt:1:v")) == before
    assert shop.confirm(token) == "confirmed"


@pytest.mark.parametrize(
    ("made_with", "given_to"), [(SECRET, SECRET + "!"), (None, SECRET), (SECRET, None)], ids=["other", "none", "some"]
)
def test_a_token_of_another_secret_is_refused(ads: Ads, made_with: str | None, given_to: str | None) -> None:
    """Another secret; unsigned where a secret is set; signed where there is none: nothing is changed."""
    here, there = ads(CAP, prefix="rt:s:", secret=made_with), ads(CAP, prefix="rt:s:", secret=given_to)
    claim = hold(here)
    before = here.export("v")
    for given_claim in (claim, claim.token):
        with pytest.raises(TokenError, match="secret"):
            there.confirm(given_claim)
        with pytest.raises(TokenError, match="secret"):
            there.release(given_claim)
    assert here.export("v") == before


def test_a_forged_token_is_refused() -> None:
    """Whoever knows the format but not the secret can make nothing that is taken; nor can one seal serve two claims."""
    shop = local(secret=SECRET)
    one, two = hold(shop), hold(local(secret=SECRET), visitor="w")
    unsigned = seal(Token("v", Candidate("a"), b"12345"), None)
    _, payload, mine = one.token.split(".")
    _, other, _ = two.token.split(".")
    forged = [
        unsigned,
        unsigned.replace(".u", ".s"),
        f"1.{other}.{mine}",
        f"1.{payload}.s",
        f"1.{payload}.",
        f"1.{payload}",
    ]
    forged += [f"2.{payload}.{mine}", f".{payload}.{mine}", f"{payload}.{mine}", mine, ""]
    for text in forged:
        with pytest.raises(TokenError):
            shop.confirm(text)
    assert shop.confirm(one) == "confirmed"


@pytest.mark.parametrize("thing", [None, 5, b"1.x.y", ["1.x.y"], object(), "", "1..", "1.\ud800.x", "1.x.\ud800"])
def test_what_is_no_token_is_refused(thing: Any) -> None:
    """Of any type, and any text, also one that is not valid Unicode."""
    store = Counting()
    for secret in (None, SECRET):
        shop = local(store=store, secret=secret)
        for call in (shop.confirm, shop.release):
            with pytest.raises(TokenError):
                call(thing)
    assert store.calls == 0


HOLD = "0102030405"


def resealed(content: object) -> str:
    """A token without a secret whose seal is right, whatever it says: anybody can make one."""
    raw = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
    payload = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    check = base64.urlsafe_b64encode(blake2b(f"1.{payload}".encode(), digest_size=6).digest()).decode()
    return f"1.{payload}.u{check}"


def test_a_seal_without_a_secret_is_a_checksum() -> None:
    """What the tests below forge is what the library makes; the data format says how."""
    assert resealed(["v", "a", {"item": "x"}, HOLD]) == seal(
        Token("v", Candidate("a", item="x"), bytes.fromhex(HOLD)), None
    )


@pytest.mark.parametrize(
    "content",
    [
        ["v", "a", {}],
        ["v", "a", {}, HOLD, 1],
        ["v", "a", [], HOLD],
        ["v", "a", {}, 5],
        ["v", "a", {}, "xx"],
        ["v", "a", {}, "01"],
        ["v", "a", {}, "01" * 300],
        ["v", "a", {"campaign": "b"}, HOLD],
        ["v", "a", {"x": 5}, HOLD],
        ["v", "a", {"x": [1]}, HOLD],
        [5, "a", {}, HOLD],
        [None, "a", {}, HOLD],
        ["", "a", {}, HOLD],
        ["v" * 511, "a", {}, HOLD],
        ["\ud800", "a", {}, HOLD],
        ["v", "\ud800", {}, HOLD],
        ["v", None, {}, HOLD],
        ["v", ["a"], {}, HOLD],
        ["v", "", {}, HOLD],
        ["v", "a" * 300, {}, HOLD],
        {},
        5,
        b"",
        b"\xff",
        b"[" * 100_000,
    ],
    ids=lambda content: str(content)[:40],
)
def test_a_token_that_is_sealed_but_says_nonsense_is_refused(content: object) -> None:
    """Without a secret anyone can seal: no other error than TokenError, and nothing is read or written."""
    store = Counting()
    shop = local(store=store)
    for call in (shop.confirm, shop.release):
        with pytest.raises(TokenError):
            call(resealed(content))
    assert store.calls == 0


_TEXTS = st.one_of(
    st.text(),
    st.text(st.characters()),
    st.text(st.characters(categories=["Cs", "Ll"]), max_size=9).map(lambda text: f"1.{text}.{text}"),
    st.text(ALPHABET).map(lambda text: f"1.{text}"),
    st.tuples(st.text(ALPHABET), st.text(ALPHABET)).map(lambda parts: f"1.{parts[0]}.{parts[1]}"),
)


@given(_TEXTS)
@settings(max_examples=300, deadline=None)
def test_random_text_is_no_token(text: str) -> None:
    """Whatever comes in a URL: TokenError, with a secret and without, and never another error."""
    for secret in (None, SECRET.encode()):
        with pytest.raises(TokenError):
            unseal(text, secret)


_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=60)


@given(
    st.text(min_size=1, max_size=120),
    _NAMES,
    st.dictionaries(_NAMES.filter(lambda kind: kind not in ("self", "campaign")), _NAMES),
    st.binary(min_size=5, max_size=5),
    st.sampled_from([None, SECRET.encode()]),
)
@settings(max_examples=200, deadline=None)
def test_what_is_sealed_is_what_is_unsealed(
    visitor: str, campaign: str, labels: dict[str, str], mark: bytes, secret: bytes | None
) -> None:
    """Visitor, candidate and hold come back as they were."""
    token = Token(visitor, Candidate(campaign, **labels), mark)
    assert unseal(seal(token, secret), secret) == token


def test_a_token_is_the_same_in_every_release() -> None:
    """Pinned: a reservation made before an upgrade is confirmed after it."""
    token = Token("visitor-1", Candidate("a", item="x"), b"12345")
    unsigned, signed = seal(token, None), seal(token, SECRET.encode())
    payload = "WyJ2aXNpdG9yLTEiLCJhIix7Iml0ZW0iOiJ4In0sIjMxMzIzMzM0MzUiXQ"
    assert unsigned == f"1.{payload}.u2RGEIuNZ"
    assert signed == f"1.{payload}.sO38VT00tLNBvRn7sNa7GdA"


@pytest.mark.parametrize("secret", ["", "short", "fifteen bytes..", b"short", "\N{SNOWMAN}" * 5])
def test_a_secret_too_short_is_refused_and_not_told(secret: str | bytes) -> None:
    """Sixteen bytes at least; the message gives the length, not the secret."""
    with pytest.raises(ConfigError, match="at least 16") as caught:
        local(secret=secret)
    assert not secret or str(secret) not in str(caught.value)


@pytest.mark.parametrize("secret", [12345678901234567890, ["sixteen"] * 16, "\ud800" * 16])
def test_a_secret_that_is_none_is_refused(secret: object) -> None:
    """A number, a list, a text that is not valid Unicode: ConfigError, without the secret in it."""
    with pytest.raises(ConfigError):
        local(secret=secret)


@pytest.mark.parametrize("secret", ["sixteen bytes..!", b"\0" * 16, "\N{SNOWMAN}" * 6])
def test_a_secret_of_sixteen_bytes_will_do(secret: str | bytes) -> None:
    """Text or bytes; counted in bytes."""
    shop = local(secret=secret)
    assert shop.confirm(hold(shop)) == "confirmed"


def test_a_claim_shows_neither_its_token_nor_the_visitor() -> None:
    """Claims end up in logs; whoever reads those must not be able to confirm."""
    claim = hold(local(), visitor="her-secret-id")
    for text in (repr(claim), str(claim)):
        assert claim.token not in text
        assert "her-secret-id" not in text


def test_a_refusal_shows_neither_the_token_nor_the_visitor() -> None:
    """Errors end up in logs too."""
    claim = hold(local(secret=SECRET), visitor="her-secret-id")
    with pytest.raises(TokenError) as caught:
        local().confirm(claim)
    assert claim.token not in str(caught.value)
    assert "her-secret-id" not in str(caught.value)


# -- wrong input, and what is remembered -------------------------------------------------------------------------------

BAD_HOLDS: list[object] = [
    *["", " ", "soon", "0 minutes", "-5 minutes", "1.5 minutes", "2 days", "86401 seconds", "lifetime", "flight"],
    *["calendar day", "session", "1 month", "15", "9" * 5_000 + " days", "1" + "0" * 400 + " days", "\ud800"],
    *[0, 15, 15.0, True, b"15 minutes", [], {}, pytest.param(object(), id="object")],
    *[timedelta(0), timedelta(seconds=-1), timedelta(microseconds=999_999), timedelta(days=1, seconds=1)],
    *[timedelta.max, timedelta.min],
]


@pytest.mark.parametrize("length", BAD_HOLDS, ids=lambda length: repr(length)[:25])
def test_a_bad_hold_is_refused_and_changes_nothing(length: object) -> None:
    """From a second to a day, as text or timedelta; the message names the argument, the store is not asked."""
    store = Counting()
    with pytest.raises(InputError, match=r"^hold=") as caught:
        local(store=store).claim("v", ["a"], hold=length)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 250
    assert store.calls == 0
    with pytest.raises(InputError, match=r"^hold="):
        local(store=store).claim(None, ["a"], hold=length)  # type: ignore[arg-type]


def test_a_hold_near_the_end_of_time_is_an_answer_or_a_refusal(ads: Ads) -> None:
    """Moments end in 2106: a hold that would end later is no struct.error."""
    shop = ads(CAP)
    try:
        claim = shop.claim("v", ["a"], now=0xFFFF_FFFF - 300, hold="1 day")
    except InputError:
        return
    assert claim is not None


def test_an_export_shows_reservations_readably(ads: Ads, clock: Clock) -> None:
    """By the names that a policy would use, with their ends; and it can be written as JSON."""
    shop = ads('[annoyance]\nthreshold = ["9 per day"]\n[campaign.a]\ncaps = ["5 per day"]')
    hold(shop)
    told = shop.export("v")
    end = datetime.fromtimestamp(clock.now + QUARTER, UTC).isoformat()
    marks = [name for name in told["timelines"] if name.startswith("reservation ")]
    assert len(marks) == 1
    assert re.fullmatch(r"reservation [0-9a-f]{10}", marks[0])
    assert set(told["timelines"]) == {"reserved impression a", "reserved points", "reserved until", marks[0]}
    assert all(found["at"] == [end] for found in told["timelines"].values())
    assert json.loads(json.dumps(told)) == told


def test_forget_forgets_reservations(ads: Ads) -> None:
    """Nothing is left; a confirmation afterwards counts as late, for it was shown."""
    shop = ads(CAP)
    claim = hold(shop)
    assert shop.forget("v") is True
    assert shop.export("v")["timelines"] == {}
    assert free(shop)
    assert shop.release(claim) is False
    assert shop.forget("v") is False
    assert shop.confirm(claim) == "late"


def test_a_hold_alone_keeps_the_visitor_no_longer_than_itself(ads: Ads, server: Server) -> None:
    """On a server: a reservation of 15 minutes expires with its key, one second later at most."""
    with Retargeter(Policy.from_text(CAP), servers.open_store(server.url), prefix="rt:ttl:") as shop:
        hold(shop)
        with server.client() as client:
            assert QUARTER - 5 <= client.ttl("rt:ttl:1:v") <= QUARTER + 1


def test_a_hold_alone_keeps_the_visitor_in_memory_no_longer_than_itself(clock: Clock) -> None:
    """The same in memory, where the number is exact; a confirmed impression is kept as long as its window."""
    store = MemoryStore()
    shop = Retargeter(Policy.from_text(CAP), store, clock=clock)
    claim = hold(shop)
    assert store.ttl(b"rt:1:v", clock.now) == QUARTER + 1
    store.expire(clock.now + QUARTER + 1)
    assert len(store) == 1
    assert shop.confirm(claim) == "confirmed"
    assert HOUR < (store.ttl(b"rt:1:v", clock.now) or 0) <= HOUR + 8
    other = hold(shop, visitor="w")
    assert shop.release(other)
    store.expire(clock.now + QUARTER + 2)
    assert len(store) == 1


def test_when_again_leaves_out_what_the_session_does_not_count() -> None:
    """An impression before the session began is no part of it: free as the reservation lapses."""
    policy = Policy.from_text(
        'session = "10 minutes"\n[annoyance]\nthreshold = ["4 per session"]\npoints = { email = 2 }\n'
        '[campaign.a]\nlabels = { channel = "email" }'
    )
    now = [1_795_600_000]
    ads = Retargeter(policy, "memory://", clock=lambda: now[0])
    ads.record("v", "impression", "a", at=now[0] + 1)  # by a clock that is ahead: the session begins with it
    claim = ads.claim("v", ["a"], hold="1 second")
    assert claim is not None
    ads.confirm(claim)
    now[0] += 599
    assert ads.claim("v", ["a"], hold="1 second") is not None
    again = ads.decide("v")["a"].eligible_at
    assert again is not None
    assert int(again.timestamp()) == now[0] + 1


def test_the_name_of_a_label_in_a_token_is_checked() -> None:
    """Without a secret anybody can write a token: a name that is no Unicode is a TokenError, as a value is."""
    for labels in ({"\ud800": "x"}, {"item": "\ud800"}, {"": "x"}):
        with pytest.raises(TokenError):
            local().confirm(resealed(["v", "a", labels, HOLD]))
