"""What is unsound in a policy that loads: rules that never bind, audiences nobody can enter, words nobody else knows.

Rules:
- A finding is true, or says for whom it is true. Where that is not sure, there is none.
- "Never binds" holds whatever has happened. "Never reached" holds for what this very policy lets be shown.
- What a candidate may bring along (labels) or a log may have (events) is unknown, not wrong: only near misses are told.
- A fault of [defaults] is told once, if it shows in every campaign that takes the rule over; an error that shows in
  some is told of each of those.
- Nothing here reads a clock. `policy.py` imports this file, so its models are imported for their types only.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from retarget.grammar import Cap, Condition, Duration, Span, labels_in
from retarget.timeline import IMPRESSION
from retarget.windows import DAY, SESSION_AT_MOST, Calendar, Days, Hours, LocalTime, Opening, end_instant, instant

if TYPE_CHECKING:
    from retarget.policy import Campaign, Policy, Rules

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

_SHORTEST = {"day": DAY - 7_200, "week": 7 * DAY - 7_200, "month": 28 * DAY - 7_200}
_NOMINAL = {"hour": 3_600, "day": DAY, "week": 7 * DAY, "month": 30 * DAY}
_PARTS = {"day": {"hour"}, "week": {"hour", "day"}, "month": {"hour", "day"}}
_TURN = {"hour": "the full hour", "day": "midnight", "week": "the turn of the week", "month": "the turn of the month"}
_ROLLING = {"hour": "hour", "day": "day", "week": "7 days", "month": "30 days"}
_NEEDS_SHOWING = (IMPRESSION, "click")
_ON_CAMPAIGNS = (*_NEEDS_SHOWING, "conversion", "dismiss")
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


def findings(policy: Policy, *, events: Collection[str] = (), labels: Collection[str] = ()) -> list[Finding]:
    """All that is unsound in the policy, sorted by place; `[]` for a sound one.

    `events` and `labels` are the event names and the kinds of labels that a log is known to have.
    """
    scopes = {scope.id: scope for scope in _scopes(policy)}
    shown = _showable(scopes, policy)
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


# ---- Windows: which looks back at least as far as which --------------------------------------------------------------


class _Window(NamedTuple):
    """A window for comparing: it begins at most `reach` seconds ago. A rolling one begins exactly then.

    A flight has the start that it begins with (None: not known), and is `whole` if it never reaches back in vain.
    """

    kind: str
    reach: int
    start: LocalTime | None = None
    whole: bool = False


_Look: TypeAlias = Callable[[Span | None], _Window]


def _looks(retention: int, flight: _Window | None = None) -> _Look:
    """How spans become windows. None is "no window" and, like lifetime and a flight without a start, the retention."""
    remembered = _Window("rolling", retention)

    def look(span: Span | None) -> _Window:
        period = span.period if span else "lifetime"
        if span is None or period == "lifetime":
            return remembered
        if period == "rolling":
            return _Window("rolling", span.seconds)
        if period == "flight":
            return flight or remembered
        return _Window(period, SESSION_AT_MOST if period == "session" else Calendar(period).horizon - 1)

    return look


def _covers(outer: _Window, inner: _Window) -> bool:
    """Whether the outer one begins no later than the inner one at every moment, in every time zone."""
    if outer.kind == "rolling":
        return outer.reach >= inner.reach
    return outer == inner or inner.kind in _PARTS.get(outer.kind, ())


# ---- Bounds: what a cap, a gap or a threshold lets happen ------------------------------------------------------------


class _Bound(NamedTuple):
    """At most `limit` impressions (or points) within the window, as written at `place`; `note`: for whom."""

    place: str
    text: str
    limit: int
    window: _Window
    points: bool = False
    note: str = ""


class _Kill(NamedTuple):
    """Why a bound is idle: the other one, how many that lets happen, and whether whatever else has happened."""

    other: _Bound
    most: int
    sure: bool


def _bounds(place: str, caps: Iterable[Cap], look: _Look, *, points: bool = False, note: str = "") -> list[_Bound]:
    """What the caps of one list say; one that is spread also sets its impressions apart."""
    bounds = []
    for index, cap in enumerate(caps):
        bounds.append(_Bound(f"{place}[{index}]", cap.text, cap.limit, look(cap.window), points, note))
        if cap.spread:
            apart = (cap.window.seconds or _NOMINAL[cap.window.period]) // cap.limit
            text = f"{cap.text}, spread"
            bounds.append(_Bound(f"{place}[{index}]", text, 1, _Window("rolling", apart), note=note))
    return bounds


def _lets(bound: _Bound, window: _Window) -> tuple[int, bool] | None:
    """How many the bound lets happen within the window, and whether that holds whatever has happened before."""
    outer = bound.window
    if _covers(outer, window):
        return bound.limit, True
    if outer.kind == "rolling":  # both ends of a window count: W seconds back are W + 1 moments
        return bound.limit * -(-(window.reach + 1) // (outer.reach + 1)), False
    if outer.kind in _SHORTEST:  # so many whole periods, and a part of one at either end
        return bound.limit * (window.reach // _SHORTEST[outer.kind] + 2), False
    if outer.start is not None and (outer.whole or window.reach <= outer.reach):  # nothing is shown before the start
        return bound.limit, False
    return None


def _kill(bound: _Bound, others: Iterable[_Bound], *, sure: bool = False) -> _Kill | None:
    """The other bound that makes this one idle, the plainest first."""
    kills = []
    for other in others:
        lets = _lets(other, bound.window)
        if lets and lets[0] <= bound.limit and lets[1] >= sure and other.points >= bound.points:
            kills.append(_Kill(other, *lets))
    return min(kills, key=lambda kill: (not kill.sure, kill.most), default=None)


def _idle(
    group: list[_Bound], above: list[_Bound], thresholds: list[list[_Bound]], *, sure: bool = False
) -> dict[str, tuple[_Bound, _Kill]]:
    """The places of a group whose bounds are all idle, and why: by others of the group, by those above it, or by every
    threshold. Of two that make each other idle the surer stays, or else the first.
    """

    def why(index: int, bound: _Bound) -> _Kill | None:
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

    idle: dict[str, tuple[_Bound, _Kill]] = {}
    for place in dict.fromkeys(bound.place for bound in group):
        found = [(bound, why(index, bound)) for index, bound in enumerate(group) if bound.place == place]
        if all(kill for _, kill in found):
            idle[place] = next((bound, kill) for bound, kill in found if kill)
    return idle


def _tell_idle(idle: dict[str, tuple[_Bound, _Kill]]) -> Iterator[Finding]:
    for place, (bound, (other, most, sure)) in idle.items():
        because = f"{other.place} {other.text!r}"
        same_list = place.rpartition("[")[0] == other.place.rpartition("[")[0]
        if same_list and (other.limit, other.window) == (bound.limit, bound.window):
            yield _finding("twice", place, f"{bound.text!r} says what {because} says", "take one of them out")
        elif sure:
            text = f"{bound.text!r} never binds{other.note}: {because} forbids whenever it would"
            yield _finding("never-binds", place, text, _TAKE_OUT)
        else:
            zone = ", if she stays in one time zone" if other.window.kind in _SHORTEST else ""
            text = (
                f"{bound.text!r} is never reached{other.note}: {because} lets at most {most} happen in that time{zone}"
            )
            yield _finding("never-reached", place, text, _TAKE_OUT)


def _turns(
    bounds: Iterable[_Bound], others: Iterable[_Bound], passes: Callable[[str], bool], idle: Collection[str]
) -> Iterator[Finding]:
    """Calendar caps that nothing keeps from being used up just before the turn and again just after."""
    for bound in bounds:
        unit, twice = bound.window.kind, 2 * bound.limit
        if unit not in _TURN or bound.place in idle:
            continue
        renewed = {unit, *_PARTS.get(unit, ())}  # these turn at the same moment
        near = min(other.limit * (1 + (other.window.kind in renewed)) for other in (bound, *others))
        if near >= twice and passes(unit):
            text = f"{bound.text!r} begins anew at {_TURN[unit]}: {twice} can come within minutes"
            cure = f'add a rolling cap such as "{bound.limit} per {_ROLLING[unit]}", or a gap'
            yield _finding("back-to-back", bound.place, text, cure)


# ---- Campaigns, with the defaults filled in --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Scope:
    """A campaign with the defaults filled in; `{campaign}` is the id of those that the policy does not name."""

    id: str
    rules: Campaign
    inherits: frozenset[str]
    overrides: frozenset[str]
    look: _Look
    audience: list[tuple[Condition, ...]]
    exclude: list[Condition]

    def place(self, key: str) -> str:
        return f"defaults.{key}" if key in self.inherits else f"campaign.{self.id}.{key}"

    def bounds(self) -> list[_Bound]:
        """What its own caps and its gap let happen."""
        if not self.rules.obeys:
            return []
        bounds = _bounds(self.place("caps"), self.rules.caps, self.look)
        gap = self.rules.gap
        return [*bounds, _Bound(self.place("gap"), gap.text, 1, _Window("rolling", gap.seconds))] if gap else bounds

    def passes(self, unit: str, week_start: str) -> bool:
        """Whether it may be shown right before and right after such a period turns."""
        rules = self.rules
        if rules.start and rules.end and _length(rules.start, rules.end) <= _NOMINAL[unit]:
            return False
        if any(condition.event == IMPRESSION for condition in rules.exclude):  # which may do what a cap does
            return False
        turns = [hour * 3_600 for hour in range(24)] if unit == "hour" else [0]
        spans = rules.hours.spans if rules.hours else ((0, DAY),)
        if not any(_is_open(spans, turn) and _is_open(spans, (turn - 1) % DAY) for turn in turns):
            return False
        days = rules.days.days if rules.days else frozenset(range(7))
        first = 6 if week_start == "sunday" else 0
        return unit == "hour" or any((day - 1) % 7 in days for day in days if unit != "week" or day == first)


def _scopes(policy: Policy) -> list[_Scope]:
    """Those that the policy does not name first, where the defaults let them be shown; then each campaign."""
    given = policy.defaults.model_fields_set if policy.defaults else set()
    scopes = []
    for id_ in (*(["{campaign}"] if policy.defaults else []), *policy.campaign):
        rules = policy.rules(id_)
        own = policy.campaign[id_].model_fields_set if id_ in policy.campaign else set()
        if rules is not None:
            audience = [tuple(_named(condition, id_) for condition in clause) for clause in rules.audience]
            exclude = [_named(condition, id_) for condition in rules.exclude]
            look = _looks(policy.retention.seconds, _flight(rules, policy.retention.seconds))
            scopes.append(_Scope(id_, rules, frozenset(given - own), frozenset(given & own), look, audience, exclude))
    return scopes


def _named(condition: Condition, campaign: str) -> Condition:
    """The condition about this campaign. No candidate can bring another `{campaign}`, as it can any other label."""
    if condition.subject is None:
        return condition
    return replace(condition, subject=condition.subject.replace("{campaign}", campaign))


def _flight(rules: Campaign, retention: int) -> _Window | None:
    """The flight as a window, with a day more than the plan gives it: a campaign may begin and end in two zones."""
    if rules.start is None:
        return None
    length = _length(rules.start, rules.end) + 3 * DAY if rules.end else retention + 1
    return _Window("flight", min(retention, length), rules.start, length <= retention)


def _length(start: LocalTime, end: LocalTime) -> int:
    utc = ZoneInfo("UTC")
    return end_instant(end, utc) - instant(start, utc)


def _once(same: dict[str, Finding], scopes: dict[str, _Scope]) -> Iterator[Finding]:
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
    policy: Policy, scope: _Scope, scopes: dict[str, _Scope], shown: Collection[str], labels: Collection[str]
) -> Iterator[Finding]:
    yield from _caps(policy, scope)
    yield from _audience(scope, scopes, shown)
    yield from _exclude(scope, scopes)
    yield from _clock(policy, scope)
    yield from _templates(scope, labels)
    yield from _long_flight(policy, scope)


def _caps(policy: Policy, scope: _Scope) -> Iterator[Finding]:
    group, above, thresholds = scope.bounds(), _label_bounds(policy, scope), []
    if policy.annoyance and scope.rules.counts:
        named = "channel" in scope.rules.labels
        weight = policy.annoyance.points.get(scope.rules.labels["channel"], 1) if named else 1
        thresholds = _thresholds(policy, scope.look, weight)
    idle = _idle(group, above, thresholds)
    if "gap" in scope.overrides:  # even an idle gap is of use where it replaces the default one
        idle.pop(scope.place("gap"), None)
    yield from _tell_idle(idle)
    others = [*group, *above, *(bound for threshold in thresholds for bound in threshold)]
    yield from _turns(group, others, lambda unit: scope.passes(unit, policy.week_start), idle)


def _label_bounds(policy: Policy, scope: _Scope) -> list[_Bound]:
    """What caps per label let happen of a campaign that carries the label and counts under it."""
    bounds: list[_Bound] = []
    for key, caps in policy.caps.items() if scope.rules.counts else ():
        kind, _, value = key.partition(":")
        if kind in scope.rules.labels and value in ("", scope.rules.labels[kind]):
            note = f" for {kind} {scope.rules.labels[kind]!r}"
            bounds += _bounds(f"caps.{key}", caps, scope.look, note=note)
    return bounds


def _threshold_lists(policy: Policy) -> dict[str, list[Cap]]:
    """The thresholds by their place, the general one last."""
    annoyance = policy.annoyance
    if annoyance is None:
        return {}
    segments = {f"annoyance.segment.{name}.threshold": part.threshold for name, part in annoyance.segment.items()}
    return {**segments, "annoyance.threshold": annoyance.threshold}


def _thresholds(policy: Policy, look: _Look, weight: int) -> list[list[_Bound]]:
    """What each threshold lets happen of impressions that cost so many points."""
    note = f" at {weight} points each" if weight > 1 else ""
    lists = []
    for place, caps in _threshold_lists(policy).items():
        bounds = _bounds(place, caps, look, points=True, note=note)
        lists.append([b._replace(limit=b.limit // weight, points=False) if b.points else b for b in bounds])
    return lists


def _exclude(scope: _Scope, scopes: dict[str, _Scope]) -> Iterator[Finding]:
    clauses = _numbered(scope.place("exclude"), [(condition,) for condition in scope.exclude])
    idle = list(_redundant(clauses, scope.look, any_of=True))
    yield from idle
    for place, (condition,) in clauses:
        too_many = _too_many(condition, scope.look, scopes)
        if too_many and all(finding.place != place for finding in idle):
            yield _finding("never-reached", place, f"{too_many}, so it never blocks", "lower the count")


def _clock(policy: Policy, scope: _Scope) -> Iterator[Finding]:
    rules = scope.rules
    if _never_opens(policy, scope):
        keys = [key for key in ("hours", "days", "start", "end") if getattr(rules, key) is not None]
        place = scope.place(next((key for key in keys if key not in scope.inherits), keys[0]))
        when = " and ".join(repr(times.text) for times in (rules.hours, rules.days) if times)
        text = f"the flight from {rules.start} to {rules.end} and {when} never meet"
        if _is_exact(rules):
            yield _finding("closed-at-home", place, f"{text} in {policy.timezone}", "move one of them")
        else:
            yield _finding("never-open", place, f"{text}: it is never shown", "move one of them")
    for key, times, whole in (
        ("hours", rules.hours, rules.hours and _is_whole_day(rules.hours.spans)),
        ("days", rules.days, rules.days and len(rules.days.days) == 7),
    ):
        if times and whole and key not in scope.overrides:  # over a default it is the way to lift it
            yield _finding("always-open", scope.place(key), f"{times.text!r} excludes nothing", "take it out")


def _never_opens(policy: Policy, scope: _Scope) -> bool:
    """Whether hours and days are closed all through the flight. Local times are judged in UTC, which skips none."""
    rules = scope.rules
    openings: list[Opening] = [Days(rules.days.days)] if rules.days else []
    openings += [Hours(rules.hours.spans)] if rules.hours else []
    if rules.start is None or rules.end is None or not openings:
        return False
    zone = ZoneInfo(policy.timezone if _is_exact(rules) else "UTC")
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


def _is_exact(rules: Campaign) -> bool:
    """Whether the flight begins or ends at the same instant in every time zone."""
    return any(isinstance(moment, datetime) and moment.tzinfo is not None for moment in (rules.start, rules.end))


def _is_open(spans: Iterable[tuple[int, int]], second: int) -> bool:
    return any(a <= second < b if a < b else second >= a or second < b for a, b in spans)


def _is_whole_day(spans: Collection[tuple[int, int]]) -> bool:
    """Whether a new span is open wherever one ends."""
    return all(_is_open(spans, second % DAY) for second in (0, *(end for _, end in spans)))


def _templates(scope: _Scope, labels: Collection[str]) -> Iterator[Finding]:
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


def _long_flight(policy: Policy, scope: _Scope) -> Iterator[Finding]:
    rules, retention = scope.rules, policy.retention
    if rules.start is None or rules.end is None or _length(rules.start, rules.end) <= retention.seconds:
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


def _implies(one: Condition, other: Condition, look: _Look) -> bool:
    """Whether the other holds wherever the one does."""
    return (
        one.event == other.event
        and other.subject in (one.subject, None)
        and other.count <= one.count
        and _covers(look(other.window), look(one.window))
    )


def _follows(clause: Iterable[Condition], other: Iterable[Condition], look: _Look) -> bool:
    """Whether the other clause holds wherever this one does: each alternative of this one implies one of the other."""
    return all(any(_implies(one, two, look) for two in other) for one in clause)


def _numbered(place: str, clauses: Iterable[tuple[Condition, ...]]) -> list[tuple[str, tuple[Condition, ...]]]:
    return [(f"{place}[{index}]", clause) for index, clause in enumerate(clauses)]


def _apart(place: str, clause: Iterable[Condition]) -> list[tuple[str, tuple[Condition, ...]]]:
    """The alternatives of a clause, each as a clause of its own."""
    return [(place, (condition,)) for condition in clause]


def _quoted(clause: Iterable[Condition]) -> str:
    return " or ".join(repr(condition.text) for condition in clause)


def _redundant(
    clauses: list[tuple[str, tuple[Condition, ...]]], look: _Look, *, any_of: bool = False
) -> Iterator[Finding]:
    """Clauses that make no difference beside another: where all must hold, or where any one will do."""
    for index, (place, clause) in enumerate(clauses):
        for position, (other_place, other) in enumerate(clauses):
            weak, strong = (other, clause) if any_of else (clause, other)
            same = _follows(weak, strong, look)
            if position == index or not _follows(strong, weak, look) or (same and position > index):
                continue
            if same:
                text = f"{_quoted(clause)} says what {other_place} {_quoted(other)} says"
                yield _finding("twice", place, text, "take one of them out")
            else:
                text = f"{_quoted(clause)} never binds: {other_place} {_quoted(other)} decides wherever it would"
                yield _finding("never-binds", place, text, _TAKE_OUT)
            break


def _too_many(condition: Condition, look: _Look, scopes: dict[str, _Scope]) -> str | None:
    """Why so many impressions of a campaign of this policy never happen; None if they can."""
    if condition.event != IMPRESSION or condition.subject not in scopes:
        return None
    for bound in scopes[condition.subject].bounds():
        lets = _lets(bound, look(condition.window))
        anywhere = lets and (lets[1] or bound.window.kind not in _SHORTEST)  # also for those who change the time zone
        if lets and anywhere and lets[0] < condition.count:
            return f"{condition.text!r} is more than {bound.place} {bound.text!r} lets happen (at most {lets[0]})"
    return None


def _impossible(
    condition: Condition, look: _Look, scopes: dict[str, _Scope], shown: Collection[str], blocks: dict[str, Condition]
) -> str | None:
    """Why the condition can never hold, or never without blocking; None if it can."""
    for place, block in blocks.items():
        if _implies(condition, block, look):
            return f"whoever meets {condition.text!r} is blocked by {place} {block.text!r}"
    if _needs(condition, scopes, shown):
        return f"{condition.text!r} needs {condition.subject!r}, which can never be shown"
    return _too_many(condition, look, scopes)


def _needs(condition: Condition, scopes: dict[str, _Scope], shown: Collection[str]) -> str | None:
    """The campaign that must have been shown for the condition to hold, and that cannot be; None if there is none."""
    subject = condition.subject
    return subject if condition.event in _NEEDS_SHOWING and subject in scopes and subject not in shown else None


def _showable(scopes: dict[str, _Scope], policy: Policy) -> set[str]:
    """The campaigns that can be shown to somebody: first those that need no other, then those that need only these."""
    shown: set[str] = set()
    waiting: dict[str | None, list[_Scope]] = {}
    for scope in scopes.values():
        for needed in {_needs(condition, scopes, ()) for clause in scope.audience for condition in clause}:
            waiting.setdefault(needed, []).append(scope)
    queue = list(scopes.values())
    for scope in queue:
        opens = _is_exact(scope.rules) or not _never_opens(policy, scope)
        if scope.id not in shown and opens and not any(_closed_clauses(scope, scopes, shown)):
            shown.add(scope.id)
            queue += waiting.get(scope.id, [])
    return shown


def _closed_clauses(scope: _Scope, scopes: dict[str, _Scope], shown: Collection[str]) -> Iterator[str]:
    """For each clause of the audience why nobody can meet it; empty if somebody can."""
    blocks = {f"{scope.place('exclude')}[{index}]": condition for index, condition in enumerate(scope.exclude)}
    for clause in scope.audience:
        reasons = [_impossible(condition, scope.look, scopes, shown, blocks) for condition in clause]
        yield "; ".join(dict.fromkeys(reason for reason in reasons if reason)) if all(reasons) else ""


def _audience(scope: _Scope, scopes: dict[str, _Scope], shown: Collection[str]) -> Iterator[Finding]:
    clauses = _numbered(scope.place("audience"), scope.audience)
    yield from _redundant(clauses, scope.look)
    for place, clause in clauses:
        yield from _redundant(_apart(place, clause), scope.look, any_of=True)
    for (place, clause), reason in zip(clauses, _closed_clauses(scope, scopes, shown), strict=True):
        waits = reason and any(_needs(condition, scopes, shown) for condition in clause)
        circle = _circle(scope, scopes, shown) if waits else []
        if reason and circle:
            text = f"nobody can enter: {' needs '.join(circle)} to be shown first"
            yield _finding("circle", place, text, "begin the journey with a campaign that needs none of these")
        elif reason:
            yield _finding("nobody", place, f"nobody can enter: {reason}", "loosen one of them")


def _circle(scope: _Scope, scopes: dict[str, _Scope], shown: Collection[str]) -> list[str]:
    """The shortest way from a campaign back to itself, each needing the next; empty where there is none."""
    paths = [[scope.id]]
    seen: set[str] = set()
    for path in paths:
        for condition in (c for clause in scopes[path[-1]].audience for c in clause):
            needed = _needs(condition, scopes, shown)
            if needed == scope.id:
                return [*path, needed]
            if needed and needed not in seen:
                seen.add(needed)
                paths.append([*path, needed])
    return []


# ---- What is asked of all --------------------------------------------------------------------------------------------


def _has_loose(scopes: dict[str, _Scope]) -> bool:
    """Whether something counts without obeying: then a shared timeline may hold more than its caps let happen."""
    return any(scope.rules.counts and not scope.rules.obeys for scope in scopes.values())


def _of_labels(policy: Policy, scopes: dict[str, _Scope]) -> Iterator[Finding]:
    look = _looks(policy.retention.seconds, _Window("flight", policy.retention.seconds))
    for key, caps in policy.caps.items():
        kind, _, value = key.partition(":")
        group, above = _bounds(f"caps.{key}", caps, look), []
        if value:
            above = _bounds(f"caps.{kind}", policy.caps.get(kind, []), look)
        weight = policy.annoyance.points.get(value, 1) if policy.annoyance and value and kind == "channel" else 1
        thresholds = _thresholds(policy, look, weight)
        idle = _idle(group, above, thresholds, sure=_has_loose(scopes))
        yield from _tell_idle(idle)
        others = [*group, *above, *(bound for threshold in thresholds for bound in threshold)]
        yield from _turns(group, others, lambda unit: _any_passes(policy, scopes, unit), idle)


def _any_passes(policy: Policy, scopes: dict[str, _Scope], unit: str) -> bool:
    return any(scope.passes(unit, policy.week_start) for scope in scopes.values())


def _of_thresholds(policy: Policy, scopes: dict[str, _Scope]) -> Iterator[Finding]:
    lists, look = _threshold_lists(policy), _looks(policy.retention.seconds)
    for place, caps in lists.items():
        group = _bounds(place, caps, look, points=True)
        idle = _idle(group, [], [], sure=len(lists) > 1 or _has_loose(scopes))
        yield from _tell_idle(idle)
        yield from _turns(group, group, lambda unit: _any_passes(policy, scopes, unit), idle)
    carried = {scope.rules.labels.get("channel") for scope in scopes.values()}
    for channel, points in policy.annoyance.points.items() if policy.annoyance else ():
        cap = [(place, cap) for place, caps in lists.items() for cap in caps if cap.limit < points]
        if cap and channel not in carried:  # where a campaign carries it the policy does not load
            text = f"one impression costs {points} points, which {cap[0][0]} {cap[0][1].text!r} never allows"
            yield _finding("too-heavy", f"annoyance.points.{channel}", text, "lower the points or raise the threshold")


def _of_segments(
    policy: Policy, scopes: dict[str, _Scope], shown: Collection[str], labels: Collection[str]
) -> Iterator[Finding]:
    look, earlier = _looks(policy.retention.seconds), dict[str, list[tuple[Condition, ...]]]()
    scopes = {id_: scope for id_, scope in scopes.items() if id_ in policy.campaign}  # {campaign} may be any here
    carried = {kind for campaign in policy.campaign.values() for kind in campaign.labels}
    for name, segment in policy.annoyance.segment.items() if policy.annoyance else ():
        clauses = _numbered(f"annoyance.segment.{name}.who", segment.who)
        yield from _redundant(clauses, look)
        for place, clause in clauses:
            yield from _redundant(_apart(place, clause), look, any_of=True)
            yield from _unfilled(place, clause, {"campaign", *carried, *labels})
            reasons = [_impossible(condition, look, scopes, shown, {}) for condition in clause]
            if all(reasons):
                text = f"nobody is in this segment: {'; '.join(reason for reason in reasons if reason)}"
                yield _finding("nobody", place, text, "loosen it, or take the segment out")
        for other, who in earlier.items():
            if all(any(_follows(clause, wide, look) for clause in segment.who) for wide in who):
                text = f"whoever is in {name!r} is in {other!r}, which comes first, so its threshold is never in force"
                yield _finding(
                    "hidden-segment", f"annoyance.segment.{name}", text, f"put it first, or narrow {other!r}"
                )
                break
        earlier[name] = segment.who


# ---- Words -----------------------------------------------------------------------------------------------------------


def _written(policy: Policy) -> tuple[list[tuple[str, Cap | Duration]], list[tuple[str, Condition]]]:
    """Every cap and gap, and every condition, each with its place."""
    rules: dict[str, Campaign | Rules] = {f"campaign.{id_}": campaign for id_, campaign in policy.campaign.items()}
    if policy.defaults:
        rules["defaults"] = policy.defaults
    lists = {**_threshold_lists(policy), **{f"caps.{key}": caps for key, caps in policy.caps.items()}}
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


def _beyond_retention(policy: Policy) -> Iterator[Finding]:
    caps, conditions = _written(policy)
    shortest = {"hour": 3_600, "day": DAY, **_SHORTEST}
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


def _unknown_labels(policy: Policy, labels: Collection[str]) -> Iterator[Finding]:
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


def _unknown_words(policy: Policy, events: Collection[str]) -> Iterator[Finding]:
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
