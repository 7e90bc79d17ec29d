"""The benchmarks' other programs: each runs at a small size, prints its figures and writes them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import capacity, capacity_costs
from benchmarks import replay as replay_speed
from retarget.operate import Costs


@pytest.mark.parametrize("options", [(), ("--rich", "--csv", "--processes", "2")])
def test_the_speed_of_a_replay(options: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same seed gives the same log, and every figure is printed and written."""
    file = tmp_path / "speed.json"
    replay_speed.main(["--impressions", "300", "--json", str(file), *options])
    figures = json.loads(file.read_text())
    assert figures["impressions"] == 300
    assert (figures["visitors"], figures["suppressed"] < 300) == (30, True)
    printed = capsys.readouterr().out
    assert all(name.replace("_", " ") in printed for name in figures)


def test_the_error_of_an_estimate_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the first layout memory alone; otherwise memory and times, for as many visitors as asked for."""
    asked: list[tuple[object, ...]] = []

    def times(visitors: int, calls: int, _: object) -> list[dict[str, Any]]:
        asked.append((visitors, calls))
        return []

    def errors(visitors: int, _: object, *, first: bool) -> list[dict[str, Any]]:
        asked.append((visitors, first))
        return [{"error": 0.0}]

    monkeypatch.setattr(capacity, "errors", errors)
    monkeypatch.setattr(capacity, "time_errors", times)
    file = tmp_path / "error.json"
    assert capacity.main(["--visitors", "2k", "--first", "--json", str(file)]) == json.loads(file.read_text())
    assert json.loads(file.read_text()) == {"memory": [{"error": 0.0}]}
    assert capacity.main(["--visitors", "3k", "--calls", "10"]).keys() == {"memory", "times"}
    assert asked == [(2_000, True), (3_000, False), (3_000, 5)]


def test_measured_constants_are_those_of_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `--measure` writes is what `retarget plan --costs` takes; each is a difference of two measured times."""
    server = {"read, 1 timelines": 7.0, "read, 20 timelines": 8.9, "read, 100 timelines": 16.9}
    server |= {"write, 1 entry": 30.0, "write, 5 entries": 50.0, "write, 10 guards on 5 timelines": 40.0}
    server |= {"write, a new timeline of 20": 45.0, "write, a new timeline of 100": 125.0}
    client = {
        "decide, 10 candidates": 30.0,
        "decide, 50 candidates": 34.0,
        "claim, 10 candidates": 50.0,
        "record": 40.0,
    }
    disk = {"saved bytes per second": 5e7, "copied pages per write": 2.0, "rss of used, changed": 1.2}
    monkeypatch.setattr(capacity, "server_times", lambda *_: server)
    monkeypatch.setattr(capacity, "client_times", lambda *_: client)
    monkeypatch.setattr(capacity, "saving", lambda *_: disk)
    costs = Costs.of(capacity.main(["--measure"])["costs"])
    assert (costs.read_timeline_us, costs.read_us) == (0.1, 6.9)
    assert (costs.write_entry_us, costs.write_guard_us, costs.write_timeline_us, costs.write_us) == (5, 1, 1, 20)
    assert (costs.candidate_client_us, costs.decide_client_us) == (0.1, 29)
    assert (costs.claim_client_us, costs.record_client_us) == (50, 40)
    assert (costs.save_rate, costs.write_pages, costs.fragmentation) == (5e7, 2, 1.2)
    assert capacity_costs.costs(server, client, disk).keys() == set(Costs.__dataclass_fields__)


@pytest.mark.parametrize("module", ["", ".capacity", ".charts", ".page", ".parts", ".replay"])
def test_every_program_has_help(module: str) -> None:
    """It names the program as it is run."""
    ran = subprocess.run(
        [sys.executable, "-m", f"benchmarks{module}", "--help"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith(f"usage: python -m benchmarks{module} ")
