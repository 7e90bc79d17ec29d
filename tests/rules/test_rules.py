"""Every kind of rule by example: a policy, what happened, a moment, and what the verdict is then.

A verdict is written as `cap: 2 per day (2 of 2), again 2026-03-05 12:00:01`. Each is also compared with the oracle's,
and "when again" is tried: eligible then, and not one second before. `12:00` is on Wednesday 4 March 2026.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import get_args
from zoneinfo import ZoneInfo

import pytest

from retarget import AnnoyanceLevel, Candidate, Event, InputError, MemoryStore, Policy, Retargeter, StoreError, Verdict
from retarget.engine import Reason
from retarget.events import Subject
from retarget.timelines import MOST_TIMELINES, State
from tests.property.local_time import moment
from tests.property.oracle import Oracle

DAY = "2026-03-04T"


class World:
    """A policy over memory, a clock that is set, and the oracle beside it; one visitor."""

    def __init__(self, policy: str, *history: str, zone: str | None = None) -> None:
        self.policy = Policy.from_text(policy)
        self.zone = zone
        self.home = ZoneInfo(zone or self.policy.timezone)
        self.now = 0
        self.oracle = Oracle(self.policy)
        self.ads = Retargeter(self.policy, "memory://", clock=lambda: self.now)
        for line in history:
            self.happens(line)

    def happens(self, line: str) -> None:
        """`12:00 visit shop`; what is earlier than the line before is reported late, at the time of that one."""
        when, event, *rest = line.split(maxsplit=2)
        at = self.second(when)
        self.now = max(self.now, at)
        what = subject(rest[0]) if rest else None
        assert self.ads.record("v", event, what, at=at)
        assert self.oracle.record("v", event, what, at, now=self.now)

    def verdict(self, when: str, what: str = "ad") -> Verdict:
        """The verdict, which is the oracle's too."""
        now, candidate = self.second(when), subject(what)
        assert now >= self.now
        verdict = self.ads.decide("v", [candidate], now=now, timezone=self.zone)[candidate]
        told = self.oracle.decide("v", candidate, now, self.zone)
        assert verdict.eligible is told.eligible, (verdict, told)
        assert verdict.reason in get_args(Reason)
        assert (verdict.reason == "eligible") is verdict.eligible
        if verdict.eligible_at is None:
            assert not verdict
        elif not verdict:
            again = int(verdict.eligible_at.timestamp())
            assert again > now
            for at, eligible in ((again, (candidate,)), (again - 1, ())):
                assert self.ads.decide("v", [candidate], now=at, timezone=self.zone).eligible == eligible
                assert self.oracle.decide("v", candidate, at, self.zone).eligible is bool(eligible)
        rules = self.policy.rules(candidate.campaign if isinstance(candidate, Candidate) else candidate)
        if (
            rules and not rules.hours and not rules.days
        ):  # these the oracle tries minute by minute: half of all the time
            at_all = verdict.eligible_at and int(verdict.eligible_at.timestamp())
            assert at_all == self.oracle.eligible_at("v", candidate, now, self.zone)
        return verdict

    def tell(self, when: str, what: str = "ad") -> str:
        """The verdict as a line."""
        verdict = self.verdict(when, what)
        if verdict:
            assert (verdict.rule, verdict.seen, verdict.limit) == (None, None, None)
            return "yes"
        counted = f" ({verdict.seen} of {verdict.limit})" if verdict.limit is not None else ""
        again = "never"
        if verdict.eligible_at is not None:
            again = f"again {verdict.eligible_at.astimezone(self.home):%Y-%m-%d %H:%M:%S}"
        return f"{verdict.reason}: {verdict.rule}{counted}, {again}"

    def annoyance(self, when: str) -> AnnoyanceLevel | None:
        """How much of the threshold in force is used."""
        return self.ads.decide("v", [], now=self.second(when), timezone=self.zone).annoyance

    def second(self, when: str) -> int:
        """The epoch second of a local time, or of one with an offset."""
        local = datetime.fromisoformat(when if "-" in when[:5] else DAY + when)
        return int((local if local.tzinfo else local.replace(tzinfo=self.home)).timestamp())


def subject(text: str) -> Subject:
    """`ad`, or a candidate with labels: `ad item=sku-1`."""
    name, *labels = text.split()
    return Candidate(name, **dict(label.split("=") for label in labels)) if labels else name


def tell(policy: str, when: str, *history: str, what: str = "ad", zone: str | None = None) -> str:
    """The verdict as a line, after what happened."""
    return World(policy, *history, zone=zone).tell(when, what)


def capped(*caps: str, first: str = "") -> str:
    """A policy of one campaign `ad` with these caps."""
    return f"{first}\n[campaign.ad]\ncaps = [{', '.join(cap if cap[0] == '{' else repr(cap) for cap in caps)}]"


# ---- rolling windows ----


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
    """An entry as old as the window still counts and leaves a second later; of several caps the last to go is told."""
    assert tell(capped(*caps), now, *(f"{at} impression ad" for at in history)) == expected


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
    assert tell(policy, now, "12:00 impression ad") == expected
    assert tell(policy, now, "12:00 impression ad", what="other") == "yes"


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
    assert tell(policy, "12:00", "12:00 impression ad") == f"gap: {cap}, spread (1 of 1), again {again}"


def test_spread_of_labels_and_of_the_threshold() -> None:
    """A label's cap and the threshold can be spread too, each over all the campaigns that it counts."""
    labels = '[caps]\nitem = [{ cap = "4 per day", spread = true }]\n[campaign.ad]\n[campaign.other]'
    told = tell(labels, "13:00", "12:00 impression ad item=x", what="other item=x")
    assert told == "gap: item: 4 per day, spread (1 of 1), again 2026-03-04 18:00:01"
    assert tell(labels, "13:00", "12:00 impression ad item=x", what="other item=y") == "yes"
    threshold = '[annoyance]\nthreshold = [{ cap = "4 per day", spread = true }]\n[campaign.ad]\n[campaign.other]'
    told = tell(threshold, "13:00", "12:00 impression ad", what="other")
    assert told == "annoyance: annoyance: 4 per day, spread (1 of 1), again 2026-03-04 18:00:01"


def test_a_spread_cap_is_a_cap_too() -> None:
    """Four a day, six hours apart: a fifth waits until the first is a day old."""
    policy = capped('{ cap = "4 per day", spread = true }')
    day = [f"{at} impression ad" for at in ("00:00", "06:00:01", "12:00:02", "18:00:03")]
    assert tell(policy, "23:59:59", *day[:3]) == "yes"
    assert tell(policy, "2026-03-05T00:00", *day).startswith(
        "gap: 4 per day, spread (1 of 1), again 2026-03-05 00:00:04"
    )
    assert tell(policy, "18:00:03", *day[:3], "12:00:02 impression ad") == (
        "cap: 4 per day (4 of 4), again 2026-03-05 00:00:01"
    )


# ---- calendar windows ----


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
    assert before.tell(_iso(first)) == "yes"
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
    """A moment is one of her local day where `timezone=` says so, of the policy's zone else."""
    seen = "2026-03-04T23:30:00+00:00"
    assert (
        tell(capped("1 per calendar day"), "2026-03-04T23:30:00+00:00", f"{seen} impression ad", zone=zone) == expected
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
    assert tell(policy, seen, f"{seen} impression ad") == f"cap: 1 per calendar week (1 of 1), again {again}"


# ---- flight, lifetime ----


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
    assert tell(MARCH, now, *(f"{at} impression ad" for at in history)) == expected


@pytest.mark.parametrize(
    "dates", ["", "start = 2026-03-02", "end = 2026-12-31", "start = 2026-01-01\nend = 2026-12-31"]
)
def test_a_flight_without_start_or_end(dates: str) -> None:
    """Where a flight has no beginning or no end, it looks back as far as the retention."""
    policy = f'retention = "10 days"\n{capped("1 per flight")}\n{dates}'
    assert tell(policy, "12:00", "12:00 impression ad") == "cap: 1 per flight (1 of 1), again 2026-03-14 12:00:01"


@pytest.mark.parametrize(
    ("zone", "starts", "ends"),
    [
        ("UTC", "2026-03-02T00:00:00Z", "2026-03-07T00:00:00Z"),
        ("Pacific/Auckland", "2026-03-01T11:00:00Z", "2026-03-06T11:00:00Z"),
        ("America/New_York", "2026-03-02T05:00:00Z", "2026-03-07T05:00:00Z"),
    ],
)
def test_dates_are_the_visitors(zone: str, starts: str, ends: str) -> None:
    """A date begins and ends at her midnight; the flight counts from there."""
    world = World(MARCH, zone=zone)
    verdict = world.verdict("2026-03-01T10:59:59Z")
    assert verdict.reason == "start"
    assert verdict.eligible_at is not None
    assert verdict.eligible_at.timestamp() == world.second(starts)
    assert world.verdict(_iso(world.second(ends) - 1))
    assert world.verdict(ends).reason == "end"
    world.happens(f"{_iso(world.second(starts) - 1)} impression ad")
    world.happens(f"{starts} impression ad")
    assert world.tell(starts) == "yes"
    world.happens(f"{starts} impression ad")
    assert world.tell(starts) == "cap: 2 per flight (2 of 2), never"


@pytest.mark.parametrize("zone", [None, "Pacific/Auckland"])
def test_times_with_an_offset_are_the_same_everywhere(zone: str | None) -> None:
    """A start or end of a given offset is one moment, wherever she is; the end itself is excluded."""
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
    assert tell(policy, now, *(f"{at} impression ad" for at in history)) == expected


# ---- session ----


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
        # An event that comes late joins no two sessions that have been taken for two, and counts in its own time.
        (["12:00 impression ad", "12:50 visit", "12:25 visit"], "12:55", "yes"),
        (["12:00 visit", "12:50 visit", "12:20 impression ad"], "12:55", "yes"),
        (["12:00 visit", "12:50 visit", "12:52 visit", "12:51 impression ad"], "12:55", "13:22:01"),
    ],
)
def test_session(history: list[str], now: str, expected: str) -> None:
    """A session lasts until nothing has happened for more than half an hour."""
    expected = expected if expected == "yes" else f"cap: 1 per session (1 of 1), again 2026-03-04 {expected}"
    assert tell(capped("1 per session"), now, *history) == expected


def test_the_policy_says_what_a_pause_is() -> None:
    """`session` is how long a pause ends a session."""
    policy = capped("1 per session", first='session = "10 minutes"')
    assert tell(policy, "12:00", "12:00 impression ad").endswith("again 2026-03-04 12:10:01")
    assert tell(policy, "12:10:01", "12:00 impression ad") == "yes"


def test_a_session_that_never_pauses() -> None:
    """A chain of events goes on for days, but looks back one day at most."""
    world = World(capped("1 per session"), "2026-03-04T00:00 impression ad")
    for minutes in range(20, 24 * 60 + 1, 20):
        world.happens(f"{_iso(world.second('2026-03-04T00:00') + 60 * minutes)} visit")
    assert world.tell("2026-03-05T00:00") == "cap: 1 per session (1 of 1), again 2026-03-05 00:00:01"
    assert world.tell("2026-03-05T00:00:01") == "yes"


def test_conditions_within_the_session() -> None:
    """An audience and an exclusion can ask what happened in the session that is still going on."""
    policy = '[campaign.ad]\naudience = ["2 visit within session"]\nexclude = ["dismiss ad within session"]'
    seen = ["12:00 visit", "12:20 visit"]
    assert tell(policy, "12:20", *seen[:1]) == "audience: 2 visit within session (1 of 2), never"
    assert tell(policy, "12:50", *seen) == "yes"
    assert tell(policy, "12:50:01", *seen) == "audience: 2 visit within session (0 of 2), never"
    told = tell(policy, "12:21", *seen, "12:21 dismiss ad")
    assert told == "exclude: dismiss ad within session (1 of 1), never"


# ---- hours, days, start, end ----


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
    assert tell(f'timezone = "Europe/Zurich"\n{policy}', now) == expected
    assert tell(policy, now, zone="Europe/Zurich") == expected


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
    assert tell(f'timezone = "Europe/Zurich"\n{policy}', now) == expected
    assert tell(policy, now, zone="Europe/Zurich") == expected


def test_days_that_do_not_begin_at_midnight() -> None:
    """Where midnight is skipped, the day opens when it begins."""
    policy = '[campaign.ad]\ndays = "fri"'
    told = tell(policy, "2026-04-23T12:00", zone="Africa/Cairo")
    assert told == "days: days fri, again 2026-04-24 01:00:00"


def test_hours_over_midnight_on_certain_days() -> None:
    """Days go by the date on the calendar: on Fridays from ten to two is Friday's first two hours and its last two."""
    policy = '[campaign.ad]\ndays = "fri"\nhours = "22:00-02:00"'
    assert tell(policy, "2026-03-06T01:59:59") == "yes"
    assert tell(policy, "2026-03-06T02:00") == "hours: hours 22:00-02:00, again 2026-03-06 22:00:00"
    assert tell(policy, "2026-03-06T23:59:59") == "yes"
    assert tell(policy, "2026-03-07T00:00") == "days: days fri, again 2026-03-13 00:00:00"


# ---- conditions ----


@pytest.mark.parametrize(
    ("condition", "history", "now", "expected"),
    [
        ("visit shop", [], "12:00", "0 of 1"),
        ("visit shop", ["12:00 visit shop"], "12:00", "yes"),
        ("visit shop", ["12:00 visit"], "12:00", "0 of 1"),
        ("visit shop", ["12:00 visit shops"], "12:00", "0 of 1"),
        ("visit", ["12:00 visit shop"], "12:00", "yes"),
        ("visit", ["12:00 Visit shop"], "12:00", "0 of 1"),
        ("2 visit", ["12:00 visit shop", "12:00 visit pricing"], "12:00", "yes"),
        ("2 visit shop", ["12:00 visit shop", "12:00 visit pricing"], "12:00", "1 of 2"),
        ("visit shop within 1 hour", ["12:00 visit shop"], "13:00", "yes"),
        ("visit shop within 1 hour", ["12:00 visit shop"], "13:00:01", "0 of 1"),
        ("3 visit shop within 1 hour", ["12:00 visit shop"] * 2 + ["12:30 visit shop"], "13:00:01", "1 of 3"),
        ("visit within calendar day", ["00:00 visit"], "23:59:59", "yes"),
        ("visit within calendar day", ["23:59:59 visit"], "2026-03-05T00:00", "0 of 1"),
        ('visit "red shoes"', ["12:00 visit red"], "12:00", "0 of 1"),
        ("click other", ["12:00 click other"], "12:00", "yes"),
        ("click other", ["12:00 click ad"], "12:00", "0 of 1"),
        ("2 impression other within 1 day", ["12:00 impression other"] * 2, "12:00", "yes"),
        ("2 impression other within 1 day", ["12:00 impression other"] * 2, "2026-03-05T12:00:01", "0 of 2"),
        ("impression", ["12:00 impression stranger"], "12:00", "yes"),
        ("click channel:email", ["12:00 click other"], "12:00", "yes"),
        ("click channel:email", ["12:00 impression other"], "12:00", "0 of 1"),
        ("click channel:email", ["12:00 click stranger channel=email"], "12:00", "yes"),
        ("click channel:email", ["12:00 click other channel=call"], "12:00", "0 of 1"),
        ("2 impression advertiser:pico", ["12:00 impression ad", "12:00 impression other"], "12:00", "yes"),
    ],
)
def test_conditions(condition: str, history: list[str], now: str, expected: str) -> None:
    """A condition counts events of a name, on a subject, campaign or label, in a window; required or excluded."""
    labels = (
        "labels = { advertiser = 'pico', channel = 'display' }",
        "labels = { advertiser = 'pico', channel = 'email' }",
    )
    audience = f"[campaign.ad]\naudience = ['{condition}']\n{labels[0]}\n[campaign.other]\n{labels[1]}"
    told = tell(audience, now, *history)
    assert told == (expected if expected == "yes" else f"audience: {condition} ({expected}), never")
    told = tell(audience.replace("audience", "exclude"), now, *history)
    assert told.startswith(f"exclude: {condition} (" if expected == "yes" else "yes")


@pytest.mark.parametrize(
    ("exclude", "history", "expected"),
    [
        ("purchase within 2 days", "12:00 purchase tea", "(1 of 1), again 2026-03-06 12:00:01"),
        ("purchase", "12:00 purchase tea", "(1 of 1), again 2027-04-08 12:00:01"),  # 400 days
        ("purchase within calendar month", "12:00 purchase tea", "(1 of 1), again 2026-04-01 00:00:00"),
        ("impression other within 1 hour", "12:00 impression other", "(1 of 1), again 2026-03-04 13:00:01"),
        ("visit within session", "12:00 visit", "(1 of 1), again 2026-03-04 12:30:01"),
    ],
)
def test_exclude_lets_go(exclude: str, history: str, expected: str) -> None:
    """What excludes lets go when it has left its window."""
    policy = f'[campaign.ad]\nexclude = ["{exclude}"]\n[campaign.other]'
    assert tell(policy, "12:00", history) == f"exclude: {exclude} {expected}"


def test_any_one_excludes_and_all_are_required() -> None:
    """Of the audience all must hold, of the exclusions none; the one that lets go last is told."""
    policy = (
        '[campaign.ad]\naudience = ["visit", "click"]\nexclude = ["purchase within 1 day", "dismiss within 2 days"]'
    )
    reached = ["12:00 visit", "12:00 click"]
    assert tell(policy, "12:00", reached[0]) == "audience: click (0 of 1), never"
    assert tell(policy, "12:00", reached[1]) == "audience: visit (0 of 1), never"
    assert tell(policy, "12:00", *reached) == "yes"
    told = tell(policy, "12:00", *reached, "12:00 purchase")
    assert told == "exclude: purchase within 1 day (1 of 1), again 2026-03-05 12:00:01"
    told = tell(policy, "12:00", *reached, "12:00 purchase", "12:00 dismiss")
    assert told == "exclude: dismiss within 2 days (1 of 1), again 2026-03-06 12:00:01"


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], "audience: click ad2 or 2 visit within 1 day, never"),
        (["12:00 visit"], "audience: click ad2 or 2 visit within 1 day, never"),
        (["12:00 visit", "12:00 visit"], "yes"),
        (["12:00 click ad2"], "yes"),
    ],
)
def test_any(history: list[str], expected: str) -> None:
    """One of several conditions is enough."""
    policy = '[campaign.ad]\naudience = [{ any = ["click ad2", "2 visit within 1 day"] }]\n[campaign.ad2]'
    assert tell(policy, "12:00", *history) == expected


# ---- templates ----


TEMPLATES = """
[campaign.ad]
labels = { advertiser = "oyashop" }
audience = ["visit {advertiser}/{item} within 1 day"]
exclude = ["purchase item:{item}", "dismiss {campaign}"]
[campaign.other]
exclude = ["dismiss {campaign}"]
"""
UNSEEN = "audience: visit {advertiser}/{item} within 1 day (0 of 1), never"
BOUGHT = "exclude: purchase item:{item} (1 of 1), never"
HIDDEN = "exclude: dismiss {campaign} (1 of 1), never"


@pytest.mark.parametrize(
    ("what", "history", "expected"),
    [
        ("ad item=tea", ["12:00 visit oyashop/tea"], "yes"),
        ("ad item=tea", ["12:00 visit oyashop/coffee"], UNSEEN),
        ("ad item=tea advertiser=pico", ["12:00 visit oyashop/tea"], UNSEEN),
        ("ad item=tea advertiser=pico", ["12:00 visit pico/tea"], "yes"),  # the candidate's label before the campaign's
        ("ad", ["12:00 visit oyashop/tea"], UNSEEN),  # no item: it cannot have been
        ("ad item=tea", ["12:00 visit oyashop/tea", "12:00 purchase shop item=tea"], BOUGHT),
        ("ad item=tea", ["12:00 visit oyashop/tea", "12:00 purchase shop item=coffee"], "yes"),
        ("ad item=tea", ["12:00 visit oyashop/tea", "12:00 dismiss ad item=coffee"], HIDDEN),
        ("ad item=tea", ["12:00 visit oyashop/tea", "12:00 dismiss other"], "yes"),
        ("other item=tea", ["12:00 dismiss other"], "exclude: dismiss {campaign} (1 of 1), again 2027-04-08 12:00:01"),
        ("other", ["12:00 dismiss ad"], "yes"),
    ],
)
def test_templates(what: str, history: list[str], expected: str) -> None:
    """`{item}`, `{advertiser}`, `{campaign}` are the candidate's labels; what cannot be named has not happened."""
    assert tell(TEMPLATES, "12:00", *history, what=what) == expected


def test_an_exclusion_that_cannot_be_named_excludes_nobody() -> None:
    """A candidate without the label that an exclusion asks for is not excluded by it."""
    policy = '[campaign.ad]\nexclude = ["purchase product/{item}"]'
    assert tell(policy, "12:00", "12:00 purchase product/tea") == "yes"
    assert tell(policy, "12:00", "12:00 purchase product/tea", what="ad item=tea").startswith("exclude")


# ---- caps per label ----


LABELS = """
[caps]
advertiser = ["2 per day"]
"channel:email" = ["1 per day"]
item = ["1 per hour"]
[campaign.ad]
labels = { advertiser = "pico", channel = "display" }
[campaign.mail]
labels = { advertiser = "pico", channel = "email" }
[campaign.letter]
labels = { advertiser = "lumen", channel = "email" }
[campaign.bare]
"""
PICO = "cap: advertiser: 2 per day (2 of 2), again 2026-03-05 12:00:01"


@pytest.mark.parametrize(
    ("what", "history", "expected"),
    [
        ("ad", ["ad", "mail"], PICO),
        ("mail", ["ad", "mail"], PICO),
        ("letter", ["ad", "mail"], "cap: channel:email: 1 per day (1 of 1), again 2026-03-05 12:00:01"),
        ("letter", ["ad", "ad"], "yes"),
        ("bare", ["ad", "mail", "letter"], "yes"),
        ("bare advertiser=pico", ["ad", "mail"], PICO),
        ("ad", ["bare advertiser=pico", "stranger advertiser=pico"], PICO),
        ("ad item=tea", ["letter item=tea"], "cap: item: 1 per hour (1 of 1), again 2026-03-04 13:00:01"),
        ("ad item=coffee", ["letter item=tea"], "yes"),
        ("ad", ["letter item=tea"], "yes"),
    ],
)
def test_caps_per_label(what: str, history: list[str], expected: str) -> None:
    """A kind's cap is for each of its labels, a label's for that one; over all that carry it."""
    assert tell(LABELS, "12:00", *(f"12:00 impression {shown}" for shown in history), what=what) == expected


def test_only_impressions_use_up_caps() -> None:
    """A click or a visit counts for no cap, gap or threshold."""
    policy = '[annoyance]\nthreshold = ["1 per day"]\n[caps]\nitem = ["1 per day"]\n[campaign.ad]\ncaps = ["1 per day"]'
    assert tell(policy, "12:00", "12:00 click ad item=x", "12:00 visit ad", what="ad item=x") == "yes"


# ---- the annoyance threshold ----


THRESHOLD = """
[annoyance]
threshold = ["12 per 7 days"]
points = { email = 3, call = 10 }
[annoyance.segment.upset]
who = ["complaint within 30 days"]
threshold = ["10 per 7 days"]
[annoyance.segment.customers]
who = [{ any = ["purchase", "subscribe"] }, "visit within 90 days"]
threshold = ["20 per 7 days"]
[campaign.ad]
[campaign.mail]
labels = { channel = "email" }
[campaign.call]
labels = { channel = "call" }
"""


@pytest.mark.parametrize(
    ("history", "fits"),
    [
        ([], "ad mail call"),
        (["mail"], "ad mail"),
        (["ad", "ad"], "ad mail call"),
        (["ad", "ad", "ad"], "ad mail"),
        (["call"], "ad"),
        (["call", "ad", "ad"], ""),
        (["mail"] * 3, "ad mail"),
        (["mail"] * 3 + ["ad"], "ad"),
        (["mail"] * 4, ""),
        (["stranger"] * 10, "ad"),
        (["stranger channel=call"], "ad"),
        (["ad channel=call"], "ad"),
    ],
)
def test_points_per_channel(history: list[str], fits: str) -> None:
    """An impression costs its channel's points, one where none are named; what costs more than is left must wait."""
    world = World(THRESHOLD, *(f"12:00 impression {shown}" for shown in history))
    told = {what: world.tell("12:00", what) for what in ("ad", "mail", "call")}
    assert [what for what in told if told[what] == "yes"] == fits.split()
    for line in told.values():
        assert line == "yes" or line.startswith("annoyance: annoyance: 12 per 7 days (")


def test_when_there_is_room_again() -> None:
    """A dear impression waits until enough cheap ones have left; the verdict says how many points are used."""
    world = World(THRESHOLD, "12:00 impression mail", "13:00 impression ad", "14:00 impression mail")
    assert world.tell("14:00", "mail") == "yes"
    assert world.tell("14:00", "call") == "annoyance: annoyance: 12 per 7 days (7 of 12), again 2026-03-11 14:00:01"
    assert World(THRESHOLD, "12:00 impression mail", "13:00 impression ad").tell("13:00", "call") == (
        "annoyance: annoyance: 12 per 7 days (4 of 12), again 2026-03-11 12:00:01"
    )


@pytest.mark.parametrize(
    ("history", "segment", "rule", "limit"),
    [
        ([], "annoyance", "12 per 7 days", 12),
        (["12:00 visit"], "annoyance", "12 per 7 days", 12),
        (["12:00 purchase tea"], "annoyance", "12 per 7 days", 12),
        (["12:00 purchase tea", "12:00 visit"], "segment customers", "20 per 7 days", 20),
        (["12:00 subscribe", "12:00 visit shop"], "segment customers", "20 per 7 days", 20),
        (["12:00 complaint"], "segment upset", "10 per 7 days", 10),
        (["12:00 complaint", "12:00 purchase", "12:00 visit"], "segment upset", "10 per 7 days", 10),
    ],
)
def test_the_first_segment_that_fits(history: list[str], segment: str, rule: str, limit: int) -> None:
    """The first segment whose conditions all hold sets the threshold; the general one does where none fits."""
    world = World(THRESHOLD, *history, "12:00 impression call")
    assert world.annoyance("12:00") == AnnoyanceLevel(segment, rule, 10, limit)
    told = world.tell("12:00", "mail")
    assert told == "yes" if limit == 20 else told.startswith(f"annoyance: {segment}: {rule} (10 of {limit})")
    for _ in range(limit - 10):
        assert world.tell("12:00", "ad") == "yes"
        world.happens("12:00 impression ad")
    assert world.tell("12:00", "ad").startswith(f"annoyance: {segment}: {rule} ({limit} of {limit})")


def test_segments_change_as_time_goes_on() -> None:
    """When she leaves a segment the next threshold is in force: it may let go earlier, or hold longer."""
    longer = """
[annoyance]
threshold = ["1 per 7 days"]
[annoyance.segment.guests]
who = ["visit within 1 hour"]
threshold = ["2 per 30 minutes"]
[campaign.ad]
"""
    world = World(longer, "12:00 visit", "12:50 impression ad")
    assert world.annoyance("12:50") == AnnoyanceLevel("segment guests", "2 per 30 minutes", 1, 2)
    assert world.tell("13:00") == "yes"
    assert world.tell("13:00:01") == "annoyance: annoyance: 1 per 7 days (1 of 1), again 2026-03-11 12:50:01"
    world.happens("13:00:01 visit")
    world.happens("13:40 impression ad")
    world.happens("13:50 impression ad")
    # Her segment's threshold would let go at 14:10:01, but she leaves the segment at 14:00:02.
    assert world.tell("13:50").endswith("again 2026-03-11 13:50:01")
    earlier = longer.replace("1 per 7 days", "5 per day").replace("2 per 30 minutes", "1 per day")
    told = tell(earlier, "12:30", "12:00 visit", "12:20 impression ad")
    assert told == "annoyance: segment guests: 1 per day (1 of 1), again 2026-03-04 13:00:01"


def test_the_threshold_that_is_nearest_to_its_limit() -> None:
    """Of several thresholds `annoyance` tells the one that is nearest to its limit; without any it tells none."""
    policy = '[annoyance]\nthreshold = ["4 per hour", "6 per day"]\n[campaign.ad]'
    world = World(policy, *["12:00 impression ad"] * 3)
    assert world.annoyance("12:30") == AnnoyanceLevel("annoyance", "4 per hour", 3, 4)
    assert world.annoyance("13:30") == AnnoyanceLevel("annoyance", "6 per day", 3, 6)
    assert World("[campaign.ad]", "12:00 impression ad").annoyance("12:00") is None


def test_a_threshold_per_session_is_unused_when_the_session_is_over() -> None:
    """When a session is over, the verdict and `annoyance` both say that nothing is used."""
    world = World('[annoyance]\nthreshold = ["3 per session"]\n[campaign.ad]', "12:00 impression ad")
    assert world.annoyance("12:30") == AnnoyanceLevel("annoyance", "3 per session", 1, 3)
    assert world.tell("12:30:01") == "yes"
    assert world.annoyance("12:30:01") == AnnoyanceLevel("annoyance", "3 per session", 0, 3)


@pytest.mark.parametrize(
    ("switches", "held_back", "uses_up"),
    [
        ("", True, True),
        ("obeys = false", False, True),
        ("counts = false", True, False),
        ("obeys = false\ncounts = false", False, False),
    ],
)
def test_obeys_and_counts(switches: str, *, held_back: bool, uses_up: bool) -> None:
    """`obeys = false` is never held back by threshold and caps; `counts = false` uses up nothing of them."""
    policy = (
        '[annoyance]\nthreshold = ["2 per day"]\n[caps]\nchannel = ["2 per day"]\n'
        '[campaign.ad]\nlabels = { channel = "email" }\n'
        f'[campaign.service]\nlabels = {{ channel = "email" }}\n{switches}'
    )
    used = World(policy, *["12:00 impression ad"] * 2)
    assert (used.tell("12:00", "service") != "yes") is held_back
    shown = World(policy, *["12:00 impression service"] * 2)
    assert (shown.tell("12:00", "ad") != "yes") is uses_up
    assert (shown.tell("12:00", "service") != "yes") is (held_back and uses_up)
    level = shown.annoyance("12:00")
    assert level is not None
    assert level.points == (2 if uses_up else 0)


def test_what_is_not_counted_has_its_own_caps() -> None:
    """`counts = false` spares what it shares with others; its own caps and gap hold, and conditions see it."""
    policy = (
        '[annoyance]\nthreshold = ["9 per day"]\n[campaign.help]\ncounts = false\ncaps = ["1 per day"]\n'
        '[campaign.ad]\nexclude = ["impression help within 1 hour"]'
    )
    shown = "12:00 impression help"
    assert tell(policy, "12:00", shown, what="help") == "cap: 1 per day (1 of 1), again 2026-03-05 12:00:01"
    assert tell(policy, "12:00", shown) == "exclude: impression help within 1 hour (1 of 1), again 2026-03-04 13:00:01"


def test_what_obeys_nothing_still_has_an_audience() -> None:
    """`obeys = false` sets aside caps and threshold, not audience, exclusions and hours."""
    policy = '[campaign.ad]\nobeys = false\naudience = ["purchase"]\nexclude = ["optout"]\nhours = "08:00-20:00"'
    assert tell(policy, "12:00") == "audience: purchase (0 of 1), never"
    assert tell(policy, "12:00", "12:00 purchase") == "yes"
    assert tell(policy, "12:00", "12:00 purchase", "12:00 optout").startswith("exclude: optout")
    assert tell(policy, "20:00", "12:00 purchase") == "hours: hours 08:00-20:00, again 2026-03-05 08:00:00"


# ---- defaults ----


DEFAULTS = """
[defaults]
caps = ["1 per day"]
gap = "2 days"
exclude = ["dismiss {campaign}"]
audience = ["visit"]
[campaign.ad]
caps = ["3 per hour"]
[campaign.open]
exclude = []
audience = []
[campaign.free]
obeys = false
"""
TOO_SOON = "gap: gap 2 days (1 of 1), again 2026-03-06 12:00:01"


@pytest.mark.parametrize(
    ("what", "history", "expected"),
    [
        ("ad", [], "audience: visit (0 of 1), never"),
        ("stranger", [], "audience: visit (0 of 1), never"),
        ("open", [], "yes"),
        ("open", ["12:00 dismiss open"], "yes"),
        ("stranger", ["12:00 visit"], "yes"),
        ("stranger", ["12:00 visit", "12:00 dismiss stranger"], HIDDEN),
        ("stranger", ["12:00 visit", "12:00 dismiss ad"], "yes"),
        ("stranger", ["12:00 visit", "12:00 impression stranger"], TOO_SOON),
        ("stranger item=x", ["12:00 visit", "12:00 impression stranger"], TOO_SOON),
        ("ad", ["12:00 visit", "12:00 impression ad"], TOO_SOON),
        ("ad", ["12:00 visit", "12:00 dismiss ad"], HIDDEN),
        ("free", ["12:00 visit", "12:00 impression free"], "yes"),
    ],
)
def test_defaults(what: str, history: list[str], expected: str) -> None:
    """A campaign has the defaults, one that is not named just these; its own replace those of the same kind."""
    assert tell(DEFAULTS, "12:00", *history, what=what) == expected


def test_own_caps_replace_the_default_caps_only() -> None:
    """With caps of its own a campaign has no default caps, and keeps the default hours."""
    policy = '[defaults]\ncaps = ["1 per day"]\nhours = "08:00-20:00"\n[campaign.ad]\ncaps = ["2 per hour"]'
    assert tell(policy, "12:00", "12:00 impression ad") == "yes"
    told = tell(policy, "12:00", "12:00 impression ad", "12:00 impression ad")
    assert told == "cap: 2 per hour (2 of 2), again 2026-03-04 13:00:01"
    assert tell(policy, "20:00") == "hours: hours 08:00-20:00, again 2026-03-05 08:00:00"


def test_a_campaign_that_nobody_knows() -> None:
    """Without [defaults] there is no deciding on a campaign that the policy does not name; an empty table will do."""
    world = World("[campaign.ad]")
    with pytest.raises(InputError, match=r"'stranger' is not in the policy.*\[defaults\]"):
        world.ads.decide("v", ["stranger"])
    assert tell("[defaults]", "12:00", what="stranger") == "yes"
    world.happens("12:00 impression stranger")  # it may have been shown all the same: ads outlive their policy


# ---- when again: all rules together ----


@pytest.mark.parametrize(
    ("rules", "history", "now", "expected"),
    [
        (  # the cap lets go at night: in the morning
            'caps = ["1 per 12 hours"]\nhours = "08:00-21:00"',
            ["12:00 impression ad"],
            "12:00",
            "cap: 1 per 12 hours (1 of 1), again 2026-03-05 08:00:00",
        ),
        (  # closed now, and the cap lets go within the hours of tomorrow
            'caps = ["1 per day"]\nhours = "08:00-21:00"',
            ["20:00 impression ad"],
            "21:00",
            "cap: 1 per day (1 of 1), again 2026-03-05 20:00:01",
        ),
        (  # the cap lets go on a Saturday: on Monday morning
            'caps = ["1 per 3 days"]\nhours = "08:00-21:00"\ndays = "mon-fri"',
            ["12:00 impression ad"],
            "12:00",
            "cap: 1 per 3 days (1 of 1), again 2026-03-09 08:00:00",
        ),
        (  # the audience is over before the cap lets go
            'caps = ["1 per day"]\naudience = ["visit within 1 day"]',
            ["11:00 visit", "12:00 impression ad"],
            "12:00",
            "cap: 1 per day (1 of 1), never",
        ),
        (  # she is of the audience just long enough
            'caps = ["1 per day"]\naudience = ["visit within 1 day"]',
            ["12:00 impression ad", "12:00:01 visit"],
            "12:00:01",
            "cap: 1 per day (1 of 1), again 2026-03-05 12:00:01",
        ),
        (  # the audience is over before it opens
            'hours = "08:00-21:00"\naudience = ["visit within 8 hours"]',
            ["23:59 visit"],
            "23:59",
            "hours: hours 08:00-21:00, never",
        ),
        (  # any: one of the two lasts
            'caps = ["1 per day"]\naudience = [{ any = ["visit within 1 day", "click within 2 days"] }]',
            ["11:00 visit", "11:00 click", "12:00 impression ad"],
            "12:00",
            "cap: 1 per day (1 of 1), again 2026-03-05 12:00:01",
        ),
        (  # it ends before the cap lets go
            'caps = ["1 per day"]\nend = 2026-03-04',
            ["12:00 impression ad"],
            "12:00",
            "cap: 1 per day (1 of 1), never",
        ),
        (  # on its last day it opens no more
            'hours = "08:00-12:00"\nend = 2026-03-04',
            [],
            "12:00",
            "hours: hours 08:00-12:00, never",
        ),
        (  # it starts later than the cap lets go
            'caps = ["1 per day"]\nstart = 2026-03-07',
            ["12:00 impression ad"],
            "12:00",
            "start: start 2026-03-07, again 2026-03-07 00:00:00",
        ),
        (  # by the time it starts nobody is of the audience
            'start = 2026-03-07\naudience = ["visit within 1 day"]',
            ["12:00 visit"],
            "12:00",
            "start: start 2026-03-07, never",
        ),
        (  # two rules that let go at different times, and the clock on top
            'caps = ["1 per calendar day"]\ngap = "20 hours"\nexclude = ["dismiss within 1 hour"]\ndays = "wed, fri"',
            ["12:00 impression ad", "12:30 dismiss ad"],
            "12:30",
            "gap: gap 20 hours (1 of 1), again 2026-03-06 00:00:00",
        ),
    ],
)
def test_when_again(rules: str, history: list[str], now: str, expected: str) -> None:
    """`eligible_at` is when all rules hold together if nothing else happens; None if one of them ends before."""
    assert tell(f"[campaign.ad]\n{rules}", now, *history) == expected


# ---- the verdict ----


class Broken(MemoryStore):
    """A store that fails."""

    def read(self, key: bytes) -> State:
        raise StoreError("the store is out for lunch")


def test_reasons_are_a_closed_set() -> None:
    """Each of the reasons can be met, and there are no others."""
    rules = 'start = 2026-03-04T10:00:00\nend = 2026-03-20\ndays = "wed"\nhours = "12:00-20:00"'
    more = 'audience = ["visit"]\nexclude = ["dismiss"]\ncaps = ["2 per day"]\ngap = "1 hour"'
    shared = '[annoyance]\nthreshold = ["3 per day"]\n[campaign.other]'
    clock, world = World(f"[campaign.ad]\n{rules}"), World(f"{shared}\n[campaign.ad]\n{more}", "12:00 visit")
    met = {
        clock.verdict(at).reason
        for at in ("2026-03-02T12:00", "10:00", "12:00", "2026-03-05T12:00", "2026-03-21T12:00")
    }
    met.add(World(f"{shared}\n[campaign.ad]\n{more}").verdict("12:00").reason)
    met.add(world.verdict("12:00").reason)
    world.happens("12:00 impression ad")
    met.add(world.verdict("12:00").reason)
    world.happens("14:00 impression ad")
    met.add(world.verdict("16:00").reason)
    world.happens("16:00 impression other")
    met.add(world.verdict("16:00", "other").reason)
    world.happens("16:00 dismiss")
    met.add(world.verdict("16:00").reason)
    met.add(world.ads.decide(None)["ad"].reason)
    met.add(world.ads.decide("v", consent=False)["ad"].reason)
    met.add(Retargeter(world.policy, Broken()).decide("v")["ad"].reason)
    full = Retargeter(Policy.from_text('[campaign.ad]\nexclude = ["dismiss product/{item}"]'), "memory://")
    full.record_many([Event("v", "dismiss", f"product/{number}") for number in range(MOST_TIMELINES)])
    met.add(full.decide("v")["ad"].reason)
    assert met == set(get_args(Reason))


@pytest.mark.parametrize("answer", ["block", "allow"])
def test_without_a_visitor_or_consent(answer: str) -> None:
    """Without a visitor or consent all candidates get what the policy says, whatever else it says."""
    policy = f'on_unknown_visitor = "{answer}"\non_no_consent = "{answer}"\n[campaign.ad]\naudience = ["visit"]'
    ads = Retargeter(Policy.from_text(policy), "memory://")
    expected = ("ad",) if answer == "allow" else ()
    unknown, refused = ads.decide(None, ["ad"]), ads.decide("v", ["ad"], consent=False)
    assert (unknown.eligible, refused.eligible) == (expected, expected)
    assert unknown["ad"] == Verdict(bool(expected), "unknown visitor")
    assert refused["ad"] == Verdict(bool(expected), "no consent")
    assert unknown.annoyance is None


def test_a_verdict_is_true_if_eligible() -> None:
    """A verdict can be asked as a condition; an eligible one says so, from now on, and names no rule."""
    world = World(capped("1 per day"))
    now = datetime.fromtimestamp(world.second("12:00"), ZoneInfo("UTC"))
    assert world.verdict("12:00") == Verdict(eligible=True, reason="eligible", eligible_at=now)
    decision = world.ads.decide("v", ["ad"], now=now)
    assert (decision.eligible, list(decision), len(decision)) == (("ad",), ["ad"], 1)
    with pytest.raises(KeyError):
        decision["other"]


def test_candidates_keep_their_order() -> None:
    """`eligible` is in the caller's order; without candidates, in the policy's."""
    world = World('[campaign.a]\n[campaign.b]\naudience = ["visit"]\n[campaign.c]\n[campaign.d]', "12:00 visit")
    assert world.ads.decide("v", ["d", "b", "a"]).eligible == ("d", "b", "a")
    assert world.ads.decide("v").eligible == ("a", "b", "c", "d")
    assert world.ads.decide("w").eligible == ("a", "c", "d")
