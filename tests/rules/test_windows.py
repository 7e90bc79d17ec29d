"""Windows by example: rolling, calendar, flight, lifetime, session.

Each example: a policy, what happened, a second, and the verdict then (tests/support/world.py).
"""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from tests.property.local_time import moment
from tests.support.world import World, capped, line_of


@pytest.mark.parametrize(
    ("caps", "history", "now", "expected"),
    [
        (["2 per day"], [], "12:00", "yes"),
        (["2 per day"], ["12:00"], "12:00", "yes"),
        (["2 per day"], ["12:00", "12:00"], "12:00", "cap: 2 per day (2 of 2), again 2026-03-05 12:00:01"),
        (["2 per day"], ["12:00", "13:00"], "13:00", "cap: 2 per day (2 of 2), again 2026-03-05 12:00:01"),
        (["2 per day"], ["12:00", "13:00"], "2026-03-05T12:00:01", "yes"),
        (["3/90 minutes"], ["12:00"] * 3, "13:30", "cap: 3/90 minutes (3 of 3), again 2026-03-04 13:30:01"),
        (["1 per second"], ["12:00"], "12:00:01", "cap: 1 per second (1 of 1), again 2026-03-04 12:00:02"),
        (["1 per 1 week"], ["12:00"], "12:00", "cap: 1 per 1 week (1 of 1), again 2026-03-11 12:00:01"),
        (["1 per hour", "2 per day"], ["12:00"], "12:30", "cap: 1 per hour (1 of 1), again 2026-03-04 13:00:01"),
        (["1 per hour", "1 per day"], ["12:00"], "12:30", "cap: 1 per day (1 of 1), again 2026-03-05 12:00:01"),
        (["2 per day"], ["12:00"] * 5, "12:00", "cap: 2 per day (5 of 2), again 2026-03-05 12:00:01"),
    ],
)
def test_caps_of_a_duration(caps: list[str], history: list[str], now: str, expected: str) -> None:
    """An entry as old as the window still counts; of several caps the last to end is named."""
    assert line_of(capped(*caps), now, *(f"{at} impression ad" for at in history)) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("12:00", "gap: gap 2 hours (1 of 1), again 2026-03-04 14:00:01"),
        ("14:00", "gap: gap 2 hours (1 of 1), again 2026-03-04 14:00:01"),
        ("14:00:01", "yes"),
    ],
)
def test_gap(now: str, expected: str) -> None:
    """A gap keeps two impressions of one campaign apart, and not those of another."""
    policy = '[campaign.ad]\ngap = "2 hours"\n[campaign.other]\ngap = "2 hours"'
    assert line_of(policy, now, "12:00 impression ad") == expected
    assert line_of(policy, now, "12:00 impression ad", what="other") == "yes"


@pytest.mark.parametrize(
    ("cap", "again"),
    [
        ("4 per day", "2026-03-04 18:00:01"),
        ("3 per 12 hours", "2026-03-04 16:00:01"),
        ("4 per calendar hour", "2026-03-04 12:15:01"),
        ("3 per calendar day", "2026-03-04 20:00:01"),
        ("7 per calendar week", "2026-03-05 12:00:01"),
        ("2 per calendar month", "2026-03-19 12:00:01"),
    ],
)
def test_spread(cap: str, again: str) -> None:
    """A spread cap sets impressions evenly apart: the window, or a calendar period's usual length, by the limit."""
    policy = capped(f'{{ cap = "{cap}", spread = true }}')
    assert line_of(policy, "12:00", "12:00 impression ad") == f"gap: {cap}, spread (1 of 1), again {again}"


def test_spread_of_labels_and_of_the_threshold() -> None:
    """A label's cap and the threshold can be spread too, each over all the campaigns that it counts."""
    labels = '[caps]\nitem = [{ cap = "4 per day", spread = true }]\n[campaign.ad]\n[campaign.other]'
    line = line_of(labels, "13:00", "12:00 impression ad item=x", what="other item=x")
    assert line == "gap: item: 4 per day, spread (1 of 1), again 2026-03-04 18:00:01"
    assert line_of(labels, "13:00", "12:00 impression ad item=x", what="other item=y") == "yes"
    threshold = '[annoyance]\nthreshold = [{ cap = "4 per day", spread = true }]\n[campaign.ad]\n[campaign.other]'
    line = line_of(threshold, "13:00", "12:00 impression ad", what="other")
    assert line == "annoyance: annoyance: 4 per day, spread (1 of 1), again 2026-03-04 18:00:01"


def test_a_spread_cap_is_a_cap_too() -> None:
    """Four a day, six hours apart: a fifth waits until the first is a day old."""
    policy = capped('{ cap = "4 per day", spread = true }')
    day = [f"{at} impression ad" for at in ("00:00", "06:00:01", "12:00:02", "18:00:03")]
    assert line_of(policy, "23:59:59", *day[:3]) == "yes"
    assert line_of(policy, "2026-03-05T00:00", *day).startswith(
        "gap: 4 per day, spread (1 of 1), again 2026-03-05 00:00:04"
    )
    assert line_of(policy, "18:00:03", *day[:3], "12:00:02 impression ad") == (
        "cap: 4 per day (4 of 4), again 2026-03-05 00:00:01"
    )


@pytest.mark.parametrize(
    ("window", "zone", "seen", "again"),
    [
        ("hour", "UTC", "2026-03-04T10:00:00", "2026-03-04T11:00"),
        ("hour", "UTC", "2026-03-04T10:59:59", "2026-03-04T11:00"),
        ("hour", "Asia/Kathmandu", "2026-03-04T10:20", "2026-03-04T11:00"),
        ("hour", "Europe/Zurich", "2026-03-29T01:30+01:00", "2026-03-29T03:00+02:00"),
        ("hour", "Europe/Zurich", "2026-10-25T02:30+02:00", "2026-10-25T03:00+01:00"),  # two o'clock twice: one hour
        ("day", "UTC", "2026-03-04T00:00", "2026-03-05T00:00"),
        ("day", "UTC", "2026-12-31T23:59:59", "2027-01-01T00:00"),
        ("day", "Europe/Zurich", "2026-03-29T00:00", "2026-03-30T00:00"),
        ("day", "Europe/Zurich", "2026-10-25T00:00", "2026-10-26T00:00"),
        ("day", "Africa/Cairo", "2026-04-23T12:00", "2026-04-24T01:00+03:00"),  # midnight is skipped
        ("day", "Africa/Cairo", "2026-04-24T01:00+03:00", "2026-04-25T00:00+03:00"),
        ("day", "Africa/Cairo", "2026-10-29T23:30+03:00", "2026-10-30T00:00+02:00"),  # at midnight back to 23:00
        ("day", "Africa/Cairo", "2026-10-29T23:30+02:00", "2026-10-30T00:00+02:00"),
        ("day", "America/St_Johns", "2006-10-29T00:00:30-02:30", "2006-10-30T00:00-03:30"),  # begun, then back to 23:01
        ("day", "America/St_Johns", "2006-10-28T23:30:00-03:30", "2006-10-30T00:00-03:30"),
        ("day", "Pacific/Apia", "2011-12-29T12:00-10:00", "2011-12-31T00:00+14:00"),  # a Friday that never was
        ("week", "UTC", "2026-03-04T12:00", "2026-03-09T00:00"),
        ("week", "UTC", "2026-03-08T23:59:59", "2026-03-09T00:00"),
        ("week", "UTC", "2026-03-09T00:00", "2026-03-16T00:00"),
        ("week", "Europe/Zurich", "2026-12-31T12:00", "2027-01-04T00:00"),
        ("week", "Europe/Zurich", "2026-10-25T23:00", "2026-10-26T00:00"),
        ("month", "UTC", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("month", "UTC", "2028-02-29T23:59:59", "2028-03-01T00:00"),
        ("month", "Europe/Zurich", "2026-12-31T23:59:59", "2027-01-01T00:00"),
        ("month", "Europe/Zurich", "2026-10-01T00:00+02:00", "2026-11-01T00:00+01:00"),
    ],
)
def test_calendar_periods(window: str, zone: str, seen: str, again: str) -> None:
    """What was seen in a local hour, day, week or month counts until the next one begins, in whose zone it may be."""
    cap = f"1 per calendar {window}"
    of_policy = World(capped(cap, first=f'timezone = "{zone}"'), f"{seen} impression ad")
    of_visitor = World(capped(cap), f"{seen} impression ad", zone=zone)
    for world in (of_policy, of_visitor):
        verdict = world.verdict(seen)
        assert (verdict.reason, verdict.rule, verdict.seen, verdict.limit) == ("cap", cap, 1, 1)
        assert verdict.eligible_at is not None
        assert verdict.eligible_at.timestamp() == world.second(again)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Zurich", "2026-03-29", 23),
        ("Europe/Zurich", "2026-10-25", 25),
        ("Europe/Zurich", "2026-03-04", 24),
        ("Africa/Cairo", "2026-04-24", 23),
        ("Africa/Cairo", "2026-10-29", 25),
        ("Asia/Beirut", "2026-03-29", 23),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
    ],
)
def test_a_local_day_is_as_long_as_it_is(zone: str, day: str, hours: float) -> None:
    """A cap per calendar day holds through 23, 24 or 25 hours, and no second of the day before counts."""
    first = moment(date.fromisoformat(day), ZoneInfo(zone))
    before = World(capped("1 per calendar day"), f"{_iso(first - 1)} impression ad", zone=zone)
    assert before.line(_iso(first)) == "yes"
    since = World(capped("1 per calendar day"), f"{_iso(first)} impression ad", zone=zone)
    again = since.verdict(_iso(first)).eligible_at
    assert again is not None
    assert (again.timestamp() - first) / 3_600 == hours


def _iso(second: int) -> str:
    return datetime.fromtimestamp(second, ZoneInfo("UTC")).isoformat()


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        (None, "cap: 1 per calendar day (1 of 1), again 2026-03-05 00:00:00"),
        ("Europe/Zurich", "cap: 1 per calendar day (1 of 1), again 2026-03-06 00:00:00"),
        ("America/New_York", "cap: 1 per calendar day (1 of 1), again 2026-03-05 00:00:00"),
        ("Pacific/Auckland", "cap: 1 per calendar day (1 of 1), again 2026-03-06 00:00:00"),
    ],
)
def test_the_visitors_own_day(zone: str | None, expected: str) -> None:
    """A time falls into the local day of `timezone=` if that is given, otherwise of the policy's zone."""
    seen = "2026-03-04T23:30:00+00:00"
    assert (
        line_of(capped("1 per calendar day"), "2026-03-04T23:30:00+00:00", f"{seen} impression ad", zone=zone)
        == expected
    )


@pytest.mark.parametrize(
    ("first", "seen", "again"),
    [
        ("sunday", "2026-03-07T23:59:59", "2026-03-08 00:00:00"),  # a Saturday
        ("sunday", "2026-03-08T00:00", "2026-03-15 00:00:00"),
        ("sunday", "2026-12-31T12:00", "2027-01-03 00:00:00"),
        ("monday", "2026-03-08T00:00", "2026-03-09 00:00:00"),
        ("monday", "2026-03-09T00:00", "2026-03-16 00:00:00"),
    ],
)
def test_weeks_begin_as_the_policy_says(first: str, seen: str, again: str) -> None:
    """`week_start` makes Sunday the first day of a calendar week."""
    policy = capped("1 per calendar week", first=f'week_start = "{first}"')
    assert line_of(policy, seen, f"{seen} impression ad") == f"cap: 1 per calendar week (1 of 1), again {again}"


MARCH = capped("2 per flight") + "\nstart = 2026-03-02\nend = 2026-03-06"


@pytest.mark.parametrize(
    ("history", "now", "expected"),
    [
        ([], "2026-03-01T23:59:59", "start: start 2026-03-02, again 2026-03-02 00:00:00"),
        ([], "2026-03-02T00:00", "yes"),
        (["2026-03-01T23:59:59"] * 2, "2026-03-02T00:00", "yes"),
        (["2026-03-02T00:00"] * 2, "2026-03-02T00:00", "cap: 2 per flight (2 of 2), never"),
        (["2026-03-01T23:59:59", "2026-03-02T00:00"], "2026-03-02T00:00", "yes"),
        (["2026-03-02T00:00"], "2026-03-06T23:59:59", "yes"),
        (["2026-03-02T00:00"] * 2, "2026-03-06T23:59:59", "cap: 2 per flight (2 of 2), never"),
        ([], "2026-03-07T00:00", "end: end 2026-03-06, never"),
    ],
)
def test_flight(history: list[str], now: str, expected: str) -> None:
    """A flight counts from its first local second to the last of its last day, and nothing from before it."""
    assert line_of(MARCH, now, *(f"{at} impression ad" for at in history)) == expected


@pytest.mark.parametrize(
    "dates", ["", "start = 2026-03-02", "end = 2026-12-31", "start = 2026-01-01\nend = 2026-12-31"]
)
def test_a_flight_without_start_or_end(dates: str) -> None:
    """Where a flight has no beginning or no end, it looks back as far as the retention."""
    policy = f'retention = "10 days"\n{capped("1 per flight")}\n{dates}'
    assert line_of(policy, "12:00", "12:00 impression ad") == "cap: 1 per flight (1 of 1), again 2026-03-14 12:00:01"


@pytest.mark.parametrize(
    ("zone", "starts", "ends"),
    [
        ("UTC", "2026-03-02T00:00:00Z", "2026-03-07T00:00:00Z"),
        ("Pacific/Auckland", "2026-03-01T11:00:00Z", "2026-03-06T11:00:00Z"),
        ("America/New_York", "2026-03-02T05:00:00Z", "2026-03-07T05:00:00Z"),
    ],
)
def test_dates_are_the_visitors(zone: str, starts: str, ends: str) -> None:
    """A date begins and ends at the visitor's midnight; the flight counts from there."""
    world = World(MARCH, zone=zone)
    verdict = world.verdict("2026-03-01T10:59:59Z")
    assert verdict.reason == "start"
    assert verdict.eligible_at is not None
    assert verdict.eligible_at.timestamp() == world.second(starts)
    assert world.verdict(_iso(world.second(ends) - 1))
    assert world.verdict(ends).reason == "end"
    world.happens(f"{_iso(world.second(starts) - 1)} impression ad")
    world.happens(f"{starts} impression ad")
    assert world.line(starts) == "yes"
    world.happens(f"{starts} impression ad")
    assert world.line(starts) == "cap: 2 per flight (2 of 2), never"


@pytest.mark.parametrize("zone", [None, "Pacific/Auckland"])
def test_times_with_an_offset_are_the_same_everywhere(zone: str | None) -> None:
    """A start or end of a given offset is one moment, wherever the visitor is; the end itself is excluded."""
    policy = "[campaign.ad]\nstart = 2026-03-04T08:00:00+01:00\nend = 2026-03-04T20:00:00Z"
    world = World(policy, zone=zone)
    assert world.verdict("2026-03-04T06:59:59Z").reason == "start"
    assert world.verdict("2026-03-04T07:00:00Z")
    assert world.verdict("2026-03-04T19:59:59Z")
    assert world.verdict("2026-03-04T20:00:00Z").reason == "end"


@pytest.mark.parametrize(
    ("history", "now", "expected"),
    [
        (["12:00"], "12:00", "yes"),
        (["12:00", "13:00"], "13:00", "cap: 2 per lifetime (2 of 2), again 2026-03-14 12:00:01"),
        (["12:00", "13:00"], "2026-03-14T12:00", "cap: 2 per lifetime (2 of 2), again 2026-03-14 12:00:01"),
        (["12:00", "13:00"], "2026-03-14T12:00:01", "yes"),
    ],
)
def test_lifetime(history: list[str], now: str, expected: str) -> None:
    """A lifetime is what is remembered: the policy's retention."""
    policy = capped("2 per lifetime", first='retention = "10 days"')
    assert line_of(policy, now, *(f"{at} impression ad" for at in history)) == expected


@pytest.mark.parametrize(
    ("history", "now", "expected"),
    [
        (["12:00 impression ad"], "12:00", "12:30:01"),
        (["12:00 impression ad"], "12:30", "12:30:01"),
        (["12:00 impression ad"], "12:30:01", "yes"),
        # Whatever happens keeps the session going.
        (["12:00 impression ad", "12:30 visit"], "12:30", "13:00:01"),
        (["12:00 impression ad", "12:20 open mail", "12:40 visit"], "13:10", "13:10:01"),
        # After the pause a new one begins.
        (["12:00 impression ad", "12:30:01 visit"], "12:30:01", "yes"),
        (["12:00 impression ad", "12:30:01 visit", "12:40 impression ad"], "12:50", "13:10:01"),
        # The order of arrival makes no difference: what comes late counts in its own time, and may join two sessions.
        (["12:00 impression ad", "12:50 visit", "12:25 visit"], "12:55", "13:20:01"),
        (["12:00 visit", "12:50 visit", "12:20 impression ad"], "12:55", "13:20:01"),
        (["12:00 impression ad", "12:50 visit", "12:19:59 visit"], "12:55", "yes"),
        (["12:50 visit", "12:00 impression ad"], "12:55", "yes"),
        (["12:00 visit", "12:50 visit", "12:52 visit", "12:51 impression ad"], "12:55", "13:22:01"),
    ],
)
def test_session(history: list[str], now: str, expected: str) -> None:
    """A session lasts until nothing has happened for more than half an hour."""
    expected = expected if expected == "yes" else f"cap: 1 per session (1 of 1), again 2026-03-04 {expected}"
    assert line_of(capped("1 per session"), now, *history) == expected


def test_the_policy_says_what_a_pause_is() -> None:
    """`session` is how long a pause ends a session."""
    policy = capped("1 per session", first='session = "10 minutes"')
    assert line_of(policy, "12:00", "12:00 impression ad").endswith("again 2026-03-04 12:10:01")
    assert line_of(policy, "12:10:01", "12:00 impression ad") == "yes"


def test_a_session_that_never_pauses() -> None:
    """A session may go on for days, but looks back at most 24 hours from now; it does not begin anew."""
    world = World(capped("2 per session"), "2026-03-04T00:00 impression ad", "2026-03-04T12:00 impression ad")
    for minutes in range(20, 24 * 60 + 1, 20):
        world.happens(f"{_iso(world.second('2026-03-04T00:00') + 60 * minutes)} visit")
    assert world.line("2026-03-05T00:00") == "cap: 2 per session (2 of 2), again 2026-03-05 00:00:01"
    assert world.line("2026-03-05T00:00:01") == "yes"
    world.happens("2026-03-05T00:00:01 impression ad")
    assert world.line("2026-03-05T00:00:01").startswith("cap: 2 per session (2 of 2)")


def test_conditions_within_the_session() -> None:
    """An audience and an exclusion can ask what happened in the session that is still going on."""
    policy = '[campaign.ad]\naudience = ["2 visit within session"]\nexclude = ["dismiss ad within session"]'
    seen = ["12:00 visit", "12:20 visit"]
    assert line_of(policy, "12:20", *seen[:1]) == "audience: 2 visit within session (1 of 2), never"
    assert line_of(policy, "12:50", *seen) == "yes"
    assert line_of(policy, "12:50:01", *seen) == "audience: 2 visit within session (0 of 2), never"
    line = line_of(policy, "12:21", *seen, "12:21 dismiss ad")
    assert line == "exclude: dismiss ad within session (1 of 1), never"
