"""Log files of a few lines, opened, read or refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import duckdb
import pytest

from retarget.errors import LogError
from retarget.logs.log import Log, LogOptions, LogRow

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
    """The error of a log that cannot be read."""
    with pytest.raises(LogError) as error:
        opened(*paths, **options)
    return str(error.value)


def csv(tmp_path: Path, *lines: str, name: str = "log.csv", head: str = HEAD) -> str:
    return write(tmp_path / name, "\n".join([head, *lines]) + "\n")


def parquet(path: Path, select: str) -> str:
    with duckdb.connect() as db:
        db.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
    return str(path)
