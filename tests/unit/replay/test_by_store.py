"""Rows judged through a store: what it keeps, forgets, and does when the store fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast
from zoneinfo import ZoneInfo

import pytest
import redis

from retarget.engine import Plan
from retarget.errors import NotExecuted, RetargetWarning, StoreError
from retarget.events import Candidate
from retarget.logs import BATCH
from retarget.operate import EmbeddedServer
from retarget.policy import Policy
from retarget.replay.by_store import StoreJudge
from retarget.replay.full import FullRules
from retarget.replay.meanings import Meaning
from retarget.replay.run import replay
from retarget.stores import MemoryStore
from retarget.timelines import Answer, Store, Write
from tests.support.replays import MONDAY, opened, row

DAY = 86_400


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """A Valkey for the tests of this file."""
    with EmbeddedServer() as running:
        yield running


def test_what_is_kept_and_forgotten(server: EmbeddedServer) -> None:
    """A server is left as it was; with `keep` the visitors stay, under a prefix that is reported."""
    policy = Policy.from_text('[campaign.c]\ncaps = ["1 per 60 seconds"]\nexclude = ["visit home"]')
    log = opened([row(MONDAY, "v1"), row(MONDAY, "v2", None, event="visit", subject="home")])
    with log, redis.Redis.from_url(server.url) as client:
        client.set("mine", "1")
        assert replay(log, policy, store=server.url).prefix is None
        assert client.keys() == [b"mine"]
        kept = replay(log, policy, store=server.url, keep=True)
        assert kept.prefix is not None
        keys = cast("list[bytes]", client.keys(kept.prefix + "*"))
        assert sorted(key.rpartition(b":")[2] for key in keys) == [b"2~v1", b"2~v2"]
        # A replay may pause, or take longer than what it replays: nothing expires within a year.
        assert all(cast("int", client.ttl(key)) > 365 * DAY for key in keys)
        client.flushall()


def test_a_store_that_fails(server: EmbeddedServer) -> None:
    """If the store fails, the replay fails: nothing counts as suppressed or served without an answer."""
    policy = Policy.from_text('on_store_error = "allow"\n[campaign.c]\ncaps = ["1 per day"]')
    with opened([row(MONDAY)]) as log, pytest.raises(NotExecuted):
        replay(log, policy, store=server.url + ".not")


def test_events_are_sent_together_and_before_their_visitor_is_judged() -> None:
    """Events wait for the next impression of their visitor, or the 500th event, however much later these are."""
    store = Counting()
    judge = judging('[defaults]\nexclude = ["buy"]', store)
    zone, ad = ZoneInfo("UTC"), Candidate("c")
    bought, shown = Meaning((("buy", None),), None, zone), Meaning((("impression", ad),), ad, zone)
    assert judge.take("v1", bought, MONDAY) is None
    assert judge.take("v2", shown, MONDAY) is None
    assert store.batches == []
    assert judge.take("v1", shown, MONDAY) == ("exclude", "buy")
    assert store.batches == [1]
    for n in range(501):
        judge.take(f"w{n}", bought, MONDAY + 1)
    assert store.batches == [1, 500]
    judge.take("v3", bought, MONDAY + DAY)
    assert store.batches == [1, 500]
    judge.finish()
    assert store.batches == [1, 500, 2]
    judge.finish()
    assert store.batches == [1, 500, 2]
    assert judge.dropped == 0
    judge.forget()
    assert all(not store.read(f"p:{visitor}".encode()) for visitor in ("v1", "v2", "v3", "w0"))


def judging(policy: str, store: Store) -> StoreJudge:
    """A judge of that policy."""
    rules = Policy.from_text(policy)
    return StoreJudge(rules, store, "p:", FullRules(Plan(rules), ()))


class Counting(MemoryStore):
    """A memory store that notes how many writes each batch has."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        self.batches.append(len(writes))
        return super().write_many(writes)


def test_a_visitor_is_kept_for_a_year() -> None:
    """A write asks for a TTL of at least a year, and for more if the policy does: a replay may pause."""
    for cap, wanted in (("1 per 60 seconds", 366 * DAY), ("1 per 900 days", 900 * DAY)):
        store = Noting()
        judge = judging(f'[defaults]\ncaps = ["{cap}"]', store)
        ad = Candidate("c")
        judge.take("v", Meaning((("impression", ad), ("click", ad)), ad, ZoneInfo("UTC")), MONDAY)
        judge.finish()
        assert wanted <= store.ttls[0] <= wanted + DAY
        assert all(ttl >= 366 * DAY for ttl in store.ttls)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_after_an_interrupt(server: EmbeddedServer, error: type[BaseException]) -> None:
    """Ctrl-C, or any other error, in the middle of a replay: its keys are deleted."""
    policy = Policy.from_text('[campaign.c]\ncaps = ["1 per day"]')
    rows = [row(MONDAY + n, f"v{n % 5}") for n in range(BATCH + 1)]

    def interrupt(*_: int) -> None:
        assert len(cast("list[bytes]", client.keys("rt:replay-*"))) == 5
        raise error

    with opened(rows) as log, redis.Redis.from_url(server.url) as client:
        with pytest.raises(error):
            replay(log, policy, store=server.url, progress=interrupt)
        assert client.keys("rt:replay-*") == []


def test_nothing_is_left_by_a_replay_that_fails() -> None:
    """The store fails once: the replay fails with that error, and what it wrote is deleted."""
    store = Failing(write=3)
    with opened([row(MONDAY + n, f"v{n}") for n in range(5)]) as log, pytest.raises(NotExecuted, match="write 3"):
        replay(log, Policy.from_text('[campaign.c]\ncaps = ["1 per day"]'), store=store)
    assert len(store) == 0


def test_what_cannot_be_deleted_is_reported() -> None:
    """The store fails for good: the replay's own error is raised, and a warning says where keys were left."""
    store = Failing(write=3, delete=True)
    with (
        opened([row(MONDAY + n, f"v{n}") for n in range(5)]) as log,
        pytest.raises(NotExecuted, match="write 3"),
        pytest.warns(
            RetargetWarning, match=r"keys of this replay are left under rt:replay-\w+:, for at most a year: no"
        ),
    ):
        replay(log, Policy.from_text('[campaign.c]\ncaps = ["1 per day"]'), store=store)
    assert len(store) == 2


class Failing(MemoryStore):
    """A memory store that refuses one of its writes, and perhaps every deletion."""

    def __init__(self, *, write: int, delete: bool = False) -> None:
        super().__init__()
        self._left, self._deletes = write, not delete

    def write(self, write: Write) -> Answer:
        self._left -= 1
        if not self._left:
            raise NotExecuted("write 3 is refused")
        return super().write(write)

    def delete(self, key: bytes) -> bool:
        if not self._deletes:
            raise NotExecuted("no")
        return super().delete(key)


class Noting(MemoryStore):
    """A memory store that notes the TTLs it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.ttls: list[int] = []

    def write(self, write: Write) -> Answer:
        self.ttls += [one.ttl for one in write.alternatives]
        return super().write(write)
