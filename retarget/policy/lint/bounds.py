"""Bounds and lookbacks: how far windows look back, and what one rule allows of what another limits.

Rules:
- One rule implies another only if that is certain, at every moment and in every time zone: a local day may be hours
  longer or shorter than 24 hours.
- `always` means: whatever has happened before. Otherwise it holds for a history that the rules themselves allow.
- Nothing here knows a policy or a campaign, and nothing words a finding: that is `findings`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from retarget.policy.grammar import Cap, Condition, Span
from retarget.timelines import DAY, SESSION_AT_MOST, Calendar, LocalTime

SHORTEST = {"day": DAY - 7_200, "week": 7 * DAY - 7_200, "month": 28 * DAY - 7_200}
"""The shortest length of each calendar period, in seconds, for a visitor who stays in one time zone."""

_PARTS = {"day": {"hour"}, "week": {"hour", "day"}, "month": {"hour", "day"}}
"""The calendar periods that lie wholly within each calendar period."""

# ---- Lookbacks: which window looks back at least as far as which -----------------------------------------------------


Topic: TypeAlias = tuple[str, str | None]
"""What a condition asks about: an event, and its subject, None for any."""


def anchor_of(span: Span) -> Topic:
    """The event at which a `since` window begins."""
    return span.event or "", span.subject


def named(topic: Topic, campaign: str) -> Topic:
    """The topic with `{campaign}` filled in: unlike other labels, no candidate can carry another value for it."""
    event, subject = topic
    return event, subject and subject.replace("{campaign}", campaign)


class Lookback(NamedTuple):
    """How far a window looks back: at most `seconds`; if rolling, exactly that.

    A flight also has its `start` (None: unknown), and is `whole` if `seconds` always reaches back to it. A window that
    begins at an event has that one as `anchor`.
    """

    kind: str
    seconds: int
    start: LocalTime | None = None
    whole: bool = False
    anchor: Topic | None = None


LookbackOf: TypeAlias = Callable[[Span | None], Lookback]
"""The lookback of a window as written; None stands for no window."""


def lookbacks(retention: int, flight: Lookback | None = None, campaign: str = "{campaign}") -> LookbackOf:
    """The lookbacks of a policy with this retention, in seconds, for a campaign with this id and this flight.

    No window, `lifetime` and a flight without a start all look back as far as the retention. So does a window that
    begins at an event, if that never happened.
    """
    remembered = Lookback("rolling", retention)

    def lookback(span: Span | None) -> Lookback:
        period = span.period if span else "lifetime"
        if span is None or period == "lifetime":
            return remembered
        if period == "rolling":
            return Lookback("rolling", span.seconds)
        if period == "flight":
            return flight or remembered
        if period == "since":
            return Lookback("since", retention, anchor=named(anchor_of(span), campaign))
        return Lookback(period, SESSION_AT_MOST if period == "session" else Calendar(period).horizon - 1)

    return lookback


def _covers(outer: Lookback, inner: Lookback) -> bool:
    """Whether `outer` starts no later than `inner` at every moment, in every time zone."""
    if outer.kind == "rolling":
        return outer.seconds >= inner.seconds
    return outer == inner or inner.kind in _PARTS.get(outer.kind, ())


# ---- Bounds: what a cap, a gap or a threshold allows -----------------------------------------------------------------


class Bound(NamedTuple):
    """At most `limit` impressions, or points if `points`, within the window; `note` says for whom that is."""

    place: str
    text: str
    limit: int
    window: Lookback
    points: bool = False
    note: str = ""


class Dominance(NamedTuple):
    """Why a bound is redundant: the bound that dominates it, and how many that one allows within its window."""

    by: Bound
    allowed: int
    always: bool


def bounds_of(
    place: str, caps: Iterable[Cap], lookback: LookbackOf, *, points: bool = False, note: str = ""
) -> list[Bound]:
    """The bounds of a list of caps; a spread cap gives a second one, for its spacing."""
    bounds = []
    for index, cap in enumerate(caps):
        bounds.append(Bound(f"{place}[{index}]", cap.text, cap.limit, lookback(cap.window), points, note))
        if cap.spread:
            text = f"{cap.text}, spread"
            bounds.append(Bound(f"{place}[{index}]", text, 1, Lookback("rolling", cap.spacing), note=note))
    return bounds


def allowed_within(bound: Bound, window: Lookback) -> tuple[int, bool] | None:
    """How many the bound allows within the window, and whether always; None if it sets no limit there."""
    outer = bound.window
    if _covers(outer, window):
        return bound.limit, True
    if outer.kind == "rolling":  # both ends of a window count: W seconds back are W + 1 moments
        return bound.limit * -(-(window.seconds + 1) // (outer.seconds + 1)), False
    if outer.kind in SHORTEST:  # the whole periods that fit in the window, and a part of one at either end
        return bound.limit * (window.seconds // SHORTEST[outer.kind] + 2), False
    if outer.start is not None and (outer.whole or window.seconds <= outer.seconds):  # nothing is shown before start
        return bound.limit, False
    return None


def _dominance(bound: Bound, others: Iterable[Bound], *, always: bool = False) -> Dominance | None:
    """The most convincing of the others that make this bound redundant."""
    found = []
    for other in others:
        allowed = allowed_within(other, bound.window)
        if allowed and allowed[0] <= bound.limit and allowed[1] >= always and other.points >= bound.points:
            found.append(Dominance(other, *allowed))
    return min(found, key=lambda dominance: (not dominance.always, dominance.allowed), default=None)


def redundant_places(
    group: list[Bound], above: list[Bound], thresholds: list[list[Bound]], *, always: bool = False
) -> dict[str, tuple[Bound, Dominance]]:
    """The places of a group all of whose bounds are redundant, and why: because of others of the group, of those
    above it, or of every threshold.
    """

    def why(index: int, bound: Bound) -> Dominance | None:
        rest = [*above]
        for position, other in enumerate(group):
            if other.place != bound.place and not _outlasts(bound, other, first=index < position):
                rest.append(other)
        if (dominance := _dominance(bound, rest, always=always)) or not thresholds:
            return dominance
        # With several thresholds a visitor may come from another segment, with a history that this one does not bound.
        certain = always or len(thresholds) > 1
        dominances = [_dominance(bound, threshold, always=certain) for threshold in thresholds]
        return dominances[-1] if all(dominances) else None

    redundant: dict[str, tuple[Bound, Dominance]] = {}
    for place in dict.fromkeys(bound.place for bound in group):
        found = [(bound, why(index, bound)) for index, bound in enumerate(group) if bound.place == place]
        if all(dominance for _, dominance in found):
            redundant[place] = next((bound, dominance) for bound, dominance in found if dominance)
    return redundant


def _outlasts(bound: Bound, other: Bound, *, first: bool) -> bool:
    """Whether two bounds make each other redundant and this one is to stay; `first`: it is written before the other."""
    here, there = _dominance(bound, [other]), _dominance(other, [bound])
    if here is None or there is None:
        return False
    dominates_more = there.always and not here.always
    as_much_and_first = there.always == here.always and first
    return dominates_more or as_much_and_first


def allows_twice(bound: Bound, others: Iterable[Bound]) -> bool:
    """Whether the others let a calendar bound be used up just before its period ends and again just after."""
    renewed = {bound.window.kind, *_PARTS.get(bound.window.kind, ())}  # the periods that end at that moment too
    return all(other.limit * (1 + (other.window.kind in renewed)) >= 2 * bound.limit for other in others)


# ---- Conditions: which one implies which -----------------------------------------------------------------------------


def implies(one: Condition, other: Condition, lookback: LookbackOf) -> bool:
    """Whether `one` implies `other`."""
    return (
        one.event == other.event
        and other.subject in (one.subject, None)
        and other.count <= one.count
        and _covers(lookback(other.window), lookback(one.window))
    )


def clause_implies(clause: Iterable[Condition], other: Iterable[Condition], lookback: LookbackOf) -> bool:
    """Whether the clause implies the other one: each of its alternatives implies an alternative of the other."""
    return all(any(implies(one, two, lookback) for two in other) for one in clause)


_EACH = ""
"""Stands for every subject, where clauses are looked up by what they ask: no subject is empty."""


def topics(condition: Condition) -> tuple[Topic, ...]:
    """What conditions ask that this one may imply."""
    return including((condition.event, condition.subject))


def including(topic: Topic) -> tuple[Topic, ...]:
    """The topics that every event of this one belongs to: itself, and any subject."""
    event, subject = topic
    return ((event, None),) if subject is None else (topic, (event, None))


def counts_nothing(topic: Topic, window: Lookback) -> bool:
    """Whether what is counted is never newer than where its window begins: at the newest of the same, or of more."""
    return window.anchor in including(topic)


class Clauses:
    """A list of clauses by what they ask: which of them may imply which, without comparing each with each."""

    def __init__(self, clauses: Iterable[Iterable[Condition]]) -> None:
        self._asking: dict[Topic, list[int]] = {}
        self._first: dict[Topic, list[int]] = {}
        for position, clause in enumerate(clauses):
            for index, condition in enumerate(clause):
                self._asking.setdefault((condition.event, condition.subject), []).append(position)
                if index == 0:
                    for subject in (condition.subject, _EACH):
                        self._first.setdefault((condition.event, subject), []).append(position)

    def implied_by(self, clause: Iterable[Condition]) -> list[int]:
        """The positions of clauses that this one may imply, in order: its first alternative implies one of theirs."""
        first = next(iter(clause))
        return sorted({position for topic in topics(first) for position in self._asking.get(topic, ())})

    def implying(self, clause: Iterable[Condition]) -> list[int]:
        """The positions of clauses that may imply this one, in order: their first alternative implies one of its."""
        found: set[int] = set()
        for condition in clause:
            found.update(self._first.get((condition.event, condition.subject or _EACH), ()))
        return sorted(found)
