"""Local time for the oracle, with plain `datetime` and `zoneinfo`: slow, and obviously right.

A local time is written as the epoch second at which a clock in UTC shows the same.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise

MINUTE, QUARTER, HOUR, DAY = 60, 900, 3_600, 86_400


def wall(at: int, zone: tzinfo) -> int:
    """What a clock in the zone shows at `at`, as the epoch second at which a clock in UTC shows the same."""
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    assert offset is not None
    return at + int(offset.total_seconds())


@lru_cache(maxsize=100_000)
def showing(shown: int, zone: tzinfo) -> tuple[int, ...]:
    """All seconds at which a clock in the zone shows `shown`: none, one, or two."""
    offsets = {wall(at, zone) - at for at in range(shown - 2 * DAY, shown + 2 * DAY, 15 * MINUTE)}
    return tuple(sorted(shown - offset for offset in offsets if wall(shown - offset, zone) == shown))


@lru_cache(maxsize=100_000)
def first_showing(shown: int, zone: tzinfo) -> int:
    """The first second at which a clock in the zone shows `shown`; where they skip it, the first that shows more."""
    if showing(shown, zone):
        return showing(shown, zone)[0]
    at = next(at for at in range(shown - 2 * DAY, shown + 2 * DAY, 15 * MINUTE) if wall(at, zone) > shown)
    while wall(at - 1, zone) > shown:
        at -= 1
    return at


def as_shown(local: datetime) -> int:
    """A naive local time as the number that `wall` gives when a clock shows it."""
    return int(local.replace(tzinfo=UTC).timestamp())


def label(shown: int, unit: str, *, sunday_first: bool) -> int:
    """When the hour, day, week or month of the local time `shown` begins, in local time."""
    local = datetime.fromtimestamp(shown, UTC)
    if unit == "hour":
        return as_shown(datetime(local.year, local.month, local.day, local.hour))  # noqa: DTZ001
    if unit == "month":
        return as_shown(datetime(local.year, local.month, 1))  # noqa: DTZ001
    day = as_shown(datetime(local.year, local.month, local.day))  # noqa: DTZ001
    if unit == "day":
        return day
    first = 6 if sunday_first else 0
    while datetime.fromtimestamp(day, UTC).weekday() != first:
        day -= DAY
    return day


def next_label(start: int, unit: str) -> int:
    """The label after this one."""
    if unit == "month":
        local = datetime.fromtimestamp(start, UTC)
        year, month = (local.year + 1, 1) if local.month == 12 else (local.year, local.month + 1)
        return as_shown(datetime(year, month, 1))  # noqa: DTZ001
    return start + {"hour": HOUR, "day": DAY, "week": 7 * DAY}[unit]


def period(at: int, unit: str, zone: tzinfo, *, sunday_first: bool) -> tuple[int, int]:
    """The calendar period that `at` is in: its first second and the first of the next period.

    A period lasts until the next one begins, even when the clocks go back to before its start.
    """
    current = label(wall(at, zone), unit, sunday_first=sunday_first)
    while first_showing(next_label(current, unit), zone) <= at:
        current = next_label(current, unit)
    return first_showing(current, zone), first_showing(next_label(current, unit), zone)


def moment(at: date | datetime, zone: tzinfo) -> int:
    """The second of a `start`: a date's first second, a time of a given offset, or a local time."""
    if not isinstance(at, datetime):
        return first_showing(as_shown(datetime(at.year, at.month, at.day)), zone)  # noqa: DTZ001
    if at.tzinfo is not None:
        return int(at.timestamp())
    return first_showing(as_shown(at), zone)


def end_moment(at: date | datetime, zone: tzinfo) -> int:
    """The first second after an `end`: a date is included whole, a time is excluded."""
    return moment(at if isinstance(at, datetime) else at + timedelta(days=1), zone)


def within_hours(shown: int, spans: tuple[tuple[int, int], ...]) -> bool:
    """Whether the local time is in a span: its end is excluded; one that ends before it begins is over midnight."""
    second = shown % DAY
    return any(begin <= second < end if begin < end else second >= begin or second < end for begin, end in spans)


def weekday(shown: int) -> int:
    """The weekday of the local time, Monday being 0."""
    return datetime.fromtimestamp(shown, UTC).weekday()


@lru_cache(maxsize=100_000)
def _offsets(day: int, zone: tzinfo) -> tuple[int, ...]:
    """How far clocks in the zone are ahead of UTC in each quarter of an hour of a day of UTC: they change between."""
    return tuple(wall(at, zone) - at for at in range(day * DAY, (day + 1) * DAY, QUARTER))


@lru_cache(maxsize=100_000)
def openings(
    day: int, spans: tuple[tuple[int, int], ...] | None, weekdays: frozenset[int] | None, zone: tzinfo
) -> tuple[int, ...]:
    """The whole minutes of a day of UTC at which hours and days begin to let a campaign run.

    Tried are the beginning of each quarter of an hour, where a day may begin or the clocks change, and each minute in
    it at which a span begins.
    """

    def is_open(shown: int) -> bool:
        return (weekdays is None or weekday(shown) in weekdays) and (spans is None or within_hours(shown, spans))

    offsets = [_offsets(day - 1, zone)[-1], *_offsets(day, zone)]
    opened = []
    for number, (before, ahead) in enumerate(pairwise(offsets)):
        begin = day * DAY + number * QUARTER
        tried = {begin, *(begin + (opens - begin - ahead) % DAY for opens, _ in spans or ())}
        for at in sorted(at for at in tried if at < begin + QUARTER):
            earlier = at - MINUTE + (ahead if at > begin else before)
            if is_open(at + ahead) and not is_open(earlier):
                opened.append(at)
    return tuple(opened)
