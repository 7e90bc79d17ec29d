"""Columns of numbers from DuckDB: the same numbers as fetched by rows, in order, of any length."""

from __future__ import annotations

import duckdb
import pytest

from retarget.errors import LogError
from retarget.logs.arrow import batches


@pytest.mark.parametrize("rows", [0, 1, 2_048, 300_000])
def test_columns_are_the_rows(rows: int) -> None:
    """Integers of four and eight bytes and floats come as `fetchall` gives them, in batches of one length each."""
    query = """SELECT CAST(4294967295 - i AS UINTEGER), CAST(-i AS INTEGER), i * 1000000007, i / 7
        FROM numbers ORDER BY i % 10, i"""
    with duckdb.connect() as db:
        db.execute("CREATE TABLE numbers AS SELECT unnest(range(?)) AS i", [rows])
        wanted = db.execute(query).fetchall()
        got = [row for columns in batches(db.sql(query), "Iiqd") for row in zip(*columns, strict=True)]
    assert got == wanted


def test_a_part_of_a_table() -> None:
    """A batch may begin inside a table's block."""
    with duckdb.connect() as db:
        db.execute("CREATE TABLE numbers AS SELECT CAST(i AS INTEGER) AS i FROM range(10000) t(i)")
        got = [i for (column,) in batches(db.sql("SELECT i FROM numbers LIMIT 5000 OFFSET 3001"), "i") for i in column]
    assert got == list(range(3_001, 8_001))


def test_left_before_the_end() -> None:
    """Reading that stops early leaves the connection usable."""
    with duckdb.connect() as db:
        reading = batches(db.sql("SELECT i FROM range(500000) t(i)"), "q")
        next(reading)
        reading.close()  # type: ignore[attr-defined]
        assert db.execute("SELECT 1").fetchall() == [(1,)]


def test_an_error_on_the_way() -> None:
    """A query that fails on a row raises with DuckDB's message."""
    with duckdb.connect() as db:
        relation = db.sql("SELECT CAST(CASE WHEN i = 400000 THEN 'x' ELSE '1' END AS BIGINT) FROM range(500000) t(i)")
        with pytest.raises((duckdb.Error, LogError), match="Could not convert string 'x'"):
            list(batches(relation, "q"))
