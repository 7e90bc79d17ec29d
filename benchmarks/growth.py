"""Growth: memory, a decision and a record by the number of visitors, and by a visitor's impressions and campaigns.

Each row begins with an empty server. Calls take turns with a GET, on visitors drawn at random.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from benchmarks import data
from benchmarks.data import DAY, HOUR
from benchmarks.memory import PREFIX, Layout, bytes_per_visitor, load, policy
from benchmarks.runner import Say, measure, ratio
from benchmarks.servers import client
from retarget import Retargeter

DIMENSIONS = ("visitors", "impressions per visitor", "campaigns per visitor")
SIZES = {
    "visitors": (10_000, 100_000, 1_000_000),
    "impressions per visitor": (1, 10, 100, 1_000, 10_000),
    "campaigns per visitor": (1, 10, 100, 1_000),
}
QUICK_SIZES: dict[str, Sequence[int]] = {
    "visitors": (1_000, 10_000),
    "impressions per visitor": (1, 100),
    "campaigns per visitor": (1, 100),
}
_COPIES = 2_000
_CALLS = 25


def layout(dimension: str, size: int) -> Layout:
    """The history of every visitor in a row: all within the last six days."""
    shown, campaigns = {"visitors": (8, 4), "impressions per visitor": (size, 4)}.get(dimension, (size, size))
    step = max(1, 5 * DAY // shown)
    return Layout(dimension, "short", [[(place % campaigns, HOUR + place * step) for place in range(shown)]])


def measured(url: str, sizes: dict[str, Sequence[int]], rounds: int, say: Say) -> list[dict[str, Any]]:
    """A row for each size of each dimension."""
    logging.getLogger("retarget").addHandler(logging.NullHandler())  # it warns about each event of a full visitor
    rows: list[dict[str, Any]] = []
    for dimension in DIMENSIONS:
        for size in sizes[dimension]:
            visitors = size if dimension == "visitors" else min(_COPIES, max(sizes["visitors"]))
            row = {"dimension": dimension, "size": size, "visitors": visitors}
            rows.append(row | _row(url, layout(dimension, size), visitors, rounds))
            say(f"growth: {size:,} {dimension}: {rows[-1]['bytes']:.0f} bytes, {rows[-1]['decide']['us']:.0f} us")
    return rows


def _row(url: str, history: Layout, visitors: int, rounds: int) -> dict[str, Any]:
    campaigns = max(50, 1 + max(number for number, _ in history.histories[0]))
    in_force = policy(history, campaigns)
    size = bytes_per_visitor(url, visitors, lambda url, count: load(url, count, history, in_force))
    random = Random(1)
    candidates = [history.campaign(number) for number in range(50)]
    with client(url) as bare, Retargeter(in_force, url, timeout=1, prefix=PREFIX) as ads:

        def anyone() -> str:
            return data.visitor(random.randrange(visitors))

        calls: dict[str, Callable[[], object]] = {
            "get": lambda: bare.get("missing"),
            "decide": lambda: ads.decide(anyone(), candidates),
            "record": lambda: ads.record(anyone(), "impression", history.campaign(0)),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(rounds + 2):
            for name, call in calls.items():
                seconds = statistics.median(measure(call, 1, _CALLS))
                if turn >= 2:
                    times[name].append(seconds)
    timed = {
        name: {"us": statistics.median(own) * 1e6, "beside_get": ratio(own, times["get"])}
        for name, own in times.items()
    }
    return {"bytes": size, "decide": timed["decide"], "record": timed["record"], "get_us": timed["get"]["us"]}
