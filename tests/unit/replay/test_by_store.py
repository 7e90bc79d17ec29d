"""Rows judged through a store: what it keeps, forgets, and does when the store fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast
from zoneinfo import ZoneInfo

import pytest
import redis

from retarget.errors import NotExecuted, StoreError
from retarget.events import Candidate
from retarget.operate import EmbeddedServer
from retarget.policy import Policy
from retarget.replay.by_store import StoreJudge
from retarget.replay.meanings import Meaning
from retarget.replay.run import replay
from retarget.stores import MemoryStore
from retarget.timelines import Answer, Write
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
        assert sorted(key.rpartition(b":")[2] for key in keys) == [b"v1", b"v2"]
        # Replaying a minute of the log may take longer than a minute: nothing expires within a day.
        assert all(cast("int", client.ttl(key)) > DAY - 60 for key in keys)
        client.flushall()


def test_a_store_that_fails(server: EmbeddedServer) -> None:
    """If the store fails, the replay fails: nothing counts as suppressed or served without an answer."""
    policy = Policy.from_text('on_store_error = "allow"\n[campaign.c]\ncaps = ["1 per day"]')
    with opened([row(MONDAY)]) as log, pytest.raises(NotExecuted):
        replay(log, policy, store=server.url + ".not")


def test_events_are_sent_together_and_before_their_visitor_is_judged() -> None:
    """Events wait for the next impression of their visitor, the 500th event, or one too far ahead of the first."""
    store = Counting()
    judge = StoreJudge(Policy.from_text('[defaults]\nexclude = ["buy"]'), store, "p:")
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
    judge.take("v3", bought, MONDAY + 302)
    assert store.batches == [1, 500, 1]
    assert judge.finish() == 0
    assert store.batches == [1, 500, 1, 1]
    assert judge.finish() == 0
    judge.forget()
    assert all(not store.read(f"p:{visitor}".encode()) for visitor in ("v1", "v2", "v3", "w0"))


class Counting(MemoryStore):
    """A memory store that notes how many writes each batch has."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        self.batches.append(len(writes))
        return super().write_many(writes)


def test_a_visitor_is_kept_for_a_day() -> None:
    """A write asks for a TTL of at least a day, and for more if the policy does."""
    for cap, wanted in (("1 per 60 seconds", DAY), ("1 per 7 days", 7 * DAY + 1)):
        store = Noting()
        judge = StoreJudge(Policy.from_text(f'[defaults]\ncaps = ["{cap}"]'), store, "p:")
        ad = Candidate("c")
        judge.take("v", Meaning((("impression", ad), ("click", ad)), ad, ZoneInfo("UTC")), MONDAY)
        judge.finish()
        assert store.ttls[0] == wanted
        assert all(ttl >= DAY for ttl in store.ttls)


class Noting(MemoryStore):
    """A memory store that notes the TTLs it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.ttls: list[int] = []

    def write(self, write: Write) -> Answer:
        self.ttls += [one.ttl for one in write.alternatives]
        return super().write(write)
