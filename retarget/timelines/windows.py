"""Windows: how far back a rule looks, as "since when".

Rules:
- A window answers two questions: since when do entries count, asked at `now`; and when does an entry stop counting.
- `since` never moves back as `now` moves on: a fact that has become false stays false until something new happens.
- A rolling window of W seconds still counts an entry exactly W old; the entry leaves one second later.
- A calendar period begins at the first instant with its local label and ends where the next one begins: a day has 23,
  24 or 25 hours, and begins once, whatever the clocks do at midnight.
- A window may also begin at another event: an anchor names it. A session is a window with an anchor, and so is `since`.
- Nothing here reads a clock; the zone is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol, TypeAlias

Unit: TypeAlias = Literal["hour", "day", "week", "month"]
LocalTime: TypeAlias = date | datetime

DAY = 86_400
SESSION_AT_MOST = DAY
"""How far back a session reaches at most, in seconds: one that never pauses is its last 24 hours."""

_MOST_BACK = 8 * 3_600
"""More than any clock has gone back since 1970: seven hours at Vostok in 1994, three at Casey in 2010."""

_LONGEST = {
    "hour": 3_600 + _MOST_BACK,
    "day": DAY + _MOST_BACK,
    "week": 7 * DAY + _MOST_BACK,
    "month": 31 * DAY + _MOST_BACK,
}


class Anchor(NamedTuple):
    """The moment at which a window begins, if it is later: the n-th newest entry of this timeline, and `after` seconds.

    Where there is no such entry, the anchor says nothing. Reserved impressions do not count as entries here: they may
    yet be released.
    """

    field: bytes
    n: int
    after: int


class Window(Protocol):
    """How far back a rule looks."""

    @property
    def horizon(self) -> int:
        """Seconds after which an entry can no longer matter."""

    def since(self, now: int, zone: tzinfo) -> int:
        """The first second that counts at `now`."""

    def leaves(self, entry: int, zone: tzinfo) -> int:
        """The first second at which `entry`, which counts now, no longer counts if nothing else happens."""


@dataclass(frozen=True, slots=True)
class Rolling:
    """The last `seconds`."""

    seconds: int

    @property
    def horizon(self) -> int:
        return self.seconds

    def since(self, now: int, zone: tzinfo) -> int:  # noqa: ARG002 - one protocol for all windows
        return now - self.seconds

    def leaves(self, entry: int, zone: tzinfo) -> int:  # noqa: ARG002
        return entry + self.seconds + 1


@dataclass(frozen=True, slots=True)
class Flight:
    """Since the campaign's `start`; entries are kept for `seconds`, at least the flight's length."""

    start: LocalTime
    seconds: int

    @property
    def horizon(self) -> int:
        return self.seconds

    def since(self, now: int, zone: tzinfo) -> int:
        return max(instant(self.start, zone), now - self.seconds)

    def leaves(self, entry: int, zone: tzinfo) -> int:  # noqa: ARG002
        return entry + self.seconds + 1


@dataclass(frozen=True, slots=True)
class Calendar:
    """The current hour, day, week or month of the local calendar."""

    unit: Unit
    sunday_first: bool = False

    @property
    def horizon(self) -> int:
        return _LONGEST[self.unit]

    def since(self, now: int, zone: tzinfo) -> int:
        return self._period(now, zone)[0]

    def leaves(self, entry: int, zone: tzinfo) -> int:
        return self._period(entry, zone)[1]

    def _period(self, at: int, zone: tzinfo) -> tuple[int, int]:
        """The period that contains `at`: its first instant, and that of the next one."""
        label = self._label(datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0))
        following = self._next(label)
        begins, ends = _begins(label, zone), _begins(following, zone)
        while ends <= at:  # the clocks went back over the boundary: a later period has begun already
            following = self._next(following)
            begins, ends = ends, _begins(following, zone)
        return begins, ends

    def _label(self, local: datetime) -> datetime:
        if self.unit == "hour":
            return local.replace(minute=0, second=0, microsecond=0)
        day = local.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.unit == "week":
            return day - timedelta(days=(day.weekday() + self.sunday_first) % 7)
        return day.replace(day=1) if self.unit == "month" else day

    def _next(self, label: datetime) -> datetime:
        if self.unit == "month":
            return (label + timedelta(days=31)).replace(day=1)
        return label + {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}[self.unit]


def first_instant(local: datetime, zone: tzinfo) -> int:
    """The first epoch second at which the zone's clocks show `local` (naive) or, where they skip it, later."""
    at = int(local.replace(tzinfo=zone).timestamp())
    if datetime.fromtimestamp(at - 1, zone).replace(tzinfo=None) < local:
        return at
    early = at - 2 * DAY  # the clocks skipped `local` before `at`: find the skip
    while at - early > 1:
        middle = (early + at) // 2
        if datetime.fromtimestamp(middle, zone).replace(tzinfo=None) < local:
            early = middle
        else:
            at = middle
    return at


_begins = lru_cache(4_096)(first_instant)
"""When a calendar period begins. Cached: the same few are asked for over and over, and zone arithmetic is slow."""


def instant(moment: LocalTime, zone: tzinfo) -> int:
    """The epoch second of a date (its first instant) or a datetime, in `zone` if it has no offset."""
    if not isinstance(moment, datetime):
        return first_instant(datetime(moment.year, moment.month, moment.day), zone)  # noqa: DTZ001 - local by intent
    return first_instant(moment, zone) if moment.tzinfo is None else int(moment.timestamp())


def end_instant(moment: LocalTime, zone: tzinfo) -> int:
    """The first epoch second after `moment`: a date is included whole, a datetime is the end itself."""
    return instant(moment if isinstance(moment, datetime) else moment + timedelta(days=1), zone)


class Opening(Protocol):
    """A fact of the clock alone: open or not, and when next."""

    def next_open(self, now: int, zone: tzinfo) -> int | None:
        """The first second at or after `now` at which it is open; None if that is never."""


@dataclass(frozen=True, slots=True)
class Starts:
    """Open from `start` on."""

    start: LocalTime

    def next_open(self, now: int, zone: tzinfo) -> int | None:
        return max(now, instant(self.start, zone))


@dataclass(frozen=True, slots=True)
class Ends:
    """Open until `end`: a date is included whole, a datetime is excluded."""

    end: LocalTime

    def next_open(self, now: int, zone: tzinfo) -> int | None:
        return now if now < end_instant(self.end, zone) else None


@dataclass(frozen=True, slots=True)
class Days:
    """Open on these local weekdays, Monday being 0."""

    weekdays: frozenset[int]

    def next_open(self, now: int, zone: tzinfo) -> int | None:
        return _first_open(self._is_open, (0,), now, zone)

    def _is_open(self, at: int, zone: tzinfo) -> bool:
        return datetime.fromtimestamp(at, zone).weekday() in self.weekdays


@dataclass(frozen=True, slots=True)
class Hours:
    """Open within these spans of local time, in seconds of the day, end excluded; a span may pass midnight."""

    spans: tuple[tuple[int, int], ...]

    def next_open(self, now: int, zone: tzinfo) -> int | None:
        return _first_open(self._is_open, tuple(begin for begin, _ in self.spans), now, zone)

    def _is_open(self, at: int, zone: tzinfo) -> bool:
        local = datetime.fromtimestamp(at, zone)
        return in_spans(self.spans, local.hour * 3_600 + local.minute * 60 + local.second)


def in_spans(spans: Iterable[tuple[int, int]], second: int) -> bool:
    """Whether a second of the day is in a span: end excluded; a span that ends before it begins passes midnight."""
    return any(a <= second < b if a < b else second >= a or second < b for a, b in spans)


_FORTNIGHT = 16
"""Days to look ahead: a weekday comes within a week, or within two if the calendar skips it."""


def _first_open(is_open: Callable[[int, tzinfo], bool], begins: tuple[int, ...], now: int, zone: tzinfo) -> int | None:
    """The first open second from `now` on. It can only open at these seconds of the day, or when the clocks change."""
    if is_open(now, zone):
        return now
    today = datetime.fromtimestamp(now, zone)
    midnight = datetime(today.year, today.month, today.day)  # noqa: DTZ001 - local by intent
    first = None
    for ahead in range(-1, _FORTNIGHT):
        day = midnight + timedelta(days=ahead)
        for at in _changes(day, begins, zone):
            if at > now and (first is None or at < first) and is_open(at, zone):
                first = at
        # If the clocks go back over midnight, two days overlap: a later day may open before this one does again.
        if first is not None and first <= first_instant(day + timedelta(days=1), zone):
            return first
    return first


def _changes(midnight: datetime, begins: tuple[int, ...], zone: tzinfo) -> Iterator[int]:
    """The instants of a local day at which it may open: at the given seconds, and when the clocks change."""
    for begin in begins:
        local = midnight + timedelta(seconds=begin)
        yield from (int(local.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1))
    early, late = first_instant(midnight, zone), first_instant(midnight + timedelta(days=1), zone)
    offset = _offset(early, zone)
    if offset != _offset(late, zone):
        while late - early > 1:
            middle = (early + late) // 2
            early, late = (middle, late) if _offset(middle, zone) == offset else (early, middle)
        yield late


def _offset(at: int, zone: tzinfo) -> timedelta:
    return datetime.fromtimestamp(at, UTC).astimezone(zone).utcoffset() or timedelta()
