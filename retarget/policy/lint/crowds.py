"""Rules that may remember more timelines of one visitor than there is room for.

Rules:
- A blocking rule about each campaign, or about each value of a label, begins a timeline for each that a visitor meets.
  A visitor has room for `MOST_TIMELINES`; one who meets more, while all of them still matter, is blocked as "full".
- Windows of up to a calendar month are never reported, nor rules about campaigns and labels that the policy lists,
  unless they are more than that, nor what the thresholds keep rarer than that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from retarget.policy.grammar import labels_in
from retarget.policy.lint.bounds import Lookback, LookbackOf, allowed_within, lookbacks
from retarget.policy.lint.finding import Finding, make
from retarget.policy.lint.scopes import Scope, thresholds_of
from retarget.policy.models import PolicyModel
from retarget.timelines import DAY, IMPRESSION, MOST_TIMELINES

_LONG = 32 * DAY
"""More than a calendar month, in seconds."""


class _Each(NamedTuple):
    """A blocking rule with a timeline of impressions for each value of a kind, and for how long these matter."""

    place: str
    text: str
    kind: str
    seconds: int


def many_timelines(policy: PolicyModel, scopes: dict[str, Scope], *, uncapped: bool) -> Iterator[Finding]:
    """Blocking rules about each value of something that a visitor may meet very many of.

    `uncapped`: a campaign counts although it never obeys, so that thresholds bound nothing.
    """
    carried: dict[str, set[str]] = {}
    for campaign in policy.campaign.values():
        for kind, value in campaign.labels.items():
            carried.setdefault(kind, set()).add(value)
    lookback = lookbacks(policy.retention.seconds, Lookback("flight", policy.retention.seconds))
    seen: set[str] = set()
    for each in (*_of_labels(policy, lookback), *_of_scopes(scopes.values())):
        if each.kind == "campaign":
            few, key = False, each.place.partition(".")[0]  # one finding for all campaigns, and one for [defaults]
        else:
            few, key = 0 < len(carried.get(each.kind, ())) <= MOST_TIMELINES, each.place
        if key in seen or few or each.seconds <= _LONG or (not uncapped and _is_rare(policy, each)):
            continue
        seen.add(key)
        yield make(
            "many-timelines",
            each.place,
            f"{each.text!r} is remembered for {each.seconds // DAY:,} days for each {each.kind}: a visitor who is "
            f"shown more than {MOST_TIMELINES:,} of them in that time is blocked as full",
            "use a window of a month or less, shorten retention, or limit a label that has fewer values",
        )


def _of_labels(policy: PolicyModel, lookback: LookbackOf) -> Iterator[_Each]:
    for key, caps in policy.caps.items():
        for index, cap in enumerate(caps if ":" not in key else ()):
            yield _Each(f"caps.{key}[{index}]", cap.text, key, lookback(cap.window).seconds)


def _of_scopes(scopes: Collection[Scope]) -> Iterator[_Each]:
    """Rules of campaigns: those with a template; about the campaign itself only if they are many, or unknown."""
    lasting = sum(any(each.seconds > _LONG for each in _asked(scope, itself=True)) for scope in scopes)
    for scope in scopes:
        yield from _asked(scope, itself=lasting > MOST_TIMELINES or "{" in scope.id)


def _asked(scope: Scope, *, itself: bool) -> Iterator[_Each]:
    rules = scope.rules
    if itself and rules.obeys:
        for index, cap in enumerate(rules.caps):
            yield _Each(f"{scope.place('caps')}[{index}]", cap.text, "campaign", scope.lookback(cap.window).seconds)
        if rules.gap is not None:
            yield _Each(scope.place("gap"), rules.gap.text, "campaign", rules.gap.seconds)
    for index, condition in enumerate(rules.exclude):
        kinds = [kind for kind in labels_in(condition.subject or "") if itself or kind != "campaign"]
        if condition.event == IMPRESSION and kinds:
            seconds = scope.lookback(condition.window).seconds
            yield _Each(f"{scope.place('exclude')}[{index}]", condition.text, kinds[0], seconds)


def _is_rare(policy: PolicyModel, each: _Each) -> bool:
    """Whether every threshold keeps impressions within that time to as many as there is room for."""
    lookback = lookbacks(policy.retention.seconds)
    window = Lookback("rolling", each.seconds)
    thresholds = thresholds_of(policy, lookback, 1)
    allowed = [[found for bound in bounds if (found := allowed_within(bound, window))] for bounds in thresholds]
    return bool(allowed) and all(min(found, default=(MOST_TIMELINES + 1,))[0] <= MOST_TIMELINES for found in allowed)
