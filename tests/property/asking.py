"""Short ways to set up an oracle and ask it, for the tests of the oracle itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from retarget.events import Candidate
from retarget.policy import Policy
from tests.property.oracle import Oracle

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
