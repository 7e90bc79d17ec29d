"""A log of events, read through DuckDB and handed on in time order.

Rules:
- A log is CSV, Parquet or JSON lines; one row is one event. It is read once, when it is opened; a row that makes no sense
  is refused then, by number, before anybody has counted anything.
- Columns of CSV and JSON are text, so an id keeps its zeros. Where an SQL expression does not fit text (`ts/1000`), it is
  given the columns as the types they look like.
- SQL does the work: every cast, floor and null is settled in DuckDB, and Python only pairs names with columns. What the log
  does not have is never fetched.
- Time comes from the rows alone, in whole seconds; rows of one second stay in the order of the log.
- Nothing is fetched from a network and no extension is installed. An empty text is no text: None.
"""

from __future__ import annotations

import glob
import gzip
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, repeat
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from retarget.errors import ConfigError, InputError, LogError

if TYPE_CHECKING:
    from types import ModuleType

    from duckdb import DuckDBPyConnection

MAX_AT = 4_000_000_000
"""The last second a log may name (in 2096): whatever is later was not counted in seconds."""

BATCH = 2_000
"""Rows handed on at a time. So few stay in the processor's cache: 10,000 took half as long again a row."""


class LogRow(NamedTuple):
    """One event of a log. `labels` are the values of `Log.label_names`, in that order."""

    at: int
    visitor: str | None
    event: str
    campaign: str | None
    subject: str | None
    id: str | None
    cost: float | None
    value: float | None
    click: bool
    conversion: bool
    timezone: str | None
    labels: tuple[str | None, ...]


FIELDS = LogRow._fields[:-1]
_ABSENT: Mapping[str, object] = {"event": "impression", "click": False, "conversion": False}
_row = cast("Callable[[Iterable[object]], LogRow]", partial(tuple.__new__, LogRow))  # as `_make`, a quarter faster


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Which files make a log, and how they are to be read. Nothing is opened before `Log(options)`."""

    paths: tuple[str | os.PathLike[str], ...]
    """Files and globs, read in this order; what a glob matches, in the order of its names."""
    mapping: Mapping[str, str] = field(default_factory=dict)
    """A field's or a label's name -> a column's name, or else an SQL expression over the file's columns."""
    time_zone: str = "UTC"
    """The IANA zone of times that carry no offset."""
    header: bool | None = None
    """Does a CSV name its columns? None: as DuckDB finds, or no where `columns` are given."""
    delimiter: str | None = None
    """What parts the columns of a CSV. None: as DuckDB finds."""
    quote: str | None = None
    """The quote of a CSV. None: `"`; "" turns quoting off."""
    columns: Sequence[str] | None = None
    """Names for the columns of a CSV. None: its header, or column0, column1, ..."""
    labels: Sequence[str] | None = None
    """The labels wanted; only these are read. None: every column that is no field and was not renamed."""
    campaign: str | None = None
    """The campaign of every row, for a log that has no such column."""


class Log:
    """An opened log. Close it, or use it as a context manager: it holds memory, or disk where memory is short."""

    count: int
    """How many rows there are."""
    label_names: tuple[str, ...]
    """What `LogRow.labels` holds."""

    def __init__(self, options: LogOptions) -> None:
        """Read the files of `options`. Raises LogError (the log), InputError (an option), ConfigError (no DuckDB)."""
        if isinstance(options.paths, str) or not options.paths:
            raise InputError("paths must be a tuple with at least one file or glob")
        self._options = options
        self._duckdb = _duckdb()
        self._spill = tempfile.TemporaryDirectory(prefix="retarget-", ignore_cleanup_errors=True)
        settings = {
            "temp_directory": self._spill.name,
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        self._db: DuckDBPyConnection = self._duckdb.connect(":memory:", config=settings)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def has(self, name: str) -> bool:
        """Does the log have this field or label, as a column or through the mapping?"""
        return name in self._present or name in self.label_names

    def rows(self, batch: int = BATCH, after: int | None = None) -> Iterator[list[LogRow]]:
        """Every row, sorted by second and, within one, in the order of the log; `after`: only rows later than that second."""
        where = "true" if after is None else f'"at" > {int(after)}'
        return self._fetch(where, '"at", rowid', batch)

    def rows_by_visitor(self, shard: int = 0, shards: int = 1, batch: int = BATCH) -> Iterator[list[LogRow]]:
        """Every row of the visitors in this shard, visitor by visitor, each in time order.

        The shards 0 to `shards - 1` part the visitors among them: each visitor is in one, with all rows.
        """
        if not 0 <= shard < shards:
            raise InputError(f"shard must be 0 to {shards - 1}, not {shard}")
        where = "true" if shards == 1 else f"hash(visitor) % {int(shards)} = {int(shard)}"
        return self._fetch(where, 'visitor, "at", rowid', batch)

    def close(self) -> None:
        """Let go of the memory and the disk. Closing twice does no harm."""
        self._db.close()
        self._spill.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- handing rows on

    def _fetch(self, where: str, order: str, batch: int) -> Iterator[list[LogRow]]:
        if batch < 1:
            raise InputError(f"batch must be at least 1, not {batch}")
        return self._batches(
            f"SELECT {', '.join(map(_name, self._stored))} FROM log WHERE {where} ORDER BY {order}", batch
        )

    def _batches(self, sql: str, batch: int) -> Iterator[list[LogRow]]:
        # A column of its own for what is absent costs nothing: `repeat` makes it, and DuckDB hands over the others only.
        with self._errors("the log cannot be read on"):
            cursor = self._db.cursor()
            try:
                cursor.execute(sql)
                while rows := cursor.fetchmany(batch):
                    columns: Iterator[Iterable[object]] = zip(*rows, strict=True)
                    full = [next(columns) if name in self._present else repeat(_ABSENT.get(name)) for name in FIELDS]
                    labels: Iterable[object] = zip(*columns, strict=True) if self.label_names else repeat(())
                    yield list(map(_row, zip(*full, labels)))  # noqa: B905 - `repeat` has no end
            finally:
                cursor.close()

    # -- opening

    def _open(self) -> None:
        with self._errors("", of=InputError):
            self._db.execute(f"SET TimeZone = {_text(self._options.time_zone)}")
        with self._errors("the log cannot be read"):
            readers = [self._reader(*group) for group in _grouped(_expanded(self._options.paths))]
            self._source = " UNION ALL BY NAME ".join(f"(FROM {text})" for text, _ in readers)
            self._guess = " UNION ALL BY NAME ".join(f"(FROM {typed})" for _, typed in readers)
            # An empty table of the same columns: what is asked of it, no file has to be opened for.
            self._db.execute(f"CREATE TABLE shape AS FROM ({self._source}) LIMIT 0")
            self._columns = self._described("FROM shape")
        self._known = {name.casefold(): name for name in self._columns}
        fields, labels = self._wanted()
        self._present = frozenset(fields)
        self.label_names = tuple(labels)
        self._load([self._column(name, text) for name, text in [*fields.items(), *labels.items()]])

    def _reader(self, kind: str, gzipped: bool, paths: list[str]) -> tuple[str, str]:  # noqa: FBT001
        """The files as two DuckDB table functions: all columns as text, and as the types they look like."""
        options = self._options
        # DuckDB takes even an existing file's name for a glob.
        files = "[" + ", ".join(_text(re.sub(r"([*?\[])", r"[\1]", path)) for path in paths) + "], union_by_name = true"
        if kind == "parquet":
            reader = f"read_parquet({files}, binary_as_string = true, hive_partitioning = false)"
            return reader, reader
        files += f", hive_partitioning = false, compression = {_text('gzip' if gzipped else 'auto')}"
        if kind == "json":
            typed = f"read_json({files}, records = true)"
            names = self._described(f"FROM {typed}")
            # Types are guessed from the first rows; a key that only later rows have must not get lost.
            keys = f"SELECT DISTINCT unnest(json_keys(json)) AS k FROM read_json_objects({files}) ORDER BY k"
            seen = {name.casefold() for name in names}
            late = [k for (k,) in self._db.execute(keys).fetchall() if k.casefold() not in seen]
            columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in [*names, *late])
            return f"read_json({files}, records = true, columns = {{{columns}}})", typed
        # No row is skipped, and quoting does not hang on whether the first rows happen to have quotes.
        files += f", skip = 0, quote = {_text('"' if options.quote is None else options.quote)}"
        if options.quote == "":
            files += ", escape = ''"
        if options.delimiter is not None:
            files += f", delim = {_text(options.delimiter)}"
        if options.columns is not None:
            files += f", names = [{', '.join(map(_text, options.columns))}]"
        if options.header is not None or options.columns is not None:
            files += f", header = {bool(options.header)}"
        return f"read_csv({files}, all_varchar = true)", f"read_csv({files})"

    def _wanted(self) -> tuple[dict[str, str], dict[str, str]]:
        """The fields and the labels, each with its column or SQL."""
        options, known = self._options, self._known
        fields = {name: known[name] for name in FIELDS if name in known}
        if options.campaign is not None:
            if "campaign" in fields or "campaign" in options.mapping:
                raise LogError("the log has a column campaign: a constant campaign is for logs that have none")
            fields["campaign"] = _text(options.campaign)
        fields |= {name: text for name, text in options.mapping.items() if name in FIELDS}
        for name in ("at", "visitor", "campaign"):
            if name not in fields:
                raise LogError(f"the log has no column {name}: map it with --map {name}=COLUMN; {self._listed()}")
        named = {name: text for name, text in options.mapping.items() if name not in FIELDS}
        if options.labels is None:
            taken = {*FIELDS, *map(str.casefold, named), *map(str.casefold, options.mapping.values())}
            labels = {name: name for key, name in known.items() if key not in taken} | named
        else:
            labels = {name: (fields | named).get(name, known.get(name.casefold(), "")) for name in options.labels}
            for name in (name for name, text in labels.items() if not text):
                raise LogError(f"the log has no column {name} to take as a label; {self._listed()}")
        return {name: fields[name] for name in FIELDS if name in fields}, labels

    def _column(self, name: str, text: str) -> _Column:
        """Settle what `text` is, a column or an expression, and its type."""
        if text.casefold() in self._known:
            column = self._known[text.casefold()]
            return _Column(name, text, _name(column), self._columns[column], typed=False)
        if name == "campaign" and self._options.campaign is not None:
            return _Column(name, text, text, "VARCHAR", typed=False)
        shown = f"--map {name}={text}"
        hint = (
            ' (`at` is a word of SQL: a column of that name is "at")'
            if re.search(r'(?<!")\bat\b(?!")', text, re.I)
            else ""
        )
        with self._errors(f"{shown} is neither a column nor an SQL expression{hint}; {self._listed()}"):
            self._duckdb.SQLExpression(text)  # one expression, and no second statement behind it
        sql = f"({text}\n)"  # the line's end closes a comment
        try:
            return _Column(name, text, sql, self._type(shown, sql, "shape"), typed=False)
        except self._duckdb.Error as error:
            if missing := re.search(r'column "(.+?)" not found', str(error)):
                raise LogError(f"{shown}: there is no column {missing[1]}; {self._listed()}") from error
        with self._errors(f"{shown} does not fit the log; {self._listed()}"):
            return _Column(
                name, text, sql, self._type(shown, sql, self._as_guessed("(SELECT *, rowid FROM shape)")), typed=True
            )

    def _type(self, shown: str, sql: str, table: str) -> str:
        # `rowid` stands beside it so that an aggregate is refused: each row needs a value of its own.
        kinds = list(self._described(f"SELECT {sql}, rowid FROM {table}").values())
        if len(kinds) != 2:
            raise LogError(f"{shown} is {len(kinds) - 1} columns, where one is wanted")
        return kinds[0]

    def _as_guessed(self, table: str) -> str:
        """`table` with its text columns as the types they look like."""
        guess = self._described(self._guess)
        kinds = {name: guess.get(name, "VARCHAR") for name, kind in self._columns.items() if kind == "VARCHAR"}
        casts = [
            f"CAST({_name(n)} AS {kind}) AS {_name(n)}" for n, kind in kinds.items() if kind not in ("VARCHAR", "JSON")
        ]
        return f"(SELECT * REPLACE ({', '.join(casts)}) FROM {table})" if casts else table

    def _load(self, columns: list[_Column]) -> None:
        """Read everything into the table `log`, in the order of the files; a row's number is its rowid + 1."""
        maps = "".join(f" --map {name}={text}" for name, text in self._options.mapping.items())
        with self._errors(f"the log cannot be read{maps and f' with{maps}'}"):
            # What is made from text is made first, under a name of its own; then the text may change its type.
            made = {f"made {i}": column.sql for i, column in enumerate(columns) if not column.typed}
            given = ", ".join(f"{sql} AS {_name(name)}" for name, sql in made.items())
            source = f"(SELECT *, {given} FROM ({self._source}))" if given else f"({self._source})"
            if any(column.typed for column in columns):
                source = self._as_guessed(source)
            raw = [column.sql if column.typed else _name(f"made {i}") for i, column in enumerate(columns)]
            self._stored = [c.name if i < len(self._present) else f"label {c.name}" for i, c in enumerate(columns)]
            stored = [
                f"{_converted(name, sql, column.kind)} AS {_name(name)}"
                for name, sql, column in zip(self._stored, raw, columns, strict=True)
            ]
            self._db.execute(f"CREATE TABLE log AS SELECT {', '.join(stored)} FROM {source}")
            self._check(
                [(c, sql) for c, sql in zip(columns, raw, strict=True) if c.name in _BAD][: len(self._present)], source
            )

    def _check(self, columns: list[tuple[_Column, str]], source: str) -> None:
        """Count the rows, and refuse the first that makes no sense."""
        tests = [_BAD[column.name].format(_name(column.name)) for column, _ in columns]
        found = ", ".join(f"count_if({test}), min(rowid) FILTER ({test})" for test in tests)
        row: Any = self._db.execute(f"SELECT count(*), {found} FROM log").fetchone()
        self.count = row[0]
        for (column, sql), many, first in zip(columns, row[1::2], row[2::2], strict=True):
            if many:
                query = f"SELECT CAST({sql} AS VARCHAR) FROM {source} LIMIT 1 OFFSET {first}"
                (value,) = cast("tuple[str | None]", self._db.execute(query).fetchone())
                what = _wrong(column, value)
                raise LogError(
                    f"row {first + 1:,} of {self.count:,}: {what} ({many:,} such row{'s' if many > 1 else ''})"
                )

    def _described(self, query: str) -> dict[str, str]:
        """The columns of a query and their types."""
        return {row[0]: row[1] for row in self._db.execute(f"DESCRIBE {query}").fetchall()}

    def _listed(self) -> str:
        names = list(self._columns)
        more = f" and {len(names) - 30} more" if len(names) > 30 else ""
        alone = " (one only: is it parted by another --delimiter?)" if len(names) == 1 else ""
        return f"the columns are {', '.join(names[:30])}{more}{alone}"

    @contextmanager
    def _errors(self, what: str, of: type[Exception] = LogError) -> Iterator[None]:
        try:
            yield
        except self._duckdb.Error as error:
            raise of(f"{what}{what and ': '}{_short(str(error))}") from error


class _Column(NamedTuple):
    """A field or a label: what was asked for, the SQL that gives it, that SQL's type, and over which columns it runs."""

    name: str
    text: str
    sql: str
    kind: str
    typed: bool  # over columns of the types they look like; else over columns of text


# How a stored value says that the log's cannot be read: see `_converted`.
_BAD = {
    "at": f"({{0}} IS NULL OR {{0}} NOT BETWEEN 0 AND {MAX_AT})",
    "cost": "isnan({0})",
    "value": "isnan({0})",
    "click": "({0} IS NULL)",
    "conversion": "({0} IS NULL)",
}


def _converted(name: str, sql: str, kind: str) -> str:
    """SQL that makes a field's or label's value from `sql`, which is of type `kind`; never fails."""
    text = f"nullif(CAST({sql} AS VARCHAR), '')"
    number = f"TRY_CAST({text if kind == 'VARCHAR' else sql} AS DOUBLE)"
    match name:
        case "at":
            seconds = f"TRY_CAST(floor({number}) AS BIGINT)"
            moment = f"epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)) // 1000000"
            if kind.startswith(("TIMESTAMP", "DATE")):
                return f"epoch_us(CAST({sql} AS TIMESTAMPTZ)) // 1000000"
            if kind in ("VARCHAR", "JSON"):
                return f"coalesce({seconds}, {moment})"
            return seconds if kind in _NUMBERS or kind.startswith("DECIMAL") else "CAST(NULL AS BIGINT)"
        case "cost" | "value":
            return f"CASE WHEN {text} IS NULL THEN NULL WHEN isfinite({number}) THEN {number} ELSE CAST('nan' AS DOUBLE) END"
        case "click" | "conversion":
            flag = f"coalesce(TRY_CAST({text} AS BOOLEAN), TRY_CAST({text} AS DOUBLE) <> 0)"
            return f"CASE WHEN {text} IS NULL THEN false ELSE {flag} END"
        case "event":
            return f"coalesce({text}, 'impression')"
        case _:
            return text


_NUMBERS = {f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE")}
_NUMBERS |= {"INTEGER", "UINTEGER", "FLOAT", "DOUBLE"}


def _wrong(column: _Column, value: str | None) -> str:
    """What is wrong with a value, and what would be right. `value` is never a visitor's id."""
    if value is None or not value.strip():
        return f"{column.name} is empty"
    if column.name in ("cost", "value"):
        return f"{column.name} is {value!r}, which is no number"
    if column.name != "at":
        return f"{column.name} is {value!r}, which is neither yes nor no (1, 0, true, false, or a count)"
    try:
        seconds = float(value)
    except ValueError:
        early = "" if not re.match(r"\d{4,}-\d\d-\d\d", value) else ", or it is outside 1970 to 2096"
        return f"at is {value!r}, which is neither ISO 8601 nor epoch seconds{early}"
    for by, unit in ((1_000, "milliseconds"), (1_000_000, "microseconds"), (1_000_000_000, "nanoseconds")):
        if MAX_AT < seconds <= MAX_AT * by:
            text = (
                column.text if re.fullmatch(r"\w+", column.text) and column.text.lower() != "at" else f'"{column.text}"'
            )
            if column.sql.startswith("("):
                text = f"({column.text})"
            return f"at is {value}, which looks like {unit}: --map at='{text}/{by}'"
    return f"at is {value}, which is outside 1970 to 2096"


def _expanded(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """The files that paths and globs name, in order."""
    for path in map(os.fspath, paths):
        if Path(path).is_dir():
            raise LogError(f"{path} is a folder: name its files, or a glob such as {Path(path) / '*.csv'}")
        if Path(path).exists():
            yield path
        elif glob.has_magic(path):
            found = sorted(name for name in glob.glob(path, recursive=True) if Path(name).is_file())
            if not found:
                raise LogError(f"no file matches {path}")
            yield from found
        else:
            raise LogError(f"there is no file {path}")


def _grouped(paths: Iterable[str]) -> Iterator[tuple[str, bool, list[str]]]:
    """Files that follow each other and are of one kind, to be read together. Files without a byte have no rows."""
    heads = [(path, *_head(path)) for path in paths]
    kinds = [(_kind(path, head), gzipped, path) for path, head, gzipped in heads if head]
    if not kinds:
        raise LogError(f"there is nothing in {', '.join(path for path, *_ in heads)}")
    for (kind, gzipped), group in groupby(kinds, key=itemgetter(0, 1)):
        yield kind, gzipped, [path for *_, path in group]


def _head(path: str) -> tuple[bytes, bool]:
    """The first bytes of a file, unpacked, and whether it was packed by gzip."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(64)
        if not head.startswith(b"\x1f\x8b"):
            return head, False
        with gzip.open(path) as packed:
            return packed.read(64), True
    except (OSError, EOFError, zlib.error) as error:
        raise LogError(f"{path} cannot be read: {error}") from error


def _kind(path: str, head: bytes) -> str:
    suffixes = Path(path.lower()).suffixes
    if head.startswith(b"PAR1") or ".parquet" in suffixes:
        return "parquet"
    if {".json", ".jsonl", ".ndjson"} & set(suffixes):
        return "json"
    return "json" if head.lstrip().startswith(b"{") and not {".csv", ".tsv"} & set(suffixes) else "csv"


def _name(name: str) -> str:
    """An SQL name."""
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    """An SQL text."""
    return "'" + text.replace("'", "''") + "'"


def _short(message: str) -> str:
    """What DuckDB's message says, without its advice about DuckDB, and without the row it quotes: that may hold a visitor's id."""
    file = re.search(r"^\s*file = (.+)$", message, re.M)
    said = re.split(r"\n\s*(?:Possible|LINE \d|The search space|Candidate functions)|\n\s*file = ", message.strip())[
        0
    ].strip()
    if "Original Line:" in said:
        first, *_, reason = said.splitlines()
        said = f"{first}: {reason}"
    return " ".join(said.split()) + (f" ({file[1]})" if file else "")


def _duckdb() -> ModuleType:
    """DuckDB comes with an extra: the one place that imports it."""
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError("reading a log needs DuckDB: pip install 'retarget[logs]'") from error
    return duckdb
