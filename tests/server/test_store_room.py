"""The contract of a store on each of them: how long a visitor is kept, and what is evicted for room."""

from __future__ import annotations

import pytest

from retarget.timelines import (
    FULL,
    LOOK_EVERY,
    MOST_TIMELINES,
    ROOM,
    SKEW,
    SLACK,
    Remove,
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
    moments,
    names,
    reserve,
    write,
)


def test_a_visitor_is_kept_as_long_as_asked_for_and_never_shorter(store: Store, behind: Server | None) -> None:
    """Set by the first write, made longer by a longer one, left alone by a shorter one, a denied and a repeated one."""
    store.write(write(entry(b"ia"), ttl=100_000, id=b"12345"))
    assert 99_995 <= kept_for(store, behind) - SLACK <= 100_000
    store.write(write(entry(b"ia"), ttl=500_000))
    assert 499_995 <= kept_for(store, behind) - SLACK <= 500_000
    store.write(write(entry(b"ia"), ttl=10))
    store.write(write(entry(b"ia"), ttl=900_000, guards=(guard(b"iz", 1, 0),)))
    store.write(write(entry(b"ia"), ttl=900_000, id=b"12345"))
    assert 499_995 <= kept_for(store, behind) - SLACK <= 500_000


def test_a_visitor_outlives_what_matters_by_twice_the_skew(store: Store, behind: Server | None) -> None:
    """An event 300 s ahead, entered by a caller who is 300 s ahead: it still counts for one whose clock is right."""
    store.write(write(entry(b"ia", NOW + 300), ttl=1 + 300))
    assert kept_for(store, behind) >= 301 + 2 * SKEW - 5


def test_a_time_to_live_longer_by_less_than_the_slack_counts(store: Store, behind: Server | None) -> None:
    """The slack is added to each: it does not make a second write's time shorter."""
    store.write(write(entry(b"ia"), ttl=1_000))
    store.write(write(entry(b"ia"), ttl=1_000 + SLACK // 2))
    assert kept_for(store, behind) >= 1_000 + SLACK // 2 + SLACK - 5


def test_the_longest_time_to_live_can_be_asked_for(store: Store, behind: Server | None) -> None:
    """Twenty years are not too long."""
    store.write(write(entry(b"ia"), ttl=20 * 366 * DAY))
    assert kept_for(store, behind) >= 20 * 366 * DAY - 5


def test_dead_timelines_go_when_the_number_of_fields_passes_a_sixteenth(store: Store) -> None:
    """All are read then, so not at every new one; ids are fields, too."""
    fill(store, [b"iold"], DAY_LONG, NOW - DAY - SLACK)
    later = NOW + HOUR
    for number in range(LOOK_EVERY - 2):
        store.write(write(entry(b"i%d" % number, later), now=later))
    assert len(store.read(KEY)) == LOOK_EVERY - 1
    assert b"iold" in store.read(KEY)
    store.write(write(entry(b"inew", later), now=later, id=b"12345"))
    state = store.read(KEY)
    assert b"iold" not in state
    assert len(state) == LOOK_EVERY


@pytest.mark.parametrize("begun", [1, 2, LOOK_EVERY, LOOK_EVERY + 1])
def test_no_sixteenth_is_missed_by_writes_of_several_timelines(store: Store, begun: int) -> None:
    """It is passed, not met."""
    fill(store, [b"iold"], DAY_LONG, NOW - 2 * DAY)
    fill(store, names(LOOK_EVERY - 2), DAY_LONG)
    assert b"iold" in store.read(KEY)
    store.write(write(*(entry(name) for name in names(begun, "i"))))
    assert b"iold" not in store.read(KEY)


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
    """A timeline is live for the slack after its horizon: for callers whose clocks are behind."""
    oldest = NOW - timeline.seconds_of(DAY_LONG) - SLACK
    fill(store, [b"ilive"], DAY_LONG, oldest)
    store.write(write(*(entry(name) for name in names(LOOK_EVERY))))
    assert b"ilive" in store.read(KEY)
    store.write(write(*(entry(name, NOW + 1) for name in names(LOOK_EVERY, "i")), now=NOW + 1))
    assert b"ilive" not in store.read(KEY)


def test_what_counts_for_a_caller_behind_is_not_pruned_by_events_ahead(store: Store) -> None:
    """Two events 300 s ahead of a caller who is 300 s ahead: one whose clock is right still counts a day."""
    oldest = NOW - timeline.seconds_of(DAY_LONG)
    store.write(write(entry(b"ia", oldest), now=oldest))
    for _ in range(2):
        store.write(write(entry(b"ia", NOW + 600), now=NOW + 300))
    assert store.write(write(entry(b"ib"), guards=(guard(b"ia", 3, oldest),))) == 1
    assert moments(store.read(KEY), b"ia") == [oldest, NOW + 600, NOW + 600]


def test_a_full_visitor_loses_the_oldest_interests_first(store: Store) -> None:
    """Room is made for many at once: the oldest that no blocking rule asks about, by name where equally old."""
    fill(store, [b"ishield"], SHIELD, NOW - 1_000)
    fill(store, names(ROOM), DAY_LONG, NOW - 500)
    fill(store, names(MOST_TIMELINES - ROOM - 1, "enew"), DAY_LONG, NOW - 10)
    assert len(store.read(KEY)) == MOST_TIMELINES
    store.write(write(entry(b"ea")))
    state = store.read(KEY)
    assert {b"ishield", b"ea"} <= set(state)
    assert state.keys().isdisjoint(names(ROOM))
    assert len(state) == MOST_TIMELINES - ROOM + 1
    for name in names(ROOM - 1, "enext"):
        store.write(write(entry(name)))
    assert len(store.read(KEY)) == MOST_TIMELINES
    assert state.items() <= store.read(KEY).items()


def test_interests_equally_old_go_in_the_order_of_their_bytes(store: Store) -> None:
    """Not in that of a server's locale: `B` before `a` before what is not ASCII."""
    fields = [b"eB", b"eC", b"ea", b"eb", "e\N{LATIN SMALL LETTER A WITH DIAERESIS}".encode(), b"e\xff"]
    fill(store, names(ROOM - 3), DAY_LONG, NOW - 900)
    fill(store, fields[::-1], DAY_LONG, NOW - 500)
    fill(store, names(MOST_TIMELINES - ROOM - 3, "i"), SHIELD, NOW - 10)
    store.write(write(entry(b"ix", head=SHIELD)))
    assert [field for field in fields if field in store.read(KEY)] == fields[3:]


def test_what_the_write_itself_enters_is_not_evicted(store: Store) -> None:
    """Though it is the oldest of all."""
    fill(store, names(ROOM), DAY_LONG, NOW - 900)
    fill(store, names(MOST_TIMELINES - ROOM, "enew"), DAY_LONG, NOW - 10)
    store.write(write(entry(names(1)[0], NOW - 800)))
    assert set(names(ROOM)) & set(store.read(KEY)) == {names(1)[0]}


def test_where_only_shields_are_left_the_visitor_is_full(store: Store) -> None:
    """So many live timelines of blocking rules: nothing is evicted, nothing is written, and the answer says so."""
    fill(store, names(MOST_TIMELINES, "i"), SHIELD)
    before = dict(store.read(KEY))
    assert store.write(write(entry(b"enew"), id=b"12345")) == FULL
    assert store.write(write(entry(names(1, "i")[0]))) == FULL
    assert dict(store.read(KEY)) == before


def test_a_full_visitor_recovers_when_shields_cease_to_matter(store: Store) -> None:
    """A day later the bot's impressions are dead and make room."""
    fill(store, names(MOST_TIMELINES, "i"), SHIELD)
    later = NOW + DAY + 200 + SLACK
    assert store.write(write(entry(b"enew", later), now=later)) == 1
    assert set(store.read(KEY)) == {b"enew"}


def test_a_full_visitor_recovers_as_shields_are_removed(store: Store) -> None:
    """One place is enough for one timeline."""
    fill(store, names(MOST_TIMELINES, "i"), SHIELD)
    assert store.write(write(Remove(names(1, "i")[0], NOW, 1))) == 1
    assert store.write(write(entry(b"enew"))) == 1
    assert store.write(write(entry(b"enext"))) == 1
    assert b"enew" not in store.read(KEY)


def test_ids_and_records_are_no_timelines(store: Store) -> None:
    """They take no place: a visitor with one timeline less than the most has room, whatever else is stored."""
    reserve(store, NOW + 60, *(b"i" + bytes([97 + n]) * 60 for n in range(4)))
    held = len([field for field in store.read(KEY) if field[:1] != b"#"])
    fill(store, names(MOST_TIMELINES - held - 1, "i"), SHIELD)
    assert store.write(write(entry(b"ia", head=SHIELD), id=b"12345")) == 1
    assert store.write(write(entry(b"ib"), id=b"67890")) == FULL
    assert len(store.read(KEY)) > MOST_TIMELINES


def test_a_bots_interests_stay_within_bounds(store: Store) -> None:
    """Hundreds of products beyond the bound: the newest of them remain, and the shield."""
    fill(store, [b"ishield"], SHIELD)
    fill(store, names(MOST_TIMELINES - 1, "eold"), DAY_LONG, NOW - 1)
    assert store.write_many([write(entry(name)) for name in names(200)]) == [1] * 200
    state = store.read(KEY)
    assert len(state) <= MOST_TIMELINES
    assert {b"ishield", *names(200)} <= set(state)


def test_one_write_of_many_timelines_may_pass_the_bound_and_the_next_makes_it_good(store: Store) -> None:
    """Room is made before a write; the excess of one write is evicted by the next."""
    fill(store, names(MOST_TIMELINES - 1), DAY_LONG, NOW - 1)
    fill(store, names(ROOM, "i"), DAY_LONG)
    assert len(store.read(KEY)) == MOST_TIMELINES + ROOM - 1
    store.write(write(entry(b"id")))
    assert len(store.read(KEY)) == MOST_TIMELINES - ROOM + 1


def test_a_write_of_nothing_changes_nothing(store: Store) -> None:
    """No entry and no id, as when a campaign without rules is claimed: a full visitor loses nothing by it."""
    fill(store, names(MOST_TIMELINES), DAY_LONG)
    before = dict(store.read(KEY))
    assert store.write(write()) == 1
    assert dict(store.read(KEY)) == before
