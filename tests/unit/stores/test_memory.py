"""memory.py: what only the store in memory has, beside the contract that it shares (test_store_contract.py)."""

from __future__ import annotations

import threading

from retarget import MemoryStore, Policy, Retargeter
from retarget.timelines import Alternative, Enter, Guard, Write, timeline

NOW = 1_794_312_000
HEAD = timeline.head(86_400, shield=False)


def write(key: bytes, ttl: int = 100, now: int = NOW) -> Write:
    """A write of one entry."""
    return Write(key, now, b"", (Alternative((), (Enter(b"ia", now, 1, 16, HEAD),), ttl),))


def test_its_length_is_the_number_of_visitors() -> None:
    """Visitors count from their first write until they are forgotten; a denied write makes none."""
    store = MemoryStore()
    store.write(write(b"v"))
    store.write(write(b"w"))
    denied = Alternative((Guard(b"ia", 1, 0, wanted=True, more=False, anchored=False),), (), 1)
    store.write(Write(b"x", NOW, b"", (denied,)))
    assert len(store) == 2
    store.delete(b"v")
    assert len(store) == 1


def test_expire_drops_visitors_whose_time_has_passed() -> None:
    """Kept up to the second she is kept until, gone one second later, and nothing of her is left."""
    store = MemoryStore()
    store.write(write(b"v", ttl=100))
    store.write(write(b"w", ttl=200))
    store.expire(NOW + 100)
    assert len(store) == 2
    store.expire(NOW + 101)
    assert (dict(store.read(b"v")), store.ttl(b"v", NOW), len(store)) == ({}, None, 1)
    assert store.ttl(b"w", NOW + 101) == 99


def test_a_visitor_who_expired_begins_anew() -> None:
    """Her new time is that of her new write alone."""
    store = MemoryStore()
    store.write(write(b"v", ttl=10_000))
    store.expire(NOW + 20_000)
    store.write(write(b"v", ttl=5, now=NOW + 20_000))
    assert store.ttl(b"v", NOW + 20_000) == 5


def test_a_visitor_kept_by_the_retargeter_can_be_expired() -> None:
    """What a policy of one day wrote is gone a day and a second later."""
    store, now = MemoryStore(), [NOW]
    policy = Policy.from_text('[campaign.a]\ncaps = ["3 per day"]')
    with Retargeter(policy, store, clock=lambda: now[0]) as ads:
        ads.record("v", "impression", "a")
        store.expire(NOW + 86_400)
        assert len(store) == 1
        store.expire(NOW + 86_400 + 300)
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
