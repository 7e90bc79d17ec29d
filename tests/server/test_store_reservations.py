"""The contract of a store on each of them: reserved impressions."""

from __future__ import annotations

import pytest

from retarget.timelines import (
    DENIED,
    LATE,
    MOST_TIMELINES,
    NO_OUTCOME,
    Alternative,
    Store,
    Unreserve,
    Write,
)
from tests.support.servers import Server
from tests.support.writes import (
    DAY,
    DAY_LONG,
    HELD_HEAD,
    KEY,
    MARK,
    NOW,
    OTHER,
    entry,
    fill,
    guard,
    kept_for,
    moments,
    names,
    reserve,
    take_out,
    write,
)


@pytest.mark.parametrize(("n", "holds"), [(1, True), (2, True), (3, True), (4, True), (5, False)])
def test_what_is_reserved_counts_before_what_was_shown(store: Store, n: int, *, holds: bool) -> None:
    """Two reserved and two of today: the 4th newest is the elder impression, whatever the ends of the reserved ones."""
    store.write(write(entry(b"ia", NOW - 20), entry(b"ib", NOW - 20)))
    store.write(write(entry(b"ia", NOW - 10)))
    reserve(store, NOW + 1)
    reserve(store, NOW + DAY, OTHER)
    assert store.write(write(entry(b"ic"), guards=(guard(b"ia", n, NOW - 20),))) == (1 if holds else DENIED)
    assert store.write(write(entry(b"ic"), guards=(guard(b"ib", 2, 0),))) == DENIED


@pytest.mark.parametrize("since", [0, NOW, 0xFFFF_FFFF])
@pytest.mark.parametrize(("now", "holds"), [(NOW, True), (NOW + 59, True), (NOW + 60, False), (NOW + 61, False)])
def test_what_is_reserved_counts_in_every_window_until_its_end(
    store: Store, since: int, now: int, *, holds: bool
) -> None:
    """At its end it has lapsed, by the write's own now; no window is too short for it."""
    reserve(store, NOW + 60)
    probe = write(entry(b"ib", now), now=now, guards=(guard(b"ia", 1, since, anchored=True),))
    assert store.write(probe) == (1 if holds else DENIED)


def test_of_several_reserved_those_that_last_count(store: Store) -> None:
    """They may end in any order, some in the same second, some with several points."""
    for number, (seconds, weight) in enumerate([(30, 1), (10, 2), (20, 1), (10, 1)]):
        reserve(store, NOW + seconds, b"H%05d" % number, b"*", weight=weight)
    for now, live in [(NOW, 5), (NOW + 9, 5), (NOW + 10, 2), (NOW + 20, 1), (NOW + 30, 0)]:
        counts = [
            store.write(Write(KEY, now, b"", (Alternative((guard(b"*", n, 0, wanted=True),), (), 1),)))
            for n in range(1, 7)
        ]
        assert counts.count(1) == live


def test_reserved_impressions_are_looked_at_only_while_the_last_of_them_lasts(store: Store) -> None:
    """`h` says when that is: one field read, for the many visitors who have none."""
    store.write(write(entry(b"hia", NOW + 60, head=HELD_HEAD)))
    probe = write(guards=(guard(b"ia", 1, 0),))
    assert store.write(probe) == DENIED
    store.write(write(entry(b"h", NOW + 60, keep=1, head=HELD_HEAD)))
    assert store.write(probe) == 1


def test_a_timeline_dated_at_its_own_ends_keeps_what_has_not_come(store: Store) -> None:
    """Horizon 0: an end that is not after now is late; those that have come go with the next entry."""
    assert store.write(write(entry(b"hia", NOW, head=HELD_HEAD))) == LATE
    assert dict(store.read(KEY)) == {}
    for end in (NOW + 5, NOW + 1, NOW + 9):
        assert store.write(write(entry(b"hia", end, head=HELD_HEAD))) == 1
    assert moments(store.read(KEY), b"hia") == [NOW + 1, NOW + 5, NOW + 9]
    store.write(write(entry(b"hia", NOW + 7, head=HELD_HEAD), now=NOW + 5))
    assert moments(store.read(KEY), b"hia") == [NOW + 7, NOW + 9]


def test_lapsed_reservations_go_when_a_timeline_begins(store: Store) -> None:
    """One second after its end a reservation is dead like any other timeline."""
    reserve(store, NOW + 10)
    store.write(write(entry(b"ib", NOW + 10), now=NOW + 10))
    assert set(store.read(KEY)) == {b"hia", b"h", MARK, b"ib"}
    store.write(write(entry(b"ic", NOW + 11), now=NOW + 11))
    assert set(store.read(KEY)) == {b"ib", b"ic"}


def test_taking_out_finds_the_moment_by_the_mark(store: Store) -> None:
    """Of those that end in the same second one is removed, of the others none; an empty timeline is removed."""
    reserve(store, NOW + 60, MARK, b"ia", b"i")
    reserve(store, NOW + 60, OTHER, b"ia")
    reserve(store, NOW + 90, b"H00000", b"ia")
    assert store.write(take_out(b"hia", b"hi")) == 1
    state = store.read(KEY)
    assert moments(state, b"hia") == [NOW + 60, NOW + 90]
    assert set(state) == {b"hia", b"h", OTHER, b"H00000"}
    assert store.write(take_out(b"hia", b"hi")) == LATE
    assert dict(store.read(KEY)) == dict(state)


@pytest.mark.parametrize(("weight", "left"), [(1, 4), (2, 3), (3, 2), (9, 2)])
def test_taking_out_takes_as_many_as_it_weighs_and_finds(store: Store, weight: int, left: int) -> None:
    """Three points of one moment: at most as many are removed as are there; those before and after stay."""
    for seconds, times in ((30, 1), (60, 3), (90, 1)):
        store.write(write(entry(b"h*", NOW + seconds, times, head=HELD_HEAD)))
    store.write(write(entry(MARK, NOW + 60, head=HELD_HEAD)))
    assert store.write(take_out(b"h*", weight=weight)) == 1
    expected = [NOW + 30, *[NOW + 60] * (left - 2), NOW + 90]
    assert moments(store.read(KEY), b"h*") == expected
    assert MARK not in store.read(KEY)


@pytest.mark.parametrize("hold", [b"", OTHER, b"h\0"])
def test_without_its_mark_nothing_is_taken_out(store: Store, hold: bytes) -> None:
    """A write that names no hold, or one that has ended: late, and not a byte is changed."""
    reserve(store, NOW + 60)
    before = dict(store.read(KEY))
    assert store.write(take_out(b"hia", hold=hold)) == LATE
    assert dict(store.read(KEY)) == before


def test_what_is_taken_out_last_takes_the_visitor_with_it(store: Store) -> None:
    """No empty hash is left behind, and a new one begins with a time of its own."""
    store.write(write(entry(MARK, NOW + 60, head=HELD_HEAD)))
    assert store.write(take_out()) == 1
    assert dict(store.read(KEY)) == {}
    assert store.delete(KEY) is False


def test_taking_out_and_entering_are_one_write(store: Store, behind: Server | None) -> None:
    """Confirm: a pending hold becomes an impression; otherwise another alternative is applied."""
    reserve(store, NOW + 60)
    removal = tuple(Unreserve(field, 1) for field in (b"hia", MARK))
    lasts = guard(MARK, 1, NOW + 31)
    choices = (Alternative((lasts,), (entry(b"ia", NOW + 30), *removal), DAY), Alternative((), (), DAY, b"abc"))
    confirm = Write(KEY, NOW + 30, b"12345", choices, MARK)
    assert store.write(confirm) == 1
    state = store.read(KEY)
    assert set(state) == {b"ia", b"h", b"#0"}
    assert store.write(confirm) == NO_OUTCOME
    assert store.write(Write(KEY, NOW + 30, b"", choices, MARK)) == 2
    assert kept_for(store, behind) >= DAY - 5


def test_a_reservation_is_never_dropped_for_want_of_room(store: Store) -> None:
    """Interests go first: what is reserved counts against caps."""
    reserve(store, NOW + 60)
    fill(store, names(MOST_TIMELINES - 3), DAY_LONG, NOW - 10)
    store.write(write(entry(b"ea")))
    store.write(write(entry(b"eb")))
    assert {b"hia", b"h", MARK, b"ea", b"eb"} <= set(store.read(KEY))
    assert len(store.read(KEY)) == MOST_TIMELINES
