"""The store in Redis or Valkey, for threads and processes: one server, a Sentinel's primary, or a cluster.

Rules:
- One command, one round trip. It is sent again only where that is safe, and only while the call's time lasts: `timeout`
  is for everything, connecting and trying again included. In a batch it is the longest wait for each reply.
- A server known to be down is not asked (`breaker.py`).
- What is said, what the answers mean and what may be repeated stands in `redis_protocol.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any

import redis
from redis.exceptions import MaxConnectionsError, ReadOnlyError

from retarget.errors import StoreError
from retarget.stores.redis.breaker import Breaker
from retarget.stores.redis.connection import Lanes
from retarget.stores.redis.protocol import BATCH, TRIES, Ask, Lost, deleting, packed, reading, told, writing
from retarget.stores.redis.slots import Address, Slots
from retarget.stores.redis.target import Target, target_of_client, target_of_cluster, target_of_url
from retarget.timelines import Answer, Health, State, Write


class RedisStore:
    """Visitors in Redis or Valkey, on connections of its own, with the settings of a URL or of a client given.

    `timeout` is the seconds one call may take in all.
    """

    def __init__(self, client: redis.Redis | redis.RedisCluster | Target, timeout: float = 0.1) -> None:
        self._timeout = timeout
        self._slots: Slots | None = None
        self._servers: dict[Address | None, _Server] = {}
        self._client = client  # a Sentinel's pool must outlive the connections made by its settings
        target = self._target = _target(client, timeout)
        if target.start is not None:
            self._slots = Slots(target.start)
        else:
            self._servers[None] = _Server(target.name, Lanes(target.connection, target.most))

    @classmethod
    def from_url(cls, url: str, timeout: float) -> RedisStore:
        """A store with connections of its own. Raises ConfigError."""
        return cls(target_of_url(url, timeout, awaited=False), timeout)

    def close(self) -> None:
        for server in list(self._servers.values()):
            server.lanes.close()
        for sentinel in self._target.sentinels:
            sentinel.close()

    def health(self) -> tuple[Health, ...]:
        return tuple(server.breaker.health() for server in list(self._servers.values()))

    def read(self, key: bytes) -> State:
        state: State = self._one(reading(key))
        return state

    def write(self, write: Write) -> Answer:
        answer: Answer = self._one(writing(write))
        return answer

    def delete(self, key: bytes) -> bool:
        return bool(self._one(deleting(key)))

    def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        return self._many(map(reading, keys))

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        return self._many(map(writing, writes))

    def _one(self, ask: Ask) -> Any:  # noqa: ANN401 - as the ask reads it
        self._run([ask], None)
        if isinstance(ask.answer, StoreError):
            raise ask.answer
        return ask.answer

    def _many(self, asks: Iterable[Ask]) -> list[Any]:
        remaining, answers = iter(asks), []
        while batch := list(islice(remaining, BATCH)):
            self._run(batch, self._timeout)
            answers += [ask.answer for ask in batch]
        return answers

    def _run(self, asks: list[Ask], patience: float | None) -> None:
        """Bring every ask to its answer."""
        end = monotonic() + self._timeout
        for _ in range(TRIES):
            if self._slots is None:
                self._servers[None].serve(asks, end, patience)
            else:
                self._serve_by_slot(self._slots, asks, end, patience)
            asks = [ask for ask in asks if ask.again]
            if not asks:
                return
            if patience is not None:
                end = monotonic() + patience
            elif monotonic() >= end:
                return

    def _serve_by_slot(self, slots: Slots, asks: Sequence[Ask], end: float, patience: float | None) -> None:
        if slots.due(monotonic()):
            self._look(slots, end)
        groups: dict[Address, list[Ask]] = {}
        for ask in asks:
            groups.setdefault(ask.moved or slots.of(ask.key), []).append(ask)
        for address, group in groups.items():
            self._server(address).serve(group, end, patience)
            for ask in group:
                if ask.elsewhere:
                    slots.doubt()
                if ask.moved and not ask.asking:
                    slots.moved(ask.key, ask.moved)

    def _look(self, slots: Slots, end: float) -> None:
        """Learn which server has which slot, from the first that says; each may take half of what time is left."""
        for address in list(slots.known):
            now = monotonic()
            ask = Ask(b"", ("CLUSTER", "SLOTS"), partial(slots.learn, asked=address))
            self._server(address).serve([ask], now + (end - now) / 2, None)
            if not isinstance(ask.answer, StoreError):
                return

    def _server(self, address: Address) -> _Server:
        server = self._servers.get(address)
        if server is None:
            lanes = Lanes(partial(self._target.connection, address), self._target.most)
            server = self._servers.setdefault(address, _Server(f"{address[0]}:{address[1]}", lanes))
        return server


class _Server:
    """One server: its lanes, and whether it is worth asking."""

    def __init__(self, name: str, lanes: Lanes) -> None:
        self.lanes = lanes
        self.breaker = Breaker(name)

    def serve(self, asks: Sequence[Ask], end: float, patience: float | None) -> None:
        """Let each ask hear what the server says to it, or why it says nothing."""
        breaker, now = self.breaker, monotonic()
        if breaker.failures:
            share = breaker.share(now)
            if not share:
                for ask in asks:
                    ask.give_up(breaker.said())
                return
            end = now + (end - now) * share
        try:
            lane = self.lanes.take(end)
        except Exception as error:  # noqa: BLE001 - a credential provider may raise anything; the policy's answer applies all the same
            if not isinstance(error, MaxConnectionsError):  # too many callers say nothing about the server
                breaker.failed(told(error), monotonic())
            for ask in asks:
                ask.hear(Lost(error, sent=False))
            return
        try:
            data, whose = packed(asks)
            replies = lane.exchange(data, len(whose), end, patience)
            last = replies[-1]
            if isinstance(last, Lost):
                breaker.failed(told(last.error), monotonic())
            elif breaker.failures:
                breaker.answered()
            for asked, reply in zip(whose, replies, strict=True):
                if asked is not None:
                    asked.hear(reply)
            if isinstance(last, ReadOnlyError):  # no primary any more: who asks a Sentinel again finds the new one
                lane.close()
                self.lanes.renew()
        finally:
            self.lanes.give(lane)


def _target(client: redis.Redis | redis.RedisCluster | Target, timeout: float) -> Target:
    if isinstance(client, Target):
        return client
    return target_of_client(client, timeout) if isinstance(client, redis.Redis) else target_of_cluster(client, timeout)
