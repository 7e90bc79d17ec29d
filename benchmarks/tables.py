"""A result as text: caveats first, then a Markdown table for each case, then memory, growth and the server's time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import rivals

Row = Mapping[str, Any]


def page(result: Row) -> str:
    """The whole page."""
    parts = [*head(result["about"]), *targets(result)]
    for case in result["cases"]:
        parts += case_table(case)
    parts += memory_table(result["memory"])
    parts += growth_table(result["growth"])
    parts += server_table(result["server_cost"])
    if any(row["role"] == "rival" for case in result["cases"] for row in case["contestants"]):
        parts += ["### What rivals do better", "\n".join(f"- {line}" for line in rivals.BETTER)]
    return "\n\n".join(parts) + "\n"


def head(about: Row) -> Iterator[str]:
    """Caveats, machine, versions, who is missing."""
    yield "### Caveats"
    yield "\n".join(f"- {caveat}" for caveat in about["caveats"])
    machine, server = about["machine"], about["server"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    yield (
        f"Measured {about['at'][:10]} on {machine['cores']} cores of {machine['cpu']} ({machine['system']} "
        f"{machine['machine']}): {server['name']} {server['version']} ({server['allocator']}), {versions}."
    )
    if about["missing"]:
        yield f"Not installed, and so not measured: {', '.join(about['missing'])}."


def targets(result: Row) -> Iterator[str]:
    """What was to be reached, and what was."""
    rows = [target for case in result["cases"] for target in case["targets"]]
    rows += [row["target"] for row in result["memory"] if row.get("target")]
    if rows:
        yield "### Targets"
        yield table(
            ("what", "target", "reached", "spread", ""),
            (
                (row["what"], _bound(row), _reached(row), _spread(row["reached"], row["kind"]), _verdict(row["met"]))
                for row in rows
            ),
        )


def _bound(row: Row) -> str:
    sign, bound = ("at most", row["at_most"]) if row["at_most"] is not None else ("at least", row["at_least"])
    return f"{sign} {_number(bound, row['kind'])}"


def _reached(row: Row) -> str:
    return "-" if row["reached"] is None else _number(row["reached"]["median"], row["kind"])


def _spread(reached: Row | None, kind: str) -> str:
    if reached is None or reached.get("quartiles") is None:
        return "-"
    first, third = (_number(value, kind).removesuffix(" per second") for value in reached["quartiles"])
    return f"{first} to {third}"


def _number(value: float, kind: str) -> str:
    if kind == "rate":
        return f"{value:,.0f} per second"
    return f"{value:.2f}x" if value < 20 else f"{value:,.0f}x"


def _verdict(met: bool | None) -> str:  # noqa: FBT001 - three states
    return {True: "reached", False: "missed", None: "not measured"}[met]


def case_table(case: Row) -> Iterator[str]:
    """One case: microseconds of each contestant, and how it compares."""
    yield f"### {case['title']}"
    yield f"`{case['name']}`: {case['what']}. Microseconds for one {case['unit']}."
    rates = case["unit"] != "call" or case["name"] == "async"
    own = [row for row in case["contestants"] if row["role"] == "retarget" and row["status"] == "measured"]
    names = (
        "",
        "median",
        "quartiles",
        "p99",
        *(["per second"] if rates else []),
        "compared with",
        "ratio",
        "spread",
        "note",
    )
    yield table(names, (_contestant(row, own, rates=rates) for row in case["contestants"]))


def _contestant(row: Row, own: Sequence[Row], *, rates: bool) -> list[str]:
    name = f"**{row['name']}**" if row["role"] == "retarget" else row["name"]
    if row["status"] != "measured":
        word = row["note"] if row["status"] == "cannot" else f"{row['status']}: {row['note']}"
        return [name, "-", "-", "-", *(["-"] if rates else []), "-", "-", "-", word]
    first, third = row["quartiles_us"]
    p99 = "-" if row["p99_us"] is None else _us(row["p99_us"])
    cells = [name, _us(row["median_us"]), f"{_us(first)} to {_us(third)}", p99]
    if rates:
        cells.append(f"{1e6 / row['median_us']:,.0f}")
    reached = row["ratio"]
    other = "-" if row["compared_with"] == row["name"] else row["compared_with"]
    cells += [other, "-" if reached is None else _number(reached["median"], "ratio"), _spread(reached, "ratio")]
    note = row["note"]
    beaten = _beaten(row, own)
    return [*cells, "; ".join(filter(None, (f"faster than {beaten}" if beaten else "", note)))]


def _beaten(row: Row, own: Sequence[Row]) -> str | None:
    """The contestant of ours that a rival is faster than, on the same size of the job."""
    if row["role"] != "rival":
        return None
    _, comma, size = row["name"].rpartition(", ")
    alike = [other for other in own if comma and other["name"].endswith(f", {size}")] or own
    return next((other["name"] for other in alike if row["median_us"] < other["median_us"]), None)


def memory_table(rows: Sequence[Row]) -> Iterator[str]:
    """Bytes for a visitor, by history and length of ids."""
    if not rows:
        return
    yield "### Memory"
    yield (
        f"Bytes for one visitor, over {rows[0]['visitors']:,} visitors: the difference of `used_memory`. One cap of 7 "
        "days for each campaign. Short ids have 8 letters for a visitor and 2 for a campaign, long ones 36 for both."
    )
    yield table(
        ("history", "ids", "", "bytes", "compared with SET", "note"),
        (
            (
                f"{row['history']} ({row['impressions']:.1f})",
                row["ids"],
                f"**{row['name']}**" if row["role"] == "retarget" else row["name"],
                f"{row['bytes']:,.0f}" if row["status"] == "measured" else "-",
                f"{row['beside_set']:.2f}x" if row.get("beside_set") else "-",
                _memory_note(row, rows),
            )
            for row in rows
        ),
    )


def _memory_note(row: Row, rows: Sequence[Row]) -> str:
    if row["status"] != "measured":
        return f"{row['status']}: {row['note']}"
    own = next((other for other in rows if other["role"] == "retarget" and _same_history(other, row)), None)
    smaller = row["role"] == "rival" and own is not None and row["bytes"] < own["bytes"]
    return "smaller than retarget" if smaller else row["note"]


def _same_history(row: Row, other: Row) -> bool:
    return bool(row["history"] == other["history"] and row["ids"] == other["ids"])


def growth_table(rows: Sequence[Row]) -> Iterator[str]:
    """What grows with what."""
    if not rows:
        return
    yield "### Growth"
    yield "50 candidates with one cap each. Calls alternate with a GET, on visitors drawn at random."
    yield table(
        ("", "size", "bytes per visitor", "decide", "compared with GET", "record", "compared with GET"),
        (
            (
                row["dimension"],
                f"{row['size']:,}",
                f"{row['bytes']:,.0f}",
                _us(row["decide"]["us"]),
                f"{row['decide']['beside_get']['median']:.2f}x",
                _us(row["record"]["us"]),
                f"{row['record']['beside_get']['median']:.2f}x",
            )
            for row in rows
        ),
    )


def server_table(rows: Sequence[Row]) -> Iterator[str]:
    """What a call costs the server."""
    if not rows:
        return
    yield "### The server's time"
    yield (
        "Microseconds of Redis for one call: by its own clock around each command, hence calls per second that one "
        "core could run; and CPU of the whole process, including sockets and parsing."
    )
    yield table(
        ("call", "microseconds", "per second and core", "CPU", "commands"),
        (
            (
                f"**{row['name']}**" if row["role"] == "retarget" else row["name"],
                f"{row['us']:.1f}",
                f"{row['per_second_and_core']:,.0f}" if row["per_second_and_core"] else "-",
                f"{row['cpu_us']:.1f}",
                ", ".join(f"{cost['calls']:.3g} {name}" for name, cost in row["commands"].items()),
            )
            for row in rows
        ),
    )


def _us(microseconds: float) -> str:
    return f"{microseconds:.2f}" if microseconds < 10 else f"{microseconds:,.0f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
