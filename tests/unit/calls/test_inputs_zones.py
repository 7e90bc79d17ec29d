"""inputs.py: time zones, by name and as fixed offsets, in every call that takes one."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retarget import InputError, MemoryStore, Policy, Retargeter
from retarget.calls.inputs import as_zone
from retarget.events import Zone
from tests.support.fixtures import Ads, Clock
from tests.support.holds import HOUR

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
POLICY = '[campaign.a]\nhours = "14:00-15:00"\n[campaign.b]\nhours = "08:00-09:00"\n[campaign.c]\nhours = "17:30-18:00"'

CALLS: dict[str, Callable[[Retargeter, Zone], str]] = {
    "decide": lambda ads, zone: str(ads.decide("v", timezone=zone).eligible[0]),
    "decide_many": lambda ads, zone: str(next(ads.decide_many(["v"], timezone=zone)).eligible[0]),
    "claim": lambda ads, zone: getattr(ads.claim("v", timezone=zone), "campaign", ""),
    "claim with a hold": lambda ads, zone: getattr(ads.claim("v", hold="day", timezone=zone), "campaign", ""),
    "claim_many": lambda ads, zone: getattr(ads.claim_many([("v", None)], timezone=zone)[0], "campaign", ""),
}

ZONES: list[tuple[Zone, str]] = [
    ("Africa/Cairo", "a"),
    (ZoneInfo("Africa/Cairo"), "a"),
    ("+02:00", "a"),
    (120, "a"),
    (timezone(timedelta(hours=2)), "a"),
    (timezone(timedelta(hours=2), "somewhere"), "a"),
    ("Etc/GMT+4", "b"),
    ("-04:00", "b"),
    (-240, "b"),
    (timezone(timedelta(hours=-4)), "b"),
    ("Asia/Kolkata", "c"),
    ("+05:30", "c"),
    (330, "c"),
    (timezone(timedelta(minutes=330)), "c"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("zone", "open_now"), ZONES, ids=[str(zone) for zone, _ in ZONES])
def test_a_zone_in_any_form_says_what_time_it_is_for_the_visitor(
    ads: Ads, clock: Clock, call: str, zone: Zone, open_now: str
) -> None:
    """Noon in UTC is 14:00, 8:00 or 17:30, and another campaign is open."""
    clock.now = int(NOW.timestamp())
    assert CALLS[call](ads(POLICY), zone) == open_now


def test_a_calendar_day_begins_where_the_visitor_is(ads: Ads, clock: Clock) -> None:
    """At UTC-04:00 the day began four hours after it did in UTC, whichever way that is written."""
    shop = ads('[campaign.a]\ncaps = ["1 per calendar day"]')
    clock.now = int(datetime(2026, 11, 10, tzinfo=UTC).timestamp()) + 4 * HOUR
    shop.record("v", "impression", "a", at=clock.now - 1)
    for zone in (-240, "-04:00", timezone(timedelta(hours=-4)), "Etc/GMT+4"):
        assert shop.decide("v", timezone=zone).eligible == ("a",)
    for zone in (-239, "-03:59", "UTC", 0, "+00:00", "-00:00"):
        again = shop.decide("v", timezone=zone)["a"].eligible_at
        assert again is not None
        local = again.astimezone(as_zone(zone))
        assert (local.hour, local.minute, local.second) == (0, 0, 0)


@given(st.integers(-720, 840))
def test_an_offset_is_the_same_zone_in_all_its_forms(east: int) -> None:
    """Minutes, text and timezone: one and the same."""
    expected = timezone(timedelta(minutes=east))
    text = f"{'-' if east < 0 else '+'}{abs(east) // 60:02}:{abs(east) % 60:02}"
    assert as_zone(east) == as_zone(text) == as_zone(expected) == expected
    assert as_zone(east).utcoffset(NOW) == timedelta(minutes=east)


class Odd(tzinfo):
    """A zone that is neither."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(hours=2)

    dst = utcoffset

    def tzname(self, _: datetime | None) -> str:
        return "Odd"


FORMS = "give an IANA name such as Europe/Zurich, an offset such as +02:00, whole minutes east of UTC such as 120, a "
RANGE = "an offset is whole minutes, from -12:00 to +14:00 (-720 to 840)"
WRONG: list[tuple[Any, str]] = [
    *[(zone, FORMS) for zone in ("Mars/Olympus", "", "europe/zurich ", "../etc/passwd", "\0", "\ud800", "x" * 10**6)],
    *[(zone, FORMS) for zone in ("2", "+2", "+2:00", "+0200", "02:00", "+02:60", "+02:00:00", " +02:00", "+02:00\n")],
    *[(zone, FORMS) for zone in ("UTC+2", "UTC+02:00", "GMT+02:00", "120", "+\u0660\u0662:00", "localtime")],
    *[(zone, FORMS) for zone in (True, False, 120.0, 1e9, float("nan"), b"UTC", ["UTC"], timedelta(hours=2), Odd())],
    *[(zone, RANGE) for zone in ("+14:01", "-12:01", "+99:00", -721, 841, 10**9, 7_200, 10**5_000)],
    *[(timezone(offset), RANGE) for offset in (timedelta(hours=15), timedelta(hours=-13), timedelta(seconds=1))],
    (timezone(timedelta(microseconds=1)), RANGE),
]


@pytest.mark.parametrize(("zone", "cure"), WRONG, ids=[f"{n}" for n in range(len(WRONG))])
def test_an_invalid_zone_is_refused(zone: Any, cure: str) -> None:
    """The message names the argument, what was given and what would be right, and stays short; nothing is written."""
    store = MemoryStore()
    shop = Retargeter(Policy.from_text(POLICY), store)
    for call in CALLS.values():
        with pytest.raises(InputError, match=rf"^timezone=.*{re.escape(cure)}") as raised:
            call(shop, zone)
        assert len(str(raised.value)) < 300
    assert len(store) == 0
