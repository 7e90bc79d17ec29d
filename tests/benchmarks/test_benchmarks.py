"""The benchmarks: every contestant does its job, rivals agree with retarget, and a result becomes tables and charts.

No duration is asserted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    charts,
    data,
    floors,
    growth,
    machine,
    memory,
    ours,
    page,
    parts,
    rivals,
    runner,
    server_cost,
    tables,
)
from benchmarks import servers as bench_servers
from benchmarks.__main__ import main, names
from benchmarks.cases import cases
from benchmarks.contest import Case, Contestant, Effort, Setting, Target
from retarget import Decision

LITTLE = Effort(rounds=3, seconds=0, calls=1, warm_up=1)
BUILT = [
    pytest.param(contestant, id=f"{case.name}: {contestant.name}")
    for case in cases(quick=True)
    for contestant in case.contestants
    if contestant.build is not None
]


@pytest.fixture(scope="module")
def running() -> Iterator[str]:
    """The URL of the wheel's server, started as the benchmarks start it."""
    with bench_servers.server(wheel=True) as url:
        yield url


@pytest.fixture
def wheel(running: str) -> str:
    """The URL of that server, emptied."""
    with bench_servers.client(running) as client:
        client.flushall()
    return running


@pytest.fixture
def setting(wheel: str) -> Setting:
    """Small sizes on the wheel's server."""
    return Setting(wheel, "bench:t:", visitors=12, events=100)


def quiet(_: str) -> None:
    """Discards progress messages."""


# -- the contestants ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contestant", BUILT)
def test_every_contestant_does_its_job(contestant: Contestant, setting: Setting) -> None:
    """Each can be built and called, and its keys begin with its prefix."""
    assert contestant.build is not None
    running = contestant.build(setting)
    running.call()
    running.close()
    assert running.units >= 1
    if contestant.role == "rival":
        with bench_servers.client(setting.url) as client:
            assert all(key.startswith(b"bench:t:") for key in client.scan_iter())


def test_what_is_decided_is_a_decision(setting: Setting) -> None:
    """The first case's visitor: two campaigns are at their own cap, six are blocked by a cap, eight by their
    audience.
    """
    decision = ours.decide(setting).call()
    assert isinstance(decision, Decision)
    reasons = [decision[candidate].reason for candidate in decision.candidates]
    assert (len(decision.eligible), reasons.count("audience")) == (38, 8)
    assert not {"campaign-0", "campaign-1", "campaign-11", "campaign-21"} & set(decision.eligible)


@pytest.mark.parametrize("name", [name for name in rivals.RIVALS if name not in rivals.CANNOT["decide"]])
def test_rivals_decide_as_retarget_does(name: str, setting: Setting) -> None:
    """On the same history they block the same campaigns, apart from audiences for rivals without them."""
    decision = ours.decide(setting).call()
    assert isinstance(decision, Decision)
    rival = rivals.make(name, setting.url, "bench:rival:")
    rivals.remember(rival, "v-1", data.today())
    allowed = rival.decide("v-1", list(map(str, decision.candidates)))
    rival.close()
    knows_audiences = rivals.RIVALS[name][0] is None
    out = set() if knows_audiences else {c for c in decision.candidates if str(c).endswith(tuple(_without_audience()))}
    assert [c for c in allowed if c not in out] == [c for c in decision.eligible if c not in out]


def _without_audience() -> list[str]:
    """The campaigns whose product the visitor did not visit."""
    return [f"-{number}" for number in range(50) if number % data.PRODUCTS == data.PRODUCTS - 1]


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_rivals_claim_as_retarget_does(name: str, setting: Setting) -> None:
    """The first candidate until its cap of three per day, then the second."""
    rival = rivals.make(name, setting.url, "bench:rival:")
    rivals.remember(rival, "v-1", data.visits())
    with ours.connect(setting, data.policy()) as ads:
        ours.known(ads, "v-1", data.visits())
        claims = [ads.claim("v-1", data.ranked()) for _ in range(5)]
    assert [rival.claim("v-1", data.ranked()) for _ in range(5)] == [claim and claim.candidate for claim in claims]
    rival.close()


def test_a_rival_that_cannot_decide_says_so() -> None:
    """pyrate-limiter cannot check without counting: its row says that it cannot decide."""
    (row,) = rivals.contestants("decide", ["pyrate-limiter"])
    assert row.build is None
    assert "cannot" in row.note


# -- the data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 5, 20, 100])
def test_histories_have_the_timelines_they_say(count: int, setting: Setting) -> None:
    """The visitor of each size has exactly that many timelines."""
    with ours.connect(setting, data.policy(500)) as ads:
        ours.known(ads, "v-1", data.with_timelines(count))
        assert len(ads.export("v-1")["timelines"]) == count


def test_the_first_visitor_has_twenty_timelines(setting: Setting) -> None:
    """As the description of the case says."""
    with ours.connect(setting, data.policy()) as ads:
        ours.known(ads, "v-1", data.today())
        assert len(ads.export("v-1")["timelines"]) == 20


def test_a_copied_visitor_is_the_same_in_memory(setting: Setting) -> None:
    """Recorded or copied by the server: the same content, encoding and size; the templates are deleted."""
    with ours.connect(setting, data.policy()) as ads:
        for visitor in (data.template(0), "recorded"):
            ours.known(ads, visitor, data.twenty_impressions())
    data.copy(setting.url, setting.prefix, 3)
    with bench_servers.client(setting.url) as client:
        keys = {b"bench:t:2~recorded", *(f"bench:t:2~{data.visitor(number)}".encode() for number in range(3))}
        assert set(client.scan_iter()) == keys
        assert len({client.dump(key) for key in keys}) <= 2  # a second may have begun in between
        assert len({client.object("encoding", key) for key in keys}) == 1
        sizes = [client.memory_usage(key) for key in keys]
        assert max(sizes) - min(sizes) <= 32  # an allocator may give a few bytes more than it was asked for
        assert all(client.ttl(key) > 0 for key in keys)


def test_a_log_is_the_same_for_everyone(tmp_path: Path) -> None:
    """Seeded, in time order, with the number of rows asked for."""
    for name in ("one", "two"):
        data.write_log(tmp_path / name, 500)
    assert (tmp_path / "one").read_text() == (tmp_path / "two").read_text()
    rows = [line.split(",") for line in (tmp_path / "one").read_text().splitlines()[1:]]
    assert len(rows) == 500
    assert sorted(rows, key=lambda row: int(row[0])) == rows


# -- the runner --------------------------------------------------------------------------------------------------------


def small_case(*contestants: Contestant) -> Case:
    """A case of GET and these contestants."""
    target = Target("beside GET", contestants[-1].name, floors.GET, at_most=1e9)
    get = Contestant(floors.GET, "floor", floors.get)
    return Case("small", "Small", "a job", [get, *contestants], floors.GET, [target])


def test_contestants_take_turns_in_their_own_processes(setting: Setting) -> None:
    """Each row has its median, quartiles, calls and ratio; the target is judged."""
    case = small_case(Contestant("decide", "retarget", ours.decide))
    result = runner.compete(case, setting, Effort(rounds=3, seconds=5, calls=40, warm_up=1), quiet)
    get, decide = result["contestants"]
    assert (get["status"], decide["status"]) == ("measured", "measured")
    assert (decide["rounds"], decide["calls"]) == (3, 120)
    assert get["ratio"]["median"] == 1
    assert decide["ratio"]["quartiles"][0] <= decide["ratio"]["quartiles"][1]
    assert decide["p99_us"] >= decide["median_us"] > 0
    assert result["targets"][0]["met"] is True


def test_a_missing_package_is_reported(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rival that is not installed is reported as missing; the others are measured, and its target is not judged."""
    monkeypatch.setattr(runner, "find_spec", lambda module: None)
    result = runner.compete(
        small_case(*rivals.contestants("decide", ["limits, moving window"])), setting, LITTLE, quiet
    )
    get, limits = result["contestants"]
    assert get["status"] == "measured"
    assert (limits["status"], limits["note"]) == ("missing", "limits is not installed")
    assert result["targets"][0]["met"] is None
    assert "missing: limits is not installed" in "\n".join(tables.case_table(result))


def test_a_missing_package_is_reported_in_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head of a result names what is not installed."""
    monkeypatch.setattr(machine, "PACKAGES", ("retarget", "no-such-package"))
    about = machine.about({"name": "Valkey", "version": "9", "allocator": "libc"}, quick=True, own_server=True)
    assert about["missing"] == ["no-such-package"]
    assert "Not installed, and so not measured: no-such-package." in list(tables.head(about))
    assert any("not jemalloc" in caveat for caveat in about["caveats"])


def test_a_failing_contestant_does_not_end_the_run(setting: Setting) -> None:
    """Its row has the error; the others continue."""
    broken = Contestant("broken", "rival", partial(rivals.build, name="nobody", job="decide"))
    result = runner.compete(small_case(broken), setting, LITTLE, quiet)
    assert [row["status"] for row in result["contestants"]] == ["measured", "failed"]
    assert "KeyError" in result["contestants"][1]["note"]


def test_a_turn_has_at_least_one_call() -> None:
    """However short the time; and never more calls than asked for."""
    assert len(runner.measure(lambda: None, 0, 10)) == 1
    assert len(runner.measure(lambda: None, 60, 10)) == 10


def test_ratios_are_of_medians() -> None:
    """The spread is that of the rounds; too few calls have no p99."""
    assert runner.ratio([2, 4, 6], [1, 4, 2])["median"] == 2
    assert runner.ratio([2, 4, 6], [1, 4, 2])["quartiles"] == [1.5, 2.5]
    assert runner.p99([1e-6] * 99) is None
    assert runner.p99([1e-6] * 100) == pytest.approx(1)


# -- memory, growth, the server's time ---------------------------------------------------------------------------------


def test_memory_is_measured_for_each(wheel: str) -> None:
    """A row each for SET, for retarget and for a rival, compared with SET."""
    layout = next(memory.layouts())
    chosen = ["sorted sets"]
    rows = memory.measured(wheel, visitors=200, names=chosen, chosen=[layout], say=quiet)
    assert [row["name"] for row in rows] == [memory.SET, memory.OURS, "sorted sets"]
    assert rows[0]["beside_set"] == 1
    assert all(row["bytes"] > 0 for row in rows)


def test_every_rival_can_be_loaded_for_memory(wheel: str) -> None:
    """Each stores something for every visitor, under short and long ids."""
    for layout in list(memory.layouts())[:2]:
        for name in rivals.MAIN:
            with bench_servers.client(wheel) as client:
                client.flushall()
                memory._loader(name, layout)(wheel, 3)
                keys = list(client.scan_iter())
            assert all(any(data.visitor(n).encode() in key for key in keys) for n in range(3)), name


def test_growth_and_cost_have_a_row_each(wheel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every dimension, and for every job."""
    sizes: dict[str, Sequence[int]] = {
        "visitors": (10,),
        "impressions per visitor": (1,),
        "campaigns per visitor": (3,),
    }
    monkeypatch.setattr(growth, "_CALLS", 1)
    rows = growth.measured(wheel, sizes, 2, quiet)
    assert [(row["dimension"], row["size"]) for row in rows] == [(name, size[0]) for name, size in sizes.items()]
    costs = server_cost.measured(wheel, 6, quiet)
    decide = next(row for row in costs if row["name"] == "decide")
    assert decide["commands"].keys() == {"hgetall"}
    assert {row["name"] for row in costs} == {name for name, *_ in server_cost.jobs()}


# -- the command -------------------------------------------------------------------------------------------------------

HEAD = {"at", "quick", "caveats", "machine", "versions", "missing", "server"}
CASE = {"name", "title", "what", "unit", "compared_with", "contestants", "targets"}
MEASURED = {
    "name",
    "role",
    "note",
    "status",
    "median_us",
    "quartiles_us",
    "p99_us",
    "rounds",
    "calls",
    "compared_with",
    "ratio",
}


@pytest.fixture
def result(wheel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The result of a quick run of a cheap case on the wheel's server."""
    file = tmp_path / "result.json"
    main(["--quick", "--rounds", "2", "--cases", "hold", "memory", "--store", wheel, "--json", str(file)])
    printed = capsys.readouterr()
    assert printed.out.startswith("### Caveats")
    assert "under its own prefix" in printed.err
    assert "left out, since they need a server of their own: memory" in printed.err
    written: dict[str, Any] = json.loads(file.read_text())
    return written


def test_a_run_on_a_given_server_leaves_nothing_behind(result: dict[str, Any], wheel: str) -> None:
    """All keys had the prefix and were deleted."""
    with bench_servers.client(wheel) as client:
        assert client.dbsize() == 0
    assert result["memory"] == []


def test_the_result_keeps_its_form(result: dict[str, Any]) -> None:
    """The keys that tables, charts and readers of old results rely on."""
    assert result.keys() == {"format", "about", "cases", "memory", "growth", "server_cost"}
    assert result["format"] == 1
    assert result["about"].keys() == HEAD
    (case,) = result["cases"]
    assert case.keys() == CASE
    measured = [row for row in case["contestants"] if row["status"] == "measured"]
    assert all(row.keys() == MEASURED for row in measured)
    assert [row["name"] for row in measured] == ["two EVALSHA of `return 1`", "claim with hold, confirm"]
    assert {row["status"] for row in case["contestants"]} == {"measured", "cannot"}


def test_a_run_starts_a_server_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --store; it prints the case's table."""
    main(["--quick", "--rounds", "1", "--cases", "memory-store"])
    assert "**decide, in memory**" in capsys.readouterr().out


def test_the_wheel_serves_where_no_redis_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Debian's program, the wheel's is used."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert bench_servers.program() == bench_servers.program(wheel=True)


def test_every_case_can_be_chosen() -> None:
    """The names are unique, including the three cases that need a server of their own."""
    assert len(names()) == len(set(names())) == len(cases()) + 3


# -- tables, page, charts ----------------------------------------------------------------------------------------------


def row(name: str, role: str, us: float, **more: object) -> dict[str, Any]:
    """A measured contestant."""
    reached = {"median": us / 50, "quartiles": [us / 60, us / 40]}
    figures = {"median_us": us, "quartiles_us": [us - 1, us + 1], "p99_us": None, "rounds": 3, "calls": 9}
    given = {"name": name, "role": role, "note": "", "status": "measured", "compared_with": floors.GET}
    return given | figures | {"ratio": reached} | more


def case(name: str, *rows: dict[str, Any], unit: str = "call") -> dict[str, Any]:
    target = {"what": "beside GET", "kind": "ratio", "at_most": 1.35, "at_least": None, "met": False}
    target |= {"reached": {"median": 1.5, "quartiles": [1.4, 1.6]}}
    head = {"name": name, "title": name.title(), "what": "a job", "unit": unit, "compared_with": floors.GET}
    return head | {"contestants": list(rows), "targets": [target]}


@pytest.fixture
def small() -> dict[str, Any]:
    """A small result with data for every table and chart."""
    get = row(floors.GET, "floor", 50, compared_with=floors.GET)
    rival = row("limits, moving window", "rival", 9_000)
    cannot = {"name": "pyrate-limiter", "role": "rival", "status": "cannot", "note": "cannot: for a reason"}
    timed = {"us": 80.0, "beside_get": {"median": 1.6, "quartiles": [1.5, 1.7]}}
    size = {"history": "8 impressions", "ids": "short", "impressions": 8.0, "visitors": 100, "note": ""}
    grown = [
        {"dimension": dimension, "size": size, "visitors": 9, "bytes": 200.0 * size, "decide": timed, "record": timed}
        for dimension in growth.DIMENSIONS
        for size in (1, 10)
    ]
    rate = row("replay", "retarget", 2)
    server = {"name": "Redis", "version": "7.0.15", "allocator": "jemalloc-5.3.0"}
    return {
        "format": 1,
        "about": machine.about(server, quick=False, own_server=True),
        "cases": [
            case("decide", get, row("decide", "retarget", 70), rival, row("a quicker one", "rival", 60), cannot),
            case("candidates", get, row("decide, 1", "retarget", 70), row("decide, 500", "retarget", 99)),
            case("campaigns", get, row("decide, all of 1,000 campaigns", "retarget", 70)),
            case("async", row("bare hgetall, 32", "floor", 60), row("decide, 1,000, uvloop", "retarget", 20)),
            case("replay", rate, unit="event"),
        ],
        "memory": [
            size | {"name": memory.SET, "role": "floor", "status": "measured", "bytes": 100.0, "beside_set": 1.0},
            size | {"name": memory.OURS, "role": "retarget", "status": "measured", "bytes": 165.0, "beside_set": 1.65},
            size | {"name": "a smaller one", "role": "rival", "status": "measured", "bytes": 90.0, "beside_set": 0.9},
        ],
        "growth": grown,
        "server_cost": [
            {"name": "decide", "role": "retarget", "calls": 9, "us": 3.0, "per_second_and_core": 333_333.0}
            | {"cpu_us": 9.0, "commands": {"hgetall": {"calls": 1.0, "us": 3.0}}}
        ],
    }


def test_tables_say_what_is_known(small: dict[str, Any]) -> None:
    """Caveats come first; tables say which rival cannot, is faster or is smaller, and which target was missed."""
    text = tables.page(small)
    assert text.startswith("### Caveats")
    for line in (
        "| beside GET | at most 1.35x | 1.50x | 1.40x to 1.60x | missed |",
        "cannot: for a reason",
        "faster than decide |",
        "smaller than retarget |",
        "| **decide** | 3.0 | 333,333 | 9.0 | 1 hgetall |",
        "| **replay** | 2.00 | 1.00 to 3.00 | - | 500,000 |",
        "Redis 7.0.15 (jemalloc-5.3.0)",
    ):
        assert line in text
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_the_page_is_written_between_its_markers(small: dict[str, Any], tmp_path: Path) -> None:
    """The text around them stays; writing twice changes nothing; a page without markers is an error."""
    result, into, readme = tmp_path / "result.json", tmp_path / "page.md", tmp_path / "readme.md"
    result.write_text(json.dumps(small))
    into.write_text(f"before\n{page.BEGIN}\nwhat was there\n{page.END}\nafter\n")
    readme.write_text(f"{page.README_BEGIN}\nwhat was there\n{page.README_END}\n")
    (tmp_path / page.CHARTS).mkdir()
    (tmp_path / page.CHARTS / "decide.svg").write_text("<svg/>")
    for _ in range(2):
        page.main([str(result), "--into", str(into), "--readme", str(readme)])
        once = into.read_text()
    assert once.count(page.BEGIN) == 1
    assert "![decide](charts/decide.svg)" in once
    assert "takes 1.40 times a GET" in readme.read_text()
    assert "was there" not in readme.read_text()
    assert once.startswith(f"before\n{page.BEGIN}\n")
    assert once.endswith(f"{page.END}\nafter\n")
    assert "what was there" not in once
    assert tables.page(small) in once
    with pytest.raises(ValueError, match="figures: begin"):
        page.written("no markers", "part")


def test_charts_are_drawn(small: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An SVG for each chart that the result has data for."""
    result = tmp_path / "result.json"
    result.write_text(json.dumps(small))
    charts.main([str(result), "--into", str(tmp_path / "charts")])
    files = capsys.readouterr().out.split()
    assert [Path(file).stem for file in files] == list(charts.CHARTS)
    assert all(Path(file).read_text().startswith("<svg") for file in files)
    assert charts.draw(small | {"cases": [], "memory": [], "growth": []}, tmp_path / "none") == []


def test_the_parts_of_a_call_are_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each contestant has a line, and both ways to read a reply agree."""
    monkeypatch.setattr(parts, "CALLS", 2)
    parts.main(["--rounds", "1"])
    assert len(capsys.readouterr().out.splitlines()) == 7
    with bench_servers.server() as url:
        theirs, ours = (call() for call in parts.replies(url).values())
    assert ours == [theirs]
