"""A log of events, read through DuckDB and handed on in time order.

Rules:
- A log is CSV, Parquet or JSON lines, one event per row. It is read once, when it is opened; an invalid row is refused
  then, by its number, before anything has been counted.
- Columns of CSV and JSON are text, so an id keeps its zeros. An SQL expression that does not fit text (`ts / 1000`)
  gets the columns as the types they look like.
- DuckDB does every cast, floor and null; Python only puts columns side by side. What a log lacks is never fetched.
- Time comes from the rows alone, in whole seconds; rows of one second stay in the order of the log.
- Nothing is read from a network, and no extension is installed. An empty text is None.
"""
# ruff: noqa: S608 - the SQL is written here, names and texts are quoted, and an expression is the operator's own

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
from functools import cached_property, partial
from itertools import groupby, repeat
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from retarget.errors import ConfigError, InputError, LogError

if TYPE_CHECKING:
    from types import ModuleType

    from duckdb import DuckDBPyConnection

MAX_AT = 4_000_000_000
"""The latest second that a log may have, in 2096: a larger number is not in seconds."""

BATCH = 2_000
"""Rows fetched at a time: these fit the processor's cache. At 10,000 each row takes half as long again."""


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
_row = cast("Callable[[Iterable[object]], LogRow]", partial(tuple.__new__, LogRow))  # a sixth faster than `_make`


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Which files make a log, and how to read them. Nothing is opened before `Log(options)`."""

    paths: Sequence[str | os.PathLike[str]]
    """Files and globs, read in this order; the files of a glob in the order of their names."""
    mapping: Mapping[str, str] = field(default_factory=dict)
    """A field or a label -> the name of a column, or an SQL expression over the log's columns."""
    time_zone: str = "UTC"
    """The IANA zone of times that carry no offset."""
    header: bool | None = None
    """Whether the first line of a CSV is a header. None: detected by DuckDB, or no header if `columns` are given."""
    delimiter: str | None = None
    """The delimiter of a CSV. None: detected by DuckDB."""
    quote: str | None = None
    """The quote of a CSV. None: the double quote; "" turns quoting off."""
    columns: Sequence[str] | None = None
    """Names for the columns of a CSV. None: those of its header, or numbers from 0, each with as many digits as the
    last one: column0 to column9 for ten columns, column00 to column23 for 24."""
    labels: Sequence[str] | None = None
    """The labels to read. None: every column that is not a field and was not renamed."""
    optional_labels: bool = False
    """Whether `labels` that the log does not have are left out instead of being an error."""
    campaign: str | None = None
    """The campaign of every row, for a log without that column."""


class Log:
    """An opened log. It holds memory, and disk if memory is short: close it, or use it as a context manager.

    `count` is the number of rows, `label_names` the names of the values in `LogRow.labels`.
    """

    count: int
    label_names: tuple[str, ...]

    def __init__(self, options: LogOptions) -> None:
        """Read the files. Raises LogError (the log's fault), InputError (an option's) or ConfigError (no DuckDB)."""
        if isinstance(options.paths, str) or not options.paths:
            raise InputError(f"paths must be a sequence of at least one file or glob, got {options.paths!r:.80}")
        self._options = options
        self._duckdb = _duckdb()
        self._spill = tempfile.TemporaryDirectory(prefix="retarget-", ignore_cleanup_errors=True)
        never = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        settings = never | {"temp_directory": self._spill.name}
        self._db: DuckDBPyConnection = self._duckdb.connect(":memory:", config=settings)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def has(self, name: str) -> bool:
        """Whether the log has this field or label, as a column or by the mapping."""
        return name in self._present or name in self.label_names

    def rows(self, batch: int = BATCH, after: int | None = None) -> Iterator[list[LogRow]]:
        """Every row by second, rows of one second in the order of the log; `after`: only those later than it."""
        if batch < 1:
            raise InputError(f"batch must be at least 1, got {batch}")
        stored = ", ".join(_name(column.stored) for column in self._stored)
        where = "true" if after is None else f'"at" > {int(after)}'
        return self._batches(f'SELECT {stored} FROM log WHERE {where} ORDER BY "at", rowid', batch)

    @contextmanager
    def tables(self) -> Iterator[DuckDBPyConnection]:
        """DuckDB with the table `log`: a column for each field that it has, and `column(label)` for each label.

        Temporary tables are dropped afterwards. An error of DuckDB becomes a LogError.
        """
        with self._errors("reading the log failed"):
            cursor = self._db.cursor()
            try:
                yield cursor
            finally:
                cursor.close()

    def column(self, label: str) -> str:
        """The column of a label in the table `log`, quoted."""
        return _name(f"label {label}")

    def close(self) -> None:
        """Free memory and disk. Closing twice is harmless."""
        self._db.close()
        self._spill.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- handing rows on

    def _batches(self, sql: str, batch: int) -> Iterator[list[LogRow]]:
        with self.tables() as tables:
            tables.execute(sql)
            while rows := tables.fetchmany(batch):
                # By column, not by row: a step of Python per cell would cost more than all else here.
                columns: Iterator[Iterable[object]] = zip(*rows, strict=True)
                full = [next(columns) if name in self._present else repeat(_ABSENT.get(name)) for name in FIELDS]
                labels: Iterable[object] = zip(*columns, strict=True) if self.label_names else repeat(())
                yield list(map(_row, zip(*full, labels)))  # noqa: B905 - `repeat` never ends

    # -- opening

    def _open(self) -> None:
        with self._errors("the time zone of the log", of=InputError):
            self._db.execute(f"SET TimeZone = {_text(self._options.time_zone)}")
        with self._errors("the log cannot be read"):
            readers = [self._reader(*group) for group in _grouped(list(_expanded(self._options.paths)))]
            source = " UNION ALL BY NAME ".join(f"(FROM {text})" for text, _ in readers)
            self._guess = " UNION ALL BY NAME ".join(f"(FROM {guess})" for _, guess in readers)
            # An empty table with the log's columns, to try expressions on without opening the files again.
            self._db.execute(f"CREATE TABLE shape AS SELECT *, 0 AS retarget_row FROM ({source}) LIMIT 0")
            self._columns = self._described("SELECT * EXCLUDE retarget_row FROM shape")
        self._known = {name.casefold(): name for name in self._columns}
        fields, labels = self._wanted()
        self._present = frozenset(fields)
        self.label_names = tuple(labels)
        self._stored = [self._column(name, name, text) for name, text in fields.items()]
        self._stored += [self._column(name, f"label {name}", text) for name, text in labels.items()]
        self._load(f"({source})")

    def _reader(self, kind: str, gzipped: bool, paths: list[str]) -> tuple[str, str]:  # noqa: FBT001
        """Two table functions of DuckDB for the files: all columns as text, and as the types they look like."""
        options = self._options
        # Escaped, since DuckDB reads the name of an existing file as a glob too.
        listed = ", ".join(_text(re.sub(r"([*?[])", r"[\1]", path)) for path in paths)
        files = f"[{listed}], union_by_name = true, hive_partitioning = false"
        if kind == "parquet":
            reader = f"read_parquet({files}, binary_as_string = true)"
            return reader, reader
        files += f", compression = '{'gzip' if gzipped else 'auto'}'"
        if kind == "json":
            guess = f"read_json({files}, records = true)"
            names = {name.casefold(): name for name in self._described(f"FROM {guess}")}
            # DuckDB samples the first rows only; a key that comes later must not be lost.
            keys = f"SELECT DISTINCT unnest(json_keys(json)) AS k FROM read_json_objects({files}) ORDER BY k"
            for (key,) in self._db.execute(keys).fetchall():
                names.setdefault(key.casefold(), key)
            columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in names.values())
            return f"read_json({files}, records = true, columns = {{{columns}}})", guess
        # No leading line is skipped as a preface, and quoting does not depend on what the first lines contain.
        quote = '"' if options.quote is None else options.quote
        files += f", skip = 0, quote = {_text(quote)}" + ("" if quote else ", escape = ''")
        if options.delimiter is not None:
            files += f", delim = {_text(options.delimiter)}"
        if options.columns is not None:
            files += f", names = [{', '.join(map(_text, options.columns))}]"
        if options.header is not None or options.columns is not None:
            files += f", header = {bool(options.header)}"
        return f"read_csv({files}, all_varchar = true)", f"read_csv({files})"

    def _wanted(self) -> tuple[dict[str, str], dict[str, str]]:
        """The fields and the labels to read, each with its column or its SQL."""
        options, known = self._options, self._known
        mapped = dict(options.mapping)
        if options.campaign is not None:
            if "campaign" in known or "campaign" in mapped:
                raise LogError("the log has a column campaign: a constant campaign is for logs without one")
            mapped["campaign"] = _text(options.campaign)
        every = known | mapped  # a mapping takes precedence over a column of that name
        for name in ("at", "visitor", "campaign"):
            if name not in every:
                raise LogError(f"the log has no column {name}: map it with --map {name}=COLUMN; {self._listed()}")
        if options.labels is None:
            taken = {*FIELDS, *(text.casefold() for text in mapped.values()), *(name.casefold() for name in mapped)}
            labels = {name: name for key, name in known.items() if key not in taken}
            labels |= {name: text for name, text in mapped.items() if name not in FIELDS}
        else:
            labels = {name: every.get(name) or every.get(name.casefold(), "") for name in options.labels}
            if options.optional_labels:
                labels = {name: text for name, text in labels.items() if text}
            for name in (name for name, text in labels.items() if not text):
                raise LogError(f"the log has no column {name} to use as a label; {self._listed()}")
        return {name: every[name] for name in FIELDS if name in every}, labels

    def _column(self, name: str, stored: str, text: str) -> _Column:
        """Find out whether `text` is a column or an expression, and over which types."""
        if column := self._known.get(text.casefold()):
            return _Column(name, stored, text, _name(column), self._columns[column])
        shown = f"--map {name}={text}"
        reserved = re.search(r'(?<!")\bat\b(?!"|\s+time\b)', text, re.IGNORECASE)
        hint = ' (`at` is a keyword of SQL: write the column as "at")' if reserved else ""
        with self._errors(f"{shown} is neither a column nor an SQL expression{hint}; {self._listed()}"):
            self._duckdb.SQLExpression(text)  # refuses a list of expressions or a second statement
        sql = f"({text}\n)"  # the line end closes a comment
        try:
            return _Column(name, stored, text, sql, self._type(shown, sql, "shape"))
        except self._duckdb.Error as error:
            if missing := re.search(r'column "(.+?)" not found', str(error)):
                raise LogError(f"{shown}: there is no column {missing[1]}; {self._listed()}") from error
        with self._errors(f"{shown} does not fit the log"):
            return _Column(name, stored, text, sql, self._type(shown, sql, self._as_guessed("shape")), guessed=True)

    def _type(self, shown: str, sql: str, table: str) -> str:
        # With a plain column beside it an aggregate is refused: each row needs a value of its own.
        kinds = list(self._described(f"SELECT {sql}, retarget_row FROM {table}").values())
        if len(kinds) != 2:
            raise LogError(f"{shown} gives {len(kinds) - 1} columns instead of one")
        return kinds[0]

    def _as_guessed(self, table: str) -> str:
        return f"(SELECT * REPLACE ({self._casts}) FROM {table})" if self._casts else table

    @cached_property
    def _casts(self) -> str:
        """SQL that turns columns of text into the types they look like."""
        guess = self._described(self._guess)
        kinds = {_name(name): guess.get(name, "VARCHAR") for name, kind in self._columns.items() if kind == "VARCHAR"}
        return ", ".join(f"CAST({n} AS {kind}) AS {n}" for n, kind in kinds.items() if kind not in ("VARCHAR", "JSON"))

    def _load(self, source: str) -> None:
        """Read everything into the table `log`, in the order of the files: a row's number is rowid + 1."""
        maps = "".join(f" --map {name}={text}" for name, text in self._options.mapping.items())
        with self._errors(f"the log cannot be read{' with' if maps else ''}{maps}"):
            # First what is computed from text, under names of its own; then columns take the types they look like.
            for guessed in (False, True):
                made = [f"{c.sql} AS {_name('made ' + c.stored)}" for c in self._stored if c.guessed is guessed]
                if made:
                    source = f"(SELECT *, {', '.join(made)} FROM {self._as_guessed(source) if guessed else source})"
            stored = ", ".join(f"{_converted(column)} AS {_name(column.stored)}" for column in self._stored)
            self._db.execute(f"CREATE TABLE log AS SELECT {stored} FROM {source}")

            checked = [(column, _BAD[column.stored]) for column in self._stored if column.stored in _BAD]
            tests = ", ".join(f"count_if({test}), min(rowid) FILTER ({test})" for _, test in checked)
            found: Any = self._db.execute(f"SELECT count(*), {tests} FROM log").fetchone()
            self.count = found[0]
            for (column, _), many, first in zip(checked, found[1::2], found[2::2], strict=True):
                if many:
                    query = f"SELECT CAST({column.made} AS VARCHAR) FROM {source} LIMIT 1 OFFSET {first}"
                    value: Any = self._db.execute(query).fetchone()
                    what = f"row {first + 1:,} of {self.count:,}: {column.name} {_wrong(column, value[0])}"
                    raise LogError(f"{what} ({many:,} such row{'s' if many > 1 else ''})")

    def _described(self, query: str) -> dict[str, str]:
        """The columns of a query, with their types."""
        return {name: kind for name, kind, *_ in self._db.execute(f"DESCRIBE {query}").fetchall()}

    def _listed(self) -> str:
        names = [f"{name[:40]}..." if len(name) > 40 else name for name in self._columns]
        more = f" and {len(names) - 30} more" if len(names) > 30 else ""
        alone = " alone (is the delimiter right?)" if len(names) == 1 else ""
        return f"the columns are {', '.join(names[:30])}{more}{alone}"

    @contextmanager
    def _errors(self, what: str, of: type[Exception] = LogError) -> Iterator[None]:
        try:
            yield
        except self._duckdb.Error as error:
            raise of(f"{what}: {_short(str(error))}") from error


class _Column(NamedTuple):
    """A field or a label: its name, its column in the table `log`, and where its values come from."""

    name: str
    stored: str
    text: str  # as asked for: a column's name or an expression
    sql: str
    kind: str  # the type of `sql`
    guessed: bool = False  # whether `sql` is over columns of the types they look like instead of text

    @property
    def made(self) -> str:
        return _name(f"made {self.stored}")


# How `_converted` stores an invalid value.
_BAD = {
    "at": f'("at" IS NULL OR "at" NOT BETWEEN 0 AND {MAX_AT})',
    "cost": "isnan(cost)",
    "value": "isnan(value)",
    "click": "(click IS NULL)",
    "conversion": "(conversion IS NULL)",
}


def _converted(column: _Column) -> str:
    """SQL for the value to store. It never fails: an invalid value becomes what `_BAD` finds."""
    text = f"nullif(CAST({column.made} AS VARCHAR), '')"
    numeric = re.match(r"U?(TINY|SMALL|BIG|HUGE)?INT|FLOAT|DOUBLE|DECIMAL", column.kind)
    number = f"TRY_CAST({column.made if numeric else text} AS DOUBLE)"
    match column.stored:
        case "at" if column.kind.startswith(("TIMESTAMP", "DATE")):
            return f"epoch_us(CAST({column.made} AS TIMESTAMPTZ)) // 1000000"
        case "at":
            seconds = f"TRY_CAST(floor({number}) AS BIGINT)"
            return seconds if numeric else f"coalesce({seconds}, epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)) // 1000000)"
        case "cost" | "value":
            return f"CASE WHEN {text} IS NULL THEN NULL WHEN isfinite({number}) THEN {number} ELSE 'nan'::DOUBLE END"
        case "click" | "conversion":
            return f"CASE WHEN {text} IS NULL THEN false ELSE coalesce(TRY_CAST({text} AS BOOLEAN), {number} <> 0) END"
        case "event":
            return f"coalesce({text}, 'impression')"
        case _:
            return text


def _wrong(column: _Column, value: str | None) -> str:
    """What is wrong with a value of a field in `_BAD`, so never a visitor's id."""
    if value is None or not value.strip():
        return "is empty"
    if column.name in ("cost", "value"):
        return f"is {value!r:.80}, which is not a finite number"
    if column.name in ("click", "conversion"):
        return f"is {value!r:.80}, which is not a yes or no (1, 0, true, false or a count)"
    try:
        seconds = float(value)
    except ValueError:
        return f"is {value!r:.80}, which is neither ISO 8601 nor epoch seconds, or is not within 1970 to 2096"
    for by, unit in ((1_000, "milliseconds"), (1_000_000, "microseconds"), (1_000_000_000, "nanoseconds")):
        if MAX_AT < seconds <= MAX_AT * by:
            plain = re.fullmatch(r"[A-Za-z_]\w*", column.text) and column.text.lower() != "at"
            text = column.text if plain else column.sql.replace("\n", "")
            return f"is {value:.80}, which looks like {unit}: --map at='{text}/{by}'"
    return f"is {value:.80}, which is not within 1970 to 2096"


def _expanded(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """The files that paths and globs name, in order."""
    for path in (os.fspath(path) for path in paths):
        if Path(path).is_dir():
            raise LogError(f"{path} is a folder: name its files, or a glob such as {Path(path) / '*.csv'}")
        found = [path] if Path(path).exists() else sorted(glob.glob(path, recursive=True))  # noqa: PTH207
        if not found:
            raise LogError(f"no file matches {path}" if glob.has_magic(path) else f"there is no file {path}")
        yield from (name for name in found if not Path(name).is_dir())


def _grouped(paths: list[str]) -> Iterator[tuple[str, bool, list[str]]]:
    """Format, gzip or not, and neighbouring files that share both, to be read together. Empty files are left out."""
    files = [(_kind(path, head), gzipped, path) for path in paths for head, gzipped in [_head(path)] if head]
    if not files:
        raise LogError(f"the log is empty: {', '.join(paths)}")
    for (kind, gzipped), group in groupby(files, key=itemgetter(0, 1)):
        yield kind, gzipped, [path for *_, path in group]


def _head(path: str) -> tuple[bytes, bool]:
    """The first bytes of a file, unpacked, and whether it is gzipped."""
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
    """The format, by the name of the file or else by its first bytes."""
    suffixes = set(Path(path.lower()).suffixes)
    if head.startswith(b"PAR1") or ".parquet" in suffixes:
        return "parquet"
    if suffixes & {".csv", ".tsv"}:
        return "csv"
    return "json" if suffixes & {".json", ".jsonl", ".ndjson"} or head.lstrip().startswith(b"{") else "csv"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _short(message: str) -> str:
    """DuckDB's message without its advice, and without the line it quotes: that may hold a visitor's id."""
    file = re.search(r"^\s*file = (.+)$", message, re.MULTILINE)
    advice = r"\n\s*(?:Possible|LINE \d|The search space|Candidate functions|file = )"
    text = re.split(advice, message.strip())[0].strip()
    if "Original Line:" in text:
        text = f"{text.splitlines()[0]}: {text.splitlines()[-1]}"
    text = re.sub(r"\{.* has duplicate key", "has duplicate key", " ".join(text.split()))
    return text + (f" ({file[1]})" if file else "")


def _duckdb() -> ModuleType:
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError("reading a log needs DuckDB: pip install 'retarget[logs]'") from error
    return duckdb
