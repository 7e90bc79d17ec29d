"""`retarget explain`: what is remembered of a visitor and what they may be shown, as text and as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from retarget.cli.explain import relative
from retarget.operate import Explanation
from retarget.policy import Policy
from retarget.retargeter import Retargeter
from retarget.timelines import MOST_TIMELINES
from tests.support.commands import JOURNEY, MONDAY, Run, lines_of


def test_explain(run: Run, url: str, journey: Path) -> None:
    """What is remembered and since when, what may be shown, and for the rest why not and when again."""
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
    shown = lines[lines.index("What may be shown") :]
    assert shown[4:8] == [
        "comeback now",
        "brand in 20 min 1 s (Mon 01:20:01) cap: 2 per hour (seen 2 of 2)",
        "invited not without a new event audience: 2 click brand within 7 days (seen 0 of 2)",
        "over no longer end 2026-10-01",
    ]


def test_a_visitor_who_is_full(run: Run, url: str, tmp_path: Path) -> None:
    """What is remembered leaves no room: nothing may be shown until it expires."""
    text = '[defaults]\ncaps = ["1 per lifetime"]\n[campaign.c]\n'
    policy = tmp_path / "policy.toml"
    policy.write_text(text)
    with Retargeter(Policy.from_text(text), url, prefix="full:", timeout=20, clock=lambda: MONDAY) as ads:
        ads.record_many([("ann", "impression", f"article-{n}") for n in range(MOST_TIMELINES)])
    where = ["--policy", policy, "--store", url, "--prefix", "full:", "--now", MONDAY]
    shown = lines_of(run("explain", "ann", *where))
    assert any(line.startswith("c not until other entries expire full") for line in shown)


@pytest.mark.parametrize(
    ("rule", "why"),
    [(None, "full"), ("1 per lifetime", "full: most of what is remembered is there for 1 per lifetime")],
)
def test_the_rule_that_fills_a_visitor(
    monkeypatch: pytest.MonkeyPatch, run: Run, url: str, journey: Path, rule: str | None, why: str
) -> None:
    """If the verdict names it, so does the table."""
    verdict = {"eligible": False, "reason": "full", "rule": rule, "seen": None, "limit": None, "eligible_at": None}
    known = Explanation("ann", "2026-11-02T01:00:00+01:00", {}, {"brand": verdict}, None)
    monkeypatch.setattr("retarget.cli.explain.explain_visitor", lambda *_, **__: known)
    lines = lines_of(run("explain", "ann", "--policy", journey, "--store", url))
    assert f"brand not until other entries expire {why}" in lines


def test_explain_as_json(run: Run, url: str, journey: Path, tmp_path: Path) -> None:
    """`--json` writes what `explain_visitor` returns; `--now` may be ISO 8601, local if it has no offset."""
    where = ["--policy", journey, "--store", url, "--json"]
    explanation = json.loads(run("explain", "nobody", *where, "-", "--now", "2026-11-02T01:00").out)
    assert explanation["at"] == "2026-11-02T01:00:00+01:00"
    tokyo = ["--now", "2026-11-02T00:00Z", "--time-zone", "Asia/Tokyo"]
    assert json.loads(run("explain", "nobody", *where, "-", *tokyo).out)["at"] == "2026-11-02T09:00:00+09:00"
    assert "What may be shown" in run("explain", "nobody", *where, tmp_path / "one.json").out
    assert json.loads((tmp_path / "one.json").read_text())["verdicts"]["brand"]["eligible"] is True


def test_explain_without_a_threshold_or_campaigns(run: Run, url: str, tmp_path: Path) -> None:
    """A policy without a threshold has no annoyance level; one without campaigns says so."""
    rules = tmp_path / "rules.toml"
    rules.write_text("")
    ran = run("explain", "nobody", "--policy", rules, "--store", url)
    assert ran.code == 0
    assert "Annoyance" not in ran.out
    assert "The policy names no campaigns." in ran.out


def test_explain_an_unknown_visitor(run: Run, url: str, journey: Path) -> None:
    """An unknown visitor is reported as such, with the verdicts of any new visitor."""
    ran = run("explain", "who\x07[b]", "--policy", journey, "--store", url)
    assert ran.code == 0
    lines = lines_of(ran)
    assert lines[0].startswith("who\\x07[b], ")
    assert "Nothing is remembered of this visitor: they get what any new visitor gets." in lines
    assert "brand now" in lines
    assert "What is remembered" not in lines


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--store", "unix:///nowhere/at/all"], "retarget: "),
        (["--store", "http://localhost"], "retarget: the store's URL cannot be used"),
        (["--now", "yesterday"], "retarget: --now yesterday: write ISO 8601"),
        (["--now", "nan"], "retarget: now=nan is not a valid time"),
        (["--time-zone", "Mars"], "retarget: timezone='Mars': give an IANA name such as Europe/Zurich"),
        (["--time-zone", "Mars", "--now", "2026-11-02"], "'Mars' is not a known time zone"),
        (["--policy", "nowhere.toml"], "retarget: nowhere.toml: "),
    ],
)
def test_explain_used_wrongly(run: Run, url: str, journey: Path, change: list[str], message: str) -> None:
    """A store that fails and wrong arguments are one line on standard error."""
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
def test_times_in_words(seconds: int, words: str) -> None:
    """A time is printed as a distance, with its day and time."""
    at = datetime(2026, 11, 2, 14, tzinfo=UTC)
    assert relative(at + timedelta(seconds=seconds), at) == words
