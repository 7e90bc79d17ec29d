"""`retarget replay`: tables, figures, and the options that say how to read a log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import retarget
from retarget.cli import main
from retarget.demo import policy as demo_policy
from retarget.demo.traffic import shop, write_csv
from retarget.logs import LogOptions
from retarget.operate import EmbeddedServer
from retarget.replay import replay
from retarget.timelines import MOST_TIMELINES
from tests.support.commands import MONDAY, Run, lines_of


def without_time(data: dict[str, Any]) -> dict[str, Any]:
    """The figures without durations."""
    return {key: value for key, value in data.items() if key not in ("seconds", "events_per_second")}


def test_replay_prints_tables(run: Run, policy: Path, log: Path) -> None:
    """The tables show how many impressions are suppressed, by which rule, and at what cost."""
    ran = run("replay", log, "--policy", policy)
    assert (ran.code, ran.err) == (0, "")
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert lines[0].startswith("9 events, 2026-11-02 00:00 to 2026-11-02 00:06 UTC; replayed in")
    assert "1 impression had no visitor." in lines
    assert "1 campaign not in the policy; only [annoyance] and [caps] applied." in lines
    assert "impressions 9 4 -55.6% 5 suppressed" in lines
    assert "cost 3.00 1.00 -66.7% 2.00 saved" in lines
    assert "clicks 1 0 -100.0% 1 at risk" in lines
    assert "cap 2 per hour 3 60.0%" in lines
    assert "annoyance annoyance: 4 per day 1 20.0%" in lines
    assert "unknown visitor 1 20.0%" in lines
    assert "c 6 4 66.7% 2.00 1 of 1" in lines
    assert all(line == line.rstrip("…") for line in lines)


def test_replay_writes_json(run: Run, policy: Path, log: Path, tmp_path: Path) -> None:
    """`--json` writes all figures to a file, or only them to standard output."""
    path = tmp_path / "figures.json"
    assert "What the policy changes" in run("replay", log, "--policy", policy, "--json", path).out
    figures = json.loads(path.read_text())
    assert figures["impressions"] == 9
    assert figures["suppressed_by"] == {"2 per hour": 3, "annoyance: 4 per day": 1, "unknown visitor": 1}
    alone = json.loads(run("replay", log, "--policy", policy, "--json", "-").out)
    assert without_time(alone) == without_time(figures)


def test_visitors_who_become_full(run: Run, tmp_path: Path) -> None:
    """The report says how many they are, which rule fills them, and what to do."""
    policy, log = tmp_path / "policy.toml", tmp_path / "log.csv"
    policy.write_text('[defaults]\ncaps = ["1 per lifetime"]\n')
    rows = [f"{MONDAY + n},ann,article-{n}\n" for n in range(MOST_TIMELINES + 30)]
    log.write_text("at,visitor,campaign\n" + "".join(rows))
    ran = run("replay", log, "--policy", policy, "--json", tmp_path / "figures.json")
    lines = lines_of(ran)
    assert "1 visitor became full: 30 impressions suppressed." in lines
    assert lines[lines.index("What fills visitors") + 2] == "kind rule a timeline for each timelines"
    assert f"cap 1 per lifetime impression {{campaign}} {MOST_TIMELINES:,}.0" in lines
    assert any(f"room for {MOST_TIMELINES:,} timelines" in line for line in lines)
    assert "Give these rules a shorter window" in " ".join(lines)
    assert json.loads((tmp_path / "figures.json").read_text())["full"]["visitors"] == 1


def test_many_rules_that_fill_visitors(run: Run, tmp_path: Path) -> None:
    """Only the first few are listed; the others are counted. Events that were dropped are, too."""
    policy, log = tmp_path / "policy.toml", tmp_path / "log.csv"
    many = MOST_TIMELINES + 8
    excluded = ", ".join(f'"visit page-{n}"' for n in range(many))
    policy.write_text(f"[campaign.c]\nexclude = [{excluded}]\n")
    log.write_text(
        "at,visitor,campaign,event,subject\n" + "".join(f"{MONDAY + n},ann,,visit,page-{n}\n" for n in range(many))
    )
    lines = lines_of(run("replay", log, "--policy", policy))
    assert "1 visitor became full: 8 events dropped." in lines
    assert f"{MOST_TIMELINES - 5:,} other rules {MOST_TIMELINES - 5:,}.0" in lines


def test_replay_in_processes(run: Run, policy: Path, log: Path) -> None:
    """The figures do not depend on the number of processes, which must be 1 with a store."""
    alone = json.loads(run("replay", log, "--policy", policy, "--json", "-").out)
    two = json.loads(run("replay", log, "--policy", policy, "--json", "-", "--processes", 2).out)
    assert without_time(two) == without_time(alone)
    refused = run("replay", log, "--policy", policy, "--processes", 2, "--store", "redis://localhost:1")
    assert refused.code != 0
    assert "processes=2: it must be 1 with a store" in refused.err


def test_replay_over_a_server(run: Run, policy: Path, log: Path) -> None:
    """`--store` replays through a real server with the same figures; `--keep` prints the prefix of what it kept."""
    here = json.loads(run("replay", log, "--policy", policy, "--json", "-").out)
    with EmbeddedServer() as server:
        there = run("replay", log, "--policy", policy, "--json", "-", "--store", server.url)
        assert without_time(json.loads(there.out)) == without_time(here)
        assert there.err == ""
        assert "Keys kept in the store under rt:replay-" in run(
            "replay", log, "--policy", policy, "--store", server.url, "--keep"
        ).out  # fmt: skip


def test_replay_reads_any_log(run: Run, policy: Path, tmp_path: Path) -> None:
    """Columns are named, mapped and split as the options say; times are in the given zone."""
    path = tmp_path / "log.txt"
    path.write_text("'v1'\t2026-11-02 08:59:59\n'v1'\t2026-11-02 09:00:00\n'v1'\t2026-11-02 09:00:01\n")
    reading = ["--columns", "who, time", "--no-header", "--delimiter", "\\t", "--quote", "'", "--campaign", "c"]
    maps = ["--map", "visitor=who", "--map", "at=time", "--log-time-zone", "Asia/Shanghai"]
    ran = run("replay", path, "--policy", policy, *reading, *maps, "--json", "-")
    figures = json.loads(ran.out)
    assert figures["first"] == "2026-11-02T00:59:59+00:00"
    assert figures["suppressed_by"] == {"2 per hour": 1}
    policy.write_text('[campaign.c]\ncaps = ["2 per calendar hour"]')
    same = ["replay", path, "--policy", policy, *reading, *maps, "--json", "-"]
    assert json.loads(run(*same).out)["suppressed"] == 0
    assert json.loads(run(*same, "--time-zone", "Asia/Kathmandu").out)["suppressed"] == 1


def test_replay_of_nothing(run: Run, policy: Path, tmp_path: Path) -> None:
    """A log without rows is not an error."""
    path = tmp_path / "log.csv"
    path.write_text("at,visitor,campaign\n")
    ran = run("replay", path, "--policy", policy)
    assert ran.code == 0
    assert ran.out.startswith("The log has no rows.")


def test_replay_of_a_shop(run: Run, tmp_path: Path) -> None:
    """A longer log with many rules and campaigns: tables show the largest, and count the rest."""
    path, rules = tmp_path / "shop.csv.gz", tmp_path / "policy.toml"
    write_csv(shop(visitors=300, days=10), path)
    caps = "\n".join(f'[campaign.c{n}]\ncaps = ["{n + 1} per day"]' for n in range(25))
    rules.write_text(f'[annoyance]\nthreshold = ["4 per day"]\n{caps}\n')
    campaign = "campaign=CASE WHEN event = 'impression' THEN 'c' || (hash(id) % 25) ELSE campaign END"
    ran = run("replay", path, "--policy", rules, "--map", campaign)
    assert ran.code == 0
    assert "repeated an id seen before, and counted once." in ran.out
    assert "other campaign" in ran.out
    assert "conversion value" in ran.out
    defaults = tmp_path / "defaults.toml"
    defaults.write_text('[defaults]\ncaps = ["1 per 2 days"]')
    assert "[defaults] applied." in run("replay", path, "--policy", defaults).out


def test_the_library_does_the_same(run: Run, tmp_path: Path) -> None:
    """The command prints what the library returns."""
    path = tmp_path / "shop.csv"
    write_csv(shop(visitors=100, days=7), path)
    rules = Path(retarget.__file__).parent / "demo" / "policy.toml"
    printed = json.loads(run("replay", path, "--policy", rules, "--json", "-").out)
    called = replay(LogOptions((path,)), demo_policy()).to_dict()
    assert without_time(printed) == without_time(json.loads(json.dumps(called)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--map", "visitor"], "retarget: --map visitor: write NAME=COLUMN or NAME=SQL"),
        (["--map", "a=b", "--map", "a=c"], "retarget: --map a=c: a is already mapped to b"),
        (["--map", "visitor=nobody"], "there is no column nobody"),
        (["--time-zone", "Mars"], "retarget: time zone 'Mars' is not a known time zone"),
        (["--store", "http://localhost"], "retarget: the store's URL cannot be used"),
        (["--store", "unix:///nowhere/at/all"], "retarget: "),
        (["--json", "/nowhere/figures.json"], "retarget: /nowhere/figures.json: No such file or directory"),
        (["--what"], "no such option"),
        (["nowhere.csv"], "retarget: there is no file nowhere.csv"),
    ],
)
def test_used_wrongly(run: Run, policy: Path, log: Path, change: list[str], message: str) -> None:
    """Errors are one line on standard error, with exit code 2."""
    ran = run("replay", log, "--policy", policy, *change)
    assert ran.code == 2
    assert message in ran.err
    assert "What the policy changes" not in ran.out or "--json" in change


def test_a_wrong_policy(run: Run, log: Path, tmp_path: Path) -> None:
    """Every problem of a policy is reported, with the file's name."""
    path = tmp_path / "wrong.toml"
    path.write_text('[campaign.c]\ncaps = ["3 per fortnight"]\ngaps = "2 hours"')
    ran = run("replay", log, "--policy", path)
    assert ran.code == 2
    assert f"retarget: {path}: campaign.c.caps" in ran.err
    assert "did you mean 'gap'?" in ran.err
    assert run("replay", log, "--policy", tmp_path / "none.toml").code == 2


def test_a_wrong_row(run: Run, policy: Path, tmp_path: Path) -> None:
    """An invalid row ends the replay, and is named."""
    path = tmp_path / "log.csv"
    path.write_text(f"at,visitor,campaign\n{MONDAY},v1,c\n{MONDAY},v1,\n")
    ran = run("replay", path, "--policy", policy)
    assert ran.code == 2
    assert ran.err.startswith("retarget: the row of 2026-11-02T00:00:00+00:00: an impression without a campaign")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("colours", [False, True])
def test_ids_are_printed_as_they_are(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, colours: bool
) -> None:
    """Emoji codes and markup in rules and ids are printed literally, to a pipe and to a terminal."""
    path, rules = tmp_path / "log.csv", tmp_path / "policy.toml"
    path.write_text(f"at,visitor,campaign,channel\n{MONDAY},v,[b]a[/b],email\n{MONDAY},v,[b]a[/b],email\n")
    rules.write_text("""
        [caps]
        "channel:email" = ["1 per day"]
        [campaign."[b]a[/b]"]
        [campaign.other]
    """)
    if colours:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "120")
        assert main(["replay", str(path), "--policy", str(rules)]) == 0
        out = capsys.readouterr().out
        assert "\x1b[" in out
    else:
        out = run("replay", path, "--policy", rules).out
    assert "channel:email: 1 per day" in out
    path.write_text(path.read_text() + f"{MONDAY},v,other,email\n")
    assert main(["replay", str(path), "--policy", str(rules)]) == 0
    assert "[b]a[/b]" in capsys.readouterr().out
