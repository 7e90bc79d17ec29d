"""memory.py: the store in memory by itself. On every store the contract is tested in tests/server/test_store_*.py."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget import MemoryStore, Policy, Retargeter
from retarget.errors import StoreError
from retarget.stores import AsyncMemoryStore
from retarget.timelines import (
    DAY,
    DENIED,
    FULL,
    IDS_KEPT,
    LATE,
    LOOK_EVERY,
    MOST_TIMELINES,
    NO_OUTCOME,
    ROOM,
    SLACK,
    Alternative,
    Anchor,
    Change,
    Clear,
    Enter,
    Guard,
    Remove,
    Settle,
    Write,
    keys,
    timeline,
)
from tests.support import writes
from tests.support.writes import (
    HELD_HEAD,
    HOLD_ID,
    KEY,
    MARK,
    NOW,
    SHIELD,
    entry,
    guard,
    moments,
    names,
    plant,
    reserve,
    settle,
)

HEAD = timeline.head(86_400, shield=False)


def write(key: bytes, ttl: int = 100, now: int = NOW) -> Write:
    """A write of one entry."""
    return Write(key, now, b"", (Alternative((), (Enter(b"ia", now, 1, 16, HEAD),), ttl),))


def filled(*changes: Change, now: int = NOW, ttl: int = DAY) -> MemoryStore:
    """A store with one visitor, to whom these changes were made."""
    store = MemoryStore()
    assert store.write(writes.write(*changes, now=now, ttl=ttl)) == 1
    return store


def test_its_length_is_the_number_of_visitors() -> None:
    """Visitors count from their first write until they are forgotten; a denied write makes none."""
    store = MemoryStore()
    store.write(write(b"v"))
    store.write(write(b"w"))
    denied = Alternative((guard(b"ia", 1, 0),), (), 1)
    store.write(Write(b"x", NOW, b"", (denied,)))
    assert len(store) == 2
    store.delete(b"v")
    assert len(store) == 1


def test_expire_drops_visitors_whose_time_has_passed() -> None:
    """Kept up to the last second of the time to live and the slack, gone one second later, and nothing is left."""
    store = MemoryStore()
    store.write(write(b"v", ttl=100))
    store.write(write(b"w", ttl=200))
    store.expire(NOW + 100 + SLACK)
    assert len(store) == 2
    store.expire(NOW + 101 + SLACK)
    assert (dict(store.read(b"v")), store.ttl(b"v", NOW), len(store)) == ({}, None, 1)
    assert store.ttl(b"w", NOW + 101 + SLACK) == 99


def test_a_visitor_who_expired_begins_anew() -> None:
    """The new time to live is that of the new write alone."""
    store = MemoryStore()
    store.write(write(b"v", ttl=10_000))
    store.expire(NOW + 20_000)
    store.write(write(b"v", ttl=5, now=NOW + 20_000))
    assert store.ttl(b"v", NOW + 20_000) == 5 + SLACK


def test_a_visitor_kept_by_the_retargeter_can_be_expired() -> None:
    """What a policy of one day wrote is gone a day, a second and the slack later."""
    store, now = MemoryStore(), [NOW]
    policy = Policy.from_text('[campaign.a]\ncaps = ["3 per day"]')
    with Retargeter(policy, store, clock=lambda: now[0]) as ads:
        ads.record("v", "impression", "a")
        store.expire(NOW + 86_400)
        assert len(store) == 1
        store.expire(NOW + 86_400 + 300 + SLACK)
        assert len(store) == 0


def test_closing_loses_nothing() -> None:
    """Two retargeters may share a store; one that is closed takes nothing with it."""
    store = MemoryStore()
    store.write(write(b"v"))
    store.close()
    assert len(store) == 1


def test_threads_share_it() -> None:
    """Eight threads enter 250 moments each: none is lost."""
    store = MemoryStore()
    entries = Alternative((), (Enter(b"ia", NOW, 1, 5_000, HEAD),), 100)

    def work() -> None:
        for _ in range(250):
            store.write(Write(b"v", NOW, b"", (entries,)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(timeline.moments(store.read(b"v")[b"ia"])) == 2_000


# ---- guards and alternatives ----


def holds(store: MemoryStore, *guards: Guard) -> bool:
    """Whether an alternative with these guards is applied."""
    return store.write(writes.write(guards=guards)) == 1


@pytest.mark.parametrize(("n", "since", "true"), [(1, 0, True), (2, NOW, True), (2, NOW + 1, False), (3, 0, False)])
def test_a_guard_asks_the_one_question(n: int, since: int, *, true: bool) -> None:
    """Is the n-th newest entry at or after `since`? It holds where the answer is the one wanted."""
    store = filled(entry(b"ia", weight=2))
    assert holds(store, guard(b"ia", n, since)) is true
    assert holds(store, guard(b"ia", n, since, wanted=False)) is not true


def test_clauses_join_guards_with_or_and_each_other_with_and() -> None:
    """`more` joins a guard to the next."""
    store = filled(entry(b"ia"))
    yes, no = guard(b"ia", 1, 0), guard(b"ib", 1, 0)
    assert holds(store, no._replace(more=True), no._replace(more=True), yes)
    assert holds(store, yes._replace(more=True), no, yes)
    assert not holds(store, yes, no._replace(more=True), no)
    assert holds(store)


@pytest.mark.parametrize(
    ("anchor", "true"),
    [
        (Anchor(b"eclick", 1, 1), False),
        (Anchor(b"eclick", 1, 0), True),
        (Anchor(b"eclick", 2, 61), False),
        (Anchor(b"eclick", 2, 60), True),
        (Anchor(b"eclick", 3, 999), True),
        (Anchor(b"evisit", 1, 999), True),
    ],
)
def test_an_anchored_guard_looks_back_to_its_anchor(anchor: Anchor, *, true: bool) -> None:
    """Where there is no such entry, as far as it says itself."""
    store = filled(entry(b"ia", NOW - 60), entry(b"eclick", NOW - 60), entry(b"eclick", NOW - 120))
    assert holds(store, guard(b"ia", 1, 0, anchor=anchor)) is true
    assert holds(store, guard(b"ia", 1, 0))


def test_what_is_held_counts_first() -> None:
    """Until its end, as if it were the newest entry, whatever `since` says."""
    store = filled(entry(b"ia", NOW - 60), entry(b"hia", NOW + 9, head=HELD_HEAD), entry(b"h", NOW + 9, head=HELD_HEAD))
    assert holds(store, guard(b"ia", 1, NOW), guard(b"ia", 2, NOW - 60))
    assert not holds(store, guard(b"ia", 2, NOW))
    later = Write(KEY, NOW + 9, b"", (Alternative((guard(b"ia", 2, 0),), (), 1),))
    assert store.write(later) == DENIED


def test_the_first_alternative_that_fits_is_applied() -> None:
    """Its number is the answer; without any, the write is denied and nothing is changed."""
    store = MemoryStore()
    never = guard(b"iz", 1, 0)
    choices = tuple(Alternative(guards, (entry(field),), DAY) for guards, field in (((never,), b"i1"), ((), b"i2")))
    assert store.write(Write(KEY, NOW, b"", choices)) == 2
    assert set(store.read(KEY)) == {b"i2"}
    assert store.write(Write(KEY, NOW, b"", choices[:1])) == store.write(Write(KEY, NOW, b"", ())) == DENIED


# ---- changes ----


def test_entering_trims_to_the_newest() -> None:
    """As `timeline.add` does."""
    store = filled(entry(b"ia", NOW - 2, weight=3), entry(b"ia", NOW - 9), entry(b"ia", NOW, keep=3))
    assert moments(store.read(KEY), b"ia") == [NOW - 2, NOW - 2, NOW]


def test_what_is_too_old_is_late() -> None:
    """If nothing of the write is entered, nothing is changed; what can be entered is."""
    store = filled(entry(b"ia"))
    assert store.write(writes.write(entry(b"ib", NOW - 2 * DAY), id=b"12345")) == LATE
    assert store.write(writes.write(entry(b"ib", NOW - 2 * DAY), entry(b"ic"))) == 1
    assert set(store.read(KEY)) == {b"ia", b"ic"}


def test_a_state_read_is_a_snapshot() -> None:
    """A write afterwards does not reach into it."""
    store = filled(entry(b"ia"))
    before = store.read(KEY)
    store.write(writes.write(entry(b"ib")))
    assert set(before) == {b"ia"}


def test_removing() -> None:
    """At most as many as are there; an empty timeline is removed, and the visitor with the last one."""
    store = filled(entry(b"ia", weight=3), entry(b"ib"))
    assert store.write(writes.write(Remove(b"ia", NOW, 2), Remove(b"ib", NOW, 5))) == 1
    assert (moments(store.read(KEY), b"ia"), set(store.read(KEY))) == ([NOW], {b"ia"})
    assert store.write(writes.write(Remove(b"ia", NOW - 1, 1))) == LATE
    assert store.write(writes.write(Remove(b"iz", NOW, 1))) == LATE
    assert store.write(writes.write(Remove(b"ia", NOW, 1))) == 1
    assert (dict(store.read(KEY)), store.ttl(KEY, NOW), len(store)) == ({}, None, 0)


def test_a_hold_is_settled_by_its_own_record() -> None:
    """Released, it leaves nothing but the end of the last hold; counted, the impression."""
    store = MemoryStore()
    reserve(store, NOW + 60, b"ia", b"i", weight=2)
    assert moments(store.read(KEY), MARK) == [NOW + 60]
    assert store.write(settle(hold=b"00000")) == LATE
    assert store.write(settle()) == 1
    assert set(store.read(KEY)) == {b"h"}
    reserve(store, NOW + 60, b"ia", b"i", weight=2)
    assert store.write(settle(NOW + 1)) == 1
    assert (moments(store.read(KEY), b"ia"), moments(store.read(KEY), b"i")) == ([NOW + 1] * 2, [NOW + 1] * 2)


def test_clearing_forgets_all_of_a_visitor() -> None:
    """Nothing to clear is late."""
    store = filled(entry(b"ia"))
    assert store.write(writes.write(Clear())) == 1
    assert (len(store), store.ttl(KEY, NOW)) == (0, None)
    assert store.write(writes.write(Clear())) == LATE


# ---- ids and time to live ----


def test_an_id_is_counted_once() -> None:
    """A repeat changes nothing and is answered with the outcome remembered; a denied one is not remembered."""
    store = MemoryStore()
    counting = Write(KEY, NOW, b"12345", (Alternative((), (entry(b"ia"),), DAY, b"abcde"),))
    assert store.write(Write(KEY, NOW, b"12345", (Alternative((guard(b"iz", 1, 0),), (), DAY),))) == DENIED
    assert store.write(counting) == 1
    assert store.write(counting) == b"abcde"
    assert moments(store.read(KEY), b"ia") == [NOW]


def test_the_latest_ids_are_remembered() -> None:
    """Sixteen, and the first is unknown again with the seventeenth."""
    store = MemoryStore()
    for number in range(IDS_KEPT + 1):
        assert store.write(writes.write(entry(b"ia"), id=b"%05d" % number)) == 1
    assert store.write(writes.write(entry(b"ia"), id=b"00001")) == NO_OUTCOME
    assert store.write(writes.write(entry(b"ia"), id=b"00000")) == 1


def test_ids_are_known_for_a_day_or_as_long_as_what_they_counted() -> None:
    """The longest counts, of all of them; a hold that is confirmed says itself how long it counts."""
    store = filled(entry(b"ia"), ttl=60)
    store.write(writes.write(id=b"00001", ttl=60))
    assert keys.deadline(store.read(KEY)) == NOW + DAY
    assert store.ttl(KEY, NOW) == DAY + SLACK
    store.write(writes.write(id=b"00002", ttl=3 * DAY))
    store.write(writes.write(id=b"00003", ttl=60))
    assert keys.deadline(store.read(KEY)) == NOW + 3 * DAY
    reserve(store, NOW + 60, b"ia", head=timeline.head(30 * DAY, shield=True))
    assert store.write(writes.write(Settle(NOW), hold=HOLD_ID, id=b"00004", ttl=1)) == 1
    month = timeline.seconds_of(timeline.head(30 * DAY, shield=True)) + 1
    assert keys.deadline(store.read(KEY)) == NOW + month
    assert store.ttl(KEY, NOW) == month + SLACK
    assert store.write(writes.write(id=b"00001", now=NOW + month)) == NO_OUTCOME
    assert store.write(writes.write(id=b"00001", now=NOW + month + 1)) == 1


def test_the_longest_time_to_live_counts() -> None:
    """A shorter one, a removal, or a denied write does not change it."""
    store = filled(entry(b"ia", weight=2), entry(b"ic"), ttl=1_000)
    store.write(writes.write(entry(b"ia"), ttl=10))
    store.write(writes.write(Remove(b"ia", NOW, 3), entry(b"ib", NOW - 3 * DAY), ttl=9_000))
    assert store.ttl(KEY, NOW) == 1_000 + SLACK
    store.write(writes.write(entry(b"ib"), ttl=5_000))
    assert store.ttl(KEY, NOW) == 5_000 + SLACK


@pytest.mark.parametrize("field", [b"ia", b"h", b"#0"])
def test_what_is_corrupt_refuses_the_write_whole(field: bytes) -> None:
    """A StoreError, in a batch an answer among others, and nothing is changed."""
    store = filled(entry(b"ib"))
    plant(store, None, {field: b"\0\1\2"})
    before = dict(store.read(KEY))
    corrupt = writes.write(entry(b"ic"), guards=(guard(b"ia", 1, 0, wanted=False),), id=b"12345")
    with pytest.raises(StoreError, match="corrupt"):
        store.write(corrupt)
    first, second, third = store.write_many([write(b"v"), corrupt, write(b"v")])
    assert (first, isinstance(second, StoreError), third) == (1, True, 1)
    assert store.read(KEY) == before


# ---- room ----


def test_dead_timelines_are_evicted_as_fields_become_many() -> None:
    """When their number passes a multiple, not with each that begins."""
    old = NOW - 2 * DAY
    store = filled(entry(b"iold", old), now=old)
    for number in range(LOOK_EVERY - 2):
        store.write(writes.write(entry(b"i%d" % number)))
    assert b"iold" in store.read(KEY)
    store.write(writes.write(entry(b"inew")))
    assert b"iold" not in store.read(KEY)
    assert len(store.read(KEY)) == LOOK_EVERY - 1


def test_dead_timelines_are_evicted_on_the_first_entry_of_a_day() -> None:
    """An entry in a timeline that has none of that day yet; the next entry of the day looks at nothing."""
    old, long = NOW - 2 * DAY, timeline.head(9 * DAY, shield=False)
    store = filled(entry(b"iold", old), entry(b"ia", old, head=long), now=old)
    store.write(writes.write(entry(b"ia", head=long)))
    assert set(store.read(KEY)) == {b"ia"}


def test_a_full_visitor_loses_the_oldest_interests() -> None:
    """Of those equally old, the first by name; what blocking rules ask about stays."""
    shields = [entry(field, NOW - 99, head=SHIELD) for field in names(10, "i")]
    interests = [entry(field, NOW - n % 2) for n, field in enumerate(names(MOST_TIMELINES - 10))]
    store = filled(*shields, *interests)
    store.write(writes.write(entry(b"enew")))
    left = store.read(KEY)
    assert len(left) == MOST_TIMELINES - ROOM + 1
    assert {each.field for each in shields} < set(left)
    gone = {each.field for each in interests} - set(left)
    assert gone == set(sorted(each.field for each in interests if each.at == NOW - 1)[:ROOM])


def test_a_visitor_full_of_shields_is_full() -> None:
    """Nothing can be entered, not even in a timeline that exists; removals still work."""
    store = filled(*(entry(field, head=SHIELD) for field in names(MOST_TIMELINES, "i")))
    before = dict(store.read(KEY))
    assert store.write(writes.write(entry(b"enew"), id=b"12345")) == FULL
    assert store.write(writes.write(entry(names(1, "i")[0], head=SHIELD))) == FULL
    assert store.read(KEY) == before
    assert store.write(writes.write(Remove(names(1, "i")[0], NOW, 1))) == 1
    assert store.write(writes.write(entry(b"enew"))) == 1


def test_a_full_visitor_without_interests_but_with_dead_shields_has_room() -> None:
    """What no longer matters is evicted first."""
    old = NOW - 2 * DAY
    store = filled(*(entry(field, old, head=SHIELD) for field in names(MOST_TIMELINES, "i")), now=old)
    assert store.write(writes.write(entry(b"enew"))) == 1
    assert set(store.read(KEY)) == {b"enew"}


# ---- clocks that differ ----

HORIZON = 1_000
AHEAD = st.sampled_from([0, 0, -150, 150]) | st.integers(-150, 150)
"""A caller's clock beside the true time: two callers differ by 300 seconds at most."""
HAPPENS = st.tuples(
    st.sampled_from([0, 1, 60, 300, 900, 1_300, 1_601]) | st.integers(0, 700),
    AHEAD,
    st.sampled_from([0, 300, -999, -1_300]) | st.integers(-1_400, 300),
    AHEAD,
)


@given(st.lists(HAPPENS, min_size=1, max_size=25))
@settings(max_examples=300, deadline=None)
def test_nothing_that_counts_is_lost_to_clocks_that_differ(steps: list[tuple[int, int, int, int]]) -> None:
    """Every caller sees in their own window what happened in it, whoever told it, and whenever the visitor expires.

    Events are up to 300 seconds ahead of a caller; visitors expire by the true time, as they do on a server.
    """
    store, true, happened = MemoryStore(), NOW, list[int]()
    head = timeline.head(HORIZON, shield=True)
    exact = timeline.seconds_of(head)
    for later, telling, moment, asking in steps:
        true += later
        store.expire(true)
        now = true + telling
        at = now + moment
        told = writes.write(entry(b"ia", at, keep=100, head=head), now=now, ttl=max(1, exact + 1 + at - now))
        assert store.write(told) in (1, LATE)
        happened.append(at)
        now = true + asking
        counted = sum(at >= now - exact for at in happened)
        assert holds_at(store, now, guard(b"ia", counted, now - exact))
        assert not holds_at(store, now, guard(b"ia", counted + 1, now - exact))


def holds_at(store: MemoryStore, now: int, asked: Guard) -> bool:
    """Whether the guard holds for this caller."""
    return store.write(writes.write(guards=(asked,), now=now)) == 1


# ---- the rest of the protocol ----


def test_many_are_answered_in_order() -> None:
    """Each by itself; none at all is no trouble."""
    store = MemoryStore()
    denied = Write(b"x", NOW, b"", (Alternative((guard(b"iz", 1, 0),), (), 1),))
    assert store.write_many([write(b"v"), denied, write(b"v")]) == [1, DENIED, 1]
    states = store.read_many([b"v", b"x"])
    assert [len(state) for state in states if not isinstance(state, StoreError)] == [1, 0]
    assert (store.read_many([]), store.write_many([])) == ([], [])


def test_deleting() -> None:
    """True if there was anything."""
    store = filled(entry(b"ia"))
    assert (store.delete(KEY), store.delete(KEY), store.ttl(KEY, NOW)) == (True, False, None)


def test_there_are_no_servers() -> None:
    """So nothing is known of their health."""
    assert MemoryStore().health() == AsyncMemoryStore(MemoryStore()).health() == ()


def test_awaited_it_answers_the_same() -> None:
    """Every method of the async store is the store's own."""
    store = MemoryStore()
    awaited = AsyncMemoryStore(store)

    async def use() -> list[object]:
        done: list[object] = [await awaited.write(write(b"v")), await awaited.write_many([write(b"w")])]
        done += [await awaited.read(b"v") == store.read(b"v"), await awaited.read_many([b"w"]) == [store.read(b"w")]]
        done.append(await awaited.delete(b"v"))
        await awaited.close()
        return done

    assert asyncio.run(use()) == [1, [1], True, True, True]
    assert len(store) == 1
