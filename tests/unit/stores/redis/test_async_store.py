"""async_store.py: concurrent calls over one server or a cluster, each answered within its time, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio

from retarget.errors import ConfigError, NotExecuted, OutcomeUnknown
from retarget.stores.redis import AsyncRedisStore
from retarget.timelines import DENIED, Alternative, Enter, Guard, Write, timeline
from tests.support import fake_cluster, servers
from tests.support.fake_cluster import Member
from tests.support.servers import PATIENCE, Server

NOW = 1_794_312_000
HEAD = timeline.head(86_400, shield=False)
KEY = b"rt:2~v"

Script = Callable[[AsyncRedisStore], Coroutine[Any, Any, None]]


def write(key: bytes = KEY, limit: int = 0, event_id: bytes = b"") -> Write:
    """One impression; with a limit, at most `limit` within a day."""
    guards = (Guard(b"ia", limit, NOW - 86_400, wanted=False),) if limit else ()
    return Write(key, NOW, event_id, (Alternative(guards, (Enter(b"ia", NOW, 1, 16, HEAD),), 86_400),))


@asynccontextmanager
async def opened(store: Any, timeout: float = PATIENCE) -> AsyncIterator[AsyncRedisStore]:
    """A store of a URL or a client, closed at the end."""
    made = AsyncRedisStore.from_url(store, timeout) if isinstance(store, str) else AsyncRedisStore(store, timeout)
    try:
        yield made
    finally:
        await made.close()


def play(script: Script, url: str, timeout: float = PATIENCE) -> None:
    """Run a script over a store of that URL, in bounded time."""

    async def run() -> None:
        async with opened(url, timeout) as store:
            await script(store)

    asyncio.run(asyncio.wait_for(run(), 3 * PATIENCE))


class Timers:
    """The event loop with a clock that the test sets ahead; timers are the real loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.ahead = loop, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)

    def time(self) -> float:
        """The time."""
        return self.loop.time() + self.ahead


# -- calls and batches -------------------------------------------------------------------------------------------------


def test_the_verbs_on_a_real_server(server: Server) -> None:
    """Write, read, delete, alone and in batches, with replies in the order of the calls."""

    async def script(store: AsyncRedisStore) -> None:
        assert store.health() == ()
        assert await store.read(KEY) == {}
        assert await store.write(write()) == 1
        assert set(await store.read(KEY)) == {b"ia"}
        assert [await store.delete(KEY), await store.delete(KEY)] == [True, False]
        writes = [write(b"rt:2~v%d" % (n % 1_100), limit=1) for n in range(1_200)]
        assert await store.write_many(writes) == [1] * 1_100 + [DENIED] * 100
        assert await store.read_many([b"rt:2~v0", KEY]) == [await store.read(b"rt:2~v0"), {}]
        (health,) = store.health()
        assert (health.server, health.up) == (f"127.0.0.1:{server.port}", True)

    play(script, server.url)


def test_concurrent_calls_share_one_connection() -> None:
    """Thirty-two calls at once are sent together; a batch has a connection of its own."""
    with servers.fake(lambda command: b"*0\r\n") as fake:

        async def script(store: AsyncRedisStore) -> None:
            assert await asyncio.gather(*(store.read(b"k%d" % n) for n in range(32))) == [{}] * 32
            await store.read_many([KEY])
            (node,) = store._nodes.values()
            assert node.calls._transport is not node.batches._transport

        play(script, fake.url)
        assert len(fake.commands) == 33


def test_a_store_belongs_to_its_event_loop(server: Server) -> None:
    """Another loop is refused with the cure, before anything is sent."""
    store = AsyncRedisStore.from_url(server.url, PATIENCE)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(store.write(write()))
        with pytest.raises(ConfigError, match="another event loop"):
            second.run(store.read(KEY))
        first.run(store.close())


def test_a_connection_is_borrowed_from_a_given_client(server: Server) -> None:
    """And given back when the store is closed; the client stays open."""

    async def run() -> None:
        async with redis.asyncio.Redis(port=server.port) as client:
            async with opened(client) as store:
                assert await store.write(write()) == 1
                assert store.health()[0].server == f"localhost:{server.port}"
            assert await client.ping()

    asyncio.run(run())


def test_closing_closes_the_connections_to_sentinels() -> None:
    """Those that the library opened itself; nothing has to be connected for that."""

    async def script(store: AsyncRedisStore) -> None:
        assert store.health() == ()

    play(script, "redis+sentinel://nowhere.invalid/ads")


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_refused_connection_fails_all_verbs() -> None:
    """No server listens: NotExecuted."""

    async def script(store: AsyncRedisStore) -> None:
        for call in (store.read(KEY), store.write(write()), store.delete(KEY)):
            with pytest.raises(NotExecuted):
                await call
        assert [type(answer) for answer in await store.write_many([write()])] == [NotExecuted]

    play(script, f"redis://127.0.0.1:{servers.free_port()}")


def test_the_script_is_sent_whole_where_it_is_missing() -> None:
    """NOSCRIPT: once, to the same server."""
    answers = iter([b"-NOSCRIPT No matching script.\r\n", b":1\r\n"])
    with servers.fake(lambda command: next(answers)) as fake:

        async def script(store: AsyncRedisStore) -> None:
            assert await store.write(write()) == 1

        play(script, fake.url)
        assert [command[0] for command in fake.commands] == [b"EVALSHA", b"EVAL"]


def test_a_lost_reply_is_repeated_where_that_is_safe() -> None:
    """The server hangs up: a write without an id is unknown; a read and a write with an id are sent again."""
    answers = iter([None, b"*0\r\n", None, b":1\r\n", None])
    with servers.fake(lambda command: next(answers)) as fake:

        async def script(store: AsyncRedisStore) -> None:
            assert await store.read(KEY) == {}
            assert await store.write(write(event_id=b"12345")) == 1
            with pytest.raises(OutcomeUnknown):
                await store.write(write())

        play(script, fake.url)
        assert len(fake.commands) == 5


def test_a_call_that_was_cancelled_is_not_sent_again() -> None:
    """It gets a reply that asks for a second attempt, and no caller waits for that."""
    asked = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    def answer(command: list[bytes]) -> bytes:
        if command[0] == b"EVALSHA":
            loops[0].call_soon_threadsafe(asked.set)
            return b""
        return b"-NOSCRIPT No matching script.\r\n*0\r\n"

    with servers.fake(answer) as fake:

        async def script(store: AsyncRedisStore) -> None:
            loops.append(asyncio.get_running_loop())
            call = asyncio.ensure_future(store.write(write()))
            await asked.wait()
            call.cancel()
            assert await store.read(KEY) == {}

        play(script, fake.url)
        assert [command[0] for command in fake.commands] == [b"EVALSHA", b"HGETALL"]


def test_a_server_that_is_down_only_gets_probes() -> None:
    """After three failures calls fail at once; a probe has half of its call's time, and its success ends that."""
    answers: list[bytes | None] = [None, None, None]
    with servers.fake(lambda command: answers.pop(0) if answers else b":1\r\n") as fake:

        async def script(store: AsyncRedisStore) -> None:
            for _ in range(3):
                with pytest.raises(OutcomeUnknown):
                    await store.write(write())
            loop: Any = Timers(asyncio.get_running_loop())
            store._loop = loop
            loop.ahead = -1_000
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(asyncio, "get_running_loop", lambda: loop)
                with pytest.raises(NotExecuted, match="known to be down"):
                    await store.write(write())
                assert [type(answer) for answer in await store.write_many([write()])] == [NotExecuted]
                assert not store.health()[0].up
                loop.ahead = 0.2
                assert await store.write(write()) == 1
                for _ in range(3):
                    store._nodes[None].breaker.failed("refused", loop.time())
                loop.ahead = 10
                assert await store.write_many([write()]) == [1]
            assert store.health()[0].up

        play(script, fake.url)
        assert len(fake.commands) == 5


# -- a cluster ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[list[Member]]:
    """Two fake servers of a cluster; both maps name the first as the owner of every slot."""
    with fake_cluster.cluster(2) as members:
        yield members


async def read_with_map(store: AsyncRedisStore) -> None:
    """The first call, which starts to fetch the map, and wait for the map: the first call does not."""
    await store.read(KEY)
    async with asyncio.timeout(PATIENCE):
        while store._refreshing is not None:
            await asyncio.sleep(0.001)


def test_a_moved_slot_is_followed_and_remembered(pair: list[Member]) -> None:
    """The very call that meets MOVED is answered, and the next one goes to the new owner at once."""
    a, b = pair

    async def script(store: AsyncRedisStore) -> None:
        await read_with_map(store)
        assert a.take_received() == ["HGETALL"]
        a.replies[b"HGETALL"] = [a.moved(b)]
        a.owner = b.owner = b
        assert await store.read(KEY) == {}
        assert (a.take_received(), b.take_received()) == (["HGETALL"], ["HGETALL"])
        assert await store.read(KEY) == {}
        assert (a.take_received(), b.take_received()) == ([], ["HGETALL"])

    play(script, fake_cluster.url(a))


def test_a_slot_under_migration_is_asked_for_once(pair: list[Member]) -> None:
    """ASK: this command goes to the other server, after ASKING, through TRYAGAIN and NOSCRIPT; the next does not."""
    a, b = pair
    a.replies[b"EVALSHA"] = [a.ask(b)]
    b.replies[b"EVALSHA"] = [b"-TRYAGAIN Multiple keys request\r\n", b"-NOSCRIPT No matching script.\r\n"]

    async def script(store: AsyncRedisStore) -> None:
        assert await store.write(write()) == 1
        assert a.take_received() == ["EVALSHA"]
        assert b.take_received() == ["ASKING", "EVALSHA", "ASKING", "EVALSHA", "ASKING", "EVAL"]
        assert await store.write(write()) == 1
        assert (a.take_received(), b.take_received()) == (["EVALSHA"], [])

    play(script, fake_cluster.url(a))


def test_endless_redirections_end(pair: list[Member]) -> None:
    """Five attempts in all."""
    a, b = pair
    a.replies[b"HGETALL"], b.replies[b"HGETALL"] = [a.moved(b)] * 9, [b.moved(a)] * 9

    async def script(store: AsyncRedisStore) -> None:
        with pytest.raises(NotExecuted, match="MovedError"):
            await store.read(KEY)
        assert len(a.take_received() + b.take_received()) == 5

    play(script, fake_cluster.url(a))


def test_after_a_lost_reply_the_call_waits_for_the_new_map(pair: list[Member]) -> None:
    """Another server may own the slot by now: it is sent to the one that the new map names."""
    a, b = pair

    async def script(store: AsyncRedisStore) -> None:
        await read_with_map(store)
        slots: Any = store._slots
        slots._next = 0  # due at once when in doubt
        a.take_received()
        a.replies[b"HGETALL"] = [None]
        a.owner = b.owner = b
        assert await store.read(KEY) == {}
        assert (a.take_received(), b.take_received()) == (["HGETALL"], ["HGETALL"])

    play(script, fake_cluster.url(a, b))


def test_without_a_refresh_the_old_map_is_used(pair: list[Member]) -> None:
    """The last refresh is less than 0.1 s ago: the call is sent to the same server again."""
    a, b = pair

    async def script(store: AsyncRedisStore) -> None:
        await read_with_map(store)
        slots: Any = store._slots
        slots._next = float("inf")
        a.take_received()
        a.replies[b"HGETALL"] = [None]
        assert await store.read(KEY) == {}
        assert (a.take_received(), b.take_received()) == (["HGETALL", "HGETALL"], [])

    play(script, fake_cluster.url(a, b))


def test_a_broken_startup_node_is_passed_over(pair: list[Member]) -> None:
    """The map comes from the next one; one that is known to be down is not asked for it."""
    a, b = pair
    a.replies[b"CLUSTER"] = [None]
    a.owner = b.owner = b

    async def script(store: AsyncRedisStore) -> None:
        await read_with_map(store)
        slots: Any = store._slots
        slots._next = 0
        a.take_received()
        b.take_received()
        breaker = store._nodes["127.0.0.1", a.port].breaker
        for _ in range(3):
            breaker.failed("refused", asyncio.get_running_loop().time() + PATIENCE)
        slots.nodes = [("127.0.0.1", a.port), ("127.0.0.1", b.port)]
        b.replies[b"HGETALL"] = [None]
        assert await store.read(KEY) == {}
        assert (a.take_received(), b.take_received()) == ([], ["HGETALL", "HGETALL"])

    play(script, fake_cluster.url(a, b))


def test_closing_answers_calls_that_wait_for_the_map(pair: list[Member]) -> None:
    """What is known of them so far: no call waits for ever."""
    a, b = pair

    async def script(store: AsyncRedisStore) -> None:
        await read_with_map(store)
        slots: Any = store._slots
        slots._next = 0
        a.replies[b"HGETALL"] = [None]
        a.replies[b"CLUSTER"] = b.replies[b"CLUSTER"] = [b"", b"", b""]  # silence
        call = asyncio.ensure_future(store.read(KEY))
        async with asyncio.timeout(PATIENCE):
            while not store._awaiting_map:
                await asyncio.sleep(0.001)
        await store.close()
        with pytest.raises(NotExecuted):
            await call

    play(script, fake_cluster.url(a))


def test_a_cluster_client_gives_its_addresses(cluster: Any) -> None:
    """A real cluster: the settings of a `redis.asyncio.RedisCluster`, connections of our own."""

    async def run() -> None:
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port)
        async with client, opened(client) as store:
            assert await store.write_many([write(b"rt:2~v%d" % n) for n in range(20)]) == [1] * 20
            assert all(await store.read_many([b"rt:2~v%d" % n for n in range(20)]))

    asyncio.run(run())


def test_without_any_map_a_server_redirects(pair: list[Member]) -> None:
    """No server has a map: each call goes to a startup node, which answers or redirects."""
    a, b = pair
    for member in pair:
        member.replies[b"CLUSTER"] = [b"-ERR This instance has cluster support disabled\r\n"]
    a.replies[b"HGETALL"] = [a.moved(b)]

    async def script(store: AsyncRedisStore) -> None:
        await read_with_map(store)
        assert (a.take_received(), b.take_received()) == (["HGETALL"], ["HGETALL"])

    play(script, fake_cluster.url(a))
