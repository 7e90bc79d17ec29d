"""The store in Redis or Valkey for asyncio: concurrent calls share a pipeline.

Rules:
- A call puts its command into a queue; a worker sends what has gathered, reads the replies, and hands them out. While
  it waits, more gathers: the busier the loop, the fewer the round trips.
- A call that is cancelled does not touch the connection: its reply is read and dropped, and nobody else gets it.
- A call that waited its whole time-out for its turn fails, not executed. A worker never waits longer than that either.
- What is said, and what the answers mean, stands in `redis_protocol.py`.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import redis.asyncio
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

from retarget.changes import Answer, Write
from retarget.errors import ConfigError, StoreError
from retarget.memory import MemoryStore
from retarget.redis_protocol import (
    Ask,
    Command,
    Lost,
    client_options,
    conversation,
    deleting,
    failure,
    reading,
    told,
    writing,
)
from retarget.redis_store import check_decoding, warn_of
from retarget.store import State

_TOGETHER = 256
"""The most commands one worker sends before it reads their replies."""

_WORKERS = 4


class _Waiting(NamedTuple):
    ask: Ask
    reply: asyncio.Future[Any]
    until: float


class AsyncRedisStore:
    """Visitors in a Redis or Valkey server, for one event loop."""

    def __init__(self, client: redis.asyncio.Redis, timeout: float, *, own: bool = False) -> None:
        check_decoding(client)
        if not own:
            warn_of(client)
        self._client = client
        self._pool: Any = client.connection_pool
        self._timeout = timeout
        self._own = own
        self._waiting: deque[_Waiting] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._serving = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_url(cls, url: str, timeout: float) -> AsyncRedisStore:
        """A store with a client of its own: no retries, every wait at most `timeout` seconds."""
        try:
            pool = redis.asyncio.BlockingConnectionPool.from_url(url, **client_options(timeout))
        except (ValueError, TypeError, RedisError) as error:
            raise ConfigError(
                f"the store's URL cannot be used: {error}; write redis://localhost:6379/0 or memory://"
            ) from error
        return cls(redis.asyncio.Redis(connection_pool=pool), timeout, own=True)

    async def close(self) -> None:
        if self._own:
            await self._client.aclose()
            await self._pool.disconnect()

    async def read(self, key: bytes) -> State:
        state: State = _raised(await self._ask(reading(key)))
        return state

    async def write(self, write: Write) -> Answer:
        answer: Answer = _raised(await self._ask(writing(write)))
        return answer

    async def delete(self, key: bytes) -> bool:
        return bool(_raised(await self._ask(deleting(key))))

    async def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        return list(await asyncio.gather(*(self._ask(reading(key), patience=math.inf) for key in keys)))

    async def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        return list(await asyncio.gather(*(self._ask(writing(write), patience=math.inf) for write in writes)))

    def _ask(self, ask: Ask, patience: float = 1) -> asyncio.Future[Any]:
        """Queue a command. The reply comes as it was asked for, or as the StoreError it amounts to."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise ConfigError("this AsyncRetargeter belongs to another event loop; make one in each loop")
            self._loop = loop
        waiting = _Waiting(ask, loop.create_future(), loop.time() + self._timeout * patience)
        self._waiting.append(waiting)
        if self._serving < min(_WORKERS, 1 + len(self._waiting) // _TOGETHER):
            self._serving += 1
            worker = loop.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return waiting.reply

    async def _work(self) -> None:
        """Serve what waits until nothing does."""
        connection: Any = None
        batch: list[_Waiting] = []
        try:
            while batch := self._batch():
                try:
                    async with asyncio.timeout(self._timeout):
                        if connection is None:
                            connection = await self._pool.get_connection()
                except Exception as error:  # noqa: BLE001 - whatever it is, the policy's answer applies all the same
                    _hand_out(batch, [failure(error, executed=False)] * len(batch))
                    continue
                replies = await self._converse(connection, [waiting.ask.command for waiting in batch])
                _hand_out(batch, [told(reply, w.ask) for reply, w in zip(replies, batch, strict=True)])
        finally:
            self._serving -= 1  # a command that comes from here on needs another worker
            _hand_out(batch, [failure(RuntimeError("the worker was stopped"), executed=None)] * len(batch))
            if connection is not None:
                await self._pool.release(connection)

    def _batch(self) -> list[_Waiting]:
        """The next commands to send: those that were cancelled or have waited too long are left out."""
        batch: list[_Waiting] = []
        now = self._loop.time() if self._loop else 0.0
        while self._waiting and len(batch) < _TOGETHER:
            waiting = self._waiting.popleft()
            if waiting.until < now:
                late = TimeoutError(f"no turn within {self._timeout} seconds")
                _hand_out([waiting], [failure(late, executed=False)])
            elif not waiting.reply.done():
                batch.append(waiting)
        return batch

    async def _converse(self, connection: Any, commands: Sequence[Command]) -> list[Any]:  # noqa: ANN401 - redis-py's
        steps = conversation(commands)
        sending = next(steps)
        try:
            while True:
                sending = steps.send(await self._exchange(connection, sending))
        except StopIteration as done:
            replies: list[Any] = done.value
            return replies

    async def _exchange(self, connection: Any, commands: Sequence[Command]) -> list[Any]:  # noqa: ANN401
        """A reply for each command: what the server said, be it an error, or a `Lost` where it said nothing."""
        replies: list[Any] = []
        whole = False
        try:
            async with asyncio.timeout(self._timeout):
                packed = [part for command in commands for part in connection.pack_command(*command)]
                await connection.send_packed_command(packed)
                for _ in commands:
                    try:
                        replies.append(await connection.read_response(disable_decoding=True, timeout=math.inf))
                    except (ResponseError, BusyLoadingError, AuthenticationError) as error:
                        replies.append(error)
            whole = True
        except Exception as error:  # noqa: BLE001 - as above; BaseExceptions pass, the connection is closed all the same
            replies += [Lost(error)] * (len(commands) - len(replies))
        finally:
            if not whole:
                await connection.disconnect(nowait=True)
        return replies


class AsyncMemoryStore:
    """The memory store, awaited."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def close(self) -> None:
        """Nothing to let go of."""

    async def read(self, key: bytes) -> State:
        return self._store.read(key)

    async def write(self, write: Write) -> Answer:
        return self._store.write(write)

    async def delete(self, key: bytes) -> bool:
        return self._store.delete(key)

    async def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        return self._store.read_many(keys)

    async def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        return self._store.write_many(writes)


def _hand_out(batch: Sequence[_Waiting], replies: Sequence[Any]) -> None:
    for waiting, reply in zip(batch, replies, strict=True):
        if not waiting.reply.done():  # a cancelled call wants none
            waiting.reply.set_result(reply)


def _raised(reply: Any) -> Any:  # noqa: ANN401 - as it was asked for
    if isinstance(reply, StoreError):
        raise reply
    return reply
