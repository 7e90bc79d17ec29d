"""A TCP proxy in front of a server: each command meets the fault that a test has chosen.

A fault is a function of an `Exchange`: it may forward the command, send the reply or a part of it, wait, or reset. So a
test knows exactly whether a command reached the server, and how much of its reply reached the client. Commands pass one
at a time per connection; what a client pipelines waits.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import BinaryIO, TypeAlias

from tests.support.nodes import quiet_port
from tests.support.servers import PATIENCE

GREETINGS = frozenset({"CLIENT", "HELLO", "AUTH", "SELECT", "READONLY", "COMMAND", "CLUSTER", "PING", "INFO"})
"""What a client sends on its own when it connects; faults for single commands let these pass."""

Fault: TypeAlias = Callable[["Exchange"], None]


class Exchange:
    """One command in transit, and what a fault may do with it."""

    def __init__(self, raw: bytes, name: str, client: socket.socket, link: _Link, over: threading.Event) -> None:
        self.raw, self.name, self._client, self._link, self._over = raw, name, client, link, over

    def ask(self) -> bytes:
        """Forward the command; the server's whole reply."""
        return self._link.ask(self.raw, self.name)

    def send(self, reply: bytes) -> None:
        """Send this to the client."""
        self._client.sendall(reply)

    def wait(self, seconds: float) -> None:
        """Wait; hang up if the proxy stops in the meantime."""
        if self._over.wait(seconds):
            raise _HungUpError

    def mute(self) -> None:
        """Send nothing more on this connection: replies come in order, so those after a lost one are lost too."""
        raise _MuteError

    def close(self) -> None:
        """Hang up as a server that ends does (FIN)."""
        raise _HungUpError

    def reset(self) -> None:
        """Break the connection as a server that crashes does (RST)."""
        _reset(self._client)
        raise _HungUpError


class _HungUpError(Exception):
    """The connection is over."""


class _MuteError(Exception):
    """The connection stays open, and nothing more is sent on it."""


# -- faults ------------------------------------------------------------------------------------------------------------


def passing(exchange: Exchange) -> None:
    """No fault."""
    exchange.send(exchange.ask())


def stalled(exchange: Exchange) -> None:
    """The command is swallowed: it never reaches the server, and no reply comes. The connection stays open."""
    exchange.mute()


def silent(exchange: Exchange) -> None:
    """The command is executed, and no reply comes. The connection stays open."""
    exchange.ask()
    exchange.mute()


def closed_before(exchange: Exchange) -> None:
    """FIN before the server has seen the command."""
    exchange.close()


def reset_before(exchange: Exchange) -> None:
    """RST before the server has seen the command."""
    exchange.reset()


def closed_after(exchange: Exchange) -> None:
    """Executed; FIN instead of the reply."""
    exchange.ask()
    exchange.close()


def reset_after(exchange: Exchange) -> None:
    """Executed; RST instead of the reply."""
    exchange.ask()
    exchange.reset()


def half_then_silence(exchange: Exchange) -> None:
    """Executed; the first half of the reply, and nothing more. The connection stays open."""
    _half(exchange)
    exchange.mute()


def half_then_closed(exchange: Exchange) -> None:
    """Executed; the first half of the reply, then FIN."""
    _half(exchange)
    exchange.close()


def half_then_reset(exchange: Exchange) -> None:
    """Executed; the first half of the reply, then RST."""
    _half(exchange)
    exchange.reset()


def _half(exchange: Exchange) -> None:
    reply = exchange.ask()
    exchange.send(reply[: len(reply) // 2])


def late(seconds: float) -> Fault:
    """Executed at once; the reply comes this many seconds later."""

    def fault(exchange: Exchange) -> None:
        reply = exchange.ask()
        exchange.wait(seconds)
        exchange.send(reply)

    return fault


def trickled(pause: float) -> Fault:
    """Executed at once; the reply comes byte by byte, with a pause (seconds) before each."""

    def fault(exchange: Exchange) -> None:
        for byte in exchange.ask():
            exchange.wait(pause)
            exchange.send(bytes([byte]))

    return fault


def answered(reply: bytes) -> Fault:
    """Not executed; this is the reply."""

    def fault(exchange: Exchange) -> None:
        exchange.send(reply)

    return fault


def on(fault: Fault, *names: str) -> Fault:
    """The fault for commands of these names (without names: for all but greetings); the others pass."""

    def chosen(exchange: Exchange) -> None:
        meant = exchange.name in names if names else exchange.name not in GREETINGS
        (fault if meant else passing)(exchange)

    return chosen


# -- the proxy ---------------------------------------------------------------------------------------------------------


class Proxy:
    """Listens on its own port in front of the server at `target`; `fault` and `once` may be set at any time."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, quiet_port()
        self.fault: Fault = passing
        self.forwarded: list[str] = []
        """The names of the commands sent to the server, without greetings."""
        self.arrived: list[str] = []
        """The names of the commands sent by the client, without greetings."""
        self._next: deque[Fault] = deque()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._clients: set[socket.socket] = set()
        self._over = threading.Event()

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def once(self, *faults: Fault) -> None:
        """The next commands other than greetings meet these faults, one each; those after them meet `fault`."""
        with self._lock:
            self._next.extend(faults)

    def only(self, n: int, fault: Fault) -> None:
        """The n-th command from now on (from 1) meets the fault; those before it pass."""
        self.once(*[passing] * (n - 1), fault)

    def start(self) -> None:
        """Listen, on the same port each time."""
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._begin(self._accept, self._listener, self._over)

    def stop(self) -> None:
        """Refuse connections, reset the open ones, and wait until all threads have ended."""
        self._over.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()
            self._listener = None
        self.cut()
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                raise TimeoutError("a thread of the proxy did not end")

    def cut(self) -> None:
        """Reset every open connection; new ones are accepted."""
        with self._lock:
            clients, self._clients = self._clients, set()
        for client in clients:
            with contextlib.suppress(OSError):
                _reset(client)
                client.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it

    def __enter__(self) -> Proxy:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _begin(self, work: Callable[..., None], *given: object) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True)
        self._threads = [running for running in self._threads if running.is_alive()]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, over: threading.Event) -> None:
        while not over.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._clients.add(client)
            self._begin(self._serve, client, over)

    def _serve(self, client: socket.socket, over: threading.Event) -> None:
        with contextlib.suppress(OSError, _HungUpError, ValueError), client, _Link(self.target, self.forwarded) as link:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client.makefile("rb") as lines:
                try:
                    for raw, name in _commands(lines):
                        if name not in GREETINGS:
                            self.arrived.append(name)
                        self._fault(name)(Exchange(raw, name, client, link, over))
                except _MuteError:
                    while lines.read1(65_536):
                        pass
        with self._lock:
            self._clients.discard(client)

    def _fault(self, name: str) -> Fault:
        with self._lock:
            return self._next.popleft() if self._next and name not in GREETINGS else self.fault


class _Link:
    """One connection to the server, opened on first use."""

    def __init__(self, target: int, forwarded: list[str]) -> None:
        self._target, self._forwarded = target, forwarded
        self._socket: socket.socket | None = None
        self._lines: BinaryIO | None = None

    def __enter__(self) -> _Link:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._lines, self._socket):
            if end is not None:
                end.close()

    def ask(self, raw: bytes, name: str) -> bytes:
        if self._socket is None or self._lines is None:
            self._socket = socket.create_connection(("127.0.0.1", self._target), PATIENCE)
            self._lines = self._socket.makefile("rb")
        self._socket.sendall(raw)
        if name not in GREETINGS:
            self._forwarded.append(name)
        reply = b"".join(_reply(self._lines))
        if not reply:
            raise _HungUpError
        return reply


def _commands(lines: BinaryIO) -> Iterator[tuple[bytes, str]]:
    """The commands that a client sends, each as its bytes and its name."""
    while True:
        raw = b"".join(_reply(lines))
        if not raw:
            return
        yield raw, raw.split(b"\r\n", 3)[2].decode().upper()


def _reply(lines: BinaryIO) -> Iterator[bytes]:
    """The pieces of one value in RESP2 or RESP3; none where the connection ended."""
    line = lines.readline()
    yield line
    kind, length = line[:1], line[1:-2]
    if kind in b"$=!" and kind and length != b"-1":
        yield lines.read(int(length) + 2)
    elif kind in b"*~>%|" and kind and length != b"-1":
        for _ in range(int(length) * (2 if kind in b"%|" else 1)):
            yield from _reply(lines)


def _reset(connection: socket.socket) -> None:
    """Close with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
