"""Campaigns with defaults applied: caps, schedule, audience, reachability.

Rules:
- A campaign can be shown unless it is certain that it cannot. What only the ad server knows is assumed to be true.
- The campaigns that the policy does not name are one scope, `{campaign}`, if [defaults] allow them.
- Reasons are returned as text; `findings` makes findings of them.
- Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias
from zoneinfo import ZoneInfo

from retarget.policy.grammar import NOMINAL, Condition
from retarget.policy.lint.bounds import (
    SHORTEST,
    Bound,
    Lookback,
    LookbackOf,
    Topic,
    allowed_within,
    bounds_of,
    counts_nothing,
    implies,
    lookbacks,
    named,
    topics,
)
from retarget.policy.models import Campaign, PolicyModel, threshold_lists
from retarget.timelines import DAY, IMPRESSION, Days, Hours, LocalTime, Opening, end_instant, in_spans, instant

NEEDS_SHOWING = (IMPRESSION, "click")
"""The events that a campaign can only have once it has been shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """A campaign with defaults applied; `{campaign}` is the id of those that the policy does not name.

    `inherits` are the keys it takes from [defaults], `overrides` those it sets although [defaults] has them.
    """

    id: str
    rules: Campaign
    inherits: frozenset[str]
    overrides: frozenset[str]
    lookback: LookbackOf
    audience: list[tuple[Condition, ...]]
    exclude: list[Condition]

    def place(self, key: str) -> str:
        """Where the policy sets this key of the campaign."""
        return f"defaults.{key}" if key in self.inherits else f"campaign.{self.id}.{key}"

    def bounds(self) -> list[Bound]:
        """The bounds of its own caps and gap."""
        if not self.rules.obeys:
            return []
        bounds = bounds_of(self.place("caps"), self.rules.caps, self.lookback)
        gap = self.rules.gap
        return [*bounds, Bound(self.place("gap"), gap.text, 1, Lookback("rolling", gap.seconds))] if gap else bounds

    def is_open_across(self, unit: str, week_start: str) -> bool:
        """Whether it may be shown just before a calendar period of this unit ends and again just after."""
        rules = self.rules
        if rules.start and rules.end and flight_length(rules.start, rules.end) <= NOMINAL[unit]:
            return False
        if any(condition.event == IMPRESSION for condition in rules.exclude):  # may act as a cap
            return False
        starts = [hour * 3_600 for hour in range(24)] if unit == "hour" else [0]
        spans = rules.hours.spans if rules.hours else ((0, DAY),)
        if not any(in_spans(spans, start) and in_spans(spans, (start - 1) % DAY) for start in starts):
            return False
        days = rules.days.days if rules.days else frozenset(range(7))
        first = 6 if week_start == "sunday" else 0
        return unit == "hour" or any((day - 1) % 7 in days for day in days if unit != "week" or day == first)


def scopes_of(policy: PolicyModel) -> list[Scope]:
    """The scope of campaigns that the policy does not name, if [defaults] allow them; then one per campaign."""
    given = policy.defaults.model_fields_set if policy.defaults else set()
    scopes = []
    for id_ in (*(["{campaign}"] if policy.defaults else []), *policy.campaign):
        rules = policy.rules(id_)
        own = policy.campaign[id_].model_fields_set if id_ in policy.campaign else set()
        if rules is not None:
            audience = [tuple(_named(condition, id_) for condition in clause) for clause in rules.audience]
            exclude = [_named(condition, id_) for condition in rules.exclude]
            lookback = lookbacks(policy.retention.seconds, _flight(rules, policy.retention.seconds), id_)
            inherits, overrides = frozenset(given - own), frozenset(given & own)
            scopes.append(Scope(id_, rules, inherits, overrides, lookback, audience, exclude))
    return scopes


def _named(condition: Condition, campaign: str) -> Condition:
    """The condition with `{campaign}` filled in; in its window that is done by its lookback."""
    return replace(condition, subject=named((condition.event, condition.subject), campaign)[1])


def _flight(rules: Campaign, retention: int) -> Lookback | None:
    """The lookback of the flight, a day longer than the plan's: it may start and end in different time zones."""
    if rules.start is None:
        return None
    length = flight_length(rules.start, rules.end) + 3 * DAY if rules.end else retention + 1
    return Lookback("flight", min(retention, length), rules.start, length <= retention)


def flight_length(start: LocalTime, end: LocalTime) -> int:
    """The length of a flight in seconds, without clock changes."""
    utc = ZoneInfo("UTC")
    return end_instant(end, utc) - instant(start, utc)


# ---- Caps ------------------------------------------------------------------------------------------------------------


def label_bounds(policy: PolicyModel, scope: Scope) -> list[Bound]:
    """The bounds of the label caps that count the campaign's impressions."""
    bounds: list[Bound] = []
    for kind, value in scope.rules.labels.items() if scope.rules.counts else ():
        for key in (kind, f"{kind}:{value}"):
            caps = policy.caps.get(key, [])
            bounds += bounds_of(f"caps.{key}", caps, scope.lookback, note=f" for {kind} {value!r}")
    return bounds


def thresholds_of(policy: PolicyModel, lookback: LookbackOf, points: int) -> list[list[Bound]]:
    """The bounds of each threshold on impressions of `points` points each, the general threshold last."""
    note = f" at {points} points each" if points > 1 else ""
    lists = []
    for place, caps in threshold_lists(policy).items():
        bounds = bounds_of(place, caps, lookback, points=True, note=note)
        lists.append([b._replace(limit=b.limit // points, points=False) if b.points else b for b in bounds])
    return lists


# ---- Schedule --------------------------------------------------------------------------------------------------------


def never_opens(policy: PolicyModel, scope: Scope) -> bool:
    """Whether hours and days are closed throughout the flight. Local times are judged in UTC, which skips none."""
    rules = scope.rules
    openings: list[Opening] = [Days(rules.days.days)] if rules.days else []
    openings += [Hours(rules.hours.spans)] if rules.hours else []
    if rules.start is None or rules.end is None or not openings:
        return False
    zone = ZoneInfo(policy.timezone if is_exact(rules) else "UTC")
    at, end = instant(rules.start, zone), end_instant(rules.end, zone)
    for _ in range(100):  # a few rounds are enough; a policy that needs more is taken to open
        opens = [opening.next_open(at, zone) for opening in openings]
        later = max((moment for moment in opens if moment is not None), default=at)
        if None in opens or later == at < end:
            return False
        if later >= end:
            return True
        at = later
    return False


def is_exact(rules: Campaign) -> bool:
    """Whether the flight starts or ends at the same instant in every time zone."""
    return any(isinstance(moment, datetime) and moment.tzinfo is not None for moment in (rules.start, rules.end))


def is_whole_day(spans: Collection[tuple[int, int]]) -> bool:
    """Whether the spans leave no gap: another span is open wherever one ends."""
    return all(in_spans(spans, second % DAY) for second in (0, *(end for _, end in spans)))


# ---- Audience and reachability ---------------------------------------------------------------------------------------


def why_too_many(condition: Condition, lookback: LookbackOf, scopes: dict[str, Scope]) -> str | None:
    """Why the condition asks for more impressions than the campaign's own caps allow; None if it does not."""
    if condition.event != IMPRESSION or condition.subject not in scopes:
        return None
    for bound in scopes[condition.subject].bounds():
        if (allowed := allowed_within(bound, lookback(condition.window))) is None:
            continue
        most, always = allowed
        in_any_zone = always or bound.window.kind not in SHORTEST  # also for a visitor who changes time zones
        if in_any_zone and most < condition.count:
            return f"{condition.text!r} is more than {bound.place} {bound.text!r} allows (at most {most})"
    return None


Blocks: TypeAlias = dict[Topic, list[tuple[str, Condition]]]
"""Exclusions with their places, by what they ask."""


def blocks_of(scope: Scope) -> Blocks:
    """The campaign's exclusions."""
    blocks: Blocks = {}
    for index, condition in enumerate(scope.exclude):
        found = blocks.setdefault((condition.event, condition.subject), [])
        found.append((f"{scope.place('exclude')}[{index}]", condition))
    return blocks


def why_impossible(
    condition: Condition,
    lookback: LookbackOf,
    scopes: dict[str, Scope],
    shown: Collection[str],
    blocks: Blocks,
) -> str | None:
    """Why the condition can never hold, or never without an exclusion blocking; None if it can."""
    for place, block in (found for topic in topics(condition) for found in blocks.get(topic, ())):
        if implies(condition, block, lookback):
            return f"every visitor who meets {condition.text!r} is blocked by {place} {block.text!r}"
    if condition.event != IMPRESSION and counts_nothing(topics(condition)[0], lookback(condition.window)):
        return f"{condition.text!r} counts nothing: its window begins at the newest of what it counts"
    if needs(condition, scopes, shown):
        return f"{condition.text!r} needs {condition.subject!r}, which can never be shown"
    return why_too_many(condition, lookback, scopes)


def needs(condition: Condition, scopes: dict[str, Scope], shown: Collection[str]) -> str | None:
    """The campaign that must have been shown for the condition to hold and cannot be shown; None if there is none."""
    return condition.subject if never_happens((condition.event, condition.subject), scopes, shown) else None


def never_happens(topic: Topic, scopes: dict[str, Scope], shown: Collection[str]) -> bool:
    """Whether it is an event that a campaign can only have once it has been shown, of one that cannot be."""
    event, subject = topic
    return event in NEEDS_SHOWING and subject in scopes and subject not in shown


def showable(scopes: dict[str, Scope], policy: PolicyModel) -> set[str]:
    """The campaigns that can be shown to some visitor.

    A work list: whenever a campaign is found to be showable, those that need it are looked at again.
    """
    shown: set[str] = set()
    waiting: dict[str | None, list[Scope]] = {}
    for scope in scopes.values():
        for needed in {needs(condition, scopes, ()) for clause in scope.audience for condition in clause}:
            waiting.setdefault(needed, []).append(scope)
    queue = list(scopes.values())
    for scope in queue:
        opens = is_exact(scope.rules) or not never_opens(policy, scope)
        if scope.id not in shown and opens and not any(closed_clauses(scope, scopes, shown)):
            shown.add(scope.id)
            queue += waiting.get(scope.id, [])
    return shown


def closed_clauses(scope: Scope, scopes: dict[str, Scope], shown: Collection[str]) -> Iterator[str]:
    """For each clause of the audience, why no visitor can meet it; empty text if one can."""
    blocks = blocks_of(scope) if scope.audience else {}
    for clause in scope.audience:
        reasons = [why_impossible(condition, scope.lookback, scopes, shown, blocks) for condition in clause]
        yield "; ".join(dict.fromkeys(reason for reason in reasons if reason)) if all(reasons) else ""


_MOST_IN_CIRCLE = 20
"""In larger groups of campaigns that need each other no shortest circle is searched for."""


def circles_of(scopes: dict[str, Scope], shown: Collection[str]) -> dict[str, list[str]]:
    """For each campaign that can only be shown after it has been shown, a path from it back to it.

    In a path each campaign needs the next; a long one is cut short.
    """
    needed = {
        id_: list(dict.fromkeys(need for c in _asked(scope) if (need := needs(c, scopes, shown))))
        for id_, scope in scopes.items()
        if id_ not in shown
    }
    paths = {}
    for group in _groups(needed):
        for id_ in group:
            inside = [need for need in needed[id_] if need in group]
            if len(group) <= _MOST_IN_CIRCLE and inside:
                paths[id_] = _circle(id_, {member: needed[member] for member in group})
            elif inside:
                paths[id_] = [id_, inside[0], "...", id_]
    return paths


def _asked(scope: Scope) -> Iterator[Condition]:
    return (condition for clause in scope.audience for condition in clause)


def _circle(start: str, needed: dict[str, list[str]]) -> list[str]:
    """The shortest path from a campaign back to itself, among these."""
    paths = [[start]]
    seen: set[str] = set()
    for path in paths:
        for need in needed[path[-1]]:
            if need == start:
                return [*path, need]
            if need in needed and need not in seen:
                seen.add(need)
                paths.append([*path, need])
    return []


def _groups(needed: dict[str, list[str]]) -> list[set[str]]:
    """The campaigns that need each other, directly or not: strongly connected components, by Tarjan's algorithm.

    Without recursion: a journey may be longer than Python's stack.
    """
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: dict[str, None] = {}
    groups: list[set[str]] = []
    for start in needed:
        work = [(start, iter(needed[start]))] if start not in number else []
        while work:
            id_, rest = work[-1]
            if id_ not in number:
                number[id_] = lowest[id_] = len(number)
                waiting[id_] = None
            for need in rest:
                if need not in needed:
                    continue
                if need not in number:
                    work.append((need, iter(needed[need])))
                    break
                if need in waiting:
                    lowest[id_] = min(lowest[id_], number[need])
            else:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[id_])
                if lowest[id_] == number[id_]:
                    group: set[str] = set()
                    while id_ not in group:
                        group.add(waiting.popitem()[0])
                    groups.append(group)
    return groups
