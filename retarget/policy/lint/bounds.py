"""Windows and bounds: which window looks back as far as which, and what one rule lets happen of what another forbids.

Rules:
- Where it is not sure that one implies the other, it does not.
- "Sure" holds whatever has happened before; the rest holds for what the rules themselves let happen.
- Windows are compared for every moment and every time zone: a local day may be hours longer or shorter than 24 hours.
- Nothing here knows a policy or a campaign, and nothing says what to do about it: `findings` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from retarget.policy.grammar import Cap, Condition, Span
from retarget.timelines import DAY, SESSION_AT_MOST, Calendar, LocalTime

SHORTEST = {"day": DAY - 7_200, "week": 7 * DAY - 7_200, "month": 28 * DAY - 7_200}
"""How many seconds a calendar period is taken to have at least, for whoever stays in one time zone."""

_PARTS = {"day": {"hour"}, "week": {"hour", "day"}, "month": {"hour", "day"}}

# ---- Windows: which looks back at least as far as which --------------------------------------------------------------


class Window(NamedTuple):
    """A window for comparing: it begins at most `reach` seconds ago. A rolling one begins exactly then.

    A flight has the start that it begins with (None: not known), and is `whole` if it never reaches back in vain.
    """

    kind: str
    reach: int
    start: LocalTime | None = None
    whole: bool = False


Look: TypeAlias = Callable[[Span | None], Window]


def looks(retention: int, flight: Window | None = None) -> Look:
    """How spans become windows. None is "no window" and, like lifetime and a flight without a start, the retention."""
    remembered = Window("rolling", retention)

    def look(span: Span | None) -> Window:
        period = span.period if span else "lifetime"
        if span is None or period == "lifetime":
            return remembered
        if period == "rolling":
            return Window("rolling", span.seconds)
        if period == "flight":
            return flight or remembered
        return Window(period, SESSION_AT_MOST if period == "session" else Calendar(period).horizon - 1)

    return look


def _covers(outer: Window, inner: Window) -> bool:
    """Whether the outer one begins no later than the inner one at every moment, in every time zone."""
    if outer.kind == "rolling":
        return outer.reach >= inner.reach
    return outer == inner or inner.kind in _PARTS.get(outer.kind, ())


# ---- Bounds: what a cap, a gap or a threshold lets happen ------------------------------------------------------------


class Bound(NamedTuple):
    """At most `limit` impressions (or points) within the window, as written at `place`; `note`: for whom."""

    place: str
    text: str
    limit: int
    window: Window
    points: bool = False
    note: str = ""


class Kill(NamedTuple):
    """Why a bound is idle: the other one, how many that lets happen, and whether whatever else has happened."""

    other: Bound
    most: int
    sure: bool


def bounds_of(place: str, caps: Iterable[Cap], look: Look, *, points: bool = False, note: str = "") -> list[Bound]:
    """What the caps of one list say; one that is spread also sets its impressions apart."""
    bounds = []
    for index, cap in enumerate(caps):
        bounds.append(Bound(f"{place}[{index}]", cap.text, cap.limit, look(cap.window), points, note))
        if cap.spread:
            text = f"{cap.text}, spread"
            bounds.append(Bound(f"{place}[{index}]", text, 1, Window("rolling", cap.spacing), note=note))
    return bounds


def lets_within(bound: Bound, window: Window) -> tuple[int, bool] | None:
    """How many the bound lets happen within the window, and whether that holds whatever has happened before."""
    outer = bound.window
    if _covers(outer, window):
        return bound.limit, True
    if outer.kind == "rolling":  # both ends of a window count: W seconds back are W + 1 moments
        return bound.limit * -(-(window.reach + 1) // (outer.reach + 1)), False
    if outer.kind in SHORTEST:  # so many whole periods, and a part of one at either end
        return bound.limit * (window.reach // SHORTEST[outer.kind] + 2), False
    if outer.start is not None and (outer.whole or window.reach <= outer.reach):  # nothing is shown before the start
        return bound.limit, False
    return None


def _kill(bound: Bound, others: Iterable[Bound], *, sure: bool = False) -> Kill | None:
    """The other bound that makes this one idle, the plainest first."""
    kills = []
    for other in others:
        lets = lets_within(other, bound.window)
        if lets and lets[0] <= bound.limit and lets[1] >= sure and other.points >= bound.points:
            kills.append(Kill(other, *lets))
    return min(kills, key=lambda kill: (not kill.sure, kill.most), default=None)


def idle_places(
    group: list[Bound], above: list[Bound], thresholds: list[list[Bound]], *, sure: bool = False
) -> dict[str, tuple[Bound, Kill]]:
    """The places of a group whose bounds are all idle, and why: by others of the group, by those above it, or by every
    threshold. Of two that make each other idle the surer stays, or else the first.
    """

    def why(index: int, bound: Bound) -> Kill | None:
        rest = list(above)
        for position, other in enumerate(group):
            kill, back = _kill(bound, [other]), _kill(other, [bound])
            stays = kill and back and (back.sure, position > index) > (kill.sure, position < index)
            if other.place != bound.place and not stays:
                rest.append(other)
        if (kill := _kill(bound, rest, sure=sure)) or not thresholds:
            return kill
        # A visitor may have come from another segment: her history then knows no threshold but the one in force.
        kills = [_kill(bound, threshold, sure=sure or len(thresholds) > 1) for threshold in thresholds]
        return kills[-1] if all(kills) else None

    idle: dict[str, tuple[Bound, Kill]] = {}
    for place in dict.fromkeys(bound.place for bound in group):
        found = [(bound, why(index, bound)) for index, bound in enumerate(group) if bound.place == place]
        if all(kill for _, kill in found):
            idle[place] = next((bound, kill) for bound, kill in found if kill)
    return idle


def comes_twice(bound: Bound, others: Iterable[Bound]) -> bool:
    """Whether a calendar bound can be used up just before its period turns and again just after, for all the others."""
    renewed = {bound.window.kind, *_PARTS.get(bound.window.kind, ())}  # these turn at the same moment
    return all(other.limit * (1 + (other.window.kind in renewed)) >= 2 * bound.limit for other in others)


# ---- Conditions: which holds wherever which does ---------------------------------------------------------------------


def implies(one: Condition, other: Condition, look: Look) -> bool:
    """Whether the other holds wherever the one does."""
    return (
        one.event == other.event
        and other.subject in (one.subject, None)
        and other.count <= one.count
        and _covers(look(other.window), look(one.window))
    )


def follows(clause: Iterable[Condition], other: Iterable[Condition], look: Look) -> bool:
    """Whether the other clause holds wherever this one does: each alternative of this one implies one of the other."""
    return all(any(implies(one, two, look) for two in other) for one in clause)
