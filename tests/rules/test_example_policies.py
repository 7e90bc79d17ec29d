"""The policies of docs/policies: between them they use every kind of rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from retarget import Policy
from tests.support.life import POLICIES

USES: dict[str, Callable[[Policy], object]] = {
    "points per channel": lambda p: p.annoyance and p.annoyance.points,
    "a threshold per segment": lambda p: p.annoyance and p.annoyance.segment,
    "a cap per label": lambda p: any(":" not in key for key in p.caps),
    "a cap for one label": lambda p: any(":" in key for key in p.caps),
    "defaults": lambda p: p.defaults,
    "{item}": lambda p: _conditions(p, "{item}"),
    "{campaign}": lambda p: _conditions(p, "{campaign}"),
    "any": lambda p: any(len(clause) > 1 for c in p.campaign.values() for clause in c.audience),
    "exclude": lambda p: any(c.exclude for c in p.campaign.values()),
    "a count of events": lambda p: any(x.count > 1 for c in p.campaign.values() for y in c.audience for x in y),
    "gap": lambda p: any(c.gap for c in p.campaign.values()),
    "spread": lambda p: any(cap.spread for c in p.campaign.values() for cap in c.caps),
    "hours": lambda p: any(c.hours for c in p.campaign.values()),
    "several hours": lambda p: any(c.hours and len(c.hours.spans) > 1 for c in p.campaign.values()),
    "days": lambda p: any(c.days for c in p.campaign.values()),
    "start and end": lambda p: any(c.start and c.end for c in p.campaign.values()),
    "obeys = false, counted": lambda p: any(not c.obeys and c.counts for c in p.campaign.values()),
    "obeys = false, not counted": lambda p: any(not c.obeys and not c.counts for c in p.campaign.values()),
    "counts = false, capped": lambda p: any(c.obeys and not c.counts for c in p.campaign.values()),
    "weeks from Sunday": lambda p: p.week_start == "sunday",
    "per duration": lambda p: "rolling" in _periods(p),
    "per calendar hour": lambda p: "hour" in _periods(p),
    "per calendar day": lambda p: "day" in _periods(p),
    "per calendar week": lambda p: "week" in _periods(p),
    "per calendar month": lambda p: "month" in _periods(p),
    "per flight": lambda p: "flight" in _periods(p),
    "per lifetime": lambda p: "lifetime" in _periods(p),
    "per session": lambda p: "session" in _periods(p),
    "a cap since an event": lambda p: "since" in _periods(p),
    "a condition since an event": lambda p: _since(p),
}


def _periods(policy: Policy) -> set[str]:
    return {cap.window.period for campaign in policy.campaign.values() for cap in campaign.caps}


def _since(policy: Policy) -> bool:
    conditions = [condition for c in policy.campaign.values() for clause in c.audience for condition in clause]
    return any(condition.window and condition.window.period == "since" for condition in conditions)


def _conditions(policy: Policy, template: str) -> bool:
    rules = [*policy.campaign.values(), *([policy.defaults] if policy.defaults else [])]
    return any(template in (condition.subject or "") for rule in rules for condition in rule.exclude)


@pytest.mark.parametrize("kind", USES)
def test_the_examples_use_every_kind_of_rule(kind: str) -> None:
    """Each kind of rule is in at least one of the four example policies."""
    assert any(USES[kind](Policy.from_toml(path)) for path in POLICIES.glob("*.toml"))
