"""Times, and columns that are renamed or computed."""

# ruff: noqa: FBT003 - a row is compared whole, its flags among the values

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from retarget.errors import InputError
from retarget.logs.log import LogRow
from tests.support.logs import HEAD, T, csv, opened, parquet, read, refused, write


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1700000000", 0), ("1700000000.999999", 0), ("1.7e9", 0), (" 1700000000 ", 0),
        ("2023-11-14T22:13:20Z", 0), ("2023-11-14 22:13:20", 0), ("2023-11-14T22:13:20.999999Z", 0),
        ("2023-11-14 22:13:20.5+00:00", 0), ("2023-11-15T00:13:20+02:00", 0), ("2023-11-14T17:13:20-0500", 0),
        ("2023-11-14T22:13+00", -20), ("2023-11-14", -(22 * 3600 + 13 * 60 + 20)),
    ],
)  # fmt: skip
def test_times(tmp_path: Path, text: str, seconds: int) -> None:
    """Epoch seconds and ISO 8601 in all their spellings, floored to the second."""
    assert [row.at - T for row in read(csv(tmp_path, f"{text},v,c"))] == [seconds]


def test_one_log_may_mix_times(tmp_path: Path) -> None:
    """Epoch and ISO, with and without offset, in one column."""
    path = csv(tmp_path, f"{T},a,c", "2023-11-14T22:13:21Z,b,c", "2023-11-14 22:13:22,d,c")
    assert [row.at - T for row in read(path)] == [0, 1, 2]


def test_time_zone_of_naive_times(tmp_path: Path) -> None:
    """`time_zone` applies to times without an offset, in summer and winter, and to no others."""
    path = csv(tmp_path, "2024-01-01 12:00:00,a,c", "2024-07-01 12:00:00,b,c", "2024-07-01T12:00:00Z,d,c")
    utc = read(path)
    zurich = read(path, time_zone="Europe/Zurich")
    assert [a.at - b.at for a, b in zip(utc, zurich, strict=True)] == [3600, 7200, 0]


def test_computed_time_and_zone(tmp_path: Path) -> None:
    """The times of iPinYou: digits in Chinese local time without an offset."""
    path = csv(tmp_path, "20131021182902623,v,c", head="ts,visitor,campaign")
    wanted = int(datetime(2013, 10, 21, 10, 29, 2, tzinfo=UTC).timestamp())
    aware = {"at": "strptime(ts[:14], '%Y%m%d%H%M%S') AT TIME ZONE 'Asia/Shanghai'"}
    naive = {"at": "strptime(ts[:14], '%Y%m%d%H%M%S')"}
    assert [row.at for row in read(path, mapping=aware)] == [wanted]
    assert [row.at for row in read(path, mapping=naive, time_zone="Asia/Shanghai")] == [wanted]


def test_order(tmp_path: Path) -> None:
    """Sorted by second, not by its fraction: within one second the order of the log holds."""
    path = csv(tmp_path, f"{T + 5}.1,a,c", f"{T}.9,b,c", f"{T}.1,d,c", f"{T + 5},e,c", f"{T - 1},f,c")
    assert [row.visitor for row in read(path)] == ["f", "b", "d", "a", "e"]


def test_order_of_many_rows(tmp_path: Path) -> None:
    """300,000 rows of three seconds, in several files: the order of the log holds within each second."""
    paths = []
    for i in range(3):
        select = (
            f"""SELECT {T} + (range % 3) AS "at", {i} * 100000 + range AS visitor, 'c' AS campaign FROM range(100000)"""  # noqa: S608
        )
        paths.append(parquet(tmp_path / f"{i}.parquet", select))
    rows = read(*paths)
    assert len(rows) == 300_000
    numbers = [(row.at, int(row.visitor or "")) for row in rows]
    assert numbers == sorted(numbers)


def test_after(tmp_path: Path) -> None:
    """`after` leaves out that second and all before it."""
    with opened(csv(tmp_path, *(f"{T + i},v{i},c" for i in range(5)))) as log:
        assert [row.visitor for batch in log.rows(after=T + 2) for row in batch] == ["v3", "v4"]
        assert list(log.rows(after=T + 9)) == []


def test_batches(tmp_path: Path) -> None:
    """Batches have the size asked for, the last may be shorter; two readers do not disturb each other."""
    with opened(csv(tmp_path, *(f"{T + i},v{i},c" for i in range(10)))) as log:
        assert [len(batch) for batch in log.rows(batch=4)] == [4, 4, 2]
        pairs = [(a[0].at, b[0].at) for a, b in zip(log.rows(batch=1), log.rows(batch=1), strict=True)]
        assert len(pairs) == 10
        with pytest.raises(InputError, match="batch"):
            log.rows(batch=0)


def test_mapping_renames(tmp_path: Path) -> None:
    """A renamed column is not a label as well; any column name works, SQL keywords and odd characters too."""
    path = csv(tmp_path, f"{T},v,c,x,y", head="select,user id,camp-aign,at,tier")
    with opened(path, mapping={"at": "select", "visitor": "user id", "campaign": "camp-aign", "extra": "at"}) as log:
        assert log.label_names == ("tier", "extra")
        assert next(log.rows())[0] == (T, "v", "impression", "c", *[None] * 4, False, False, None, ("y", "x"))


def test_mapping_computes(tmp_path: Path) -> None:
    """An expression may join columns, be a constant, hide a column of its own name, or end in a comment."""
    path = csv(tmp_path, f"{T},v,c,01,02,5", head=HEAD + ",f0,f1,price")
    mapping = {
        "visitor": "concat(f0, '|', f1) -- two features",
        "campaign": "upper(campaign)",
        "cost": "price / 1000",
        "value": "round(price * 1.1, 1)",
        "click": "price > 4",
        "event": "'view'",
        "subject": "NULL",
    }
    (row,) = read(path, mapping=mapping, labels=())
    assert row == LogRow(T, "01|02", "view", "C", None, None, 0.005, 5.5, True, False, None, ())


def test_arithmetic_on_text_columns(tmp_path: Path) -> None:
    """Columns of CSV and JSON are text, yet arithmetic and time zones work on them."""
    path = csv(tmp_path, f"{T}123,2024-01-01 09:00:00,v,c", head="ms,local,visitor,campaign")
    assert read(path, mapping={"at": "ms/1000"})[0].at == T
    assert read(path, mapping={"at": "local AT TIME ZONE 'Asia/Tokyo'"})[0].at == 1_704_067_200
    path = write(tmp_path / "log.jsonl", json.dumps({"at": T * 1000, "visitor": "v", "campaign": "c"}))
    assert read(path, mapping={"at": '"at"/1000'})[0].at == T


def test_a_guess_is_no_verdict(tmp_path: Path) -> None:
    """Visitors that look like numbers for 30,000 rows are text; one that does not breaks no other expression."""
    path = csv(tmp_path, *[f"{T}000,007,c"] * 30_000, f"{T}000,somebody,c", head="ms,visitor,campaign")
    assert {row.visitor for row in read(path, mapping={"at": "ms/1000"})} == {"007", "somebody"}


def test_both_kinds_of_expression(tmp_path: Path) -> None:
    """One expression may take a column as text while another takes it as a number."""
    path = csv(tmp_path, f"{T},v,c", head="ts,visitor,campaign")
    (row,) = read(path, mapping={"at": "ts + 0", "visitor": "ts[:3]", "n": "length(ts)"}, labels=["n"])
    assert (row.at, row.visitor, row.labels) == (T, "170", ("10",))


def test_a_constant_campaign(tmp_path: Path) -> None:
    """`campaign` is for a log without that column, may contain quotes, and is refused if the log has one."""
    path = csv(tmp_path, f"{T},v", head="at,visitor")
    assert read(path, campaign="it's")[0].campaign == "it's"
    assert read(path, mapping={"campaign": "NULL"})[0].campaign is None
    assert "column campaign" in refused(csv(tmp_path, f"{T},v,c"), campaign="x")
    assert "column campaign" in refused(path, campaign="x", mapping={"campaign": "visitor"})


def test_labels(tmp_path: Path) -> None:
    """Labels are all other columns, or those asked for, in that order; a field or a mapped name may be one too."""
    path = csv(tmp_path, f"{T},v,c,1,2,3", head=HEAD + ",a,b,d")
    for labels, names, values in (
        (None, ("a", "b", "d"), ("1", "2", "3")),
        (["d", "a"], ("d", "a"), ("3", "1")),
        ([], (), ()),
        (["campaign", "A", "a"], ("campaign", "A", "a"), ("c", "1", "1")),
    ):
        with opened(path, labels=labels) as log:
            assert log.label_names == names
            assert next(log.rows())[0].labels == values
    with opened(path, mapping={"a": "b || d", "late": "a"}, labels=["late", "a"]) as log:
        assert next(log.rows())[0].labels == ("1", "23")


def test_wide_log(tmp_path: Path) -> None:
    """Of 500 columns only those asked for are read."""
    names = [f"c{i}" for i in range(500)]
    path = csv(tmp_path, *[f"{T},v,c," + ",".join("0" for _ in names)] * 50, head=f"{HEAD},{','.join(names)}")
    with opened(path, labels=["c499"]) as log:
        assert next(log.rows())[0].labels == ("0",)
    assert len(read(path)[0].labels) == 500
    assert "and 473 more" in refused(path, labels=["nope"])


def test_click_is_yes_or_no(tmp_path: Path) -> None:
    """1, true, yes, a count: yes. 0, false, nothing: no."""
    flags = ["1", "true", "yes", "t", "3", "1.0", "0", "false", "no", "0.0"]
    path = csv(
        tmp_path,
        *(f"{T},v,c,{x}" for x in flags),
        f"{T},v,c,",
        head=HEAD + ",click",
    )
    assert [row.click for row in read(path)] == [True] * 6 + [False] * 5
