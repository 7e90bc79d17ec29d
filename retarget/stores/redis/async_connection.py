"""A connection for asyncio: many calls in flight at once, each waiting for its own reply.

Rules:
- redis.asyncio opens the connection: address, TLS, user and password. From then on we are the protocol of its
  transport, and hiredis parses. Calls made within one iteration of the event loop are sent together.
- Replies come in the order of the commands. A cancelled call keeps its place in that order: its reply is dropped, and
  no other call gets it.
- A call past its deadline closes the connection if its command was sent: the replies behind it would be late too.
- A `batch` connection serves batches: their calls have no deadline, but a server silent for `timeout` ends them.
- Deadlines are seconds of the loop's clock.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from retarget.stores.redis.breaker import Breaker
from retarget.stores.redis.protocol import INCOMPLETE, PUSH, Call, Lost, describe, encode, new_reader

_MIN_TIME = 0.001
"""Seconds that are worth opening a connection for."""

Settle: TypeAlias = Callable[[Call], None]


class AsyncConnection:
    """Commands to one server, on a connection that is opened when needed and again after a failure.

    `connect` opens it, `release` takes it back, and `settle` is given every call that has a new result. `timeout` is in
    seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connect: Callable[[], Awaitable[Any]],
        breaker: Breaker,
        timeout: float,
        settle: Settle,
        *,
        batch: bool = False,
        release: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        self._loop = loop
        self._connect = connect
        self._breaker = breaker
        self._timeout = timeout
        self._settle = settle
        self._batch = batch
        self._release = release
        self._releasing: set[asyncio.Future[None]] = set()
        self._queued: deque[Call] = deque()
        self._in_flight: deque[Call | None] = deque()
        self._reader: Any = None
        self._connection: Any = None
        self._transport: Any = None
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._last_received = 0.0

    def submit(self, call: Call) -> None:
        """Send it, together with the other calls of this iteration of the loop."""
        self._queued.append(call)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)

    def close(self) -> None:
        """Close the connection and fail every call that waits for it. A later call opens it again."""
        error = RedisConnectionError("the retargeter was closed")
        self._fail_queued(error)
        self._fail_in_flight(error)
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None

    def _send(self) -> None:
        self._scheduled = False
        if self._transport is None:
            if self._queued and self._opening is None:
                self._opening = self._loop.create_task(self._open())
            return
        now = self._loop.time()
        calls = []
        while self._queued:
            call = self._queued.popleft()
            if call.future.done():  # cancelled
                continue
            if call.deadline < now:
                self._receive(call, Lost(RedisTimeoutError("the call's time was over before it was sent"), sent=False))
                continue
            calls.append(call)
        if calls:
            data, receivers = encode(calls)
            if not self._in_flight:
                self._last_received = now
            self._in_flight += receivers
            self._transport.write(data)
            if self._timer is None:
                self._check_deadline()

    async def _open(self) -> None:
        try:
            left = self._queued[0].deadline - self._loop.time() if self._queued else self._timeout
            try:
                async with asyncio.timeout(min(left, self._timeout)):
                    self._connection = await self._connect()
            except TimeoutError as error:
                raise RedisTimeoutError("no connection within the call's time") from error
            self._reader = new_reader()
            transport = self._connection._writer.transport
            transport.set_protocol(self)
            self._transport = transport
        except Exception as error:  # noqa: BLE001 - whatever it is, `on_store_error` applies
            self._breaker.failed(describe(error), self._loop.time())
            self._opening = None
            self._abort()
            self._fail_queued(error)
        else:
            self._opening = None
            self._send()

    # -- the protocol of the transport ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Give each call its reply."""
        reader = self._reader
        if reader is None:  # closed with data under way
            return
        self._last_received = self._loop.time()
        reader.feed(data)
        if self._breaker.failures:
            self._breaker.answered()
        try:
            while (reply := reader.gets(False)) is not INCOMPLETE:  # noqa: FBT003 - not decoded
                if isinstance(reply, PUSH):
                    continue
                call = self._in_flight.popleft()
                if call is not None:
                    self._receive(call, reply)
                if isinstance(reply, ReadOnlyError):  # no longer the primary: reconnect, so that Sentinel can name it
                    self._fail_in_flight(reply)
                    return
        except Exception as error:  # noqa: BLE001 - not RESP, or more replies than calls: nothing here can be trusted
            self._fail_in_flight(error)

    def eof_received(self) -> None:
        """The server closes: None makes the transport close too."""

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what was in flight."""
        if self._transport is not None:
            self._fail_in_flight(error or RedisConnectionError("the server closed the connection"))

    def pause_writing(self) -> None:
        """Nothing: deadlines bound what is in flight, not the transport's buffer."""

    def resume_writing(self) -> None:
        """As above."""

    # -- failures ---------------------------------------------------------------------------------------------------

    def _receive(self, call: Call, reply: Any) -> None:  # noqa: ANN401 - any value or error
        call.receive(reply)
        self._settle(call)

    def _fail_queued(self, error: Exception) -> None:
        """Nothing queued can be sent. After a timeout, calls with time left stay queued."""
        queued, self._queued = self._queued, deque()
        now = self._loop.time() if isinstance(error, RedisTimeoutError) else math.inf
        for call in queued:
            if now + _MIN_TIME < call.deadline < math.inf:
                self._queued.append(call)
            else:
                self._receive(call, Lost(error, sent=False))
        if self._queued:
            self._send()

    def _fail_in_flight(self, error: Exception) -> None:
        """Close the connection; the replies to what was in flight are lost."""
        in_flight, self._in_flight = self._in_flight, deque()
        self._abort()
        if in_flight:
            self._breaker.failed(describe(error), self._loop.time())
        for call in in_flight:
            if call is not None:
                self._receive(call, Lost(error, sent=True))
        if self._queued:
            self._send()

    def _abort(self) -> None:
        transport, connection = self._transport, self._connection
        self._transport = self._connection = self._reader = None
        if transport is not None:
            transport.abort()
        if connection is not None:
            connection._reader = connection._writer = None  # the transport was ours; redis.asyncio has nothing to close
            if self._release is not None and not self._loop.is_closed():
                releasing = asyncio.ensure_future(self._release(connection))
                self._releasing.add(releasing)
                releasing.add_done_callback(self._releasing.discard)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_deadline(self) -> None:
        """Close the connection at the deadline of the oldest command in flight; one timer serves all of them."""
        self._timer = None
        oldest = next((call for call in self._in_flight if call is not None), None)
        if oldest is None:
            return
        due = self._last_received + self._timeout if self._batch else oldest.deadline
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._check_deadline)
        else:
            self._fail_in_flight(RedisTimeoutError("the server did not answer in time"))
