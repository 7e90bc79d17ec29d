"""draft.py: each change by itself, and what is evicted. That servers do the same is shown in tests/server."""

from __future__ import annotations

import pytest

from retarget.errors import StoreError
from retarget.stores.draft import Draft
from retarget.timelines import (
    DAY,
    LOOK_EVERY,
    MOST_TIMELINES,
    ROOM,
    SLACK,
    Change,
    Clear,
    Cover,
    Enter,
    Remove,
    Reserve,
    Settle,
    State,
    Write,
    reservations,
    timeline,
)
from tests.support.writes import (
    DAY_LONG,
    HELD_HEAD,
    HOLD_ID,
    KEY,
    MARK,
    NOW,
    OTHER,
    OTHER_ID,
    SHIELD,
    cover,
    entry,
    moments,
    place,
)

PLACES = (place(b"ia", 2, 16, DAY_LONG), place(b"@", keep=0))


def packed(*entries: int, head: int = DAY_LONG) -> bytes:
    """A packed timeline."""
    return head.to_bytes(2) + b"".join(at.to_bytes(4) for at in entries)


def draft(state: State, *changes: Change, now: int = NOW, id_: bytes = b"") -> Draft:
    """A draft in which these changes were made, under a hold."""
    made = Draft(state, Write(KEY, now, id_, (), HOLD_ID))
    for change in changes:
        made.make(change)
    return made


def held(end: int = NOW + 60) -> dict[bytes, bytes]:
    """A visitor with one reservation."""
    return draft({}, Reserve(end, PLACES)).after


@pytest.mark.parametrize(
    "change",
    [
        entry(b"ib"),
        Enter(b"ia", NOW, 1, 16, DAY_LONG),
        Remove(b"ia", NOW, 1),
        cover(NOW),
        Reserve(NOW + 60, PLACES),
        Settle(NOW),
        Clear(),
    ],
)
def test_the_state_before_is_left_as_it_is(change: Change) -> None:
    """A draft may be thrown away."""
    before = {**held(), b"ia": packed(NOW), b"#0": b"x" * 14}
    copy = dict(before)
    assert draft(before, change).changed
    assert before == copy


@pytest.mark.parametrize(
    "change",
    [
        entry(b"ia", NOW - 2 * DAY),
        cover(NOW - 3 * DAY),
        Remove(b"ia", NOW - 1, 1),
        Remove(b"iz", NOW, 1),
        Reserve(NOW - SLACK, PLACES),
        Settle(None),
        Settle(NOW),
    ],
)
def test_what_is_too_late_or_finds_nothing_changes_nothing(change: Change) -> None:
    """No field is named as changed."""
    before = {b"ia": packed(NOW)}
    made = draft(before, change)
    assert (made.after, made.changed, made.ttl) == (before, set(), 0)


def test_entering_and_covering() -> None:
    """As the timeline's own functions do."""
    made = draft({b"ia": packed(NOW - 5)}, entry(b"ia", weight=2), cover(NOW - 9), cover(NOW))
    assert moments(made.after, b"ia") == [NOW - 5, NOW, NOW]
    assert moments(made.after, b"@") == [NOW - 9, NOW]
    assert made.changed == {b"ia", b"@"}


def test_removing_the_last_entry_removes_the_timeline() -> None:
    """It is changed all the same."""
    made = draft({b"ia": packed(NOW)}, Remove(b"ia", NOW, 3))
    assert (made.after, made.changed) == ({}, {b"ia"})


def test_reserving_enters_the_end_and_leaves_a_record() -> None:
    """In each place, in `h`, and in the hold's own timeline."""
    state = held()
    assert {field: moments(state, field) for field in state if field[:1] != b"#"} == {
        b"hia": [NOW + 60] * 2,
        b"h@": [NOW + 60],
        b"h": [NOW + 60],
        MARK: [NOW + 60],
    }
    assert reservations.unpack(reservations.joined(HOLD_ID, state)) == PLACES


def test_releasing_undoes_and_counting_enters() -> None:
    """By the record; the time to live that is due follows from it."""
    released = draft(held(), Settle(None))
    assert (set(released.after), released.ttl) == ({b"h"}, 0)
    counted = draft(held(), Settle(NOW - 10))
    assert {field: moments(counted.after, field) for field in counted.after} == {
        b"h": [NOW + 60],
        b"ia": [NOW - 10] * 2,
    }
    assert counted.ttl == timeline.seconds_of(DAY_LONG) + 1 - 10


def test_reserving_again_undoes_what_the_mark_stood_for() -> None:
    """One mark, one reservation."""
    again = draft(held(), Reserve(NOW + 90, (place(b"ib"),)))
    assert {field for field in again.after if field[:1] != b"#"} == {b"hib", b"h", MARK}
    assert reservations.unpack(reservations.joined(HOLD_ID, again.after)) == (place(b"ib"),)


def test_clearing_leaves_what_the_same_write_entered() -> None:
    """And, with an id, the remembered ids to whoever writes them anew."""
    state = {b"ia": packed(NOW), b"ib": b"corrupt", b"#0": b"x" * 14}
    made = draft(state, entry(b"ia", NOW + 1), Clear(), entry(b"ic"))
    assert set(made.after) == {b"ia", b"ic"}
    assert made.changed == {b"ia", b"ib", b"ic", b"#0"}
    identified = draft(state, Clear(), id_=b"12345")
    assert (identified.after, identified.changed) == ({}, {b"ia", b"ib"})


@pytest.mark.parametrize(
    ("state", "change"),
    [
        ({b"ia": b"x"}, entry(b"ia")),
        ({b"ia": b"x"}, Remove(b"ia", NOW, 1)),
        ({b"@": packed(1, 2, 3)}, cover(NOW)),
        ({MARK: b"x"}, Settle(None)),
        ({MARK: b"x"}, Reserve(NOW + 60, PLACES)),
        ({**held(), b"#h" + HOLD_ID + b"\0\0": b"x"}, Settle(None)),
        ({**held(), b"hia": b"x"}, Settle(None)),
    ],
)
def test_what_is_corrupt_is_a_store_error(state: State, change: Change) -> None:
    """Where a change meets it."""
    with pytest.raises(StoreError, match="corrupt"):
        draft(state, change)


@pytest.mark.parametrize(
    ("size", "changes", "looks"),
    [
        (0, [entry(b"ib")], False),
        (LOOK_EVERY - 1, [entry(b"ib")], True),
        (LOOK_EVERY, [entry(b"ib")], False),
        (LOOK_EVERY - 2, [entry(b"ib"), entry(b"ic")], True),
        (LOOK_EVERY - 1, [Remove(b"i0", NOW, 1)], False),
        (LOOK_EVERY - 1, [entry(b"i0")], False),
        (2 * LOOK_EVERY - 1, [Reserve(NOW + 60, PLACES)], True),
    ],
)
def test_the_dead_are_looked_for_as_fields_become_many(size: int, changes: list[Change], *, looks: bool) -> None:
    """Where their number passes a multiple."""
    state = {b"i%d" % number: packed(NOW) for number in range(size)}
    assert draft(state, *changes).looks_for_the_dead is looks


@pytest.mark.parametrize(
    ("changes", "looks"),
    [
        ([entry(b"ia")], True),
        ([entry(b"ia"), entry(b"ib")], False),
        ([entry(b"ia"), entry(b"inew")], True),
        ([entry(b"inew")], False),
        ([cover(NOW)], True),
        ([Remove(b"ia", NOW - DAY, 1)], False),
    ],
)
def test_the_dead_are_looked_for_once_a_day(changes: list[Change], *, looks: bool) -> None:
    """By the first write in which no timeline that was there has an entry of the day."""
    state = {b"ia": packed(NOW - DAY), b"ib": packed(NOW), b"@": packed(NOW - DAY, NOW - DAY, head=cover(NOW).head)}
    assert draft(state, *changes).looks_for_the_dead is looks


def test_evicting_removes_the_dead_and_the_records_of_the_gone() -> None:
    """What was changed stays, as it was left; a hold made or settled by this write is as it is now."""
    dead = packed(NOW - 2 * DAY)
    lapsed = packed(NOW - 2 * DAY, head=HELD_HEAD)
    orphan, lost = b"#h" + OTHER_ID + b"\0\0", b"#hother\0\0"
    state = {b"iold": dead, b"ia": packed(NOW), b"inow": dead, OTHER: lapsed, orphan: b"r", lost: b"r"}
    made = draft(state, entry(b"inow"), Reserve(NOW + 60, PLACES))
    assert made.evict(full=False)
    assert {b"iold", OTHER, orphan, lost}.isdisjoint(made.after)
    assert {b"ia", b"inow", MARK, b"#h" + HOLD_ID + b"\0\0"} <= set(made.after)
    settled = draft({**held(), b"iold": dead}, Settle(None))
    assert settled.evict(full=False)
    assert set(settled.after) == {b"h"}


def test_evicting_from_a_full_visitor_makes_room_for_many() -> None:
    """The oldest that no blocking rule asks about; False where all are asked about."""
    state = {b"e%04d" % number: packed(NOW - number) for number in range(MOST_TIMELINES)}
    made = draft(state, entry(b"enew"))
    assert made.evict(full=True)
    assert set(state) - set(made.after) == {b"e%04d" % (MOST_TIMELINES - 1 - number) for number in range(ROOM)}
    shields = {field: packed(NOW, head=SHIELD) for field in state}
    assert not draft(shields, entry(b"enew")).evict(full=True)
    few = {**shields, b"e0000": packed(NOW), b"e0001": packed(NOW)}
    made = draft(few, entry(b"enew"))
    assert made.evict(full=True)
    assert set(few) - set(made.after) == {b"e0000", b"e0001"}


def test_evicting_meets_what_is_corrupt() -> None:
    """A StoreError; remembered ids and records are not timelines."""
    with pytest.raises(StoreError, match="corrupt"):
        draft({b"ia": b"x"}).evict(full=False)
    assert draft({b"#0": b"x", b"#hother\0\0": b"x"}).evict(full=False)


def test_a_cover_of_a_timeline_of_one_head() -> None:
    """The head and the number of entries are those of the change."""
    made = draft({}, Cover(b"@", NOW - 5, NOW, 60, 2, SHIELD))
    assert made.after == {b"@": packed(NOW - 5, NOW, head=SHIELD)}
