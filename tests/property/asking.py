"""Short ways to set up an oracle and ask it, and to compare the library with it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from retarget import Verdict
from retarget.events import Candidate
from retarget.policy import Policy
from tests.property.oracle import Oracle, OracleVerdict

T = int(datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp())
"""A Wednesday, noon in UTC."""


def at(text: str, zone: str = "UTC") -> int:
    """The epoch second of a local time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def oracle(rules: dict[str, Any], /, **policy: Any) -> Oracle:
    """An oracle of one campaign `ad`, and whatever else the policy says."""
    campaigns = {"ad": rules, **policy.pop("campaign", {})}
    return Oracle(Policy.model_validate({"campaign": campaigns, **policy}))


def shown(self: Oracle, *moments: int, what: str | Candidate = "ad") -> Oracle:
    """The oracle after impressions at these moments."""
    for moment in moments:
        assert self.record("v", "impression", what, moment)
    return self


def ok(self: Oracle, now: int, what: str | Candidate = "ad", zone: str | None = None) -> bool:
    """Whether the candidate is eligible."""
    return self.decide("v", what, now, zone).eligible


def compare(verdict: Verdict, expected: OracleVerdict) -> None:
    """The verdict is the oracle's, names one of the rules that forbid, and counts what that rule counts."""
    assert verdict.eligible is expected.eligible, (verdict, expected)
    if verdict:
        assert (verdict.reason, verdict.rule, verdict.seen, verdict.limit) == ("eligible", None, None, None)
        return
    named = [rule for rule in expected.broken if (rule.reason, rule.rule) == (verdict.reason, verdict.rule)]
    assert any(rule.limit == verdict.limit and is_seen(verdict.seen, rule.seen) for rule in named), (verdict, expected)


def is_seen(seen: int | None, expected: int | None) -> bool:
    """Whether the figure is right, as far as entries are kept: the newest 16 at least."""
    return seen == expected or (seen is not None and expected is not None and 16 <= seen < expected)


def second(verdict: Verdict) -> int | None:
    """The epoch second of `eligible_at`."""
    return None if verdict.eligible_at is None else int(verdict.eligible_at.timestamp())
