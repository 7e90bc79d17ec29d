"""The contract of a store on each of them: how long a visitor is kept, and what is evicted for room."""

from __future__ import annotations

from retarget.timelines import (
    FULL,
    MOST_TIMELINES,
    Store,
    timeline,
)
from tests.support.servers import Server
from tests.support.writes import (
    DAY,
    DAY_LONG,
    HOUR,
    KEY,
    NOW,
    SHIELD,
    entry,
    fill,
    guard,
    kept_for,
    names,
    write,
)


def test_a_visitor_is_kept_as_long_as_asked_for_and_never_shorter(store: Store, behind: Server | None) -> None:
    """Set by the first write, made longer by a longer one, left alone by a shorter one, a denied and a repeated one."""
    store.write(write(entry(b"ia"), ttl=1_000, id=b"12345"))
    assert 995 <= kept_for(store, behind) <= 1_000
    store.write(write(entry(b"ia"), ttl=5_000))
    assert 4_995 <= kept_for(store, behind) <= 5_000
    store.write(write(entry(b"ia"), ttl=10))
    store.write(write(entry(b"ia"), ttl=9_000, guards=(guard(b"iz", 1, 0),)))
    store.write(write(entry(b"ia"), ttl=9_000, id=b"12345"))
    assert 4_995 <= kept_for(store, behind) <= 5_000


def test_the_longest_time_to_live_can_be_asked_for(store: Store, behind: Server | None) -> None:
    """Twenty years are not too long."""
    store.write(write(entry(b"ia"), ttl=20 * 366 * DAY))
    assert kept_for(store, behind) >= 20 * 366 * DAY - 5


def test_dead_timelines_go_when_a_timeline_begins(store: Store) -> None:
    """Dead timelines are evicted when a new one begins, not before."""
    fill(store, [b"iold", b"inew"], DAY_LONG, NOW - DAY)
    later = NOW + HOUR
    assert store.write(write(entry(b"ia", later), now=later)) == 1
    assert set(store.read(KEY)) == {b"ia"}


def test_dead_timelines_go_on_a_timelines_first_entry_of_a_day(store: Store) -> None:
    """A write to an existing timeline whose newest entry is of another day looks for the dead too."""
    midnight = NOW - NOW % DAY
    long = timeline.head(30 * DAY, shield=False)
    fill(store, [b"idead"], timeline.head(HOUR, shield=False), midnight - 2 * HOUR)
    store.write(write(entry(b"ia", midnight - HOUR, head=long), now=midnight - 2 * HOUR))
    assert set(store.read(KEY)) == {b"ia", b"idead"}
    late = write(entry(b"ia", midnight - HOUR, head=long), now=midnight + 1)
    assert store.write(late) == 1
    assert set(store.read(KEY)) == {b"ia"}


def test_live_timelines_stay_however_many_begin(store: Store) -> None:
    """A timeline exactly at its horizon is live."""
    horizon = timeline.seconds_of(DAY_LONG)
    fill(store, [b"ilive"], DAY_LONG, NOW - horizon)
    store.write(write(entry(b"ia")))
    assert set(store.read(KEY)) == {b"ilive", b"ia"}
    store.write(write(entry(b"ib", NOW + 1), now=NOW + 1))
    assert set(store.read(KEY)) == {b"ia", b"ib"}


def test_a_full_visitor_loses_the_oldest_interest_first(store: Store) -> None:
    """Of 512 timelines one must go: the oldest that no blocking rule asks about, and by name where equally old."""
    fill(store, [b"ishield"], SHIELD, NOW - 1_000)
    fill(store, [b"e2", b"e1"], DAY_LONG, NOW - 500)
    fill(store, names(MOST_TIMELINES - 3), DAY_LONG, NOW - 10)
    assert len(store.read(KEY)) == MOST_TIMELINES
    store.write(write(entry(b"ea")))
    assert {b"e2", b"ishield", b"ea"} <= set(store.read(KEY))
    assert b"e1" not in store.read(KEY)
    store.write(write(entry(b"eb")))
    assert b"e2" not in store.read(KEY)
    assert len(store.read(KEY)) == MOST_TIMELINES


def test_interests_equally_old_go_in_the_order_of_their_bytes(store: Store) -> None:
    """Not in that of a server's locale: `B` before `a` before what is not ASCII."""
    fill(store, [b"ea", b"eB", "e\N{LATIN SMALL LETTER A WITH DIAERESIS}".encode()], DAY_LONG, NOW - 500)
    fill(store, names(MOST_TIMELINES - 3, "i"), SHIELD, NOW - 10)
    gone: list[bytes] = []
    for n in range(3):
        before = set(store.read(KEY))
        store.write(write(entry(b"ix%d" % n, head=SHIELD)))
        gone += before - set(store.read(KEY))
    assert gone == [b"eB", b"ea", "e\N{LATIN SMALL LETTER A WITH DIAERESIS}".encode()]


def test_where_only_shields_are_left_the_visitor_is_full(store: Store) -> None:
    """512 live timelines of blocking rules: nothing is evicted, nothing is written, and the answer says so."""
    fill(store, names(MOST_TIMELINES, "i"), SHIELD)
    before = dict(store.read(KEY))
    assert store.write(write(entry(b"enew"), id=b"12345")) == FULL
    assert store.write(write(entry(names(1, "i")[0]))) == FULL
    assert dict(store.read(KEY)) == before


def test_a_full_visitor_recovers_when_shields_cease_to_matter(store: Store) -> None:
    """A day later the bot's impressions are dead and make room."""
    fill(store, names(MOST_TIMELINES, "i"), SHIELD)
    later = NOW + DAY + 200
    assert store.write(write(entry(b"enew", later), now=later)) == 1
    assert set(store.read(KEY)) == {b"enew"}


def test_a_bots_interests_stay_within_bounds(store: Store) -> None:
    """Hundreds of products beyond the bound: the newest of them remain, and the shield."""
    fill(store, [b"ishield"], SHIELD)
    fill(store, names(MOST_TIMELINES - 1, "eold"), DAY_LONG, NOW - 1)
    assert store.write_many([write(entry(name)) for name in names(200)]) == [1] * 200
    state = store.read(KEY)
    assert len(state) <= MOST_TIMELINES
    assert {b"ishield", *names(200)} <= set(state)


def test_one_write_of_many_timelines_may_pass_the_bound_and_the_next_makes_it_good(store: Store) -> None:
    """Room is made before a write, for one timeline; the excess of one write is evicted by the next."""
    fill(store, names(MOST_TIMELINES - 1), DAY_LONG, NOW - 1)
    fill(store, [b"ia", b"ib", b"ic"], DAY_LONG)
    assert len(store.read(KEY)) == MOST_TIMELINES + 2
    store.write(write(entry(b"id")))
    assert len(store.read(KEY)) == MOST_TIMELINES


def test_a_write_of_nothing_changes_nothing(store: Store) -> None:
    """No entry and no id, as when a campaign without rules is claimed: a full visitor loses nothing by it."""
    fill(store, names(MOST_TIMELINES), DAY_LONG)
    before = dict(store.read(KEY))
    assert store.write(write()) == 1
    assert dict(store.read(KEY)) == before
