"""redis_store.py: one round trip a call, no hidden repeat, clean connections, errors that tell what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from time import monotonic
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from retarget import (
    ConfigError,
    NotExecuted,
    OutcomeUnknown,
    Policy,
    Retargeter,
    StoreError,
)
from retarget.stores.redis import RedisStore, target_of_url
from retarget.stores.redis.protocol import Answered, Call, Command, writing
from retarget.timelines import DENIED, Alternative, Enter, Guard, Store, Write, timeline
from tests.support import servers
from tests.support.servers import Server

NOW = 1_794_312_000
HEAD = timeline.head(86_400, shield=False)
SECRET = "visitor-4711"  # noqa: S105 - no password: what must not show
KEY = b"rt:1:" + SECRET.encode()
POLICY = Policy.from_text('[campaign.a]\ncaps = ["3 per day"]\n[campaign.b]\ncaps = ["1 per day"]')


def write(key: bytes = KEY, field: bytes = b"ia", limit: int = 0) -> Write:
    """One impression; with a limit, at most so many within a day."""
    guards = (Guard(field, limit, NOW - 86_400, wanted=False, more=False, anchored=False),) if limit else ()
    return Write(key, NOW, b"", (Alternative(guards, (Enter(field, NOW, 1, 16, HEAD),), 86_400),))


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    """A store on each real server."""
    with closing(servers.open_store(server.url)) as store:
        yield store


# -- round trips -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "command"),
    [
        (lambda ads: ads.decide(SECRET, ["a", "b"]), "hgetall"),
        (lambda ads: ads.decide(SECRET), "hgetall"),
        (lambda ads: ads.decide(SECRET, ["a"])["a"], "hgetall"),
        (lambda ads: ads.claim(SECRET, ["a", "b"], id="x"), "evalsha"),
        (lambda ads: ads.record(SECRET, "impression", "b", id="y"), "evalsha"),
        (lambda ads: ads.export(SECRET), "hgetall"),
        (lambda ads: ads.forget(SECRET), "unlink"),
    ],
)
def test_each_call_is_one_command(
    server: Server, store: Store, call: Callable[[Retargeter], object], command: str
) -> None:
    """The server counts exactly one command that a client sent; what a script runs inside is no round trip."""
    ads = Retargeter(POLICY, store, clock=lambda: NOW)
    ads.claim(SECRET, ["a"])
    before = server.commands()
    call(ads)
    after = server.commands()
    inside = {"hget", "hmget", "hlen", "hset", "hdel", "ttl", "expire", "hgetall"} if command == "evalsha" else set()
    ran = {name: calls - before.get(name, 0) for name, calls in after.items() if calls > before.get(name, 0)}
    assert {name: calls for name, calls in ran.items() if name not in inside} == {command: 1}


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


def test_a_batch_is_one_round_trip() -> None:
    """A thousand visitors go out in at most two sends: a fake server that answers only whole batches sees them come."""
    with servers.fake(lambda command: b"*0\r\n") as told, closing(servers.open_store(told.url)) as store:
        assert list(store.read_many([b"k%d" % n for n in range(300)])) == [{}] * 300
        assert [command[0] for command in told.commands] == [b"HGETALL"] * 300


# -- the script is not known -------------------------------------------------------------------------------------------


def test_a_script_flush_is_healed_and_the_event_counted_once(server: Server, store: Store) -> None:
    """NOSCRIPT: the script is sent whole, once; from then on the server knows it again."""
    with server.client() as client:
        assert store.write(write()) == 1
        client.script_flush()
        before = server.commands()
        assert store.write(write()) == 1
        assert store.write(write()) == 1
        after = server.commands()
        assert timeline.moments(client.hget(KEY, "ia")) == (NOW,) * 3
    assert after["eval"] - before.get("eval", 0) == 1
    assert after["evalsha"] - before["evalsha"] == 2


def test_a_script_flush_before_a_batch_counts_each_once(server: Server, store: Store) -> None:
    """The first is sent whole, the rest by name; denials among them are as they would have been."""
    store.write(write())
    with server.client() as client:
        client.script_flush()
        writes = [write(b"rt:1:v%d" % (n % 3), limit=2) for n in range(9)]
        assert store.write_many(writes) == [1] * 6 + [DENIED] * 3
        counts = [len(timeline.moments(client.hget(f"rt:1:v{n}", "ia"))) for n in range(3)]
    assert counts == [2, 2, 2]


def test_a_script_flush_in_the_middle_of_a_batch_counts_each_once(server: Server) -> None:
    """A flush between two commands of one batch: those before it stand, those behind it are sent again, none twice."""
    with closing(RedisStore.from_url(server.admin_url, servers.PATIENCE)) as store:  # it may flush
        store.write(write())
        calls = [Call(writing(write(b"rt:1:w%d" % n))) for n in range(9)]
        calls.insert(4, Call(Command(b"", ("SCRIPT", "FLUSH"), bytes)))
        store._run(calls, 1)
    assert [call.result.value for call in calls if isinstance(call.result, Answered)] == [1] * 4 + [b"OK"] + [1] * 5
    with server.client() as client:
        counts = [len(timeline.moments(client.hget(f"rt:1:w{n}", "ia"))) for n in range(9)]
    assert counts == [1] * 9


# -- clients -----------------------------------------------------------------------------------------------------------


def test_a_client_that_decodes_is_refused_with_the_cure(server: Server) -> None:
    """Packed timelines are no text."""
    with server.client(decode_responses=True) as client, pytest.raises(ConfigError, match="decode_responses=False"):
        Retargeter(POLICY, client)


def test_a_url_that_decodes_is_refused_too(server: Server) -> None:
    """An option of the URL has the same fault."""
    with pytest.raises(ConfigError, match="decode_responses=False"):
        Retargeter(POLICY, server.url + "?decode_responses=true")


def test_a_plain_client_serves_well(server: Server) -> None:
    """`redis.Redis()` retries ten times and waits five seconds: with its settings, but without these, calls go well."""
    with redis.Redis(port=server.port) as client, Retargeter(POLICY, client, clock=lambda: NOW, timeout=2) as ads:
        assert ads.claim(SECRET, ["b"])
        assert ads.claim(SECRET, ["b"]) is None
    with redis.Redis(port=servers.free_port()) as client, Retargeter(POLICY, client) as ads:
        assert isinstance(ads.decide(SECRET).degraded, NotExecuted)


def test_an_unread_reply_on_a_given_pool_answers_nobody(server: Server) -> None:
    """Somebody asked on a connection of the pool and gave it back unread: in RESP3 redis-py does not look."""
    with server.client(protocol=3) as client:
        client.hset("mine", "ia", "m")
        connection = client.connection_pool.get_connection()
        connection.send_command("HGETALL", b"mine")
        client.connection_pool.release(connection)
        assert RedisStore(client, 1).read(b"hers") == {}


def test_even_a_client_that_retries_executes_once() -> None:
    """Commands go past the client's retries: a server that hangs up gets each command once."""
    retry = Retry(ExponentialBackoff(base=0.001, cap=0.001), 5)
    with servers.fake(lambda command: None) as told:
        with redis.Redis(port=told.port, retry=retry, socket_timeout=1, protocol=2) as client:
            store = RedisStore(client, 1)
            with pytest.raises(OutcomeUnknown):
                store.write(write())
        assert [command[0] for command in told.commands] == [b"EVALSHA"]


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


def test_a_unix_socket_serves(server: Server) -> None:
    """`unix://` is an address like any other."""
    with closing(servers.open_store(server.unix_url)) as store:
        assert store.write(write()) == 1
        assert set(store.read(KEY)) == {b"ia"}


def test_what_is_opened_by_a_url_serves_well(server: Server) -> None:
    """No retries, every wait bounded by the time-out, RESP2, and as many connections as the URL says."""
    target = target_of_url(server.url + "?max_connections=3&socket_timeout=9&protocol=3", 0.1, is_async=False)
    options = target.options
    assert options["retry"].get_retries() == 0
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (0.1, 0.1)
    assert (options["protocol"], options["driver_info"], target.max_connections) == (2, None, 3)


def test_the_retargeter_of_a_url_warns_of_nothing(server: Server) -> None:
    """The set-up that the warnings advise draws none."""
    with Retargeter(POLICY, server.url) as ads:
        assert ads.decide("nobody").eligible == ("a", "b")


def test_a_given_client_stays_open(server: Server) -> None:
    """`close` lets go of what the library opened, not of what it was given."""
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
    """It would answer with coroutines: a ConfigError when set up, no riddle at the first call."""

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


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_known_at_once() -> None:
    """Nobody listens: NotExecuted for all verbs, because it was refused, not because a wait came to its end."""
    with closing(RedisStore.from_url(f"redis://127.0.0.1:{servers.free_port()}", 0.2)) as store:
        for call in (lambda: store.read(KEY), lambda: store.write(write()), lambda: store.delete(KEY)):
            with pytest.raises(NotExecuted, match=r"(?i)refused"):
                call()
        assert [type(answer) for answer in store.write_many([write(), write()])] == [NotExecuted] * 2
        assert [type(answer) for answer in store.read_many([KEY])] == [NotExecuted]


@pytest.mark.parametrize(
    ("reply", "executed"),
    [
        (b"-READONLY You can't write against a read only replica.\r\n", False),
        (b"-LOADING Redis is loading the dataset in memory\r\n", False),
        (b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n", False),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", False),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", False),
        (b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n", False),
        (b"-NOPERM this user has no permissions to run the 'evalsha' command\r\n", False),
        (b"-NOAUTH Authentication required.\r\n", False),
        (b"-CLUSTERDOWN The cluster is down\r\n", False),
        (None, None),
        (b"$100\r\nhalf a rep", None),
    ],
)
def test_what_a_server_says_tells_whether_it_happened(reply: bytes | None, executed: bool | None) -> None:  # noqa: FBT001
    """A refusal is NotExecuted; a lost answer is OutcomeUnknown, and for a read, which changes nothing, NotExecuted."""
    half = reply is not None and not reply.endswith(b"\r\n")
    answer: Callable[[list[bytes]], bytes | None] = lambda command: reply  # noqa: E731
    with servers.fake(answer) as told, closing(RedisStore.from_url(told.url, 0.3 if half else 1)) as store:
        with pytest.raises(OutcomeUnknown if executed is None else NotExecuted):
            store.write(write())
        with pytest.raises(NotExecuted):
            store.read(KEY)
        sent = [command[0] for command in told.commands]
        assert sent.count(b"EVALSHA") == (2 if reply is not None and b"READONLY" in reply else 1)
        assert sent.count(b"HGETALL") >= 1


def test_a_server_that_stalls_is_given_up_within_the_timeout() -> None:
    """No reply: the time-out ends the wait, and the outcome of a write is unknown."""
    with (
        servers.fake(lambda command: b"") as told,
        closing(RedisStore.from_url(told.url, 0.2)) as store,
        pytest.raises(OutcomeUnknown, match=r"(?i)time"),
    ):
        store.write(write())


def test_the_pool_of_a_given_client_is_left_to_its_owner(server: Server) -> None:
    """All connections of the pool are in use: ours are opened with its settings, and it has none of them."""
    options: dict[str, Any] = {"port": server.port, "max_connections": 1, "timeout": 0.05}
    made: Any = redis.BlockingConnectionPool
    with closing(made(**options)) as pool, redis.Redis(connection_pool=pool) as client:
        taken = pool.get_connection()
        store = RedisStore(client, 2)
        assert store.write(write()) == 1
        pool.release(taken)
        assert client.ping()
        assert set(store.read(KEY)) == {b"ia"}


def test_when_all_connections_are_in_use_nothing_is_sent(server: Server) -> None:
    """As many as the URL, or the pool of a given client, allows: NotExecuted; with one free again all is well."""
    given = redis.Redis(connection_pool=redis.ConnectionPool(port=server.port, max_connections=1))
    for store in (RedisStore.from_url(server.url + "?max_connections=1", 0.2), RedisStore(given, 0.2)):
        pool = store._nodes[None].pool
        connection = pool.acquire(monotonic() + 2)
        for _ in range(4):
            with pytest.raises(NotExecuted, match="in use"):
                store.write(write())
        assert store.health()[0].failures == 0
        pool.release(connection)
        assert dict(store.read(KEY)) == {}
        store.close()
    given.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_killed_connection_of_a_given_client_heals_by_itself(server: Server, protocol: int) -> None:
    """The server dropped every idle client (a restart, say): the next call is answered, not spent on finding out."""
    with server.client(protocol=protocol) as client, server.client() as other:
        store = RedisStore(client)
        assert store.write(write()) == 1
        other.client_kill_filter(_type="normal", skipme=True)
        assert set(store.read(KEY)) == {b"ia"}


def test_a_killed_connection_of_our_own_heals_by_itself(server: Server, store: Store) -> None:
    """The same where the library keeps the connection itself, for reads and for writes."""
    with server.client() as other:
        assert store.write(write()) == 1
        other.client_kill_filter(_type="normal", skipme=True)
        assert set(store.read(KEY)) == {b"ia"}
        other.client_kill_filter(_type="normal", skipme=True)
        assert store.write(write()) == 1


def test_a_user_who_may_not_is_told_so_without_the_visitor(server: Server) -> None:
    """Access control of a real server: which permission is missing is told, whose data it was about is not."""
    with server.client() as client:
        client.acl_setuser("limited", enabled=True, nopass=True, keys=["other:*"], commands=["+hgetall"])
    with server.client(username="limited", password="any") as limited:  # noqa: S106 - any will do
        store = RedisStore(limited)
        for call in (lambda: store.read(KEY), lambda: store.write(write())):
            with pytest.raises(NotExecuted, match="NoPermission") as raised:
                call()
            assert SECRET not in str(raised.value) + repr(raised.value) + repr(raised.value.__cause__)


QUOTING = [
    b"-ERR unknown command 'HGETALL', with args beginning with: 'rt:1:visitor-4711' \r\n",
    b"-ERR unknown command `HGETALL`, with args beginning with: `rt:1:visitor-4711`, \r\n",
    b'-ERR unknown command "HGETALL", with args beginning with: "rt:1:visitor-4711"\r\n',
]


@pytest.mark.parametrize("reply", QUOTING)
def test_errors_carry_no_visitor(reply: bytes) -> None:
    """However a server quotes the command, neither str nor repr of our error tells whose it was."""
    with servers.fake(lambda command: reply) as told, closing(RedisStore.from_url(told.url, 1)) as store:
        for call in (lambda: store.read(KEY), lambda: store.write(write()), lambda: store.delete(KEY)):
            with pytest.raises(StoreError) as raised:
                call()
            assert SECRET not in str(raised.value) + repr(raised.value)
            assert "NotExecuted" in repr(raised.value)


def test_errors_on_real_servers_carry_no_visitor(server: Server, store: Store) -> None:
    """A key of another type: the message names the trouble and no key."""
    with server.client() as client:
        client.set(KEY, "x")
    for call in (lambda: store.read(KEY), lambda: store.write(write())):
        with pytest.raises(NotExecuted, match="WRONGTYPE") as raised:
            call()
        assert SECRET not in str(raised.value) + repr(raised.value) + repr(raised.value.__cause__)


@pytest.mark.parametrize(
    ("field", "raw"), [("ia", ""), ("ia", "seven.."), ("ia", "xx"), ("", "x"), ("^", ""), ("#0", "x")]
)
def test_a_corrupt_visitor_gets_the_policys_answer(server: Server, field: str, raw: str) -> None:
    """Whatever somebody wrote there: decide and claim answer or degrade, export says what is wrong, forget heals."""
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
    """Six hundred empty fields: degraded, no stray exception."""
    with server.client() as client:
        client.hset(KEY, mapping={f"i{n}": "" for n in range(600)})
        ads = Retargeter(POLICY, client, clock=lambda: NOW)
        assert ads.decide(SECRET).degraded is not None
        assert ads.claim(SECRET) is None


def test_a_reply_that_makes_no_sense_is_a_store_error() -> None:
    """What answers is no Redis of ours (a proxy, say): a StoreError for the policy to answer, no stray exception."""
    three = b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"
    with servers.fake(lambda command: three) as told, closing(RedisStore.from_url(told.url, 1)) as store:
        with pytest.raises(StoreError):
            store.read(KEY)
        with pytest.raises(StoreError):
            store.write(write())


def test_in_a_batch_that_breaks_off_what_was_answered_stands() -> None:
    """A result per item: the answers that came are kept, only the others are unknown."""
    answers = iter([b":1\r\n", b":0\r\n", None])
    with servers.fake(lambda command: next(answers)) as told, closing(RedisStore.from_url(told.url, 1)) as store:
        done = store.write_many([write(), write(), write(), write()])
    assert done[:2] == [1, 0]
    assert [type(answer) for answer in done[2:]] == [OutcomeUnknown] * 2
