"""The oracle on time, checked by hand: calendar periods, zones, flights, the clock, sessions."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.property.asking import T, at, ok, oracle, shown
from tests.property.local_time import DAY, HOUR, MINUTE, period


@pytest.mark.parametrize(
    ("zone", "cap", "seen", "begins", "next_begins"),
    [
        ("Europe/Zurich", "calendar day", "2026-03-29T00:30", "2026-03-29T00:00", "2026-03-30T00:00"),  # 23 hours
        ("Europe/Zurich", "calendar day", "2026-10-25T00:30", "2026-10-25T00:00", "2026-10-26T00:00"),  # 25 hours
        ("Europe/Zurich", "calendar week", "2026-12-30T00:30", "2026-12-28T00:00", "2027-01-04T00:00"),
        ("Europe/Zurich", "calendar month", "2026-12-31T23:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("Asia/Kathmandu", "calendar hour", "2026-03-04T11:59", "2026-03-04T11:00", "2026-03-04T12:00"),
        ("Africa/Cairo", "calendar day", "2026-04-24T12:00", "2026-04-24T01:00", "2026-04-25T00:00"),  # no midnight
        ("Pacific/Apia", "calendar day", "2011-12-29T12:00", "2011-12-29T00:00", "2011-12-31T00:00"),  # no Friday
    ],
)
def test_calendar_periods(zone: str, cap: str, seen: str, begins: str, next_begins: str) -> None:
    """A calendar period is the local one: what came before it does not count, and it ends where the next one begins."""
    start, end = at(begins, zone), at(next_begins, zone)
    asked = shown(oracle({"caps": [f"1 per {cap}"]}, timezone=zone), start - 1)
    assert ok(asked, start)
    shown(asked, at(seen, zone))
    assert not ok(asked, end - 1)
    assert ok(asked, end)
    assert asked.eligible_at("v", "ad", at(seen, zone)) == end
    assert period(at(seen, zone), cap.split()[1], ZoneInfo(zone), sunday_first=False) == (start, end)


def test_a_day_that_has_begun_does_not_end_when_clocks_go_back_over_midnight() -> None:
    """St John's, 2006: at one minute past midnight it was 23:01 again; that hour belongs to the new day."""
    zone = ZoneInfo("America/St_Johns")
    begins = at("2006-10-29T00:00", "America/St_Johns")
    assert period(begins - 1, "day", zone, sunday_first=False)[1] == begins
    for moment in (begins, begins + 30, begins + 30 * MINUTE, begins + HOUR, begins + 12 * HOUR):
        found = period(moment, "day", zone, sunday_first=False)
        assert found == (begins, at("2006-10-30T00:00", "America/St_Johns"))


def test_weeks_begin_as_the_policy_says() -> None:
    """`week_start` moves the week's first day; a Sunday's impression counts on Monday only if weeks begin on Sunday."""
    for first, eligible in (("monday", True), ("sunday", False)):
        asked = shown(oracle({"caps": ["1 per calendar week"]}, week_start=first), at("2026-03-01T12:00"))
        assert ok(asked, at("2026-03-02T12:00")) is eligible


def test_the_visitors_own_zone() -> None:
    """The visitor's zone stands before the policy's for calendar windows, hours and days."""
    asked = shown(oracle({"caps": ["1 per calendar day"]}), at("2026-03-04T12:00"))
    later = at("2026-03-04T16:00")  # in Tokyo the fifth has begun
    assert not ok(asked, later)
    assert ok(asked, later, zone="Asia/Tokyo")


def test_a_day_is_24_hours() -> None:
    """`day` is rolling and has 24 hours, also where the local day has 25."""
    seen = at("2026-10-25T00:30", "Europe/Zurich")
    asked = shown(oracle({"caps": ["1 per day"]}, timezone="Europe/Zurich"), seen)
    assert asked.eligible_at("v", "ad", seen) == seen + DAY + 1
    assert asked.eligible_at("v", "ad", seen) == at("2026-10-25T23:30:01", "Europe/Zurich")


def test_flight_and_lifetime() -> None:
    """`flight` counts since the start, `lifetime` since the retention; neither longer than the retention."""
    start = at("2026-03-02T00:00")
    asked = oracle(
        {"caps": ["1 per flight"], "start": "2026-03-02"},
        campaign={"b": {"caps": ["1 per lifetime"]}},
        retention="5 days",
    )
    for name in ("ad", "b"):
        shown(asked, start - 1, what=name)
    assert (ok(asked, start), ok(asked, start, "b")) == (True, False)
    assert asked.eligible_at("v", "b", start) == start + 5 * DAY
    shown(asked, start)
    assert asked.eligible_at("v", "ad", start) == start + 5 * DAY + 1


@pytest.mark.parametrize(
    ("rules", "moment", "eligible"),
    [
        ({"start": "2026-03-04"}, "2026-03-03T23:59:59", False),
        ({"start": "2026-03-04"}, "2026-03-04T00:00:00", True),
        ({"end": "2026-03-04"}, "2026-03-04T23:59:59", True),
        ({"end": "2026-03-04"}, "2026-03-05T00:00:00", False),
        ({"end": "2026-03-04T10:00:00"}, "2026-03-04T09:59:59", True),
        ({"end": "2026-03-04T10:00:00"}, "2026-03-04T10:00:00", False),
        ({"start": "2026-03-04T10:00:00Z"}, "2026-03-04T10:59:59", False),
        ({"start": "2026-03-04T10:00:00Z"}, "2026-03-04T11:00:00", True),
        ({"hours": "08:00-21:00"}, "2026-03-04T07:59:59", False),
        ({"hours": "08:00-21:00"}, "2026-03-04T08:00:00", True),
        ({"hours": "08:00-21:00"}, "2026-03-04T20:59:59", True),
        ({"hours": "08:00-21:00"}, "2026-03-04T21:00:00", False),
        ({"hours": "21:00-06:00"}, "2026-03-04T05:59:59", True),
        ({"hours": "21:00-06:00"}, "2026-03-04T06:00:00", False),
        ({"days": "sat, sun"}, "2026-03-06T23:59:59", False),
        ({"days": "sat, sun"}, "2026-03-07T00:00:00", True),
        ({"days": "sat, sun"}, "2026-03-09T00:00:00", False),
    ],
)
def test_the_clock(rules: dict[str, Any], moment: str, eligible: bool) -> None:  # noqa: FBT001
    """Start, end, hours and days are local; a date lasts to its end, a time is the end itself."""
    assert ok(oracle(rules, timezone="Europe/Zurich"), at(moment, "Europe/Zurich")) is eligible


@pytest.mark.parametrize(
    ("rules", "now", "opens"),
    [
        ({"hours": "08:00-21:00"}, "2026-03-04T21:00", "2026-03-05T08:00"),
        ({"hours": "02:15-02:45"}, "2026-03-28T03:00", "2026-03-30T02:15"),  # skipped on the 29th
        ({"hours": "03:00-03:05", "days": "sun"}, "2026-03-28T12:00", "2026-03-29T03:00"),
        ({"days": "sun"}, "2026-03-09T00:00", "2026-03-15T00:00"),
        ({"start": "2026-04-01", "hours": "08:00-09:00"}, "2026-03-04T08:30", "2026-04-01T08:00"),
        ({"start": "2026-04-01", "end": "2026-04-01", "days": "mon"}, "2026-03-04T08:30", None),
        ({"end": "2026-03-01"}, "2026-03-04T08:30", None),
    ],
)
def test_when_the_clock_opens(rules: dict[str, Any], now: str, opens: str | None) -> None:
    """The next opening, found by trying every minute; never, where start and end leave none."""
    asked = oracle(rules, timezone="Europe/Zurich")
    expected = None if opens is None else at(opens, "Europe/Zurich")
    assert asked.eligible_at("v", "ad", at(now, "Europe/Zurich")) == expected


def test_sessions() -> None:
    """A session goes on over pauses of up to 30 minutes, of any event; then what was in it counts no more."""
    asked = shown(oracle({"caps": ["1 per session"]}), T)
    assert not ok(asked, T + 1_800)
    assert ok(asked, T + 1_801)
    assert asked.record("v", "visit", "anything", T + 1_800)
    assert not ok(asked, T + 3_600)
    assert asked.eligible_at("v", "ad", T + 1_800) == T + 3_601
    assert asked.record("v", "visit", None, T + 3_601)  # the session is over: this begins another
    assert ok(asked, T + 3_601)


def test_a_session_without_a_pause_is_cut_after_a_day() -> None:
    """What is more than 86,400 s ago is not of the session, even if it never paused."""
    asked = shown(oracle({"caps": ["1 per session"]}, session="1 hour"), T)
    for hour in range(1, 25):
        asked.record("v", "visit", None, T + hour * HOUR)
    assert not ok(asked, T + DAY)
    assert ok(asked, T + DAY + 1)


def test_sessions_do_not_go_by_the_order_of_arrival() -> None:
    """A late event begins no session; one between two joins them, and what was in the earlier counts again."""
    asked = shown(oracle({"caps": ["1 per session"]}), T)
    asked.record("v", "visit", None, T - 2 * HOUR, now=T)
    assert not ok(asked, T)
    asked.record("v", "visit", None, T + HOUR)
    assert ok(asked, T + HOUR)
    asked.record("v", "visit", None, T + 1_800, now=T + HOUR)
    assert not ok(asked, T + HOUR)


def test_a_reservation_keeps_a_session_going() -> None:
    """What is reserved may yet be shown: until its end nothing of the session is forgotten."""
    asked = shown(oracle({"caps": ["2 per session"]}), T)
    assert asked.hold("v", ["ad"], T, 2 * HOUR)
    assert not ok(asked, T + 2 * HOUR)
    assert ok(asked, T + 2 * HOUR + 1)
