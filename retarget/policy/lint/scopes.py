"""Campaigns with the defaults filled in: what may be shown of them, when, and to whom; and which can be shown at all.

Rules:
- A campaign can be shown unless it is sure that it cannot. What only an ad server knows speaks for the campaign.
- `{campaign}` stands for those that the policy does not name: they are one scope, where the defaults let them be shown.
- Reasons are given in words; `findings` makes findings of them.
- Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from retarget.policy.grammar import NOMINAL, Condition
from retarget.policy.lint.bounds import SHORTEST, Bound, Look, Window, bounds_of, implies, lets_within, looks
from retarget.policy.models import Campaign, PolicyModel, threshold_lists
from retarget.timelines import DAY, IMPRESSION, Days, Hours, LocalTime, Opening, end_instant, in_spans, instant

NEEDS_SHOWING = (IMPRESSION, "click")
"""The events of a campaign that come only after it was shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """A campaign with the defaults filled in; `{campaign}` is the id of those that the policy does not name."""

    id: str
    rules: Campaign
    inherits: frozenset[str]
    overrides: frozenset[str]
    look: Look
    audience: list[tuple[Condition, ...]]
    exclude: list[Condition]

    def place(self, key: str) -> str:
        return f"defaults.{key}" if key in self.inherits else f"campaign.{self.id}.{key}"

    def bounds(self) -> list[Bound]:
        """What its own caps and its gap let happen."""
        if not self.rules.obeys:
            return []
        bounds = bounds_of(self.place("caps"), self.rules.caps, self.look)
        gap = self.rules.gap
        return [*bounds, Bound(self.place("gap"), gap.text, 1, Window("rolling", gap.seconds))] if gap else bounds

    def passes(self, unit: str, week_start: str) -> bool:
        """Whether it may be shown right before and right after such a period turns."""
        rules = self.rules
        if rules.start and rules.end and flight_length(rules.start, rules.end) <= NOMINAL[unit]:
            return False
        if any(condition.event == IMPRESSION for condition in rules.exclude):  # which may do what a cap does
            return False
        turns = [hour * 3_600 for hour in range(24)] if unit == "hour" else [0]
        spans = rules.hours.spans if rules.hours else ((0, DAY),)
        if not any(in_spans(spans, turn) and in_spans(spans, (turn - 1) % DAY) for turn in turns):
            return False
        days = rules.days.days if rules.days else frozenset(range(7))
        first = 6 if week_start == "sunday" else 0
        return unit == "hour" or any((day - 1) % 7 in days for day in days if unit != "week" or day == first)


def scopes_of(policy: PolicyModel) -> list[Scope]:
    """Those that the policy does not name first, where the defaults let them be shown; then each campaign."""
    given = policy.defaults.model_fields_set if policy.defaults else set()
    scopes = []
    for id_ in (*(["{campaign}"] if policy.defaults else []), *policy.campaign):
        rules = policy.rules(id_)
        own = policy.campaign[id_].model_fields_set if id_ in policy.campaign else set()
        if rules is not None:
            audience = [tuple(_named(condition, id_) for condition in clause) for clause in rules.audience]
            exclude = [_named(condition, id_) for condition in rules.exclude]
            look = looks(policy.retention.seconds, _flight(rules, policy.retention.seconds))
            scopes.append(Scope(id_, rules, frozenset(given - own), frozenset(given & own), look, audience, exclude))
    return scopes


def _named(condition: Condition, campaign: str) -> Condition:
    """The condition about this campaign. No candidate can bring another `{campaign}`, as it can any other label."""
    if condition.subject is None:
        return condition
    return replace(condition, subject=condition.subject.replace("{campaign}", campaign))


def _flight(rules: Campaign, retention: int) -> Window | None:
    """The flight as a window, with a day more than the plan gives it: a campaign may begin and end in two zones."""
    if rules.start is None:
        return None
    length = flight_length(rules.start, rules.end) + 3 * DAY if rules.end else retention + 1
    return Window("flight", min(retention, length), rules.start, length <= retention)


def flight_length(start: LocalTime, end: LocalTime) -> int:
    """How many seconds a flight lasts where the clocks never change."""
    utc = ZoneInfo("UTC")
    return end_instant(end, utc) - instant(start, utc)


# ---- What may be shown of one ----------------------------------------------------------------------------------------


def label_bounds(policy: PolicyModel, scope: Scope) -> list[Bound]:
    """What caps per label let happen of a campaign that carries the label and counts under it."""
    bounds: list[Bound] = []
    for key, caps in policy.caps.items() if scope.rules.counts else ():
        kind, _, value = key.partition(":")
        if kind in scope.rules.labels and value in ("", scope.rules.labels[kind]):
            note = f" for {kind} {scope.rules.labels[kind]!r}"
            bounds += bounds_of(f"caps.{key}", caps, scope.look, note=note)
    return bounds


def thresholds_of(policy: PolicyModel, look: Look, weight: int) -> list[list[Bound]]:
    """What each threshold lets happen of impressions that cost so many points."""
    note = f" at {weight} points each" if weight > 1 else ""
    lists = []
    for place, caps in threshold_lists(policy).items():
        bounds = bounds_of(place, caps, look, points=True, note=note)
        lists.append([b._replace(limit=b.limit // weight, points=False) if b.points else b for b in bounds])
    return lists


# ---- When one is shown -----------------------------------------------------------------------------------------------


def never_opens(policy: PolicyModel, scope: Scope) -> bool:
    """Whether hours and days are closed all through the flight. Local times are judged in UTC, which skips none."""
    rules = scope.rules
    openings: list[Opening] = [Days(rules.days.days)] if rules.days else []
    openings += [Hours(rules.hours.spans)] if rules.hours else []
    if rules.start is None or rules.end is None or not openings:
        return False
    zone = ZoneInfo(policy.timezone if is_exact(rules) else "UTC")
    at, end = instant(rules.start, zone), end_instant(rules.end, zone)
    for _ in range(100):  # it takes a few rounds; a policy that takes more gets the benefit of the doubt
        opens = [opening.next_open(at, zone) for opening in openings]
        later = max((moment for moment in opens if moment is not None), default=at)
        if None in opens or later == at < end:
            return False
        if later >= end:
            return True
        at = later
    return False


def is_exact(rules: Campaign) -> bool:
    """Whether the flight begins or ends at the same instant in every time zone."""
    return any(isinstance(moment, datetime) and moment.tzinfo is not None for moment in (rules.start, rules.end))


def is_whole_day(spans: Collection[tuple[int, int]]) -> bool:
    """Whether a new span is open wherever one ends."""
    return all(in_spans(spans, second % DAY) for second in (0, *(end for _, end in spans)))


# ---- To whom one is shown --------------------------------------------------------------------------------------------


def why_too_many(condition: Condition, look: Look, scopes: dict[str, Scope]) -> str | None:
    """Why so many impressions of a campaign of this policy never happen; None if they can."""
    if condition.event != IMPRESSION or condition.subject not in scopes:
        return None
    for bound in scopes[condition.subject].bounds():
        lets = lets_within(bound, look(condition.window))
        anywhere = lets and (lets[1] or bound.window.kind not in SHORTEST)  # also for those who change the time zone
        if lets and anywhere and lets[0] < condition.count:
            return f"{condition.text!r} is more than {bound.place} {bound.text!r} lets happen (at most {lets[0]})"
    return None


def why_impossible(
    condition: Condition, look: Look, scopes: dict[str, Scope], shown: Collection[str], blocks: dict[str, Condition]
) -> str | None:
    """Why the condition can never hold, or never without blocking; None if it can."""
    for place, block in blocks.items():
        if implies(condition, block, look):
            return f"whoever meets {condition.text!r} is blocked by {place} {block.text!r}"
    if needs(condition, scopes, shown):
        return f"{condition.text!r} needs {condition.subject!r}, which can never be shown"
    return why_too_many(condition, look, scopes)


def needs(condition: Condition, scopes: dict[str, Scope], shown: Collection[str]) -> str | None:
    """The campaign that must have been shown for the condition to hold, and that cannot be; None if there is none."""
    subject = condition.subject
    return subject if condition.event in NEEDS_SHOWING and subject in scopes and subject not in shown else None


def showable(scopes: dict[str, Scope], policy: PolicyModel) -> set[str]:
    """The campaigns that can be shown to somebody: first those that need no other, then those that need only these."""
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
    """For each clause of the audience why nobody can meet it; empty if somebody can."""
    blocks = {f"{scope.place('exclude')}[{index}]": condition for index, condition in enumerate(scope.exclude)}
    for clause in scope.audience:
        reasons = [why_impossible(condition, scope.look, scopes, shown, blocks) for condition in clause]
        yield "; ".join(dict.fromkeys(reason for reason in reasons if reason)) if all(reasons) else ""


def circle_of(scope: Scope, scopes: dict[str, Scope], shown: Collection[str]) -> list[str]:
    """The shortest way from a campaign back to itself, each needing the next; empty where there is none."""
    paths = [[scope.id]]
    seen: set[str] = set()
    for path in paths:
        for condition in (c for clause in scopes[path[-1]].audience for c in clause):
            needed = needs(condition, scopes, shown)
            if needed == scope.id:
                return [*path, needed]
            if needed and needed not in seen:
                seen.add(needed)
                paths.append([*path, needed])
    return []
