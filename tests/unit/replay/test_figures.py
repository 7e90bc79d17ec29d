"""Figures: what is counted, at risk, and saved, and how frequency is summed up."""

from __future__ import annotations

import json

from retarget.logs import Kind
from retarget.replay.figures import Frequency, Losses, VisitorLosses
from tests.support.replays import MONDAY, row, run


def test_a_small_log_in_full() -> None:
    """Everything is reported, as JSON values: served, suppressed, by which rule, for whom, at what cost."""
    policy = """
        [annoyance]
        threshold = ["3 per day"]
        [campaign.c]
        caps = ["2 per hour"]
        cost = 0.25
    """
    rows = [row(MONDAY + 60 * n, "v1") for n in range(4)]
    rows += [row(MONDAY + 4_000 + 60 * n, "v1") for n in range(2)]
    rows += [row(MONDAY + 5, "v2", "c", cost=1.5, id="i"), row(MONDAY + 9, "v2", "c", cost=1.5, id="i")]
    rows += [row(MONDAY, "v3", None, event="visit", subject="home")]
    reported: list[tuple[int, int]] = []
    result = run(policy, rows, progress=lambda done, count: reported.append((done, count)))
    assert reported[-1] == (9, 9)
    figures = json.loads(json.dumps(result.to_dict()))
    assert figures | {"seconds": 0, "events_per_second": 0} == {
        "impressions": 8,
        "served": 4,
        "suppressed": 3,
        "suppressed_by": {"2 per hour": 2, "annoyance: 3 per day": 1},
        "repeated": 1,
        "cost": 3.0,
        "cost_saved": 0.75,
        "clicks": 0,
        "clicks_on_suppressed": 0,
        "conversions": 0,
        "conversions_on_suppressed": 0,
        "value": 0.0,
        "value_on_suppressed": 0.0,
        "visitors": 2,
        "reached": 2,
        "unknown_visitors": 0,
        "dropped": 0,
        "full": {"visitors": 0, "rules": []},
        "events": 9,
        "first": "2026-11-02T00:00:00+00:00",
        "last": "2026-11-02T01:07:40+00:00",
        "frequency_before": {"mean": 3.5, "p99": 6, "max": 6, "histogram": {"1": 1, "6": 1}},
        "frequency_after": {"mean": 2.0, "p99": 3, "max": 3, "histogram": {"1": 1, "3": 1}},
        "unknown_campaigns": {"campaigns": [], "held": "only [annoyance] and [caps]"},
        "campaigns": {
            "c": {key: value for key, value in figures.items() if key in figures["campaigns"]["c"]},
        },
        "seconds": 0,
        "events_per_second": 0,
    }


def test_frequency() -> None:
    """At least 99 of 100 visitors got at most the 99th percentile."""
    assert Frequency({1: 99, 50: 1}).p99 == 1
    assert Frequency({1: 98, 50: 2}).p99 == 50
    assert Frequency({1: 9, 7: 1}).p99 == 7
    assert Frequency({2: 3, 4: 1}).mean == 2.5
    assert Frequency({2: 3, 4: 1}).visitors == 4


def test_clicks_in_the_impression_s_row() -> None:
    """A click in its impression's row happened if the impression did; on a suppressed one it is at risk."""
    policy = """
        [campaign.c]
        caps = ["1 per hour"]
        [campaign.after]
        audience = ["click c"]
        [campaign.bought]
        exclude = ["conversion c"]
    """
    rows = [
        row(MONDAY, "v1", "c", click=True, conversion=True, value=10.0),
        row(MONDAY + 1, "v1", "after"),
        row(MONDAY + 1, "v1", "bought"),
        row(MONDAY, "v2", "c"),
        row(MONDAY + 2, "v2", "c", click=True, conversion=True, value=7.5),
        row(MONDAY + 3, "v2", "after"),
        row(MONDAY + 3, "v2", "bought"),
    ]
    result = run(policy, rows)
    total = result.total
    assert (total.clicks, total.clicks_on_suppressed) == (2, 1)
    assert (total.conversions, total.conversions_on_suppressed) == (2, 1)
    assert (total.value, total.value_on_suppressed) == (17.5, 7.5)
    assert total.rules == {("audience", "click c"): 1, ("cap", "1 per hour"): 1, ("exclude", "conversion c"): 1}


def test_clicks_in_rows_of_their_own() -> None:
    """A click with its own row happened, and is at risk if the campaign's previous impression was suppressed."""
    policy = '[campaign.c]\ncaps = ["1 per hour"]\n[campaign.after]\naudience = ["click c"]'
    rows = [
        row(MONDAY, "v1", "c"),
        row(MONDAY + 5, "v1", "c", event="click", subject="c"),
        row(MONDAY + 10, "v1", "c"),
        row(MONDAY + 15, "v1", "c", event="click", id="k"),
        row(MONDAY + 15, "v1", "c", event="click", id="k"),
        row(MONDAY + 20, "v1", "after"),
        row(MONDAY + 3_601, "v1", "c"),
        row(MONDAY + 3_605, "v1", "c", event="conversion", value=3.0),
        row(MONDAY + 3_605, None, "c", event="click"),
    ]
    total = run(policy, rows).total
    assert (total.clicks, total.clicks_on_suppressed) == (3, 1)
    assert (total.conversions, total.conversions_on_suppressed, total.value) == (1, 0, 3.0)
    assert total.suppressed_by == {"1 per hour": 1}


def test_money_does_not_depend_on_the_order() -> None:
    """Sums of money are exact to a billionth, in any order."""
    rows = [row(MONDAY + n, f"v{n % 7}", "c", cost=0.1) for n in range(1_000)]
    assert run('[defaults]\ncaps = ["1 per lifetime"]', rows).total.cost == 100.0


def test_the_main_figures_are_properties() -> None:
    """A replay has the total's main figures under the same names."""
    rows = [row(MONDAY + n, "v1", cost=0.5, click=n == 2, id=f"i{min(n, 2)}") for n in range(4)]
    result = run('[defaults]\ncaps = ["1 per day"]', rows)
    assert (result.impressions, result.served, result.suppressed, result.repeated) == (4, 1, 2, 1)
    assert (result.cost_saved, result.clicks_on_suppressed) == (1.0, 1)
    assert result.suppressed_by == result.total.suppressed_by == {"1 per day": 2}


def test_losses_are_sums() -> None:
    """The losses of two groups of visitors add up: tallies by campaign, visitors by frequency, dropped events."""
    kind = Kind("impression", "c", None, True, False, None, False, False, (), 3, MONDAY, 0, 0, price=250_000_000)  # noqa: FBT003
    both = Losses()
    for suppressed in (1, 2):
        losses = Losses(dropped=1)
        visitor = VisitorLosses(losses)
        for n in range(3):
            visitor.add(kind, ("cap", "1 per day") if n < suppressed else None, 0.0, 0.0)
        visitor.finish()
        both.add(losses)
    assert both.visitors == {(3, 2): 1, (3, 1): 1}
    assert both.dropped == 2
    tally = both.tallies["c"]
    assert (tally.suppressed, tally.saved, tally.clicks_lost) == (3, 750_000_000, 3)
    assert tally.rules == {("cap", "1 per day"): 3}
