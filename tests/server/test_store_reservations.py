"""The contract of a store on each of them: reserved impressions, and the records by which they are settled."""

from __future__ import annotations

import pytest

from retarget.timelines import (
    ACTIVITY,
    DENIED,
    LATE,
    LOOK_EVERY,
    MOST_TIMELINES,
    NO_OUTCOME,
    SLACK,
    Alternative,
    Remove,
    Reserve,
    Settle,
    Store,
    Write,
    reservations,
    timeline,
)
from tests.support.servers import Server
from tests.support.writes import (
    DAY,
    DAY_LONG,
    HELD_HEAD,
    HOLD_ID,
    KEY,
    MARK,
    NOW,
    OTHER,
    OTHER_ID,
    SHIELD,
    entry,
    fill,
    guard,
    kept_for,
    moments,
    names,
    place,
    recorded,
    reserve,
    reserving,
    settle,
    write,
)


def test_what_one_write_reserves_and_settles_is_gone(store: Store) -> None:
    """However long its record is, which is not yet on the server."""
    store.write(write(entry(b"ia")))
    places = tuple(place(b"i%02d" % number) for number in range(20))
    both = write(Reserve(NOW + 60, places), Settle(None), hold=HOLD_ID)
    assert store.write(both) == 1
    assert set(store.read(KEY)) == {b"ia", b"h"}


@pytest.mark.parametrize(("n", "holds"), [(1, True), (2, True), (3, True), (4, True), (5, False)])
def test_what_is_reserved_counts_before_what_was_shown(store: Store, n: int, *, holds: bool) -> None:
    """Two reserved and two of today: the 4th newest is the elder impression, whatever the ends of the reserved ones."""
    store.write(write(entry(b"ia", NOW - 20), entry(b"ib", NOW - 20)))
    store.write(write(entry(b"ia", NOW - 10)))
    reserve(store, NOW + 1)
    reserve(store, NOW + DAY, hold=OTHER_ID)
    assert store.write(write(entry(b"ic"), guards=(guard(b"ia", n, NOW - 20),))) == (1 if holds else DENIED)
    assert store.write(write(entry(b"ic"), guards=(guard(b"ib", 2, 0),))) == DENIED


@pytest.mark.parametrize("since", [0, NOW, 0xFFFF_FFFF])
@pytest.mark.parametrize(("now", "holds"), [(NOW, True), (NOW + 59, True), (NOW + 60, False), (NOW + 61, False)])
def test_what_is_reserved_counts_in_every_window_until_its_end(
    store: Store, since: int, now: int, *, holds: bool
) -> None:
    """At its end it has lapsed, by the write's own now; no window is too short for it."""
    reserve(store, NOW + 60)
    probe = write(entry(b"ib", now), now=now, guards=(guard(b"ia", 1, since),))
    assert store.write(probe) == (1 if holds else DENIED)


def test_of_several_reserved_those_that_last_count(store: Store) -> None:
    """They may end in any order, some in the same second, some with several points."""
    for number, (seconds, weight) in enumerate([(30, 1), (10, 2), (20, 1), (10, 1)]):
        reserve(store, NOW + seconds, b"*", hold=b"%05d" % number, weight=weight)
    for now, live in [(NOW, 5), (NOW + 9, 5), (NOW + 10, 2), (NOW + 20, 1), (NOW + 30, 0)]:
        counts = [
            store.write(Write(KEY, now, b"", (Alternative((guard(b"*", n, 0, wanted=True),), (), 1),)))
            for n in range(1, 7)
        ]
        assert counts.count(1) == live


def test_what_a_reservation_leaves(store: Store) -> None:
    """Its end in each of its timelines, in `h` and in its own, once for each piece of the record; and the record."""
    places = (place(b"ia", 2, 20, DAY_LONG), place(b"*", 3), place(ACTIVITY, keep=0, head=0))
    assert store.write(write(Reserve(NOW + 60, places), hold=HOLD_ID)) == 1
    state = store.read(KEY)
    assert {field: moments(state, field) for field in state if field[:1] != b"#"} == {
        b"hia": [NOW + 60] * 2,
        b"h*": [NOW + 60] * 3,
        b"h@": [NOW + 60],
        b"h": [NOW + 60],
        MARK: [NOW + 60],
    }
    assert {state[field][:2] for field in state if field[:1] != b"#"} == {HELD_HEAD.to_bytes(2)}
    assert reservations.unpack(reservations.joined(HOLD_ID, state)) == places


def test_a_long_record_is_kept_in_short_pieces(store: Store) -> None:
    """No value is longer than a small hash may hold; all of it is read again."""
    fields = [b"i" + bytes([97 + number]) * 300 for number in range(12)]
    reserve(store, NOW + 60, *fields)
    state = store.read(KEY)
    assert recorded(state) == -(-12 * 309 // 64) == len(moments(state, MARK))
    assert max(len(raw) for field, raw in state.items() if field.startswith(b"#h")) == 64
    assert store.write(settle(NOW)) == 1
    assert {field: moments(store.read(KEY), field) for field in store.read(KEY)} == {
        b"h": [NOW + 60],
        **{field: [NOW] for field in fields},
    }


def test_reserved_impressions_are_looked_at_only_while_the_last_of_them_lasts(store: Store) -> None:
    """`h` says when that is: one field read, for the many visitors who have none."""
    store.write(write(entry(b"hia", NOW + 60, head=HELD_HEAD)))
    probe = write(guards=(guard(b"ia", 1, 0),))
    assert store.write(probe) == DENIED
    store.write(write(entry(b"h", NOW + 60, keep=1, head=HELD_HEAD)))
    assert store.write(probe) == 1


def test_a_timeline_dated_at_its_own_ends_keeps_what_may_not_have_come(store: Store) -> None:
    """Horizon 0: an end that lies the slack back is late; those that do go with the next entry."""
    assert store.write(reserving(NOW - SLACK)) == LATE
    assert dict(store.read(KEY)) == {}
    for end in (NOW + 5, NOW + 1, NOW + 9, NOW - SLACK + 1):
        assert store.write(write(entry(b"hia", end, head=HELD_HEAD))) == 1
    assert moments(store.read(KEY), b"hia") == [NOW - SLACK + 1, NOW + 1, NOW + 5, NOW + 9]
    store.write(write(entry(b"hia", NOW + 7, head=HELD_HEAD), now=NOW + 5 + SLACK))
    assert moments(store.read(KEY), b"hia") == [NOW + 7, NOW + 9]


def test_a_hold_that_lapsed_for_a_caller_ahead_is_there_for_one_behind(store: Store) -> None:
    """A write 300 s ahead drops neither the hold nor its record: whoever is behind may still settle it."""
    reserve(store, NOW + 60)
    store.write(write(*(entry(b"i%d" % n, NOW + 360) for n in range(LOOK_EVERY)), now=NOW + 360))
    assert store.write(settle(NOW)) == 1
    assert moments(store.read(KEY), b"ia") == [NOW]


def test_lapsed_reservations_go_with_their_records(store: Store) -> None:
    """The slack after its end a reservation is dead like any other timeline, and found with the sixteenth field."""
    reserve(store, NOW + 10)
    reserve(store, NOW + 11, hold=OTHER_ID)
    held = set(store.read(KEY))
    later = NOW + 10 + SLACK
    store.write(write(*(entry(b"i%d" % n, later) for n in range(LOOK_EVERY)), now=later))
    assert held < set(store.read(KEY))
    later += 1
    store.write(write(*(entry(b"ib%d" % n, later) for n in range(LOOK_EVERY)), now=later))
    state = store.read(KEY)
    assert {field for field in held if field in state} == {b"hia", b"h", OTHER, b"#h" + OTHER_ID + b"\0\0"}
    assert store.write(settle(now=later)) == LATE


def test_settling_finds_the_moment_by_the_mark(store: Store) -> None:
    """Of those that end in the same second one is removed, of the others none; an empty timeline is removed."""
    reserve(store, NOW + 60, b"ia", b"i")
    reserve(store, NOW + 60, b"ia", hold=OTHER_ID)
    reserve(store, NOW + 90, b"ia", hold=b"00000")
    assert store.write(settle()) == 1
    state = store.read(KEY)
    assert moments(state, b"hia") == [NOW + 60, NOW + 90]
    assert {field for field in state if field[:1] != b"#"} == {b"hia", b"h", OTHER, b"H00000"}
    assert recorded(state) == 2
    assert store.write(settle()) == LATE
    assert dict(store.read(KEY)) == dict(state)


@pytest.mark.parametrize(("weight", "left"), [(1, 3), (2, 2), (3, 1), (4, 0), (9, 0)])
def test_settling_takes_as_many_as_it_weighs_and_finds(store: Store, weight: int, left: int) -> None:
    """A merge may have moved some: at most as many are removed as are there; those before and after stay."""
    store.write(write(Reserve(NOW + 60, (place(b"*", weight),)), hold=HOLD_ID))
    store.write(write_out(b"h*", NOW + 60))
    for seconds, times in ((30, 1), (60, 4), (90, 1)):
        store.write(write(entry(b"h*", NOW + seconds, times, head=HELD_HEAD)))
    assert store.write(settle()) == 1
    assert moments(store.read(KEY), b"h*") == [NOW + 30, *[NOW + 60] * left, NOW + 90]


def test_what_a_merge_moved_away_is_still_counted_here(store: Store) -> None:
    """The record says where: nothing is found in `h...`, and the impression is entered."""
    reserve(store, NOW + 60, b"ia", b"i")
    for field in (b"hia", b"hi"):
        assert store.write(write_out(field, NOW + 60)) == 1
    assert store.write(settle(NOW + 5)) == 1
    state = store.read(KEY)
    assert (moments(state, b"ia"), moments(state, b"i")) == ([NOW + 5], [NOW + 5])
    assert recorded(state) == 0


def test_counting_enters_what_was_reserved_whatever_is_asked_for_now(store: Store) -> None:
    """Weight, keep and head are those of the record; a place without a keep is not entered."""
    places = (place(b"ia", 2, 3, DAY_LONG), place(b"ib", 1, 16, SHIELD), place(ACTIVITY, keep=0))
    store.write(write(Reserve(NOW + 60, places), hold=HOLD_ID))
    store.write(write(entry(b"ib", NOW - 9, head=SHIELD)))
    assert store.write(settle(NOW + 1)) == 1
    state = store.read(KEY)
    assert set(state) == {b"h", b"ia", b"ib"}
    assert state[b"ia"][:2] == DAY_LONG.to_bytes(2)
    assert (moments(state, b"ia"), moments(state, b"ib")) == ([NOW + 1] * 2, [NOW - 9, NOW + 1])


def test_an_old_record_does_not_cut_what_a_newer_policy_keeps(store: Store) -> None:
    """Reserved under "3 per day", confirmed under "60 per 30 days": what was kept for that stays."""
    reserve(store, NOW + 60, b"ia", head=DAY_LONG)
    month = timeline.head(30 * DAY, shield=True)
    store.write(write(entry(b"ia", NOW - 20 * DAY, 40, 60, month)))
    assert store.write(settle(NOW)) == 1
    raw = store.read(KEY)[b"ia"]
    assert timeline.moments(raw) == (NOW - 20 * DAY,) * 39 + (NOW,)
    assert raw[:2] == month.to_bytes(2)
    store.write(write(entry(b"ia", NOW, 1, 16, DAY_LONG)))
    assert moments(store.read(KEY), b"ia") == [NOW, NOW]


@pytest.mark.parametrize(("recorded_as", "kept_as"), [(DAY_LONG, SHIELD), (SHIELD, DAY_LONG), (SHIELD, SHIELD)])
def test_an_old_record_leaves_a_shield_what_it_is(store: Store, recorded_as: int, kept_as: int) -> None:
    """If either policy blocks by the timeline, it is not evicted for room."""
    reserve(store, NOW + 60, b"ia", head=recorded_as)
    store.write(write(entry(b"ia", NOW - 9, head=kept_as)))
    assert store.write(settle(NOW)) == 1
    assert store.read(KEY)[b"ia"][:2] == SHIELD.to_bytes(2)


@pytest.mark.parametrize("hold", [OTHER_ID, b"\0\0\0\0\0"])
def test_without_its_mark_nothing_is_settled(store: Store, hold: bytes) -> None:
    """A write that names no hold, or one that has gone: late, and not a byte is changed."""
    reserve(store, NOW + 60)
    before = dict(store.read(KEY))
    assert store.write(settle(hold=hold)) == LATE
    assert store.write(settle(NOW, hold=hold)) == LATE
    assert dict(store.read(KEY)) == before


def test_a_mark_reserved_anew_stands_for_the_new_reservation_alone(store: Store) -> None:
    """A claim whose id is no longer known may come again: the first reservation is undone, whatever its record was."""
    reserve(store, NOW + 60, *(b"i%d" % n for n in range(20)))
    reserve(store, NOW + 90, b"ia", weight=2)
    state = store.read(KEY)
    assert {field: moments(state, field) for field in state if field[:1] != b"#"} == {
        b"hia": [NOW + 90] * 2,
        b"h": [NOW + 90],
        MARK: [NOW + 90],
    }
    assert recorded(state) == 1
    assert store.write(settle(NOW)) == 1
    assert {field: moments(store.read(KEY), field) for field in store.read(KEY)} == {
        b"h": [NOW + 90],
        b"ia": [NOW] * 2,
    }


def test_settling_and_reserving_are_one_write(store: Store) -> None:
    """In their order: what is reserved after a settlement stays."""
    reserve(store, NOW + 60, b"ia")
    both = write(Settle(NOW), Reserve(NOW + 90, (place(b"ib"),)), hold=HOLD_ID)
    assert store.write(both) == 1
    state = store.read(KEY)
    assert {field: moments(state, field) for field in state if field[:1] != b"#"} == {
        b"ia": [NOW],
        b"hib": [NOW + 90],
        b"h": [NOW + 90],
        MARK: [NOW + 90],
    }
    again = write(Reserve(NOW + 99, (place(b"ic"),)), Settle(None), hold=HOLD_ID)
    assert store.write(again) == 1
    assert set(store.read(KEY)) == {b"ia", b"h"}


def test_the_hold_that_goes_last_takes_the_visitor_with_it(store: Store) -> None:
    """No empty hash is left behind, and a new one begins with a time of its own."""
    reserve(store, NOW + 60)
    store.write(write_out(b"h", NOW + 60))
    assert store.write(settle()) == 1
    assert dict(store.read(KEY)) == {}
    assert store.delete(KEY) is False


def test_settling_and_its_answer_are_one_write(store: Store, behind: Server | None) -> None:
    """Confirm: a pending hold becomes an impression; otherwise another alternative is applied."""
    reserve(store, NOW + 60, head=DAY_LONG)
    lasts = guard(MARK, 1, NOW + 31)
    choices = (Alternative((lasts,), (Settle(NOW + 30),), 1), Alternative((), (), DAY, b"abcde"))
    confirm = Write(KEY, NOW + 30, b"12345", choices, HOLD_ID)
    assert store.write(confirm) == 1
    state = store.read(KEY)
    assert set(state) == {b"ia", b"h", b"#0"}
    assert store.write(confirm) == NO_OUTCOME
    assert store.write(Write(KEY, NOW + 30, b"", choices, HOLD_ID)) == 2
    assert kept_for(store, behind) >= DAY - 5


def test_releasing_makes_no_visitor_live_longer(store: Store, behind: Server | None) -> None:
    """What is removed needs no time of its own."""
    reserve(store, NOW + 60)
    assert store.write(settle()) == 1
    assert 60 + SLACK - 10 <= kept_for(store, behind) <= 61 + SLACK


def test_a_hold_counted_too_late_to_matter_is_gone_all_the_same(store: Store) -> None:
    """Its window has passed: the reservation goes, and nothing is entered."""
    reserve(store, NOW + 9 * DAY, head=DAY_LONG)
    assert store.write(settle(NOW, now=NOW + 3 * DAY)) == 1
    assert set(store.read(KEY)) == {b"h"}


def test_a_reservation_is_never_dropped_for_want_of_room(store: Store) -> None:
    """Interests go first: what is reserved counts against caps."""
    reserve(store, NOW + 60)
    held = dict(store.read(KEY))
    fill(store, names(MOST_TIMELINES), DAY_LONG, NOW - 10)
    store.write(write(entry(b"ea")))
    store.write(write(entry(b"eb")))
    state = store.read(KEY)
    assert held.items() <= state.items()
    assert {b"ea", b"eb"} <= set(state)
    assert len(state) <= MOST_TIMELINES


def test_settling_is_never_refused_for_want_of_room(store: Store) -> None:
    """It was shown, so it counts; and the places of its reservation become free."""
    reserve(store, NOW + 60)
    fill(store, names(MOST_TIMELINES, "i"), SHIELD)
    assert store.write(settle(NOW)) == 1
    assert moments(store.read(KEY), b"ia") == [NOW]


def write_out(field: bytes, at: int) -> Write:
    """Remove one entry."""
    return write(Remove(field, at, 9))
