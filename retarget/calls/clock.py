"""The time that a call is judged at: the clock's or the caller's, and the plan at that second.

Rules:
- Time is an argument. The clock is read only where a call gives no time, and to tell how far in the future an event is.
- The plan at one second in one zone is computed once, and shared by all calls of that second.
"""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

from retarget.calls.inputs import epoch_second
from retarget.engine import Plan, PlanAt
from retarget.errors import InputError
from retarget.events import When
from retarget.policy import load_zone
from retarget.timelines import SKEW


class Clock:
    """The clock of one retargeter, and its plan at the current second. `own`: the caller supplied the clock."""

    def __init__(self, clock: Callable[[], float], *, own: bool) -> None:
        self._clock = clock
        self._own = own
        self._shared: tuple[Plan | None, int, dict[ZoneInfo, PlanAt]] = (None, 0, {})

    def now(self, now: When | None) -> int:
        """The second a call is judged at: the one it gives, or the clock's. Raises InputError."""
        return int(self._clock()) if now is None else epoch_second(now, "now")

    def event_time(self, at: When | None) -> tuple[int, int]:
        """An event's second, and the one it is judged at: its own, or the clock's if the caller supplied the clock.

        Raises InputError for an event further in the future than clock skew explains.
        """
        clock = int(self._clock())
        if at is None:
            return clock, clock
        second = epoch_second(at, "at")
        if second > clock + SKEW:
            raise InputError(
                f"at={at!r} is {second - clock} seconds in the future; at most {SKEW} are allowed for clock skew"
            )
        return second, clock if self._own else second

    def plan_at(self, plan: Plan, now: int, timezone: str | ZoneInfo | None) -> PlanAt:
        """The plan at this second, in this zone or the policy's. Raises InputError for an unknown zone."""
        zone = plan.zone if timezone is None else _zone(timezone)
        shared_plan, shared_now, by_zone = self._shared
        if shared_plan is not plan or shared_now != now:
            by_zone = {}
            self._shared = (plan, now, by_zone)
        plan_at = by_zone.get(zone)
        if plan_at is None:
            plan_at = by_zone[zone] = PlanAt(plan, now, zone)
        return plan_at


def _zone(timezone: str | ZoneInfo) -> ZoneInfo:
    if isinstance(timezone, ZoneInfo):
        return timezone
    try:
        return load_zone(timezone)
    except ValueError as error:
        raise InputError(f"timezone: {error}") from error
