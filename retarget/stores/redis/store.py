"""The store in Redis or Valkey, for threads and processes: one server, a Sentinel's primary, or a cluster.

Rules:
- A call is one command, one round trip. It is sent again only where that is safe, and only within the call's `timeout`,
  which includes connecting and retries. In a batch, `timeout` is the longest wait for each reply.
- A server that is down only gets probes (`breaker`).
- Commands, results, and what may be retried: `protocol`.
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
from retarget.stores.redis.connection import ConnectionPool
from retarget.stores.redis.protocol import (
    BATCH,
    Answered,
    Call,
    Command,
    Lost,
    Resend,
    deleting,
    describe,
    encode,
    reading,
    slot_map,
    value_or_error,
    writing,
)
from retarget.stores.redis.slots import BY_MAP, Address, Slots
from retarget.stores.redis.target import Target, target_of_client, target_of_cluster, target_of_url
from retarget.timelines import Answer, Health, State, Write


class RedisStore:
    """A `Store` in Redis or Valkey, on connections of its own, with the settings of a URL or of the given client.

    `timeout` is the seconds that one call may take in all. Threads may share it. Raises ConfigError for a client that
    cannot be used.
    """

    def __init__(self, client: redis.Redis | redis.RedisCluster | Target, timeout: float = 0.1) -> None:
        self._timeout = timeout
        self._slots: Slots | None = None
        self._nodes: dict[Address | None, _Node] = {}
        self._client = client  # a Sentinel's pool must outlive the connections made from its settings
        target = self._target = _target(client, timeout)
        if target.startup_nodes is not None:
            self._slots = Slots(target.startup_nodes)
        else:
            self._nodes[None] = _Node(target.name, ConnectionPool(target.connection, target.max_connections))

    @classmethod
    def from_url(cls, url: str, timeout: float) -> RedisStore:
        """A store for that URL. Nothing is sent yet. Raises ConfigError."""
        return cls(target_of_url(url, timeout, is_async=False), timeout)

    def close(self) -> None:
        for node in list(self._nodes.values()):
            node.pool.close_idle()
        for sentinel in self._target.sentinels:
            sentinel.close()

    def health(self) -> tuple[Health, ...]:
        return tuple(node.breaker.health() for node in list(self._nodes.values()))

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

    def _one(self, command: Command) -> Any:  # noqa: ANN401 - as the command decodes it
        call = Call(command)
        self._run([call], None)
        result = call.result
        if isinstance(result, Answered):
            return result.value
        raise result.error

    def _many(self, commands: Iterable[Command]) -> list[Any]:
        remaining, values = map(Call, commands), []
        while batch := list(islice(remaining, BATCH)):
            self._run(batch, self._timeout)
            values += [value_or_error(call.result) for call in batch]
        return values

    def _run(self, calls: list[Call], idle_timeout: float | None) -> None:
        """Send every call until it is answered, has failed, or the time is over."""
        deadline = monotonic() + self._timeout
        while True:  # `interpret` bounds the attempts
            if self._slots is None:
                self._nodes[None].send(calls, deadline, idle_timeout)
            else:
                self._send_by_slot(self._slots, calls, deadline, idle_timeout)
            calls = [call for call in calls if isinstance(call.result, Resend)]
            if not calls:
                return
            if idle_timeout is not None:
                deadline = monotonic() + idle_timeout
            elif monotonic() >= deadline:
                return

    def _send_by_slot(self, slots: Slots, calls: Sequence[Call], deadline: float, idle_timeout: float | None) -> None:
        if slots.due(monotonic()):
            self._refresh(slots, deadline)
        groups: dict[Address, list[Call]] = {}
        for call in calls:
            address = call.result.route.to or slots.primary(call.command.key)
            groups.setdefault(address, []).append(call)
        for address, group in groups.items():
            self._node(address).send(group, deadline, idle_timeout)
            for call in group:
                if call.result.route is not BY_MAP:
                    slots.note(call.command.key, call.result.route)

    def _refresh(self, slots: Slots, deadline: float) -> None:
        """Update the slot map from the first server that answers; each may take half of the remaining time."""
        for address in list(slots.nodes):
            now = monotonic()
            call = Call(slot_map(slots, address))
            self._node(address).send([call], now + (deadline - now) / 2, None)
            if isinstance(call.result, Answered):
                return

    def _node(self, address: Address) -> _Node:
        node = self._nodes.get(address)
        if node is None:
            pool = ConnectionPool(partial(self._target.connection, address), self._target.max_connections)
            node = self._nodes.setdefault(address, _Node(f"{address[0]}:{address[1]}", pool))
        return node


class _Node:
    """One server: its connections and its breaker."""

    def __init__(self, name: str, pool: ConnectionPool) -> None:
        self.pool = pool
        self.breaker = Breaker(name)

    def send(self, calls: Sequence[Call], deadline: float, idle_timeout: float | None) -> None:
        """Send the calls together; each receives its reply, or the reason why there is none."""
        breaker, now = self.breaker, monotonic()
        if breaker.failures:
            share = breaker.share(now)
            if not share:
                for call in calls:
                    call.withdraw(breaker.reason())
                return
            deadline = now + (deadline - now) * share
        try:
            connection = self.pool.acquire(deadline)
        except Exception as error:  # noqa: BLE001 - credential providers raise anything; `on_store_error` still applies
            if not isinstance(error, MaxConnectionsError):  # too many callers say nothing about the server
                breaker.failed(describe(error), monotonic())
            for call in calls:
                call.receive(Lost(error, sent=False))
            return
        try:
            data, receivers = encode(calls)
            replies = connection.exchange(data, len(receivers), deadline, idle_timeout)
            last = replies[-1]
            if isinstance(last, Lost):
                breaker.failed(describe(last.error), monotonic())
            elif breaker.failures:
                breaker.answered()
            for receiver, reply in zip(receivers, replies, strict=True):
                if receiver is not None:
                    receiver.receive(reply)
            # No longer the primary: reconnect, so that Sentinel can name the new one.
            if isinstance(last, ReadOnlyError):
                connection.close()
                self.pool.close_idle()
        finally:
            self.pool.release(connection)


def _target(client: redis.Redis | redis.RedisCluster | Target, timeout: float) -> Target:
    if isinstance(client, Target):
        return client
    return target_of_client(client, timeout) if isinstance(client, redis.Redis) else target_of_cluster(client, timeout)
