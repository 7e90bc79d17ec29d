"""`retarget plan`: the figures for a workload, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import Run


def test_plan_says_what_a_workload_takes(run: Run, tmp_path: Path, policy: Path) -> None:
    """What the estimate leaves out comes first, then the figures, also as JSON; a policy says which timelines there
    are.
    """
    done = run("plan", "--visitors", "5e8", "--impressions", 20, "--qps", "400k", "--json", tmp_path / "plan.json")
    assert done.code == 0
    assert done.out.index("leaves out") < done.out.index("500,000,000 visitors")
    figures = json.loads((tmp_path / "plan.json").read_text())
    assert f"{figures['nodes']} " in done.out
    assert figures["decided_by"] in done.out
    same = run("plan", "--visitors", "500M", "--impressions", 20, "--qps", "400,000", "--json", "-")
    assert json.loads(same.out) == figures
    more = run("plan", "--visitors", "5e8", "--qps", "400k", "--policy", policy, "--pepper", "--json", "-")
    assert json.loads(more.out)["timelines"] == pytest.approx(2)  # points, and the one campaign


def test_labels_that_come_with_candidates(run: Run, tmp_path: Path) -> None:
    """Without `--distinct` a number is assumed, and the output says so; with it, each value has a timeline."""
    policy = tmp_path / "shop.toml"
    policy.write_text('[caps]\nitem = ["3 per 7 days"]\n[campaign.c]\naudience = ["visit product/{item}"]\n')
    shop = ("plan", "--visitors", "1e6", "--campaigns", 1, "--policy", policy, "--spread", "even")
    assumed = " ".join(run(*shop).out.split())
    assert "1 of item for each visitor are assumed: --distinct item=N says how many." in assumed
    assert "(visit product/{item}): none are assumed: --visits N says how many." in assumed
    given = ("--distinct", "item=12", "--visits", 9)
    assert "really meet: 12 of item for each visitor are assumed." in " ".join(run(*shop, *given).out.split())
    few, many = (json.loads(run(*shop, *more, "--json", "-").out) for more in ((), given))
    assert many["timelines"] - few["timelines"] == 11 + 9


@pytest.mark.parametrize(
    ("given", "right"),
    [
        (["item"], "--distinct item: write LABEL=N, for example --distinct item=12"),
        (["item=many"], "--distinct item=many: write LABEL=N"),
        (["item=1", "item=2"], "--distinct item=2: item is already 1"),
        (["item=0"], "distinct item=0: must be from 1 to "),
    ],
)
def test_plan_refuses_wrong_labels(run: Run, policy: Path, given: list[str], right: str) -> None:
    """One line says what would be right."""
    words = [word for text in given for word in ("--distinct", text)]
    done = run("plan", "--visitors", "1e6", "--policy", policy, *words)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert right in done.err


def test_labels_need_a_policy(run: Run) -> None:
    """Without one, nothing says which labels are remembered."""
    done = run("plan", "--visitors", "1e6", "--distinct", "item=12")
    assert done.err == "retarget: --distinct needs --policy, whose rules say which labels are remembered\n"


def test_plan_takes_your_own_constants(run: Run, tmp_path: Path) -> None:
    """A file written by the benchmark is used; any other is refused."""
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
def test_plan_refuses_a_wrong_number(run: Run, wrong: tuple[str, str]) -> None:
    """One line says what would be right."""
    done = run("plan", "--visitors", "1e6", *wrong)
    assert done.code == 2
    assert done.err.startswith("retarget: ")
    assert done.err.count("\n") == 1


def test_a_workload_without_calls_has_no_times(run: Run) -> None:
    """Only memory is estimated; very large sizes are in terabytes."""
    done = run("plan", "--visitors", "5e9", "--impressions", 1, "--replicas", 2)
    assert "Redis cores" not in done.out
    assert "network" not in done.out.partition("visitors, 1 impressions")[2]
    assert " TB" in done.out
    assert "2 replicas of each" in done.out


def test_visitors_in_tables_are_reported(run: Run) -> None:
    """With the setting that would fit them into a listpack; nothing if all fit."""
    advice = "with hash-max-listpack-value 128"
    one = ("--visitors", "1e6", "--campaigns", 1)
    assert advice in " ".join(run("plan", *one, "--impressions", 20).out.split())
    assert advice not in " ".join(run("plan", *one, "--impressions", 3, "--spread", "even").out.split())
