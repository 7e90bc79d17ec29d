"""Reading logs: what comes out of a file, of whatever format, and in which order."""

# ruff: noqa: FBT003 - a row is compared whole, its flags among the values

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from retarget.logs.log import LogRow
from tests.support.logs import HEAD, T, csv, opened, parquet, read, refused, write

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def test_csv_with_every_field(tmp_path: Path) -> None:
    """Each field lands in its place with its type, and a column that is not a field is a label."""
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
    """Comma, semicolon, tab and bar are detected, gzipped or not, whatever the file is called."""
    lines = [HEAD, *(f"{T + i},v{i},c" for i in range(3))]
    path = write(tmp_path / f"log.{suffix}", "\n".join(lines).replace(",", delimiter))
    assert [(row.at, row.visitor, row.campaign) for row in read(path)] == [(T + i, f"v{i}", "c") for i in range(3)]


def test_gzip_is_known_by_its_bytes(tmp_path: Path) -> None:
    """A gzipped file without .gz in its name is read too."""
    path = tmp_path / "log.csv"
    path.write_bytes(gzip.compress(f"{HEAD}\n{T},v,c\n".encode()))
    assert read(str(path))[0].visitor == "v"


def test_unusual_delimiter_and_quote(tmp_path: Path) -> None:
    """A given delimiter and quote are used as they are."""
    path = write(tmp_path / "log.txt", f"at~visitor~campaign\n{T}~'a~b'~c\n")
    assert read(path, delimiter="~", quote="'")[0].visitor == "a~b"


def test_without_header(tmp_path: Path) -> None:
    """A file without header takes names from `columns`, or else DuckDB's."""
    path = write(tmp_path / "log.tsv", f"{T}\tv1\tc\n{T + 1}\tv2\tc\n")
    named = read(path, columns=["at", "visitor", "campaign"])
    assert named == read(path, mapping={"at": "column0", "visitor": "column1", "campaign": "column2"}, labels=())
    assert named == read(path, header=False, columns=["at", "visitor", "campaign"])
    assert [row.visitor for row in named] == ["v1", "v2"]


@pytest.mark.parametrize(
    ("columns", "first", "last"),
    [
        (3, "column0", "column2"),
        (9, "column0", "column8"),
        (10, "column0", "column9"),
        (11, "column00", "column10"),
        (24, "column00", "column23"),
        (101, "column000", "column100"),
    ],
)
def test_names_of_columns_without_header(tmp_path: Path, columns: int, first: str, last: str) -> None:
    """Numbers have as many digits as the last one, as the docs say; `--map` and errors use these names alone."""
    path = write(tmp_path / "log.csv", ",".join([str(T), *["v"] * (columns - 2), "c"]) + "\n")
    second = f"column{1:0{len(first) - len('column')}}"
    named = {"at": first, "visitor": second, "campaign": last}
    (only,) = read(path, header=False, delimiter=",", mapping=named, labels=())
    assert (only.at, only.visitor, only.campaign) == (T, "v", "c")
    assert f"the columns are {first}, {second}, " in refused(path, header=False, delimiter=",")
    other = "column0" if first != "column0" else "column00"
    wrong = refused(path, header=False, delimiter=",", mapping={**named, "at": other})
    assert wrong.startswith(f"--map at={other}: there is no column {other}; the columns are {first}, ")


def test_header_replaced(tmp_path: Path) -> None:
    """With `header=True` and `columns`, the first line is skipped and the given names are used."""
    path = csv(tmp_path, f"{T},v,c", head="a,b,c")
    assert read(path, header=True, columns=["at", "visitor", "campaign"])[0].visitor == "v"


def test_without_quoting(tmp_path: Path) -> None:
    """With quote="" a quote is an ordinary character, as in a raw TSV of user agents."""
    path = write(tmp_path / "log.tsv", f'{T}\t"v\tc\t5" tablet\n{T + 1}\tw"\tc\t"x"\n')
    rows = read(path, delimiter="\t", quote="", columns=["at", "visitor", "campaign", "agent"])
    assert [(row.visitor, row.labels) for row in rows] == [('"v', ('5" tablet',)), ('w"', ('"x"',))]


def test_odd_values(tmp_path: Path) -> None:
    """Quoted delimiters, quotes and line ends, emoji, blanks and long values are read unchanged."""
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
    """A quoted value is unquoted even if 100,000 plain ones come first."""
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
    """JSON lines are read, gzipped too, with numbers, booleans, blank lines and nested values."""
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
    """A key that only the last of 30,000 lines has is a column too."""
    line = json.dumps({"at": T, "visitor": "v", "campaign": "c"}) + "\n"
    last = json.dumps({"at": T, "visitor": "v", "campaign": "c", "conversion": 1, "tier": "gold"}) + "\n"
    with opened(write(tmp_path / "log.jsonl", line * 30_000 + last)) as log:
        assert (log.has("conversion"), log.label_names) == (True, ("tier",))
        assert [row.conversion for batch in log.rows() for row in batch].count(True) == 1


def test_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    """A file written by Excel has the same columns."""
    path = write(tmp_path / "log.csv", b"\xef\xbb\xbfat,visitor,campaign\r\n1700000000,v,c\r\n")
    assert [(row.at, row.campaign) for row in read(path)] == [(T, "c")]


def test_column_names_ignore_case(tmp_path: Path) -> None:
    """`Visitor` is the visitor; a label keeps its spelling."""
    with opened(csv(tmp_path, f"{T},v,c,x", head="At,VISITOR,Campaign,Tier")) as log:
        assert log.label_names == ("Tier",)
        assert next(log.rows())[0].visitor == "v"


def test_globs_and_paths_in_order(tmp_path: Path) -> None:
    """Paths are read in the order given, a glob's files by name; with one second in all rows that is the order."""
    for name in ("b", "a", "c"):
        csv(tmp_path, f"{T},{name}1,c", f"{T},{name}2,c", name=f"{name}.csv")
    first = csv(tmp_path, f"{T},z,c", name="z.txt")
    assert [row.visitor for row in read(first, str(tmp_path / "*.csv"))] == ["z", "a1", "a2", "b1", "b2", "c1", "c2"]
    assert [row.visitor for row in read(str(tmp_path / "c.csv"), str(tmp_path / "[ab].csv"))][:3] == ["c1", "c2", "a1"]


def test_glob_through_folders(tmp_path: Path) -> None:
    """`**` goes through folders, and folders that match are skipped."""
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
    """CSV, JSON and Parquet, other delimiters, other columns: united by name, missing values None, order kept."""
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
    """An empty file among others adds no rows; nor does a file with only a header."""
    path = csv(tmp_path, f"{T},v,c")
    empty = [write(tmp_path / "e.csv", ""), write(tmp_path / "e.csv.gz", ""), csv(tmp_path, name="h.csv")]
    assert len(read(*empty, path)) == 1
    assert read(empty[2]) == []
    with opened(empty[2]) as log:
        assert (log.count, list(log.rows())) == (0, [])


def ipinyou(tmp_path: Path) -> tuple[str, int, int]:
    """The iPinYou impressions and how many rows and visitors they have; else two rows of the same format."""
    real = DATA / "ipinyou" / "imp.20131021.adv2821.limit1000.txt.gz"
    if real.exists():
        return str(real), 10_000, 8_861
    rows = [["b1", "20131021182902623", "1", "C4N~1", 'a "quoted" agent', *["null"] * 17, "2821", "1,2"]]
    rows.append(["b2", "20131021235329599", "1", "x_-", "agent", *["null"] * 17, "2821", "null"])
    return write(tmp_path / "imp.txt.gz", "".join("\t".join(row) + "\n" for row in rows)), 2, 2


def test_ipinyou(tmp_path: Path) -> None:
    """A real log: TSV without header or quoting, Chinese local time in digits, sorted by visitor."""
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
    """A wide log without visitors: four features stand in for one, and 34 affinities are not read."""
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
