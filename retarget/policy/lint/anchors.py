"""Windows that begin at another event (`since`): those that count nothing, and those whose event can never happen.

Rules:
- What is counted is never newer than the newest of the same. What is reserved is: it may be shown at any later moment.
- An event that never happened leaves the window a lifetime.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from retarget.policy.grammar import Cap, Condition
from retarget.policy.lint.bounds import LookbackOf, Topic, counts_nothing, lookbacks, named
from retarget.policy.lint.finding import Finding, make
from retarget.policy.lint.scopes import Scope, never_happens
from retarget.policy.models import PolicyModel, threshold_lists
from retarget.timelines import IMPRESSION


class _Rule(NamedTuple):
    """A rule: its place and text, what it counts, all of whose names count as one, and its window."""

    place: str
    rule: Cap | Condition
    counted: tuple[Topic, ...]


def of_scope(scope: Scope, scopes: dict[str, Scope], shown: Collection[str]) -> Iterator[Finding]:
    """What is wrong with the windows of a campaign."""
    itself = (IMPRESSION, scope.id)
    caps = scope.rules.caps if scope.rules.obeys else []
    rules = [_Rule(f"{scope.place('caps')}[{index}]", cap, (itself,)) for index, cap in enumerate(caps)]
    clauses = [*enumerate(scope.rules.audience), *enumerate((condition,) for condition in scope.rules.exclude)]
    for position, (index, clause) in enumerate(clauses):
        key = "audience" if position < len(scope.rules.audience) else "exclude"
        rules += _of_clause(f"{scope.place(key)}[{index}]", clause, required=key == "audience", campaign=scope.id)
    yield from _wrong(rules, scope.lookback, {id_: other for id_, other in scopes.items() if id_ != scope.id}, shown)


def of_policy(policy: PolicyModel, scopes: dict[str, Scope], shown: Collection[str]) -> Iterator[Finding]:
    """What is wrong with the windows of label caps, thresholds and segments."""
    rules: list[_Rule] = []
    for key, caps in policy.caps.items():
        kind = key.partition(":")[0]
        names = ((IMPRESSION, key), (IMPRESSION, f"{kind}:{{{kind}}}"))
        rules += (_Rule(f"caps.{key}[{index}]", cap, names) for index, cap in enumerate(caps))
    for place, caps in threshold_lists(policy).items():
        rules += (_Rule(f"{place}[{index}]", cap, ((IMPRESSION, None),)) for index, cap in enumerate(caps))
    for name, segment in policy.annoyance.segment.items() if policy.annoyance else ():
        for index, clause in enumerate(segment.who):
            rules += _of_clause(f"annoyance.segment.{name}.who[{index}]", clause, required=True)
    yield from _wrong(rules, lookbacks(policy.retention.seconds), scopes, shown)


def _of_clause(
    place: str, clause: tuple[Condition, ...], *, required: bool, campaign: str = "{campaign}"
) -> Iterator[_Rule]:
    """The conditions of a clause. What makes nobody enter, where it is required, is reported as that."""
    for condition in clause:
        counted = named((condition.event, condition.subject), campaign)
        closed = required and len(clause) == 1 and condition.event != IMPRESSION
        yield _Rule(place, condition, () if closed else (counted,))


def _wrong(
    rules: Iterable[_Rule], lookback: LookbackOf, scopes: dict[str, Scope], shown: Collection[str]
) -> Iterator[Finding]:
    for place, rule, counted in rules:
        window = lookback(rule.window)
        if window.anchor is None:
            continue
        event, subject = window.anchor
        if any(counts_nothing(topic, window) for topic in counted):
            text = f"{rule.text!r} counts nothing"
            if counted[0][0] == IMPRESSION:
                text += " but what is reserved"
            text += ": its window begins at the newest of what it counts"
            yield make("counts-nothing", place, text, "count since another event")
        elif never_happens(window.anchor, scopes, shown):
            text = f"{rule.text!r} never begins anew: {event} needs {subject!r}, which can never be shown"
            yield make("never-anew", place, text, "count since another event, or write lifetime")
