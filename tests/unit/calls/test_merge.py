"""merge.py: after a merge the target is like one visitor who did everything; and what is refused."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retarget import InputError, MemoryStore, NotExecuted, Policy, Retargeter, StoreError
from retarget.timelines import MOST_TIMELINES, Store, timeline
from tests.support import servers
from tests.support.fixtures import REAL, Ads, Clock
from tests.support.merges import DAY, EVENTS, KEYS, NOW, POLICY, answers, count, kept, merge_steps, perform
from tests.support.servers import Server

# -- like one visitor --------------------------------------------------------------------------------------------------

HISTORIES = st.lists(
    st.tuples(
        st.sampled_from(["s", "t"]),
        st.sampled_from(EVENTS),
        st.integers(0, 9 * DAY) | st.sampled_from([0, DAY, 7 * DAY]),
    ),
    max_size=14,
)


@pytest.fixture(scope="module")
def everywhere(start: Callable[[str], Server]) -> list[Store]:
    """A store in memory and one on each real server."""
    return [MemoryStore(), *(servers.open_store(start(name).url) for name in REAL)]


_runs = itertools.count()

POLICY_OF_SESSIONS = """
    session = "10 minutes"
    [defaults]
    caps = ["3 per session"]
    [campaign.a]
    audience = ["2 impression b within session"]
    [campaign.b]
    exclude = ["impression a within session"]
"""


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(HISTORIES, HISTORIES, st.integers(0, 8 * DAY))
def test_after_a_merge_the_target_is_like_one_who_did_everything(
    everywhere: list[Store], before: list[Any], after: list[Any], later: int
) -> None:
    """Random histories of two ids, merged, and again after more: every verdict is as for one who did everything."""
    run = next(_runs)
    for store in everywhere:
        ads = Retargeter(POLICY, store, clock=lambda: NOW, prefix=f"rt:merge{run}:")
        for history in (before, after):
            for who, event, ago in history:
                for visitor in (who, "one"):
                    ads.record(visitor, *event, at=NOW - ago)
            something = answers(ads, "s", NOW) != answers(ads, "nobody", NOW)
            assert ads.merge("s", into="t") or not something
            assert ads.merge("s", into="t") is False
            for now in (NOW, NOW + later):
                assert answers(ads, "t", now) == answers(ads, "one", now)
                assert answers(ads, "s", now) == answers(ads, "nobody", now)


def test_points_keep_their_weight(ads: Ads) -> None:
    """An impression of three points is three entries of one second, and stays three."""
    one = ads('[annoyance]\nthreshold = ["9 per day"]\npoints = { mail = 3 }\n[campaign.a]\nlabels.channel = "mail"')
    assert one.record_many([("s", "impression", "a"), ("s", "impression", "a"), ("t", "impression", "a")]) == [True] * 3
    one.merge("s", into="t")
    level = one.decide("t").annoyance
    assert level is not None
    assert (level.points, one.claim("t")) == (9, None)


@pytest.mark.parametrize("policy", ['[campaign.a]\ncaps = ["3 per session"]', POLICY_OF_SESSIONS])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_sessions_are_those_of_one_who_did_everything(
    everywhere: list[Store], policy: str, data: st.DataObject
) -> None:
    """Two histories of some hours: every verdict is as for one visitor, whichever of them was active when."""
    run = next(_runs)
    histories = st.lists(st.tuples(st.sampled_from("st"), st.sampled_from("ab"), st.integers(0, 200)), max_size=10)
    events, later = data.draw(histories), data.draw(st.integers(0, 60))
    for store in everywhere:
        ads = Retargeter(Policy.from_text(policy), store, clock=lambda: NOW, prefix=f"rt:sessions{run}:")
        for who, campaign, ago in events:
            for visitor in (who, "one"):
                ads.record(visitor, "impression", campaign, at=NOW - 60 * ago)
        ads.merge("s", into="t")
        assert ads.merge("s", into="t") is False
        for now in (NOW, NOW + 60 * later):
            assert answers(ads, "t", now) == answers(ads, "one", now)


def test_a_session_of_the_source_that_is_over_changes_nothing_at_the_target(ads: Ads, clock: Clock) -> None:
    """The target's session stays the target's: a cap per session is not passed by a merge."""
    one = ads('[campaign.a]\ncaps = ["2 per session"]')
    one.record("s", "visit", "shop")
    clock.now += 3 * 3_600
    one.record_many([("t", "impression", "a")] * 2)
    assert one.claim("t") is None
    clock.now += 60
    assert one.merge("s", into="t")
    assert one.claim("t") is None


def test_both_orders_of_a_session(ads: Ads, clock: Clock) -> None:
    """If both are in a session, the earlier one began both; a cap per session counts all of it."""
    for prefix, first, second in (("x", "s", "t"), ("y", "t", "s")):
        one = ads('[campaign.a]\ncaps = ["3 per session"]')
        s, t = prefix + "s", prefix + "t"
        for visitor in (prefix + first, prefix + second, prefix + first):
            one.record(visitor, "impression", "a")
            clock.now += 800
        clock.now -= 800
        assert one.merge(s, into=t)
        assert not one.decide(t).eligible
        assert one.decide(s).eligible
        clock.now += 1_700
        one.record(t, "visit", "shop")
        assert not one.decide(t).eligible  # still the same session
        clock.now += 1_801
        assert one.decide(t).eligible


def test_activity_alone_is_copied_once(ads: Ads, clock: Clock) -> None:
    """Nothing but activity: it is copied, and then there is nothing left to move; the source's own stays."""
    one = ads('[campaign.a]\ncaps = ["3 per session"]')
    one.record("s", "visit", "shop")
    assert [one.merge("s", into="t") for _ in range(2)] == [True, False]
    assert one.export("t")["timelines"] == one.export("s")["timelines"]
    clock.now += 600
    one.record("s", "visit", "shop")
    assert [one.merge("s", into="t") for _ in range(2)] == [True, False]
    assert one.export("t")["timelines"] == one.export("s")["timelines"]


def test_many_intervals_of_activity_are_copied_in_several_parcels(ads: Ads) -> None:
    """Sessions that end after a minute: hundreds of intervals, all of them, and as they were."""
    one = ads('session = "1 minute"\n[campaign.a]\ncaps = ["3 per session"]')
    one.record_many([("s", "visit", "shop", NOW - 120 * number) for number in range(300)])
    one.record_many([("t", "visit", "shop", NOW - 120 * number - 60) for number in range(0, 300, 7)])
    assert [one.merge("s", into="t") for _ in range(2)] == [True, False]
    everything = one.export("t")["timelines"]["activity"]["at"]
    one.record_many([("one", "visit", "shop", NOW - 120 * number) for number in range(300)])
    one.record_many([("one", "visit", "shop", NOW - 120 * number - 60) for number in range(0, 300, 7)])
    assert everything == one.export("one")["timelines"]["activity"]["at"]


# -- reservations ------------------------------------------------------------------------------------------------------


def test_reserved_impressions_move_and_lapse(ads: Ads, clock: Clock) -> None:
    """They count for the target until their own end, and no longer; the source has room again at once."""
    one = ads('[campaign.a]\ncaps = ["2 per day"]')
    assert one.claim("s", hold="10 minutes")
    assert one.claim("s", hold="20 minutes")
    assert one.merge("s", into="t")
    assert one.decide("t").eligible == ()
    assert one.decide("s").eligible == ("a",)
    clock.now += 600
    assert one.claim("t") is None
    clock.now += 1
    assert one.decide("t").eligible == ("a",)
    assert one.claim("t")
    assert one.claim("t") is None
    clock.now += 600
    assert one.claim("t")


def test_what_was_reserved_is_confirmed_where_it_was_reserved(ads: Ads, clock: Clock) -> None:
    """After a merge, too, and in time: it counts at the source, and moves with the next merge."""
    one = ads('[campaign.a]\ncaps = ["3 per day"]')
    claim, lost = one.claim("s", hold="10 minutes"), one.claim("s", hold="10 minutes")
    assert claim is not None
    assert lost is not None
    one.merge("s", into="t")
    assert one.release(lost) is True
    assert one.release(lost) is False
    assert [one.confirm(claim) for _ in range(2)] == ["confirmed", "repeated"]
    assert count(one, "s") == 1
    assert one.merge("s", into="t")
    assert (count(one, "s"), count(one, "t")) == (0, 3)  # the reserved ones count until their end
    clock.now += 601
    assert one.claim("t")
    assert one.claim("t")
    assert one.claim("t") is None


def test_a_reservation_that_moved_takes_no_other_with_it(ads: Ads) -> None:
    """Released after a merge: another's that ends in the same second still counts at the source."""
    one = ads('[campaign.a]\ncaps = ["2 per day"]')
    moved = one.claim("s", hold="10 minutes")
    assert moved is not None
    one.merge("s", into="t")
    other = one.claim("s", hold="10 minutes")
    assert other is not None
    assert one.release(moved) is True
    assert [bool(one.claim("s")) for _ in range(2)] == [True, False]
    assert one.confirm(other) == "confirmed"
    assert count(one, "s") == 2


def test_a_reservation_that_comes_back_counts_until_it_lapses(ads: Ads, clock: Clock) -> None:
    """Confirmed while it was elsewhere, then merged back: counted twice until its end, never too few."""
    one = ads('[campaign.a]\ncaps = ["2 per day"]')
    claim = one.claim("s", hold="10 minutes")
    assert claim is not None
    assert one.merge("s", into="t")
    assert one.confirm(claim) == "confirmed"
    assert one.merge("t", into="s")
    assert one.decide("s").eligible == ()
    assert one.confirm(claim) == "repeated"
    assert one.decide("s").eligible == ()
    clock.now += 601
    assert one.claim("s")
    assert one.claim("s") is None


def test_a_reservation_that_lapsed_is_confirmed_late_after_a_merge(ads: Ads, clock: Clock) -> None:
    """It was shown, and counts, at the source."""
    one = ads('[campaign.a]\ncaps = ["2 per day"]')
    claim = one.claim("s", hold="10 minutes")
    assert claim is not None
    assert one.merge("s", into="t")
    clock.now += 601
    assert one.confirm(claim) == "late"
    assert one.merge("s", into="t")
    assert kept(one, "s").get("impression a") is None
    assert one.claim("t")
    assert one.claim("t") is None


def test_a_lapsed_reservation_alone_is_not_moved(ads: Ads, clock: Clock) -> None:
    """What no longer matters is not moved: there was nothing."""
    one = ads('[campaign.a]\ncaps = ["2 per day"]')
    one.claim("s", hold="1 second")
    clock.now += 2
    assert one.merge("s", into="t") is False
    assert one.decide("t").eligible == ("a",)
    assert one.claim("s", hold="1 minute")
    assert one.merge("s", into="t") is True
    assert one.merge("s", into="t") is False


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_one_id_given_twice_is_refused(ads: Ads) -> None:
    """It would never move anything; the message does not contain the id."""
    with pytest.raises(InputError, match="the same visitor") as raised:
        ads("[campaign.a]").merge("visitor-1", into="visitor-1")
    assert "visitor-1" not in str(raised.value)


@pytest.mark.parametrize(("source", "into"), [("", "t"), ("s", ""), ("s" * 511, "t"), (7, "t"), ("s", None)])
def test_an_invalid_id_is_refused(ads: Ads, source: Any, into: Any) -> None:
    """Before anything is read."""
    with pytest.raises(InputError):
        ads("[campaign.a]").merge(source, into=into)


def test_an_unknown_visitor_has_nothing_to_move(ads: Ads) -> None:
    """False, and neither id becomes known by it."""
    one = ads('[campaign.a]\ncaps = ["2 per day"]')
    assert one.merge("s", into="t") is False
    one.record("t", "impression", "a")
    assert one.merge("s", into="t") is False
    assert one.forget("s") is False


def fill(server: Server, key: bytes, *, shields: int, interests: int = 0) -> None:
    """Write a visitor with this many timelines."""
    with server.client() as client:
        for number in range(shields + interests):
            head = timeline.head(DAY, shield=number < shields)
            client.hset(key, f"i{number}", head.to_bytes(2) + (NOW - number).to_bytes(4))


def test_a_full_target_loses_nothing(server: Server) -> None:
    """No room at the target: NotExecuted, everything still counts for the source; with room again it moves."""
    ads = Retargeter(POLICY, server.url, clock=lambda: NOW, timeout=servers.PATIENCE)
    ads.record_many([("s", "impression", "a", NOW)] * 2)
    before = answers(ads, "s", NOW)
    fill(server, KEYS.key("t"), shields=MOST_TIMELINES)
    with server.client() as client:
        full = client.hgetall(KEYS.key("t"))
        for _ in range(3):
            with pytest.raises(NotExecuted, match="full"):
                ads.merge("s", into="t")
            assert answers(ads, "s", NOW) == before
            assert client.hgetall(KEYS.key("t")) == full
        client.delete(KEYS.key("t"))
    assert ads.merge("s", into="t") is True
    assert answers(ads, "t", NOW) == before
    assert answers(ads, "s", NOW) == answers(ads, "nobody", NOW)


def test_a_full_source_moves_nothing(server: Server) -> None:
    """No room to note what is moved: NotExecuted, and nothing is counted for the target."""
    ads = Retargeter(POLICY, server.url, clock=lambda: NOW, timeout=servers.PATIENCE)
    fill(server, KEYS.key("s"), shields=MOST_TIMELINES)
    with server.client() as client:
        full = client.hgetall(KEYS.key("s"))
        with pytest.raises(NotExecuted, match="full"):
            ads.merge("s", into="t")
        assert client.hgetall(KEYS.key("s")) == full
        assert not client.exists(KEYS.key("t"))


def test_many_interests_move_as_far_as_there_is_room(server: Server) -> None:
    """Hundreds of timelines: everything that blocks is there, and the note is not evicted."""
    ads = Retargeter(POLICY, server.url, clock=lambda: NOW, timeout=servers.PATIENCE)
    fill(server, KEYS.key("s"), shields=200, interests=200)
    fill(server, KEYS.key("t"), shields=150, interests=100)
    steps = merge_steps("s", "t")
    store = servers.open_store(server.url)
    request = next(steps)
    for _ in range(2):  # noted, not delivered
        request = steps.send(perform(store, request))
    for number in range(5):
        ads.record("s", "impression", f"more{number}")
    assert ads.merge("s", into="t")
    with server.client() as client:
        left, moved = client.hgetall(KEYS.key("s")), client.hgetall(KEYS.key("t"))
    assert {field for field in left if not field.startswith(b"#")} == set()
    assert {b"i%d" % number for number in range(200)} <= moved.keys()
    assert not any(field.startswith(b"M") for field in moved)
    store.close()


@pytest.mark.parametrize("whose", ["s", "t"])
@pytest.mark.parametrize("harm", [{"ia": "seven.."}, {"ia": ""}, {"other": "x"}, "wrong type"])
def test_a_corrupt_timeline_stops_a_merge_before_it_begins(server: Server, whose: str, harm: Any) -> None:
    """At either end: a StoreError that says so, and neither visitor is changed."""
    ads = Retargeter(POLICY, server.url, clock=lambda: NOW, timeout=servers.PATIENCE)
    ads.record_many([(visitor, "impression", "b") for visitor in "st"])
    with server.client() as client:
        if harm == "wrong type":
            client.set(KEYS.key(whose), "x")
        else:
            client.hset(KEYS.key(whose), mapping=harm)
        before = [client.dump(KEYS.key(visitor)) for visitor in "st"]
        with pytest.raises(StoreError, match=r"corrupt|WRONGTYPE"):
            ads.merge("s", into="t")
        assert [client.dump(KEYS.key(visitor)) for visitor in "st"] == before


def test_event_ids_do_not_matter_to_a_merge(server: Server) -> None:
    """Corrupt ones neither stop it nor are moved."""
    ads = Retargeter(POLICY, server.url, clock=lambda: NOW, timeout=servers.PATIENCE)
    ads.record_many([(visitor, "impression", "b") for visitor in "st"])
    with server.client() as client:
        for visitor in "st":
            client.hset(KEYS.key(visitor), "#0", "xyz")
        assert ads.merge("s", into="t")
        assert client.hgetall(KEYS.key("s")) == {b"#0": b"xyz"}
    ads.record_many([("one", "impression", "b")] * 2)
    assert answers(ads, "t", NOW) == answers(ads, "one", NOW)


@pytest.mark.parametrize(
    "harm", [{"M": "seven.."}, {"M": "\x80\x01\0\0\0\x07"}, {"M>x": "x", "M": "\x80\x01\0\0\0\x07"}]
)
def test_a_corrupt_note_stops_a_merge(server: Server, harm: dict[str, str]) -> None:
    """A number that is none, or a parcel that goes nowhere: a StoreError; nothing changes; forgetting is the cure."""
    ads = Retargeter(POLICY, server.url, clock=lambda: NOW, timeout=servers.PATIENCE)
    ads.record("s", "impression", "b")
    with server.client() as client:
        client.hset(KEYS.key("s"), mapping={name: value.encode("latin1") for name, value in harm.items()})
        before = client.dump(KEYS.key("s"))
        with pytest.raises(StoreError, match="corrupt"):
            ads.merge("s", into="t")
        assert client.dump(KEYS.key("s")) == before
        assert ads.forget("s") is True
        assert not client.exists(KEYS.key("s"))


def test_a_horizon_that_is_too_long_does_not_stop_a_merge(server: Server) -> None:
    """A horizon that no policy asks for is moved like any other."""
    ads = Retargeter(POLICY, server.url, clock=lambda: NOW, timeout=servers.PATIENCE)
    with server.client() as client:
        client.hset(KEYS.key("s"), "iz", bytes.fromhex("ffff") + NOW.to_bytes(4))
        assert ads.merge("s", into="t")
        assert b"iz" in client.hgetall(KEYS.key("t"))


# -- how long it is kept, and how much moves ---------------------------------------------------------------------------


def test_it_is_kept_no_longer_than_it_matters(server: Server) -> None:
    """The target lives as long as its own rules or its new entries need, and the source no longer than before."""
    ads = Retargeter(
        Policy.from_text('[campaign.a]\ncaps = ["3 per week"]\n[campaign.b]\ncaps = ["1 per day"]'),
        server.url,
        timeout=servers.PATIENCE,
    )
    ads.record("s", "impression", "a", at=NOW - 5 * DAY)
    ads.record("t", "impression", "b", at=NOW)
    with server.client() as client:
        source = client.ttl(KEYS.key("s"))
        ads.merge("s", into="t", now=NOW)
        assert client.ttl(KEYS.key("s")) in (-2, *range(source + 1))
        assert 2 * DAY < client.ttl(KEYS.key("t")) <= 2 * DAY * 1.002 + 700
        ads.record("u", "impression", "b", at=NOW)
        ads.merge("u", into="v", now=NOW)
        assert 0 < client.ttl(KEYS.key("v")) <= DAY * 1.002 + 602


def test_entries_too_old_to_matter_stay_behind(ads: Ads, clock: Clock) -> None:
    """Timelines that no rule looks back to are not moved, nor are entries that are too old."""
    one = ads('[campaign.a]\ncaps = ["3 per day"]\n[campaign.b]\ncaps = ["3 per week"]')
    one.record("s", "impression", "a")
    clock.now += 2 * DAY
    one.record("s", "impression", "b")
    one.merge("s", into="t")
    assert set(one.export("t")["timelines"]) == {"impression b"}


@pytest.mark.parametrize("size", [101, 250, 1_000])
def test_a_long_timeline_moves_in_several_parcels(ads: Ads, size: int) -> None:
    """More than one write should move: everything arrives, each entry as often as before, and nothing is left."""
    one = ads('[campaign.a]\ncaps = ["1000 per day"]\n[campaign.b]\ncaps = ["1 per day"]')
    rng = random.Random(size)
    moments = sorted(NOW - rng.randrange(size // 2) for _ in range(size))
    one.record_many([("s", "impression", "a", at) for at in moments])
    one.record("s", "impression", "b")
    shown = one.export("s")["timelines"]
    assert one.merge("s", into="t")
    assert one.export("t")["timelines"] == shown
    assert kept(one, "s") == {}
    assert one.decide("t")["b"].eligible is False


def test_what_the_policy_does_not_ask_about_is_moved_too(ads: Ads) -> None:
    """A campaign removed today may be back tomorrow: nothing remembered about it gets lost."""
    one = ads('[campaign.a]\ncaps = ["300 per day"]')
    old = one.policy
    one.record_many([("s", "impression", "a", NOW - n) for n in range(250)])
    one.record_many([("t", "impression", "a", NOW - n) for n in range(20)])
    one.policy = Policy.from_text('[campaign.b]\ncaps = ["1 per day"]')
    assert one.merge("s", into="t")
    one.policy = old
    assert count(one, "t") == 270


def test_a_process_with_an_older_policy_cuts_nothing(ads: Ads) -> None:
    """It asks for less, and moves what the newer one kept: as many entries, for as long."""
    one = ads('[campaign.a]\ncaps = ["80 per 30 days"]')
    newer = one.policy
    one.record_many([("s", "impression", "a", NOW - DAY // 2 * n) for n in range(50)])
    one.policy = Policy.from_text('[campaign.a]\ncaps = ["1 per day"]')
    assert one.merge("s", into="t")
    one.policy = newer
    assert count(one, "t") == 50


@pytest.mark.parametrize("timelines", [60, 250])
def test_many_long_timelines_move_in_several_parcels(ads: Ads, timelines: int) -> None:
    """Thousands of entries in hundreds of timelines."""
    one = ads('[defaults]\ncaps = ["40 per day"]')
    one.record_many([("s", "impression", f"c{n % timelines}", NOW - n) for n in range(5_000)])
    shown = one.export("s")["timelines"]
    assert one.merge("s", into="t")
    assert one.export("t")["timelines"] == shown
    assert kept(one, "s") == {}
