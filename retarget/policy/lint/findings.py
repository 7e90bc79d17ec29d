"""What is unsound in a policy that loads: rules that never bind, audiences nobody can enter, misspelled names.

Rules:
- A finding is true, or says for whom it is true. If that is not certain, there is no finding.
- "Never binds" holds whatever has happened. "Never reached" holds for what the policy itself allows to be shown.
- A fault of [defaults] is reported once, if every campaign that inherits the rule has it. An error that only some have
  is reported for each of them.
- `bounds` decides what implies what, `scopes` who can be shown what, `names` what is misspelled; here it is worded.
- What can matter to a campaign, a condition or a name is looked up: no list of a policy is compared each with each.
- Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import cache

from retarget.policy.grammar import Cap, Condition, Duration, Span, labels_in
from retarget.policy.lint import anchors
from retarget.policy.lint.bounds import (
    SHORTEST,
    Bound,
    Clauses,
    Dominance,
    Lookback,
    LookbackOf,
    Topic,
    allows_twice,
    bounds_of,
    clause_implies,
    lookbacks,
    redundant_places,
    topics,
)
from retarget.policy.lint.crowds import many_timelines
from retarget.policy.lint.finding import RULES, Finding, make
from retarget.policy.lint.names import unknown_labels, unknown_words
from retarget.policy.lint.scopes import (
    Scope,
    circles_of,
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

_STARTS = {
    "hour": "the full hour",
    "day": "midnight",
    "week": "the start of the week",
    "month": "the start of the month",
}
_ROLLING = {"hour": "hour", "day": "day", "week": "7 days", "month": "30 days"}
_REMOVE = "remove it, or make it the stricter one"


def findings(policy: PolicyModel, *, events: Collection[str] = (), labels: Collection[str] = ()) -> list[Finding]:
    """Everything unsound in the policy, sorted by place; `[]` for a sound one.

    `events` and `labels` are the event names and the label kinds that a log contains, if known.
    """
    scopes = {scope.id: scope for scope in scopes_of(policy)}
    shown = showable(scopes, policy)
    circles = circles_of(scopes, shown)
    by_rule: dict[tuple[str, str], dict[str, Finding]] = {}
    for scope in scopes.values():
        for finding in _of_scope(policy, scope, scopes, shown, circles, labels):
            by_rule.setdefault((finding.rule, finding.place), {}).setdefault(scope.id, finding)
    found = [finding for same in by_rule.values() for finding in _once(same, scopes)]
    uncapped = _any_uncapped(scopes)

    @cache
    def is_open(unit: str) -> bool:
        return any(scope.is_open_across(unit, policy.week_start) for scope in scopes.values())

    found += _of_labels(policy, is_open, labels, uncapped=uncapped)
    found += _of_thresholds(policy, is_open, uncapped=uncapped)
    found += _of_segments(policy, scopes, shown, labels)
    found += anchors.of_policy(policy, scopes, shown)
    found += many_timelines(policy, scopes, uncapped=uncapped)
    caps, conditions = _written(policy)
    conditions += _anchors([*caps, *conditions])
    found += _beyond_retention(policy)
    found += unknown_labels(policy, conditions, labels)
    found += unknown_words(policy, conditions, events)
    return sorted(set(found), key=lambda finding: (finding.place, list(RULES).index(finding.rule), finding.text))


def _redundant_bounds(redundant: dict[str, tuple[Bound, Dominance]]) -> Iterator[Finding]:
    for place, (bound, (other, allowed, always)) in redundant.items():
        because = f"{other.place} {other.text!r}"
        same_list = place.rpartition("[")[0] == other.place.rpartition("[")[0]
        if same_list and (other.limit, other.window) == (bound.limit, bound.window):
            yield make("twice", place, f"{bound.text!r} repeats {because}", "remove one of them")
        elif always:
            text = f"{bound.text!r} never binds{other.note}: {because} blocks whenever it would"
            yield make("never-binds", place, text, _REMOVE)
        else:
            text = f"{bound.text!r} is never reached{other.note}: {because} allows at most {allowed} in that time"
            if other.window.kind in SHORTEST:
                text += ", for a visitor who stays in one time zone"
            yield make("never-reached", place, text, _REMOVE)


def _back_to_back(
    bounds: Iterable[Bound], others: Iterable[Bound], is_open: Callable[[str], bool], redundant: Collection[str]
) -> Iterator[Finding]:
    """Calendar caps that can be used up just before their period ends and again just after."""
    for bound in bounds:
        unit = bound.window.kind
        if unit in _STARTS and bound.place not in redundant and allows_twice(bound, others) and is_open(unit):
            text = f"{bound.text!r} starts over at {_STARTS[unit]}: {2 * bound.limit} are possible within minutes"
            cure = f'add a rolling cap such as "{bound.limit} per {_ROLLING[unit]}", or a gap'
            yield make("back-to-back", bound.place, text, cure)


def _once(same: dict[str, Finding], scopes: dict[str, Scope]) -> Iterator[Finding]:
    """One finding for all campaigns that share it; one of [defaults] only if every campaign that inherits it has it."""
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


# ---- One campaign ----------------------------------------------------------------------------------------------------


def _of_scope(
    policy: PolicyModel,
    scope: Scope,
    scopes: dict[str, Scope],
    shown: Collection[str],
    circles: dict[str, list[str]],
    labels: Collection[str],
) -> Iterator[Finding]:
    yield from _caps(policy, scope)
    yield from _audience(scope, scopes, shown, circles.get(scope.id, []))
    yield from _exclude(scope, scopes)
    yield from _clock(policy, scope)
    yield from _templates(scope, labels)
    yield from anchors.of_scope(scope, scopes, shown)
    yield from _long_flight(policy, scope)


def _caps(policy: PolicyModel, scope: Scope) -> Iterator[Finding]:
    group, above, thresholds = scope.bounds(), label_bounds(policy, scope), []
    if policy.annoyance and scope.rules.counts:
        named = "channel" in scope.rules.labels
        points = policy.annoyance.points.get(scope.rules.labels["channel"], 1) if named else 1
        thresholds = thresholds_of(policy, scope.lookback, points)
    redundant = redundant_places(group, above, thresholds)
    if "gap" in scope.overrides:  # even a redundant gap may be there to replace the default one
        redundant.pop(scope.place("gap"), None)
    yield from _redundant_bounds(redundant)
    others = [*group, *above, *(bound for threshold in thresholds for bound in threshold)]
    yield from _back_to_back(group, others, lambda unit: scope.is_open_across(unit, policy.week_start), redundant)


def _exclude(scope: Scope, scopes: dict[str, Scope]) -> Iterator[Finding]:
    clauses = _numbered(scope.place("exclude"), [(condition,) for condition in scope.exclude])
    redundant = list(_redundant_clauses(clauses, scope.lookback, any_of=True))
    yield from redundant
    for place, (condition,) in clauses:
        too_many = why_too_many(condition, scope.lookback, scopes)
        if too_many and all(finding.place != place for finding in redundant):
            yield make("never-reached", place, f"{too_many}, so it never blocks", "lower the count")


def _clock(policy: PolicyModel, scope: Scope) -> Iterator[Finding]:
    rules = scope.rules
    if never_opens(policy, scope):
        keys = [key for key in ("hours", "days", "start", "end") if getattr(rules, key) is not None]
        place = scope.place(next((key for key in keys if key not in scope.inherits), keys[0]))
        when = " and ".join(repr(times.text) for times in (rules.hours, rules.days) if times)
        text = f"the flight from {rules.start} to {rules.end} never overlaps {when}"
        if is_exact(rules):
            yield make("closed-at-home", place, f"{text} in {policy.timezone}", "change one of them")
        else:
            yield make("never-open", place, f"{text}, so it is never shown", "change one of them")
    for key, times, whole in (
        ("hours", rules.hours, rules.hours and is_whole_day(rules.hours.spans)),
        ("days", rules.days, rules.days and len(rules.days.days) == 7),
    ):
        if times and whole and key not in scope.overrides:  # overriding a default, it lifts that one
            yield make("always-open", scope.place(key), f"{times.text!r} excludes nothing", "remove it")


def _templates(scope: Scope, labels: Collection[str]) -> Iterator[Finding]:
    places = _numbered(scope.place("audience"), scope.rules.audience)
    places += _numbered(scope.place("exclude"), [(condition,) for condition in scope.rules.exclude])
    known = {"campaign", *scope.rules.labels, *labels}
    for place, clause in places:
        yield from _unfilled(place, clause, known)
    for index, cap in enumerate(scope.rules.caps):
        yield from _unfilled(f"{scope.place('caps')}[{index}]", [cap], known)


def _unfilled(place: str, rules: Iterable[Condition | Cap], known: Collection[str]) -> Iterator[Finding]:
    """Labels that only a candidate can have, in a subject and in that of the event at which a window begins."""
    for rule in rules:
        subject = rule.subject if isinstance(rule, Condition) else None
        for kind in dict.fromkeys(kind for named in rule.subjects for kind in labels_in(named)):
            if kind not in known:
                what = "holds" if kind in labels_in(subject or "") else "begins at that event"
                text = f"{rule.text!r} {what} only if the candidate carries a label {kind!r}: no campaign supplies it"
                cure = f"pass it with each candidate, or add {kind!r} to labels"
                yield make("from-candidate", place, text, cure)


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
            text += f"so {written!r} does not count all of it"
            yield make("beyond-retention", place, text, "raise retention to the length of the flight")


# ---- Audiences -------------------------------------------------------------------------------------------------------


def _numbered(place: str, clauses: Iterable[tuple[Condition, ...]]) -> list[tuple[str, tuple[Condition, ...]]]:
    return [(f"{place}[{index}]", clause) for index, clause in enumerate(clauses)]


def _apart(place: str, clause: Iterable[Condition]) -> list[tuple[str, tuple[Condition, ...]]]:
    """Each alternative of a clause as a clause of its own."""
    return [(place, (condition,)) for condition in clause]


def _quoted(clause: Iterable[Condition]) -> str:
    return " or ".join(repr(condition.text) for condition in clause)


def _redundant_clauses(
    clauses: list[tuple[str, tuple[Condition, ...]]], lookback: LookbackOf, *, any_of: bool = False
) -> Iterator[Finding]:
    """Clauses that another clause makes redundant, in a list of which all must hold or, with `any_of`, only one."""
    listed = Clauses(clause for _, clause in clauses)
    for index, (place, clause) in enumerate(clauses):
        for position in listed.implied_by(clause) if any_of else listed.implying(clause):
            if position == index:
                continue
            other_place, other = clauses[position]
            weak, strong = (other, clause) if any_of else (clause, other)
            same = clause_implies(weak, strong, lookback)
            if not clause_implies(strong, weak, lookback) or (same and position > index):
                continue
            if same:
                text = f"{_quoted(clause)} repeats {other_place} {_quoted(other)}"
                yield make("twice", place, text, "remove one of them")
            else:
                text = f"{_quoted(clause)} never binds: {other_place} {_quoted(other)} decides whenever it would"
                yield make("never-binds", place, text, _REMOVE)
            break


def _audience(scope: Scope, scopes: dict[str, Scope], shown: Collection[str], circle: list[str]) -> Iterator[Finding]:
    clauses = _numbered(scope.place("audience"), scope.audience)
    yield from _redundant_clauses(clauses, scope.lookback)
    for place, clause in clauses:
        yield from _redundant_clauses(_apart(place, clause), scope.lookback, any_of=True)
    for (place, clause), reason in zip(clauses, closed_clauses(scope, scopes, shown), strict=True):
        waits = reason and any(needs(condition, scopes, shown) for condition in clause)
        if reason and waits and circle:
            text = f"nobody can enter: {' needs '.join(circle)} to be shown first"
            yield make("circle", place, text, "start the journey with a campaign that needs none of these")
        elif reason:
            yield make("nobody", place, f"nobody can enter: {reason}", "relax one of them")


# ---- Label caps, thresholds, segments --------------------------------------------------------------------------------


def _any_uncapped(scopes: dict[str, Scope]) -> bool:
    """Whether a campaign counts but does not obey: then a shared timeline may hold more than its caps allow."""
    return any(scope.rules.counts and not scope.rules.obeys for scope in scopes.values())


def _of_labels(
    policy: PolicyModel, is_open: Callable[[str], bool], labels: Collection[str], *, uncapped: bool
) -> Iterator[Finding]:
    carried = {kind for campaign in policy.campaign.values() for kind in campaign.labels}.union(labels)
    lookback = lookbacks(policy.retention.seconds, Lookback("flight", policy.retention.seconds))
    for key, caps in policy.caps.items():
        kind, _, value = key.partition(":")
        group, above = bounds_of(f"caps.{key}", caps, lookback), []
        if value:
            above = bounds_of(f"caps.{kind}", policy.caps.get(kind, []), lookback)
        points = policy.annoyance.points.get(value, 1) if policy.annoyance and value and kind == "channel" else 1
        thresholds = thresholds_of(policy, lookback, points)
        redundant = redundant_places(group, above, thresholds, always=uncapped)
        yield from _redundant_bounds(redundant)
        for index, cap in enumerate(caps):
            yield from _unfilled(f"caps.{key}[{index}]", [cap], {"campaign", kind, *carried})
        others = [*group, *above, *(bound for threshold in thresholds for bound in threshold)]
        yield from _back_to_back(group, others, is_open, redundant)


def _of_thresholds(policy: PolicyModel, is_open: Callable[[str], bool], *, uncapped: bool) -> Iterator[Finding]:
    lists, lookback = threshold_lists(policy), lookbacks(policy.retention.seconds)
    for place, caps in lists.items():
        group = bounds_of(place, caps, lookback, points=True)
        redundant = redundant_places(group, [], [], always=len(lists) > 1 or uncapped)
        yield from _redundant_bounds(redundant)
        yield from _back_to_back(group, group, is_open, redundant)


def _of_segments(
    policy: PolicyModel, scopes: dict[str, Scope], shown: Collection[str], labels: Collection[str]
) -> Iterator[Finding]:
    lookback = lookbacks(policy.retention.seconds)
    earlier: dict[Topic, dict[str, list[tuple[Condition, ...]]]] = {}
    scopes = {id_: scope for id_, scope in scopes.items() if id_ in policy.campaign}  # {campaign} may be any of them
    carried = {kind for campaign in policy.campaign.values() for kind in campaign.labels}
    for name, segment in policy.annoyance.segment.items() if policy.annoyance else ():
        clauses = _numbered(f"annoyance.segment.{name}.who", segment.who)
        yield from _redundant_clauses(clauses, lookback)
        for place, clause in clauses:
            yield from _redundant_clauses(_apart(place, clause), lookback, any_of=True)
            yield from _unfilled(place, clause, {"campaign", *carried, *labels})
            reasons = [why_impossible(condition, lookback, scopes, shown, {}) for condition in clause]
            if all(reasons):
                text = f"nobody is in this segment: {'; '.join(reason for reason in reasons if reason)}"
                yield make("nobody", place, text, "relax it, or remove the segment")
        asked = (topic for clause in segment.who for condition in clause for topic in topics(condition))
        wider = {other: who for topic in asked for other, who in earlier.get(topic, {}).items()}
        for other, who in wider.items():
            if all(any(clause_implies(clause, wide, lookback) for clause in segment.who) for wide in who):
                text = f"every visitor in {name!r} is in {other!r}, which comes first, so its threshold never applies"
                cure = f"put it first, or narrow {other!r}"
                yield make("hidden-segment", f"annoyance.segment.{name}", text, cure)
                break
        for condition in segment.who[0]:
            earlier.setdefault((condition.event, condition.subject), {})[name] = segment.who


# ---- Names and windows -----------------------------------------------------------------------------------------------


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


def _anchors(rules: Iterable[tuple[str, Cap | Condition | Duration]]) -> list[tuple[str, Condition]]:
    """The events at which windows begin, each as a condition with the text of its rule, and its place."""
    found = []
    for place, rule in rules:
        if not isinstance(rule, Duration) and rule.window and rule.window.event:
            found.append((place, Condition(rule.text, 1, rule.window.event, rule.window.subject, None)))
    return found


def _beyond_retention(policy: PolicyModel) -> Iterator[Finding]:
    caps, conditions = _written(policy)
    shortest = {"hour": 3_600, **SHORTEST}
    for place, rule in (*caps, *conditions):
        span = Span("rolling", rule.seconds) if isinstance(rule, Duration) else rule.window
        seconds = span.seconds or shortest.get(span.period, 0) if span else 0
        if seconds > policy.retention.seconds:
            text = f"{rule.text!r} looks back further than retention, {policy.retention.text!r}"
            cure = "shorten the window, or raise retention: the window's events are kept in either case"
            yield make("beyond-retention", place, text, cure)
