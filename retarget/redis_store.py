"""The store in Redis or Valkey: read is one HGETALL, write is one EVALSHA.

Rules:
- One command, one round trip, no hidden repeat: commands go straight to a connection of the client's pool, so that no
  retry of the client applies, and it is known what had been sent when something failed.
- A connection on which anything went wrong between sending and the whole reply is closed, whatever went wrong: the
  next caller never reads another visitor's answer.
- Where the server does not know the script, the script is sent whole, once, to that same server.
- Errors are told apart by whether the write can have happened, and never carry a key.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from retarget import wire
from retarget.changes import Answer, Write
from retarget.errors import ConfigError, NotExecuted, OutcomeUnknown, RetargetWarning, StoreError
from retarget.store import State

_POOL = 64
_BATCH = 1_000
T = TypeVar("T")
_COMMAND = re.compile(r".* run the '[\w|]+' command")
_Command: TypeAlias = tuple[Any, ...]

_CURE = (
    "let retarget build the client (give it the URL), or give it redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0))"
)


class RedisStore:
    """Visitors in a Redis or Valkey server. A client given is used as it is; a URL gets one that serves well."""

    def __init__(self, client: redis.Redis, *, own: bool = False) -> None:
        _check_decoding(client)
        if not own:
            _warn_of(client)
        self._client = client
        self._pool = client.connection_pool
        self._lanes = _Lanes(self._pool, keep=own)
        self._own = own

    @classmethod
    def from_url(cls, url: str, timeout: float) -> RedisStore:
        """A store with a client of its own: no retries, every wait at most `timeout` seconds, up to 64 connections."""
        try:
            pool = redis.BlockingConnectionPool.from_url(
                url,
                max_connections=_POOL,
                timeout=timeout,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
            )
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
        return _one(self._run([("HGETALL", key)], _state, writes=False))

    def write(self, write: Write) -> Answer:
        command = ("EVALSHA", wire.SHA, 1, *wire.arguments(write))
        answer = self._run([command], _answer, writes=True)[0]
        if isinstance(answer, StoreError):
            raise answer
        return answer

    def delete(self, key: bytes) -> bool:
        return _one(self._run([("UNLINK", key)], bool, writes=True))

    def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        return self._in_batches([("HGETALL", key) for key in keys], _state, writes=False)

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        commands = [("EVALSHA", wire.SHA, 1, *wire.arguments(write)) for write in writes]
        return self._in_batches(commands, _answer, writes=True)

    def _in_batches(
        self, commands: Sequence[_Command], read: Callable[[Any], T], *, writes: bool
    ) -> list[T | StoreError]:
        batches = (commands[start : start + _BATCH] for start in range(0, len(commands), _BATCH))
        return [reply for batch in batches for reply in self._run(batch, read, writes=writes)]

    def _run(self, commands: Sequence[_Command], read: Callable[[Any], T], *, writes: bool) -> list[T | StoreError]:
        """Send the commands on one connection; for each its reply as `read` makes it, or the StoreError it met."""
        try:
            connection = self._lanes.take()
        except Exception as error:  # noqa: BLE001 - a pool may raise anything; the policy's answer applies all the same
            return [_failure(error, executed=False)] * len(commands)
        try:
            replies = self._exchange(connection, commands)
            unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                again = [commands[i] for i in unknown]
                again[0] = ("EVAL", wire.SCRIPT, *again[0][2:])  # the server knows it from then on
                for i, reply in zip(unknown, self._exchange(connection, again), strict=True):
                    replies[i] = reply
        finally:
            self._lanes.give(connection)
        return [_told(reply, read, writes=writes) for reply in replies]

    def _exchange(self, connection: Any, commands: Sequence[_Command]) -> list[Any]:  # noqa: ANN401 - redis-py's own
        """A reply for each command: what the server said, be it an error, or a `_Lost` where it said nothing."""
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
            replies += [_Lost(error)] * (len(commands) - len(replies))
        finally:
            if not whole:
                connection.disconnect()
        return replies


@dataclass(frozen=True, slots=True)
class _Lost:
    """No reply came, but this error."""

    error: Exception


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


def _check_decoding(client: redis.Redis) -> None:
    if client.connection_pool.connection_kwargs.get("decode_responses"):
        raise ConfigError(
            f"this client decodes responses, which breaks packed timelines: decode_responses=False; or {_CURE}"
        )


def _warn_of(client: redis.Redis) -> None:
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


def _one(replies: list[T | StoreError]) -> T:
    if isinstance(replies[0], StoreError):
        raise replies[0]
    return replies[0]


def _state(reply: Any) -> State:  # noqa: ANN401 - RESP2 gives pairs in a list, RESP3 a map
    if isinstance(reply, dict):
        return reply
    pairs = iter(reply)
    return dict(zip(pairs, pairs, strict=True))


def _answer(reply: object) -> Answer:
    if not isinstance(reply, bytes | int):
        raise TypeError(f"write.lua answered with {type(reply).__name__}")
    return reply


def _told(reply: Any, read: Callable[[Any], T], *, writes: bool) -> T | StoreError:  # noqa: ANN401
    """The reply as `read` makes it, or the error it amounts to."""
    if isinstance(reply, _Lost):
        return _failure(reply.error, executed=None if writes else False)
    if isinstance(reply, Exception):
        return _failure(reply, executed=False)
    try:
        return read(reply)
    except (TypeError, ValueError) as error:
        return _failure(error, executed=None if writes else False)


def _failure(error: Exception, *, executed: bool | None) -> StoreError:
    """Our error for theirs. `executed` is None where the write may have happened."""
    kind = OutcomeUnknown if executed is None else NotExecuted
    failure = kind(f"{type(error).__name__}: {_harmless(error)}")
    failure.__cause__ = error
    return failure


def _harmless(error: Exception) -> str:
    """What the error says without anything a key could stand in: servers quote keys and arguments in some of theirs."""
    if not isinstance(error, ResponseError):
        return str(error)
    command = _COMMAND.search(str(error))
    return command[0] if command else str(error).partition("'")[0].partition(",")[0]
