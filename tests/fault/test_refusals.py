"""Refusals: what a server says of itself, what is wrong at a visitor's key, what fails before the server.

Each against real servers, by both clients: not executed, in time, the policy's answer with its cause, nothing written;
and service resumes by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from retarget import NotExecuted, Policy, StoreError
from retarget.timelines import keys
from tests.support import nodes
from tests.support.driving import PATIENT, PROMPT, TIMEOUT, Ads, held, opened, refused, refuses_writes, resumes
from tests.support.nodes import Node
from tests.support.waiting import until, within

CAPS = '[campaign.a]\ncaps = ["50 per day"]\n[campaign.b]\ncaps = ["1 per day"]\n'
POLICY = Policy.from_text(CAPS)
BUSY = "while true do end"


@pytest.fixture
def ads(sort: str, victim: Node) -> Iterator[Ads]:
    """A retargeter of each sort on it that has served already, with time to spare for what the server answers."""
    with opened(sort, POLICY, victim.url, timeout=PATIENT) as ads:
        until(lambda: ads.record("warm-up", "impression", "a"), "an event recorded")
        yield ads


# -- what a server says of itself --------------------------------------------------------------------------------------


def test_loading(ads: Ads, victim: Node) -> None:
    """A server that reads its data from the disk refuses all, and serves when it is done."""
    with victim.client() as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(4_000):
            pipeline.set(f"other:{number}", "x" * 50)
        pipeline.execute()
        client.save()
    slow = {"key-load-delay": "500", "loading-process-events-interval-bytes": "1024"}
    usual = dict(victim.options)
    victim.options |= slow
    try:
        victim.restart(ready=False)
        refused(ads, "BusyLoading")
        victim.ask("CONFIG", "SET", "key-load-delay", "0")
        resumes(ads)
    finally:
        victim.options = usual
        (victim.folder / "dump.rdb").unlink()
        victim.restart()


def test_readonly(ads: Ads, victim: Node) -> None:
    """It has become a replica: reads go on, writes are refused whole."""
    with nodes.node(victim.name, {"repl-diskless-sync-delay": "0"}) as primary:
        victim.ask("REPLICAOF", "127.0.0.1", primary.port)
        try:
            until(lambda: victim.info("replication")["master_link_status"] == "up", "a replica that follows")
            assert ads.decide("v").degraded is None
            refuses_writes(ads, "READONLY|ReadOnly")
        finally:
            victim.ask("REPLICAOF", "NO", "ONE")
    resumes(ads)


def test_masterdown(ads: Ads, victim: Node) -> None:
    """A replica without its primary that will not serve old data."""
    victim.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
    victim.ask("REPLICAOF", "127.0.0.1", nodes.quiet_port())
    try:
        refused(ads, "MasterDown")
    finally:
        victim.ask("REPLICAOF", "NO", "ONE")
        victim.ask("CONFIG", "SET", "replica-serve-stale-data", "yes")
    resumes(ads)


def test_noreplicas(ads: Ads, victim: Node) -> None:
    """Fewer replicas than it demands: writes are refused."""
    victim.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    try:
        assert ads.decide("v").degraded is None
        refuses_writes(ads, "NOREPLICAS")
    finally:
        victim.ask("CONFIG", "SET", "min-replicas-to-write", "0")
    resumes(ads)


def test_busy(ads: Ads, victim: Node) -> None:
    """Somebody else's script runs without end: refused until somebody kills it, which is not for the library to do."""

    def endless() -> None:
        with victim.client() as client, pytest.raises(redis.ResponseError):
            client.eval(BUSY, 0)

    other = threading.Thread(target=endless)
    other.start()
    try:
        until(lambda: _is_busy(victim), "a busy server")
        refused(ads, "BUSY")
        assert _is_busy(victim)
    finally:
        until(lambda: victim.ask("SCRIPT", "KILL"), "a killed script")
        other.join()
    resumes(ads)


def _is_busy(node: Node) -> bool:
    try:
        node.ask("PING")
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")
    return False


def test_out_of_memory(ads: Ads, victim: Node) -> None:
    """At maxmemory with noeviction: reads go on, writes are refused whole; nothing is half-written."""
    assert ads.record("v", "impression", "a") is True
    before = victim.ask("DUMP", keys.key("rt:", "v"))
    victim.ask("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")
    try:
        decision = ads.decide("v")
        assert (decision.degraded, decision.eligible) == (None, ("a", "b"))
        refuses_writes(ads, "OOM|OutOfMemory")
        assert victim.ask("DUMP", keys.key("rt:", "v")) == before
    finally:
        victim.ask("CONFIG", "SET", "maxmemory", "0")
    resumes(ads)


def test_too_many_clients(sort: str, victim: Node) -> None:
    """The server accepts no more connections."""
    victim.ask("CONFIG", "SET", "maxclients", "1")
    try:
        with victim.client() as only:
            only.ping()
            with opened(sort, POLICY, victim.url) as ads:
                with within(2 * PROMPT):
                    assert isinstance(ads.decide("v").degraded, NotExecuted)
                    with pytest.raises(StoreError):  # the refusal may be lost in the server's hanging up
                        ads.record("v", "impression", "a")
                only.config_set("maxclients", 1_000)
                resumes(ads)
    finally:
        until(lambda: victim.ask("CONFIG", "SET", "maxclients", "1000"), "a place")


def test_a_password_that_is_wanted_all_at_once(sort: str, victim: Node) -> None:
    """NOAUTH: not executed; nothing is tried for ever."""
    victim.ask("CONFIG", "SET", "requirepass", "secret")
    try:
        with opened(sort, POLICY, victim.url) as ads:
            refused(ads)
            with victim.client(username="default", password="secret") as client:  # noqa: S106 - of this test alone
                client.config_set("requirepass", "")
            resumes(ads)
    finally:
        with victim.client(username="default", password="secret") as client:  # noqa: S106
            client.config_set("requirepass", "")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda client, key: client.set(key, "text"),
        lambda client, key: client.rpush(key, "x"),
        lambda client, key: client.hset(key, "ia", "rubbish"),
        lambda client, key: client.hset(key, "ia", ""),
    ],
    ids=["text", "list", "rubbish", "empty"],
)
def test_a_visitor_who_is_spoilt(ads: Ads, victim: Node, spoil: Callable[[Any, bytes], object]) -> None:
    """A wrong type, a corrupt value: calls that read it fail, nothing is written, others are served; forget heals."""
    key = keys.key("rt:", "v")
    with victim.client() as client:
        spoil(client, key)
    before = victim.ask("DUMP", key)
    decision = ads.decide("v")
    assert isinstance(decision.degraded, StoreError)
    assert decision.eligible == ()
    assert ads.claim("v", ["a", "b"]) is None
    for id_ in ("one", None):
        with pytest.raises(NotExecuted):
            ads.record("v", "impression", "a", id=id_)
    assert victim.ask("DUMP", key) == before
    many = ads.decide_many(["w", "v", "x"])
    assert [decision.degraded is None for decision in many] == [True, False, True]
    assert ads.health[0].up
    assert ads.forget("v") is True
    resumes(ads)


# -- before the server -------------------------------------------------------------------------------------------------


def test_an_exhausted_pool(valkey: Node) -> None:
    """The caller's asyncio client has one connection, and somebody has it: not executed, in time; it is given back."""

    def one(module: Any) -> Any:
        options = {
            "timeout": TIMEOUT,
            "max_connections": 1,
            "socket_timeout": TIMEOUT,
            "protocol": 2,
            "port": valkey.port,
        }
        return module.Redis(connection_pool=module.BlockingConnectionPool(**options))

    with opened("async", POLICY, one) as ads:
        pool = ads.client.connection_pool
        taken = ads.done(pool.get_connection())
        refused(ads)
        ads.done(pool.release(taken))
        resumes(ads)
        assert held(valkey, "v") == 0


def test_a_name_that_does_not_resolve(sort: str) -> None:
    """The name of nobody: not executed, in time."""
    url = "redis://nobody.invalid:6379/0"
    with opened(sort, POLICY, url) as ads:
        refused(ads)


@pytest.mark.parametrize("surprise", [ZeroDivisionError, AttributeError, OSError])
def test_a_client_that_raises_what_is_no_redis_error(valkey: Node, surprise: type[Exception]) -> None:
    """Whatever comes out of its pool is the cause of a StoreError, and the policy's answer applies."""

    def surprising(module: Any) -> Any:
        class Pool(module.ConnectionPool):  # type: ignore[misc]
            broken = False

            def get_connection(self, *args: Any, **options: Any) -> Any:
                if self.broken:
                    raise surprise("a surprise")
                return super().get_connection(*args, **options)

        pool = Pool(port=valkey.port, socket_timeout=TIMEOUT, protocol=2)
        return module.Redis(connection_pool=pool)

    with opened("async", POLICY, surprising) as ads:
        ads.client.connection_pool.broken = True
        refused(ads)
        ads.client.connection_pool.broken = False
        resumes(ads)
        assert held(valkey, "v") == 0


@pytest.mark.parametrize("surprise", [ZeroDivisionError, EOFError])
def test_a_connection_that_raises_what_is_no_redis_error(sort: str, valkey: Node, surprise: type[Exception]) -> None:
    """Raised where a connection is opened, as by a credential provider of the caller's."""

    def surprising(module: Any) -> Any:
        class Broken(module.connection.Connection):  # type: ignore[misc]
            broken = True

            def connect(self, *args: Any, **options: Any) -> Any:
                if Broken.broken:
                    raise surprise("a surprise")
                return super().connect(*args, **options)

        pool = module.ConnectionPool(connection_class=Broken, port=valkey.port, socket_timeout=TIMEOUT, protocol=2)
        client = module.Redis(connection_pool=pool)
        client.kind = Broken
        return client

    with opened(sort, POLICY, surprising) as ads:
        refused(ads, f"{surprise.__name__}: a surprise")
        ads.client.kind.broken = False
        resumes(ads)
        assert held(valkey, "v") == 0
