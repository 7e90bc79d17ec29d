"""Time: when something happened, what is still open, and the plan at a second.

Rules:
- `now=` and `at=` say when it happened; the clock says what is still open: whether a hold has lapsed.
- More than `SKEW` seconds ahead of the clock is an InputError, since what is written then evicts what still counts. A
  retargeter with a clock of its own has no such limit: its caller says what time it is. A decision changes nothing, and
  has none either.
- A past event is judged at its own time; with a clock of the retargeter's own, by that clock.
- Time is an argument. The clock is read once a call.
- The plan at one second in one zone is computed once, and shared by all calls of that second.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from typing import NamedTuple

from retarget.calls.inputs import as_zone, epoch_second
from retarget.engine import Plan, PlanAt
from retarget.errors import InputError
from retarget.events import When, Zone
from retarget.timelines import SKEW


class Moment(NamedTuple):
    """The second at which something happened, and the one that the clock shows."""

    second: int
    clock: int


class Clock:
    """The clock of one retargeter, and its plan at the current second. `own`: the caller supplied the clock."""

    def __init__(self, clock: Callable[[], float], *, own: bool) -> None:
        self._clock = clock
        self._own = own
        self._shared: tuple[Plan | None, int, dict[tzinfo, PlanAt]] = (None, 0, {})

    def now(self, now: When | None) -> int:
        """The second a decision is judged at: the one it gives, or the clock's. Raises InputError."""
        return int(self._clock()) if now is None else epoch_second(now, "now")

    def happened(self, given: When | None, name: str) -> Moment:
        """When something happened that is to be written. Raises InputError for an argument too far in the future."""
        clock = int(self._clock())
        if given is None:
            return Moment(clock, clock)
        second = epoch_second(given, name)
        if second > clock + SKEW and not self._own:
            raise InputError(
                f"{name}={given!r} is {second - clock:,} seconds in the future; at most {SKEW} are allowed for clock "
                "skew; for times that are not the system's, give the retargeter a clock="
            )
        return Moment(second, clock)

    def judged(self, moment: Moment) -> int:
        """The second at which an event is judged: its own, or the clock's if the caller supplied the clock."""
        return moment.clock if self._own else moment.second

    def plan_at(self, plan: Plan, now: int, timezone: Zone | None) -> PlanAt:
        """The plan at this second, in this zone or the policy's. Raises InputError for an unknown zone."""
        zone = plan.zone if timezone is None else as_zone(timezone)
        shared_plan, shared_now, by_zone = self._shared
        if shared_plan is not plan or shared_now != now:
            by_zone = {}
            self._shared = (plan, now, by_zone)
        plan_at = by_zone.get(zone)
        if plan_at is None:
            plan_at = by_zone[zone] = PlanAt(plan, now, zone)
        return plan_at
