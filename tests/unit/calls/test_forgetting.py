"""forgetting.py: everything is removed, whatever it is, and nothing comes back from a merge that is under way."""

from __future__ import annotations

from typing import Any

import pytest

from retarget import NotExecuted, Retargeter, StoreError
from retarget.calls import Visitors
from retarget.calls.forgetting import forget_key
from retarget.calls.merge import ROUNDS, move_history
from retarget.calls.requests import Apply, Delete
from retarget.engine import Plan
from retarget.timelines import DENIED, Store, timeline
from tests.support import servers
from tests.support.fixtures import Ads
from tests.support.merges import DAY, KEYS, NOW, POLICY, ByHand, merge_steps
from tests.support.servers import Server

STEPS = 6
PEPPERS = {1: "p" * 16, 2: "q" * 16}
KEY = KEYS.key("s")


@pytest.mark.parametrize("before", range(STEPS))
def test_what_is_forgotten_during_a_merge_stays_forgotten(store: Store, before: int) -> None:
    """Both forgotten between any two steps of a merge, which then goes on: nothing is left, and nothing comes."""
    ads = Retargeter(POLICY, store, clock=lambda: NOW)
    ads.record_many([("s", "impression", "a"), ("t", "impression", "b")])
    merge = ByHand(merge_steps("s", "t"), store)
    merge.step(before)
    ads.forget("s")
    ads.forget("t")
    merge.finish()
    for visitor in "st":
        assert not store.read(KEYS.key(visitor))


@pytest.mark.parametrize("before", range(STEPS))
def test_forgetting_the_source_leaves_the_target_its_own(store: Store, before: int) -> None:
    """Whatever step the merge has reached: what the target had stays, and of the source comes nothing more."""
    ads = Retargeter(POLICY, store, clock=lambda: NOW)
    ads.record_many([("s", "impression", "a"), ("t", "impression", "b")])
    merge = ByHand(merge_steps("s", "t"), store)
    merge.step(before)
    ads.forget("s")
    there = ads.export("t")["timelines"]
    merge.finish()
    assert b"ib" in store.read(KEYS.key("t"))
    assert {name: line for name, line in there.items() if not name.startswith("expected")} == ads.export("t")[
        "timelines"
    ]
    assert not store.read(KEY)


@pytest.mark.parametrize("before", range(STEPS))
def test_what_is_forgotten_during_a_rotation_stays_forgotten(store: Store, before: int) -> None:
    """The old key and the current one, between any two steps of a rotation."""
    old = Retargeter(POLICY, store, clock=lambda: NOW, pepper={1: PEPPERS[1]})
    ads = Retargeter(POLICY, store, clock=lambda: NOW, pepper=PEPPERS)
    old.record("v", "impression", "a")
    before_it, current = Visitors("rt:", PEPPERS).all_keys("v")
    rotation = ByHand(move_history(Plan(POLICY), before_it, current, NOW), store)
    rotation.step(before)
    assert ads.forget("v") is True
    rotation.finish()
    assert [dict(store.read(key)) for key in (before_it, current)] == [{}, {}]
    assert ads.rotate("v") is False


@pytest.mark.parametrize("before", range(4))
def test_a_merge_that_begins_while_the_source_is_forgotten(store: Store, before: int) -> None:
    """After any step of the forgetting a whole merge: what it moved stays moved, and the source is empty."""
    ads = Retargeter(POLICY, store, clock=lambda: NOW)
    ads.record("s", "impression", "a")
    ByHand(merge_steps("s", "t"), store).step(3)  # noted, and left
    forgetting = ByHand(forget_key(KEY, NOW), store)
    forgetting.step(before)
    ads.merge("s", into="u")
    moved = [bool(store.read(KEYS.key(visitor))) for visitor in "tu"]
    forgetting.finish()
    assert [bool(store.read(KEYS.key(visitor))) for visitor in "tu"] == moved
    assert not store.read(KEY)
    assert moved.count(True) <= 1


def test_whether_there_was_anything(ads: Ads) -> None:
    """True once, also for a visitor of whom only an event id is remembered."""
    one = ads("[campaign.a]")
    assert one.record("v", "visit", id="x")
    assert [one.forget("v") for _ in range(2)] == [True, False]
    assert one.record("v", "visit", id="x") is True


def test_everything_is_removed(store: Store) -> None:
    """Timelines, ids, reservations with their records, notes of parcels sent and expected: the key is gone."""
    ads = Retargeter(POLICY, store, clock=lambda: NOW)
    ads.record("s", "visit", "shop", id="x")
    assert ads.claim("s", ["a"], hold="1 hour")
    ads.record_many([("s", "impression", "b"), ("r", "impression", "a")])
    ByHand(merge_steps("r", "s"), store).step(2)
    ByHand(merge_steps("s", "t"), store).step(3)
    fields = {field[:1] for field in store.read(KEY)}
    assert fields >= {b"i", b"e", b"h", b"H", b"#", b"M", b"D"}
    assert ads.forget("s") is True
    assert not store.read(KEY)
    assert not any(field[:1] == b"D" for field in store.read(KEYS.key("t")))


@pytest.mark.parametrize(
    "harm", [{"ia": "seven.."}, {"h": "x"}, {"M": "x"}, {"@": "7" * 14}, {"#0": "xyz"}, {"#h12345": ""}, "wrong type"]
)
def test_forgetting_is_the_cure_for_what_is_corrupt(server: Server, harm: Any) -> None:
    """A field that is no timeline, a broken note, a key of another type: deleted."""
    ads = Retargeter(POLICY, server.url, clock=lambda: NOW, timeout=servers.PATIENCE)
    with server.client() as client:
        if harm == "wrong type":
            client.set(KEY, "x")
        else:
            ads.record("s", "impression", "b")
            client.hset(KEY, mapping=harm)
        assert ads.forget("s") is True
        assert not client.exists(KEY)


def test_a_parcel_of_a_corrupt_visitor_is_not_delivered_later(server: Server) -> None:
    """Its note can still be read: it is withdrawn before the rest is deleted."""
    ads = Retargeter(POLICY, server.url, clock=lambda: NOW, timeout=servers.PATIENCE)
    ads.record("s", "impression", "a")
    store = servers.open_store(server.url)
    merge = ByHand(merge_steps("s", "t"), store)
    merge.step(3)
    with server.client() as client:
        client.hset(KEY, "other", "x")
        assert ads.forget("s") is True
        merge.finish()
        assert not client.exists(KEY, KEYS.key("t"))
    store.close()


def test_a_server_that_fails_is_an_error() -> None:
    """Nothing is deleted unread: a parcel might be noted there."""
    steps = forget_key(KEY, NOW)
    next(steps)
    with pytest.raises(StoreError, match="down"):
        steps.throw(NotExecuted("the server is down"))


def test_what_is_of_another_type_is_deleted() -> None:
    """Only the server can say so; nothing of this library is in it."""
    steps = forget_key(KEY, NOW)
    next(steps)
    request = steps.throw(NotExecuted("ResponseError: WRONGTYPE Operation against a key"))
    assert request == Delete(KEY)
    deleted: Any = True
    with pytest.raises(StopIteration) as stop:
        steps.send(deleted)
    assert stop.value.value is True


def test_a_visitor_who_is_merged_all_the_time() -> None:
    """Another parcel is noted in each round: after two hundred it gives up, and says so."""
    raw = timeline.head(DAY, shield=True).to_bytes(2) + (7).to_bytes(4)
    steps = forget_key(KEY, NOW)
    read: Any = next(steps)
    for number in range(ROUNDS):
        withdrawal: Any = steps.send({b"M": raw, b"M>x": raw, b"ia": raw})
        assert (type(withdrawal), withdrawal.write.key) == (Apply, b"x")
        clear: Any = steps.send(1)
        assert clear.write.key == KEY
        if number < ROUNDS - 1:
            assert steps.send(DENIED) == read
    with pytest.raises(NotExecuted, match="not forgotten"):
        steps.send(DENIED)
