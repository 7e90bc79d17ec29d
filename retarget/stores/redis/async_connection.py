"""A lane for asyncio: one connection on which many calls are in flight, each waiting for its own reply.

Rules:
- redis.asyncio opens a connection: its address, TLS, name and password. From then on the lane is the protocol of its
  transport, and hiredis reads. What calls ask for within one turn of the event loop is sent together.
- Replies come in the order of the commands. A call that is cancelled leaves its place in that order: its reply is
  dropped, and nobody else gets it.
- A call whose time is over ends the connection if its command was sent: what comes after it would come too late too.
- With `patience` the lane serves lists: all may wait, as long as the server is heard once in so many seconds.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from retarget.stores.redis.breaker import Breaker
from retarget.stores.redis.protocol import MORE, PUSH, Ask, Lost, new_reader, packed, told

_LEAST = 0.001
"""Seconds that are worth opening a connection for."""

Settle = Callable[[Ask], None]


class AsyncLane:
    """Commands to one server. `settle` is given every ask that has heard something."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connect: Callable[[], Awaitable[Any]],
        breaker: Breaker,
        timeout: float,
        settle: Settle,
        *,
        patient: bool = False,
        release: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        self._loop = loop
        self._connect = connect
        self._breaker = breaker
        self._timeout = timeout
        self._settle = settle
        self._patient = patient
        self._release = release
        self._releasing: set[asyncio.Future[None]] = set()
        self._waiting: deque[Ask] = deque()
        self._flying: deque[Ask | None] = deque()
        self._reader: Any = None
        self._connection: Any = None
        self._transport: Any = None
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._called = False
        self._heard = 0.0

    def submit(self, ask: Ask) -> None:
        """Send it with what else is asked for in this turn of the loop."""
        self._waiting.append(ask)
        if not self._called:
            self._called = True
            self._loop.call_soon(self._send)

    def close(self) -> None:
        """End the connection and all that waits for it."""
        error = RedisConnectionError("the retargeter was closed")
        self._refuse(error)
        self._end(error)
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None

    def _send(self) -> None:
        self._called = False
        if self._transport is None:
            if self._waiting and self._opening is None:
                self._opening = self._loop.create_task(self._open())
            return
        now = self._loop.time()
        asks = []
        while self._waiting:
            ask = self._waiting.popleft()
            if ask.reply.done():  # cancelled
                continue
            if ask.end < now:
                self._hear(ask, Lost(RedisTimeoutError("no turn within the call's time"), sent=False))
                continue
            asks.append(ask)
        if asks:
            data, whose = packed(asks)
            if not self._flying:
                self._heard = now
            self._flying += whose
            self._transport.write(data)
            if self._timer is None:
                self._watch()

    async def _open(self) -> None:
        try:
            left = self._waiting[0].end - self._loop.time() if self._waiting else self._timeout
            try:
                async with asyncio.timeout(min(left, self._timeout)):
                    self._connection = await self._connect()
            except TimeoutError as error:
                raise RedisTimeoutError("no connection within the call's time") from error
            self._reader = new_reader()
            transport = self._connection._writer.transport
            transport.set_protocol(self)
            self._transport = transport
        except Exception as error:  # noqa: BLE001 - whatever it is, the policy's answer applies all the same
            self._breaker.failed(told(error), self._loop.time())
            self._opening = None
            self._drop()
            self._refuse(error)
        else:
            self._opening = None
            self._send()

    # -- the protocol of the transport ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:  # what was under way when the lane was closed
            return
        self._heard = self._loop.time()
        reader.feed(data)
        if self._breaker.failures:
            self._breaker.answered()
        try:
            while (reply := reader.gets(False)) is not MORE:  # noqa: FBT003 - not decoded
                if isinstance(reply, PUSH):
                    continue
                ask = self._flying.popleft()
                if ask is not None:
                    self._hear(ask, reply)
                if isinstance(reply, ReadOnlyError):  # no primary any more: who asks a Sentinel again finds the new one
                    self._end(reply)
                    return
        except Exception as error:  # noqa: BLE001 - no RESP, or a reply to nobody: nothing on this lane can be trusted
            self._end(error)

    def eof_received(self) -> None:
        """The server closes: so do we."""

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._end(error or RedisConnectionError("the server closed the connection"))

    def pause_writing(self) -> None:
        """What is in flight is bounded by its time, not by the transport's buffer."""

    def resume_writing(self) -> None:
        """As above."""

    # -- ends -------------------------------------------------------------------------------------------------------

    def _hear(self, ask: Ask, reply: Any) -> None:  # noqa: ANN401 - whatever the server said
        ask.hear(reply)
        self._settle(ask)

    def _refuse(self, error: Exception) -> None:
        """Nothing that waits can be sent. Who has time left after another's ran out waits on."""
        waiting, self._waiting = self._waiting, deque()
        now = self._loop.time() if isinstance(error, RedisTimeoutError) else math.inf
        for ask in waiting:
            if now + _LEAST < ask.end < math.inf:
                self._waiting.append(ask)
            else:
                self._hear(ask, Lost(error, sent=False))
        if self._waiting:
            self._send()

    def _end(self, error: Exception) -> None:
        """End the connection; what was in flight hears that its reply is lost."""
        flying, self._flying = self._flying, deque()
        self._drop()
        if flying:
            self._breaker.failed(told(error), self._loop.time())
        for ask in flying:
            if ask is not None:
                self._hear(ask, Lost(error, sent=True))
        if self._waiting:
            self._send()

    def _drop(self) -> None:
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

    def _watch(self) -> None:
        """Look again when the time of the oldest command in flight is over; one timer for all of them."""
        self._timer = None
        head = next((ask for ask in self._flying if ask is not None), None)
        if head is None:
            return
        due = self._heard + self._timeout if self._patient else head.end
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._watch)
        else:
            self._end(RedisTimeoutError("the server did not answer in time"))
