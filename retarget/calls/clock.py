"""When a call is judged: the clock, what a caller says instead, and the plan at that second.

Rules:
- Time is an argument. The clock is asked only where a call says no time of its own.
- What a plan says at one second in one zone is worked out once, and shared by all calls of that second.
"""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

from retarget.calls.inputs import second
from retarget.engine import Plan, PlanAt
from retarget.errors import InputError
from retarget.events import When
from retarget.policy import load_zone
from retarget.timelines import SKEW


class Clock:
    """The clock and the moments of one retargeter. `own` says that the caller chose the clock."""

    def __init__(self, clock: Callable[[], float], *, own: bool) -> None:
        self._clock = clock
        self._own = own
        self._shared: tuple[Plan | None, int, dict[ZoneInfo, PlanAt]] = (None, 0, {})

    def second(self, now: When | None) -> int:
        """The second meant, or the clock's. Raises InputError."""
        return int(self._clock()) if now is None else second(now, "now")

    def judged(self, at: When | None) -> tuple[int, int]:
        """The second of an event, and the one it is judged by: the clock's, or its own where the clock is not asked.

        Raises InputError for a moment further ahead of the clock than skew explains.
        """
        clock = int(self._clock())
        if at is None:
            return clock, clock
        moment = second(at, "at")
        if moment > clock + SKEW:
            raise InputError(
                f"at={at!r} is {moment - clock} seconds in the future; at most {SKEW} are taken for clock skew"
            )
        return moment, clock if self._own else moment

    def at(self, plan: Plan, now: int, timezone: str | ZoneInfo | None) -> PlanAt:
        """The plan at this second. Raises InputError for a zone that is none."""
        zone = plan.zone if timezone is None else _zone(timezone)
        cached_plan, cached_now, by_zone = self._shared
        if cached_plan is not plan or cached_now != now:
            by_zone = {}
            self._shared = (plan, now, by_zone)
        moment = by_zone.get(zone)
        if moment is None:
            moment = by_zone[zone] = PlanAt(plan, now, zone)
        return moment


def _zone(timezone: str | ZoneInfo) -> ZoneInfo:
    if isinstance(timezone, ZoneInfo):
        return timezone
    try:
        return load_zone(timezone)
    except ValueError as error:
        raise InputError(f"timezone: {error}") from error
