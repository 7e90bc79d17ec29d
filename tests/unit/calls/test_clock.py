"""clock.py: which second a call is judged at, and the plan at that second, shared."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from retarget import InputError, Policy
from retarget.calls.clock import Clock
from retarget.engine import Plan

NOW = 1_795_600_000
PLAN = Plan(Policy.from_text('timezone = "Europe/Zurich"\n[campaign.a]\nhours = "08:00-09:00"'))


def test_a_call_is_judged_at_its_own_time_or_the_clocks() -> None:
    """Floored to the second; an aware datetime and epoch seconds mean the same."""
    clock = Clock(lambda: NOW + 0.9, own=False)
    assert clock.now(None) == NOW
    assert clock.now(NOW - 5.5) == NOW - 6
    assert clock.now(datetime.fromtimestamp(NOW - 7, UTC)) == NOW - 7


@pytest.mark.parametrize(
    ("own", "at", "expected"),
    [
        (False, None, (NOW, NOW)),
        (True, None, (NOW, NOW)),
        (False, NOW - 100, (NOW - 100, NOW - 100)),
        (True, NOW - 100, (NOW - 100, NOW)),
        (False, NOW + 300, (NOW + 300, NOW + 300)),
        (True, NOW + 300, (NOW + 300, NOW)),
    ],
)
def test_a_past_event_is_judged_at_its_own_time_unless_a_clock_was_given(
    *, own: bool, at: int | None, expected: tuple[int, int]
) -> None:
    """Its second, and the one it is judged at."""
    assert Clock(lambda: NOW, own=own).event_time(at) == expected


def test_an_event_too_far_in_the_future_is_refused() -> None:
    """More than 300 seconds ahead of the clock: an error that says how many."""
    with pytest.raises(InputError, match=r"^at=1795600301 is 301 seconds in the future; at most 300"):
        Clock(lambda: NOW, own=False).event_time(NOW + 301)


def test_the_plan_at_a_second_is_computed_once() -> None:
    """Shared by the calls of that second, one for each zone; another second or another plan has its own."""
    clock = Clock(lambda: NOW, own=False)
    first = clock.plan_at(PLAN, NOW, None)
    assert clock.plan_at(PLAN, NOW, "Europe/Zurich") is clock.plan_at(PLAN, NOW, ZoneInfo("Europe/Zurich")) is first
    assert (first.now, first.zone) == (NOW, ZoneInfo("Europe/Zurich"))
    other_zone = clock.plan_at(PLAN, NOW, "Asia/Tokyo")
    assert other_zone is not first
    assert clock.plan_at(PLAN, NOW, None) is first
    other_second = clock.plan_at(PLAN, NOW + 1, None)
    assert other_second.now == NOW + 1
    other_plan = clock.plan_at(Plan(PLAN.policy), NOW + 1, None)
    assert other_plan is not other_second


def test_an_unknown_zone_is_refused() -> None:
    """The message names the argument."""
    with pytest.raises(InputError, match=r"^timezone: "):
        Clock(lambda: NOW, own=False).plan_at(PLAN, NOW, "Mars/Olympus")
