"""claims.py: what a reserved impression counts for until it lapses; many of them; wrong holds; what is remembered."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from retarget import (
    Candidate,
    InputError,
    MemoryStore,
    Policy,
    Retargeter,
    StoreError,
)
from retarget.events import Subject
from retarget.timelines import LOOK_EVERY, MOST_TIMELINES, SLACK, Store
from tests.support import servers
from tests.support.fixtures import Ads, Clock
from tests.support.holds import (
    CAP,
    DAY,
    HOUR,
    LAPSED,
    MINUTE,
    QUARTER,
    SHOP,
    Counting,
    again,
    free,
    hold,
    local,
    reserved,
    shown,
)
from tests.support.servers import Server

# -- what a reserved impression counts for -----------------------------------------------------------------------------

RULES: list[tuple[str, Subject, Subject, str]] = [
    ('[campaign.a]\ncaps = ["1 per 10 minutes"]', "a", "a", "cap"),
    ('[campaign.a]\ncaps = ["1 per day"]', "a", "a", "cap"),
    *[(f'[campaign.a]\ncaps = ["1 per calendar {p}"]', "a", "a", "cap") for p in ("hour", "day", "week", "month")],
    ('[campaign.a]\nstart = 2026-11-01\nend = 2026-12-24\ncaps = ["1 per flight"]', "a", "a", "cap"),
    ('[campaign.a]\ncaps = ["1 per lifetime"]', "a", "a", "cap"),
    ('[defaults]\ncaps = ["1 per day"]', "any", "any", "cap"),
    ('[campaign.a]\ngap = "2 hours"', "a", "a", "gap"),
    ('[campaign.a]\ncaps = [{ cap = "4 per day", spread = true }]', "a", "a", "gap"),
    (f'[caps]\nadvertiser = ["1 per day"]\n[campaign.a]\n{SHOP}\n[campaign.b]\n{SHOP}', "a", "b", "cap"),
    (f'[caps]\n"channel:email" = ["1 per week"]\n[campaign.a]\n{SHOP}\n[campaign.b]\n{SHOP}', "a", "b", "cap"),
    (
        '[caps]\nitem = ["1 per day"]\n[campaign.a]\n[campaign.b]',
        Candidate("a", item="x"),
        Candidate("b", item="x"),
        "cap",
    ),
    ('[annoyance]\nthreshold = ["1 per day"]\n[campaign.a]\n[campaign.b]', "a", "b", "annoyance"),
    (
        f'[annoyance]\nthreshold = ["3 per day"]\npoints = {{ email = 3 }}\n[campaign.a]\n{SHOP}\n[campaign.b]',
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
    """Every kind of cap, gaps, labels and points: blocked until the last second of the hold, free at its end."""
    shop, end = ads(policy), clock.now + LAPSED
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


def test_a_hold_begins_a_session_and_counts_in_it(ads: Ads, clock: Clock) -> None:
    """1 per session: a reserved impression is the visitor's first event, and counts all the same."""
    shop = ads('[campaign.a]\ncaps = ["1 per session"]')
    hold(shop)
    assert not free(shop)
    assert shop.claim("v", ["a"], hold="15 minutes") is None
    clock.now += LAPSED
    assert free(shop)


def test_a_hold_that_outlasts_the_session_counts_in_the_next_one_too(ads: Ads, clock: Clock) -> None:
    """1 per session: otherwise both could be confirmed in one session, exceeding the cap."""
    shop = ads('[campaign.a]\ncaps = ["1 per session"]')
    shop.record("v", "visit", "x")
    first = hold(shop, length="2 hours")
    clock.now += HOUR
    second = shop.claim("v", ["a"], hold="15 minutes")
    done = [shop.confirm(claim) for claim in (first, second) if claim is not None]
    assert done == ["confirmed"]


def test_a_confirmation_is_activity_and_keeps_the_session_going(ads: Ads, clock: Clock) -> None:
    """Shown 9 minutes after it was reserved, asked 9 minutes later: one session of pauses below 10 minutes."""
    shop = ads('session = "10 minutes"\n[campaign.a]\ncaps = ["1 per session"]')
    claim = hold(shop)
    clock.now += 9 * MINUTE
    assert shop.confirm(claim) == "confirmed"
    clock.now += 9 * MINUTE
    assert not free(shop)
    clock.now += 2 * MINUTE
    assert free(shop)


def test_points_of_holds_show_in_the_level_of_annoyance(ads: Ads, clock: Clock) -> None:
    """A reserved impression uses up the threshold as a shown one does."""
    shop = ads(f'[annoyance]\nthreshold = ["5 per day"]\npoints = {{ email = 3 }}\n[campaign.a]\n{SHOP}\n[campaign.b]')
    hold(shop, "a")
    shop.claim("v", ["b"])
    level = shop.decide("v").annoyance
    assert level is not None
    assert (level.points, level.limit) == (4, 5)
    clock.now += LAPSED
    level = shop.decide("v").annoyance
    assert level is not None
    assert level.points == 1


def test_an_audience_of_those_who_were_shown_counts_holds_too(ads: Ads, clock: Clock) -> None:
    """What a cap counts as an impression, an audience counts as one."""
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
    assert again(shop) == clock.now + 5 * MINUTE + 1
    assert shop.confirm(claim) == "confirmed"
    assert again(shop) == clock.now - 5 * MINUTE + DAY


@pytest.mark.parametrize(
    ("ages", "lengths", "wait"),
    [
        ([50 * MINUTE], ["15 minutes"], 10 * MINUTE + 1),  # the impression expires first
        ([50 * MINUTE], ["1 minute"], MINUTE + 1),  # the hold lapses first
        ([], ["15 minutes", "5 minutes"], 5 * MINUTE + 1),
        ([], ["5 minutes", "15 minutes"], 5 * MINUTE + 1),
        ([61 * MINUTE], ["15 minutes", "1 day"], LAPSED),  # an old impression does not matter
        ([59 * MINUTE, 50 * MINUTE], [], MINUTE + 1),
    ],
)
def test_eligible_at_considers_holds_and_impressions_together(
    ads: Ads, clock: Clock, ages: list[int], lengths: list[str], wait: int
) -> None:
    """2 per hour: the first of the two to expire makes room."""
    shop = ads('[campaign.a]\ncaps = ["2 per hour"]')
    for age in ages:
        shop.record("v", "impression", "a", at=clock.now - age)
    for length in lengths:
        hold(shop, length=length)
    verdict = shop.decide("v", ["a"])["a"]
    assert (verdict.seen, verdict.limit) == (2, 2)
    assert again(shop) == clock.now + wait


def test_eligible_at_considers_all_rules_of_a_campaign_with_a_hold(ads: Ads, clock: Clock) -> None:
    """The hold's end lies in closed hours: free when they open."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]\nhours = "08:00-12:05"')
    hold(shop)
    assert again(shop) == clock.now + 20 * HOUR


@pytest.mark.parametrize("length", ["1 second", "day", "86400 seconds", timedelta(seconds=1), timedelta(days=1)])
def test_the_shortest_and_the_longest_hold(ads: Ads, clock: Clock, length: str | timedelta) -> None:
    """One second, and a day; a string or a timedelta."""
    shop = ads(CAP)
    claim = shop.claim("v", ["a"], hold=length)
    assert claim is not None
    assert claim.held_for in (1, DAY)
    assert again(shop) == clock.now + (claim.held_for or 0) + 1


def test_the_first_eligible_candidate_is_reserved(ads: Ads) -> None:
    """Ranking is as for a plain claim; where none is eligible nothing is reserved."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]\ncaps = ["1 per day"]')
    ranked: Sequence[Subject] = ["a", Candidate("b", item="x")]
    claims = [shop.claim("v", ranked, hold="15 minutes") for _ in range(3)]
    assert [claim and claim.campaign for claim in claims] == ["a", "b", None]
    assert claims[1] is not None
    assert claims[1].candidate == Candidate("b", item="x")
    assert claims[1].counted


# -- many --------------------------------------------------------------------------------------------------------------


def test_forty_holds_on_one_campaign_are_forty(ads: Ads, clock: Clock) -> None:
    """More than the minimum that a timeline keeps: each counts, and is confirmed or released independently."""
    shop = ads('[campaign.a]\ncaps = ["40 per day"]')
    claims = [hold(shop, length=f"{600 + n % 7} seconds") for n in range(40)]
    assert shop.claim("v", ["a"]) is None
    verdict = shop.decide("v")["a"]
    assert (verdict.seen, again(shop)) == (40, clock.now + 601)
    assert [shop.release(claim) for claim in claims[::2]] == [True] * 20
    assert {shop.confirm(claim) for claim in claims[1::2]} == {"confirmed"}
    assert len(shown(shop)) == 20
    assert reserved(shop) == []
    for _ in range(20):
        assert shop.claim("v", ["a"]) is not None
    assert shop.claim("v", ["a"]) is None


def test_a_bot_that_reserves_without_end_stays_within_bounds(ads: Ads, store: Store, clock: Clock) -> None:
    """No rule limits it: the visitor is full at last, and free again when the holds have lapsed."""
    shop = ads("[campaign.a]\n[campaign.b]", prefix="rt:bot:")
    claims = [shop.claim("v", ["a"], hold="15 minutes") for _ in range(MOST_TIMELINES + 50)]
    state = store.read(b"rt:bot:2~v")
    assert len(state) <= MOST_TIMELINES
    assert sum(len(field) + len(raw) for field, raw in state.items()) <= MOST_TIMELINES * 12
    assert claims[-1] is None
    assert shop.decide("v")["b"].reason == "full"
    clock.now += LAPSED + SLACK + 1
    assert shop.claim("v", ["b"], hold="1 minute") is not None
    assert len(store.read(b"rt:bot:2~v")) <= 3


def test_lapsed_holds_leave_few_fields(ads: Ads, store: Store, clock: Clock) -> None:
    """A visitor who comes each hour for a week, and never wins: what has lapsed is removed before it is much."""
    shop = ads('[campaign.a]\ncaps = ["5 per day"]', prefix="rt:week:")
    sizes = []
    for _ in range(7 * 24):
        hold(shop)
        sizes.append(len(store.read(b"rt:week:2~v")))
        clock.now += HOUR
    assert max(sizes) <= LOOK_EVERY + 4


def test_a_confirm_that_finds_no_room_does_not_report_that_it_counted(ads: Ads) -> None:
    """Reserved while there was room, full by then: what was not counted must not be reported as counted."""
    shop = ads('[defaults]\ncaps = ["3 per day"]')
    claim = hold(shop)
    shop.record_many([("v", "impression", f"c{n}") for n in range(MOST_TIMELINES)])
    try:
        answer = str(shop.confirm(claim))
    except StoreError:
        answer = "refused"
    assert answer not in ("confirmed", "late") or len(shown(shop)) == 1


def test_a_full_visitors_hold_can_be_released(ads: Ads) -> None:
    """Removing needs no room."""
    shop = ads('[defaults]\ncaps = ["3 per day"]')
    claim = hold(shop)
    shop.record_many([("v", "impression", f"c{n}") for n in range(MOST_TIMELINES)])
    assert shop.release(claim) is True


def test_holds_beyond_what_a_timeline_keeps_still_count_when_others_are_released(ads: Ads) -> None:
    """A campaign that obeys no cap reserves twenty under a label of 2 per day; the four that are left still fill it."""
    label = 'labels = { advertiser = "acme" }'
    shop = ads(f'[caps]\nadvertiser = ["2 per day"]\n[campaign.a]\nobeys = false\n{label}\n[campaign.b]\n{label}')
    claims = [hold(shop, "a") for _ in range(20)]
    assert [shop.release(claim) for claim in claims[:16]] == [True] * 16
    assert shop.claim("v", ["b"]) is None


@pytest.mark.parametrize("seed", range(4))
def test_holds_and_plain_claims_mixed_never_exceed_a_cap(ads: Ads, clock: Clock, seed: int) -> None:
    """200 random steps: reserved and shown impressions within the window are never more than the cap."""
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
                    live[claim.token] = clock.now + length + 1
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
    """From a second to a day, as str or timedelta; the message names the argument, the store is not asked."""
    store = Counting()
    with pytest.raises(InputError, match=r"^hold=") as caught:
        local(store=store).claim("v", ["a"], hold=length)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 250
    assert store.calls == 0
    with pytest.raises(InputError, match=r"^hold="):
        local(store=store).claim(None, ["a"], hold=length)  # type: ignore[arg-type]


def test_a_hold_near_the_end_of_time_is_an_answer_or_a_refusal(ads: Ads) -> None:
    """Times end in 2106: a hold that would end later is not a struct.error."""
    shop = ads(CAP)
    try:
        claim = shop.claim("v", ["a"], now=0xFFFF_FFFF - 300, hold="1 day")
    except InputError:
        return
    assert claim is not None


def test_an_export_shows_reservations_readably(ads: Ads, clock: Clock) -> None:
    """By the names that a policy would use, with their ends; ready for JSON."""
    shop = ads('[annoyance]\nthreshold = ["9 per day"]\n[campaign.a]\ncaps = ["5 per day"]')
    hold(shop)
    exported = shop.export("v")
    end = datetime.fromtimestamp(clock.now + LAPSED, UTC).isoformat()
    marks = [name for name in exported["timelines"] if name.startswith("reservation ")]
    assert len(marks) == 1
    assert re.fullmatch(r"reservation [0-9a-f]{10}", marks[0])
    assert set(exported["timelines"]) == {"reserved impression a", "reserved points", "reserved until", marks[0]}
    assert all(found["at"] == [end] for found in exported["timelines"].values())
    assert exported["timelines"][marks[0]]["of"] == ["impression a", "points"]
    assert json.loads(json.dumps(exported)) == exported


def test_forget_forgets_reservations(ads: Ads) -> None:
    """Nothing is left; a confirmation afterwards counts as late, because it was shown."""
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
            assert QUARTER - 5 <= client.ttl("rt:ttl:2~v") - SLACK <= LAPSED


def test_a_hold_alone_keeps_the_visitor_in_memory_no_longer_than_itself(clock: Clock) -> None:
    """The same in memory, where the number is exact; a confirmed impression is kept as long as its window."""
    store = MemoryStore()
    shop = Retargeter(Policy.from_text(CAP), store, clock=clock)
    claim = hold(shop)
    assert store.ttl(b"rt:2~v", clock.now) == LAPSED + SLACK
    store.expire(clock.now + LAPSED + SLACK)
    assert len(store) == 1
    assert shop.confirm(claim) == "confirmed"
    assert HOUR < (store.ttl(b"rt:2~v", clock.now) or 0) - SLACK <= DAY + 8
    other = hold(shop, visitor="w")
    assert shop.release(other)
    store.expire(clock.now + LAPSED + SLACK + 1)
    assert len(store) == 1


def test_eligible_at_ignores_what_the_session_does_not_count() -> None:
    """An impression before the session began does not count in it: free when a reservation lapses."""
    policy = Policy.from_text(
        'session = "10 minutes"\n[annoyance]\nthreshold = ["4 per session"]\npoints = { email = 2 }\n'
        '[campaign.a]\nlabels = { channel = "email" }'
    )
    now = 1_795_600_000
    ads = Retargeter(policy, "memory://", clock=lambda: now)
    ads.record("v", "impression", "a", at=now - 601)
    assert [ads.claim("v", ["a"], hold="1 second") is not None for _ in range(3)] == [True, True, False]
    again = ads.decide("v")["a"].eligible_at
    assert again is not None
    assert int(again.timestamp()) == now + 2
