"""The contract of a store on each of them: which ids of events are remembered, for how long, and with what outcome."""

from __future__ import annotations

import pytest

from retarget.timelines import (
    DENIED,
    IDS_KEPT,
    NO_OUTCOME,
    RECORD,
    SLACK,
    Alternative,
    Settle,
    Store,
    Write,
    keys,
    timeline,
)
from tests.support.servers import Server
from tests.support.writes import (
    DAY,
    HOLD_ID,
    KEY,
    NOW,
    entry,
    guard,
    kept_for,
    moments,
    reserve,
    write,
)

MONTH_LONG = timeline.head(30 * DAY, shield=True)


def counted(outcome: bytes = NO_OUTCOME, id_: bytes = b"12345", now: int = NOW, ttl: int = DAY) -> Write:
    """An impression with an id."""
    return Write(KEY, now, id_, (Alternative((), (entry(b"ia", now, head=MONTH_LONG),), ttl, outcome),))


def test_an_id_known_answers_with_the_outcome_and_changes_nothing(store: Store) -> None:
    """The five bytes remembered with it, even where the guards would deny now."""
    first = counted(b"abcde")
    denied = Write(KEY, NOW, b"12345", (Alternative((guard(b"iz", 1, 0),), (entry(b"ib"),), DAY, b"vwxyz"),))
    assert store.write(first) == 1
    before = dict(store.read(KEY))
    assert [store.write(first), store.write(denied)] == [b"abcde", b"abcde"]
    assert dict(store.read(KEY)) == before


def test_outcomes_are_told_by_forty_bits(store: Store) -> None:
    """Two that share three bytes, as one in some thousands would, are two."""
    store.write(counted(b"abc\1\1", b"00001"))
    store.write(counted(b"abc\1\2", b"00002"))
    assert [store.write(counted(id_=b"00001")), store.write(counted(id_=b"00002"))] == [b"abc\1\1", b"abc\1\2"]


def test_sixteen_ids_are_remembered(store: Store) -> None:
    """The newest sixteen, in values of at most 64 bytes; the seventeenth makes the first unknown again."""
    for n in range(IDS_KEPT):
        assert store.write(counted(id_=b"%05d" % n)) == 1
    assert all(store.write(counted(id_=b"%05d" % n)) == NO_OUTCOME for n in range(IDS_KEPT))
    assert store.write(counted(id_=b"%05d" % IDS_KEPT)) == 1
    assert store.write(counted(id_=b"00001")) == NO_OUTCOME
    assert store.write(counted(id_=b"00000")) == 1
    state = store.read(KEY)
    assert [len(state[field]) for field in keys.IDS] == [64, 64, 36]


def test_ids_hold_any_bytes(store: Store) -> None:
    """An id that looks like a piece of two others, or of an outcome, is none of them."""
    store.write(counted(b"\0\0\0\0\1", b"\0\0\0\0\0"))
    assert store.write(counted(b"56789", b"\0\0\0\0\1")) == 1
    assert store.write(counted(b"01234", b"\0\0\0\1\0")) == 1
    assert store.write(counted(id_=b"56789")) == 1
    assert store.write(counted(id_=b"78901")) == 1
    assert store.write(counted(id_=b"\0\0\0\0\0")) == b"\0\0\0\0\1"


def test_an_id_is_known_for_a_day_at_least(store: Store, behind: Server | None) -> None:
    """However short the windows are: to the second, and the visitor is kept for that long and the slack."""
    assert store.write(counted(ttl=60)) == 1
    assert DAY + SLACK - 5 <= kept_for(store, behind) <= DAY + SLACK
    assert store.write(counted(now=NOW + DAY, ttl=60)) == NO_OUTCOME
    assert store.write(counted(now=NOW + DAY + 1, ttl=60)) == 1
    assert moments(store.read(KEY), b"ia") == [NOW, NOW + DAY + 1]


def test_an_id_is_known_as_long_as_what_it_counted_matters(store: Store) -> None:
    """By the store's own deadline, not by when a server evicts the key: a repeat a month later changes nothing."""
    month = 30 * DAY + 1
    store.write(counted(ttl=month))
    assert store.write(counted(now=NOW + month, ttl=month)) == NO_OUTCOME
    assert store.write(counted(now=NOW + month + 1, ttl=month)) == 1


def test_a_later_id_extends_the_deadline_of_all(store: Store) -> None:
    """And a shorter one, or a write without an id, leaves it."""
    store.write(counted(id_=b"00001", ttl=60))
    store.write(counted(id_=b"00002", now=NOW + 100, ttl=2 * DAY))
    store.write(counted(id_=b"00003", now=NOW + 200, ttl=60))
    store.write(counted(id_=b"", now=NOW + 300, ttl=9 * DAY))
    assert keys.deadline(store.read(KEY)) == NOW + 100 + 2 * DAY
    assert store.write(counted(id_=b"00001", now=NOW + 100 + 2 * DAY)) == NO_OUTCOME
    assert store.write(counted(id_=b"00003", now=NOW + 101 + 2 * DAY)) == 1


def test_past_the_deadline_the_ids_begin_anew(store: Store) -> None:
    """What was remembered goes with the next id, all three fields of it; a write without one reads none."""
    for n in range(IDS_KEPT):
        store.write(counted(id_=b"%05d" % n, ttl=60))
    late = NOW + DAY + 1
    assert store.write(counted(id_=b"", now=late)) == 1
    assert set(keys.IDS) < set(store.read(KEY))
    assert store.write(counted(id_=b"00000", now=late)) == 1
    state = store.read(KEY)
    assert set(keys.IDS) & set(state) == {b"#0"}
    assert len(state[b"#0"]) == 4 + RECORD


def test_a_caller_whose_clock_is_behind_still_knows_the_ids(store: Store) -> None:
    """The deadline is a moment: whoever has not reached it knows them, whatever a caller ahead of them saw."""
    store.write(counted(now=NOW))
    assert store.write(counted(now=NOW - 300)) == NO_OUTCOME
    assert store.write(counted(id_=b"00002", now=NOW + 300)) == 1
    assert store.write(counted(id_=b"00002", now=NOW - 300)) == NO_OUTCOME
    assert keys.deadline(store.read(KEY)) == NOW + 300 + DAY


def test_a_confirmed_hold_is_remembered_as_long_as_it_counts(store: Store, behind: Server | None) -> None:
    """How long that is stands in the hold's record: a repeated confirmation weeks later counts nothing."""
    reserve(store, NOW + 60, b"ia", head=MONTH_LONG)
    confirm = write(Settle(NOW), hold=HOLD_ID, id=b"12345", ttl=1)
    assert store.write(confirm) == 1
    month = timeline.seconds_of(MONTH_LONG) + 1
    assert month + SLACK - 5 <= kept_for(store, behind) <= month + SLACK
    assert keys.deadline(store.read(KEY)) == NOW + month
    late = Write(KEY, NOW + month, b"12345", confirm.alternatives, HOLD_ID)
    assert store.write(late) == NO_OUTCOME
    assert moments(store.read(KEY), b"ia") == [NOW]


@pytest.mark.parametrize("ttl", [0xFFFF_FFFF, 0x7FFF_FFFF])
def test_no_deadline_lies_beyond_the_last_moment(store: Store, ttl: int) -> None:
    """Four bytes end in 2106; a longer time to live does not overflow them."""
    assert store.write(counted(ttl=ttl)) == 1
    assert keys.deadline(store.read(KEY)) == min(0xFFFF_FFFF, NOW + ttl)
    assert store.write(counted()) == NO_OUTCOME


def test_a_denied_id_is_not_remembered(store: Store) -> None:
    """Nor is one that came too late."""
    denied = Write(KEY, NOW, b"12345", (Alternative((guard(b"iz", 1, 0),), (), DAY),))
    assert store.write(denied) == DENIED
    assert store.write(counted()) == 1
