"""`retarget check`: findings of a policy, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retarget.cli import main
from retarget.policy import Policy
from tests.support.commands import MONDAY, Ran, Run, lines_of


def test_check_of_a_sound_policy(run: Run, policy: Path) -> None:
    """A policy without findings is reported as sound, with exit code 0."""
    assert run("check", policy) == Ran(0, f"{policy}: no findings, the policy is sound\n", "")


@pytest.mark.parametrize(
    ("text", "code", "heading", "finding"),
    [
        ('[campaign.c]\nhours = "00:00-24:00"', 0, "1 remark", "remark campaign.c.hours"),
        ('[campaign.c]\ncaps = ["2 per day", "2 per day", "2 per day"]', 1, "2 warnings", "warning campaign.c.caps[1]"),
        ('[campaign.c]\naudience = ["click c"]', 2, "1 error", "error campaign.c.audience[0]"),
        ('[campaign.c]\ncaps = ["3 per fortnight"]', 2, "1 error", "error campaign.c.caps[0] (refused)"),
        ("[campaign.c", 2, "1 error", "error not valid TOML: "),
        (None, 2, "1 error", "error [Errno 2] No such file or directory"),
    ],
)
def test_check(run: Run, tmp_path: Path, text: str | None, code: int, heading: str, finding: str) -> None:
    """Findings are listed with severity and place, as are the problems of a policy that does not load; the worst
    severity decides the exit code.
    """
    path = tmp_path / "policy.toml"
    if text is not None:
        path.write_text(text)
    ran = run("check", path)
    assert (ran.code, ran.err) == (code, "")
    lines = lines_of(ran)
    assert lines[0] == f"{path}: {heading}"
    assert any(line.startswith(finding) for line in lines)


def test_check_is_what_the_library_finds(run: Run, tmp_path: Path) -> None:
    """`--json` has what `policy.findings()` returns, with counts; the list shows the same."""
    path, figures = tmp_path / "policy.toml", tmp_path / "findings.json"
    path.write_text(
        '[campaign.c]\ncaps = ["2 per day", "5 per day"]\naudience = ["click c"]\n[campaign.d]\ndays = "mon-sun"'
    )
    ran = run("check", path, "--json", figures)
    written = json.loads(figures.read_text())
    found = Policy.from_toml(path).findings()
    assert [one["rule"] for one in written["findings"]] == [one.rule for one in found]
    assert (written["errors"], written["warnings"], written["remarks"]) == (1, 1, 1)
    text = " ".join(ran.out.split())
    for one in found:
        assert f"{one.severity} {one.place} ({one.rule}) {one.text} {one.cure}" in text
    alone = run("check", path, "--json", "-")
    assert (alone.code, json.loads(alone.out)) == (2, written)


def test_check_of_a_policy_that_does_not_load_as_json(run: Run, tmp_path: Path) -> None:
    """Every problem of a policy that does not load is a separate error, with its place."""
    path = tmp_path / "policy.toml"
    path.write_text('colour = 3\n[campaign.c]\ncaps = ["3 per fortnight"]\ngaps = "2 hours"')
    ran = run("check", path, "--json", "-")
    written = json.loads(ran.out)
    assert (ran.code, written["errors"]) == (2, 3)
    assert all(one["severity"] == "error" and str(path) not in one["text"] for one in written["findings"])
    assert {one["place"] for one in written["findings"]} == {"colour", "campaign.c.caps[0]", "campaign.c.gaps"}
    assert not any(one["text"].startswith(one["place"]) for one in written["findings"])


@pytest.mark.parametrize(
    ("text", "place", "rest"),
    [
        ("[campaign.c", "", "not valid TOML: "),
        ("[campaign.c]\nstart = 2026-12-01\nend = 2026-11-01", "campaign.c", "the flight ends (2026-11-01)"),
        ("timezone = 'Mars'", "timezone", "'Mars' is not a known"),
        ("[annoyance]\nthreshold = []", "annoyance.threshold", "List should have"),
    ],
)
def test_the_place_of_a_problem(run: Run, tmp_path: Path, text: str, place: str, rest: str) -> None:
    """The place is apart from the text; what concerns the file as a whole has none."""
    path = tmp_path / "policy.toml"
    path.write_text(text)
    (found,) = json.loads(run("check", path, "--json", "-").out)["findings"]
    assert found["place"] == place
    assert found["text"].startswith(rest)


def test_check_against_a_log(run: Run, tmp_path: Path) -> None:
    """With a log, events and labels that no row has are reported."""
    path, log = tmp_path / "policy.toml", tmp_path / "log.csv"
    path.write_text('[caps]\nslot = ["2 per day"]\n[campaign.c]\nexclude = ["purchased c"]')
    log.write_text(f"ts,visitor,campaign,event,slot\n{MONDAY},v,c,purchase,top\n")
    mapped = ["--log", log, "--map", "at=ts"]
    ran = run("check", path, *mapped)
    assert (ran.code, ran.err) == (0, "")
    assert "the log has no event 'purchased'" in ran.out
    assert "unknown-label" not in ran.out
    without = run("check", path, *mapped, "--map", "place=slot", "--json", "-")
    assert [one["rule"] for one in json.loads(without.out)["findings"]] == ["unknown-event", "unknown-label"]
    assert run("check", path, "--log", tmp_path / "none.csv").err.startswith("retarget: there is no file")
    assert run("check", path, "--log", log).code == 2


def test_colours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A colour terminal gets colours by severity."""
    path = tmp_path / "policy.toml"
    path.write_text('[campaign.c]\ncaps = ["2 per day", "5 per day"]\naudience = ["click c"]')
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["check", str(path)]) == 2
    out = capsys.readouterr().out
    assert "\x1b[1;31merror" in out
    assert "\x1b[33mwarning" in out
