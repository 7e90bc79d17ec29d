"""store.py: one command a call, sent again only where that is safe and within its time; one server or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from time import monotonic
from typing import Any

import pytest
import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from retarget.errors import NotExecuted, OutcomeUnknown, StoreError
from retarget.stores.redis import RedisStore
from retarget.stores.redis import store as store_module
from retarget.stores.redis.protocol import Answered, Call, Command, writing
from retarget.timelines import DENIED, Alternative, Enter, Guard, Store, Write, timeline
from tests.support import fake_cluster, servers
from tests.support.fake_cluster import Member
from tests.support.servers import PATIENCE, Server

NOW = 1_794_312_000
HEAD = timeline.head(86_400, shield=False)
SECRET = "visitor-4711"  # noqa: S105 - not a password: what must not show
KEY = b"rt:2~" + SECRET.encode()


def write(key: bytes = KEY, field: bytes = b"ia", limit: int = 0, event_id: bytes = b"") -> Write:
    """One impression; with a limit, at most `limit` within a day."""
    guards = (Guard(field, limit, NOW - 86_400, wanted=False),) if limit else ()
    return Write(key, NOW, event_id, (Alternative(guards, (Enter(field, NOW, 1, 16, HEAD),), 86_400),))


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    """A store on each real server."""
    with closing(servers.open_store(server.url)) as store:
        yield store


class Clock:
    """`time.monotonic` as the store sees it, which tests may advance."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        monkeypatch.setattr(store_module, "monotonic", lambda: monotonic() + self.ahead)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The store's clock."""
    return Clock(monkeypatch)


# -- calls and batches -------------------------------------------------------------------------------------------------


def test_the_verbs_on_a_real_server(server: Server, store: Store) -> None:
    """Write, read, delete; a visitor who is not known has no timelines."""
    assert store.read(KEY) == {}
    assert store.write(write()) == 1
    assert set(store.read(KEY)) == {b"ia"}
    assert store.write(write(limit=1)) == DENIED
    assert (store.delete(KEY), store.delete(KEY)) == (True, False)
    (health,) = store.health()
    assert (health.server, health.up, health.failures) == (f"127.0.0.1:{server.port}", True, 0)


def test_a_batch_is_sent_together() -> None:
    """Hundreds of visitors in one batch, each with one command."""
    with servers.fake(lambda command: b"*0\r\n") as fake, closing(servers.open_store(fake.url)) as store:
        assert list(store.read_many([b"k%d" % n for n in range(300)])) == [{}] * 300
        assert [command[0] for command in fake.commands] == [b"HGETALL"] * 300


def test_a_long_batch_is_sent_in_parts(store: Store) -> None:
    """More than are sent before replies are read; the order is kept."""
    writes = [write(b"rt:2~v%d" % (n % 1_100), limit=1) for n in range(1_200)]
    assert store.write_many(writes) == [1] * 1_100 + [DENIED] * 100
    assert list(store.read_many([])) == []


def test_a_batch_that_breaks_off_keeps_what_was_answered() -> None:
    """A result for each: earlier replies stand, the others are unknown."""
    answers = iter([b":1\r\n", b":0\r\n", None])
    with servers.fake(lambda command: next(answers)) as fake, closing(RedisStore.from_url(fake.url, 1)) as store:
        done = store.write_many([write(), write(), write(), write()])
    assert done[:2] == [1, 0]
    assert [type(answer) for answer in done[2:]] == [OutcomeUnknown] * 2


# -- the script is not there -------------------------------------------------------------------------------------------


def test_after_a_script_flush_the_event_counts_once(server: Server, store: Store) -> None:
    """NOSCRIPT: the script is sent whole, once; from then on the server has it again."""
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
        writes = [write(b"rt:2~v%d" % (n % 3), limit=2) for n in range(9)]
        assert store.write_many(writes) == [1] * 6 + [DENIED] * 3
        counts = [len(timeline.moments(client.hget(f"rt:2~v{n}", "ia"))) for n in range(3)]
    assert counts == [2, 2, 2]


def test_a_script_flush_in_the_middle_of_a_batch_counts_each_once(server: Server) -> None:
    """Between two commands of one batch: those before it stand, those behind it are sent again, none twice."""
    with closing(RedisStore.from_url(server.admin_url, servers.PATIENCE)) as store:  # it may flush
        store.write(write())
        calls = [Call(writing(write(b"rt:2~w%d" % n))) for n in range(9)]
        calls.insert(4, Call(Command(b"", ("SCRIPT", "FLUSH"), bytes)))
        store._run(calls, 1)
    assert [call.result.value for call in calls if isinstance(call.result, Answered)] == [1] * 4 + [b"OK"] + [1] * 5
    with server.client() as client:
        counts = [len(timeline.moments(client.hget(f"rt:2~w{n}", "ia"))) for n in range(9)]
    assert counts == [1] * 9


# -- clients -----------------------------------------------------------------------------------------------------------


def test_an_unread_reply_in_a_given_pool_answers_no_call(server: Server) -> None:
    """A connection was returned to the pool with a reply unread: with RESP3 redis-py does not look."""
    with server.client(protocol=3) as client:
        client.hset("mine", "ia", "m")
        connection = client.connection_pool.get_connection()
        connection.send_command("HGETALL", b"mine")
        client.connection_pool.release(connection)
        assert RedisStore(client, 1).read(b"theirs") == {}


def test_even_with_a_client_that_retries_a_command_is_sent_once() -> None:
    """The client's retries do not apply: a server that hangs up gets each command once."""
    retry = Retry(ExponentialBackoff(base=0.001, cap=0.001), 5)
    with servers.fake(lambda command: None) as fake:
        with redis.Redis(port=fake.port, retry=retry, socket_timeout=1, protocol=2) as client:
            store = RedisStore(client, 1)
            with pytest.raises(OutcomeUnknown):
                store.write(write())
        assert [command[0] for command in fake.commands] == [b"EVALSHA"]


def test_a_unix_socket(server: Server) -> None:
    """`unix://` is an address like any other."""
    with closing(servers.open_store(server.unix_url)) as store:
        assert store.write(write()) == 1
        assert set(store.read(KEY)) == {b"ia"}


def test_the_pool_of_a_given_client_is_left_to_its_owner(server: Server) -> None:
    """All connections of the pool are in use: ours are opened with its settings, and it has none of them."""
    options: dict[str, Any] = {"port": server.port, "max_connections": 1, "timeout": 0.05}
    pools: Any = redis.BlockingConnectionPool
    with closing(pools(**options)) as pool, redis.Redis(connection_pool=pool) as client:
        taken = pool.get_connection()
        store = RedisStore(client, 2)
        assert store.write(write()) == 1
        pool.release(taken)
        assert client.ping()
        assert set(store.read(KEY)) == {b"ia"}


def test_closing_closes_the_connections_to_sentinels() -> None:
    """Those that the library opened itself; nothing has to be connected for that."""
    RedisStore.from_url("redis+sentinel://nowhere.invalid/ads", 1).close()


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_known_at_once() -> None:
    """No server listens: NotExecuted for all verbs, because it was refused, not after a wait."""
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
def test_the_reply_tells_whether_the_write_happened(reply: bytes | None, *, executed: bool | None) -> None:
    """A refusal is NotExecuted; a lost reply is OutcomeUnknown, and for a read, which changes nothing, NotExecuted."""
    half = reply is not None and not reply.endswith(b"\r\n")
    answer: Callable[[list[bytes]], bytes | None] = lambda command: reply  # noqa: E731
    with servers.fake(answer) as fake, closing(RedisStore.from_url(fake.url, 0.3 if half else 1)) as store:
        with pytest.raises(OutcomeUnknown if executed is None else NotExecuted):
            store.write(write())
        with pytest.raises(NotExecuted):
            store.read(KEY)
        sent = [command[0] for command in fake.commands]
        assert sent.count(b"EVALSHA") == (2 if reply is not None and b"READONLY" in reply else 1)
        assert sent.count(b"HGETALL") >= 1


def test_a_server_that_does_not_answer_is_given_up_within_the_timeout() -> None:
    """No reply: the timeout ends the wait, and the outcome of a write is unknown."""
    with (
        servers.fake(lambda command: b"") as fake,
        closing(RedisStore.from_url(fake.url, 0.2)) as store,
        pytest.raises(OutcomeUnknown, match=r"(?i)time"),
    ):
        store.write(write())


def test_a_lost_reply_is_repeated_where_that_is_safe() -> None:
    """The server hangs up once: a read and a write with an id are sent again on another connection."""
    answers = iter([None, b"*0\r\n", None, b":1\r\n"])
    with servers.fake(lambda command: next(answers)) as fake, closing(RedisStore.from_url(fake.url, PATIENCE)) as store:
        assert store.read(KEY) == {}
        assert store.write(write(event_id=b"12345")) == 1
        assert len(fake.commands) == 4


def test_a_former_primary_is_left_for_a_new_connection() -> None:
    """READONLY: the idle connections go too, so that Sentinel can name the new primary; tried once."""
    readonly = b"-READONLY You can't write against a read only replica.\r\n"
    answers = iter([readonly, b":1\r\n", readonly, readonly])
    with servers.fake(lambda command: next(answers)) as fake, closing(RedisStore.from_url(fake.url, PATIENCE)) as store:
        pool = store._nodes[None].pool
        first = pool.acquire(monotonic() + PATIENCE)
        pool.release(first)
        assert store.write(write()) == 1
        assert not first.is_open
        with pytest.raises(NotExecuted, match="ReadOnlyError"):
            store.write(write())
        assert len(fake.commands) == 4


@pytest.mark.parametrize("batch", [False, True])
def test_a_call_out_of_time_is_not_sent_again(clock: Clock, *, batch: bool) -> None:
    """Refused at the very end of its time: what is known so far stands. The time of a batch starts anew."""

    def answer(command: list[bytes]) -> bytes:
        if command[0] == b"EVALSHA":
            clock.ahead += 1_000
            return b"-NOSCRIPT No matching script.\r\n"
        return b":1\r\n"

    with servers.fake(answer) as fake, closing(RedisStore.from_url(fake.url, PATIENCE)) as store:
        if batch:
            assert store.write_many([write()]) == [1]
        else:
            with pytest.raises(NotExecuted, match="NoScriptError"):
                store.write(write())
        assert [command[0] for command in fake.commands] == [b"EVALSHA", b"EVAL"][: 1 + batch]


def test_a_server_that_is_down_only_gets_probes(clock: Clock) -> None:
    """After three failures calls fail at once, without a connection; a probe that succeeds ends that."""
    answers: list[bytes | None] = [None, None, None]
    with (
        servers.fake(lambda command: answers.pop(0) if answers else b":1\r\n") as fake,
        closing(RedisStore.from_url(fake.url, PATIENCE)) as store,
    ):
        for _ in range(3):
            with pytest.raises(OutcomeUnknown):
                store.write(write())
        clock.ahead -= 1_000  # the next probe is not due
        with pytest.raises(NotExecuted, match="known to be down"):
            store.write(write())
        assert [type(answer) for answer in store.write_many([write(), write()])] == [NotExecuted] * 2
        assert not store.health()[0].up
        assert len(fake.commands) == 3
        clock.ahead += 2_000
        assert store.write(write()) == 1
        assert store.health()[0].up


def test_a_credential_provider_that_raises_is_a_store_error(server: Server) -> None:
    """Whatever it raises while connecting: `on_store_error` applies to that too."""

    class Provider(redis.CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            raise LookupError("no secret")

    with redis.Redis(port=server.port, credential_provider=Provider()) as client:
        store = RedisStore(client, 1)
        with pytest.raises(NotExecuted, match="no secret"):
            store.read(KEY)
        assert store.health()[0].failures >= 1


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
def test_a_killed_connection_of_a_given_client_recovers(server: Server, protocol: int) -> None:
    """The server dropped every idle client (a restart, say): the next call is answered all the same."""
    with server.client(protocol=protocol) as client, server.client() as other:
        store = RedisStore(client)
        assert store.write(write()) == 1
        other.client_kill_filter(_type="normal", skipme=True)
        assert set(store.read(KEY)) == {b"ia"}


def test_a_killed_connection_of_our_own_recovers(server: Server, store: Store) -> None:
    """The same where the library was given a URL, for reads and for writes."""
    with server.client() as other:
        assert store.write(write()) == 1
        other.client_kill_filter(_type="normal", skipme=True)
        assert set(store.read(KEY)) == {b"ia"}
        other.client_kill_filter(_type="normal", skipme=True)
        assert store.write(write()) == 1


def test_a_reply_that_makes_no_sense_is_a_store_error() -> None:
    """Whatever answers is not a Redis with our script (a proxy, say): a StoreError, for `on_store_error`."""
    three = b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"
    with servers.fake(lambda command: three) as fake, closing(RedisStore.from_url(fake.url, 1)) as store:
        with pytest.raises(StoreError):
            store.read(KEY)
        with pytest.raises(StoreError):
            store.write(write())


# -- errors without keys -----------------------------------------------------------------------------------------------


def test_a_user_without_permission_is_told_so_without_the_key(server: Server) -> None:
    """Access control of a real server: the missing permission is named, the key is not."""
    with server.user("limited", "~other:*", "+hgetall") as url, closing(servers.open_store(url)) as store:
        for call in (lambda: store.read(KEY), lambda: store.write(write())):
            with pytest.raises(NotExecuted, match="NoPermission") as raised:
                call()
            assert SECRET not in str(raised.value) + repr(raised.value) + repr(raised.value.__cause__)


QUOTING = [
    b"-ERR unknown command 'HGETALL', with args beginning with: 'rt:2~visitor-4711' \r\n",
    b"-ERR unknown command `HGETALL`, with args beginning with: `rt:2~visitor-4711`, \r\n",
    b'-ERR unknown command "HGETALL", with args beginning with: "rt:2~visitor-4711"\r\n',
]


@pytest.mark.parametrize("reply", QUOTING)
def test_errors_contain_no_key(reply: bytes) -> None:
    """However a server quotes the command, neither str nor repr of our error contains the visitor."""
    with servers.fake(lambda command: reply) as fake, closing(RedisStore.from_url(fake.url, 1)) as store:
        for call in (lambda: store.read(KEY), lambda: store.write(write()), lambda: store.delete(KEY)):
            with pytest.raises(StoreError) as raised:
                call()
            assert SECRET not in str(raised.value) + repr(raised.value)
            assert "NotExecuted" in repr(raised.value)


def test_errors_of_real_servers_contain_no_key(server: Server, store: Store) -> None:
    """A key of another type: the message names the problem and no key."""
    with server.client() as client:
        client.set(KEY, "x")
    for call in (lambda: store.read(KEY), lambda: store.write(write())):
        with pytest.raises(NotExecuted, match="WRONGTYPE") as raised:
            call()
        assert SECRET not in str(raised.value) + repr(raised.value) + repr(raised.value.__cause__)


# -- a cluster ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[list[Member]]:
    """Two fake servers of a cluster; both maps name the first as the owner of every slot."""
    with fake_cluster.cluster(2) as members:
        yield members


def open_cluster(*members: Member) -> closing[RedisStore]:
    """A store with these startup nodes."""
    return closing(RedisStore.from_url(fake_cluster.url(*members), PATIENCE))


def test_the_map_names_the_server(pair: list[Member]) -> None:
    """It is fetched before the first command, from a startup node, and used from then on."""
    a, b = pair
    with open_cluster(b) as store:
        assert store.read(KEY) == {}
        assert store.write_many([write(), write(b"other")]) == [1, 1]
        assert (a.take_received(), b.take_received()) == (["HGETALL", "EVALSHA", "EVALSHA"], [])
        assert {health.server for health in store.health()} == {f"127.0.0.1:{member.port}" for member in pair}


def test_a_moved_slot_is_followed_and_remembered(pair: list[Member]) -> None:
    """The very call that meets MOVED is answered, and the next one goes to the new owner at once."""
    a, b = pair
    with open_cluster(a) as store:
        a.replies[b"HGETALL"] = [a.moved(b)]
        store.read(b"warm-up")
        assert (a.take_received(), b.take_received()) == (["HGETALL"], ["HGETALL"])
        a.owner = b.owner = b
        assert store.read(b"warm-up") == {}
        assert (a.take_received(), b.take_received()) == ([], ["HGETALL"])


def test_a_slot_under_migration_is_asked_for_once(pair: list[Member]) -> None:
    """ASK: this command goes to the other server, after ASKING, through TRYAGAIN and NOSCRIPT; the next does not."""
    a, b = pair
    a.replies[b"EVALSHA"] = [a.ask(b)]
    b.replies[b"EVALSHA"] = [b"-TRYAGAIN Multiple keys request\r\n", b"-NOSCRIPT No matching script.\r\n"]
    with open_cluster(a) as store:
        assert store.write(write()) == 1
        assert a.take_received() == ["EVALSHA"]
        assert b.take_received() == ["ASKING", "EVALSHA", "ASKING", "EVALSHA", "ASKING", "EVAL"]
        assert store.write(write()) == 1
        assert (a.take_received(), b.take_received()) == (["EVALSHA"], [])


def test_endless_redirections_end(pair: list[Member]) -> None:
    """Five attempts in all."""
    a, b = pair
    a.replies[b"HGETALL"], b.replies[b"HGETALL"] = [a.moved(b)] * 9, [b.moved(a)] * 9
    with open_cluster(a) as store:
        with pytest.raises(NotExecuted, match="MovedError"):
            store.read(KEY)
        assert len(a.take_received() + b.take_received()) == 5


def test_a_silent_or_broken_startup_node_is_passed_over(pair: list[Member]) -> None:
    """The map comes from the next one. Where none has a map, any server may redirect."""
    a, b = pair
    a.replies[b"CLUSTER"] = [None]
    a.owner = b.owner = b
    with open_cluster(a, b) as store:
        assert store.read(KEY) == {}
        assert (a.take_received(), b.take_received()) == ([], ["HGETALL"])
    for member in pair:
        member.replies[b"CLUSTER"] = [b"-ERR This instance has cluster support disabled\r\n"]
    with open_cluster(a, b) as store:
        assert store.read(KEY) == {}
        assert a.take_received() == ["HGETALL"]


def test_a_lost_reply_makes_the_map_doubtful(pair: list[Member], clock: Clock) -> None:
    """Another server may own the slot by now: the map is fetched again, at most ten times a second."""
    a, b = pair
    with open_cluster(a, b) as store:
        store.read(KEY)
        clock.ahead += 1
        a.replies[b"HGETALL"] = [None]
        a.owner = b.owner = b
        assert store.read(KEY) == {}
        assert (a.take_received(), b.take_received()) == (["HGETALL", "HGETALL"], ["HGETALL"])


def test_a_cluster_client_gives_its_addresses(cluster: Any) -> None:
    """A real cluster: the settings of a `redis.RedisCluster`, connections of our own."""
    node = cluster.nodes[0]
    with redis.RedisCluster(host="127.0.0.1", port=node.port) as client, closing(RedisStore(client, PATIENCE)) as store:
        assert store.write_many([write(b"rt:2~v%d" % n) for n in range(20)]) == [1] * 20
        assert all(store.read_many([b"rt:2~v%d" % n for n in range(20)]))
