"""The store in Redis or Valkey, for threads and processes.

Rules:
- One command, one round trip, no hidden repeat: commands go straight to a connection of the client's pool, so that no
  retry of the client applies, and it is known what had been sent when something failed.
- A connection on which anything went wrong between sending and the whole reply is closed, whatever went wrong: the
  next caller never reads another visitor's answer.
- What is said, and what the answers mean, stands in `redis_protocol.py`.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import redis
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

from retarget.changes import Answer, Write
from retarget.errors import ConfigError, RetargetWarning, StoreError
from retarget.redis_protocol import (
    BATCH,
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
from retarget.store import State

_CURE = (
    "let retarget build the client (give it the URL), or give it redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0))"
)


class RedisStore:
    """Visitors in a Redis or Valkey server. A client given is used as it is; a URL gets one that serves well."""

    def __init__(self, client: redis.Redis, *, own: bool = False) -> None:
        check_decoding(client)
        if not own:
            warn_of(client)
        self._client = client
        self._pool = client.connection_pool
        self._lanes = _Lanes(self._pool, keep=own)
        self._own = own

    @classmethod
    def from_url(cls, url: str, timeout: float) -> RedisStore:
        """A store with a client of its own: no retries, every wait at most `timeout` seconds, up to 64 connections."""
        try:
            pool = redis.BlockingConnectionPool.from_url(url, **client_options(timeout))
        except (ValueError, TypeError, RedisError) as error:
            raise ConfigError(
                f"the store's URL cannot be used: {error}; write redis://localhost:6379/0 or memory://"
            ) from error
        return cls(redis.Redis(connection_pool=pool), own=True)

    def close(self) -> None:
        self._lanes.give_back()
        if self._own:
            self._client.close()
            self._pool.disconnect()

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
        reply = self._run([ask])[0]
        if isinstance(reply, StoreError):
            raise reply
        return reply

    def _many(self, asks: Iterable[Ask]) -> list[Any]:
        remaining, replies = iter(asks), []
        while batch := list(islice(remaining, BATCH)):
            replies += self._run(batch)
        return replies

    def _run(self, asks: Sequence[Ask]) -> list[Any]:
        """Ask on one connection; for each its reply, or the StoreError it met."""
        try:
            connection = self._lanes.take()
        except Exception as error:  # noqa: BLE001 - a pool may raise anything; the policy's answer applies all the same
            return [failure(error, executed=False)] * len(asks)
        try:
            steps = conversation([ask.command for ask in asks])
            commands = next(steps)
            while True:
                commands = steps.send(self._exchange(connection, commands))
        except StopIteration as done:
            return [told(reply, ask) for reply, ask in zip(done.value, asks, strict=True)]
        finally:
            self._lanes.give(connection)

    def _exchange(self, connection: Any, commands: Sequence[Command]) -> list[Any]:  # noqa: ANN401 - redis-py's own
        """A reply for each command: what the server said, be it an error, or a `Lost` where it said nothing."""
        replies: list[Any] = []
        whole = False
        try:
            connection.send_packed_command([part for c in commands for part in connection.pack_command(*c)])
            for _ in commands:
                try:
                    replies.append(connection.read_response(disable_decoding=True))
                except (ResponseError, BusyLoadingError, AuthenticationError) as error:
                    replies.append(error)
            whole = True
        except Exception as error:  # noqa: BLE001 - as above; BaseExceptions pass, the connection is closed all the same
            replies += [Lost(error)] * (len(commands) - len(replies))
        finally:
            if not whole:
                connection.disconnect()
        return replies


class _Lanes:
    """Connections of the client's pool, kept between calls: a quarter of a call's time is redis-py's own book-keeping.

    Only of a pool that is ours (`keep`): others may wait for the connections of a pool that was given. While a thread
    of ours waits for the pool, connections go back to it. A connection that was closed, or that holds an answer nobody
    waited for, is opened anew. A process that forks begins with none.
    """

    def __init__(self, pool: Any, *, keep: bool) -> None:  # noqa: ANN401 - any of redis-py's pools
        self._pool = pool
        self._keep = keep
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._waiting = 0
        self._process = os.getpid()

    def take(self) -> Any:  # noqa: ANN401 - redis-py's connection
        """A connection ready to send on. Raises whatever the pool raises."""
        if self._process != os.getpid():
            self._lock, self._idle, self._waiting, self._process = threading.Lock(), [], 0, os.getpid()
        with self._lock:
            connection = self._idle.pop() if self._idle else None
            self._waiting += connection is None
        if connection is None:
            try:
                return self._pool.get_connection()
            finally:
                with self._lock:
                    self._waiting -= 1
        try:
            if not _is_clean(connection):
                connection.disconnect()
                connection.connect()
        except BaseException:
            self._pool.release(connection)
            raise
        return connection

    def give(self, connection: Any) -> None:  # noqa: ANN401
        """Keep the connection for the next call, or let one who waits for the pool have it."""
        with self._lock:
            if self._keep and not self._waiting:
                self._idle.append(connection)
                return
        self._pool.release(connection)

    def give_back(self) -> None:
        """Return all to the pool."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            self._pool.release(connection)


def _is_clean(connection: Any) -> bool:  # noqa: ANN401
    """Whether the connection is open and holds nothing unread."""
    try:
        return connection.is_connected and not connection.can_read()
    except (RedisError, OSError):  # the server has closed it
        return False


def check_decoding(client: Any) -> None:  # noqa: ANN401 - sync or async
    """Refuse a client whose answers are texts. Raises ConfigError."""
    if client.connection_pool.connection_kwargs.get("decode_responses"):
        raise ConfigError(
            f"this client decodes responses, which breaks packed timelines: decode_responses=False; or {_CURE}"
        )


def warn_of(client: Any) -> None:  # noqa: ANN401 - sync or async
    """Warn of a client that breaks a promise, at the line of whoever made the retargeter."""
    options = client.connection_pool.connection_kwargs
    retry = options.get("retry")
    if retry is not None and retry.get_retries() > 0:
        warnings.warn(
            f"this client retries by itself ({retry.get_retries()} times), so a dead server holds each call: {_CURE}",
            RetargetWarning,
            stacklevel=5,
        )
    if options.get("socket_timeout") is None or options["socket_timeout"] > 1:
        warnings.warn(
            "this client waits more than a second for a reply, and so will every ad request when the server stalls: "
            "give it socket_timeout=0.1 and socket_connect_timeout=0.1",
            RetargetWarning,
            stacklevel=5,
        )
