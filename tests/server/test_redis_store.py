"""A retargeter over Redis: one round trip a call, the clients and URLs it takes, and visitors with corrupt data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from retarget import ConfigError, NotExecuted, Policy, Retargeter, StoreError
from retarget.timelines import Store, keys
from tests.support import servers
from tests.support.servers import Server

NOW = 1_794_312_000
SECRET = "visitor-4711"  # noqa: S105 - not a password: what must not show
KEY = keys.key("rt:", SECRET)
POLICY = Policy.from_text('[campaign.a]\ncaps = ["3 per day"]\n[campaign.b]\ncaps = ["1 per day"]')


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    """A store on each real server."""
    with closing(servers.open_store(server.url)) as store:
        yield store


# -- round trips -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "commands"),
    [
        (lambda ads: ads.decide(SECRET, ["a", "b"]), {"hgetall"}),
        (lambda ads: ads.decide(SECRET), {"hgetall"}),
        (lambda ads: ads.decide(SECRET, ["a"])["a"], {"hgetall"}),
        (lambda ads: ads.claim(SECRET, ["a", "b"], id="x"), {"evalsha"}),
        (lambda ads: ads.record(SECRET, "impression", "b", id="y"), {"evalsha"}),
        (lambda ads: ads.export(SECRET), {"hgetall"}),
        (lambda ads: ads.forget(SECRET), {"hgetall", "evalsha"}),
    ],
)
def test_each_call_is_one_command(
    server: Server, store: Store, call: Callable[[Retargeter], object], commands: set[str]
) -> None:
    """The server counts exactly one command from a client, and two to forget, which reads whether a merge is under way.

    What a script runs inside is not a round trip.
    """
    ads = Retargeter(POLICY, store, clock=lambda: NOW)
    ads.claim(SECRET, ["a"])
    before = server.commands()
    call(ads)
    after = server.commands()
    inside = {"hget", "hmget", "hlen", "hset", "hdel", "ttl", "expire"} if "evalsha" in commands else set()
    ran = {name: calls - before.get(name, 0) for name, calls in after.items() if calls > before.get(name, 0)}
    read = ran.pop("hgetall", 0)
    assert {*ran} - inside == commands - {"hgetall"}
    assert ran.get("evalsha", 1) == 1
    assert (read == 1) is ("hgetall" in commands) or "evalsha" in commands


def test_what_needs_no_visitor_sends_nothing(server: Server, store: Store) -> None:
    """No visitor, no consent, an event that no rule asks about: no command at all."""
    ads = Retargeter(POLICY, store, clock=lambda: NOW)
    before = server.commands()
    ads.decide(None)
    ads.decide(SECRET, consent=False)
    ads.claim(None)
    ads.record(SECRET, "visit", "shop")
    ads.record(None, "impression", "a")
    assert server.commands() == before


# -- clients -----------------------------------------------------------------------------------------------------------


def test_a_client_that_decodes_is_refused_with_the_cure(server: Server) -> None:
    """Packed timelines are not text."""
    with server.client(decode_responses=True) as client, pytest.raises(ConfigError, match="decode_responses=False"):
        Retargeter(POLICY, client)


def test_a_url_that_decodes_is_refused_too(server: Server) -> None:
    """An option of the URL has the same fault."""
    with pytest.raises(ConfigError, match="decode_responses=False"):
        Retargeter(POLICY, server.url + "?decode_responses=true")


def test_a_plain_client_will_do(server: Server) -> None:
    """`redis.Redis()` retries ten times and waits five seconds: its other settings are used, these are not."""
    with redis.Redis(port=server.port) as client, Retargeter(POLICY, client, clock=lambda: NOW, timeout=2) as ads:
        assert ads.claim(SECRET, ["b"])
        assert ads.claim(SECRET, ["b"]) is None
    with redis.Redis(port=servers.free_port()) as client, Retargeter(POLICY, client) as ads:
        assert isinstance(ads.decide(SECRET).degraded, NotExecuted)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("pool", [redis.ConnectionPool, redis.BlockingConnectionPool])
def test_protocols_and_pools_give_the_same(server: Server, protocol: int, pool: Any) -> None:
    """RESP2 and RESP3, the plain and the blocking pool."""
    options: dict[str, Any] = {"timeout": 1} if pool is redis.BlockingConnectionPool else {}
    connections = pool.from_url(server.url, protocol=protocol, socket_timeout=1, retry=Retry(NoBackoff(), 0), **options)
    with closing(connections), redis.Redis(connection_pool=connections) as client:
        ads = Retargeter(POLICY, client, clock=lambda: NOW)
        assert [bool(ads.claim(SECRET, ["b", "a"])) for _ in range(5)] == [True] * 4 + [False]
        assert ads.decide(SECRET).eligible == ()
        assert [decision.eligible for decision in ads.decide_many([SECRET, "other"])] == [(), ("a", "b")]
        assert ads.record_many([("other", "impression", "a")]) == [True]
        assert ads.forget(SECRET) is True


def test_the_retargeter_of_a_url_warns_of_nothing(server: Server) -> None:
    """The set-up that the warnings advise draws none."""
    with Retargeter(POLICY, server.url) as ads:
        assert ads.decide("nobody").eligible == ("a", "b")


def test_a_given_client_stays_open(server: Server) -> None:
    """`close` closes what the library opened, not what it was given."""
    with server.client() as client:
        Retargeter(POLICY, client).close()
        assert client.ping()
        assert client.connection_pool.get_connection_count()[0][0] >= 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("localhost:6379", "redis://localhost:6379/0"),
        ("", "redis://localhost:6379/0"),
        ("http://localhost", "redis://localhost:6379/0"),
        ("redis://localhost:port", "redis://localhost:6379/0"),
        (None, "store must be .* got NoneType"),
        (5, "store must be .* got int"),
        (b"redis://localhost", "store must be .* got bytes"),
    ],
)
def test_what_is_no_store_is_refused_with_what_would_be(given: Any, said: str) -> None:
    """A ConfigError that names the kind of thing given, or the URL that would do."""
    with pytest.raises(ConfigError, match=said):
        Retargeter(POLICY, given)


def test_an_async_client_is_refused_here(server: Server) -> None:
    """It would answer with coroutines: a ConfigError at set-up, not a puzzle at the first call."""

    async def attempt() -> None:
        client = redis.asyncio.Redis(port=server.port)
        try:
            with pytest.raises(ConfigError, match="async"):
                Retargeter(POLICY, client)  # type: ignore[arg-type]
        finally:
            await client.aclose()

    asyncio.run(attempt())


@pytest.mark.parametrize("timeout", [0, -1, 61, float("nan"), float("inf"), "0.1", None])
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    """Seconds, more than 0 and at most 60: a ConfigError that says so."""
    with pytest.raises(ConfigError, match="timeout"):
        Retargeter(POLICY, "redis://localhost", timeout=timeout)


# -- corrupt data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "raw"), [("ia", ""), ("ia", "seven.."), ("ia", "xx"), ("", "x"), ("@", ""), ("#0", "x")]
)
def test_a_corrupt_visitor_gets_the_policys_answer(server: Server, field: str, raw: str) -> None:
    """Whatever was written there: decide and claim answer or degrade, export reports it, forget repairs it."""
    policy = Policy.from_text('on_store_error = "block"\n[campaign.a]\ncaps = ["3 per day", "5 per session"]')
    with server.client() as client:
        client.hset(KEY, field, raw)
        ads = Retargeter(policy, client, clock=lambda: NOW)
        ads.decide(SECRET)
        ads.claim(SECRET, id="x")
        if not field.startswith("#"):
            with pytest.raises(StoreError, match="corrupt") as raised:
                ads.export(SECRET)
            assert SECRET not in str(raised.value)
        assert ads.forget(SECRET) is True
        assert ads.claim(SECRET, id="x") is not None


def test_a_visitor_full_of_corrupt_timelines_gets_the_policys_answer(server: Server) -> None:
    """Some thousand empty fields: degraded, no stray exception."""
    with server.client() as client:
        client.hset(KEY, mapping={f"i{n}": "" for n in range(2_500)})
        ads = Retargeter(POLICY, client, clock=lambda: NOW)
        assert ads.decide(SECRET).degraded is not None
        assert ads.claim(SECRET) is None
