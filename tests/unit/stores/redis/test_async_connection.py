"""async_lanes.py: many calls in flight on one connection, each with its own reply, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from retarget.errors import NotExecuted, OutcomeUnknown
from retarget.stores.redis.async_connection import AsyncLane
from retarget.stores.redis.breaker import Breaker
from retarget.stores.redis.protocol import Ask
from tests.support.servers import PATIENCE

Script = Callable[["Wire"], Coroutine[Any, Any, None]]


class Wire:
    """A lane, and the servers that it connected to, one after the other, which the test answers for."""

    def __init__(self, *, timeout: float, patient: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.peers: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.breaker = Breaker("one:6379")
        self.timeout = timeout
        self.connects: Callable[[], Awaitable[Any]] = self.connect
        self.released: list[Any] = []
        self.lane = AsyncLane(
            self.loop,
            lambda: self.connects(),
            self.breaker,
            timeout,
            self.settle,
            patient=patient,
            release=self.release,
        )
        self.port = 0
        self.accepted: asyncio.Queue[None] = asyncio.Queue()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody connects."""
        self.peers.append((reader, writer))
        self.accepted.put_nowait(None)

    async def connect(self) -> Any:
        """As redis.asyncio opens a connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await self.accepted.get()
        return SimpleNamespace(_reader=reader, _writer=writer)

    async def release(self, connection: Any) -> None:
        """As a pool takes it back."""
        self.released.append(connection)

    def settle(self, ask: Ask) -> None:
        """What it came to, unless nobody waits any more."""
        if not ask.reply.done():
            ask.reply.set_result(ask.answer)

    def ask(self, name: str, timeout: float | None = None) -> asyncio.Future[Any]:
        """Ask for a name; the answer is what was replied, or a StoreError."""
        ask = Ask(b"", ("GET", name), lambda reply: reply, writes=True)
        ask.reply = self.loop.create_future()
        ask.end = self.loop.time() + (self.timeout if timeout is None else timeout)
        self.lane.submit(ask)
        future: asyncio.Future[Any] = ask.reply
        return future

    async def heard(self, names: int, peers: int = 1) -> list[str]:
        """The names that were asked for on the latest connection, the `peers`th, so many of them."""
        await self.until(lambda: len(self.peers) == peers)
        lines = [await self.peers[-1][0].readline() for _ in range(5 * names)]
        return [line.strip().decode() for line in lines[4::5]]

    async def until(self, look: Callable[[], object]) -> None:
        """Wait until it is so."""
        async with asyncio.timeout(PATIENCE):
            while not look():
                await asyncio.sleep(0)

    def say(self, data: bytes, peer: int = -1) -> None:
        """The server says something."""
        self.peers[peer][1].write(data)

    async def hung_up(self, peer: int) -> bool:
        """Whether the lane ended that connection."""
        try:
            return await self.peers[peer][0].read(1) == b""
        except ConnectionError:
            return True


class Timers:
    """The event loop with a time that goes on when the test says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.now = loop, 1_000.0
        self.due: list[SimpleNamespace] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)

    def time(self) -> float:
        """The time."""
        return self.now

    def call_at(self, when: float, work: Callable[[], None]) -> Any:
        """Note what is to be done when."""
        timer: SimpleNamespace = SimpleNamespace(when=when, work=work, cancel=lambda: self.due.remove(timer))
        self.due.append(timer)
        return timer

    def go_on(self, seconds: float) -> None:
        """Time goes on; what is due is done."""
        self.now += seconds
        for timer in [timer for timer in self.due if timer.when <= self.now]:
            self.due.remove(timer)
            timer.work()


def play(script: Script, *, timeout: float = PATIENCE, patient: bool = False) -> None:
    """Run a script of what the test and the server do, in a bounded time."""

    async def run() -> None:
        wire = Wire(timeout=timeout, patient=patient)
        async with await asyncio.start_server(wire.accept, "127.0.0.1", 0) as server:
            wire.port = server.sockets[0].getsockname()[1]
            try:
                await script(wire)
            finally:
                wire.lane.close()
                for _, writer in wire.peers:
                    writer.close()
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE))


def test_calls_of_one_turn_are_sent_together_and_answered_in_order() -> None:
    """One connection, one write, each its own reply; in whatever pieces they come."""

    async def script(wire: Wire) -> None:
        writes: list[bytes] = []
        calls = [wire.ask(f"n{n}") for n in range(50)]
        await wire.until(lambda: wire.lane._transport)
        inner = wire.lane._transport

        def write(data: bytes) -> None:
            writes.append(data)
            inner.write(data)

        wire.lane._transport = SimpleNamespace(write=write, abort=inner.abort)
        assert await wire.heard(50) == [f"n{n}" for n in range(50)]
        calls += [wire.ask(f"n{n}") for n in range(50, 100)]
        assert await wire.heard(50) == [f"n{n}" for n in range(50, 100)]
        assert len(writes) == 1
        replies = b"".join(b":%d\r\n" % n for n in range(100))
        for start in range(0, len(replies), 7):
            wire.say(replies[start : start + 7])
            await asyncio.sleep(0)
        assert await asyncio.gather(*calls) == list(range(100))
        assert len(wire.peers) == 1

    play(script)


def test_the_reply_to_a_cancelled_call_is_nobodys() -> None:
    """Cancelled when sent: it is dropped. Cancelled before: it is not even sent."""

    async def script(wire: Wire) -> None:
        calls = [wire.ask(name) for name in "abcd"]
        calls[3].cancel()
        assert await wire.heard(3) == ["a", "b", "c"]
        calls[1].cancel()
        more = wire.ask("e")
        assert await wire.heard(1) == ["e"]
        wire.say(b"+A\r\n+B\r\n+C\r\n+E\r\n")
        assert [await call for call in (calls[0], calls[2], more)] == [b"A", b"C", b"E"]

    play(script)


def test_all_of_them_cancelled() -> None:
    """The replies that come are nobody's, and the next call gets its own."""

    async def script(wire: Wire) -> None:
        calls = [wire.ask(name) for name in "abc"]
        await wire.heard(3)
        for call in calls:
            call.cancel()
        last = wire.ask("d")
        await wire.heard(1)
        wire.say(b"+A\r\n+B\r\n+C\r\n+D\r\n")
        assert await last == b"D"
        assert len(wire.peers) == 1

    play(script)


def test_a_call_whose_time_is_over_ends_the_connection() -> None:
    """It may have happened; so with all behind it. What comes late answers nobody: the next has a new connection."""

    async def script(wire: Wire) -> None:
        calls = [wire.ask("a", 0.05), wire.ask("b")]
        await wire.heard(2)
        answers = await asyncio.gather(*calls)
        assert [type(answer) for answer in answers] == [OutcomeUnknown] * 2
        assert "in time" in str(answers[0])
        wire.say(b"+A\r\n+B\r\n")
        other = wire.ask("c")
        assert await wire.heard(1, peers=2) == ["c"]
        wire.say(b"+C\r\n")
        assert await other == b"C"
        assert await wire.hung_up(0)
        assert len(wire.peers) == 2

    play(script)


def test_a_reply_that_trickles_is_given_up_when_the_time_is_over() -> None:
    """Bytes that come now and then do not make it wait longer."""

    async def script(wire: Wire) -> None:
        call = wire.ask("a")
        await wire.heard(1)
        wire.say(b"$100000\r\n")
        while not call.done():
            wire.say(b"x")
            await asyncio.wait([call], timeout=0.005)
        assert isinstance(await call, OutcomeUnknown)

    play(script, timeout=0.1)


def test_a_patient_lane_waits_as_long_as_something_is_heard() -> None:
    """A list takes longer than a call may in all; but silence as long as a call's time ends it."""

    async def script(wire: Wire) -> None:
        timers: Any = Timers(wire.loop)
        wire.loop = wire.lane._loop = timers
        calls = [wire.ask(f"{n}", float("inf")) for n in range(10)]
        await wire.heard(10)
        for n in range(8):
            timers.go_on(0.9 * PATIENCE)
            wire.say(b":%d\r\n" % n)
            assert await calls[n] == n
        timers.go_on(0.9 * PATIENCE)
        assert not any(call.done() for call in calls[8:])
        timers.go_on(0.2 * PATIENCE)
        assert [type(call.result()) for call in calls[8:]] == [OutcomeUnknown] * 2

    play(script, patient=True)


def test_a_lane_for_calls_does_not_wait_longer_for_what_is_heard() -> None:
    """The end of the oldest is the end of all."""

    async def script(wire: Wire) -> None:
        timers: Any = Timers(wire.loop)
        wire.loop = wire.lane._loop = timers
        calls = [wire.ask(name) for name in "abc"]
        await wire.heard(3)
        timers.go_on(0.9 * PATIENCE)
        wire.say(b"+A\r\n")
        assert await calls[0] == b"A"
        later = wire.ask("d")
        await wire.heard(1)
        timers.go_on(0.2 * PATIENCE)
        assert [type(call.result()) for call in (*calls[1:], later)] == [OutcomeUnknown] * 3

    play(script)


@pytest.mark.parametrize(
    "said", [b"", b"$9\r\nhalf", b"HTTP/1.1 400 Bad Request\r\n", b"-READONLY You can't write against a replica.\r\n"]
)
def test_what_ends_a_connection(said: bytes) -> None:
    """The server hangs up, says what is no reply, or is no primary any more: the next call opens another."""

    async def script(wire: Wire) -> None:
        calls = [wire.ask(name) for name in "abc"]
        await wire.heard(3)
        wire.say(b"+A\r\n" + said)
        if not said.endswith(b"\n"):
            wire.peers[-1][1].close()
        first, *others = await asyncio.gather(*calls)
        assert first == b"A"
        assert [type(o) for o in others] == [NotExecuted if said[:1] == b"-" else OutcomeUnknown, OutcomeUnknown]
        other = wire.ask("d")
        assert await wire.heard(1, peers=2) == ["d"]
        wire.say(b"+D\r\n")
        assert await other == b"D"
        await asyncio.sleep(0)
        assert len(wire.released) == 1

    play(script)


def test_a_reply_to_nobody_ends_the_connection() -> None:
    """Nothing on it can be told apart any more. What a server says without being asked is no reply."""

    async def script(wire: Wire) -> None:
        call = wire.ask("a")
        await wire.heard(1)
        wire.say(b">2\r\n+invalidate\r\n_\r\n+A\r\n>2\r\n+invalidate\r\n_\r\n")
        assert await call == b"A"
        wire.say(b"+nobody\r\n")
        assert await wire.hung_up(0)
        other = wire.ask("b")
        await wire.until(lambda: len(wire.peers) == 2)
        wire.say(b"+B\r\n")
        assert await other == b"B"

    play(script)


def test_a_server_that_cannot_be_reached() -> None:
    """All that wait are told that they were not sent, it counts as one failure, and the next call tries again."""

    async def script(wire: Wire) -> None:
        async def refused() -> Any:
            raise RedisConnectionError("refused")

        wire.connects = refused
        answers = await asyncio.gather(*(wire.ask(name) for name in "abc"))
        assert [(type(answer), str(answer)) for answer in answers] == [(NotExecuted, "ConnectionError: refused")] * 3
        assert wire.breaker.health().failures == 1
        wire.connects = wire.connect
        call = wire.ask("d")
        await wire.heard(1)
        wire.say(b"+D\r\n")
        assert await call == b"D"
        assert wire.breaker.health().failures == 0

    play(script)


def test_connecting_ends_with_the_calls_time() -> None:
    """A server that accepts and says nothing: not sent. Who has time left after another's ran out waits on."""

    async def script(wire: Wire) -> None:
        opened = 0

        async def stuck_once() -> Any:
            nonlocal opened
            opened += 1
            if opened == 1:
                await wire.loop.create_future()  # nobody ever answers
            return await wire.connect()

        wire.connects = stuck_once
        begun = wire.loop.time()
        short, long = wire.ask("a", 0.05), wire.ask("b")
        answer = await short
        assert isinstance(answer, NotExecuted)
        assert "no connection within the call's time" in str(answer)
        assert wire.loop.time() - begun < PATIENCE / 2
        assert await wire.heard(1) == ["b"]
        wire.say(b"+B\r\n")
        assert await long == b"B"

    play(script)


def test_a_call_whose_time_was_over_before_its_turn_is_not_sent() -> None:
    """It waited for the connection too long; the one that has time left is sent."""

    async def script(wire: Wire) -> None:
        opened = asyncio.Event()

        async def slow() -> Any:
            await opened.wait()
            return await wire.connect()

        wire.connects = slow
        long, short = wire.ask("a"), wire.ask("b", 0)
        opened.set()
        assert await wire.heard(1) == ["a"]
        assert isinstance(await short, NotExecuted)
        wire.say(b"+A\r\n")
        assert await long == b"A"

    play(script)


@pytest.mark.parametrize("when", ["before it is open", "in flight"])
def test_closing_it_answers_all(when: str) -> None:
    """Nobody waits for ever; what was sent may have happened."""

    async def script(wire: Wire) -> None:
        calls = [wire.ask(name) for name in "ab"]
        if when == "in flight":
            await wire.heard(2)
        else:
            await asyncio.sleep(0)
        wire.lane.close()
        answers = await asyncio.gather(*calls)
        kind = OutcomeUnknown if when == "in flight" else NotExecuted
        assert [type(answer) for answer in answers] == [kind] * 2
        assert "closed" in str(answers[0])
        wire.lane.close()

    play(script)


def test_one_failure_for_all_that_were_in_flight() -> None:
    """A connection that broke with a hundred calls on it says as much about the server as one with a single call."""

    async def script(wire: Wire) -> None:
        calls = [wire.ask(f"n{n}") for n in range(100)]
        await wire.heard(100)
        wire.peers[-1][1].close()
        assert {type(answer) for answer in await asyncio.gather(*calls)} == {OutcomeUnknown}
        assert wire.breaker.health().failures == 1

    play(script)
