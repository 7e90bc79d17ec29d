"""The store in Redis or Valkey for asyncio: one server, a Sentinel's primary, or a cluster.

Rules:
- Concurrent calls share a connection and are pipelined (`async_connection`). Batches have a connection of their own, so
  that a call never waits behind a thousand others.
- A call's `timeout` includes connecting and retries. In a batch, it is the longest time without any reply.
- A server that is down only gets probes (`breaker`). What may be retried: `protocol`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import redis.asyncio

from retarget.errors import ConfigError, StoreError
from retarget.stores.redis.async_connection import AsyncConnection
from retarget.stores.redis.breaker import Breaker
from retarget.stores.redis.protocol import (
    Answered,
    Call,
    Command,
    Resend,
    deleting,
    reading,
    slot_map,
    value_or_error,
    writing,
)
from retarget.stores.redis.slots import BY_MAP, Address, Slots
from retarget.stores.redis.target import Target, check_decoding, server_name, target_of_cluster, target_of_url
from retarget.timelines import Answer, Health, State, Write


class AsyncRedisStore:
    """An `AsyncStore` in Redis or Valkey, for one event loop.

    `timeout` is the seconds that one call may take in all. Raises ConfigError for a client that cannot be used.
    """

    def __init__(self, client: redis.asyncio.Redis | redis.asyncio.RedisCluster | Target, timeout: float = 0.1) -> None:
        self._timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots: Slots | None = None
        self._nodes: dict[Address | None, _AsyncNode] = {}
        self._closing = False
        self._refreshing: asyncio.Task[None] | None = None
        self._awaiting_map: list[Call] = []
        self._target: Target | None = None
        if isinstance(client, redis.asyncio.Redis):
            check_decoding(client.connection_pool.connection_kwargs)
            self._pool = client.connection_pool
            return
        self._target = client if isinstance(client, Target) else target_of_cluster(client, timeout)
        if self._target.startup_nodes is not None:
            self._slots = Slots(self._target.startup_nodes)

    @classmethod
    def from_url(cls, url: str, timeout: float) -> AsyncRedisStore:
        """A store for that URL. Nothing is sent yet. Raises ConfigError."""
        return cls(target_of_url(url, timeout, is_async=True), timeout)

    async def close(self) -> None:
        self._closing = True  # what is in flight gets its result and is not sent again
        if self._refreshing is not None:
            self._refreshing.cancel()
            self._refreshing = None
        for call in self._awaiting_map:
            self._settle(call)
        self._awaiting_map = []
        for node in self._nodes.values():
            node.calls.close()
            node.batches.close()
        self._closing = False
        await asyncio.sleep(0)  # transports close in the next iteration of the loop
        for sentinel in self._target.sentinels if self._target is not None else ():
            await sentinel.aclose()

    def health(self) -> tuple[Health, ...]:
        return tuple(node.breaker.health() for node in self._nodes.values())

    async def read(self, key: bytes) -> State:
        state: State = _raise_error(await self._submit(reading(key)))
        return state

    async def write(self, write: Write) -> Answer:
        answer: Answer = _raise_error(await self._submit(writing(write)))
        return answer

    async def delete(self, key: bytes) -> bool:
        return bool(_raise_error(await self._submit(deleting(key))))

    async def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        return [await future for future in [self._submit(reading(key), math.inf) for key in keys]]

    async def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        return [await future for future in [self._submit(writing(write), math.inf) for write in writes]]

    def _submit(self, command: Command, timeout: float | None = None) -> asyncio.Future[Any]:
        """Send it; the future gets its value or a StoreError. An infinite `timeout` marks a call of a batch."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        elif loop is not asyncio.get_running_loop():
            raise ConfigError("this AsyncRetargeter belongs to another event loop; make one in each loop")
        future: asyncio.Future[Any] = loop.create_future()
        self._route(Call(command, future, loop.time() + (self._timeout if timeout is None else timeout)))
        return future

    def _route(self, call: Call) -> None:
        """Give it to the server that owns the visitor, unless that server is down."""
        slots, address = self._slots, None
        if slots is not None:
            address = call.result.route.to or slots.primary(call.command.key)
            self._refresh_if_due(slots)
        node = self._nodes.get(address) or self._new_node(address)
        if node.breaker.failures and not self._admit(call, node.breaker):
            return
        (node.batches if call.deadline == math.inf else node.calls).submit(call)

    def _admit(self, call: Call, breaker: Breaker) -> bool:
        assert self._loop is not None  # noqa: S101 - set by the first call
        now = self._loop.time()
        share = breaker.share(now)
        if not share:
            call.withdraw(breaker.reason())
            self._settle(call)
            return False
        if share < 1 and call.deadline != math.inf:
            call.deadline = now + (call.deadline - now) * share
        return True

    def _settle(self, call: Call) -> None:
        """It has a new result: send it again, or give it to the caller."""
        slots, result = self._slots, call.result
        if slots is not None and result.route is not BY_MAP:
            slots.note(call.command.key, result.route)
        if call.future.done():  # cancelled
            return
        if not isinstance(result, Resend) or self._closing or call.deadline <= call.future.get_loop().time():
            call.future.set_result(value_or_error(result))
        elif slots is not None and result.route.doubtful and not result.route.to:
            self._refresh_if_due(slots)
            if self._refreshing is None:
                self._route(call)
            else:
                self._awaiting_map.append(call)
        else:
            self._route(call)

    def _refresh_if_due(self, slots: Slots) -> None:
        assert self._loop is not None  # noqa: S101 - set by the first call
        if self._refreshing is None and slots.due(self._loop.time()):
            self._refreshing = self._loop.create_task(self._refresh(slots))

    async def _refresh(self, slots: Slots) -> None:
        """Update the slot map from the first server that answers; each may take a quarter of a call's time."""
        loop = asyncio.get_running_loop()
        for address in list(slots.nodes):
            node = self._nodes.get(address) or self._new_node(address)
            call = Call(slot_map(slots, address), loop.create_future(), loop.time() + self._timeout / 4)
            if not node.breaker.failures or self._admit(call, node.breaker):
                node.calls.submit(call)
            await call.future
            if isinstance(call.result, Answered):
                break
        self._refreshing = None
        waiting, self._awaiting_map = self._awaiting_map, []
        for call in waiting:
            self._route(call)

    def _new_node(self, address: Address | None) -> _AsyncNode:
        assert self._loop is not None  # noqa: S101 - set by the first call
        connect: Callable[[], Awaitable[Any]]
        if self._target is not None:
            name = self._target.name if address is None else f"{address[0]}:{address[1]}"
            connect, release = partial(_connected, self._target, address), None
        else:
            pool: Any = self._pool
            name, connect, release = server_name(pool.connection_kwargs), pool.get_connection, pool.release
        breaker = Breaker(name)
        make = partial(AsyncConnection, self._loop, connect, breaker, self._timeout, self._settle, release=release)
        node = self._nodes[address] = _AsyncNode(breaker, make(), make(batch=True))
        return node


class _AsyncNode(NamedTuple):
    """One server: its breaker, and one connection each for calls and for batches."""

    breaker: Breaker
    calls: AsyncConnection
    batches: AsyncConnection


async def _connected(target: Target, address: Address | None) -> Any:  # noqa: ANN401 - redis.asyncio's
    connection = target.connection(address)
    await connection.connect()
    return connection


def _raise_error(value: Any) -> Any:  # noqa: ANN401 - as the command decodes it
    if isinstance(value, StoreError):
        raise value
    return value
