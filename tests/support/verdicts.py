"""Shorthand for tests of verdicts: times, impressions of a certain age, and when a block ends."""

from __future__ import annotations

from datetime import UTC, datetime

from retarget import (
    Retargeter,
)
from retarget.events import Subject
from tests.support.fixtures import Clock

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def at(moment: int) -> datetime:
    """The aware datetime of an epoch second."""
    return datetime.fromtimestamp(moment, UTC)


def second(text: str) -> int:
    """The epoch second of an ISO 8601 text."""
    return int(datetime.fromisoformat(text).timestamp())


def eligible_again(ads: Retargeter, subject: Subject = "a", visitor: str = "v") -> int | None:
    """`eligible_at` in epoch seconds, after checking that the visitor is blocked one second before, and not at it."""
    verdict = ads.decide(visitor, [subject])[subject]
    assert not verdict.eligible
    assert verdict.reason != "eligible"
    if verdict.eligible_at is None:
        return None
    again = int(verdict.eligible_at.timestamp())
    assert ads.decide(visitor, [subject], now=again - 1).eligible == ()
    assert ads.decide(visitor, [subject], now=again).eligible == (subject,)
    return again


def see(ads: Retargeter, campaign: Subject, *ages: int, clock: Clock, visitor: str = "v") -> None:
    """Record an impression of each age, in seconds."""
    for age in ages:
        assert ads.record(visitor, "impression", campaign, at=clock.now - age) is True
