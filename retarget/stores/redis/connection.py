"""Lanes: connections on which commands are sent and replies read, for threads.

Rules:
- redis-py opens a connection: its address, TLS, name and password. From then on the lane has the socket, and hiredis
  reads: each wait ends when the call's time does, and nothing is sent again unseen.
- A lane on which anything went wrong between sending and the whole reply is closed, whatever went wrong, an interrupt
  included: the next caller never reads another visitor's answer. Nor is one used that holds a reply nobody waited for.
- A lane that an interrupt lost is no longer counted once it is collected: nothing here counts up and down.
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

from retarget.stores.redis.protocol import MORE, PUSH, Lost, new_reader

_LEAST = 0.001
"""Seconds: a call whose time is over still looks whether the reply is there."""

_SIZE = 65_536


class Lane:
    """One open connection. Used by one thread at a time."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - redis-py's
        self.connection = connection
        self._sock = connection._sock
        self._reader = new_reader()
        self._poll = select.poll()
        self._poll.register(self._sock, select.POLLIN)

    def exchange(self, packed: bytes, count: int, end: float, patience: float | None = None) -> list[Any]:
        """A reply for each command: what the server said, be it an error, or a `Lost` where it said nothing.

        All is over at `end`; with `patience` instead, so many seconds after the server was last heard.
        """
        replies: list[Any] = []
        sock, reader = self._sock, self._reader
        whole = False
        try:
            sock.settimeout(max(end - monotonic(), _LEAST))
            sock.sendall(packed)
            while len(replies) < count:
                reply = reader.gets(False)  # noqa: FBT003 - not decoded
                if reply is MORE:
                    sock.settimeout(max(end - monotonic(), _LEAST) if patience is None else patience)
                    data = sock.recv(_SIZE)
                    if not data:
                        raise RedisConnectionError("the server closed the connection")  # noqa: TRY301 - one way to fail
                    reader.feed(data)
                elif not isinstance(reply, PUSH):
                    replies.append(reply)
            whole = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the policy's answer applies all the same
            replies += [Lost(_named(error), sent=True)] * (count - len(replies))
        finally:
            if not whole:
                self.close()
        return replies

    def is_clean(self) -> bool:
        """Whether the connection is open and holds nothing that nobody waited for."""
        if self._reader.has_data():
            return False
        if not self._poll.poll(0):
            return True
        try:  # TLS says things of its own; anything else is a late reply, or the end
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
        self._sock = None
        self.connection.disconnect()


class Lanes:
    """The lanes to one server, kept between calls, at most so many. A process that forks begins with none."""

    def __init__(self, connection: Callable[[], Any], most: int) -> None:
        self._connection = connection
        self._most = most
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._connections: WeakSet[Any] = WeakSet()
        self._idle: SimpleQueue[Lane] = SimpleQueue()

    def close(self) -> None:
        self.renew()

    def renew(self) -> None:
        try:
            while True:
                self._idle.get_nowait().close()
        except Empty:
            return

    def take(self, end: float) -> Lane:
        if self._process != os.getpid():
            self._begin()
        while True:
            try:
                lane = self._idle.get_nowait()
            except Empty:
                opened = self._open(end)
                if opened is not None:
                    return opened
                lane = self._wait(end)
            if lane.is_clean():
                return lane
            lane.close()
            self._connections.discard(lane.connection)

    def give(self, lane: Lane) -> None:
        if lane.is_open:
            self._idle.put(lane)
        else:
            self._connections.discard(lane.connection)

    def _wait(self, end: float) -> Lane:
        try:
            return self._idle.get(timeout=max(end - monotonic(), 0))
        except Empty:
            raise MaxConnectionsError(f"all {self._most} connections are in use") from None

    def _open(self, end: float) -> Lane | None:
        """Another lane; None where there are as many as may be."""
        with self._lock:
            if len(self._connections) >= self._most:
                return None
            connection = self._connection()
            self._connections.add(connection)
        connection.socket_connect_timeout = connection.socket_timeout = max(end - monotonic(), _LEAST)
        try:
            connection.connect()
            return Lane(connection)
        except BaseException:
            self._connections.discard(connection)
            connection.disconnect()
            raise


def _named(error: Exception) -> Exception:
    """A socket's errors under the names that redis-py gives them."""
    if isinstance(error, TimeoutError):
        return RedisTimeoutError("the server did not answer in time")
    return RedisConnectionError(f"the connection broke: {error}") if isinstance(error, OSError) else error
