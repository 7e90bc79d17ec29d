"""Schedules by example: hours, days, start, end.

Each example: a policy, what happened, a second, and the verdict then (tests/support/world.py).
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.support.fixtures import Ads
from tests.support.world import line_of

DAY = 86_400


@pytest.mark.parametrize(
    ("hours", "now", "expected"),
    [
        ("08:00-21:00", "07:59:59", "again 2026-03-04 08:00:00"),
        ("08:00-21:00", "08:00", "yes"),
        ("08:00-21:00", "20:59:59", "yes"),
        ("08:00-21:00", "21:00", "again 2026-03-05 08:00:00"),
        ("22:00-02:00", "21:59:59", "again 2026-03-04 22:00:00"),
        ("22:00-02:00", "23:59:59", "yes"),
        ("22:00-02:00", "00:00", "yes"),
        ("22:00-02:00", "01:59:59", "yes"),
        ("22:00-02:00", "02:00", "again 2026-03-04 22:00:00"),
        ("08:00-12:00, 14:00-18:00", "11:59:59", "yes"),
        ("08:00-12:00, 14:00-18:00", "12:00", "again 2026-03-04 14:00:00"),
        ("08:00-12:00, 14:00-18:00", "18:00", "again 2026-03-05 08:00:00"),
        ("00:00-24:00", "00:00", "yes"),
        ("00:00-24:00", "23:59:59", "yes"),
        ("02:00-03:00", "2026-03-29T01:30", "again 2026-03-30 02:00:00"),  # that hour is skipped
        ("02:30-04:00", "2026-03-29T01:30", "again 2026-03-29 03:00:00"),
        ("02:00-03:00", "2026-10-25T02:30+02:00", "yes"),  # and that one comes twice
        ("02:00-03:00", "2026-10-25T02:30+01:00", "yes"),
        ("03:00-04:00", "2026-10-25T02:30+02:00", "again 2026-10-25 03:00:00"),
    ],
)
def test_hours(hours: str, now: str, expected: str) -> None:
    """Hours are those on the wall, their end excluded; the policy's zone or the visitor's own."""
    expected = expected if expected == "yes" else f"hours: hours {hours}, {expected}"
    policy = f'[campaign.ad]\nhours = "{hours}"'
    assert line_of(f'timezone = "Europe/Zurich"\n{policy}', now) == expected
    assert line_of(policy, now, zone="Europe/Zurich") == expected


@pytest.mark.parametrize(
    ("days", "now", "expected"),
    [
        ("mon-fri", "2026-03-06T23:59:59", "yes"),
        ("mon-fri", "2026-03-07T00:00", "again 2026-03-09 00:00:00"),
        ("sat, sun", "12:00", "again 2026-03-07 00:00:00"),
        ("sat, sun", "2026-03-08T23:59:59", "yes"),
        ("fri-mon", "2026-03-09T23:59:59", "yes"),
        ("fri-mon", "2026-03-10T00:00", "again 2026-03-13 00:00:00"),
        ("wed", "2026-03-05T00:00", "again 2026-03-11 00:00:00"),
        ("sun", "2026-03-28T12:00", "again 2026-03-29 00:00:00"),
    ],
)
def test_days(days: str, now: str, expected: str) -> None:
    """Days are local weekdays, from midnight to midnight; the policy's zone or the visitor's own."""
    expected = expected if expected == "yes" else f"days: days {days}, {expected}"
    policy = f'[campaign.ad]\ndays = "{days}"'
    assert line_of(f'timezone = "Europe/Zurich"\n{policy}', now) == expected
    assert line_of(policy, now, zone="Europe/Zurich") == expected


def test_days_that_do_not_begin_at_midnight() -> None:
    """Where midnight is skipped, the day opens when it begins."""
    policy = '[campaign.ad]\ndays = "fri"'
    line = line_of(policy, "2026-04-23T12:00", zone="Africa/Cairo")
    assert line == "days: days fri, again 2026-04-24 01:00:00"


def test_hours_over_midnight_on_certain_days() -> None:
    """Days follow the calendar date: on Fridays from ten to two is Friday's first two hours and its last two."""
    policy = '[campaign.ad]\ndays = "fri"\nhours = "22:00-02:00"'
    assert line_of(policy, "2026-03-06T01:59:59") == "yes"
    assert line_of(policy, "2026-03-06T02:00") == "hours: hours 22:00-02:00, again 2026-03-06 22:00:00"
    assert line_of(policy, "2026-03-06T23:59:59") == "yes"
    assert line_of(policy, "2026-03-07T00:00") == "days: days fri, again 2026-03-13 00:00:00"


@pytest.mark.parametrize("end", ["2026-12-24", "20261224", "2026-W52-4", "2026W524"])
def test_a_date_is_a_whole_day_in_every_form(ads: Ads, end: str) -> None:
    """ISO 8601 writes a day in several forms: each as `end` includes that day, and each as `start` begins with it."""
    shop = ads(f'[campaign.last]\nend = "{end}"\n[campaign.first]\nstart = "{end}"')
    midnight = int(datetime(2026, 12, 24, tzinfo=UTC).timestamp())
    assert shop.decide("v", now=midnight - 1).eligible == ("last",)
    assert shop.decide("v", now=midnight + DAY - 1).eligible == ("last", "first")
    assert shop.decide("v", now=midnight + DAY).eligible == ("first",)
