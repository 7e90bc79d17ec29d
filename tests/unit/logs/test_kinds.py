"""A log by kind: the same figures as counting the log's rows in Python."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest

from retarget.logs.kinds import UNIT, Kind, LogKinds
from retarget.logs.log import Log, LogOptions, LogRow

T = 1_793_577_600
HEAD = "at,visitor,event,campaign,subject,id,cost,value,click,conversion,timezone,slot,other"


def written(path: Path, rows: int, seed: int = 1) -> Path:
    """An unsorted log: few seconds, few visitors (some rows without one), repeated ids, empty cells."""
    draw = random.Random(seed)
    lines = [HEAD]
    for number in range(rows):
        event = draw.choice(["impression", "impression", "", "click", "conversion", "visit"])
        cells = [
            T + draw.randrange(40),
            draw.choice(["", *(f"v{n}" for n in range(12))]),
            event,
            draw.choice(["a", "b"]) if event != "visit" else "",
            draw.choice(["", "home"]),
            draw.choice(["", f"i{draw.randrange(rows)}"]),
            draw.choice(["", "0.1", "0.0000000005", f"{draw.random():.12f}"]),
            draw.choice(["", "7.25"]),
            draw.choice([0, 0, 1]),
            draw.choice([0, 0, 1]),
            draw.choice(["", "Asia/Tokyo"]),
            draw.choice(["", "top", "side"]),
            number,
        ]
        lines.append(",".join(map(str, cells)))
    path.write_text("\n".join(lines) + "\n")
    return path


def counted(log: Log) -> tuple[dict[Kind, int], list[LogRow]]:
    """A log's kinds with their numbers of rows, and the rows that are not repeated, counted in Python."""
    seen: set[tuple[str | None, str, str]] = set()
    groups: defaultdict[tuple[Any, ...], list[LogRow]] = defaultdict(list)
    fresh = []
    for row in chain.from_iterable(log.rows()):
        repeated = row.id is not None and (row.visitor, row.event, row.id) in seen
        if row.id is not None:
            seen.add((row.visitor, row.event, row.id))
        if not repeated:
            fresh.append(row)
        groups[(*alike(row), repeated)].append(row)
    kinds = {}
    for (event, campaign, subject, click, conversion, timezone, priced, label, repeated), rows in groups.items():
        first = min(row.at for row in rows)
        cost = sum(round((row.cost or 0) * UNIT) for row in rows)
        value = sum(round((row.value or 0) * UNIT) for row in rows)
        shared = (event, campaign, subject, click, conversion, timezone, priced, repeated, (label,))
        kinds[Kind(*shared, len(rows), first, cost, value)] = len(rows)
    return kinds, fresh


def alike(row: LogRow) -> tuple[Any, ...]:
    """What makes rows one kind."""
    shared = row.event, row.campaign, row.subject, row.click, row.conversion, row.timezone
    return (*shared, row.cost is not None, row.labels[0])


def alike_kind(kind: Kind) -> tuple[Any, ...]:
    """The same for a kind."""
    return (*kind[:6], kind.priced, kind.labels[0])


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Kinds, sums, visitors and their rows in order are those of the log, whatever the size of a chunk."""
    monkeypatch.setattr("retarget.logs.kinds.CHUNK", chunk)
    with Log(LogOptions((written(tmp_path / "log.csv", 700),))) as log:
        kinds, fresh = counted(log)
        with log.tables() as tables:
            by_kind = LogKinds(log, tables, ["slot"])
            assert {kind: kind.rows for kind in by_kind.kinds} == kinds
            assert (min(kind.first for kind in by_kind.kinds), by_kind.last) == (fresh[0].at, fresh[-1].at)
            impressions = Counter(row.visitor for row in fresh if row.event == "impression" and row.visitor)
            assert by_kind.frequency == Counter(impressions.values())

            by_visitor = defaultdict(list)
            for row in fresh:
                by_visitor[row.visitor].append((row.at, alike(row), row.cost or 0, row.value or 0))
            without_visitor = by_visitor.pop(None)
            got = []
            for one in [*by_kind.by_visitor(), *by_kind.unknown()]:
                assert one.costs is not None
                assert one.values is not None
                rows = [
                    (at, alike_kind(by_kind.kinds[kind]), cost, value)
                    for at, kind, cost, value in zip(one.seconds, one.kinds, one.costs, one.values, strict=True)
                ]
                assert one.begins[-1] == len(rows)
                got += [rows[begin:end] for begin, end in pairwise(one.begins)]
            assert got.pop() == without_visitor
            assert sorted(got, key=str) == sorted(by_visitor.values(), key=str)

            in_order = [(visitor, at, alike_kind(by_kind.kinds[kind])) for visitor, at, kind, *_ in by_kind.by_time()]
            assert in_order == [(row.visitor, row.at, alike(row)) for row in fresh if row.visitor is not None]


def test_a_log_of_three_columns(tmp_path: Path) -> None:
    """Columns that the log lacks make no kinds: one kind per campaign, no money."""
    path = tmp_path / "log.csv"
    path.write_text(f"at,visitor,campaign\n{T + 1},ann,a\n{T},ann,b\n{T + 2},ben,a\n")
    with Log(LogOptions((path,))) as log, log.tables() as tables:
        by_kind = LogKinds(log, tables, [])
        assert sorted((kind.campaign, kind.rows, kind.cost) for kind in by_kind.kinds) == [("a", 2, 0), ("b", 1, 0)]
        (chunk,) = by_kind.by_visitor()
        assert (sorted(chunk.seconds), chunk.costs, chunk.values) == ([T, T + 1, T + 2], None, None)
        assert list(by_kind.unknown()) == []
        assert by_kind.longest_id() in {("ann", T + 1), ("ann", T), ("ben", T + 2)}


def test_nothing(tmp_path: Path) -> None:
    """A log without rows has no kinds, no visitors, and no last second."""
    path = tmp_path / "log.csv"
    path.write_text("at,visitor,campaign,id,cost\n")
    with Log(LogOptions((path,))) as log, log.tables() as tables:
        by_kind = LogKinds(log, tables, [])
        assert (by_kind.kinds, by_kind.last, by_kind.frequency, by_kind.longest_id()) == ([], None, {}, None)
        assert [*by_kind.by_visitor(), *by_kind.unknown(), *by_kind.by_time()] == []


def test_reactions() -> None:
    """An impression's row may have led to a click and a conversion; a click's or a conversion's row is one itself."""
    kind = Kind("impression", "a", None, True, False, None, False, False, (), 1, T, 0, 0)  # noqa: FBT003
    assert kind.reactions() == (True, False)
    assert kind._replace(conversion=True).reactions() == (True, True)
    assert kind._replace(event="click", click=False).reactions() == (True, False)
    assert kind._replace(event="conversion").reactions() == (False, True)
    assert kind._replace(event="visit", conversion=True).reactions() == (False, False)
