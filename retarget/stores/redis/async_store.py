"""The store in Redis or Valkey for asyncio: one server, a Sentinel's primary, or a cluster.

Rules:
- Concurrent calls share a connection and a pipeline (`async_lanes.py`); lists have one of their own, so that a call
  never waits behind a thousand others.
- A call's time is `timeout`, connecting and trying again included; of a list, the longest time that nothing is heard.
- A server known to be down is not asked (`breaker.py`). What may be sent again stands in `redis_protocol.py`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import redis.asyncio

from retarget.errors import ConfigError, StoreError
from retarget.stores.redis.async_connection import AsyncLane
from retarget.stores.redis.breaker import Breaker
from retarget.stores.redis.protocol import TRIES, Ask, deleting, reading, writing
from retarget.stores.redis.slots import Address, Slots
from retarget.stores.redis.target import Target, check_decoding, server_name, target_of_cluster, target_of_url
from retarget.timelines import Answer, Health, State, Write


class AsyncRedisStore:
    """Visitors in Redis or Valkey, for one event loop. `timeout` is the seconds one call may take in all."""

    def __init__(self, client: redis.asyncio.Redis | redis.asyncio.RedisCluster | Target, timeout: float = 0.1) -> None:
        self._timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots: Slots | None = None
        self._servers: dict[Address | None, _Server] = {}
        self._closing = False
        self._looking: asyncio.Task[None] | None = None
        self._lookers: list[Ask] = []
        self._target: Target | None = None
        if isinstance(client, redis.asyncio.Redis):
            check_decoding(client.connection_pool.connection_kwargs)
            self._pool = client.connection_pool
            return
        self._target = client if isinstance(client, Target) else target_of_cluster(client, timeout)
        if self._target.start is not None:
            self._slots = Slots(self._target.start)

    @classmethod
    def from_url(cls, url: str, timeout: float) -> AsyncRedisStore:
        """A store with connections of its own. Raises ConfigError."""
        return cls(target_of_url(url, timeout, awaited=True), timeout)

    async def close(self) -> None:
        self._closing = True  # what is in flight is answered, not sent again
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        for ask in self._lookers:
            self._settle(ask)
        self._lookers = []
        for server in self._servers.values():
            server.calls.close()
            server.lists.close()
        self._closing = False
        await asyncio.sleep(0)  # transports end in the next turn of the loop
        for sentinel in self._target.sentinels if self._target is not None else ():
            await sentinel.aclose()

    def health(self) -> tuple[Health, ...]:
        return tuple(server.breaker.health() for server in self._servers.values())

    async def read(self, key: bytes) -> State:
        state: State = _raised(await self._ask(reading(key)))
        return state

    async def write(self, write: Write) -> Answer:
        answer: Answer = _raised(await self._ask(writing(write)))
        return answer

    async def delete(self, key: bytes) -> bool:
        return bool(_raised(await self._ask(deleting(key))))

    async def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        return [await reply for reply in [self._ask(reading(key), math.inf) for key in keys]]

    async def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        return [await reply for reply in [self._ask(writing(write), math.inf) for write in writes]]

    def _ask(self, ask: Ask, timeout: float | None = None) -> asyncio.Future[Any]:
        """Send it. The reply comes as it was asked for, or as the StoreError it amounts to."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        elif loop is not asyncio.get_running_loop():
            raise ConfigError("this AsyncRetargeter belongs to another event loop; make one in each loop")
        reply = ask.reply = loop.create_future()
        ask.end = loop.time() + (self._timeout if timeout is None else timeout)
        self._route(ask)
        return reply

    def _route(self, ask: Ask) -> None:
        """Hand it to the server that has the visitor, unless that is known to be down."""
        slots, address = self._slots, None
        if slots is not None:
            address = ask.moved or slots.of(ask.key)
            self._look_if_due(slots)
        server = self._servers.get(address) or self._new_server(address)
        if server.breaker.failures and not self._admitted(ask, server.breaker):
            return
        (server.lists if ask.end == math.inf else server.calls).submit(ask)

    def _admitted(self, ask: Ask, breaker: Breaker) -> bool:
        assert self._loop is not None  # noqa: S101 - set by the first call
        now = self._loop.time()
        share = breaker.share(now)
        if not share:
            ask.give_up(breaker.said())
            self._settle(ask)
            return False
        if share < 1 and ask.end != math.inf:
            ask.end = now + (ask.end - now) * share
        return True

    def _settle(self, ask: Ask) -> None:
        """It heard something: send it again, or hand out its answer."""
        slots = self._slots
        if slots is not None:
            if ask.elsewhere:
                slots.doubt()
            if ask.moved and not ask.asking:
                slots.moved(ask.key, ask.moved)
        if ask.reply.done():  # cancelled: nobody wants it
            return
        if self._closing or not ask.again or ask.end <= ask.reply.get_loop().time():
            ask.reply.set_result(ask.answer)
        elif slots is not None and ask.elsewhere and not ask.moved:
            self._look_if_due(slots)
            if self._looking is None:
                self._route(ask)
            else:
                self._lookers.append(ask)
        else:
            self._route(ask)

    def _look_if_due(self, slots: Slots) -> None:
        assert self._loop is not None  # noqa: S101 - set by the first call
        if self._looking is None and slots.due(self._loop.time()):
            self._looking = self._loop.create_task(self._look(slots))

    async def _look(self, slots: Slots) -> None:
        """Learn which server has which slot, from the first that says; each may take a quarter of a call's time."""
        for address in list(slots.known):
            server = self._servers.get(address) or self._new_server(address)
            ask = Ask(b"", ("CLUSTER", "SLOTS"), partial(slots.learn, asked=address))
            ask.tries = TRIES  # once: another server may know as well
            ask.reply = asyncio.get_running_loop().create_future()
            ask.end = asyncio.get_running_loop().time() + self._timeout / 4
            if not server.breaker.failures or self._admitted(ask, server.breaker):
                server.calls.submit(ask)
            if not isinstance(await ask.reply, StoreError):
                break
        self._looking = None
        waiting, self._lookers = self._lookers, []
        for ask in waiting:
            self._route(ask)

    def _new_server(self, address: Address | None) -> _Server:
        assert self._loop is not None  # noqa: S101 - set by the first call
        connect: Callable[[], Awaitable[Any]]
        if self._target is not None:
            name = self._target.name if address is None else f"{address[0]}:{address[1]}"
            connect, release = partial(_connected, self._target, address), None
        else:
            pool: Any = self._pool
            name, connect, release = server_name(pool.connection_kwargs), pool.get_connection, pool.release
        breaker = Breaker(name)
        make = partial(AsyncLane, self._loop, connect, breaker, self._timeout, self._settle, release=release)
        server = self._servers[address] = _Server(breaker, make(), make(patient=True))
        return server


class _Server(NamedTuple):
    """One server: whether it is worth asking, and its two lanes."""

    breaker: Breaker
    calls: AsyncLane
    lists: AsyncLane


async def _connected(target: Target, address: Address | None) -> Any:  # noqa: ANN401 - redis.asyncio's
    connection = target.connection(address)
    await connection.connect()
    return connection


def _raised(reply: Any) -> Any:  # noqa: ANN401 - as it was asked for
    if isinstance(reply, StoreError):
        raise reply
    return reply
