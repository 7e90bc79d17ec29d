"""What the rules of a policy ask about: events and their subjects, as the policy writes them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from retarget.policy.grammar import Condition, Span
from retarget.policy.models import PolicyModel, Rules


def asked_events(policy: PolicyModel) -> tuple[tuple[str, str | None], ...]:
    """The events that conditions ask about or windows begin at, each with its subject; None is any."""
    asked = chain(_of_rules(policy), _of_segments(policy), _of_caps(policy))
    return tuple(dict.fromkeys(asked))


def _of_rules(policy: PolicyModel) -> Iterator[tuple[str, str | None]]:
    rules: list[Rules] = [*policy.campaign.values(), *([policy.defaults] if policy.defaults else [])]
    for one in rules:
        for condition in (*chain.from_iterable(one.audience), *one.exclude):
            yield from _of_condition(condition)
        for cap in one.caps:
            yield from _of_window(cap.window)


def _of_segments(policy: PolicyModel) -> Iterator[tuple[str, str | None]]:
    for segment in policy.annoyance.segment.values() if policy.annoyance else ():
        for condition in chain.from_iterable(segment.who):
            yield from _of_condition(condition)
        for cap in segment.threshold:
            yield from _of_window(cap.window)


def _of_caps(policy: PolicyModel) -> Iterator[tuple[str, str | None]]:
    for cap in (*chain.from_iterable(policy.caps.values()), *(policy.annoyance.threshold if policy.annoyance else ())):
        yield from _of_window(cap.window)


def _of_condition(condition: Condition) -> Iterator[tuple[str, str | None]]:
    yield condition.event, condition.subject
    yield from _of_window(condition.window)


def _of_window(window: Span | None) -> Iterator[tuple[str, str | None]]:
    if window is not None and window.event is not None:
        yield window.event, window.subject
