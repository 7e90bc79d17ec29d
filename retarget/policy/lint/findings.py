"""What is unsound in a policy that loads: rules that never bind, audiences nobody can enter, words nobody else knows.

Rules:
- A finding is true, or says for whom it is true. Where that is not sure, there is none.
- "Never binds" holds whatever has happened. "Never reached" holds for what this very policy lets be shown.
- What a candidate may bring along (labels) or a log may have (events) is unknown, not wrong: only near misses are told.
- A fault of [defaults] is told once, if it shows in every campaign that takes the rule over; an error that shows in
  some is told of each of those.
- What implies what is reckoned in `bounds`, and who can be shown what in `scopes`: here it is told.
- Nothing here reads a clock.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from retarget.policy.grammar import Cap, Condition, Duration, Span, labels_in
from retarget.policy.lint.bounds import (
    SHORTEST,
    Bound,
    Kill,
    Look,
    Window,
    bounds_of,
    comes_twice,
    follows,
    idle_places,
    looks,
)
from retarget.policy.lint.scopes import (
    NEEDS_SHOWING,
    Scope,
    circle_of,
    closed_clauses,
    flight_length,
    is_exact,
    is_whole_day,
    label_bounds,
    needs,
    never_opens,
    scopes_of,
    showable,
    thresholds_of,
    why_impossible,
    why_too_many,
)
from retarget.policy.models import Campaign, PolicyModel, Rules, threshold_lists
from retarget.timelines import IMPRESSION

Severity: TypeAlias = Literal["error", "warning", "remark"]

RULES: dict[str, tuple[Severity, str]] = {
    "nobody": ("error", "an audience or a segment that nobody can enter"),
    "circle": ("error", "a campaign that can be shown only after itself"),
    "never-open": ("error", "a flight that its own hours and days never meet"),
    "closed-at-home": ("warning", "a flight of exact moments that hours and days never meet in the policy's time zone"),
    "never-binds": ("warning", "a rule that another one implies"),
    "never-reached": ("warning", "a rule about more than other rules let happen"),
    "twice": ("warning", "the same rule twice"),
    "too-heavy": ("warning", "a channel whose points no threshold lets pass"),
    "hidden-segment": ("warning", "a segment that an earlier one always takes the place of"),
    "beyond-retention": ("warning", "a window that looks back further than retention"),
    "unknown-label": ("warning", "a label that nothing carries, and that is spelt like one that is carried"),
    "unknown-campaign": ("warning", "a subject that is spelt like a campaign and is none"),
    "back-to-back": ("remark", "a calendar cap that can be used up on both sides of the turn"),
    "from-candidate": ("remark", "a template that only the candidate can fill"),
    "unknown-event": ("remark", "an event that is spelt like another, or that the log does not have"),
    "always-open": ("remark", "hours or days that exclude nothing"),
}
"""Every rule here, by its id: how grave it is, and what it finds."""

WELL_KNOWN = {IMPRESSION, "click", "conversion", "visit", "purchase", "signup", "dismiss", "open", "unsubscribe"}
"""Event names that need no second mention to be believed."""

_TURN = {"hour": "the full hour", "day": "midnight", "week": "the turn of the week", "month": "the turn of the month"}
_ROLLING = {"hour": "hour", "day": "day", "week": "7 days", "month": "30 days"}
_ON_CAMPAIGNS = (*NEEDS_SHOWING, "conversion", "dismiss")
_TAKE_OUT = "take it out, or make it the stricter one"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is unsound: where, what is wrong, and what would be right. `rule` is a key of `RULES`."""

    severity: Severity
    place: str
    text: str
    cure: str
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.severity} {self.place}: {self.text}; {self.cure}"


def findings(policy: PolicyModel, *, events: Collection[str] = (), labels: Collection[str] = ()) -> list[Finding]:
    """All that is unsound in the policy, sorted by place; `[]` for a sound one.

    `events` and `labels` are the event names and the kinds of labels that a log is known to have.
    """
    scopes = {scope.id: scope for scope in scopes_of(policy)}
    shown = showable(scopes, policy)
    told: dict[tuple[str, str], dict[str, Finding]] = {}
    for scope in scopes.values():
        for finding in _of_scope(policy, scope, scopes, shown, labels):
            told.setdefault((finding.rule, finding.place), {}).setdefault(scope.id, finding)
    found = [finding for same in told.values() for finding in _once(same, scopes)]
    found += _of_labels(policy, scopes)
    found += _of_thresholds(policy, scopes)
    found += _of_segments(policy, scopes, shown, labels)
    found += _beyond_retention(policy)
    found += _unknown_labels(policy, labels)
    found += _unknown_words(policy, events)
    return sorted(set(found), key=lambda finding: (finding.place, list(RULES).index(finding.rule), finding.text))


def _finding(rule: str, place: str, text: str, cure: str) -> Finding:
    return Finding(RULES[rule][0], place, text, cure, rule)


def _tell_idle(idle: dict[str, tuple[Bound, Kill]]) -> Iterator[Finding]:
    for place, (bound, (other, most, sure)) in idle.items():
        because = f"{other.place} {other.text!r}"
        same_list = place.rpartition("[")[0] == other.place.rpartition("[")[0]
        if same_list and (other.limit, other.window) == (bound.limit, bound.window):
            yield _finding("twice", place, f"{bound.text!r} says what {because} says", "take one of them out")
        elif sure:
            text = f"{bound.text!r} never binds{other.note}: {because} forbids whenever it would"
            yield _finding("never-binds", place, text, _TAKE_OUT)
        else:
            zone = ", if she stays in one time zone" if other.window.kind in SHORTEST else ""
            text = (
                f"{bound.text!r} is never reached{other.note}: {because} lets at most {most} happen in that time{zone}"
            )
            yield _finding("never-reached", place, text, _TAKE_OUT)


def _turns(
    bounds: Iterable[Bound], others: Iterable[Bound], passes: Callable[[str], bool], idle: Collection[str]
) -> Iterator[Finding]:
    """Calendar caps that nothing keeps from being used up just before the turn and again just after."""
    for bound in bounds:
        unit = bound.window.kind
        if unit in _TURN and bound.place not in idle and comes_twice(bound, others) and passes(unit):
            text = f"{bound.text!r} begins anew at {_TURN[unit]}: {2 * bound.limit} can come within minutes"
            cure = f'add a rolling cap such as "{bound.limit} per {_ROLLING[unit]}", or a gap'
            yield _finding("back-to-back", bound.place, text, cure)


def _once(same: dict[str, Finding], scopes: dict[str, Scope]) -> Iterator[Finding]:
    """One finding for all campaigns that have it; a fault of the defaults only if all who inherit it have it."""
    first = next(iter(same.values()))
    if not first.place.startswith("defaults."):
        yield first
        return
    key = first.place.removeprefix("defaults.").partition("[")[0]
    capped = {"caps", "gap"}
    heirs = {id_ for id_, s in scopes.items() if key in s.inherits and (s.rules.obeys or key not in capped)}
    if heirs <= same.keys():
        yield first
    elif first.severity == "error":
        for id_, finding in same.items():
            yield finding if "{" in id_ else replace(finding, place=f"campaign.{id_}")


# ---- What is asked of one campaign -----------------------------------------------------------------------------------


def _of_scope(
    policy: PolicyModel, scope: Scope, scopes: dict[str, Scope], shown: Collection[str], labels: Collection[str]
) -> Iterator[Finding]:
    yield from _caps(policy, scope)
    yield from _audience(scope, scopes, shown)
    yield from _exclude(scope, scopes)
    yield from _clock(policy, scope)
    yield from _templates(scope, labels)
    yield from _long_flight(policy, scope)


def _caps(policy: PolicyModel, scope: Scope) -> Iterator[Finding]:
    group, above, thresholds = scope.bounds(), label_bounds(policy, scope), []
    if policy.annoyance and scope.rules.counts:
        named = "channel" in scope.rules.labels
        weight = policy.annoyance.points.get(scope.rules.labels["channel"], 1) if named else 1
        thresholds = thresholds_of(policy, scope.look, weight)
    idle = idle_places(group, above, thresholds)
    if "gap" in scope.overrides:  # even an idle gap is of use where it replaces the default one
        idle.pop(scope.place("gap"), None)
    yield from _tell_idle(idle)
    others = [*group, *above, *(bound for threshold in thresholds for bound in threshold)]
    yield from _turns(group, others, lambda unit: scope.passes(unit, policy.week_start), idle)


def _exclude(scope: Scope, scopes: dict[str, Scope]) -> Iterator[Finding]:
    clauses = _numbered(scope.place("exclude"), [(condition,) for condition in scope.exclude])
    idle = list(_redundant(clauses, scope.look, any_of=True))
    yield from idle
    for place, (condition,) in clauses:
        too_many = why_too_many(condition, scope.look, scopes)
        if too_many and all(finding.place != place for finding in idle):
            yield _finding("never-reached", place, f"{too_many}, so it never blocks", "lower the count")


def _clock(policy: PolicyModel, scope: Scope) -> Iterator[Finding]:
    rules = scope.rules
    if never_opens(policy, scope):
        keys = [key for key in ("hours", "days", "start", "end") if getattr(rules, key) is not None]
        place = scope.place(next((key for key in keys if key not in scope.inherits), keys[0]))
        when = " and ".join(repr(times.text) for times in (rules.hours, rules.days) if times)
        text = f"the flight from {rules.start} to {rules.end} and {when} never meet"
        if is_exact(rules):
            yield _finding("closed-at-home", place, f"{text} in {policy.timezone}", "move one of them")
        else:
            yield _finding("never-open", place, f"{text}: it is never shown", "move one of them")
    for key, times, whole in (
        ("hours", rules.hours, rules.hours and is_whole_day(rules.hours.spans)),
        ("days", rules.days, rules.days and len(rules.days.days) == 7),
    ):
        if times and whole and key not in scope.overrides:  # over a default it is the way to lift it
            yield _finding("always-open", scope.place(key), f"{times.text!r} excludes nothing", "take it out")


def _templates(scope: Scope, labels: Collection[str]) -> Iterator[Finding]:
    places = _numbered(scope.place("audience"), scope.rules.audience)
    places += _numbered(scope.place("exclude"), [(condition,) for condition in scope.rules.exclude])
    for place, clause in places:
        yield from _unfilled(place, clause, {"campaign", *scope.rules.labels, *labels})


def _unfilled(place: str, clause: tuple[Condition, ...], known: Collection[str]) -> Iterator[Finding]:
    for condition in clause:
        for kind in labels_in(condition.subject or ""):
            if kind not in known:
                text = f"{condition.text!r} holds only where the candidate brings a label {kind!r}: no other is known"
                yield _finding("from-candidate", place, text, f"give it with each candidate, or under labels: {kind}")


def _long_flight(policy: PolicyModel, scope: Scope) -> Iterator[Finding]:
    rules, retention = scope.rules, policy.retention
    if rules.start is None or rules.end is None or flight_length(rules.start, rules.end) <= retention.seconds:
        return
    spans = [(f"{scope.place('caps')}[{i}]", cap.text, cap.window) for i, cap in enumerate(rules.caps)]
    for key, clauses in (("audience", rules.audience), ("exclude", [(e,) for e in rules.exclude])):
        spans += [
            (p, c.text, c.window) for p, clause in _numbered(scope.place(key), clauses) for c in clause if c.window
        ]
    for place, written, span in spans:
        if span.period == "flight":
            text = f"the flight from {rules.start} to {rules.end} is longer than retention ({retention.text!r}), "
            text += f"so {written!r} forgets its beginning"
            yield _finding("beyond-retention", place, text, "raise retention to the length of the flight")


# ---- Audiences -------------------------------------------------------------------------------------------------------


def _numbered(place: str, clauses: Iterable[tuple[Condition, ...]]) -> list[tuple[str, tuple[Condition, ...]]]:
    return [(f"{place}[{index}]", clause) for index, clause in enumerate(clauses)]


def _apart(place: str, clause: Iterable[Condition]) -> list[tuple[str, tuple[Condition, ...]]]:
    """The alternatives of a clause, each as a clause of its own."""
    return [(place, (condition,)) for condition in clause]


def _quoted(clause: Iterable[Condition]) -> str:
    return " or ".join(repr(condition.text) for condition in clause)


def _redundant(
    clauses: list[tuple[str, tuple[Condition, ...]]], look: Look, *, any_of: bool = False
) -> Iterator[Finding]:
    """Clauses that make no difference beside another: where all must hold, or where any one will do."""
    for index, (place, clause) in enumerate(clauses):
        for position, (other_place, other) in enumerate(clauses):
            weak, strong = (other, clause) if any_of else (clause, other)
            same = follows(weak, strong, look)
            if position == index or not follows(strong, weak, look) or (same and position > index):
                continue
            if same:
                text = f"{_quoted(clause)} says what {other_place} {_quoted(other)} says"
                yield _finding("twice", place, text, "take one of them out")
            else:
                text = f"{_quoted(clause)} never binds: {other_place} {_quoted(other)} decides wherever it would"
                yield _finding("never-binds", place, text, _TAKE_OUT)
            break


def _audience(scope: Scope, scopes: dict[str, Scope], shown: Collection[str]) -> Iterator[Finding]:
    clauses = _numbered(scope.place("audience"), scope.audience)
    yield from _redundant(clauses, scope.look)
    for place, clause in clauses:
        yield from _redundant(_apart(place, clause), scope.look, any_of=True)
    for (place, clause), reason in zip(clauses, closed_clauses(scope, scopes, shown), strict=True):
        waits = reason and any(needs(condition, scopes, shown) for condition in clause)
        circle = circle_of(scope, scopes, shown) if waits else []
        if reason and circle:
            text = f"nobody can enter: {' needs '.join(circle)} to be shown first"
            yield _finding("circle", place, text, "begin the journey with a campaign that needs none of these")
        elif reason:
            yield _finding("nobody", place, f"nobody can enter: {reason}", "loosen one of them")


# ---- What is asked of all --------------------------------------------------------------------------------------------


def _has_loose(scopes: dict[str, Scope]) -> bool:
    """Whether something counts without obeying: then a shared timeline may hold more than its caps let happen."""
    return any(scope.rules.counts and not scope.rules.obeys for scope in scopes.values())


def _of_labels(policy: PolicyModel, scopes: dict[str, Scope]) -> Iterator[Finding]:
    look = looks(policy.retention.seconds, Window("flight", policy.retention.seconds))
    for key, caps in policy.caps.items():
        kind, _, value = key.partition(":")
        group, above = bounds_of(f"caps.{key}", caps, look), []
        if value:
            above = bounds_of(f"caps.{kind}", policy.caps.get(kind, []), look)
        weight = policy.annoyance.points.get(value, 1) if policy.annoyance and value and kind == "channel" else 1
        thresholds = thresholds_of(policy, look, weight)
        idle = idle_places(group, above, thresholds, sure=_has_loose(scopes))
        yield from _tell_idle(idle)
        others = [*group, *above, *(bound for threshold in thresholds for bound in threshold)]
        yield from _turns(group, others, lambda unit: _any_passes(policy, scopes, unit), idle)


def _any_passes(policy: PolicyModel, scopes: dict[str, Scope], unit: str) -> bool:
    return any(scope.passes(unit, policy.week_start) for scope in scopes.values())


def _of_thresholds(policy: PolicyModel, scopes: dict[str, Scope]) -> Iterator[Finding]:
    lists, look = threshold_lists(policy), looks(policy.retention.seconds)
    for place, caps in lists.items():
        group = bounds_of(place, caps, look, points=True)
        idle = idle_places(group, [], [], sure=len(lists) > 1 or _has_loose(scopes))
        yield from _tell_idle(idle)
        yield from _turns(group, group, lambda unit: _any_passes(policy, scopes, unit), idle)
    carried = {scope.rules.labels.get("channel") for scope in scopes.values()}
    for channel, points in policy.annoyance.points.items() if policy.annoyance else ():
        cap = [(place, cap) for place, caps in lists.items() for cap in caps if cap.limit < points]
        if cap and channel not in carried:  # where a campaign carries it the policy does not load
            text = f"one impression costs {points} points, which {cap[0][0]} {cap[0][1].text!r} never allows"
            yield _finding("too-heavy", f"annoyance.points.{channel}", text, "lower the points or raise the threshold")


def _of_segments(
    policy: PolicyModel, scopes: dict[str, Scope], shown: Collection[str], labels: Collection[str]
) -> Iterator[Finding]:
    look, earlier = looks(policy.retention.seconds), dict[str, list[tuple[Condition, ...]]]()
    scopes = {id_: scope for id_, scope in scopes.items() if id_ in policy.campaign}  # {campaign} may be any here
    carried = {kind for campaign in policy.campaign.values() for kind in campaign.labels}
    for name, segment in policy.annoyance.segment.items() if policy.annoyance else ():
        clauses = _numbered(f"annoyance.segment.{name}.who", segment.who)
        yield from _redundant(clauses, look)
        for place, clause in clauses:
            yield from _redundant(_apart(place, clause), look, any_of=True)
            yield from _unfilled(place, clause, {"campaign", *carried, *labels})
            reasons = [why_impossible(condition, look, scopes, shown, {}) for condition in clause]
            if all(reasons):
                text = f"nobody is in this segment: {'; '.join(reason for reason in reasons if reason)}"
                yield _finding("nobody", place, text, "loosen it, or take the segment out")
        for other, who in earlier.items():
            if all(any(follows(clause, wide, look) for clause in segment.who) for wide in who):
                text = f"whoever is in {name!r} is in {other!r}, which comes first, so its threshold is never in force"
                yield _finding(
                    "hidden-segment", f"annoyance.segment.{name}", text, f"put it first, or narrow {other!r}"
                )
                break
        earlier[name] = segment.who


# ---- Words -----------------------------------------------------------------------------------------------------------


def _written(policy: PolicyModel) -> tuple[list[tuple[str, Cap | Duration]], list[tuple[str, Condition]]]:
    """Every cap and gap, and every condition, each with its place."""
    rules: dict[str, Campaign | Rules] = {f"campaign.{id_}": campaign for id_, campaign in policy.campaign.items()}
    if policy.defaults:
        rules["defaults"] = policy.defaults
    lists = {**threshold_lists(policy), **{f"caps.{key}": caps for key, caps in policy.caps.items()}}
    lists |= {f"{place}.caps": model.caps for place, model in rules.items()}
    caps: list[tuple[str, Cap | Duration]] = [
        (f"{p}[{i}]", cap) for p, same in lists.items() for i, cap in enumerate(same)
    ]
    caps += [(f"{place}.gap", model.gap) for place, model in rules.items() if model.gap]
    clauses = [part for place, model in rules.items() for part in _numbered(f"{place}.audience", model.audience)]
    for place, model in rules.items():
        clauses += _numbered(f"{place}.exclude", [(condition,) for condition in model.exclude])
    for name, segment in policy.annoyance.segment.items() if policy.annoyance else ():
        clauses += _numbered(f"annoyance.segment.{name}.who", segment.who)
    return caps, [(place, condition) for place, clause in clauses for condition in clause]


def _beyond_retention(policy: PolicyModel) -> Iterator[Finding]:
    caps, conditions = _written(policy)
    shortest = {"hour": 3_600, **SHORTEST}
    for place, rule in (*caps, *conditions):
        span = Span("rolling", rule.seconds) if isinstance(rule, Duration) else rule.window
        seconds = span.seconds or shortest.get(span.period, 0) if span else 0
        if seconds > policy.retention.seconds:
            text = f"{rule.text!r} looks back further than retention, {policy.retention.text!r}"
            yield _finding(
                "beyond-retention",
                place,
                text,
                "shorten the window, or raise retention: what the window asks for is kept all the same",
            )


def _near(word: str, known: Iterable[str]) -> str | None:
    """The known word that this one looks like a misspelling of; one that differs in digits only is meant."""
    others = [other for other in known if other != word]
    same = [other for other in others if other.casefold() == word.casefold()]
    near = next(iter(same or difflib.get_close_matches(word, others, n=1, cutoff=0.85)), None)
    digits = str.maketrans("", "", "0123456789")
    return None if near is not None and near.translate(digits) == word.translate(digits) else near


def _unknown_labels(policy: PolicyModel, labels: Collection[str]) -> Iterator[Finding]:
    """Labels that nothing is known to carry. A candidate may bring any: it must look like one that is carried."""
    carried: dict[str, set[str]] = {kind: set() for kind in labels}
    for campaign in policy.campaign.values():
        for kind, value in campaign.labels.items():
            carried.setdefault(kind, set()).add(value)
    filled = {kind for _, condition in _written(policy)[1] for kind in labels_in(condition.subject or "")}
    capped = {key.partition(":")[0] for key in policy.caps}
    for key in policy.caps:
        kind, _, value = key.partition(":")
        meant = _near(kind, carried.keys() - capped) if kind not in carried else None
        if kind not in carried and kind not in filled and (meant or labels):
            nor = " and the log has none" if labels else ""
            cure = f"did you mean {meant!r}?" if meant else "check the name, or give it with each candidate"
            yield _finding("unknown-label", f"caps.{key}", f"no campaign carries a label {kind!r}{nor}", cure)
        rest = {other for other in carried.get(kind, ()) if f"{kind}:{other}" not in policy.caps}
        yield from _misspelt_value(f"caps.{key}", kind, value, carried.get(kind, set()), rest)
    points = policy.annoyance.points if policy.annoyance else {}
    channels = carried.get("channel", set())
    for channel in points:
        yield from _misspelt_value(
            f"annoyance.points.{channel}", "channel", channel, channels, channels - points.keys()
        )


def _misspelt_value(place: str, kind: str, value: str, carried: set[str], rest: set[str]) -> Iterator[Finding]:
    meant = _near(value, rest) if value and value not in carried else None
    if meant:
        yield _finding("unknown-label", place, f"no campaign carries the {kind} {value!r}", f"did you mean {meant!r}?")


def _unknown_words(policy: PolicyModel, events: Collection[str]) -> Iterator[Finding]:
    _, conditions = _written(policy)
    used = Counter(condition.event for _, condition in conditions)
    for place, condition in conditions:
        event, subject = condition.event, condition.subject
        if events and event not in events and event != IMPRESSION:
            near = _near(event, events)
            cure = f"did you mean {near!r}?" if near else "check the name, and that it is recorded"
            yield _finding("unknown-event", place, f"{condition.text!r}: the log has no event {event!r}", cure)
        elif not events and used[event] == 1 and event not in WELL_KNOWN:
            near = _near(event, WELL_KNOWN | used.keys())
            if near:
                text = f"{condition.text!r}: no other rule knows an event {event!r}"
                yield _finding("unknown-event", place, text, f"did you mean {near!r}?")
        if event in _ON_CAMPAIGNS and subject and subject not in policy.campaign and not set(subject) & set(":{"):
            near = _near(subject, policy.campaign)
            if near:
                text = f"{condition.text!r}: there is no campaign {subject!r}"
                yield _finding("unknown-campaign", place, text, f"did you mean {near!r}?")
