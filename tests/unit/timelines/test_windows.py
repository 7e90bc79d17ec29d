"""Windows and openings against clocks watched minute by minute, wherever and whenever they change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retarget.timelines.windows import (
    SESSION_AT_MOST,
    Calendar,
    Days,
    Ends,
    Flight,
    Hours,
    Rolling,
    Starts,
    Unit,
    Window,
    end_instant,
    first_instant,
    in_spans,
    instant,
)
from tests.property import local_time
from tests.property.local_time import DAY, HOUR, MINUTE, wall

SECOND = timedelta(seconds=1)
UNITS: list[Unit] = ["hour", "day", "week", "month"]
LAST = 68 * 365 * DAY
"""In 2037."""

NASTY = {
    "America/St_Johns": ["2006-10-29T00:01", "2006-04-02T00:01", "1988-10-30T00:01"],  # back from 00:01 to 23:01, 22:01
    "Pacific/Apia": ["2011-12-30T00:00"],  # a Friday that never was
    "Pacific/Kwajalein": ["1993-08-21T00:00"],
    "Africa/Cairo": ["2024-04-26T00:00", "2024-11-01T00:00"],  # at midnight
    "America/Sao_Paulo": ["2018-11-04T00:00", "2019-02-17T00:00"],
    "Asia/Beirut": ["2026-03-29T00:00", "2026-10-25T00:00"],
    "America/Havana": ["2026-03-08T00:00", "2026-11-01T01:00"],
    "Australia/Lord_Howe": ["2026-04-05T02:00", "2026-10-04T02:00"],  # by half an hour
    "Asia/Kathmandu": ["1986-01-01T00:00"],  # by a quarter
    "Antarctica/Troll": ["2026-03-29T01:00", "2026-10-25T03:00"],  # by two hours
    "Antarctica/Casey": ["2010-03-05T02:00", "2021-03-14T00:00"],  # back by three
    "Antarctica/Vostok": ["1994-02-01T00:00", "1994-11-01T00:00"],  # by seven
    "Africa/Monrovia": ["1972-01-07T00:00"],  # by 44 minutes and 30 seconds
    "America/Danmarkshavn": ["1996-01-01T00:00"],  # the year begins at three
    "Europe/Zurich": ["2026-03-29T02:00", "2026-10-25T03:00", "2026-12-31T23:00"],
    "America/New_York": ["2026-11-01T02:00"],
}


class Place(NamedTuple):
    """A zone and a moment about which something happens to its clocks."""

    zone: str
    at: int


def _nasty() -> list[Place]:
    return [
        # The second before is one that the clock has shown; the time itself may only come after the change.
        Place(zone, int((datetime.fromisoformat(local) - SECOND).replace(tzinfo=ZoneInfo(zone)).timestamp()) + 1)
        for zone, locals_ in NASTY.items()
        for local in locals_
    ]


@cache
def changes() -> list[Place]:
    """Every change of the clocks of every zone from 1970 to 2037, once for all zones that have it in common.

    They are found by looking every ten days, so two that cancel out within ten days are missed.
    """
    found: dict[tuple[int, timedelta | None, timedelta | None], str] = {}
    for key in sorted(available_timezones()):
        zone = ZoneInfo(key)
        before = datetime.fromtimestamp(0, zone).utcoffset()
        for end in range(10 * DAY, LAST, 10 * DAY):
            after = datetime.fromtimestamp(end, zone).utcoffset()
            if after != before:
                low, high = end - 10 * DAY, end
                while high - low > 1:
                    middle = (low + high) // 2
                    same = datetime.fromtimestamp(middle, zone).utcoffset() == before
                    low, high = (middle, high) if same else (low, middle)
                found.setdefault((high, before, after), key)
                before = after
    return [Place(key, at) for (at, _, _), key in found.items()]


@cache
def kinds_of_change() -> list[Place]:
    """One change of each kind: by how much, at what local time."""
    kinds = {}
    for place in changes():
        zone = ZoneInfo(place.zone)
        before, after = wall(place.at - 1, zone) + 1, wall(place.at, zone)
        kinds[before % DAY, after - before] = place
    return list(kinds.values())


PLACES = st.one_of(
    st.deferred(lambda: st.sampled_from(changes())),
    st.deferred(lambda: st.sampled_from([*kinds_of_change(), *_nasty()])),
    st.builds(Place, st.sampled_from(sorted(available_timezones())), st.integers(40 * DAY, LAST)),
)
"""Changes of the clocks, and any zone at any time."""

BESIDE = st.one_of(st.integers(-3, 3), st.integers(-2 * HOUR, 2 * HOUR), st.integers(-2 * DAY, 2 * DAY))
"""Seconds from a change to look at."""


def labels(at: int, zone: ZoneInfo, *, sunday_first: bool) -> dict[Unit, int]:
    """Which hour, day, week and month a clock in the zone shows, as numbers that go up."""
    shown = wall(at, zone)
    day = shown // DAY
    local = datetime.fromtimestamp(shown, UTC)
    since_monday = day + 3  # 1 January 1970 was a Thursday
    return {
        "hour": shown // HOUR,
        "day": day,
        "week": (since_monday + sunday_first) // 7,
        "month": local.year * 12 + local.month,
    }


def watched(
    units: list[Unit], moments: range, zone: ZoneInfo, *, sunday_first: bool
) -> list[tuple[Unit, int, int, int | None]]:
    """(unit, moment, when its period began, when the next one begins), by watching a clock without a break.

    A period begins when the clock shows a later one than ever before. Nothing is known of the period that the watch
    begins in, nor of when the one ends in which it stops.
    """
    begun: dict[Unit, list[int]] = {unit: [] for unit in units}
    latest = labels(moments[0], zone, sunday_first=sunday_first)
    seen: list[tuple[Unit, int, int]] = []
    for at in moments:
        now = labels(at, zone, sunday_first=sunday_first)
        for unit in units:
            if now[unit] > latest[unit]:
                latest[unit] = now[unit]
                begun[unit].append(at)
            seen.append((unit, at, len(begun[unit])))
    return [
        (unit, at, begun[unit][count - 1], begun[unit][count] if count < len(begun[unit]) else None)
        for unit, at, count in seen
        if count
    ]


def check_watched(units: list[Unit], moments: range, key: str, *, sunday_first: bool, every: int = 1) -> None:
    """The calendar windows say what the watch saw, and so does the oracle.

    They are asked at each moment of the watch next to where a period begins, and at one of `every` else.
    """
    zone = ZoneInfo(key)
    windows = {unit: Calendar(unit, sunday_first) for unit in units}
    for unit, at, begins, ends in watched(units, moments, zone, sunday_first=sunday_first):
        beside = min(at - begins, at if ends is None else ends - at) < 3 * moments.step
        if not beside and at // moments.step % every:
            continue
        place = (key, unit, datetime.fromtimestamp(at, zone).isoformat())
        assert (place, windows[unit].since(at, zone)) == (place, begins)
        if ends is not None:
            assert (place, windows[unit].leaves(at, zone)) == (place, ends)
            if at == begins:
                assert local_time.period(at, unit, zone, sunday_first=sunday_first) == (begins, ends)


# ---- calendar windows ----


@pytest.mark.parametrize(
    "place", _nasty(), ids=lambda place: f"{place.zone} {datetime.fromtimestamp(place.at, UTC):%F}"
)
def test_hours_and_days_minute_by_minute(place: Place) -> None:
    """Around a change of the clocks, calendar hours and days begin and end where a watched clock says."""
    step = 30 if place.zone == "Africa/Monrovia" else 60
    check_watched(["hour"], range(place.at - 9 * HOUR, place.at + 10 * HOUR, step), place.zone, sunday_first=False)
    around = range(place.at - 34 * HOUR, place.at + 51 * HOUR, step)
    check_watched(["day"], around, place.zone, sunday_first=False, every=7)


def test_hours_and_days_around_every_kind_of_change() -> None:
    """The same for one change of each kind that the world's clocks have made since 1970."""
    for place in kinds_of_change():
        step = next(step for step in (15 * MINUTE, 5 * MINUTE, MINUTE, 30) if place.at % step == 0)
        around = range(place.at - 100 * step, place.at + 100 * step, step)  # a day each way; an hour in odd places
        check_watched(["hour", "day"], around, place.zone, sunday_first=False, every=3)


@pytest.mark.parametrize("sunday_first", [False, True])
@pytest.mark.parametrize("zone", ["America/St_Johns", "Pacific/Apia", "Africa/Cairo", "Antarctica/Vostok"])
def test_weeks_and_months_by_the_quarter_of_an_hour(zone: str, sunday_first: bool) -> None:  # noqa: FBT001
    """Around a change of the clocks, calendar weeks and months begin and end where a watched clock says."""
    place = next(place for place in _nasty() if place.zone == zone)
    begin = (place.at - 35 * DAY) // HOUR * HOUR
    check_watched(
        ["week", "month"], range(begin, begin + 75 * DAY, 15 * MINUTE), zone, sunday_first=sunday_first, every=17
    )


@pytest.mark.parametrize("zone", ["Europe/Zurich", "Asia/Kathmandu", "Pacific/Auckland"])
@pytest.mark.parametrize("year", [1999, 2023, 2026, 2032])
def test_year_ends(year: int, zone: str) -> None:
    """Weeks and months pass over the end of a year, leap or not, as a watched clock says."""
    begin = int(datetime(year, 11, 28, tzinfo=UTC).timestamp())
    for sunday_first in (False, True):
        watch = range(begin, begin + 70 * DAY, 15 * MINUTE)
        check_watched(["week", "month"], watch, zone, sunday_first=sunday_first, every=31)


@settings(max_examples=400, deadline=None)
@given(place=PLACES, unit=st.sampled_from(UNITS), sunday_first=st.booleans(), beside=BESIDE)
def test_calendar_windows_are_periods(place: Place, unit: Unit, sunday_first: bool, beside: int) -> None:  # noqa: FBT001
    """In all zones: a period begins where the naive search says, its first second counts, the one before does not."""
    zone, window, at = ZoneInfo(place.zone), Calendar(unit, sunday_first), place.at + beside
    begins, ends = local_time.period(at, unit, zone, sunday_first=sunday_first)
    assert (window.since(at, zone), window.leaves(at, zone)) == (begins, ends)
    assert begins <= at < ends
    assert at - begins <= window.horizon
    assert window.since(begins, zone) == begins
    assert window.since(begins - 1, zone) < begins
    assert window.since(ends, zone) == ends


@settings(max_examples=200, deadline=None)
@given(place=PLACES, unit=st.sampled_from(["day", "week", "month"]), sunday_first=st.booleans(), data=st.data())
def test_counts_by_local_date(place: Place, unit: Unit, sunday_first: bool, data: st.DataObject) -> None:  # noqa: FBT001
    """What counts is what has the local date of today, of this week, of this month; off the hours that came twice."""
    zone, window = ZoneInfo(place.zone), Calendar(unit, sunday_first)
    now = place.at + data.draw(BESIDE)
    entries = [now - ago for ago in data.draw(st.lists(st.integers(0, 40 * DAY), max_size=10))]

    def clear(at: int) -> bool:
        return wall(at - 12 * HOUR, zone) + 12 * HOUR == wall(at, zone) == wall(at + 12 * HOUR, zone) - 12 * HOUR

    def period(at: int) -> int:
        return labels(at, zone, sunday_first=sunday_first)[unit]

    for entry in entries:
        if clear(entry) and clear(now):
            assert (entry >= window.since(now, zone)) == (period(entry) == period(now))


# ---- what holds for every window ----

STARTS = st.one_of(
    st.dates(date(1971, 1, 1), date(2036, 1, 1)),
    st.datetimes(datetime(1971, 1, 1), datetime(2036, 1, 1)),  # noqa: DTZ001 - local by intent
    st.datetimes(datetime(1971, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
WINDOWS: st.SearchStrategy[Window] = st.one_of(
    st.builds(Rolling, st.integers(1, 40 * DAY)),
    st.builds(Calendar, st.sampled_from(UNITS), st.booleans()),
    st.builds(Flight, STARTS, st.integers(1, 400 * DAY)),
    st.builds(Rolling, st.just(SESSION_AT_MOST)),
)


@settings(max_examples=400, deadline=None)
@given(window=WINDOWS, place=PLACES, beside=BESIDE)
@example(window=Calendar("hour"), place=_nasty()[2], beside=HOUR)
@example(window=Calendar("day"), place=_nasty()[0], beside=HOUR // 2)
def test_leaves_agrees_with_since(window: Window, place: Place, beside: int) -> None:
    """An entry that counts, counts until the second before `leaves`, and never from then on."""
    zone, entry = ZoneInfo(place.zone), place.at + beside
    if entry < window.since(entry, zone):
        return  # before the flight: it never counts
    leaves = window.leaves(entry, zone)
    assert leaves > entry
    assert window.since(leaves - 1, zone) <= entry < window.since(leaves, zone)
    assert leaves - entry <= window.horizon + 1


@settings(max_examples=400, deadline=None)
@given(window=WINDOWS, place=PLACES, beside=BESIDE, later=st.one_of(st.integers(0, 8 * HOUR), st.integers(0, 40 * DAY)))
def test_since_never_goes_back(window: Window, place: Place, beside: int, later: int) -> None:
    """As time passes, a window never counts again what it has dropped, whatever the clocks do."""
    zone, now = ZoneInfo(place.zone), place.at + beside
    assert window.since(now, zone) <= window.since(now + later, zone)


def test_a_rolling_window_counts_what_is_exactly_as_old() -> None:
    """An entry exactly W old counts; a second later it does not; a session is at most a day."""
    zone = ZoneInfo("UTC")
    assert Rolling(60).since(1_000, zone) == 940
    assert Rolling(60).leaves(940, zone) == 1_001
    assert SESSION_AT_MOST == DAY


def test_a_flight_begins_with_its_start() -> None:
    """A flight looks back to its start, and no further than it is kept."""
    zone = ZoneInfo("Europe/Zurich")
    start = int(datetime(2026, 2, 28, 23, tzinfo=UTC).timestamp())
    flight = Flight(date(2026, 3, 1), 10 * DAY)
    assert [flight.since(start + days * DAY, zone) - start for days in (-5, 0, 10, 11)] == [0, 0, 0, DAY]
    assert flight.leaves(start, zone) == start + 10 * DAY + 1
    assert flight.horizon == 10 * DAY


# ---- moments ----


@settings(max_examples=300, deadline=None)
@given(place=PLACES, beside=BESIDE)
def test_instants_are_where_a_clock_first_shows_them(place: Place, beside: int) -> None:
    """A local date or time is the first second that shows it; where the clocks skip it, the first that shows more."""
    zone = ZoneInfo(place.zone)
    shown = wall(place.at, zone) + beside
    local = datetime.fromtimestamp(shown, UTC).replace(tzinfo=None)
    expected = local_time.first_showing(shown, zone)
    assert wall(expected, zone) >= shown > wall(expected - 1, zone)
    assert first_instant(local, zone) == instant(local, zone) == end_instant(local, zone) == expected
    midnight = datetime.combine(local.date(), datetime.min.time())
    assert instant(local.date(), zone) == local_time.first_showing(local_time.as_shown(midnight), zone)
    assert end_instant(local.date() - timedelta(days=1), zone) == instant(local.date(), zone)
    exact = datetime.fromtimestamp(place.at, zone)
    assert instant(exact, ZoneInfo("UTC")) == end_instant(exact, ZoneInfo("UTC")) == place.at


# ---- openings ----


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], []),
        ([(8, 12)], [*range(8, 12)]),
        ([(8, 12), (14, 18)], [*range(8, 12), *range(14, 18)]),
        ([(21, 6)], [*range(6), 21, 22, 23]),
        ([(0, 24)], [*range(24)]),
    ],
)
def test_seconds_of_the_day_in_spans(spans: list[tuple[int, int]], expected: list[int]) -> None:
    """The end is excluded; a span that ends before it begins passes midnight."""
    hours = [(begin * 3_600, end * 3_600) for begin, end in spans]
    assert [hour for hour in range(24) if in_spans(hours, hour * 3_600)] == expected
    assert [hour for hour in range(24) if in_spans(hours, hour * 3_600 + 3_599)] == expected


def first_open(now: int, opened: Callable[[int], bool], days: int) -> int | None:
    """The first moment from `now` on at which it is open: now, or the first half minute that is.

    Half minutes, for Monrovia's clocks were 44 minutes and 30 seconds behind until 1972.
    """
    if opened(now):
        return now
    begin = (now // 30 + 1) * 30
    return next((at for at in range(begin, now + days * DAY, 30) if opened(at)), None)


CLOCK_TIMES = st.one_of(st.integers(0, 1_439), st.sampled_from([0, 1, 30, 60, 119, 120, 150, 180, 1_380, 1_410, 1_439]))
SPANS = st.lists(
    st.tuples(CLOCK_TIMES, CLOCK_TIMES.map(lambda minute: minute or 1_440)).filter(lambda span: span[0] != span[1]),
    min_size=1,
    max_size=3,
).map(lambda spans: tuple((begin * MINUTE, end * MINUTE) for begin, end in spans))


@settings(max_examples=300, deadline=None)
@given(place=PLACES, spans=SPANS, beside=BESIDE)
@example(place=_nasty()[0], spans=((0, 1_800), (85_500, 85_800)), beside=-6 * MINUTE)
@example(place=Place("Europe/Zurich", 1_774_746_000), spans=((8_100, 9_900),), beside=-5 * HOUR)
def test_hours_open_when_a_watched_clock_says(place: Place, spans: tuple[tuple[int, int], ...], beside: int) -> None:
    """The next opening is the first minute at which the local time is in a span, wherever the clocks change."""
    zone, now = ZoneInfo(place.zone), place.at + beside
    found = Hours(spans).next_open(now, zone)
    assert found == first_open(now, lambda at: local_time.within_hours(wall(at, zone), spans), 9)


@settings(max_examples=150, deadline=None)
@given(place=PLACES, weekdays=st.frozensets(st.integers(0, 6), min_size=1, max_size=3), beside=BESIDE)
@example(place=_nasty()[0], weekdays=frozenset({6}), beside=20 * MINUTE)
@example(place=_nasty()[0], weekdays=frozenset({5}), beside=-30)
@example(place=_nasty()[3], weekdays=frozenset({4}), beside=-4 * DAY)
@example(place=Place("Africa/Monrovia", 63_593_070), weekdays=frozenset({4}), beside=-1)
def test_days_open_when_a_watched_clock_says(place: Place, weekdays: frozenset[int], beside: int) -> None:
    """The next opening is the first minute of a local weekday, even where the calendar skips the next such day."""
    zone, now = ZoneInfo(place.zone), place.at + beside
    found = Days(weekdays).next_open(now, zone)
    assert found == first_open(now, lambda at: local_time.weekday(wall(at, zone)) in weekdays, 16)


@settings(max_examples=100, deadline=None)
@given(place=PLACES, spans=SPANS, weekdays=st.frozensets(st.integers(0, 6), min_size=1, max_size=3))
def test_openings_around_a_change_are_stable(
    place: Place, spans: tuple[tuple[int, int], ...], weekdays: frozenset[int]
) -> None:
    """What opens is open then; asked from the second after any earlier moment, the answer never jumps back."""
    zone = ZoneInfo(place.zone)
    for opening in (Hours(spans), Days(weekdays)):
        answers = []
        for now in range(place.at - 2 * HOUR, place.at + 3 * HOUR, 20 * MINUTE):
            opens = opening.next_open(now, zone)
            assert opens is not None
            assert opens >= now
            assert opening.next_open(opens, zone) == opens
            answers.append(opens)
        assert answers == sorted(answers)


def test_days_that_are_none_never_open() -> None:
    """Without any weekday there is no next time."""
    assert Days(frozenset()).next_open(0, ZoneInfo("UTC")) is None


@settings(max_examples=200, deadline=None)
@given(place=PLACES, beside=BESIDE, moment=STARTS, near=st.booleans())
def test_start_and_end(place: Place, beside: int, moment: date, near: bool) -> None:  # noqa: FBT001
    """It opens with the first second of its start, and until the last of its end; a date is a whole local day."""
    zone = ZoneInfo(place.zone)
    if near:  # on the day of the change
        shown = datetime.fromtimestamp(wall(place.at, zone), UTC).replace(tzinfo=None)
        moment = shown if isinstance(moment, datetime) else shown.date()
    now = place.at + beside
    begins, ends = local_time.moment(moment, zone), local_time.end_moment(moment, zone)
    assert Starts(moment).next_open(now, zone) == max(now, begins)
    assert Ends(moment).next_open(now, zone) == (now if now < ends else None)
    assert Starts(moment).next_open(begins - 1, zone) == begins
    assert Ends(moment).next_open(ends - 1, zone) == ends - 1
    assert Ends(moment).next_open(ends, zone) is None
    if not isinstance(moment, datetime):
        assert instant(moment, zone) == begins < ends or datetime.fromtimestamp(begins, zone).date() != moment
