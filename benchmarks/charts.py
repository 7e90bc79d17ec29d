"""Draw charts of a result, as SVG files for the docs.

    python -m benchmarks.charts RESULT.json [--into docs/explanation/charts]

A chart whose case is not in the result is not drawn. Colours: retarget dark blue, rivals grey, floors light.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import altair

Row = Mapping[str, Any]
Chart = Any
"""One of altair's kinds of charts."""

FOLDER = Path("docs/explanation/charts")
_COLOURS = altair.Scale(domain=["retarget", "rival", "floor"], range=["#1f4e79", "#9aa5b1", "#d5dbe1"])
_PALETTE = ["#1f4e79", "#c26a2d", "#6b8e5a", "#9aa5b1"]
_WIDTH = 460


def decide(result: Row) -> Chart | None:
    """One decision, all contestants: microseconds on a logarithmic scale."""
    rows = _measured(result, "decide")
    values = [{"who": _called(row), "role": row["role"], "us": row["median_us"]} for row in rows]
    return _bars(values, "us", "microseconds for one decision over 50 candidates (logarithmic)", log=True)


def memory(result: Row) -> Chart | None:
    """Bytes of a visitor with eight impressions and short ids."""
    rows = [row for row in result["memory"] if row["status"] == "measured" and row["ids"] == "short"]
    first = rows[0]["history"] if rows else None
    values = [
        {"who": row["name"], "role": row["role"], "bytes": row["bytes"]} for row in rows if row["history"] == first
    ]
    return _bars(values, "bytes", f"bytes for one visitor, {first}", log=False)


def candidates(result: Row) -> Chart | None:
    """A decision by the number of candidates."""
    return _lines(_by_size(result, "candidates"), "candidates", "microseconds for one decision")


def campaigns(result: Row) -> Chart | None:
    """A decision over every campaign, by their number."""
    values = [row | {"who": "retarget"} for row in _by_size(result, "campaigns")]
    return _lines(values, "campaigns in the policy", "microseconds for one decision")


def concurrent(result: Row) -> Chart | None:
    """Calls per second by the number in flight."""
    values = []
    for row in _measured(result, "async"):
        who, _, rest = row["name"].partition(", ")
        size, _, loop = rest.partition(", ")
        number = int(size.replace(",", ""))
        name = "retarget, decide" if row["role"] == "retarget" else who
        values.append({"who": f"{name}{f' ({loop})' if loop else ''}", "size": number, "value": 1e6 / row["median_us"]})
    return _lines(values, "calls in flight", "calls per second", log_y=False)


def growth(result: Row) -> Chart | None:
    """Bytes and microseconds by each dimension of growth."""
    if not result["growth"]:
        return None
    charts = []
    for dimension in dict.fromkeys(row["dimension"] for row in result["growth"]):
        rows = [row for row in result["growth"] if row["dimension"] == dimension]
        values = [{"who": "bytes per visitor", "size": row["size"], "value": row["bytes"]} for row in rows]
        values += [
            {"who": f"{call}, microseconds", "size": row["size"], "value": row[call]["us"]}
            for row in rows
            for call in ("decide", "record")
        ]
        drawn = _lines(values, dimension, "", width=220)
        if drawn is not None:
            charts.append(drawn)
    return altair.hconcat(*charts)


CHARTS: dict[str, Callable[[Row], Chart | None]] = {
    "decide": decide,
    "candidates": candidates,
    "campaigns": campaigns,
    "async": concurrent,
    "memory": memory,
    "growth": growth,
}
"""Each chart, by file name."""


def _measured(result: Row, case: str) -> list[dict[str, Any]]:
    return [
        row
        for found in result["cases"]
        if found["name"] == case
        for row in found["contestants"]
        if row["status"] == "measured"
    ]


def _called(row: Row) -> str:
    return f"retarget, {row['name']}" if row["role"] == "retarget" else str(row["name"])


def _by_size(result: Row, case: str) -> list[dict[str, Any]]:
    """Rows whose names end with the size: "decide, 500", "decide, all of 1,000 campaigns"."""
    values = []
    for row in _measured(result, case):
        if row["role"] == "floor":
            continue
        who, _, rest = row["name"].rpartition(", ")
        size = int("".join(letter for letter in rest if letter.isdigit()))
        name = "retarget" if row["role"] == "retarget" else who
        values.append({"who": name, "size": size, "value": row["median_us"]})
    return values


def _palette(values: list[dict[str, Any]]) -> altair.Scale:
    """Colours by name: retarget first, in dark blue."""
    names: list[str] = list(dict.fromkeys(value["who"] for value in values))
    first = sorted(names, key=lambda name: not name.startswith("retarget"))
    return altair.Scale(domain=first, range=_PALETTE)


def _data(values: list[dict[str, Any]]) -> Any:  # noqa: ANN401 - altair's
    return altair.Data(values=values)  # type: ignore[no-untyped-call]


def _bars(values: list[dict[str, Any]], field: str, title: str, *, log: bool) -> Chart | None:
    if not values:
        return None
    # A logarithmic scale has no zero, so bars start at 10.
    scale = altair.Scale(type="log", domainMin=10) if log else altair.Scale()
    base = altair.Chart(_data(values)).encode(
        y=altair.Y("who:N", title=None, sort=[value["who"] for value in values], axis=altair.Axis(labelLimit=280)),
    )
    bars = base.mark_bar().encode(
        x=altair.X(f"{field}:Q", title=title, scale=scale),
        color=altair.Color("role:N", scale=_COLOURS, legend=None),
        **({"x2": altair.datum(10)} if log else {}),
    )
    labels = base.mark_text(align="left", dx=4).encode(
        x=altair.X(f"{field}:Q"), text=altair.Text(f"{field}:Q", format=",.0f")
    )
    return altair.layer(bars, labels).properties(width=_WIDTH)


def _lines(values: list[dict[str, Any]], x: str, y: str, *, log_y: bool = True, width: int = _WIDTH) -> Chart | None:
    if not values:
        return None
    return (
        altair.Chart(_data(values))
        .mark_line(point=True)
        .encode(
            x=altair.X("size:Q", title=x, scale=altair.Scale(type="log"), axis=altair.Axis(format="~s", tickCount=5)),
            y=altair.Y("value:Q", title=y or None, scale=altair.Scale(type="log") if log_y else altair.Scale()),
            color=altair.Color(
                "who:N",
                title=None,
                scale=_palette(values),
                legend=altair.Legend(orient="bottom", columns=2, labelLimit=280),
            ),
        )
        .properties(width=width, height=240)
    )


def draw(result: Row, folder: Path) -> list[Path]:
    """Write every chart that the result has data for; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, make in CHARTS.items():
        chart = make(result)
        if chart is not None:
            files.append(folder / f"{name}.svg")
            chart.configure_view(stroke=None).configure_axis(grid=True, gridColor="#eef2f6").save(str(files[-1]))
    return files


def main(arguments: Sequence[str] | None = None) -> None:
    """Read a result, write the charts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.charts", description="Draw charts of a result.")
    parser.add_argument("result", type=Path)
    parser.add_argument("--into", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    for file in draw(json.loads(options.result.read_text(encoding="utf-8")), options.into):
        print(file)


if __name__ == "__main__":
    main()
