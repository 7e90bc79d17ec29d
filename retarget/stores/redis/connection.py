"""Connections for threads: one exchange at a time on each, and a pool that keeps them between calls.

Rules:
- redis-py opens a connection: address, TLS, user and password. From then on we own the socket, and hiredis parses: each
  wait ends at the call's deadline, and nothing is sent again behind the caller's back.
- A connection on which anything went wrong between sending and the whole reply is closed, whatever it was, including
  an interrupt: the next caller never reads another visitor's reply. Nor is one used that holds an unexpected reply.
- Connections are weakly referenced, so one lost to an interrupt frees its slot: there is no counter to get wrong.
- Deadlines are seconds of `time.monotonic`.
"""

from __future__ import annotations

import os
import select
import ssl
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any
from weakref import WeakSet

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError
from redis.exceptions import TimeoutError as RedisTimeoutError

from retarget.stores.redis.protocol import INCOMPLETE, PUSH, Lost, new_reader

_MIN_WAIT = 0.001
"""Seconds: a call past its deadline still takes a reply that is already there."""

_RECEIVE_BYTES = 65_536


class Connection:
    """One open connection. Used by one thread at a time."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - redis-py's
        self.connection = connection
        self._sock = connection._sock
        self._reader = new_reader()
        self._poll = select.poll()
        self._poll.register(self._sock, select.POLLIN)

    def exchange(self, data: bytes, count: int, deadline: float, idle_timeout: float | None = None) -> list[Any]:
        """Send `data` and return `count` replies: values, errors of the server as values, or `Lost`.

        It ends at `deadline`; with `idle_timeout`, once the server has sent nothing for that many seconds instead.
        """
        replies: list[Any] = []
        sock, reader = self._sock, self._reader
        whole = False
        try:
            sock.settimeout(max(deadline - monotonic(), _MIN_WAIT))
            sock.sendall(data)
            while len(replies) < count:
                reply = reader.gets(False)  # noqa: FBT003 - not decoded
                if reply is INCOMPLETE:
                    wait = max(deadline - monotonic(), _MIN_WAIT) if idle_timeout is None else idle_timeout
                    sock.settimeout(wait)
                    received = sock.recv(_RECEIVE_BYTES)
                    if not received:
                        raise RedisConnectionError("the server closed the connection")  # noqa: TRY301 - one way to fail
                    reader.feed(received)
                elif not isinstance(reply, PUSH):
                    replies.append(reply)
            whole = True
        except Exception as error:  # noqa: BLE001 - whatever it is, `on_store_error` applies
            replies += [Lost(_as_redis_error(error), sent=True)] * (count - len(replies))
        finally:
            if not whole:
                self.close()
        return replies

    def is_clean(self) -> bool:
        """Whether the connection is open and holds no unexpected reply."""
        if self._reader.has_data():
            return False
        if not self._poll.poll(0):
            return True
        try:  # TLS has messages of its own; anything else is a late reply, or the end
            self._sock.settimeout(0)
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    @property
    def is_open(self) -> bool:
        """Whether nothing went wrong on it."""
        return self._sock is not None

    def close(self) -> None:
        """Close it; more than once is harmless."""
        self._sock = None
        self.connection.disconnect()


class ConnectionPool:
    """At most `limit` connections to one server, kept between calls. A process starts with none after a fork."""

    def __init__(self, make: Callable[[], Any], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._opened: WeakSet[Any] = WeakSet()
        self._idle: SimpleQueue[Connection] = SimpleQueue()

    def close_idle(self) -> None:
        """Close the connections that are not in use. The pool stays usable."""
        try:
            while True:
                self._idle.get_nowait().close()
        except Empty:
            return

    def acquire(self, deadline: float) -> Connection:
        """A clean connection. Raises MaxConnectionsError at the deadline, and whatever connecting raises."""
        if self._process != os.getpid():
            self._reset()
        while True:
            try:
                connection = self._idle.get_nowait()
            except Empty:
                opened = self._open(deadline)
                if opened is not None:
                    return opened
                connection = self._wait(deadline)
            if connection.is_clean():
                return connection
            connection.close()
            self._opened.discard(connection.connection)

    def release(self, connection: Connection) -> None:
        """Return a connection; a closed one frees its slot."""
        if connection.is_open:
            self._idle.put(connection)
        else:
            self._opened.discard(connection.connection)

    def _wait(self, deadline: float) -> Connection:
        try:
            return self._idle.get(timeout=max(deadline - monotonic(), 0))
        except Empty:
            raise MaxConnectionsError(f"all {self._limit} connections are in use") from None

    def _open(self, deadline: float) -> Connection | None:
        """A new connection; None if the limit is reached."""
        with self._lock:
            if len(self._opened) >= self._limit:
                return None
            connection = self._make()
            self._opened.add(connection)
        connection.socket_connect_timeout = connection.socket_timeout = max(deadline - monotonic(), _MIN_WAIT)
        try:
            connection.connect()
            return Connection(connection)
        except BaseException:
            self._opened.discard(connection)
            connection.disconnect()
            raise


def _as_redis_error(error: Exception) -> Exception:
    """A socket's errors as redis-py names them."""
    if isinstance(error, TimeoutError):
        return RedisTimeoutError("the server did not answer in time")
    return RedisConnectionError(f"the connection broke: {error}") if isinstance(error, OSError) else error
