"""Servers that a test may kill, stop and restart on the same port, alone or in a cluster."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.servers import PATIENCE, program
from tests.support.waiting import until

_FIRST_PORT, _PORTS, _BUS = 11_000, 10_000, 10_000
_numbers = itertools.count(os.getpid() * 37)


def quiet_port() -> int:
    """A port that nobody listens on, nor on the one 10,000 above it (a cluster's bus).

    It lies below the ports that the system gives to outgoing connections: one of those could take the port of a server
    that is down, or a client trying to reach it could connect to itself.
    """
    for number in itertools.islice(_numbers, _PORTS):
        port = _FIRST_PORT + number % _PORTS
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):  # noqa: SIM117 - the second after the first
            with socket.create_server(("127.0.0.1", port + _BUS)):
                return port
    raise OSError("no free port")


class Node:
    """One server. Options are those of its command line, without dashes; they override the defaults here."""

    def __init__(self, name: str, folder: Path, options: Mapping[str, str], *, port: int = 0) -> None:
        self.name, self.folder, self.port = name, folder, port or quiet_port()
        self.options: dict[str, str] = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(folder),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            **options,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<{self.name} on {self.port}>"

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def command(self) -> list[str]:
        """The command that starts it."""
        return [program(self.name), *(word for key, value in self.options.items() for word in (f"--{key}", value))]

    @property
    def running(self) -> bool:
        """Whether its process exists, stopped or not."""
        return self.process is not None and self.process.poll() is None

    def client(self, **options: Any) -> redis.Redis:
        """A client that does not retry."""
        given = {"retry": Retry(NoBackoff(), 0), "socket_timeout": PATIENCE, "protocol": 2, **options}
        return redis.Redis(host="127.0.0.1", port=self.port, **given)

    def ask(self, *words: Any) -> Any:
        """One command on a connection of its own."""
        with self.client() as client:
            return client.execute_command(*words)

    def info(self, section: str) -> dict[str, Any]:
        """A section of INFO."""
        with self.client() as client:
            return dict(client.info(section))

    def start(self, *, ready: bool = True) -> None:
        """Start the process and wait until it answers; with `ready=False` the answer may be that it is loading."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: self._answers(ready=ready) or not self.running, f"{self} answers")
        if not self.running:
            raise RuntimeError(f"{self} did not start:\n{(self.folder / 'log').read_text()[-2_000:]}")

    def _answers(self, *, ready: bool) -> bool:
        try:
            return bool(self.ask("PING"))
        except redis.ConnectionError as error:
            return not ready and isinstance(error, redis.BusyLoadingError)
        except redis.ResponseError:  # MASTERDOWN and the like
            return True

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()  # works on a stopped process, too
            self.process.wait(PATIENCE)

    def restart(self, *, ready: bool = True) -> None:
        """`kill -9`, and start again with what is on disk."""
        self.kill()
        self.start(ready=ready)

    def pause(self) -> None:
        """SIGSTOP: the kernel still accepts connections and bytes for it, but nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: what arrived in the meantime is executed now."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def node(name: str, options: Mapping[str, str] = {}, *, port: int = 0) -> Iterator[Node]:
    """A running server with its own folder; both are removed at the end."""
    with folders() as folder:
        one = Node(name, folder, options, port=port)
        try:
            one.start()
            yield one
        finally:
            one.kill()


@contextmanager
def folders() -> Iterator[Path]:
    """A folder that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="rt-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
