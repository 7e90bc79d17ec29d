"""The oracle itself, by hand: it must say what the design's settled questions say before it may judge the library."""

from __future__ import annotations

import ast
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.events import Candidate
from retarget.policy import Policy
from tests.property.oracle import DAY, HOUR, MINUTE, Oracle, period
from tests.support.strategies import BASE, ZONES, candidates, events, moments, policies, second_of

T = int(datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp())
"""A Wednesday, noon in UTC."""


def at(text: str, zone: str = "UTC") -> int:
    """The epoch second of a local time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def oracle(rules: dict[str, Any], /, **policy: Any) -> Oracle:
    """An oracle of one campaign `ad`, and whatever else the policy says."""
    campaigns = {"ad": rules, **policy.pop("campaign", {})}
    return Oracle(Policy.model_validate({"campaign": campaigns, **policy}))


def shown(self: Oracle, *moments: int, what: str | Candidate = "ad") -> Oracle:
    """The oracle after impressions at these moments."""
    for moment in moments:
        assert self.record("v", "impression", what, moment)
    return self


def ok(self: Oracle, now: int, what: str | Candidate = "ad", zone: str | None = None) -> bool:
    """Whether the candidate is eligible."""
    return self.decide("v", what, now, zone).eligible


# ---- what peers pin down (peer-cases.md) ----


@pytest.mark.parametrize(
    ("case", "caps", "seen", "eligible"),
    [
        ("RV1", [], 0, True),
        ("RV1 seen often", [], 50, True),
        ("RV2", ["3 per lifetime"], 0, True),
        ("RV3", ["3 per lifetime"], 2, True),
        ("RV4", ["3 per lifetime"], 3, False),
        ("RV5", ["3 per lifetime"], 4, False),
        ("RV6", ["3 per session"], 0, True),
        ("RV7", ["3 per session"], 2, True),
        ("RV8", ["3 per session"], 3, False),
        ("RV9", ["3 per session"], 4, False),
        ("PL2 first", ["3 per 1 second", "9 per 5 seconds"], 3, False),
        ("PL2 second", ["9 per 1 second", "5 per 5 seconds"], 5, False),
        ("PL9 equal moments", ["2 per day"], 2, False),
    ],
)
def test_counts_of_impressions(case: str, caps: list[str], seen: int, eligible: bool) -> None:  # noqa: FBT001
    """A cap of n lets the n-th pass and stops the next; more than n is no error; equal moments all count."""
    asked = shown(oracle({"caps": caps}), *[T] * seen)
    assert ok(asked, T) is eligible, case


@pytest.mark.parametrize(
    ("case", "rules", "seen", "eligible"),
    [
        ("RV10", {"caps": ["2 per session"], "gap": "60 seconds"}, [], True),
        (
            "RV11: here a gap spaces whatever the caps say",
            {"caps": ["2 per session"], "gap": "60 seconds"},
            [59],
            False,
        ),
        ("RV11 without the gap", {"caps": ["2 per session"]}, [59], True),
        ("RV12", {"caps": ["2 per session"], "gap": "60 seconds"}, [100, 59], False),
        ("RV13: here the cap holds on", {"caps": ["2 per session"], "gap": "60 seconds"}, [100, 61], False),
        ("RV13 as a rolling cap", {"caps": ["2 per 60 seconds"]}, [100, 61], True),
        ("RV15 inside", {"gap": "60 seconds"}, [59], False),
        ("RV15 exactly", {"gap": "60 seconds"}, [60], False),
        ("RV15 after", {"gap": "60 seconds"}, [61], True),
        ("RV16 the gap runs from the last", {"gap": "60 seconds"}, [100, 30], False),
        ("MA4 exactly a day", {"caps": ["1 per day"]}, [DAY], False),
        ("MA4 after a day", {"caps": ["1 per day"]}, [DAY + 1], True),
        ("LM5 rolling, not aligned", {"caps": ["10 per 2 minutes"]}, [90] * 5 + [10] * 5, False),
        ("LM6 five are free again", {"caps": ["10 per 2 minutes"]}, [121] * 5 + [10] * 5, True),
        ("clocks that differ: what is ahead counts", {"caps": ["1 per hour"]}, [-300], False),
    ],
)
def test_windows_and_gaps(case: str, rules: dict[str, Any], seen: list[int], eligible: bool) -> None:  # noqa: FBT001
    """An entry exactly W old still counts, one second later it does not; all rules must hold."""
    asked = oracle(rules)
    for ago in seen:
        asked.record("v", "impression", "ad", T - ago, now=T)
    assert ok(asked, T) is eligible, case


def test_rv17_the_label_and_the_campaign_both_hold() -> None:
    """RV17: one capped level is enough to withhold; what one level denies uses up nothing of the other."""
    labels = {"labels": {"advertiser": "shop"}}
    asked = oracle({**labels, "caps": ["1 per day"]}, campaign={"other": labels}, caps={"advertiser": ["2 per day"]})
    assert asked.claim("v", ["ad"], T) == "ad"
    assert asked.decide("v", "ad", T).violated == ["caps 1 per day"]
    assert asked.claim("v", ["ad", "other"], T) == "other"
    assert asked.decide("v", "other", T).violated == ["caps.advertiser 2 per day"]
    assert asked.claim("v", ["ad", "other"], T) is None


def test_lm4_asking_takes_nothing() -> None:
    """LM4: decide uses nothing up, and neither does a claim that is denied."""
    asked = oracle({"caps": ["2 per hour"]})
    answers = []
    for _ in range(3):
        answers += [asked.claim("v", ["ad"], T) is not None, ok(asked, T)]
    assert answers == [True, True, True, False, False, False]
    assert len(asked.visitors["v"].entries) == 2


def test_lm7_the_oldest_of_those_that_matter_lets_go() -> None:
    """LM7: two per minute, seen at 0 s and 1 s, asked at 2 s: free when the older one leaves, one second past W."""
    asked = shown(oracle({"caps": ["2 per 60 seconds"]}), T, T + 1)
    assert asked.eligible_at("v", "ad", T + 2) == T + 61
    assert asked.eligible_at("v", "ad", T + 61) == T + 61


def test_lm3_points_are_all_or_nothing() -> None:
    """LM3, PL3, PL5: an impression of w points fits only if w are free; a denied one takes none of them."""
    campaigns = {"mail": {"labels": {"channel": "email"}}, "call": {"labels": {"channel": "call"}}}
    annoyance = {"threshold": ["10 per 2 minutes"], "points": {"email": 5, "call": 6}}
    asked = oracle({}, campaign=campaigns, annoyance=annoyance)
    assert asked.claim("v", ["mail"], T) == "mail"
    assert asked.claim("v", ["call"], T) is None
    assert asked.decide("v", "call", T).violated == ["annoyance.threshold 10 per 2 minutes"]
    assert asked.claim("v", ["call", "mail"], T) == "mail"
    assert asked.claim("v", ["call", "mail", "ad"], T) is None
    assert asked.eligible_at("v", "ad", T) == T + 121
    assert not ok(asked, T + 120, "call")
    assert ok(asked, T + 121, "call")


def test_points_beyond_every_threshold_are_never_allowed() -> None:
    """PL5 (weight 30 of 20): a candidate whose own channel costs more than the threshold is denied for ever."""
    asked = oracle({}, annoyance={"threshold": ["3 per day"], "points": {"call": 4}})
    assert ok(asked, T)
    assert not ok(asked, T, Candidate("ad", channel="call"))
    assert asked.eligible_at("v", Candidate("ad", channel="call"), T) is None


def test_ma1_an_own_rule_replaces_the_default() -> None:
    """MA1: the campaign's own cap displaces the default's; what it does not say comes from the default; [] is said."""
    campaigns: dict[str, Any] = {"plain": {}, "free": {"caps": []}}
    asked = oracle({"caps": ["2 per day"]}, campaign=campaigns, defaults={"caps": ["1 per day"]})
    for name in ("ad", "plain", "free", "stranger"):
        shown(asked, T, what=name)
    assert [ok(asked, T, name) for name in ("ad", "plain", "free", "stranger")] == [True, False, True, False]
    shown(asked, T)
    assert asked.decide("v", "ad", T).violated == ["caps 2 per day"]


def test_ma2_without_defaults_a_stranger_is_an_error_but_is_recorded() -> None:
    """MA2: no default, no rule; an event on a campaign that the policy does not know is accepted all the same."""
    asked = shown(oracle({}, caps={"item": ["1 per day"]}), T, what=Candidate("gone", item="i"))
    with pytest.raises(KeyError):
        asked.decide("v", "gone", T)
    assert not ok(asked, T, Candidate("ad", item="i"))
    assert ok(asked, T, Candidate("ad", item="j"))
    assert ok(asked, T)


# ---- the settled questions (design.md, part 3) ----


def test_ids_are_counted_once_per_event_name() -> None:
    """The same event id twice counts once; the id belongs to the event's name and to the visitor."""
    asked = oracle({"caps": ["9 per day"]})
    assert asked.record("v", "impression", "ad", T, id="1")
    assert not asked.record("v", "impression", "ad", T + 5, id="1")
    assert asked.record("v", "click", "ad", T, id="1")
    assert asked.record("w", "impression", "ad", T, id="1")
    assert [len(asked.visitors[visitor].entries) for visitor in ("v", "w")] == [2, 1]


def test_a_claim_repeated_with_its_id_returns_the_same() -> None:
    """A repeated claim gives the candidate of the first time and counts nothing, even where others come first now."""
    item = Candidate("ad", item="i")
    asked = oracle({"caps": ["1 per day"]}, campaign={"other": {}})
    assert asked.claim("v", [item, "other"], T, id="c1") == item
    assert asked.claim("v", ["other"], T + 9, id="c1") == item
    assert asked.claim("v", [item, "other"], T + 9, id="c2") == "other"
    assert len(asked.visitors["v"].entries) == 2


def test_a_denied_claim_does_not_use_up_its_id() -> None:
    """A denied attempt uses nothing up: the same id may be counted later."""
    asked = shown(oracle({"gap": "60 seconds"}), T)
    assert asked.claim("v", ["ad"], T + 1, id="c") is None
    assert asked.claim("v", ["ad"], T + 61, id="c") == "ad"


def test_late_and_early_events() -> None:
    """Late: at its own place. Older than everything: dropped. 300 s ahead: counted; more: an error, nothing stored."""
    asked = oracle({"caps": ["1 per hour"]}, retention="2 days")
    assert asked.record("v", "impression", "ad", T - HOUR - 1, now=T)
    assert ok(asked, T)
    assert asked.record("v", "impression", "ad", T - HOUR, now=T)
    assert asked.eligible_at("v", "ad", T) == T + 1
    assert not asked.record("v", "impression", "ad", T - 2 * DAY - 1, now=T, id="old")
    assert asked.record("v", "visit", None, T - 2 * DAY, now=T)
    assert asked.record("v", "impression", "ad", T + 300, now=T)
    with pytest.raises(ValueError, match="future"):
        asked.record("v", "impression", "ad", T + 301, now=T)
    assert asked.eligible_at("v", "ad", T) == T + 300 + HOUR + 1


def test_where_it_is_certain_what_is_kept() -> None:
    """`kept_for_sure`: yes within the shortest window, no beyond the longest by far, open between."""
    asked = oracle({"caps": ["1 per hour"]}, retention="10 days")
    sure = [asked.kept_for_sure(T - ago, T) for ago in (-300, 0, 1_800, 2 * HOUR, 10 * DAY, 20 * DAY)]
    assert sure == [True, True, True, None, None, False]


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


def test_a_late_event_begins_no_session() -> None:
    """Sessions go by the order of recording: an event of before the newest one never begins one."""
    asked = shown(oracle({"caps": ["1 per session"]}), T)
    assert asked.record("v", "visit", None, T - 2 * HOUR, now=T)
    assert asked.visitors["v"].session_starts == [T]
    assert not ok(asked, T)


@pytest.mark.parametrize(
    ("rules", "happened", "eligible"),
    [
        ({"audience": ["visit shop within 1 hour"]}, [], False),
        ({"audience": ["visit shop within 1 hour"]}, [("visit", "shop", HOUR)], True),
        ({"audience": ["visit shop within 1 hour"]}, [("visit", "shop", HOUR + 1)], False),
        ({"audience": ["visit shop within 1 hour"]}, [("visit", "other", 0), ("click", "shop", 0)], False),
        ({"audience": ["visit"]}, [("visit", None, 9 * DAY)], True),
        ({"audience": ["visit"]}, [("visit", "shop", 10 * DAY)], True),
        ({"audience": ["visit"]}, [("visit", "shop", 10 * DAY + 1)], False),
        ({"audience": ["2 visit"]}, [("visit", "a", 0), ("visit", "b", 0)], True),
        ({"audience": ["2 visit shop"]}, [("visit", "shop", 0), ("visit", "b", 0)], False),
        ({"audience": [{"any": ["click ad", "buy"]}]}, [("buy", None, 0)], True),
        ({"audience": [{"any": ["click ad", "buy"]}, "visit"]}, [("buy", None, 0)], False),
        ({"exclude": ["buy", "dismiss ad"]}, [], True),
        ({"exclude": ["buy", "dismiss ad"]}, [("dismiss", "ad", 0)], False),
        ({"exclude": ["buy", "dismiss ad"]}, [("dismiss", "b", 0)], True),
        ({"exclude": ["dismiss {campaign}"]}, [("dismiss", "ad", 0)], False),
        ({"exclude": ["click channel:email"]}, [("click", "b", 0)], False),
        ({"exclude": ["click channel:email"]}, [("click", "stranger", 0)], True),
        ({"exclude": ["click channel:email"]}, [("click", Candidate("stranger", channel="email"), 0)], False),
        ({"exclude": ["click channel:email"]}, [("click", Candidate("b", channel="call"), 0)], True),
        ({"exclude": ["click channel:email"]}, [("click", "uncounted", 0)], True),
        ({"exclude": ["click uncounted"]}, [("click", "uncounted", 0)], False),
        ({"exclude": ["2 impression"]}, [("impression", "b", 0), ("impression", "uncounted", 0)], False),
    ],
)
def test_conditions(rules: dict[str, Any], happened: list[tuple[str, Any, int]], eligible: bool) -> None:  # noqa: FBT001
    """Audience: every clause; exclude: any one; no window: as long as the retention; labels of what it happened on."""
    mail = {"channel": "email"}
    asked = oracle(
        rules, campaign={"b": {"labels": mail}, "uncounted": {"labels": mail, "counts": False}}, retention="10 days"
    )
    for event, subject, ago in happened:
        assert asked.record("v", event, subject, T - ago, now=T - ago)
    assert ok(asked, T) is eligible


def test_templates() -> None:
    """A label that the candidate lacks: the audience is never entered, the exclusion never blocks."""
    asked = oracle({"audience": ["visit product/{item}"]}, campaign={"b": {"exclude": ["buy product/{item}"]}})
    for event in ("visit", "buy"):
        asked.record("v", event, "product/1", T)
    assert [ok(asked, T, c) for c in ("ad", Candidate("ad", item="2"), Candidate("ad", item="1"))] == [
        False,
        False,
        True,
    ]
    assert [ok(asked, T, c) for c in ("b", Candidate("b", item="2"), Candidate("b", item="1"))] == [True, True, False]


def test_label_caps() -> None:
    """A kind's cap holds for each value by itself, a label's cap for the one; the candidate's label stands first."""
    labels = {"labels": {"channel": "email"}}
    asked = oracle({**labels}, campaign={"b": {}}, caps={"channel": ["3 per day"], "channel:email": ["2 per day"]})
    shown(asked, T, T)
    assert asked.decide("v", "ad", T).violated == ["caps.channel:email 2 per day"]
    assert ok(asked, T, Candidate("ad", channel="call"))
    assert ok(asked, T, "b")
    assert not ok(asked, T, Candidate("b", channel="email"))
    shown(asked, T, T, T, what=Candidate("ad", channel="call"))
    assert asked.decide("v", Candidate("b", channel="call"), T).violated == ["caps.channel 3 per day"]


def test_labels_and_points_are_those_of_the_time_of_recording() -> None:
    """A policy that renames a label changes what comes, not what was."""
    asked = oracle({"labels": {"channel": "email"}}, caps={"channel": ["1 per day"]})
    shown(asked, T)
    changed = {"campaign": {"ad": {"labels": {"channel": "display"}}}, "caps": {"channel": ["1 per day"]}}
    asked.policy = Policy.model_validate(changed)
    assert ok(asked, T)
    assert not ok(asked, T, Candidate("ad", channel="email"))


def test_obeys_and_counts_are_separate() -> None:
    """`obeys = false` is never capped but counted; `counts = false` is capped but not counted, except for its own."""
    labels = {"labels": {"advertiser": "shop"}}
    campaigns = {"proud": {**labels, "obeys": False}, "quiet": {**labels, "counts": False, "caps": ["2 per day"]}}
    annoyance = {"threshold": ["2 per day"]}
    asked = oracle(
        labels,
        campaign=campaigns,
        annoyance=annoyance,
        caps={"advertiser": ["2 per day"]},
        defaults={"caps": ["1 per day"]},
    )
    shown(asked, T, T, what="quiet")
    assert [ok(asked, T, name) for name in ("ad", "proud", "quiet")] == [True, True, False]
    shown(asked, T, T, what="proud")
    assert ok(asked, T, "proud")
    assert asked.decide("v", "ad", T).violated == ["caps.advertiser 2 per day", "annoyance.threshold 2 per day"]


def test_segments() -> None:
    """The first segment that fits replaces the threshold, upwards or downwards, and only while it fits."""
    segments = {
        "buyers": {"who": ["buy within 1 hour", "visit"], "threshold": ["3 per day"]},
        "callers": {"who": ["buy"], "threshold": ["1 per day"]},
    }
    asked = oracle({}, annoyance={"threshold": ["2 per day"], "segment": segments})
    shown(asked, T)
    assert ok(asked, T)
    asked.record("v", "buy", None, T)
    assert asked.decide("v", "ad", T).violated == ["annoyance.segment.callers.threshold 1 per day"]
    asked.record("v", "visit", None, T)
    shown(asked, T)
    assert ok(asked, T + HOUR)
    assert not ok(asked, T + HOUR + 1)


def test_spread() -> None:
    """Four a day, spread, are six hours apart as well; a calendar month counts as thirty days for that."""
    asked = shown(oracle({"caps": [{"cap": "4 per day", "spread": True}]}), T)
    assert asked.eligible_at("v", "ad", T) == T + 6 * HOUR + 1
    monthly = shown(oracle({"caps": [{"cap": "4 per calendar month", "spread": True}]}), T)
    assert monthly.eligible_at("v", "ad", T) == T + 30 * DAY // 4 + 1


def test_the_next_time_waits_for_all_rules_at_once() -> None:
    """Cap, gap, hours and days together: the first moment at which all of them let go."""
    rules = {"caps": ["1 per 3 days"], "exclude": ["dismiss within 1 hour"], "hours": "08:00-21:00", "days": "mon-fri"}
    asked = shown(oracle(rules), T)  # Wednesday noon: the cap lets go on Saturday noon
    assert asked.eligible_at("v", "ad", T) == at("2026-03-09T08:00")
    asked.record("v", "dismiss", "ad", at("2026-03-09T07:30"))
    assert asked.eligible_at("v", "ad", T) == at("2026-03-09T08:30:01")


def test_what_is_required_does_not_come_by_itself() -> None:
    """An audience that was not entered, or was left, gives no next time."""
    asked = oracle({"audience": ["visit within 1 hour"], "caps": ["1 per 2 hours"]})
    assert asked.eligible_at("v", "ad", T) is None
    asked.record("v", "visit", None, T)
    assert asked.eligible_at("v", "ad", T) == T
    shown(asked, T)
    assert asked.eligible_at("v", "ad", T) is None


def test_the_oracle_is_independent() -> None:
    """It imports the parsed policy and nothing that the library decides with."""
    tree = ast.parse((Path(__file__).parent / "oracle.py").read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name for name in imported if name and name.startswith("retarget")} == {
        "retarget.events",
        "retarget.policy.grammar",
        "retarget.policy.load",
    }


@settings(max_examples=150, deadline=None)
@given(data=st.data(), rolling_only=st.booleans())
def test_the_next_time_is_the_first(data: st.DataObject, rolling_only: bool) -> None:  # noqa: FBT001
    """On any policy that the strategies make: eligible then, and at no probed moment before."""
    policy = Policy.model_validate(data.draw(policies(rolling_only=rolling_only)))
    asked = Oracle(policy)
    for event in data.draw(st.lists(events(policy), max_size=8)):
        assert event.visitor is not None
        asked.record(event.visitor, event.event, event.subject, second_of(event), event.id)
    candidate, now = data.draw(candidates(policy)), data.draw(moments())
    zone = None if rolling_only else data.draw(st.none() | st.sampled_from(ZONES))
    found = asked.eligible_at("v1", candidate, now, zone)
    if found is not None:
        assert asked.decide("v1", candidate, found, zone).eligible
    last = found if found is not None else now + 30 * DAY
    before = {*data.draw(st.lists(st.integers(now, last), max_size=20)), *range(last - 3, last), now}
    for moment in before:
        if now <= moment < last:
            assert not asked.decide("v1", candidate, moment, zone).eligible


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_claims_are_decisions_that_count(data: st.DataObject) -> None:
    """A claim takes the first candidate that `decide` allows; no cap of a campaign is ever passed."""
    policy = Policy.model_validate(data.draw(policies()))
    asked = Oracle(policy)
    offered = data.draw(st.lists(candidates(policy), min_size=1, max_size=4))
    for moment in sorted(data.draw(st.lists(st.integers(BASE, BASE + 2 * HOUR), max_size=6))):
        allowed = [candidate for candidate in offered if asked.decide("v", candidate, moment).eligible]
        assert asked.claim("v", offered, moment) == (allowed[0] if allowed else None)
