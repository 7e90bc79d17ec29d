"""merge.py: with other merges and events in between, and interrupted at any point, everything counts once.

Interleavings drive the steps by hand: at every point where a merge waits for the store, anything else may happen.
"""

from __future__ import annotations

import itertools
import random
import threading
from typing import Any

import pytest

from retarget import MemoryStore, NotExecuted, OutcomeUnknown, Policy, Retargeter
from retarget.calls.merge import ROUNDS
from retarget.timelines import DENIED, MOST_TIMELINES, Store, timeline
from tests.support import servers
from tests.support.fixtures import Ads
from tests.support.merges import COUNTED, DAY, KEYS, NOW, POLICY, ByHand, answers, count, kept, merge_steps, perform

# -- interleavings -----------------------------------------------------------------------------------------------------


def a_merge(store: Store, into: str = "t") -> ByHand:
    """A merge of s that makes one request at a time."""
    return ByHand(merge_steps("s", into), store)


def fresh_pair(store: Store) -> Retargeter:
    """A source with some history, several entries of one second among it, and a target with some."""
    ads = Retargeter(POLICY, store, clock=lambda: NOW)
    for visitor in ("s", "t", "one"):
        ads.forget(visitor)
    for who, event, ago in (("s", "visit", 5), ("s", "impression", 5), ("s", "impression", 5), ("t", "impression", 5)):
        for visitor in (who, "one"):
            ads.record(visitor, event, "shop" if event == "visit" else "b", at=NOW - ago)
    return ads


def happens(ads: Retargeter, number: int) -> None:
    """Something happens to the source (and to the one who does everything), often in the second of what moves."""
    event, subject = [("impression", "b"), ("visit", "shop"), ("impression", "a"), ("impression", "b")][number % 4]
    for visitor in ("s", "one"):
        ads.record(visitor, event, subject, at=NOW - 5 * (number % 2))


def assert_all_there(ads: Retargeter) -> None:
    """After an undisturbed merge the target has everything, once, and the source nothing."""
    ads.merge("s", into="t")
    assert kept(ads, "t") == kept(ads, "one")
    assert answers(ads, "t", NOW) == answers(ads, "one", NOW)
    assert kept(ads, "s") == {}


@pytest.mark.parametrize("after", range(6))
def test_a_merge_interrupted_anywhere_is_finished_by_the_next(store: Store, after: int) -> None:
    """After each of its steps: what is moved counts for at least one of them, and once when it is finished."""
    ads = fresh_pair(store)
    merge = a_merge(store)
    merge.step(after)
    assert sum(len(kept(ads, visitor).get("impression b", [])) for visitor in "st") >= 3
    happens(ads, after)
    assert_all_there(ads)


def test_merged_back_before_it_was_finished(store: Store) -> None:
    """Delivered, not removed yet, and then the other way: what has left the target is removed before more comes."""
    ads = Retargeter(POLICY, store, clock=lambda: NOW)
    for number in range(20):
        ads.record("s", "visit", "shop", at=NOW - number)
        ads.record("t", "visit", "shop", at=NOW - 100 - number)
    kept_by_one = len(kept(ads, "s")["visit shop"])
    merge = a_merge(store)
    merge.step(4)
    assert len(kept(ads, "s")["visit shop"]) == len(kept(ads, "t")["visit shop"]) == kept_by_one
    assert ads.merge("t", into="s")
    ads.merge("s", into="t")
    assert len(kept(ads, "t")["visit shop"]) == kept_by_one


@pytest.mark.parametrize("size", [1, 2])
def test_events_during_a_merge_are_kept(size: int) -> None:
    """One or two events, at every place between the steps of a merge."""
    for places in itertools.combinations_with_replacement(range(6), size):
        store = MemoryStore()
        ads = fresh_pair(store)
        merge = a_merge(store)
        for step in range(6):
            for number, place in enumerate(places):
                if place == step:
                    happens(ads, number + step)
            merge.step()
        assert_all_there(ads)


def test_two_merges_in_every_order_count_once() -> None:
    """All interleavings of the first steps of two merges, with an event somewhere among them."""
    for number, order in enumerate(_orders(5, 5)):
        store = MemoryStore()
        ads = fresh_pair(store)
        merges = [a_merge(store), a_merge(store)]
        for step, who in enumerate(order):
            if step == number % 10:
                happens(ads, step)
            merges[who].step()
        assert_all_there(ads)


@pytest.mark.parametrize("first", range(1, 6))
def test_two_merges_into_two_targets_count_once(store: Store, first: int) -> None:
    """One into t is interrupted anywhere by one into u, and then goes on: everything is at one of them."""
    ads = fresh_pair(store)
    ads.forget("u")
    merge, other = a_merge(store), a_merge(store, "u")
    merge.step(first)
    other.finish()
    happens(ads, first)
    merge.finish()
    everything = kept(ads, "one")
    for name in everything:
        parts = [at for visitor in "stu" for at in kept(ads, visitor).get(name, [])]
        assert sorted(parts) == everything[name]
    ads.merge("u", into="t")
    assert_all_there(ads)
    assert kept(ads, "u") == {}


def test_a_merge_that_read_before_another_moved_it_moves_nothing_again(store: Store) -> None:
    """It reads, another merge moves everything, then it continues: what it read is out of date, which it notices."""
    ads = fresh_pair(store)
    slow = a_merge(store)
    slow.step()  # it has read
    assert [ads.merge("s", into="t") for _ in range(2)] == [True, False]
    happens(ads, 0)
    slow.finish()
    assert_all_there(ads)


def _orders(zeros: int, ones: int) -> list[tuple[int, ...]]:
    """Every way to take turns."""
    places = itertools.combinations(range(zeros + ones), ones)
    return [tuple(int(turn in chosen) for turn in range(zeros + ones)) for chosen in places]


@pytest.mark.parametrize("seed", range(150))
def test_merges_events_and_interruptions_in_random_order_count_once(seed: int) -> None:
    """Three merges at a time, some abandoned, some started again, events in between: nothing is lost or doubled."""
    rng, store = random.Random(seed), MemoryStore()
    ads = fresh_pair(store)
    merges = [a_merge(store) for _ in range(3)]
    for number in range(40):
        match rng.randrange(6):
            case 0:
                happens(ads, rng.randrange(8))
            case 1 if number < 30:
                merges[rng.randrange(3)] = a_merge(store)
            case _:
                merges[rng.randrange(3)].step()
    assert_all_there(ads)


def room(ads: Retargeter, visitor: str) -> int:
    """How many impressions of a are left for the visitor: found by trying, on a copy in memory."""
    store = MemoryStore()
    key = KEYS.key(visitor)
    store._visitors[key] = dict(ads._store.read(key))
    store._until[key] = NOW
    copy = Retargeter(ads.policy, store, clock=lambda: NOW)
    return sum(copy.claim(visitor, ["a"]) is not None for _ in range(20))


def test_a_reservation_made_during_a_merge_counts_all_along(store: Store) -> None:
    """Shorter, as long, or longer than the one that is moved: at each step it counts for the source, or was moved."""
    policy = Policy.from_text('[campaign.a]\ncaps = ["9 per day"]')
    for after, hold in itertools.product(range(5), ["5 minutes", "10 minutes", "20 minutes"]):
        ads = Retargeter(policy, store, clock=lambda: NOW)
        for visitor in "st":
            ads.forget(visitor)
        assert ads.claim("s", hold="10 minutes")
        merge = a_merge(store)
        for step in range(5):
            if step == after:
                assert ads.claim("s", hold=hold)
            merge.step()
            held = sum(9 - room(ads, visitor) for visitor in "st")
            assert held >= 1 + (step >= after), (after, hold, step)
        ads.merge("s", into="t")
        assert (room(ads, "s"), room(ads, "t")) == (9, 7)


def test_a_repeat_to_the_old_id_after_a_merge_is_recognised(ads: Ads) -> None:
    """Event ids stay with the old visitor id: a late repeat counts nothing."""
    one = ads('[campaign.a]\ncaps = ["9 per day"]')
    assert one.record("s", "impression", "a", id="imp-1")
    assert one.merge("s", into="t")
    assert one.record("s", "impression", "a", id="imp-1") is False
    assert one.merge("s", into="t") is False
    assert count(one, "t") == 1


def test_threads_that_merge_while_another_records(store: Store) -> None:
    """Four threads merge the same pair while one records to the source: at the end each event counts once."""
    ads = Retargeter(COUNTED, store, clock=lambda: NOW)
    done, failed = threading.Event(), []

    def merging_on() -> None:
        try:
            while not done.is_set():
                ads.merge("s", into="t")
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failed.append(error)

    threads = [threading.Thread(target=merging_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(150):
            assert ads.record("s", "impression", "a", id=f"imp-{number}")
    finally:
        done.set()
        for thread in threads:
            thread.join(servers.PATIENCE)
    ads.merge("s", into="t")
    assert failed == []
    assert (count(ads, "s"), count(ads, "t")) == (0, 150)


def test_a_merge_that_is_always_overtaken_ends() -> None:
    """Two hundred rounds in which every note is denied, because something was entered meanwhile: then it gives up."""
    raw = timeline.head(DAY, shield=True).to_bytes(2) + NOW.to_bytes(4)
    steps = merge_steps("s", "t")
    read: Any = next(steps)
    for number in range(ROUNDS):
        announced: Any = steps.send([{b"ib": raw}, {}])
        note: Any = steps.send(1)
        assert [announced.write.key, note.write.key] == [KEYS.key("t"), KEYS.key("s")]
        withdrawn: Any = steps.send(DENIED)
        assert withdrawn.write.key == KEYS.key("t")
        if number < ROUNDS - 1:
            assert steps.send(1) == read
    with pytest.raises(NotExecuted, match="changed 200 times"):
        steps.send(1)


def test_an_entry_at_the_last_second_is_moved(store: Store) -> None:
    """A hold that ends in 2106 has no later second to be compared with."""
    ads = Retargeter(COUNTED, store, clock=lambda: timeline.LAST_MOMENT - 300)
    assert ads.claim("s", hold="1 day")
    assert ads.merge("s", into="t")
    assert (count(ads, "s"), count(ads, "t")) == (0, 1)


def test_a_target_that_becomes_full_meanwhile() -> None:
    """Noted, and then there is no room: NotExecuted, the parcel waits, and arrives once there is room again."""
    store = MemoryStore()
    ads = fresh_pair(store)
    merge = a_merge(store)
    merge.step(3)
    target = store._visitors[KEYS.key("t")]
    others = {b"i%d" % number: target[b"ib"] for number in range(MOST_TIMELINES)}
    target |= others
    with pytest.raises(NotExecuted, match="the rest was not moved"):
        merge.finish()
    with pytest.raises(NotExecuted, match="the rest was not moved"):
        ads.merge("s", into="t")
    for field in others:
        del target[field]
    assert_all_there(ads)


def test_a_note_that_is_refused_is_not_announced_any_longer() -> None:
    """The source's server refuses: the error is the caller's, and nothing is left at the target, if that answers."""
    store = MemoryStore()
    ads = fresh_pair(store)
    before = kept(ads, "t"), set(store.read(KEYS.key("t")))
    merge = a_merge(store)
    merge.step(2)
    withdrawal: Any = merge.steps.throw(NotExecuted("out of memory"))
    assert withdrawal.write.key == KEYS.key("t")
    with pytest.raises(NotExecuted, match="out of memory"):
        merge.steps.send(perform(store, withdrawal))
    assert (kept(ads, "t"), set(store.read(KEYS.key("t")))) == before
    merge = a_merge(store)
    merge.step(2)
    merge.steps.throw(NotExecuted("out of memory"))
    with pytest.raises(NotExecuted, match="out of memory"):
        merge.steps.throw(OutcomeUnknown("gone as well"))
    assert_all_there(ads)
