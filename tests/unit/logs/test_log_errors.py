"""Logs that are refused: what the error says, and what it must not say."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import duckdb
import pytest

from retarget.errors import ConfigError, InputError, LogError
from retarget.logs.log import Log, LogOptions
from tests.support.logs import HEAD, T, csv, opened, parquet, read, refused, write


def test_paths_without_a_file(tmp_path: Path) -> None:
    """A missing file, a glob without a match, a folder and a URL are errors that name them."""
    assert f"there is no file {tmp_path / 'x.csv'}" in refused(str(tmp_path / "x.csv"))
    assert f"no file matches {tmp_path / '*.csv'}" in refused(str(tmp_path / "*.csv"))
    assert "is a folder" in refused(str(tmp_path))
    assert "there is no file https://example.com/log.csv" in refused("https://example.com/log.csv")
    for paths in ((), "log.csv"):
        with pytest.raises(InputError, match="paths"):
            Log(LogOptions(paths))


def test_files_that_are_not_logs(tmp_path: Path) -> None:
    """Junk of any format is a LogError with the file's name, never DuckDB's own exception."""
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
    """A line with too many values is an error, not skipped, and is not quoted: it holds a visitor's id."""
    lines = [f"{T},v,c"] * 30_000
    said = refused(csv(tmp_path, *lines, f"{T},somebody,c,4"), delimiter=",")
    assert "Line: 30002" in said
    assert "log.csv" in said
    assert "somebody" not in said
    assert "one" in refused(csv(tmp_path, f"{T},v", f"{T},v,c,d"))


def test_missing_fields(tmp_path: Path) -> None:
    """Without at, visitor or campaign the message has the remedy and the log's columns."""
    for name in ("at", "visitor", "campaign"):
        said = refused(csv(tmp_path, "1,2,3", head=HEAD.replace(name, "other")))
        assert f"no column {name}" in said
        assert f"--map {name}=COLUMN" in said
        assert "other" in said


def test_mapping_of_an_unknown_column(tmp_path: Path) -> None:
    """The message names the unknown column, the map and the log's columns."""
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
def test_mapping_that_is_not_an_expression(tmp_path: Path, text: str) -> None:
    """What is not one SQL expression over one row is refused, with the map in the message."""
    assert f"--map cost={text}" in refused(csv(tmp_path, f"{T},v,c"), mapping={"cost": text})


def test_reserved_word_is_explained(tmp_path: Path) -> None:
    """`at` is a keyword of SQL: the message says how to write the column."""
    assert '"at"' in refused(csv(tmp_path, f"{T},v,c"), mapping={"at": "at/1000"})


def test_expression_that_fails_on_a_row(tmp_path: Path) -> None:
    """An expression that fails on a row's value is reported with the map and the value."""
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
def test_invalid_times(tmp_path: Path, value: str, said: str) -> None:
    """The message has the number and the value of the first such row, and how many there are."""
    message = refused(csv(tmp_path, f"{T},v,c", f"{value},v,c", f"{T},v,c", f"{value},v,c"))
    assert message.startswith("row 2 of 4: at is")
    assert said in message
    assert message.endswith("(2 such rows)")


def test_the_remedy_for_milliseconds_fits_the_map(tmp_path: Path) -> None:
    """The remedy is written with the map that was given, and it works."""
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
def test_invalid_numbers_and_flags(tmp_path: Path, name: str, value: str) -> None:
    """A cost that is not a number would distort every sum, so it is refused like an invalid time."""
    said = refused(csv(tmp_path, f"{T},v,c,1", f"{T},v,c,{value}", head=f"{HEAD},{name}"))
    assert said.startswith(f"row 2 of 2: {name} is '{value}'")


def test_a_type_that_is_not_a_time(tmp_path: Path) -> None:
    """A boolean or a list is not a time."""
    path = csv(tmp_path, f"{T},v,c")
    assert "at is 'true'" in refused(path, mapping={"at": "visitor = 'v'"})
    assert "neither ISO" in refused(path, mapping={"at": "[1, 2]"})


def test_unknown_time_zone(tmp_path: Path) -> None:
    """An unknown zone is the caller's error and is named."""
    with pytest.raises(InputError, match="Mars/Base"):
        opened(csv(tmp_path, f"{T},v,c"), time_zone="Mars/Base")


def test_errors_keep_their_cause(tmp_path: Path) -> None:
    """DuckDB's exception is the error's cause."""
    with pytest.raises(LogError) as error:
        opened(csv(tmp_path, f"{T},v,c"), mapping={"cost": "(("})
    assert isinstance(error.value.__cause__, duckdb.Error)


def test_without_duckdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the message says what to install."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigError, match=r"pip install 'retarget\[logs\]'"):
        opened(csv(tmp_path, f"{T},v,c"))


def test_a_closed_log_says_so(tmp_path: Path) -> None:
    """Closing twice is harmless; reading a closed log is a LogError."""
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
    """An expression that would need an extension from the network is refused."""
    assert "--map cost=ST_Point(1, 2)" in refused(csv(tmp_path, f"{T},v,c"), mapping={"cost": "ST_Point(1, 2)"})


def test_no_message_quotes_a_row(tmp_path: Path) -> None:
    """A repeated key, an endless column name or value: the message is short and has no visitor's id."""
    twice = write(tmp_path / "twice.jsonl", '{"at": 1, "visitor": "visitor-7", "campaign": "a", "at": 2}\n')
    endless = write(tmp_path / "endless.csv", "at,visitor" + "x" * 5_000 + ",campaign\n1,v,a\n")
    worthless = write(tmp_path / "worthless.csv", "at,visitor,campaign,cost\n1,v,a," + "x" * 5_000 + "\n")
    for path in (twice, endless, worthless):
        with pytest.raises(LogError) as raised:
            Log(LogOptions([path]))
        assert "visitor-7" not in str(raised.value)
        assert len(str(raised.value)) < 500
