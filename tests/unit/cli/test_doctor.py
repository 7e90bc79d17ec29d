"""`retarget doctor`: its output and exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from retarget.cli import main
from retarget.operate.diagnosis import LEAST_RIGHTS, TOPICS
from tests.support import servers
from tests.support.servers import Server


def test_the_command_prints_what_is_found(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """The worst first, each with its reason and cure; exit code 1 for warnings. The JSON has the same."""
    patient = ["doctor", server.admin_url, "--timeout", str(servers.PATIENCE)]
    assert main(patient) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = [" ".join(line.split()) for line in printed.out.splitlines()]
    assert re.fullmatch(r"(Redis|Valkey) [\d.]+ at 127\.0\.0\.1:\d+: 1 warning, 3 notes", lines[0])
    assert lines[2] == "warning persistence nothing is saved to disk: a restart loses every visitor"
    assert lines[3] == TOPICS["persistence"]
    assert lines[4].startswith("CONFIG SET appendonly yes;")
    assert "ok write a write read back correctly, and was deleted" in lines

    assert main([*patient, "--json", "-"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["errors"], data["warnings"], data["notes"]) == (0, 1, 3)
    worst = next(finding for finding in data["findings"] if finding["severity"] == "warning")
    assert worst.keys() == {"severity", "topic", "found", "why", "cure"}
    assert (worst["found"], worst["why"]) == (lines[2].split(maxsplit=2)[2], lines[3])


def test_exit_codes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 for notes, 2 for errors, and 2 with one line on standard error if the server cannot be examined."""
    path = tmp_path / "report.json"
    patience = ["--timeout", str(servers.PATIENCE)]  # on a busy machine a check may take longer than a call should
    with server.user("limited", *LEAST_RIGHTS.split()) as url:
        assert main(["doctor", url, *patience]) == 0
        assert main(["doctor", url, *patience, "--prefix", "other:", "--json", str(path)]) == 2
    assert json.loads(path.read_text())["errors"] == 1
    capsys.readouterr()
    assert main(["doctor", f"redis://127.0.0.1:{servers.free_port()}"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"retarget: the server cannot be examined: .+\n", printed.err)
