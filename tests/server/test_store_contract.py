"""The contract of a store (store.py, changes.py, write.lua), on each of them, and all compared byte for byte."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.errors import NotExecuted, StoreError
from retarget.stores import MemoryStore
from retarget.timelines import (
    DENIED,
    FULL,
    IDS_KEPT,
    LATE,
    MOST_TIMELINES,
    NO_OUTCOME,
    SESSIONS,
    SKEW,
    Alternative,
    Answer,
    Change,
    Enter,
    Guard,
    Remove,
    State,
    Store,
    Unreserve,
    Write,
    timeline,
)
from tests.support import servers
from tests.support.servers import Server

NOW = 1_794_312_000
HOUR, DAY = 3_600, 86_400
KEY = b"rt:1:v"
DAY_LONG = timeline.head(DAY, shield=False)
SHIELD = timeline.head(DAY, shield=True)


def entry(field: bytes, at: int = NOW, weight: int = 1, keep: int = 16, head: int = DAY_LONG) -> Enter:
    """An entry of which only what matters is said."""
    return Enter(field, at, weight, keep, head)


def guard(
    field: bytes, n: int, since: int, *, wanted: bool = True, more: bool = False, anchored: bool = False
) -> Guard:
    """A guard of which only what matters is said."""
    return Guard(field, n, since, wanted, more, anchored)


def write(
    *entries: Change,
    now: int = NOW,
    guards: tuple[Guard, ...] = (),
    id: bytes = b"",  # noqa: A002
    ttl: int = DAY,
    hold: bytes = b"",
) -> Write:
    """A write of one alternative."""
    return Write(KEY, now, id, (Alternative(guards, entries, ttl),), hold)


def moments(state: State, field: bytes) -> list[int]:
    """What a timeline holds; nothing where there is none."""
    return list(timeline.moments(state[field])) if field in state else []


def fill(store: Store, fields: list[bytes], head: int, at: int = NOW) -> None:
    """Enter one moment in each of the fields, in one write."""
    assert store.write(write(*(entry(field, at, head=head) for field in fields), now=at)) == 1


# -- reading, deleting -------------------------------------------------------------------------------------------------


def test_a_visitor_not_known_has_no_timelines(store: Store) -> None:
    """Reading what is not there gives nothing and makes nothing."""
    assert dict(store.read(KEY)) == {}
    assert store.delete(KEY) is False


def test_what_is_written_is_read_as_packed(store: Store) -> None:
    """A timeline is a head of two bytes and its moments, whatever the store."""
    assert store.write(write(entry(b"ia"))) == 1
    assert dict(store.read(KEY)) == {b"ia": DAY_LONG.to_bytes(2) + NOW.to_bytes(4)}


def test_a_deleted_visitor_is_gone_whole(store: Store) -> None:
    """Timelines and ids go; a second delete finds nothing."""
    store.write(write(entry(b"ia"), id=b"12345"))
    assert store.delete(KEY) is True
    assert store.delete(KEY) is False
    assert dict(store.read(KEY)) == {}
    assert store.write(write(entry(b"ia"), id=b"12345")) == 1


def test_a_state_read_does_not_change_later(store: Store) -> None:
    """What was read is a snapshot: a write afterwards does not reach into it."""
    store.write(write(entry(b"ia")))
    before = store.read(KEY)
    store.write(write(entry(b"ia"), entry(b"ib")))
    assert moments(before, b"ia") == [NOW]
    assert b"ib" not in before


# -- alternatives and guards -------------------------------------------------------------------------------------------


def test_the_first_alternative_whose_guards_hold_is_applied_alone(store: Store) -> None:
    """Of three, the second fits: its number is the answer, and neither the first nor the third leaves a trace."""
    seen = guard(b"ia", 1, 0)
    choices = (
        Alternative((seen,), (entry(b"i1"),), DAY),
        Alternative((), (entry(b"i2"), entry(b"i")), DAY),
        Alternative((), (entry(b"i3"),), DAY),
    )
    assert store.write(Write(KEY, NOW, b"", choices)) == 2
    assert set(store.read(KEY)) == {b"i2", b"i"}


def test_where_no_alternative_fits_nothing_is_changed(store: Store) -> None:
    """Denied: no timeline, no id, no visitor."""
    denied = (Alternative((guard(b"ia", 1, 0),), (entry(b"ia"),), DAY),) * 3
    assert store.write(Write(KEY, NOW, b"12345", denied)) == DENIED
    assert dict(store.read(KEY)) == {}
    assert store.write(write(entry(b"ia"), id=b"12345")) == 1


def test_a_write_without_alternatives_is_denied(store: Store) -> None:
    """A claim of no candidates still asks whether its id is known."""
    assert store.write(Write(KEY, NOW, b"12345", ())) == DENIED
    store.write(write(entry(b"ia"), id=b"12345"))
    assert store.write(Write(KEY, NOW, b"12345", ())) == NO_OUTCOME


@pytest.mark.parametrize(
    ("n", "since", "is_true"),
    [
        (1, NOW, True),
        (1, NOW + 1, False),
        (2, NOW - 10, True),
        (2, NOW - 9, False),
        (3, NOW - 20, True),
        (3, 0, True),
        (4, 0, False),
        (65_535, 0, False),
        (0, 0xFFFF_FFFF, True),
    ],
)
@pytest.mark.parametrize("wanted", [True, False])
def test_the_one_question(store: Store, n: int, since: int, *, is_true: bool, wanted: bool) -> None:
    """Is the n-th newest of three entries at or after a moment? n = 0 always is. A guard may want either answer."""
    for age in (20, 10, 0):
        store.write(write(entry(b"ia", NOW - age)))
    answer = store.write(write(entry(b"ib"), guards=(guard(b"ia", n, since, wanted=wanted),)))
    assert answer == (1 if is_true is wanted else DENIED)


@pytest.mark.parametrize("n", [0, 1])
def test_of_a_timeline_that_is_not_there_only_n_0_is_true(store: Store, n: int) -> None:
    """Nothing has no newest entry; the fact that always holds holds here too."""
    assert store.write(write(entry(b"ib"), guards=(guard(b"ia", n, 0),))) == (DENIED if n else 1)


TRUE, FALSE = guard(b"ia", 1, 0), guard(b"ia", 9, 0)


@pytest.mark.parametrize(
    ("clauses", "holds"),
    [
        ([[TRUE], [TRUE]], True),
        ([[TRUE], [FALSE]], False),
        ([[FALSE], [TRUE]], False),
        ([[FALSE, TRUE]], True),
        ([[TRUE, FALSE]], True),
        ([[FALSE, FALSE]], False),
        ([[FALSE, FALSE, TRUE], [TRUE, FALSE]], True),
        ([[TRUE, TRUE], [FALSE, FALSE], [TRUE]], False),
        ([[FALSE], [TRUE, TRUE]], False),
    ],
)
def test_clauses_join_guards_with_or_and_each_other_with_and(
    store: Store, clauses: list[list[Guard]], *, holds: bool
) -> None:
    """`more` joins a guard to the next one; what is left of a failed alternative is skipped to the byte."""
    store.write(write(entry(b"ia")))
    guards = [g._replace(more=i < len(clause)) for clause in clauses for i, g in enumerate(clause, 1)]
    choices = (Alternative(tuple(guards), (entry(b"ib"),), DAY), Alternative((), (entry(b"ic"),), DAY))
    assert store.write(Write(KEY, NOW, b"", choices)) == (1 if holds else 2)
    assert (b"ib" in store.read(KEY), b"ic" in store.read(KEY)) == (holds, not holds)


@pytest.mark.parametrize(
    ("begun", "since", "holds"),
    [
        (None, NOW - 100, True),
        (NOW - 200, NOW - 100, True),
        (NOW - 100, NOW - 200, True),
        (NOW - 99, NOW - 200, False),
        (NOW - 200, NOW - 99, False),
    ],
)
def test_an_anchored_guard_looks_back_no_further_than_the_session(
    store: Store, begun: int | None, since: int, *, holds: bool
) -> None:
    """The later of `since` and the session's first event; without a session `since` alone."""
    entries = [entry(b"ia", NOW - 100)] + ([entry(SESSIONS, begun, keep=1)] if begun else [])
    store.write(write(*entries))
    anchored = guard(b"ia", 1, since, anchored=True)
    assert store.write(write(entry(b"ib"), guards=(anchored,))) == (1 if holds else DENIED)


def test_guards_see_what_was_before_the_write(store: Store) -> None:
    """An alternative does not meet its own entries: 1 per day can be claimed once, then not again."""
    once = write(entry(b"ia"), guards=(guard(b"ia", 1, NOW - DAY, wanted=False),))
    assert [store.write(once), store.write(once)] == [1, DENIED]


# -- entries -----------------------------------------------------------------------------------------------------------


def test_entries_land_in_their_place_whatever_the_order(store: Store) -> None:
    """Late ones too: the timeline is sorted, and what is equal stands side by side."""
    for at in (NOW - 10, NOW, NOW - 20, NOW - 10, NOW - 30):
        assert store.write(write(entry(b"ia", at))) == 1
    assert moments(store.read(KEY), b"ia") == [NOW - 30, NOW - 20, NOW - 10, NOW - 10, NOW]


def test_a_weight_enters_so_many_times(store: Store) -> None:
    """Three points are three entries of one second."""
    store.write(write(entry(b"*", NOW - 5, weight=3)))
    store.write(write(entry(b"*", NOW, weight=2)))
    assert moments(store.read(KEY), b"*") == [NOW - 5] * 3 + [NOW] * 2


def test_a_timeline_named_twice_in_one_write_is_entered_twice(store: Store) -> None:
    """As where an unknown campaign is called `item:x` and the candidate carries that very label."""
    store.write(write(entry(b"ia", NOW - 5), entry(b"ia", NOW)))
    assert moments(store.read(KEY), b"ia") == [NOW - 5, NOW]


def test_the_largest_weight_and_the_largest_timeline(store: Store) -> None:
    """A thousand points at once into a timeline of ten thousand entries: no limit of Lua's is met."""
    for _ in range(12):
        assert store.write(write(entry(b"*", weight=1_000, keep=10_000))) == 1
    assert moments(store.read(KEY), b"*") == [NOW] * 10_000


@pytest.mark.parametrize("late", [False, True])
def test_keep_trims_to_the_newest(store: Store, *, late: bool) -> None:
    """Of ten moments the newest four remain, also where the oldest arrive last."""
    ages = list(range(10))
    for age in ages if late else reversed(ages):
        store.write(write(entry(b"ia", NOW - age, keep=4)))
    assert moments(store.read(KEY), b"ia") == [NOW - 3, NOW - 2, NOW - 1, NOW]


def test_a_smaller_keep_trims_and_a_new_head_replaces_the_old(store: Store) -> None:
    """A timeline follows the policy of the last write."""
    store.write(write(entry(b"ia", weight=10)))
    store.write(write(entry(b"ia", keep=2, head=SHIELD)))
    raw = store.read(KEY)[b"ia"]
    assert timeline.moments(raw) == (NOW, NOW)
    assert timeline.is_shield(raw)


def test_entries_out_of_their_horizon_go_with_the_skew_to_spare(store: Store) -> None:
    """A write at NOW keeps what is a day and 300 s old, and drops what is one second older."""
    horizon = timeline.seconds_of(DAY_LONG)
    oldest = NOW - horizon - SKEW
    store.write(write(entry(b"ia", oldest - 1), now=oldest))
    store.write(write(entry(b"ia", oldest), now=oldest))
    assert moments(store.read(KEY), b"ia") == [oldest - 1, oldest]
    store.write(write(entry(b"ia")))
    assert moments(store.read(KEY), b"ia") == [oldest, NOW]


def test_what_is_too_old_beside_the_newest_entry_is_late(store: Store) -> None:
    """Judged by the timeline too: a replay's `now` lies back, but the entries do not come back."""
    store.write(write(entry(b"ia")))
    before = dict(store.read(KEY))
    old = NOW - timeline.seconds_of(DAY_LONG) - SKEW - 1
    assert store.write(write(entry(b"ia", old), now=old, id=b"12345")) == LATE
    assert dict(store.read(KEY)) == before
    assert store.write(write(entry(b"ia", old + 1), now=old)) == 1


def test_what_is_late_for_one_timeline_enters_the_others(store: Store) -> None:
    """Only where every entry is too old is the answer LATE."""
    long = timeline.head(30 * DAY, shield=False)
    old = NOW - 2 * DAY
    assert store.write(write(entry(b"ia", old), entry(b"i", old, head=long))) == 1
    assert set(store.read(KEY)) == {b"i"}


def test_an_alternative_without_entries_only_remembers_its_id(store: Store) -> None:
    """An event that no rule asks about still counts once."""
    only = Write(KEY, NOW, b"12345", (Alternative((), (), DAY, b"abc"),))
    assert [store.write(only), store.write(only)] == [1, b"abc"]
    assert set(store.read(KEY)) == {b"#0"}
    assert store.write(Write(b"rt:1:other", NOW, b"", (Alternative((), (), DAY),))) == 1
    assert dict(store.read(b"rt:1:other")) == {}


# -- reserved impressions ----------------------------------------------------------------------------------------------

HELD_HEAD = timeline.head(0, shield=True)
MARK, OTHER = b"H12345", b"H67890"


def reserve(store: Store, end: int, mark: bytes = MARK, *fields: bytes, weight: int = 1, now: int = NOW) -> None:
    """Reserve an impression in these timelines (`ia` if none is named), as the library does."""
    held = [entry(b"h" + field, end, weight, head=HELD_HEAD) for field in fields or (b"ia",)]
    marks = [entry(b"h", end, keep=1, head=HELD_HEAD), entry(mark, end, keep=1, head=HELD_HEAD)]
    assert store.write(write(*held, *marks, now=now, ttl=end - now + 1)) == 1


def take_out(*fields: bytes, weight: int = 1, mark: bytes = MARK, hold: bytes = MARK) -> Write:
    """Undo a reserved impression, its mark last."""
    return write(*(Unreserve(field, weight) for field in (*fields, mark)), hold=hold, ttl=1)


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
    """Of those that end in the same second one goes, of the others none; emptied timelines go whole."""
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
    """Three points of one moment: so many go, at most those that are there; what is before and behind stays."""
    for seconds, times in ((30, 1), (60, 3), (90, 1)):
        store.write(write(entry(b"h*", NOW + seconds, times, head=HELD_HEAD)))
    store.write(write(entry(MARK, NOW + 60, head=HELD_HEAD)))
    assert store.write(take_out(b"h*", weight=weight)) == 1
    expected = [NOW + 30, *[NOW + 60] * (left - 2), NOW + 90]
    assert moments(store.read(KEY), b"h*") == expected
    assert MARK not in store.read(KEY)


@pytest.mark.parametrize("hold", [b"", OTHER, b"h\0"])
def test_without_its_mark_nothing_is_taken_out(store: Store, hold: bytes) -> None:
    """A write that names no hold, or one that is gone: late, and not a byte is changed."""
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
    """Confirm: the impression enters and the reservation goes, if it lasts; else another alternative is applied."""
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


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_an_id_known_answers_with_the_outcome_and_changes_nothing(store: Store) -> None:
    """The three bytes remembered with it, even where the guards would deny now."""
    first = Write(KEY, NOW, b"12345", (Alternative((), (entry(b"ia"),), DAY, b"abc"),))
    denied = Write(KEY, NOW, b"12345", (Alternative((guard(b"iz", 1, 0),), (entry(b"ib"),), DAY, b"xyz"),))
    assert store.write(first) == 1
    before = dict(store.read(KEY))
    assert [store.write(first), store.write(denied)] == [b"abc", b"abc"]
    assert dict(store.read(KEY)) == before


def test_sixteen_ids_are_remembered(store: Store) -> None:
    """The newest sixteen, in values of at most 64 bytes; the seventeenth makes the first unknown again."""
    for n in range(IDS_KEPT):
        assert store.write(write(entry(b"ia"), id=b"%05d" % n)) == 1
    assert all(store.write(write(entry(b"ia"), id=b"%05d" % n)) == NO_OUTCOME for n in range(IDS_KEPT))
    assert store.write(write(entry(b"ia"), id=b"%05d" % IDS_KEPT)) == 1
    assert store.write(write(entry(b"ia"), id=b"%05d" % 1)) == NO_OUTCOME
    assert store.write(write(entry(b"ia"), id=b"%05d" % 0)) == 1
    state = store.read(KEY)
    assert [len(state[b"#0"]), len(state[b"#1"])] == [64, 64]


def test_ids_hold_any_bytes(store: Store) -> None:
    """An id that looks like a piece of two others is none of them."""
    store.write(write(entry(b"ia"), id=b"\0\0\0\0\0"))
    store.write(write(entry(b"ia"), id=b"\0\0\0\0\1"))
    assert store.write(write(entry(b"ia"), id=b"\0\0\0\1\0")) == 1
    assert store.write(write(entry(b"ia"), id=b"\0\0\0\0\0")) == NO_OUTCOME
    assert store.write(write(entry(b"ia"))) == 1


# -- how long ----------------------------------------------------------------------------------------------------------


def kept_for(store: Store, server_or_none: Server | None) -> int:
    """Seconds for which the visitor is kept still."""
    if isinstance(store, MemoryStore):
        return store.ttl(KEY, NOW) or -2
    assert server_or_none is not None
    with server_or_none.client() as client:
        return int(client.ttl(KEY.decode()))


@pytest.fixture
def behind(store: Store, url: str, fleet: dict[str, Server]) -> Server | None:
    """The server behind the store, None in memory."""
    return next((server for server in fleet.values() if server.url == url), None)


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


# -- room --------------------------------------------------------------------------------------------------------------


def names(count: int, kind: str = "e") -> list[bytes]:
    """So many names of timelines."""
    return [b"%bv %d" % (kind.encode(), n) for n in range(count)]


def test_dead_timelines_go_when_a_timeline_begins(store: Store) -> None:
    """What matters no more is dropped as soon as something new is begun, not before."""
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
    """512 live timelines of blocking rules: nothing goes, nothing is written, and that is the answer."""
    fill(store, names(MOST_TIMELINES, "i"), SHIELD)
    before = dict(store.read(KEY))
    assert store.write(write(entry(b"enew"), id=b"12345")) == FULL
    assert store.write(write(entry(names(1, "i")[0]))) == FULL
    assert dict(store.read(KEY)) == before


def test_a_full_visitor_recovers_when_shields_cease_to_matter(store: Store) -> None:
    """A day later the impressions of that bot matter no more and make room."""
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
    """Room is made before a write for one timeline; what a write brought too much goes with the next."""
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


# -- many at once ------------------------------------------------------------------------------------------------------


def test_many_are_answered_each_by_itself_and_in_order(store: Store) -> None:
    """More than one batch of each; a visitor written twice sees her own first write."""
    once = (Alternative((guard(b"ia", 1, NOW - DAY, wanted=False),), (entry(b"ia"),), DAY),)
    keys = [b"rt:1:%d" % (n % 700) for n in range(1_100)]
    answers = store.write_many([Write(key, NOW, b"", once) for key in keys])
    assert answers == [1] * 700 + [DENIED] * 400
    states = store.read_many([b"rt:1:0", b"rt:1:unknown", *keys])
    assert [len(state) for state in states if not isinstance(state, StoreError)] == [1, 0] + [1] * 1_100


def test_none_at_all_is_no_trouble(store: Store) -> None:
    """Empty batches answer with empty lists."""
    assert store.read_many([]) == []
    assert store.write_many([]) == []


# -- what is not ours (servers only: in memory nobody else writes) -----------------------------------------------------


@pytest.fixture
def real(server: Server) -> Iterator[Store]:
    """A store on each real server."""
    store = servers.open_store(server.url)
    yield store
    store.close()


@pytest.mark.parametrize("raw", [b"", b"x", b"\0\1", b"\0\1\0\0\0\1\0", b"\0\1" + b"\0" * 5])
def test_a_corrupt_timeline_refuses_the_write_whole(real: Store, server: Server, raw: bytes) -> None:
    """Met by a guard, by an entry, or by pruning: NotExecuted, and not a byte is changed."""
    with server.client() as client:
        client.hset(KEY, mapping={b"ia": raw, b"ib": DAY_LONG.to_bytes(2) + NOW.to_bytes(4)})
        before = client.hgetall(KEY)
        writes = [
            write(entry(b"ib"), guards=(guard(b"ia", 1, 0),)),
            write(entry(b"ib"), entry(b"ia")),
            write(entry(b"inew"), id=b"12345"),
            write(Remove(b"ib", NOW, 1), Unreserve(b"ia", 1), hold=b"ib"),
            write(Unreserve(b"ib", 1), hold=b"ia"),
        ]
        for attempt in writes:
            with pytest.raises(NotExecuted, match="CORRUPT"):
                real.write(attempt)
        assert client.hgetall(KEY) == before
        assert client.ttl(KEY) == -1


@pytest.mark.parametrize("field", [b"h", b"hib"])
def test_a_corrupt_reservation_refuses_the_write_whole(real: Store, server: Server, field: bytes) -> None:
    """Met where it is asked whether anything is reserved: NotExecuted, and not a byte is changed."""
    with server.client() as client:
        client.hset(KEY, mapping={b"h": HELD_HEAD.to_bytes(2) + (NOW + 60).to_bytes(4), field: b"\0\1\0"})
        before = client.hgetall(KEY)
        with pytest.raises(NotExecuted, match="CORRUPT"):
            real.write(write(entry(b"ib"), guards=(guard(b"ib", 1, 0, wanted=False),)))
        assert client.hgetall(KEY) == before


def test_corrupt_ids_refuse_the_write_whole(real: Store, server: Server) -> None:
    """Ids come in records of eight bytes."""
    with server.client() as client:
        client.hset(KEY, "#0", "seven..")
        with pytest.raises(NotExecuted, match="CORRUPT"):
            real.write(write(entry(b"ia"), id=b"12345"))
        assert client.hgetall(KEY) == {b"#0": b"seven.."}


def test_a_key_of_another_type_is_refused_and_left_alone(real: Store, server: Server) -> None:
    """WRONGTYPE: read and write say so; in a batch the others are answered all the same."""
    with server.client() as client:
        client.set(KEY, "a string")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            real.read(KEY)
        with pytest.raises(NotExecuted, match="WRONGTYPE"):
            real.write(write(entry(b"ia")))
        other = Write(b"rt:1:w", NOW, b"", (Alternative((), (entry(b"ia"),), DAY),))
        answers = real.write_many([other, write(entry(b"ia")), other])
        states = real.read_many([b"rt:1:w", KEY, b"rt:1:w"])
        assert client.get(KEY) == b"a string"
    assert [answers[0], answers[2]] == [1, 1]
    assert isinstance(answers[1], NotExecuted)
    assert [isinstance(state, StoreError) for state in states] == [False, True, False]


# -- all stores compared -----------------------------------------------------------------------------------------------

FIELDS = [b"ia", b"ib", b"evisit x", b"*", SESSIONS, b"@", b"i\xc3\xa4", b"i\0\xff"]
HELD = [b"h", b"hia", b"hib", b"h*", b"h^"]
MARKS = [MARK, OTHER]
HORIZONS = [0, 60, HOUR, DAY, 400 * DAY]
TIMES = st.one_of(
    st.sampled_from(
        [NOW, NOW - 60, NOW - 360, NOW - 361, NOW + 300, NOW - DAY, NOW - DAY - 1, NOW + DAY, 0, 0xFFFF_FF00]
    ),
    st.integers(NOW - 500, NOW + 500),
)
HEADS = st.builds(
    lambda seconds, shield: timeline.head(seconds, shield=shield), st.sampled_from(HORIZONS), st.booleans()
)
SOON = st.one_of(st.integers(NOW - 70, NOW + 70), TIMES)
ENTRIES = st.one_of(
    st.builds(Enter, st.sampled_from(FIELDS), TIMES, st.integers(1, 5), st.integers(1, 18), HEADS),
    st.builds(Enter, st.sampled_from([*HELD, *MARKS]), SOON, st.integers(1, 5), st.integers(1, 18), st.just(HELD_HEAD)),
    st.builds(Remove, st.sampled_from([*FIELDS, *HELD, *HELD]), TIMES.filter(bool), st.integers(1, 5)),
    st.builds(Unreserve, st.sampled_from([*FIELDS, *HELD, *HELD]), st.integers(1, 5)),
)
GUARDS = st.builds(
    Guard, st.sampled_from([*FIELDS, *MARKS]), st.integers(0, 6), TIMES, st.booleans(), st.booleans(), st.booleans()
)
IDS = st.one_of(st.just(b""), st.integers(0, 19).map(lambda n: b"%05d" % n))
Step: TypeAlias = tuple[int, bytes, tuple[Alternative, ...], bytes]
"""A write: now, id, alternatives, hold."""


def marks_last(entries: list[Enter | Remove | Unreserve]) -> tuple[Change, ...]:
    """As the library writes them: what is taken out stands last, and no write makes the mark it takes out by."""
    taken = [each for each in entries if not isinstance(each, Enter)]
    entered = [each for each in entries if isinstance(each, Enter) and not (taken and each.field in MARKS)]
    return (*entered, *taken)


@st.composite
def reservations(draw: st.DrawFn) -> Alternative:
    """An impression that is reserved, as the library does."""
    end, mark = draw(st.integers(NOW + 1, NOW + 70)), draw(st.sampled_from(MARKS))
    held = draw(st.lists(st.sampled_from(HELD[1:]), min_size=1, max_size=3, unique=True))
    fields = [*[(field, draw(st.integers(1, 3))) for field in held], (b"h", 1), (mark, 1)]
    entries = tuple(entry(field, end, weight, 16 if field in held else 1, HELD_HEAD) for field, weight in fields)
    return Alternative(tuple(draw(st.lists(GUARDS, max_size=2))), entries, 500 * DAY)


def steps(fewest_entries: int, most: int) -> st.SearchStrategy[list[Step]]:
    """Writes by chance."""
    alternatives = st.builds(
        Alternative,
        st.lists(GUARDS, max_size=4).map(tuple),
        st.lists(ENTRIES, min_size=fewest_entries, max_size=4, unique_by=lambda e: e.field).map(marks_last),
        st.integers(1, 500 * DAY),
        st.binary(min_size=3, max_size=3),
    )
    choices = st.lists(st.one_of(alternatives, alternatives, reservations()), max_size=3).map(tuple)
    step = st.tuples(st.one_of(TIMES, st.just(NOW)), IDS, choices, st.sampled_from([b"", *MARKS, *MARKS]))
    return st.lists(step, min_size=1, max_size=most)


numbers = itertools.count()


@pytest.fixture(scope="module")
def compared(fleet: dict[str, Server]) -> Iterator[list[Store]]:
    """Memory and every real server."""
    with ExitStack() as stack:
        stores: list[Store] = [MemoryStore()]
        for server in fleet.values():
            stores.append(servers.open_store(server.url))
            stack.callback(stores[-1].close)
        yield stores


def same_everywhere(stores: list[Store], crowd: tuple[Enter, ...], steps: list[Step]) -> None:
    """Run the writes on every store: one answer each, and one hash after each, byte for byte.

    Servers count a visitor's time by their own clock, so she is made to be kept for long at the beginning.
    """
    key = b"rt:differential:%d" % next(numbers)
    writes = [Write(key, NOW, b"", (Alternative((), (entry(b"i"), *crowd), 500 * DAY),))]
    writes += [Write(key, now, id_, choices, hold) for now, id_, choices, hold in steps]
    seen: list[list[tuple[Answer | StoreError, State]]] = []
    for store in stores:
        seen.append([(store.write(each), dict(store.read(key))) for each in writes])
        store.delete(key)
    for others in seen[1:]:
        assert others == seen[0]


@given(steps(0, 20))
@settings(max_examples=150, deadline=None)
def test_every_store_answers_the_same_and_holds_the_same_bytes(compared: list[Store], steps: list[Step]) -> None:
    """Random programs of writes on a fresh visitor."""
    same_everywhere(compared, (), steps)


@given(st.integers(506, 514), st.integers(1, 8), steps(1, 4))
@settings(max_examples=30, deadline=None)
def test_every_store_makes_the_same_room(compared: list[Store], filling: int, shields: int, steps: list[Step]) -> None:
    """Random programs of writes on a crowded visitor, of whose timelines a part or all are shields."""
    crowd = [entry(b"ec %d" % n, NOW - n % 7, head=SHIELD if n % 8 < shields else DAY_LONG) for n in range(filling)]
    same_everywhere(compared, tuple(crowd), steps)
