"""lanes.py: one exchange after the other on a connection, each over when its time is; none reads another's answer."""

from __future__ import annotations

import gc
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from time import monotonic
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, MaxConnectionsError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from retarget.stores.redis.connection import Lane, Lanes
from retarget.stores.redis.protocol import Lost
from retarget.stores.redis.target import target_of_url
from tests.support import servers
from tests.support.servers import PATIENCE, Server

PING = b"*1\r\n$4\r\nPING\r\n"


class Pipe:
    """An open connection, as redis-py has one, whose other end the test holds."""

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
    """A moment that only a broken run gets to."""
    return monotonic() + PATIENCE


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Something that happens at the same time."""
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive()


def kinds(replies: list[Any]) -> list[Any]:
    """Replies, a lost one as the kind of error and whether it had been sent."""
    return [(type(reply.error), reply.sent) if isinstance(reply, Lost) else reply for reply in replies]


# -- one exchange ------------------------------------------------------------------------------------------------------


def test_replies_come_in_order_and_errors_are_values(pipe: Pipe) -> None:
    """One for each command; what a server says without being asked is nobody's."""
    pipe.peer.sendall(b":1\r\n>2\r\n+invalidate\r\n_\r\n-ERR no\r\n$3\r\nabc\r\n*2\r\n:1\r\n$-1\r\n")
    lane = Lane(pipe)
    first, error, *others = lane.exchange(PING * 4, 4, soon())
    assert (first, others) == (1, [b"abc", [1, None]])
    assert isinstance(error, ResponseError)
    assert pipe.peer.recv(1_000) == PING * 4
    assert lane.is_open
    assert lane.is_clean()


def test_a_reply_that_does_not_come_is_lost_when_the_time_is_over(pipe: Pipe) -> None:
    """What was answered before stands; the connection is closed, for the rest may come late."""
    lane = Lane(pipe)
    pipe.peer.sendall(b":1\r\n$5\r\nab")
    assert kinds(lane.exchange(PING * 3, 3, monotonic() + 0.05)) == [1, *[(RedisTimeoutError, True)] * 2]
    assert not lane.is_open
    assert not pipe.open


def test_a_reply_that_trickles_is_given_up_when_the_time_is_over(pipe: Pipe) -> None:
    """A byte now and then never lets one read last long, but all of it is over at its end."""
    lane, over = Lane(pipe), threading.Event()

    def trickle() -> None:
        pipe.peer.sendall(b"$1000\r\n")
        while not over.wait(0.01):
            try:
                pipe.peer.send(b"x")
            except OSError:
                return

    with meanwhile(trickle):
        begun = monotonic()
        assert kinds(lane.exchange(PING, 1, begun + 0.1)) == [(RedisTimeoutError, True)]
        assert 0.1 <= monotonic() - begun < PATIENCE / 2
        over.set()


def test_a_patient_one_waits_as_long_as_something_is_heard(pipe: Pipe) -> None:
    """Its end is over long since; each wait may last as long as its patience, and the last one does."""
    lane = Lane(pipe)
    reply = b"$40\r\n" + b"x" * 40 + b"\r\n"

    def trickle() -> None:
        for place in range(len(reply)):
            pipe.peer.sendall(reply[place : place + 1])
            threading.Event().wait(0.005)

    with meanwhile(trickle):
        assert lane.exchange(PING, 1, monotonic() - 1, patience=PATIENCE) == [b"x" * 40]
    assert kinds(lane.exchange(PING, 1, monotonic() + PATIENCE, patience=0.05)) == [(RedisTimeoutError, True)]


def test_a_call_whose_time_is_over_looks_once_more(pipe: Pipe) -> None:
    """A reply that is there is taken."""
    pipe.peer.sendall(b":7\r\n")
    assert Lane(pipe).exchange(PING, 1, monotonic() - 1) == [7]


@pytest.mark.parametrize("said", [b"", b":1\r\n", b":1\r\n$9\r\nhalf"])
def test_a_server_that_hangs_up(pipe: Pipe, said: bytes) -> None:
    """What it said before stands, the rest is lost."""
    pipe.peer.sendall(said)
    pipe.peer.shutdown(socket.SHUT_WR)
    replies = kinds(Lane(pipe).exchange(PING * 2, 2, soon()))
    assert replies == ([1] if said else []) + [(RedisConnectionError, True)] * (1 if said else 2)
    assert not pipe.open


def test_what_is_no_reply_ends_the_connection(pipe: Pipe) -> None:
    """A proxy that speaks something else."""
    pipe.peer.sendall(b"HTTP/1.1 400 Bad Request\r\n")
    assert kinds(Lane(pipe).exchange(PING, 1, soon())) == [(InvalidResponse, True)]
    assert not pipe.open


def test_a_server_that_does_not_read_is_given_up(pipe: Pipe) -> None:
    """The command does not even leave: lost, and as part of it may have left, as one that was sent."""
    assert kinds(Lane(pipe).exchange(b"x" * 20_000_000, 1, monotonic() + 0.05)) == [(RedisTimeoutError, True)]


# -- clean or not ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [b"+late\r\n", b"+", b">2\r\n+invalidate\r\n_\r\n"])
def test_a_reply_that_nobody_waited_for_makes_it_unclean(pipe: Pipe, left: bytes) -> None:
    """Unread on the socket, or read together with the last reply and not used."""
    lane = Lane(pipe)
    assert lane.is_clean()
    pipe.peer.sendall(b":1\r\n")
    assert lane.exchange(PING, 1, soon()) == [1]
    pipe.peer.sendall(left)
    assert not lane.is_clean()
    other = Pipe()
    other.peer.sendall(b":1\r\n" + left)
    lane = Lane(other)
    assert lane.exchange(PING, 1, soon()) == [1]
    assert not lane.is_clean()
    other.disconnect()
    other.peer.close()


def test_a_connection_that_was_closed_is_unclean(pipe: Pipe) -> None:
    """By the server, in order or not."""
    lane = Lane(pipe)
    pipe.peer.close()
    assert not lane.is_clean()


class Tls:
    """A socket over TLS on which something came that is no data: a new session's ticket, say."""

    def __init__(self, inner: socket.socket) -> None:
        self.inner, self.waits = inner, []  # type: tuple[socket.socket, list[float]]

    def fileno(self) -> int:
        """The descriptor."""
        return self.inner.fileno()

    def settimeout(self, seconds: float) -> None:
        """How long it may wait."""
        self.waits.append(seconds)

    def recv(self, size: int) -> bytes:
        """No data."""
        raise ssl.SSLWantReadError


def test_what_tls_says_for_itself_does_not_make_it_unclean(pipe: Pipe) -> None:
    """Something can be read from the socket, and yet there is no reply; it is not waited for."""
    inner = pipe._sock
    pipe._sock = tls = Tls(inner)  # type: ignore[assignment]
    pipe.peer.sendall(b"ticket")
    assert Lane(pipe).is_clean()
    assert tls.waits == [0]
    pipe._sock = inner


# -- lanes of our own --------------------------------------------------------------------------------------------------


def own(url: str, most: int = 2) -> Lanes:
    """Lanes to that address."""
    return Lanes(target_of_url(url, PATIENCE, awaited=False).connection, most)


def test_a_server_that_speaks_first_is_not_opened_again_and_again() -> None:
    """As one that has too many clients does: each call opens one connection, and what was said answers it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = own(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        accepted: list[socket.socket] = []

        def refuse() -> None:
            for _ in range(2):
                accepted.append(listener.accept()[0])
                accepted[-1].sendall(b"-ERR max number of clients reached\r\n")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        inner = made._connection

        def patient() -> Any:
            connection = inner()
            connect = connection.connect

            def connected() -> None:
                connect()
                select.select([connection._sock], [], [], PATIENCE)  # until the server has spoken

            connection.connect = connected
            return connection

        made._connection = patient
        lane = made.take(soon())
        assert "max number of clients" in str(lane.exchange(PING, 1, soon())[0])
        assert len(accepted) == 1
        made.give(lane)
        socket.create_connection(listener.getsockname()).close()
        thread.join(PATIENCE)
        made.close()
        for each in accepted:
            each.close()


def test_a_late_reply_is_never_read_by_the_next_call() -> None:
    """It timed out and the answer came after: the next call has a connection of its own, and its own answer."""
    late = threading.Event()

    def answer(command: list[bytes]) -> bytes:
        if command[1] == b"one":
            late.wait(PATIENCE)
        return b"+of " + command[1] + b"\r\n"

    with servers.fake(answer) as told, closing(own(told.url)) as made:
        for name in (b"one", b"two"):
            lane = made.take(soon())
            end = monotonic() + (0.05 if name == b"one" else PATIENCE)
            replies = lane.exchange(b"*2\r\n$3\r\nGET\r\n$3\r\n%b\r\n" % name, 1, end)
            made.give(lane)
            late.set()
    assert replies == [b"of two"]


def test_a_lane_is_used_again(server: Server) -> None:
    """One call after the other: one connection, the one given back last or first, but none opened anew."""
    with closing(own(server.url)) as made:
        first = made.take(soon())
        for _ in range(20):
            assert first.exchange(PING, 1, soon())[0] is not None
            made.give(first)
            assert made.take(soon()) is first


def test_an_unclean_lane_is_not_used_again(server: Server) -> None:
    """Closed, and another taken: also by one who waited for it."""
    with closing(own(server.url, most=1)) as made:
        lane = made.take(soon())
        lane.connection._sock.sendall(PING)
        lane._poll.poll(PATIENCE * 1_000)
        made.give(lane)
        other = made.take(soon())
        assert other is not lane
        assert not lane.is_open

        def give_unclean() -> None:
            other.connection._sock.sendall(PING)
            other._poll.poll(PATIENCE * 1_000)
            made.give(other)

        with meanwhile(lambda: threading.Timer(0.05, give_unclean).start()):
            waited = made.take(monotonic() + PATIENCE)
        assert waited is not other
        assert waited.is_clean()
        made.give(waited)


def test_no_more_than_so_many_and_one_is_waited_for(server: Server) -> None:
    """All in use: an error at the call's end, that says so; or the one given back in time."""
    with closing(own(server.url)) as made:
        taken = [made.take(soon()) for _ in range(2)]
        begun = monotonic()
        with pytest.raises(MaxConnectionsError, match="all 2 connections are in use"):
            made.take(begun + 0.05)
        assert monotonic() - begun < PATIENCE / 2
        with meanwhile(lambda: threading.Timer(0.05, made.give, [taken[0]]).start()):
            assert made.take(soon()) is taken[0]
        for lane in taken:
            made.give(lane)


def test_a_lane_that_was_lost_is_not_counted(server: Server) -> None:
    """Nobody gave it back (an interrupt): once it is collected there is room for another."""
    with closing(own(server.url, most=1)) as made:
        lane = made.take(soon())
        lane.close()
        del lane
        gc.collect()
        made.give(made.take(soon()))


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}", "unix:///nowhere/at-all"])
def test_what_cannot_be_opened_is_not_counted(url: str) -> None:
    """However often: the error is the connection's own, never that too many are in use."""
    with closing(own(url.format(port=servers.free_port()), most=1)) as made:
        for _ in range(5):
            with pytest.raises((RedisConnectionError, RedisTimeoutError)) as raised:
                made.take(soon())
            assert not isinstance(raised.value, MaxConnectionsError)


def test_connecting_ends_with_the_calls_time() -> None:
    """A server that accepts and says nothing on a password: opening takes no longer than the call may."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://:geheim@127.0.0.1:{listener.getsockname()[1]}"
        with closing(own(url)) as made:
            begun = monotonic()
            with pytest.raises((RedisConnectionError, RedisTimeoutError)):
                made.take(begun + 0.1)
            assert monotonic() - begun < PATIENCE / 2


@pytest.mark.parametrize("how", ["close", "renew"])
def test_what_is_kept_is_closed_and_may_be_opened_anew(server: Server, how: str) -> None:
    """The idle ones; those in use go on. A retargeter that was closed still answers."""
    made = own(server.url)
    idle, used = made.take(soon()), made.take(soon())
    made.give(idle)
    getattr(made, how)()
    assert (idle.is_open, used.is_open) == (False, True)
    made.give(used)
    assert made.take(soon()) is used
    made.give(used)
    made.close()


def test_a_process_that_forks_begins_with_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its parent opened is its parent's: neither used nor closed."""
    with closing(own(server.url, most=1)) as made:
        lane = made.take(soon())
        made.give(lane)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        other = made.take(soon())
        assert other is not lane
        assert lane.is_open
        made.give(other)
        lane.close()


def test_threads_share_them(server: Server) -> None:
    """Eight threads on two connections: each has its own answer, and no more are opened."""
    with closing(own(server.url)) as made:
        failed: list[object] = []

        def work(number: int) -> None:
            key = b"rt:key-%d" % number
            command = b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n" % (len(key), key)
            for _ in range(100):
                lane = made.take(soon())
                replies = lane.exchange(command, 1, soon())
                made.give(lane)
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
        assert len(made._connections) == 2
