"""A log with its kinds numbered: what DuckDB can count of it, and two numbers for each row that is left to judge.

Rules:
- Rows that differ in nothing but visitor, moment and money are of one kind. What a log holds of a kind no policy can
  change, so DuckDB counts it; what is suppressed of it is for others to find.
- A row is its second and the number of its kind: Python takes these over in a tenth of the time that the row's cells
  take, and a process hands them to another as they are.
- A row whose id was there before, for that visitor and event, is of a kind of its own: it is counted, not handed on.
- Visitors come one after the other, each with all rows, by second, rows of one second in the order of the log.
"""
# ruff: noqa: S608 - the SQL is made here, of columns that the log has named

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
"""Units of money in one. Whole ones are added up, so that a sum does not depend on the order."""

SHARE = 50_000
"""Rows in a share, and what is missing of its last visitor."""


class Kind(NamedTuple):
    """What rows have in common, how many there are, and what they come to."""

    event: str
    campaign: str | None
    subject: str | None
    click: bool
    conversion: bool
    timezone: str | None
    priced: bool
    """Whether each row says what it cost."""
    repeated: bool
    """Whether the id of each was there before."""
    labels: tuple[str | None, ...]
    rows: int
    first: int
    """The second of the earliest."""
    cost: int
    """What they cost, in units, and what their conversions were worth."""
    value: int
    price: int = 0
    """What one costs where its row does not say."""

    def reactions(self) -> tuple[bool, bool]:
        """Whether a row tells of a click, and of a conversion: of its own, or of the impression that it is."""
        if self.event == IMPRESSION:
            return self.click, self.conversion
        return self.event == "click", self.event == "conversion"


_ABSENT = Kind(IMPRESSION, None, None, False, False, None, False, False, (), 0, 0, 0, 0)  # noqa: FBT003
_MONEY = ("cost", "value")


class Share(NamedTuple):
    """Some visitors' rows, each visitor's together. Plain arrays: a process sends them to another in no time."""

    begins: array[int]
    """Where each visitor begins, and where the last one ends."""
    seconds: array[int]
    kinds: array[int]
    costs: array[float] | None
    """What each row cost, and what it was worth; None where the log does not say."""
    values: array[float] | None


class Numbered:
    """A log's kinds, its visitors' frequency, and its rows as integers. `labels` are those that make a difference."""

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
        """How many visitors have so many impressions."""

    def longest_id(self) -> tuple[str, int] | None:
        """The longest of the visitors' ids, and a moment at which it came."""
        query = 'SELECT visitor, "at" FROM log WHERE visitor IS NOT NULL ORDER BY strlen(visitor) DESC LIMIT 1'
        return next(iter(self._all(query)), None)

    def by_visitor(self) -> Iterator[Share]:
        """All rows of known visitors."""
        counts = batches(self._tables.sql("SELECT rows FROM visitors ORDER BY number"), "q")
        every = list(chain.from_iterable(column for (column,) in counts))
        return self._shares(every, "JOIN visitors USING (visitor)", "true", "number, ")

    def unknown(self) -> Iterator[Share]:
        """All rows without a visitor, as if one had them all: one share, or none."""
        ((count,),) = self._all(f"SELECT count(*) FROM {self._rows} WHERE visitor IS NULL AND NOT repeated")
        return self._shares([count] if count else [], "", "visitor IS NULL")

    def by_time(self) -> Iterator[tuple[str, int, int, float, float]]:
        """All rows of known visitors as they came: visitor, second, kind, cost, value."""
        cells = [f"coalesce({name}, 0)" if self._log.has(name) else "0.0" for name in _MONEY]
        self._tables.execute(self._select(["visitor", '"at"', "kind", *cells], "", "visitor IS NOT NULL"))
        while rows := self._tables.fetchmany(BATCH):
            yield from rows

    def _shares(self, counts: Sequence[int], join: str, where: str, order: str = "") -> Iterator[Share]:
        """The rows in that order, of which so many are each visitor's."""
        money = [name for name in _MONEY if self._log.has(name)]
        cells = ['CAST("at" AS UINTEGER)', "CAST(kind AS INTEGER)", *(f"coalesce({name}, 0)" for name in money)]
        codes = "Ii" + "d" * len(money)
        fetched = batches(self._tables.sql(self._select(cells, join, where, order)), codes)
        waiting: list[array[Any]] = [array(code) for code in codes]
        begins = array("q", [0])
        for place, count in enumerate(counts, 1):
            begins.append(begins[-1] + count)
            if begins[-1] < SHARE and place < len(counts):
                continue
            end = begins[-1]
            while len(waiting[0]) < end:
                for column, more in zip(waiting, next(fetched), strict=True):
                    column.extend(more)
            seconds, kinds, *told = [column[:end] for column in waiting]
            for column in waiting:
                del column[:end]
            amounts = dict(zip(money, told, strict=True))
            yield Share(begins, seconds, kinds, amounts.get("cost"), amounts.get("value"))
            begins = array("q", [0])

    # -- in SQL

    def _find_repeats(self, event: str) -> bool:
        """Note the rows whose id was there before. First a look at hashes, which is half the work, for few are."""
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
