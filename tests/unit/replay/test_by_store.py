"""Rows judged through a store: what it keeps, forgets, and does when the store fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
import redis

from retarget.errors import NotExecuted
from retarget.operate import EmbeddedServer
from retarget.policy import Policy
from retarget.replay.run import replay
from tests.support.replays import MONDAY, opened, row

DAY = 86_400


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """A Valkey for the tests of this file."""
    with EmbeddedServer() as running:
        yield running


def test_what_is_kept_and_forgotten(server: EmbeddedServer) -> None:
    """A server is left as it was; with `keep` the visitors stay, under a prefix that is told."""
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
        # The log's minute may take the replay longer than a minute: nothing goes before a day is over.
        assert all(cast("int", client.ttl(key)) > DAY - 60 for key in keys)
        client.flushall()


def test_a_store_that_fails_is_no_decision(server: EmbeddedServer) -> None:
    """Where the store fails the replay fails: nothing is suppressed or served for want of an answer."""
    policy = Policy.from_text('on_store_error = "allow"\n[campaign.c]\ncaps = ["1 per day"]')
    with opened([row(MONDAY)]) as log, pytest.raises(NotExecuted):
        replay(log, policy, store=server.url + ".not")
