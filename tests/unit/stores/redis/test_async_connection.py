"""async_connection.py: many calls in flight on one connection, each with its own reply whatever happens to others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from retarget.errors import NotExecuted, OutcomeUnknown
from retarget.stores.redis.async_connection import AsyncConnection
from retarget.stores.redis.breaker import Breaker
from retarget.stores.redis.protocol import Call, Command, Resend, value_or_error
from retarget.stores.redis.slots import Route
from tests.support.servers import PATIENCE

Script = Callable[["Wire"], Coroutine[Any, Any, None]]


class Wire:
    """A connection, and the servers it connected to, one after the other; the test answers for them."""

    def __init__(self, *, timeout: float, batch: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.peers: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.breaker = Breaker("one:6379")
        self.timeout = timeout
        self.connects: Callable[[], Awaitable[Any]] = self.connect
        self.released: list[Any] = []
        self.connection = AsyncConnection(
            self.loop,
            lambda: self.connects(),
            self.breaker,
            timeout,
            self.settle,
            batch=batch,
            release=self.release,
        )
        self.port = 0
        self.accepted: asyncio.Queue[None] = asyncio.Queue()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client connects."""
        self.peers.append((reader, writer))
        self.accepted.put_nowait(None)

    async def connect(self) -> Any:
        """Open a connection as redis.asyncio does."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await self.accepted.get()
        return SimpleNamespace(_reader=reader, _writer=writer)

    async def release(self, connection: Any) -> None:
        """Take it back as a pool does."""
        self.released.append(connection)

    def settle(self, call: Call) -> None:
        """Give the result to the caller, unless the call was cancelled."""
        if not call.future.done():
            call.future.set_result(value_or_error(call.result))

    def ask(self, name: str, timeout: float | None = None) -> asyncio.Future[Any]:
        """GET a name; the future gets the reply, or a StoreError."""
        command = Command(b"", ("GET", name), lambda reply: reply, writes=True)
        future: asyncio.Future[Any] = self.loop.create_future()
        deadline = self.loop.time() + (self.timeout if timeout is None else timeout)
        self.connection.submit(Call(command, future, deadline))
        return future

    async def received(self, names: int, peers: int = 1) -> list[str]:
        """The next `names` names that the latest connection, the `peers`th, asked for."""
        await self.until(lambda: len(self.peers) == peers)
        lines = [await self.peers[-1][0].readline() for _ in range(5 * names)]
        return [line.strip().decode() for line in lines[4::5]]

    async def until(self, look: Callable[[], object]) -> None:
        """Wait until it is true."""
        async with asyncio.timeout(PATIENCE):
            while not look():
                await asyncio.sleep(0)

    def reply(self, data: bytes, peer: int = -1) -> None:
        """The server sends these bytes."""
        self.peers[peer][1].write(data)

    async def closed(self, peer: int) -> bool:
        """Whether that connection was closed by the client."""
        try:
            return await self.peers[peer][0].read(1) == b""
        except ConnectionError:
            return True


class Timers:
    """The event loop with a clock that the test advances."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.now = loop, 1_000.0
        self.due: list[SimpleNamespace] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)

    def time(self) -> float:
        """The time."""
        return self.now

    def call_at(self, when: float, work: Callable[[], None]) -> Any:
        """Note what is due when."""
        timer: SimpleNamespace = SimpleNamespace(when=when, work=work, cancel=lambda: self.due.remove(timer))
        self.due.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Advance the clock; what is due runs."""
        self.now += seconds
        for timer in [timer for timer in self.due if timer.when <= self.now]:
            self.due.remove(timer)
            timer.work()


def play(script: Script, *, timeout: float = PATIENCE, batch: bool = False) -> None:
    """Run a script of what the test and the server do, in bounded time."""

    async def run() -> None:
        wire = Wire(timeout=timeout, batch=batch)
        async with await asyncio.start_server(wire.accept, "127.0.0.1", 0) as server:
            wire.port = server.sockets[0].getsockname()[1]
            try:
                await script(wire)
            finally:
                wire.connection.close()
                for _, writer in wire.peers:
                    writer.close()
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE))


def test_calls_of_one_loop_iteration_are_sent_together_and_answered_in_order() -> None:
    """One connection, one write, each its own reply, however the replies are split."""

    async def script(wire: Wire) -> None:
        writes: list[bytes] = []
        calls = [wire.ask(f"n{n}") for n in range(50)]
        await wire.until(lambda: wire.connection._transport)
        inner = wire.connection._transport

        def write(data: bytes) -> None:
            writes.append(data)
            inner.write(data)

        wire.connection._transport = SimpleNamespace(write=write, abort=inner.abort)
        assert await wire.received(50) == [f"n{n}" for n in range(50)]
        calls += [wire.ask(f"n{n}") for n in range(50, 100)]
        assert await wire.received(50) == [f"n{n}" for n in range(50, 100)]
        assert len(writes) == 1
        replies = b"".join(b":%d\r\n" % n for n in range(100))
        for start in range(0, len(replies), 7):
            wire.reply(replies[start : start + 7])
            await asyncio.sleep(0)
        assert await asyncio.gather(*calls) == list(range(100))
        assert len(wire.peers) == 1

    play(script)


def test_the_reply_to_a_cancelled_call_is_dropped() -> None:
    """Cancelled after sending: its reply is dropped. Cancelled before: it is not sent."""

    async def script(wire: Wire) -> None:
        calls = [wire.ask(name) for name in "abcd"]
        calls[3].cancel()
        assert await wire.received(3) == ["a", "b", "c"]
        calls[1].cancel()
        more = wire.ask("e")
        assert await wire.received(1) == ["e"]
        wire.reply(b"+A\r\n+B\r\n+C\r\n+E\r\n")
        assert [await call for call in (calls[0], calls[2], more)] == [b"A", b"C", b"E"]

    play(script)


def test_all_calls_are_cancelled() -> None:
    """Their replies are dropped, and the next call gets its own."""

    async def script(wire: Wire) -> None:
        calls = [wire.ask(name) for name in "abc"]
        await wire.received(3)
        for call in calls:
            call.cancel()
        last = wire.ask("d")
        await wire.received(1)
        wire.reply(b"+A\r\n+B\r\n+C\r\n+D\r\n")
        assert await last == b"D"
        assert len(wire.peers) == 1

    play(script)


def test_a_call_past_its_deadline_closes_the_connection() -> None:
    """It may have happened, and so may all behind it. Late replies are dropped: the next call has a new connection."""

    async def script(wire: Wire) -> None:
        calls = [wire.ask("a", 0.05), wire.ask("b")]
        await wire.received(2)
        answers = await asyncio.gather(*calls)
        assert [type(answer) for answer in answers] == [OutcomeUnknown] * 2
        assert "in time" in str(answers[0])
        wire.reply(b"+A\r\n+B\r\n")
        other = wire.ask("c")
        assert await wire.received(1, peers=2) == ["c"]
        wire.reply(b"+C\r\n")
        assert await other == b"C"
        assert await wire.closed(0)
        assert len(wire.peers) == 2

    play(script)


def test_a_reply_that_trickles_in_is_given_up_at_the_deadline() -> None:
    """A byte now and then does not extend it."""

    async def script(wire: Wire) -> None:
        call = wire.ask("a")
        await wire.received(1)
        wire.reply(b"$100000\r\n")
        while not call.done():
            wire.reply(b"x")
            await asyncio.wait([call], timeout=0.005)
        assert isinstance(await call, OutcomeUnknown)

    play(script, timeout=0.1)


def test_a_batch_waits_as_long_as_replies_come() -> None:
    """A batch may take longer than a call, but silence for a call's timeout ends it."""

    async def script(wire: Wire) -> None:
        timers: Any = Timers(wire.loop)
        wire.loop = wire.connection._loop = timers
        calls = [wire.ask(f"{n}", float("inf")) for n in range(10)]
        await wire.received(10)
        for n in range(8):
            timers.advance(0.9 * PATIENCE)
            wire.reply(b":%d\r\n" % n)
            assert await calls[n] == n
        timers.advance(0.9 * PATIENCE)
        assert not any(call.done() for call in calls[8:])
        timers.advance(0.2 * PATIENCE)
        assert [type(call.result()) for call in calls[8:]] == [OutcomeUnknown] * 2

    play(script, batch=True)


def test_replies_do_not_extend_the_deadline_of_a_call() -> None:
    """The deadline of the oldest call ends them all."""

    async def script(wire: Wire) -> None:
        timers: Any = Timers(wire.loop)
        wire.loop = wire.connection._loop = timers
        calls = [wire.ask(name) for name in "abc"]
        await wire.received(3)
        timers.advance(0.9 * PATIENCE)
        wire.reply(b"+A\r\n")
        assert await calls[0] == b"A"
        later = wire.ask("d")
        await wire.received(1)
        timers.advance(0.2 * PATIENCE)
        assert [type(call.result()) for call in (*calls[1:], later)] == [OutcomeUnknown] * 3

    play(script)


@pytest.mark.parametrize(
    "data", [b"", b"$9\r\nhalf", b"HTTP/1.1 400 Bad Request\r\n", b"-READONLY You can't write against a replica.\r\n"]
)
def test_what_closes_a_connection(data: bytes) -> None:
    """The server hangs up, sends what is not RESP, or is no longer the primary: the next call opens another."""

    async def script(wire: Wire) -> None:
        calls = [wire.ask(name) for name in "abc"]
        await wire.received(3)
        wire.reply(b"+A\r\n" + data)
        if not data.endswith(b"\n"):
            wire.peers[-1][1].close()
        first, *others = await asyncio.gather(*calls)
        assert first == b"A"
        assert [type(o) for o in others] == [NotExecuted if data[:1] == b"-" else OutcomeUnknown, OutcomeUnknown]
        other = wire.ask("d")
        assert await wire.received(1, peers=2) == ["d"]
        wire.reply(b"+D\r\n")
        assert await other == b"D"
        await asyncio.sleep(0)
        assert len(wire.released) == 1

    play(script)


def test_a_reply_too_many_closes_the_connection() -> None:
    """Replies can no longer be matched to calls. A push message is not a reply."""

    async def script(wire: Wire) -> None:
        call = wire.ask("a")
        await wire.received(1)
        wire.reply(b">2\r\n+invalidate\r\n_\r\n+A\r\n>2\r\n+invalidate\r\n_\r\n")
        assert await call == b"A"
        wire.reply(b"+nobody\r\n")
        assert await wire.closed(0)
        other = wire.ask("b")
        await wire.until(lambda: len(wire.peers) == 2)
        wire.reply(b"+B\r\n")
        assert await other == b"B"

    play(script)


def test_a_server_that_cannot_be_reached() -> None:
    """Every waiting call fails as not sent, it counts as one failure, and the next call tries again."""

    async def script(wire: Wire) -> None:
        async def refused() -> Any:
            raise RedisConnectionError("refused")

        wire.connects = refused
        answers = await asyncio.gather(*(wire.ask(name) for name in "abc"))
        assert [(type(answer), str(answer)) for answer in answers] == [(NotExecuted, "ConnectionError: refused")] * 3
        assert wire.breaker.health().failures == 1
        wire.connects = wire.connect
        call = wire.ask("d")
        await wire.received(1)
        wire.reply(b"+D\r\n")
        assert await call == b"D"
        assert wire.breaker.health().failures == 0

    play(script)


def test_connecting_ends_at_the_calls_deadline() -> None:
    """A server that accepts and does not answer: not sent. Calls with time left stay queued."""

    async def script(wire: Wire) -> None:
        opened = 0

        async def stuck_once() -> Any:
            nonlocal opened
            opened += 1
            if opened == 1:
                await wire.loop.create_future()  # never done
            return await wire.connect()

        wire.connects = stuck_once
        started = wire.loop.time()
        short, long = wire.ask("a", 0.05), wire.ask("b")
        answer = await short
        assert isinstance(answer, NotExecuted)
        assert "no connection within the call's time" in str(answer)
        assert wire.loop.time() - started < PATIENCE / 2
        assert await wire.received(1) == ["b"]
        wire.reply(b"+B\r\n")
        assert await long == b"B"

    play(script)


def test_a_call_past_its_deadline_is_not_sent() -> None:
    """It waited for the connection too long; the one with time left is sent."""

    async def script(wire: Wire) -> None:
        opened = asyncio.Event()

        async def slow() -> Any:
            await opened.wait()
            return await wire.connect()

        wire.connects = slow
        long, short = wire.ask("a"), wire.ask("b", 0)
        opened.set()
        assert await wire.received(1) == ["a"]
        assert isinstance(await short, NotExecuted)
        wire.reply(b"+A\r\n")
        assert await long == b"A"

    play(script)


@pytest.mark.parametrize("when", ["before it is open", "in flight"])
def test_closing_fails_every_call(when: str) -> None:
    """No call waits for ever; what was sent may have happened."""

    async def script(wire: Wire) -> None:
        calls = [wire.ask(name) for name in "ab"]
        if when == "in flight":
            await wire.received(2)
        else:
            await asyncio.sleep(0)
        wire.connection.close()
        answers = await asyncio.gather(*calls)
        kind = OutcomeUnknown if when == "in flight" else NotExecuted
        assert [type(answer) for answer in answers] == [kind] * 2
        assert "closed" in str(answers[0])
        wire.connection.close()

    play(script)


def test_one_failure_for_all_calls_in_flight() -> None:
    """A connection that broke with a hundred calls counts as much against the server as one with a single call."""

    async def script(wire: Wire) -> None:
        calls = [wire.ask(f"n{n}") for n in range(100)]
        await wire.received(100)
        wire.peers[-1][1].close()
        assert {type(answer) for answer in await asyncio.gather(*calls)} == {OutcomeUnknown}
        assert wire.breaker.health().failures == 1

    play(script)


def test_nothing_is_sent_when_every_call_was_cancelled() -> None:
    """On an open connection; the next call is sent as usual."""

    async def script(wire: Wire) -> None:
        first = wire.ask("a")
        await wire.received(1)
        wire.ask("b").cancel()
        wire.reply(b"+A\r\n")
        assert await first == b"A"
        second = wire.ask("c")
        assert await wire.received(1) == ["c"]
        wire.reply(b"+C\r\n")
        assert await second == b"C"

    play(script)


def test_data_that_arrives_after_closing_is_dropped() -> None:
    """It was under way: no call waits for it."""

    async def script(wire: Wire) -> None:
        call = wire.ask("a")
        await wire.received(1)
        wire.connection.close()
        assert isinstance(await call, OutcomeUnknown)
        wire.connection.data_received(b"+A\r\n")

    play(script)


def test_a_lost_reply_to_asking_is_the_calls_own() -> None:
    """The connection breaks between ASKING and the command: the call fails once, as sent."""

    async def script(wire: Wire) -> None:
        future: asyncio.Future[Any] = wire.loop.create_future()
        call = Call(Command(b"", ("GET", "a"), bytes, writes=True), future, wire.loop.time() + PATIENCE)
        call.result = Resend(NotExecuted("redirected"), 1, Route(("h", 1), asking=True))
        wire.connection.submit(call)
        await wire.until(lambda: wire.peers)
        assert await wire.peers[-1][0].readline() == b"*1\r\n"
        wire.peers[-1][1].close()
        assert isinstance(await future, OutcomeUnknown)

    play(script)


def test_the_timer_ends_when_nothing_is_in_flight() -> None:
    """All replies came: at the deadline the connection stays open."""

    async def script(wire: Wire) -> None:
        timers: Any = Timers(wire.loop)
        wire.loop = wire.connection._loop = timers
        call = wire.ask("a")
        await wire.received(1)
        wire.reply(b"+A\r\n")
        assert await call == b"A"
        timers.advance(2 * PATIENCE)
        assert timers.due == []
        other = wire.ask("b")
        assert await wire.received(1) == ["b"]
        wire.reply(b"+B\r\n")
        assert await other == b"B"

    play(script)
