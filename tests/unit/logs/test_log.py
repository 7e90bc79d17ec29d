"""Reading logs: what comes out of a file, in which order, and what is said of a file that makes no sense."""

# ruff: noqa: FBT003 - a row is compared whole, its flags among the values

from __future__ import annotations

import gzip
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from retarget.errors import ConfigError, InputError, LogError
from retarget.logs.log import Log, LogOptions, LogRow

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
T = 1_700_000_000  # 2023-11-14T22:13:20Z
HEAD = "at,visitor,campaign"


def write(path: Path, text: str | bytes) -> str:
    """A file of that text, packed where its name says so."""
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return str(path)


def opened(*paths: str, **options: Any) -> Log:
    return Log(LogOptions(paths, **options))


def read(*paths: str, **options: Any) -> list[LogRow]:
    """All rows of a log."""
    with opened(*paths, **options) as log:
        rows = [row for batch in log.rows() for row in batch]
        assert len(rows) == log.count
        return rows


def refused(*paths: str, **options: Any) -> str:
    """What is said of a log that cannot be read."""
    with pytest.raises(LogError) as error:
        opened(*paths, **options)
    return str(error.value)


def csv(tmp_path: Path, *lines: str, name: str = "log.csv", head: str = HEAD) -> str:
    return write(tmp_path / name, "\n".join([head, *lines]) + "\n")


def parquet(path: Path, select: str) -> str:
    with duckdb.connect() as db:
        db.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
    return str(path)


# -- formats


def test_csv_with_every_field(tmp_path: Path) -> None:
    """Each field lands in its place with its type, and a column that is no field is a label."""
    path = csv(
        tmp_path,
        f"{T},v1,c1,click,s1,e1,0.25,9.5,1,true,Asia/Tokyo,gold",
        f"{T + 1},v2,c2,,,,,,,,,",
        head="at,visitor,campaign,event,subject,id,cost,value,click,conversion,timezone,tier",
    )
    assert read(path) == [
        LogRow(T, "v1", "click", "c1", "s1", "e1", 0.25, 9.5, True, True, "Asia/Tokyo", ("gold",)),
        LogRow(T + 1, "v2", "impression", "c2", None, None, None, None, False, False, None, (None,)),
    ]


def test_absent_fields_have_their_defaults(tmp_path: Path) -> None:
    """A log of three columns is a log of impressions without cost; `has` says what there is."""
    with opened(csv(tmp_path, f"{T},v,c,x", head=HEAD + ",tier")) as log:
        assert [next(log.rows())] == [
            [LogRow(T, "v", "impression", "c", None, None, None, None, False, False, None, ("x",))]
        ]
        assert isinstance(next(log.rows())[0], LogRow)
        assert (log.has("visitor"), log.has("tier"), log.has("cost"), log.has("nothing")) == (True, True, False, False)
        assert log.label_names == ("tier",)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "txt", "txt.gz"])
def test_delimiters_are_found(tmp_path: Path, delimiter: str, suffix: str) -> None:
    """Comma, semicolon, tab and bar are found without being named, packed or not, whatever the file is called."""
    lines = [HEAD, *(f"{T + i},v{i},c" for i in range(3))]
    path = write(tmp_path / f"log.{suffix}", "\n".join(lines).replace(",", delimiter))
    assert [(row.at, row.visitor, row.campaign) for row in read(path)] == [(T + i, f"v{i}", "c") for i in range(3)]


def test_gzip_is_known_by_its_bytes(tmp_path: Path) -> None:
    """A packed file without .gz in its name is read all the same."""
    path = tmp_path / "log.csv"
    path.write_bytes(gzip.compress(f"{HEAD}\n{T},v,c\n".encode()))
    assert read(str(path))[0].visitor == "v"


def test_unusual_delimiter_and_quote(tmp_path: Path) -> None:
    """A named delimiter and quote are used as they are."""
    path = write(tmp_path / "log.txt", f"at~visitor~campaign\n{T}~'a~b'~c\n")
    assert read(path, delimiter="~", quote="'")[0].visitor == "a~b"


def test_without_header(tmp_path: Path) -> None:
    """A file without header takes names from `columns`, or else DuckDB's, column0 onwards."""
    path = write(tmp_path / "log.tsv", f"{T}\tv1\tc\n{T + 1}\tv2\tc\n")
    named = read(path, columns=["at", "visitor", "campaign"])
    assert named == read(path, mapping={"at": "column0", "visitor": "column1", "campaign": "column2"}, labels=())
    assert named == read(path, header=False, columns=["at", "visitor", "campaign"])
    assert [row.visitor for row in named] == ["v1", "v2"]


def test_header_replaced(tmp_path: Path) -> None:
    """With `header=True` and `columns`, the first line is passed over and the given names stand."""
    path = csv(tmp_path, f"{T},v,c", head="a,b,c")
    assert read(path, header=True, columns=["at", "visitor", "campaign"])[0].visitor == "v"


def test_without_quoting(tmp_path: Path) -> None:
    """With quote="" a quote is a character like any other, as in a raw TSV of user agents."""
    path = write(tmp_path / "log.tsv", f'{T}\t"v\tc\t5" tablet\n{T + 1}\tw"\tc\t"x"\n')
    rows = read(path, delimiter="\t", quote="", columns=["at", "visitor", "campaign", "agent"])
    assert [(row.visitor, row.labels) for row in rows] == [('"v', ('5" tablet',)), ('w"', ('"x"',))]


def test_odd_values(tmp_path: Path) -> None:
    """Quoted delimiters, quotes and line ends, emoji, blanks and long values come out as they went in."""
    odd = [
        'a,"b"',
        "line\nbreak",
        "😀é漢",
        "  padded  ",
        "x" * 50_000,
        "0x1F",
        "NULL",
        "-",
        "007",
        "1e5",
        "1_000",
        "null",
    ]
    path = write(
        tmp_path / "log.csv",
        HEAD + "\n" + "".join('{},"{}",c\n'.format(T + i, v.replace('"', '""')) for i, v in enumerate(odd)),
    )
    assert [row.visitor for row in read(path)] == odd
    path = write(
        tmp_path / "log.jsonl", "".join(json.dumps({"at": T, "visitor": v, "campaign": "c"}) + "\n" for v in odd)
    )
    assert [row.visitor for row in read(path)] == odd


def test_quotes_that_come_late(tmp_path: Path) -> None:
    """A first quoted value after 100,000 plain ones is unquoted all the same."""
    path = csv(tmp_path, *[f"{T},a,c"] * 100_000, f'{T},"b",c', f'{T},"d ""e"", f",c')
    assert [row.visitor for row in read(path)][-2:] == ["b", 'd "e", f']


def test_ids_stay_text(tmp_path: Path) -> None:
    """Ids that look like numbers keep zeros and length, in CSV and in JSON."""
    ids = ["007", "1.0", "12345678901234567890123", "1e3"]
    path = csv(tmp_path, *(f"{T},{v},{v}" for v in ids))
    assert [(row.visitor, row.campaign) for row in read(path)] == [(v, v) for v in ids]
    uuid = "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"
    lines = [{"at": T, "visitor": v, "campaign": "2024-1-5"} for v in [*ids, uuid, 7]]
    path = write(tmp_path / "log.json", "\n".join(map(json.dumps, lines)))
    assert [(row.visitor, row.campaign) for row in read(path)] == [(v, "2024-1-5") for v in [*ids, uuid, "7"]]


def test_empty_text_is_none(tmp_path: Path) -> None:
    """An empty visitor, label or event is absent, whatever the format."""
    wanted = [LogRow(T, None, "impression", "c", None, None, None, None, False, False, None, (None,))]
    assert read(csv(tmp_path, f'{T},,c,"",""', head=HEAD + ",event,tier")) == wanted
    row = {"at": T, "visitor": "", "campaign": "c", "event": "", "tier": ""}
    assert read(write(tmp_path / "log.jsonl", json.dumps(row) + "\n")) == wanted
    select = f"SELECT {T} AS \"at\", '' AS visitor, 'c' AS campaign, '' AS event, '' AS tier"
    assert read(parquet(tmp_path / "log.parquet", select)) == wanted


def test_parquet_types(tmp_path: Path) -> None:
    """Parquet's own types are taken as they are: timestamps, decimals, booleans, bytes; all labels become text."""
    select = f"""
        SELECT make_timestamptz({T}500000) AS "at", 'v'::BLOB AS visitor, 7 AS campaign,
               0.125::DECIMAL(9, 4) AS cost, true AS click, 2::UTINYINT AS conversion, 1.5::FLOAT AS value,
               DATE '2024-01-05' AS day, [1, 2] AS list"""
    select = select.replace(f"{T}500000", f"{T * 1_000_000 + 500_000}")
    (row,) = read(parquet(tmp_path / "log.parquet", select))
    assert row == LogRow(T, "v", "impression", "7", None, None, 0.125, 1.5, True, True, None, ("2024-01-05", "[1, 2]"))


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMPTZ"])
def test_parquet_timestamps(tmp_path: Path, kind: str) -> None:
    """Every precision of timestamp is floored to the second; only those without zone follow `time_zone`."""
    select = f"SELECT '2024-07-01 12:00:00.9'::{kind} AS \"at\", 'v' AS visitor, 'c' AS campaign"
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute(f"COPY ({select}) TO '{tmp_path / 'log.parquet'}'")
    noon = int(datetime(2024, 7, 1, 12, tzinfo=UTC).timestamp())
    assert {row.at for row in read(str(tmp_path / "log.parquet"))} <= {noon, noon + (kind == "TIMESTAMP_S")}
    shift = 0 if kind == "TIMESTAMPTZ" else 2 * 3600
    (row,) = read(str(tmp_path / "log.parquet"), time_zone="Europe/Zurich")
    assert row.at - (kind == "TIMESTAMP_S") in (noon - shift, noon - shift - 1)


def test_json_lines(tmp_path: Path) -> None:
    """JSON lines are read, packed too; numbers, booleans, blank lines and nested values are no obstacle."""
    lines = [
        {"at": T + 0.5, "visitor": 7, "campaign": "c", "click": True, "cost": 1e-3, "user": {"id": "x", "tags": [1]}},
        {"at": "2023-11-14T22:13:21Z", "visitor": "v", "campaign": "c", "click": 0},
    ]
    path = write(tmp_path / "log.jsonl.gz", "\n\n".join(map(json.dumps, lines)))
    rows = read(path, mapping={"inner": "user->>'id'"}, labels=["inner"])
    assert [(row.at, row.visitor, row.click, row.cost, row.labels) for row in rows] == [
        (T, "7", True, 0.001, ("x",)),
        (T + 1, "v", False, None, (None,)),
    ]
    assert read(path, mapping={"inner": "user.id"}, labels=["inner"])[0].labels == ("x",)


def test_json_known_by_its_first_byte(tmp_path: Path) -> None:
    """A file of an unknown name that begins with a brace is JSON lines."""
    assert (
        read(write(tmp_path / "events.log", json.dumps({"at": T, "visitor": "v", "campaign": "c"})))[0].visitor == "v"
    )


def test_json_keys_that_come_late(tmp_path: Path) -> None:
    """A key that only the last of 30,000 lines has is a column nevertheless."""
    line = json.dumps({"at": T, "visitor": "v", "campaign": "c"}) + "\n"
    last = json.dumps({"at": T, "visitor": "v", "campaign": "c", "conversion": 1, "tier": "gold"}) + "\n"
    with opened(write(tmp_path / "log.jsonl", line * 30_000 + last)) as log:
        assert (log.has("conversion"), log.label_names) == (True, ("tier",))
        assert [row.conversion for batch in log.rows() for row in batch].count(True) == 1


def test_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    """A file that Excel wrote has the same columns."""
    path = write(tmp_path / "log.csv", b"\xef\xbb\xbfat,visitor,campaign\r\n1700000000,v,c\r\n")
    assert [(row.at, row.campaign) for row in read(path)] == [(T, "c")]


def test_column_names_ignore_case(tmp_path: Path) -> None:
    """`Visitor` is the visitor; a label keeps its spelling."""
    with opened(csv(tmp_path, f"{T},v,c,x", head="At,VISITOR,Campaign,Tier")) as log:
        assert log.label_names == ("Tier",)
        assert next(log.rows())[0].visitor == "v"


# -- paths


def test_globs_and_paths_in_order(tmp_path: Path) -> None:
    """Paths come in the order given, what a glob matches by name; all of one second, so the order is the files'."""
    for name in ("b", "a", "c"):
        csv(tmp_path, f"{T},{name}1,c", f"{T},{name}2,c", name=f"{name}.csv")
    first = csv(tmp_path, f"{T},z,c", name="z.txt")
    assert [row.visitor for row in read(first, str(tmp_path / "*.csv"))] == ["z", "a1", "a2", "b1", "b2", "c1", "c2"]
    assert [row.visitor for row in read(str(tmp_path / "c.csv"), str(tmp_path / "[ab].csv"))][:3] == ["c1", "c2", "a1"]


def test_glob_through_folders(tmp_path: Path) -> None:
    """`**` goes through folders, and folders that match are passed over."""
    (tmp_path / "day" / "hour.csv").mkdir(parents=True)
    csv(tmp_path / "day" / "hour.csv", f"{T},v,c")
    assert [row.visitor for row in read(str(tmp_path / "**" / "*.csv"))] == ["v"]


def test_a_name_that_looks_like_a_glob(tmp_path: Path) -> None:
    """A file that exists is that file, even if its name would match others."""
    csv(tmp_path, f"{T},wrong,c", name="a1.csv")
    path = csv(tmp_path, f"{T},right,c", name="a[1].csv")
    assert [row.visitor for row in read(path)] == ["right"]
    path = csv(tmp_path, f"{T},right,c", name='it\'s "a" *.csv')
    assert [row.visitor for row in read(path)] == ["right"]


def test_files_of_different_shape(tmp_path: Path) -> None:
    """CSV, JSON and Parquet, other delimiters, other columns: united by name, absent values None, order kept."""
    paths = [
        csv(tmp_path, f"{T},1,c,x", name="a.csv", head=HEAD + ",tier"),
        write(tmp_path / "b.csv", f"campaign;at;visitor\nc;{T};2\n"),
        write(tmp_path / "c.jsonl", json.dumps({"visitor": "3", "at": T, "campaign": "c", "cost": 2})),
        parquet(tmp_path / "d.parquet", f"SELECT 'c' AS campaign, 4 AS visitor, {T} AS \"at\""),
        write(tmp_path / "e.csv.gz", f"{HEAD}\n{T},5,c\n"),
    ]
    rows = read(*paths)
    assert [(row.visitor, row.cost, row.labels) for row in rows] == [
        ("1", None, ("x",)), ("2", None, (None,)), ("3", 2.0, (None,)), ("4", None, (None,)), ("5", None, (None,)),
    ]  # fmt: skip


def test_an_empty_hour(tmp_path: Path) -> None:
    """Among other files an empty one has no rows; a file with a header only has none either."""
    path = csv(tmp_path, f"{T},v,c")
    empty = [write(tmp_path / "e.csv", ""), write(tmp_path / "e.csv.gz", ""), csv(tmp_path, name="h.csv")]
    assert len(read(*empty, path)) == 1
    assert read(empty[2]) == []
    with opened(empty[2]) as log:
        assert (log.count, list(log.rows())) == (0, [])


# -- time


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
    """`time_zone` reads what has no offset, summer and winter; what has one is left alone."""
    path = csv(tmp_path, "2024-01-01 12:00:00,a,c", "2024-07-01 12:00:00,b,c", "2024-07-01T12:00:00Z,d,c")
    utc = read(path)
    zurich = read(path, time_zone="Europe/Zurich")
    assert [a.at - b.at for a, b in zip(utc, zurich, strict=True)] == [3600, 7200, 0]


def test_computed_time_and_zone(tmp_path: Path) -> None:
    """The clock of iPinYou: digits in Chinese local time without offset."""
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
    """Batches are as long as asked, the last may be shorter; two readings at once do not disturb each other."""
    with opened(csv(tmp_path, *(f"{T + i},v{i},c" for i in range(10)))) as log:
        assert [len(batch) for batch in log.rows(batch=4)] == [4, 4, 2]
        pairs = [(a[0].at, b[0].at) for a, b in zip(log.rows(batch=1), log.rows(batch=1), strict=True)]
        assert len(pairs) == 10
        with pytest.raises(InputError, match="batch"):
            log.rows(batch=0)


# -- the mapping


def test_mapping_renames(tmp_path: Path) -> None:
    """A renamed column is no label besides; any column name will do, words of SQL and odd signs too."""
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
    """Columns of CSV and JSON are text, yet numbers can be reckoned with and times moved to a zone."""
    path = csv(tmp_path, f"{T}123,2024-01-01 09:00:00,v,c", head="ms,local,visitor,campaign")
    assert read(path, mapping={"at": "ms/1000"})[0].at == T
    assert read(path, mapping={"at": "local AT TIME ZONE 'Asia/Tokyo'"})[0].at == 1_704_067_200
    path = write(tmp_path / "log.jsonl", json.dumps({"at": T * 1000, "visitor": "v", "campaign": "c"}))
    assert read(path, mapping={"at": '"at"/1000'})[0].at == T


def test_a_guess_is_no_verdict(tmp_path: Path) -> None:
    """Visitors that look like numbers for 30,000 rows are text, and one that does not breaks no other expression."""
    path = csv(tmp_path, *[f"{T}000,007,c"] * 30_000, f"{T}000,somebody,c", head="ms,visitor,campaign")
    assert {row.visitor for row in read(path, mapping={"at": "ms/1000"})} == {"007", "somebody"}


def test_both_kinds_of_expression(tmp_path: Path) -> None:
    """One expression may take a column as text while another takes it as a number."""
    path = csv(tmp_path, f"{T},v,c", head="ts,visitor,campaign")
    (row,) = read(path, mapping={"at": "ts + 0", "visitor": "ts[:3]", "n": "length(ts)"}, labels=["n"])
    assert (row.at, row.visitor, row.labels) == (T, "170", ("10",))


def test_a_constant_campaign(tmp_path: Path) -> None:
    """`campaign` serves a log without that column, quotes and all, and is refused where there is one."""
    path = csv(tmp_path, f"{T},v", head="at,visitor")
    assert read(path, campaign="it's")[0].campaign == "it's"
    assert read(path, mapping={"campaign": "NULL"})[0].campaign is None
    assert "column campaign" in refused(csv(tmp_path, f"{T},v,c"), campaign="x")
    assert "column campaign" in refused(path, campaign="x", mapping={"campaign": "visitor"})


def test_labels(tmp_path: Path) -> None:
    """Labels are all other columns, or those asked for, in that order; a field or a mapped name may be one, too."""
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


# -- what is refused


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    """A file that is not there, a glob without match, a folder, and an address on the network are named."""
    assert f"there is no file {tmp_path / 'x.csv'}" in refused(str(tmp_path / "x.csv"))
    assert f"no file matches {tmp_path / '*.csv'}" in refused(str(tmp_path / "*.csv"))
    assert "is a folder" in refused(str(tmp_path))
    assert "there is no file https://example.com/log.csv" in refused("https://example.com/log.csv")
    for paths in ((), "log.csv"):
        with pytest.raises(InputError, match="paths"):
            Log(LogOptions(paths))


def test_files_that_are_no_logs(tmp_path: Path) -> None:
    """Junk of every kind is refused with its name, and never with DuckDB's own exception."""
    junk = bytes(range(1, 256)) * 40
    for name in ("junk.csv", "junk.parquet", "junk.jsonl", "junk"):
        assert name in refused(write(tmp_path / name, junk))
    (tmp_path / "junk.csv.gz").write_bytes(b"\x1f\x8b" + junk)
    assert "junk.csv.gz" in refused(str(tmp_path / "junk.csv.gz"))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(f"{HEAD}\n{T},v,c\n".encode() * 5000)[:-40])
    assert "cannot be read" in refused(str(tmp_path / "cut.csv.gz"))
    assert "the log is empty" in refused(write(tmp_path / "empty.csv", ""))
    assert "cannot be read" in refused(write(tmp_path / "bad.jsonl", '{"at": 1,\n'))
    assert "utf-8" in refused(write(tmp_path / "latin.csv", f"{HEAD}\n{T},caf\xe9,c\n".encode("latin-1")))


def test_ragged_csv(tmp_path: Path) -> None:
    """A line with too many values is an error, not a line less, and the line is not quoted: a visitor stands in it."""
    lines = [f"{T},v,c"] * 30_000
    said = refused(csv(tmp_path, *lines, f"{T},somebody,c,4"), delimiter=",")
    assert "Line: 30002" in said
    assert "log.csv" in said
    assert "somebody" not in said
    assert "one" in refused(csv(tmp_path, f"{T},v", f"{T},v,c,d"))


def test_missing_fields(tmp_path: Path) -> None:
    """Without at, visitor or campaign the message shows the cure and the columns there are."""
    for name in ("at", "visitor", "campaign"):
        said = refused(csv(tmp_path, "1,2,3", head=HEAD.replace(name, "other")))
        assert f"no column {name}" in said
        assert f"--map {name}=COLUMN" in said
        assert "other" in said


def test_mapping_of_an_unknown_column(tmp_path: Path) -> None:
    """The unknown column, the map and the columns there are: all named."""
    path = csv(tmp_path, f"{T},v,c")
    for text in ("nope", "nope + 1"):
        said = refused(path, mapping={"cost": text})
        assert f"--map cost={text}: there is no column nope; the columns are at, visitor, campaign" in said
    assert "no column nope" in refused(path, labels=["nope"])


@pytest.mark.parametrize(
    "text",
    ["", "((", "visitor, campaign", "visitor; DROP TABLE log", "1) FROM x; SELECT (2", "a /* b", "max(visitor)", "*",
     "visitor AND", "no_such_function(visitor)", "visitor::NOSUCHTYPE", "COLUMNS(*)"],
)  # fmt: skip
def test_mapping_that_is_no_expression(tmp_path: Path, text: str) -> None:
    """What is not one SQL expression over one row is refused, with the map in the message."""
    assert f"--map cost={text}" in refused(csv(tmp_path, f"{T},v,c"), mapping={"cost": text})


def test_reserved_word_is_explained(tmp_path: Path) -> None:
    """`at` is a keyword of SQL: the message says how to write the column."""
    assert '"at"' in refused(csv(tmp_path, f"{T},v,c"), mapping={"at": "at/1000"})


def test_expression_that_fails_on_a_row(tmp_path: Path) -> None:
    """An expression that breaks on some row's value is reported with the map and the value."""
    path = csv(tmp_path, "20131021,v,c", "tomorrow,v,c", head="ts,visitor,campaign")
    said = refused(path, mapping={"at": "strptime(ts, '%Y%m%d')"})
    assert "--map at=strptime" in said
    assert "tomorrow" in said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("yesterday", "'yesterday', which is neither ISO 8601 nor epoch seconds"),
        ("05/11/2024 10:00", "neither ISO"),
        ("2024-02-30", "neither ISO"),
        ("infinity", "not within 1970 to 2096"),
        ("nan", "not within"),
        ("9999-12-31", "not within 1970 to 2096"),
        ("1969-12-31T23:59:59Z", "not within 1970 to 2096"),
        ("-5", "not within 1970 to 2096"),
        ("", "at is empty"),
        (f"{T}123", "looks like milliseconds: --map at='\"at\"/1000'"),
        (f"{T}123456", "looks like microseconds: --map at='\"at\"/1000000'"),
        (f"{T}123456789", "looks like nanoseconds"),
        ("1e300", "not within"),
    ],
)
def test_times_that_make_no_sense(tmp_path: Path, value: str, said: str) -> None:
    """The first such row is named by its number and value, and how many there are."""
    message = refused(csv(tmp_path, f"{T},v,c", f"{value},v,c", f"{T},v,c", f"{value},v,c"))
    assert message.startswith("row 2 of 4: at is")
    assert said in message
    assert message.endswith("(2 such rows)")


def test_milliseconds_cure_fits_the_map(tmp_path: Path) -> None:
    """The cure is in the words of the map that was given, and it works."""
    path = csv(tmp_path, f"{T}123,v,c", head="ts,visitor,campaign")
    assert refused(path, mapping={"at": "ts"}).endswith("--map at='ts/1000' (1 such row)")
    assert "--map at='(ts + 1)/1000'" in refused(path, mapping={"at": "ts + 1"})
    assert read(path, mapping={"at": "ts/1000"})[0].at == T
    select = f"SELECT {T}123 AS \"at\", 'v' AS visitor, 'c' AS campaign"
    path = parquet(tmp_path / "log.parquet", select)
    assert "milliseconds" in refused(path)
    assert read(path, mapping={"at": '"at"/1000'})[0].at == T


@pytest.mark.parametrize(
    ("name", "value"),
    [("cost", "cheap"), ("cost", "inf"), ("value", "NaN"), ("click", "maybe"), ("conversion", "null")],
)
def test_numbers_and_flags_that_make_no_sense(tmp_path: Path, name: str, value: str) -> None:
    """A cost that is no number would falsify every sum, so it is refused like a bad time."""
    said = refused(csv(tmp_path, f"{T},v,c,1", f"{T},v,c,{value}", head=f"{HEAD},{name}"))
    assert said.startswith(f"row 2 of 2: {name} is '{value}'")


def test_a_type_that_is_no_time(tmp_path: Path) -> None:
    """A boolean or a list is no time."""
    path = csv(tmp_path, f"{T},v,c")
    assert "at is 'true'" in refused(path, mapping={"at": "visitor = 'v'"})
    assert "neither ISO" in refused(path, mapping={"at": "[1, 2]"})


def test_unknown_time_zone(tmp_path: Path) -> None:
    """An unknown zone is the caller's fault and is named."""
    with pytest.raises(InputError, match="Mars/Base"):
        opened(csv(tmp_path, f"{T},v,c"), time_zone="Mars/Base")


def test_errors_keep_their_cause(tmp_path: Path) -> None:
    """DuckDB's exception is there for who wants it, as the cause."""
    with pytest.raises(LogError) as error:
        opened(csv(tmp_path, f"{T},v,c"), mapping={"cost": "(("})
    assert isinstance(error.value.__cause__, duckdb.Error)


def test_without_duckdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the message says what to install."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigError, match=r"pip install 'retarget\[logs\]'"):
        opened(csv(tmp_path, f"{T},v,c"))


def test_a_closed_log_says_so(tmp_path: Path) -> None:
    """Closing twice does no harm; reading on is a LogError."""
    log = opened(csv(tmp_path, *[f"{T},v,c"] * 10))
    reading = log.rows(batch=2)
    next(reading)
    log.close()
    log.close()
    with pytest.raises(LogError, match="reading the log failed"):
        list(log.rows())


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an opened nor a refused log leaves a file in the temporary folder."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    read(csv(tmp_path, f"{T},v,c"))
    refused(csv(tmp_path, "x,v,c"))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_no_extension_is_fetched(tmp_path: Path) -> None:
    """An expression that would need an extension from the network is refused at once."""
    assert "--map cost=ST_Point(1, 2)" in refused(csv(tmp_path, f"{T},v,c"), mapping={"cost": "ST_Point(1, 2)"})


# -- real logs


def ipinyou(tmp_path: Path) -> tuple[str, int, int]:
    """The iPinYou impressions and how many rows and visitors they have; else two rows of the same format."""
    real = DATA / "ipinyou" / "imp.20131021.adv2821.limit1000.txt.gz"
    if real.exists():
        return str(real), 10_000, 8_861
    rows = [["b1", "20131021182902623", "1", "C4N~1", 'a "quoted" agent', *["null"] * 17, "2821", "1,2"]]
    rows.append(["b2", "20131021235329599", "1", "x_-", "agent", *["null"] * 17, "2821", "null"])
    return write(tmp_path / "imp.txt.gz", "".join("\t".join(row) + "\n" for row in rows)), 2, 2


def test_ipinyou(tmp_path: Path) -> None:
    """A true log: TSV without header or quoting, Chinese local time in digits, sorted by visitor."""
    path, rows, visitors = ipinyou(tmp_path)
    mapping = {
        "at": "strptime(column01[:14], '%Y%m%d%H%M%S')",
        "visitor": "column03",
        "campaign": "column22",
        "id": "column00",
        "tags": "nullif(column23, 'null')",
    }
    log = opened(
        path, mapping=mapping, time_zone="Asia/Shanghai", header=False, delimiter="\t", quote="", labels=["tags"]
    )
    with log:
        every = [row for batch in log.rows() for row in batch]
    assert (len(every), len({row.visitor for row in every}), {row.campaign for row in every}) == (
        rows,
        visitors,
        {"2821"},
    )
    assert [row.at for row in every] == sorted(row.at for row in every)
    assert every[0].at == int(datetime(2013, 10, 21, 10, 29, 2, tzinfo=UTC).timestamp())
    assert every[-1].at == int(datetime(2013, 10, 21, 15, 53, 29, tzinfo=UTC).timestamp())
    assert any(row.labels == (None,) for row in every)


def open_bandit(tmp_path: Path) -> tuple[str, int]:
    """A log of the Open Bandit data; else one of the same columns."""
    real = DATA / "open_bandit" / "bts_men.csv.gz"
    if real.exists():
        return str(real), 10_000
    wide = [f"user-item_affinity_{i}" for i in range(34)]
    head = [
        "",
        "timestamp",
        "item_id",
        "position",
        "click",
        "propensity_score",
        *(f"user_feature_{i}" for i in range(4)),
        *wide,
    ]
    row = ["0", "2019-11-24 00:00:17.004101+00:00", "21", "3", "0", "0.29", "a", "b", "c", "d", *["0.0"] * 34]
    return write(tmp_path / "bts.csv.gz", ",".join(head) + "\n" + ",".join(row) + "\n"), 1


def test_open_bandit(tmp_path: Path) -> None:
    """A wide log without visitors: four features make one, and 34 affinities are not read."""
    path, rows = open_bandit(tmp_path)
    mapping = {
        "at": "timestamp",
        "visitor": "concat(user_feature_0, '|', user_feature_1, '|', user_feature_2, '|', user_feature_3)",
        "campaign": "item_id",
    }
    with opened(path, mapping=mapping, labels=["position"]) as log:
        assert (log.count, log.label_names, log.has("click")) == (rows, ("position",), True)
        first = next(log.rows())[0]
    assert datetime.fromtimestamp(first.at, UTC).date().isoformat() == "2019-11-24"
    assert (first.visitor or "").count("|") == 3
    assert first.labels[0] in ("1", "2", "3")
    with opened(path, mapping=mapping) as log:
        assert len(log.label_names) == 34 + 4 + 3


def test_no_message_quotes_a_row(tmp_path: Path) -> None:
    """A key that comes twice, a column without end: told in a few words, and not whom it was about."""
    twice = write(tmp_path / "twice.jsonl", '{"at": 1, "visitor": "her-id", "campaign": "a", "at": 2}\n')
    endless = write(tmp_path / "endless.csv", "at,visitor" + "x" * 5_000 + ",campaign\n1,v,a\n")
    worthless = write(tmp_path / "worthless.csv", "at,visitor,campaign,cost\n1,v,a," + "x" * 5_000 + "\n")
    for path in (twice, endless, worthless):
        with pytest.raises(LogError) as raised:
            Log(LogOptions([path]))
        assert "her-id" not in str(raised.value)
        assert len(str(raised.value)) < 500
