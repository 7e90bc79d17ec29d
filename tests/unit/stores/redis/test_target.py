"""target.py: the target of a URL or of a given client; what cannot be used is refused, with what could be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from retarget import AsyncRetargeter, ConfigError, Policy, Retargeter, RetargetWarning
from retarget.stores.redis.target import CONNECTIONS, Target, target_of_client, target_of_url
from tests.support.servers import Server

POLICY = Policy.from_text('[campaign.a]\ncaps = ["3 per day"]')
BOTH = pytest.mark.parametrize("is_async", [False, True])


def options(target: Target) -> dict[str, Any]:
    """The address of a target, and the user."""
    names = ("host", "port", "path", "db", "username", "password")
    return {name: target.options[name] for name in names if target.options.get(name) is not None}


SERVERS: list[tuple[str, str, dict[str, Any]]] = [
    ("redis://", "localhost:6379", {"host": "localhost", "port": 6379}),
    ("redis://ads-db", "ads-db:6379", {"host": "ads-db", "port": 6379}),
    ("redis://ads-db:7000/3", "ads-db:7000", {"host": "ads-db", "port": 7000, "db": 3}),
    ("redis://ads-db?db=4", "ads-db:6379", {"host": "ads-db", "port": 6379, "db": 4}),
    ("rediss://ads-db", "ads-db:6379", {"host": "ads-db", "port": 6379}),
    ("redis://[::1]:7000/0", "::1:7000", {"host": "::1", "port": 7000, "db": 0}),
    ("redis://:geheim@ads-db", "ads-db:6379", {"host": "ads-db", "port": 6379, "password": "geheim"}),
    (
        "redis://ads:p%40ss%2F@ads-db",
        "ads-db:6379",
        {"host": "ads-db", "port": 6379, "username": "ads", "password": "p@ss/"},
    ),
    ("unix:///run/valkey.sock", "/run/valkey.sock", {"path": "/run/valkey.sock"}),
    (
        "unix://ads:geheim@/run/valkey.sock?db=2",
        "/run/valkey.sock",
        {"path": "/run/valkey.sock", "db": 2, "username": "ads", "password": "geheim"},
    ),
]


@BOTH
@pytest.mark.parametrize(("url", "name", "where"), SERVERS)
def test_a_server(url: str, name: str, where: dict[str, Any], *, is_async: bool) -> None:
    """Host, port, database, name and password, or a socket's path; one server, no slot map."""
    target = target_of_url(url, 0.1, is_async=is_async)
    assert options(target) == where
    assert (target.name, target.startup_nodes, target.max_connections) == (name, None, CONNECTIONS)
    secure = "SSL" in target.connection_class.__name__
    assert secure is url.startswith("rediss")
    assert target.connection_class.__module__.startswith("redis.asyncio") is is_async


CLUSTERS: list[tuple[str, list[tuple[str, int]], dict[str, Any]]] = [
    ("redis+cluster://", [("localhost", 6379)], {}),
    ("redis+cluster://one", [("one", 6379)], {}),
    ("redis+cluster://one:7000/0", [("one", 7000)], {}),
    ("redis+cluster://one:7000,two,[::1]:7002", [("one", 7000), ("two", 6379), ("::1", 7002)], {}),
    ("redis+cluster://[fe80::1],two,", [("fe80::1", 6379), ("two", 6379)], {}),
    (
        "rediss+cluster://ads:p%2Css@one:7000,two",
        [("one", 7000), ("two", 6379)],
        {"username": "ads", "password": "p,ss"},
    ),
    ("redis+cluster://:geheim@one", [("one", 6379)], {"password": "geheim"}),
]


@BOTH
@pytest.mark.parametrize(("url", "start", "where"), CLUSTERS)
def test_a_cluster(url: str, start: list[tuple[str, int]], where: dict[str, Any], *, is_async: bool) -> None:
    """Any number of startup nodes; user and password are the same for all of them."""
    target = target_of_url(url, 0.1, is_async=is_async)
    assert target.startup_nodes == start
    assert options(target) == where
    for address in start:
        connection = target.connection(address)
        assert (connection.host, connection.port) == address
        assert ("SSL" in type(connection).__name__) is url.startswith("rediss")


SENTINELS: list[tuple[str, str, list[tuple[str, int]], dict[str, Any]]] = [
    ("redis+sentinel://one/ads", "ads", [("one", 26379)], {}),
    ("redis+sentinel://one:5000,two,[::1]/ads/2", "ads", [("one", 5000), ("two", 26379), ("::1", 26379)], {"db": 2}),
    (
        "redis+sentinel://u:p%40@one/ads?sentinel_username=s&sentinel_password=w",
        "ads",
        [("one", 26379)],
        {"username": "u", "password": "p@"},
    ),
    ("rediss+sentinel://one/ads", "ads", [("one", 26379)], {}),
]


@BOTH
@pytest.mark.parametrize(("url", "service", "hosts", "where"), SENTINELS)
def test_sentinels(
    url: str, service: str, hosts: list[tuple[str, int]], where: dict[str, Any], *, is_async: bool
) -> None:
    """The Sentinels and the service; database and password are the primary's, the Sentinels have their own."""
    target = target_of_url(url, 0.1, is_async=is_async)
    assert target.name == f"{service} (Sentinel)"
    assert target.startup_nodes is None
    assert {name: option for name, option in options(target).items() if name in where} == where
    sentinels = target.sentinel_pool.sentinel_manager.sentinels
    asked = [s.connection_pool.connection_kwargs for s in sentinels]
    assert [(kwargs["host"], kwargs["port"]) for kwargs in asked] == hosts
    theirs = ("s", "w") if "sentinel_password" in url else (None, None)
    assert {(kwargs.get("username"), kwargs.get("password")) for kwargs in asked} == {theirs}
    assert ("SSL" in target.connection_class.__name__) is url.startswith("rediss")
    assert sum(kwargs["socket_timeout"] for kwargs in asked) < 0.1  # all silent: some time is left for the primary


@BOTH
@pytest.mark.parametrize("form", ["redis://h", "redis+cluster://h", "redis+sentinel://h/s", "unix:///s"])
def test_the_options_of_what_the_library_opens(form: str, *, is_async: bool) -> None:
    """No retries, the call's timeout, binary RESP2, no command on connecting; the URL's other options are kept."""
    query = "max_connections=7&client_name=ads&retry_on_timeout=no&socket_timeout=9&protocol=3"
    target = target_of_url(f"{form}?{query}", 0.2, is_async=is_async)
    assert target.max_connections == 7
    wanted = {
        "protocol": 2,
        "socket_timeout": 0.2,
        "socket_connect_timeout": 0.2,
        "driver_info": None,
        "health_check_interval": 0,
        "client_name": "ads",
        "retry_on_timeout": False,
    }
    assert {name: target.options[name] for name in wanted} == wanted
    assert target.options["retry"].get_retries() == 0
    assert "max_connections" not in target.options
    assert target.connection(("h", 1) if target.startup_nodes else None) is not None


WRONG = [
    ("", "redis://localhost:6379/0"),
    ("localhost:6379", "redis://localhost:6379/0"),
    ("http://localhost", "redis://localhost:6379/0"),
    ("memory://here", "memory://"),
    ("redis+raft://h", r"\+raft is not supported"),
    ("redis://h:port", "(?i)port"),
    ("redis://h:99999", "(?i)port"),
    ("redis://[::1", "(?i)ipv6"),
    ("redis://h/first", "the database must be a number, got 'first'"),
    ("redis://h/²", "the database must be a number"),
    ("redis://h?max_connections=0", "max_connections must be at least 1, got 0"),
    ("redis://h?max_connections=many", "max_connections"),
    ("redis://h?socket_timeout=soon", "socket_timeout"),
    ("redis://h?colour=red", "colour"),
    ("unix://", "redis://localhost:6379/0"),
    ("unix+cluster:///s", "redis://localhost:6379/0"),
    ("unix+sentinel:///s", "redis://localhost:6379/0"),
    ("redis+cluster://h:port", "(?i)port"),
    ("redis+cluster://one,two:99999", "(?i)port"),
    ("redis+cluster://h/3", "a cluster has only database 0, got 3"),
    ("redis+sentinel://h", "service name is missing"),
    ("redis+sentinel:///", "service name is missing"),
    ("redis+sentinel://h/ads/first", "the database must be a number, got 'first'"),
    ("redis://h?decode_responses=true", "decode_responses=False"),
    ("unix:///s?decode_responses=1", "decode_responses=False"),
    ("redis+cluster://h?decode_responses=yes", "decode_responses=False"),
    ("redis+sentinel://h/ads?decode_responses=True", "decode_responses=False"),
]


@pytest.mark.parametrize(("url", "said"), WRONG)
def test_a_url_that_cannot_be_used_is_refused_with_one_that_can(url: str, said: str) -> None:
    """By both clients, before anything is sent; the message does not contain its password."""
    secret = url.replace("://", "://ads:geheim@", 1) if url.startswith("redis") and "[" not in url else url
    for client in (Retargeter, AsyncRetargeter):
        for given in (url, secret):
            with pytest.raises(ConfigError, match=said) as raised:
                client(POLICY, given)
            assert "geheim" not in f"{raised.value} {raised.value.__cause__}"


def test_nothing_is_sent_when_it_is_set_up() -> None:
    """Nor is a name looked up: a process starts even if the store is down."""
    for url in ("redis://nowhere.invalid", "redis+cluster://nowhere.invalid", "redis+sentinel://nowhere.invalid/ads"):
        assert all(health.up for health in Retargeter(POLICY, url).health())
        assert all(health.up for health in AsyncRetargeter(POLICY, url).health())


# -- given clients -----------------------------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {"socket_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}


def test_of_a_client_the_settings_of_its_connections_are_used(server: Server) -> None:
    """Address and user; not its retries, timeouts, protocol or notices."""
    retry = Retry(ExponentialBackoff(), 3)
    client = redis.Redis.from_url("redis://u:p@h:7/3", retry=retry, socket_timeout=9, protocol=3)
    target = target_of_client(client, 0.2)
    made = target.connection()
    assert (made.host, made.port, made.db, made.username, made.password) == ("h", 7, 3, "u", "p")
    assert (made.socket_timeout, made.socket_connect_timeout, made.protocol) == (0.2, 0.2, 2)
    assert made.retry.get_retries() == 0
    assert (target.name, target.max_connections, target.startup_nodes) == ("h:7", CONNECTIONS, None)
    few = redis.Redis(connection_pool=redis.ConnectionPool(max_connections=3, **PLAIN))
    assert target_of_client(few, 0.2).max_connections == 3
    sentinel: Any = redis.sentinel.Sentinel
    ads = sentinel([("h", 1)]).master_for("ads")
    assert target_of_client(ads, 0.2).name == "ads"


def test_a_pool_of_another_class_draws_a_warning_at_the_callers_line() -> None:
    """What it does beyond redis-py's does not happen here; the warning names the line that made the retargeter."""

    class Pool(redis.ConnectionPool):
        """A pool that counts, say."""

    client = redis.Redis(connection_pool=Pool(port=1))
    with pytest.warns(RetargetWarning, match="a Pool, is not used") as caught:
        Retargeter(POLICY, client)  # the line
    assert caught[0].filename == __file__
    with open(__file__, encoding="utf-8") as lines:  # noqa: PTH123 - one line of it
        assert "# the line" in lines.readlines()[caught[0].lineno - 1]


DECODING: list[tuple[Any, Any]] = [
    (Retargeter, redis.Redis(decode_responses=True, **PLAIN)),
    (AsyncRetargeter, redis.asyncio.Redis(decode_responses=True, **PLAIN)),
    (AsyncRetargeter, redis.asyncio.RedisCluster(host="h", decode_responses=True)),
]


@pytest.mark.parametrize(("made", "client"), DECODING)
def test_a_client_that_decodes_is_refused(made: Any, client: Any) -> None:
    """Packed timelines are not text: each kind of client, with the cure."""
    with pytest.raises(ConfigError, match="decode_responses=False"):
        made(POLICY, client)


def test_a_client_of_the_other_kind_is_refused(server: Server) -> None:
    """A sync client for the sync one, an asyncio client for the other; the error says which would be right."""
    with pytest.raises(ConfigError, match="AsyncRetargeter"):
        Retargeter(POLICY, redis.asyncio.Redis(port=server.port, **PLAIN))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"redis\.asyncio\.Redis"):
        AsyncRetargeter(POLICY, redis.Redis(port=server.port, **PLAIN))  # type: ignore[arg-type]


def test_the_server_of_a_given_client_is_named_by_its_address(server: Server) -> None:
    """Health and errors name host and port, or the socket."""
    with server.client() as client, redis.Redis(unix_socket_path=server.socket, **PLAIN) as other:
        assert [health.server for health in Retargeter(POLICY, client).health()] == [f"127.0.0.1:{server.port}"]
        assert [health.server for health in Retargeter(POLICY, other).health()] == [server.socket]

    async def awaited() -> None:
        async with redis.asyncio.Redis(host="127.0.0.1", port=server.port, **PLAIN) as client:
            ads = AsyncRetargeter(POLICY, client, timeout=5)
            assert (await ads.decide("v")).degraded is None
            assert [health.server for health in ads.health()] == [f"127.0.0.1:{server.port}"]
            await ads.close()

    asyncio.run(awaited())
