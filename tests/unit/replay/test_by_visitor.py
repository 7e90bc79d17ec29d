"""Visitors judged in memory: any policy, any log, as an oracle that keeps everything would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retarget.events import Candidate, Event
from retarget.logs import Kind
from retarget.logs.log import LogRow
from retarget.policy import Policy
from retarget.replay.by_visitor import VisitorJudge
from retarget.replay.meanings import labels_of
from retarget.timelines import MOST_TIMELINES
from tests.property.oracle import Oracle
from tests.support.replays import EVERYTHING, MONDAY, row, run, shop_rows
from tests.support.strategies import events, policies, second_of

DAY = 86_400
KINDS = ("item", "channel", "advertiser")


def as_row(event: Event) -> LogRow:
    """The event as a row of a log."""
    target = event.subject
    labels = dict(target.labels) if isinstance(target, Candidate) else {}
    name = target.campaign if isinstance(target, Candidate) else target
    on_campaign = isinstance(target, Candidate) or event.event == "impression"
    return row(
        second_of(event),
        event.visitor,
        name if on_campaign else None,
        *(labels.get(kind) for kind in ("item", "channel", "advertiser")),
        event=event.event,
        subject=None if on_campaign else name,
        id=event.id,
    )


def by_scanning(policy: Policy, rows: Sequence[LogRow], kinds: tuple[str, ...]) -> Counter[str]:
    """How many impressions of each campaign are served, by an oracle that keeps everything and scans it."""
    oracle, served = Oracle(policy), Counter[str]()
    seen: set[tuple[str | None, str, str]] = set()
    for one in sorted(rows, key=lambda row: row.at):
        assert one.visitor is not None
        if one.id is not None:
            if (one.visitor, one.event, one.id) in seen:
                continue
            seen.add((one.visitor, one.event, one.id))
        labels = {kind: label for kind, label in zip(KINDS, one.labels, strict=True) if label and kind in kinds}
        target = Candidate(one.campaign, **labels) if one.campaign is not None else one.subject
        if one.event != "impression":
            oracle.record(one.visitor, one.event, target, one.at)
        elif oracle.claim(one.visitor, [cast("Candidate", target)], one.at) is not None:
            served[str(one.campaign)] += 1
    return served


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_any_policy(data: st.DataObject) -> None:
    """For any policy and log, memory, a store, and an oracle that scans all serve the same impressions."""
    policy = Policy.model_validate(data.draw(policies()))
    rows = [as_row(one) for one in data.draw(st.lists(events(policy), max_size=25))]
    result = run(policy, rows, *KINDS)
    known = policy if policy.defaults is not None else Policy.model_validate(_with_defaults(policy))
    served = by_scanning(known, rows, labels_of(policy))
    assert {id_: one.served for id_, one in result.campaigns.items() if one.served} == dict(served)


def _with_defaults(policy: Policy) -> dict[str, Any]:
    return {**policy.model_dump(exclude_unset=True), "defaults": {}}


def test_shop_with_everything() -> None:
    """A shop's weeks under a policy with every kind of rule: memory and a store agree in every figure."""
    result = run(EVERYTHING, shop_rows(250), "channel", "advertiser", "creative", "item")
    reasons = {reason for reason, _ in result.total.rules}
    assert reasons == {"cap", "gap", "annoyance", "audience", "exclude", "hours", "days", "start", "end"}
    assert 0 < result.served < result.impressions


def test_a_bot_with_more_timelines_than_a_visitor_may_have() -> None:
    """A visitor who is full is judged alike in memory and through a store; dropped events are reported."""
    policy = '[caps]\nitem = ["1 per 7 days"]\n[campaign.c]\nexclude = ["visit {item} within 9 days"]'
    rows = [row(MONDAY + n, "bot", "c", f"item-{n % (MOST_TIMELINES + 128)}") for n in range(MOST_TIMELINES + 188)]
    rows += [row(MONDAY + 3_000 + n, "bot", None, event="visit", subject=f"item-{n}") for n in range(20)]
    rows += [row(MONDAY + n, "other", "c", "item-1") for n in range(3)]
    rows = [one._replace(labels=one.labels or (None,)) for one in rows]
    result = run(policy, rows, "item")
    assert result.total.rules["full", "full"] > 0
    assert result.dropped == 20
    assert result.reached == 2
    assert result.full.visitors == 1


@pytest.mark.parametrize(
    ("served", "at", "why"),
    [
        ([0], 60, "gap 90 seconds"),
        ([0, 100], 150, "2 per hour"),
        ([0, 100], 300, "2 per hour"),
        ([0, 100, 4_000], 4_050, "3 per day"),
        ([0, 100, 4_000], 4_200, "3 per day"),
        ([0, 100, 4_000], 90_000, None),
    ],
)
def test_of_several_rules_the_one_that_expires_last_is_named(served: list[int], at: int, why: str | None) -> None:
    """Where one limit is reached it is the reason; where several are, the engine names the one that expires last."""
    policy = '[defaults]\ngap = "90 seconds"\ncaps = ["2 per hour", "3 per day"]'
    result = run(policy, [row(MONDAY + second) for second in (*served, at)])
    assert result.suppressed_by == ({why: 1} if why else {})


def test_ties_and_limits_on_several_timelines() -> None:
    """Of rules that expire in the same second the first is named, whichever timelines they are on."""
    policy = '[annoyance]\nthreshold = ["2 per day"]\n[caps]\nslot = ["2 per day"]\n[defaults]\ncaps = ["2 per day"]'
    rows = [row(MONDAY, "v", "c", "top"), row(MONDAY + 5, "v", "c", "top"), row(MONDAY + 9, "v", "c", "top")]
    assert run(policy, rows, "slot").total.rules == {("cap", "2 per day"): 1}
    other = [*rows[:2], row(MONDAY + 9, "v", "d", "side"), row(MONDAY + DAY + 1, "v", "d", "side")]
    assert run(policy, other, "slot").total.rules == {("annoyance", "annoyance: 2 per day"): 1}


def test_harmless_visitors() -> None:
    """Visitors with too few rows for the lowest limit are skipped; with other rules none is."""
    kind = Kind("impression", "c", None, False, False, None, False, False, (), 6, MONDAY, 0, 0)  # noqa: FBT003
    for policy, harmless in (
        ('[defaults]\ncaps = ["3 per day", "9 per 7 days"]', 3),
        (
            '[annoyance]\nthreshold = ["8 per day"]\npoints = { x = 3 }\n[campaign.c]\nlabels = { channel = "x" }',
            2,
        ),
        ('[defaults]\ncaps = ["3 per calendar day"]', 0),
        ('[defaults]\nhours = "08:00-09:00"', 0),
    ):
        rules = Policy.from_text(policy)
        if rules.defaults is None:
            rules = Policy.model_validate(_with_defaults(rules))
        assert VisitorJudge(rules, [kind], []).harmless == harmless, policy
