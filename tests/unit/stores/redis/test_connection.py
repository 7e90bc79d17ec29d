"""connection.py: one exchange at a time on a connection, each ended by its deadline; no call reads another's reply."""

from __future__ import annotations

import gc
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, MaxConnectionsError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from retarget.errors import StoreError
from retarget.stores.redis import RedisStore, connection
from retarget.stores.redis.connection import Connection, ConnectionPool
from retarget.stores.redis.protocol import Lost, new_reader
from retarget.stores.redis.target import target_of_url
from tests.support import servers
from tests.support.servers import PATIENCE, Server

PING = b"*1\r\n$4\r\nPING\r\n"


class Pipe:
    """An open connection as redis-py has one; the test holds the other end."""

    def __init__(self) -> None:
        self._sock, self.peer = socket.socketpair()
        self.open = True

    def disconnect(self) -> None:
        """Close our end."""
        self.open = False
        self._sock.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A connection whose other end the test holds."""
    pipe = Pipe()
    yield pipe
    pipe.disconnect()
    pipe.peer.close()


def soon() -> float:
    """A deadline that only a broken run reaches."""
    return monotonic() + PATIENCE


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Run `work` in a thread at the same time."""
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive()


def kinds(replies: list[Any]) -> list[Any]:
    """Replies; a lost one as the class of its error and whether the command was sent."""
    return [(type(reply.error), reply.sent) if isinstance(reply, Lost) else reply for reply in replies]


# -- one exchange ------------------------------------------------------------------------------------------------------


def test_replies_come_in_order_and_errors_are_values(pipe: Pipe) -> None:
    """One for each command; a push message answers none of them."""
    pipe.peer.sendall(b":1\r\n>2\r\n+invalidate\r\n_\r\n-ERR no\r\n$3\r\nabc\r\n*2\r\n:1\r\n$-1\r\n")
    ours = Connection(pipe)
    first, error, *others = ours.exchange(PING * 4, 4, soon())
    assert (first, others) == (1, [b"abc", [1, None]])
    assert isinstance(error, ResponseError)
    assert pipe.peer.recv(1_000) == PING * 4
    assert ours.is_open
    assert ours.is_clean()


def test_a_reply_that_does_not_come_is_lost_at_the_deadline(pipe: Pipe) -> None:
    """Earlier replies stand; the connection is closed, since the rest may come late."""
    ours = Connection(pipe)
    pipe.peer.sendall(b":1\r\n$5\r\nab")
    assert kinds(ours.exchange(PING * 3, 3, monotonic() + 0.05)) == [1, *[(RedisTimeoutError, True)] * 2]
    assert not ours.is_open
    assert not pipe.open


def test_a_reply_that_trickles_in_is_given_up_at_the_deadline(pipe: Pipe) -> None:
    """With a byte now and then no single wait is long, but the deadline holds for all of them."""
    ours, over = Connection(pipe), threading.Event()

    def trickle() -> None:
        pipe.peer.sendall(b"$1000\r\n")
        while not over.wait(0.01):
            try:
                pipe.peer.send(b"x")
            except OSError:
                return

    with meanwhile(trickle):
        started = monotonic()
        assert kinds(ours.exchange(PING, 1, started + 0.1)) == [(RedisTimeoutError, True)]
        assert 0.1 <= monotonic() - started < PATIENCE / 2
        over.set()


def test_an_idle_timeout_replaces_the_deadline(pipe: Pipe) -> None:
    """The deadline is long past; each wait may take as long as the idle timeout, and silence for so long ends it."""
    ours = Connection(pipe)
    reply = b"$40\r\n" + b"x" * 40 + b"\r\n"

    def trickle() -> None:
        for place in range(len(reply)):
            pipe.peer.sendall(reply[place : place + 1])
            threading.Event().wait(0.005)

    with meanwhile(trickle):
        assert ours.exchange(PING, 1, monotonic() - 1, idle_timeout=PATIENCE) == [b"x" * 40]
    assert kinds(ours.exchange(PING, 1, monotonic() + PATIENCE, idle_timeout=0.05)) == [(RedisTimeoutError, True)]


def test_a_call_past_its_deadline_takes_a_reply_that_is_there(pipe: Pipe) -> None:
    """It looks once more before it gives up."""
    pipe.peer.sendall(b":7\r\n")
    assert Connection(pipe).exchange(PING, 1, monotonic() - 1) == [7]


@pytest.mark.parametrize("data", [b"", b":1\r\n", b":1\r\n$9\r\nhalf"])
def test_a_server_that_hangs_up(pipe: Pipe, data: bytes) -> None:
    """Whole replies stand, the rest is lost."""
    pipe.peer.sendall(data)
    pipe.peer.shutdown(socket.SHUT_WR)
    replies = kinds(Connection(pipe).exchange(PING * 2, 2, soon()))
    assert replies == ([1] if data else []) + [(RedisConnectionError, True)] * (1 if data else 2)
    assert not pipe.open


def test_a_broken_socket_is_a_connection_error(pipe: Pipe) -> None:
    """The operating system's error, under redis-py's name."""
    ours = Connection(pipe)
    pipe.peer.close()
    (lost,) = ours.exchange(PING, 1, soon())
    assert kinds([lost]) == [(RedisConnectionError, True)]
    assert "the connection broke" in str(lost.error)


def test_what_is_not_resp_ends_the_connection(pipe: Pipe) -> None:
    """A proxy that speaks something else."""
    pipe.peer.sendall(b"HTTP/1.1 400 Bad Request\r\n")
    assert kinds(Connection(pipe).exchange(PING, 1, soon())) == [(InvalidResponse, True)]
    assert not pipe.open


def test_a_server_that_does_not_read_is_given_up(pipe: Pipe) -> None:
    """The command does not even leave; since a part of it may have, it counts as sent."""
    assert kinds(Connection(pipe).exchange(b"x" * 20_000_000, 1, monotonic() + 0.05)) == [(RedisTimeoutError, True)]


# -- clean or not ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [b"+late\r\n", b"+", b">2\r\n+invalidate\r\n_\r\n"])
def test_an_unexpected_reply_makes_it_unclean(pipe: Pipe, left: bytes) -> None:
    """Unread on the socket, or received together with the last reply and not used."""
    ours = Connection(pipe)
    assert ours.is_clean()
    pipe.peer.sendall(b":1\r\n")
    assert ours.exchange(PING, 1, soon()) == [1]
    pipe.peer.sendall(left)
    assert not ours.is_clean()
    other = Pipe()
    other.peer.sendall(b":1\r\n" + left)
    ours = Connection(other)
    assert ours.exchange(PING, 1, soon()) == [1]
    assert not ours.is_clean()
    other.disconnect()
    other.peer.close()


def test_a_closed_connection_is_unclean(pipe: Pipe) -> None:
    """The server closed it."""
    ours = Connection(pipe)
    pipe.peer.close()
    assert not ours.is_clean()


class Tls:
    """A TLS socket that received something that is not data (a session ticket, say), or that broke."""

    def __init__(self, inner: socket.socket, error: type[OSError]) -> None:
        self.inner, self.error = inner, error
        self.waits: list[float] = []

    def fileno(self) -> int:
        """The descriptor."""
        return self.inner.fileno()

    def settimeout(self, seconds: float) -> None:
        """How long it may wait."""
        self.waits.append(seconds)

    def recv(self, size: int) -> bytes:
        """No data."""
        raise self.error


@pytest.mark.parametrize(("error", "clean"), [(ssl.SSLWantReadError, True), (ConnectionResetError, False)])
def test_a_message_of_tls_itself_does_not_make_it_unclean(pipe: Pipe, error: type[OSError], *, clean: bool) -> None:
    """The socket is readable, and yet there is no reply; it is not waited for. A reset is the end."""
    inner = pipe._sock
    pipe._sock = tls = Tls(inner, error)  # type: ignore[assignment]
    pipe.peer.sendall(b"ticket")
    assert Connection(pipe).is_clean() is clean
    assert tls.waits == [0]
    pipe._sock = inner


# -- the pool ----------------------------------------------------------------------------------------------------------


@contextmanager
def pool_of(url: str, limit: int = 2) -> Iterator[ConnectionPool]:
    """A pool for that address."""
    pool = ConnectionPool(target_of_url(url, PATIENCE, is_async=False).connection, limit)
    yield pool
    pool.close_idle()


def test_a_server_that_speaks_first_is_not_opened_again_and_again() -> None:
    """One with too many clients does: each call opens one connection and gets what the server said as its reply."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []

        def refuse() -> None:
            for _ in range(2):
                accepted.append(listener.accept()[0])
                accepted[-1].sendall(b"-ERR max number of clients reached\r\n")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        with pool_of(f"redis://127.0.0.1:{listener.getsockname()[1]}") as pool:
            make = pool._make

            def make_patient() -> Any:
                made = make()
                connect = made.connect

                def connect_and_wait() -> None:
                    connect()
                    select.select([made._sock], [], [], PATIENCE)  # until the server has spoken

                made.connect = connect_and_wait
                return made

            pool._make = make_patient
            ours = pool.acquire(soon())
            assert "max number of clients" in str(ours.exchange(PING, 1, soon())[0])
            assert len(accepted) == 1
            pool.release(ours)
            socket.create_connection(listener.getsockname()).close()
            thread.join(PATIENCE)
        for each in accepted:
            each.close()


def test_a_late_reply_is_never_read_by_the_next_call() -> None:
    """It timed out and the reply came afterwards: the next call has another connection, and its own reply."""
    late = threading.Event()

    def answer(command: list[bytes]) -> bytes:
        if command[1] == b"one":
            late.wait(PATIENCE)
        return b"+of " + command[1] + b"\r\n"

    with servers.fake(answer) as fake, pool_of(fake.url) as pool:
        for name in (b"one", b"two"):
            ours = pool.acquire(soon())
            deadline = monotonic() + (0.05 if name == b"one" else PATIENCE)
            replies = ours.exchange(b"*2\r\n$3\r\nGET\r\n$3\r\n%b\r\n" % name, 1, deadline)
            pool.release(ours)
            late.set()
    assert replies == [b"of two"]


def test_a_connection_is_used_again(server: Server) -> None:
    """Call after call on one connection; none is opened anew."""
    with pool_of(server.url) as pool:
        first = pool.acquire(soon())
        for _ in range(20):
            assert first.exchange(PING, 1, soon())[0] is not None
            pool.release(first)
            assert pool.acquire(soon()) is first


def test_an_unclean_connection_is_not_used_again(server: Server) -> None:
    """It is closed and another one is opened, also for a call that waited for it."""
    with pool_of(server.url, limit=1) as pool:
        ours = pool.acquire(soon())
        ours.connection._sock.sendall(PING)
        ours._poll.poll(PATIENCE * 1_000)
        pool.release(ours)
        other = pool.acquire(soon())
        assert other is not ours
        assert not ours.is_open

        def release_unclean() -> None:
            other.connection._sock.sendall(PING)
            other._poll.poll(PATIENCE * 1_000)
            pool.release(other)

        with meanwhile(lambda: threading.Timer(0.05, release_unclean).start()):
            waited = pool.acquire(monotonic() + PATIENCE)
        assert waited is not other
        assert waited.is_clean()
        pool.release(waited)


def test_at_the_limit_a_call_waits_for_one_to_be_released(server: Server) -> None:
    """All in use: an error at the call's deadline, or the connection that was released in time."""
    with pool_of(server.url) as pool:
        acquired = [pool.acquire(soon()) for _ in range(2)]
        started = monotonic()
        with pytest.raises(MaxConnectionsError, match="all 2 connections are in use"):
            pool.acquire(started + 0.05)
        assert monotonic() - started < PATIENCE / 2
        with meanwhile(lambda: threading.Timer(0.05, pool.release, [acquired[0]]).start()):
            assert pool.acquire(soon()) is acquired[0]
        for ours in acquired:
            pool.release(ours)


def test_a_connection_that_was_lost_frees_its_slot(server: Server) -> None:
    """Never released (an interrupt): once it is collected, another may be opened."""
    with pool_of(server.url, limit=1) as pool:
        ours = pool.acquire(soon())
        ours.close()
        del ours
        gc.collect()
        pool.release(pool.acquire(soon()))


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}", "unix:///nowhere/at-all"])
def test_a_connection_that_cannot_be_opened_frees_its_slot(url: str) -> None:
    """However often: the error is the connection's own, never that too many are in use."""
    with pool_of(url.format(port=servers.free_port()), limit=1) as pool:
        for _ in range(5):
            with pytest.raises((RedisConnectionError, RedisTimeoutError)) as raised:
                pool.acquire(soon())
            assert not isinstance(raised.value, MaxConnectionsError)


def test_connecting_ends_at_the_deadline() -> None:
    """A server that accepts and does not answer to the password."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://:geheim@127.0.0.1:{listener.getsockname()[1]}"
        with pool_of(url) as pool:
            started = monotonic()
            with pytest.raises((RedisConnectionError, RedisTimeoutError)):
                pool.acquire(started + 0.1)
            assert monotonic() - started < PATIENCE / 2


def test_closing_the_idle_ones_leaves_the_pool_usable(server: Server) -> None:
    """Those in use stay open. A retargeter that was closed still answers."""
    with pool_of(server.url) as pool:
        idle, used = pool.acquire(soon()), pool.acquire(soon())
        pool.release(idle)
        pool.close_idle()
        assert (idle.is_open, used.is_open) == (False, True)
        pool.release(used)
        assert pool.acquire(soon()) is used
        pool.release(used)


def test_a_process_starts_with_none_after_a_fork(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent's connections are the parent's: neither used nor closed."""
    with pool_of(server.url, limit=1) as pool:
        ours = pool.acquire(soon())
        pool.release(ours)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        other = pool.acquire(soon())
        assert other is not ours
        assert ours.is_open
        pool.release(other)
        ours.close()


def test_threads_share_them(server: Server) -> None:
    """Eight threads on two connections: each gets its own replies, and no more are opened."""
    with pool_of(server.url) as pool:
        failed: list[object] = []

        def work(number: int) -> None:
            key = b"rt:key-%d" % number
            command = b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n" % (len(key), key)
            for _ in range(100):
                ours = pool.acquire(soon())
                replies = ours.exchange(command, 1, soon())
                pool.release(ours)
                if replies != [[b"n", b"%d" % number]]:
                    failed.append(replies)

        with server.client() as client:
            for number in range(8):
                client.hset(f"rt:key-{number}", "n", number)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert failed == []
        assert len(pool._opened) == 2


# -- interrupts --------------------------------------------------------------------------------------------------------


class Interrupting:
    """A hiredis reader whose n-th `gets` is interrupted."""

    def __init__(self, at: int, interrupt: type[BaseException]) -> None:
        self.inner, self.left, self.interrupt = new_reader(), at, interrupt

    def feed(self, data: bytes) -> None:
        """Take received bytes."""
        self.inner.feed(data)

    def has_data(self) -> bool:
        """Whether something is unread."""
        return bool(self.inner.has_data())

    def gets(self, decode: bool) -> object:  # noqa: FBT001
        """One reply, or the interrupt."""
        self.left -= 1
        if self.left == 0:
            raise self.interrupt
        return self.inner.gets(decode)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("at", [1, 2, 4])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_after_an_interrupted_exchange_the_next_visitor_gets_their_own_data(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    interrupt: type[BaseException],
    at: int,
    protocol: int,
    own: bool,  # noqa: FBT001
) -> None:
    """Interrupted between sending and the whole reply, alone or in a batch: what is left unread answers no call."""
    readers = iter([Interrupting(at, interrupt)])
    monkeypatch.setattr(connection, "new_reader", lambda: next(readers, None) or new_reader())
    with server.client(protocol=protocol) as client, server.client() as other:
        for n in range(5):
            other.hset(f"rt:k{n}", "ia", str(n))
        store = RedisStore.from_url(server.url, 1) if own else RedisStore(client)
        keys = [b"rt:k%d" % n for n in range(5)]
        with suppress(interrupt):
            answers = [answer for answer in store.read_many(keys) if not isinstance(answer, StoreError)]
            assert answers == [{b"ia": b"%d" % n} for n in range(len(answers))] or len(answers) == 5
        assert [store.read(key) for key in keys] == [{b"ia": b"%d" % n} for n in range(5)]
        assert list(store.read_many(keys)) == [{b"ia": b"%d" % n} for n in range(5)]
        store.close()
