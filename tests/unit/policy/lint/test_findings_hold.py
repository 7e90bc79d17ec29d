"""The findings are true: what they say holds in simulated histories of any policy."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.policy.lint.finding import Finding
from retarget.policy.lint.findings import findings
from retarget.policy.load import Policy
from retarget.retargeter import Retargeter
from tests.support.strategies import policies


@settings(max_examples=150, deadline=None)
@given(policies())
def test_any_policy_can_be_linted(data: dict[str, Any]) -> None:
    """`findings` fails for no policy that loads; the findings are sorted and unique."""
    found = findings(Policy.model_validate(data), events=["visit"], labels=["item"])
    assert [finding.place for finding in found] == sorted(finding.place for finding in found)
    assert len(set(found)) == len(found)


WINDOWS = ["1 minute", "2 minutes", "10 minutes", "hour", "day", "calendar hour", "calendar day", "session", "lifetime"]
SINCE = [" since visit", " since visit x", " since click a", " since impression", " since impression b"]
SINCE_ITSELF = [" since click {campaign}", " since impression {campaign}"]
CAP = st.builds(
    "{}{}".format,
    st.integers(1, 6),
    st.sampled_from([*(f" per {window}" for window in [*WINDOWS, "flight"]), *SINCE, *SINCE_ITSELF]),
)
SPREAD = st.builds(
    "{} per {}".format, st.integers(2, 4), st.sampled_from(["10 minutes", "hour", "day", "calendar hour"])
).map(lambda cap: {"cap": cap, "spread": True})
POINTS = st.builds(
    "{}{}".format, st.integers(3, 9), st.sampled_from([*(f" per {window}" for window in WINDOWS), *SINCE])
)
CONDITIONS = [
    [f" within {window}" for window in [*WINDOWS, "flight"]],
    ["", *SINCE],
    SINCE_ITSELF,
]


def conditions(*windows: list[str]) -> st.SearchStrategy[str]:
    """Conditions with one of these windows."""
    return st.builds(
        "{} {}{}".format,
        st.integers(1, 3),
        st.sampled_from(["visit x", "visit", "click a", "impression a", "impression b", "impression"]),
        st.sampled_from([window for part in windows for window in part]),
    )


CONDITION = conditions(*CONDITIONS)
OF_VISITOR = conditions(*CONDITIONS[:2])
START = 1_792_828_800
"""The start of the flight in these tests, 24 October 2026 at 08:00 in UTC. It lasts three days."""
FLIGHT = {"start": "2026-10-24T08:00:00", "end": "2026-10-27T08:00:00"}


@st.composite
def tight_policies(draw: st.DrawFn) -> dict[str, Any]:
    """Policies of two campaigns whose rules interfere with each other."""
    campaigns: dict[str, Any] = {}
    for name in "ab":
        rules: dict[str, Any] = {"caps": draw(st.lists(CAP | CAP | SPREAD, max_size=3)), "labels": {"channel": name}}
        if draw(st.booleans()):
            rules["gap"] = draw(st.sampled_from(["1 minute", "5 minutes", "hour"]))
        if draw(st.booleans()):
            rules |= FLIGHT
        rules["counts"] = draw(st.sampled_from([True, True, False]))
        rules["audience"] = draw(st.lists(CONDITION, max_size=1))
        rules["exclude"] = draw(st.lists(CONDITION, max_size=2))
        campaigns[name] = rules
    caps = {key: draw(st.lists(CAP | SPREAD, max_size=2)) for key in ("channel", "channel:a")}
    data: dict[str, Any] = {
        "campaign": campaigns,
        "caps": caps,
        "retention": draw(st.sampled_from(["30 minutes", "day"])),
    }
    if draw(st.booleans()):
        segments = {"s": {"who": [draw(OF_VISITOR)], "threshold": draw(st.lists(POINTS, min_size=1, max_size=2))}}
        data["annoyance"] = {
            "threshold": draw(st.lists(POINTS, min_size=1, max_size=2)),
            "points": {"a": draw(st.integers(1, 3))},
            "segment": segments if draw(st.booleans()) else {},
        }
    return data


def without(data: dict[str, Any], found: Iterable[Finding]) -> dict[str, Any]:
    """The policy without the rules that these findings are about."""
    data = copy.deepcopy(data)
    for place in sorted({finding.place for finding in found}, reverse=True):
        steps = re.findall(r"[\w:]+", place)
        holder: Any = data
        for step in steps[:-1]:
            holder = holder[step if isinstance(holder, dict) else int(step)]
        del holder[steps[-1] if isinstance(holder, dict) else int(steps[-1])]
    return data


def history(data: dict[str, Any], seed: int, *, others: bool) -> list[str | None]:
    """The campaigns claimed in some days of visits, clicks on what was shown and, with `others`, of impressions that
    were recorded without a claim.
    """
    chance = random.Random(seed)
    now = START + chance.choice([-3_600, 57_000])  # before the flight starts, or before midnight
    ads = Retargeter(Policy.model_validate(data), "memory://", clock=lambda: now)
    served: list[str | None] = []
    for _ in range(80):
        now += chance.choice([0, 1, 20, 59, 60, 61, 120, 300, 599, 600, 601, 1_800, 3_600, 3_601, 20_000])
        what = chance.choice([*["claim"] * 6, "visit", "click", "other"])
        if what == "claim":
            claim = ads.claim("v", chance.choice([["a"], ["b"], ["a", "b"]]))
            served.append(claim.campaign if claim else None)
        elif what == "visit":
            ads.record("v", "visit", chance.choice(["x", "y"]))
        elif what == "click" and (shown := [campaign for campaign in served[-5:] if campaign]):
            ads.record("v", "click", chance.choice(shown))
        elif what == "other" and others:
            ads.record("v", "impression", chance.choice(["a", "b"]))
    return served


@settings(max_examples=200, deadline=None)
@given(tight_policies(), st.integers(0, 1_000))
def test_redundant_rules_change_nothing(data: dict[str, Any], seed: int) -> None:
    """Without the rules that never bind, the same ads are shown, whatever else was shown. So they are without those
    that count nothing, where nothing is reserved, and without those that are never reached, as long as nothing is shown
    that the policy does not allow.
    """
    found = findings(Policy.model_validate(data))
    redundant = [finding for finding in found if finding.rule in ("never-binds", "twice")]
    never_reached = [finding for finding in found if finding.rule == "never-reached"]
    kept = (".audience", ".who", ".threshold")  # what is required, or must not be left empty
    counts_nothing = [finding for finding in found if finding.rule == "counts-nothing"]
    empty = [finding for finding in counts_nothing if not any(key in finding.place for key in kept)]
    if empty:  # nothing is reserved here
        assert history(data, seed, others=True) == history(without(data, empty), seed, others=True)
    if redundant:
        assert history(data, seed, others=True) == history(without(data, redundant), seed, others=True)
    if never_reached:
        assert history(data, seed, others=False) == history(
            without(data, redundant + never_reached), seed, others=False
        )


@settings(max_examples=200, deadline=None)
@given(tight_policies(), st.integers(0, 1_000))
def test_nobody_is_nobody(data: dict[str, Any], seed: int) -> None:
    """A campaign whose audience nobody can enter is never shown, as long as nothing is shown without a claim."""
    found = findings(Policy.model_validate(data))
    errors = [finding.place for finding in found if finding.rule in ("nobody", "circle")]
    closed = {place.split(".")[1] for place in errors if place.startswith("campaign.")}
    if closed:
        assert closed.isdisjoint(history(data, seed, others=False))
