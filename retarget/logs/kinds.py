"""A log's rows by kind: the kinds with their sums, and two numbers for each row that is left to judge.

Rules:
- Rows of one kind differ in visitor, time and money only. What the log has of a kind does not depend on the policy, so
  DuckDB counts it; what is suppressed of it is for the replay to find.
- A row is its second and the number of its kind: Python fetches these in a tenth of the time that the row's cells take,
  and a process passes them to another as they are.
- A row whose id was seen before, for that visitor and event, is of a kind of its own: counted here, and not judged.
- A visitor's rows are together, by second, rows of one second in the order of the log.
"""
# ruff: noqa: S608 - the SQL is written here, over columns that the log has quoted

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from retarget.logs.arrow import batches
from retarget.logs.log import BATCH, Log
from retarget.timelines import IMPRESSION

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

UNIT = 1_000_000_000
"""Units of money in 1. Whole units are summed, so that a sum does not depend on the order."""

CHUNK = 50_000
"""Rows after which a chunk ends with the visitor at hand."""


class Kind(NamedTuple):
    """What rows have in common, how many there are, and their sums."""

    event: str
    campaign: str | None
    subject: str | None
    click: bool
    conversion: bool
    timezone: str | None
    priced: bool
    """Whether each row has a cost of its own."""
    repeated: bool
    """Whether the id of each was seen before."""
    labels: tuple[str | None, ...]
    rows: int
    first: int
    """The earliest second."""
    cost: int
    """The sum of the rows' costs, in units (`UNIT`)."""
    value: int
    """The sum of the rows' values, in units."""
    price: int = 0
    """The cost of one row where it has none of its own, in units; filled in from the policy."""

    def reactions(self) -> tuple[bool, bool]:
        """(click, conversion): whether a row is one, or is an impression that led to one."""
        if self.event == IMPRESSION:
            return self.click, self.conversion
        return self.event == "click", self.event == "conversion"


_ABSENT = Kind(IMPRESSION, None, None, False, False, None, False, False, (), 0, 0, 0, 0)  # noqa: FBT003
_MONEY = ("cost", "value")


class Chunk(NamedTuple):
    """Some visitors' rows, each visitor's together, as plain arrays: cheap to send to another process."""

    begins: array[int]
    """Where each visitor's rows begin, and where the last visitor's end."""
    seconds: array[int]
    kinds: array[int]
    costs: array[float] | None
    """Of each row, 0 where its cell is empty; None if the log has no such column."""
    values: array[float] | None
    """The same for values."""


class LogKinds:
    """A log's kinds, its visitors' frequency, and its rows as numbers. `labels` are those that tell kinds apart."""

    def __init__(self, log: Log, tables: DuckDBPyConnection, labels: Sequence[str]) -> None:
        self._log, self._tables = log, tables
        event = "event" if log.has("event") else f"'{IMPRESSION}'"
        with_id = log.has("id") and self._find_repeats(event)
        self._rows = (
            f"(SELECT *, rowid AS row, {'rowid IN (FROM repeats)' if with_id else 'false'} AS repeated FROM log)"
        )
        same = {name: f'"{name}"' for name in Kind._fields[:6] if log.has(name)}
        same |= {"priced": "(cost IS NOT NULL)"} if log.has("cost") else {}
        same |= {"repeated": "repeated"} if with_id else {}
        self._make_kinds([*same.values(), *map(log.column, labels)])
        self._make(
            "visitors",
            f"""SELECT row_number() OVER () AS number, *
            FROM (SELECT visitor, count(*) AS rows, count_if({event} = '{IMPRESSION}') AS impressions
                  FROM {self._rows} WHERE visitor IS NOT NULL AND NOT repeated GROUP BY visitor)""",
        )
        self.kinds = [
            _ABSENT._replace(
                **dict(zip(same, cells, strict=False)), labels=cells[len(same) : -4],
                rows=cells[-4], first=cells[-3], cost=cells[-2] or 0, value=cells[-1] or 0,
            )
            for cells in self._all("SELECT * EXCLUDE kind FROM kinds ORDER BY kind")
        ]  # fmt: skip
        self.last = max((at for (at,) in self._all('SELECT max("at") FROM log')), default=None)
        self.frequency: dict[int, int] = dict(
            self._all("SELECT impressions, count(*) FROM visitors WHERE impressions > 0 GROUP BY impressions")
        )
        """Impressions -> how many visitors have that many, repeated ones not counted."""

    def longest_id(self) -> tuple[str, int] | None:
        """The longest visitor id, and the second of a row that has it; None without visitors."""
        query = 'SELECT visitor, "at" FROM log WHERE visitor IS NOT NULL ORDER BY strlen(visitor) DESC LIMIT 1'
        return next(iter(self._all(query)), None)

    def by_visitor(self) -> Iterator[Chunk]:
        """All rows with a visitor."""
        counts = batches(self._tables.sql("SELECT rows FROM visitors ORDER BY number"), "q")
        rows = list(chain.from_iterable(column for (column,) in counts))
        return self._chunks(rows, "JOIN visitors USING (visitor)", "true", "number, ")

    def unknown(self) -> Iterator[Chunk]:
        """All rows without a visitor, as those of one visitor: one chunk, or none."""
        ((count,),) = self._all(f"SELECT count(*) FROM {self._rows} WHERE visitor IS NULL AND NOT repeated")
        return self._chunks([count] if count else [], "", "visitor IS NULL")

    def by_time(self) -> Iterator[tuple[str, int, int, float, float]]:
        """All rows with a visitor in time order: visitor, second, kind, cost, value."""
        cells = [f"coalesce({name}, 0)" if self._log.has(name) else "0.0" for name in _MONEY]
        self._tables.execute(self._select(["visitor", '"at"', "kind", *cells], "", "visitor IS NOT NULL"))
        while rows := self._tables.fetchmany(BATCH):
            yield from rows

    def _chunks(self, counts: Sequence[int], join: str, where: str, order: str = "") -> Iterator[Chunk]:
        """The rows in that order; `counts` are the rows of each visitor."""
        money = [name for name in _MONEY if self._log.has(name)]
        cells = ['CAST("at" AS UINTEGER)', "CAST(kind AS INTEGER)", *(f"coalesce({name}, 0)" for name in money)]
        codes = "Ii" + "d" * len(money)
        fetched = batches(self._tables.sql(self._select(cells, join, where, order)), codes)
        waiting: list[array[Any]] = [array(code) for code in codes]
        begins = array("q", [0])
        for place, count in enumerate(counts, 1):
            begins.append(begins[-1] + count)
            if begins[-1] < CHUNK and place < len(counts):
                continue
            end = begins[-1]
            while len(waiting[0]) < end:
                for column, more in zip(waiting, next(fetched), strict=True):
                    column.extend(more)
            seconds, kinds, *amounts = [column[:end] for column in waiting]
            for column in waiting:
                del column[:end]
            by_name = dict(zip(money, amounts, strict=True))
            yield Chunk(begins, seconds, kinds, by_name.get("cost"), by_name.get("value"))
            begins = array("q", [0])

    # -- in SQL

    def _find_repeats(self, event: str) -> bool:
        """Make a table of the rows whose id was seen before. Comparing hashes first halves the work: few ids repeat."""
        same = f"visitor, {event}, id"
        self._make("seen", f"SELECT hash({same}) AS h FROM log WHERE id IS NOT NULL GROUP BY h HAVING count(*) > 1")
        self._make(
            "repeats",
            f"""SELECT row FROM (SELECT *, rowid AS row FROM log WHERE id IS NOT NULL AND hash({same}) IN (FROM seen))
            QUALIFY row_number() OVER (PARTITION BY {same} ORDER BY "at", row) > 1""",
        )
        return bool(self._all("FROM repeats LIMIT 1"))

    def _make_kinds(self, same: Sequence[str]) -> None:
        keys = ", ".join(f"{sql} AS k{number}" for number, sql in enumerate(same))
        sums = [f"sum(CAST({name} * {UNIT} AS HUGEINT))" if self._log.has(name) else "0" for name in _MONEY]
        self._make(
            "kinds",
            f"""SELECT row_number() OVER () - 1 AS kind, *
            FROM (SELECT {keys}, count(*), min("at"), {", ".join(sums)} FROM {self._rows} GROUP BY ALL)""",
        )
        self._of_kind = " AND ".join(f"kinds.k{number} IS NOT DISTINCT FROM {sql}" for number, sql in enumerate(same))

    def _select(self, cells: Sequence[str], join: str, where: str, order: str = "") -> str:
        return f"""SELECT {", ".join(cells)} FROM {self._rows} {join} JOIN kinds ON {self._of_kind}
            WHERE NOT repeated AND {where} ORDER BY {order} "at", row"""

    def _make(self, table: str, query: str) -> None:
        self._tables.execute(f"CREATE TEMP TABLE {table} AS {query}")

    def _all(self, query: str) -> list[Any]:
        return self._tables.execute(query).fetchall()
