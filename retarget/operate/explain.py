"""What is known of a visitor and what follows from it, for a person who asks "why do they (not) see this ad?".

Rules:
- It asks through the same client as the ad server and adds no judgement of its own.
- Everything in it can be written as JSON; moments are ISO 8601 in the given zone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from retarget.engine import AnnoyanceLevel
from retarget.events import When
from retarget.retargeter import Retargeter


@dataclass(frozen=True, slots=True)
class Explanation:
    """A visitor's timelines, and each campaign's verdict with the next time it may be shown."""

    visitor: str = field(repr=False)
    at: str
    timelines: dict[str, list[str]]
    verdicts: dict[str, dict[str, Any]]
    annoyance: AnnoyanceLevel | None

    @property
    def known(self) -> bool:
        """Whether anything is remembered of the visitor."""
        return bool(self.timelines)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)


def explain_visitor(
    ads: Retargeter, visitor: str, *, now: When | None = None, timezone: str | None = None
) -> Explanation:
    """Explain, for every campaign of the policy, whether `visitor` may be shown it at `now`, and why not.

    Raises InputError, and StoreError if the store fails, whatever the policy's `on_store_error` says.
    """
    decision = ads.decide(visitor, now=now, timezone=timezone)
    if decision.degraded is not None:
        raise decision.degraded
    zone = ZoneInfo(timezone or ads.policy.timezone)
    remembered = ads.export(visitor)["timelines"]
    verdicts = {}
    for candidate in decision:
        verdict = decision[candidate]
        eligible_at = None if verdict.eligible_at is None else _local(verdict.eligible_at, zone)
        verdicts[str(candidate)] = {
            "eligible": verdict.eligible,
            "reason": verdict.reason,
            "rule": verdict.rule,
            "seen": verdict.seen,
            "limit": verdict.limit,
            "eligible_at": eligible_at,
        }
    return Explanation(
        visitor=visitor,
        at=_local(decision.at, zone),
        timelines={
            name: [_local(datetime.fromisoformat(at), zone) for at in timeline["at"]]
            for name, timeline in remembered.items()
        },
        verdicts=verdicts,
        annoyance=decision.annoyance,
    )


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).isoformat()
