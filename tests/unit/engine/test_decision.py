"""decision.py: eligible candidates, verdicts and the annoyance level; a decision that is pickled or copied."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.engine.decision import AnnoyanceLevel, Decision, Verdict, denying_rule
from retarget.engine.plan import Plan
from retarget.engine.rules import Reason
from retarget.engine.view import PlanAt, View
from retarget.errors import InputError, StoreError
from retarget.events import Candidate, Subject
from retarget.policy import Policy
from retarget.timelines import DAY
from tests.support import strategies
from tests.support.histories import NOW, Happened, held, history, packed, plan_of, view_of

HOUR = 3_600
COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    lambda decision: pickle.loads(pickle.dumps(decision)),  # noqa: S301 - our own bytes
    lambda decision: pickle.loads(pickle.dumps(decision, protocol=2)),  # noqa: S301
]
SHOP = """
    [annoyance]
    threshold = ["9 per day", "20 per 7 days"]
    points = { email = 3 }
    [annoyance.segment.customers]
    who = ["purchase within 30 days"]
    threshold = ["50 per 7 days"]
    [campaign.capped]
    caps = ["1 per day"]
    [campaign.mail]
    labels = { channel = "email" }
    [campaign.shut]
    hours = "08:00-09:00"
    [campaign.lost]
    audience = ["visit {item}"]
"""


def utc(second: int) -> datetime:
    """The aware datetime of an epoch second."""
    return datetime.fromtimestamp(second, UTC)


def decided(plan: Plan, *events: Happened, candidates: tuple[Subject, ...] | None = None) -> Decision:
    """The decision on a visitor to whom this happened."""
    view = view_of(plan, *events)
    return Decision(view.plan_at, candidates, view=view)


def uniform(plan: Plan, verdict: Verdict, candidates: tuple[Subject, ...] | None = None, **more: Any) -> Decision:
    """A decision without a history."""
    return Decision(PlanAt(plan, NOW, plan.zone), candidates, uniform=verdict, **more)


def denied(reason: Reason, rule: str, seen: int, limit: int, eligible_at: datetime | None = None) -> Verdict:
    """A verdict that forbids."""
    return Verdict(eligible=False, reason=reason, rule=rule, seen=seen, limit=limit, eligible_at=eligible_at)


# ---- eligible ----


@given(strategies.policies(), st.data())
@settings(max_examples=60, deadline=None)
def test_eligible_are_those_whose_verdict_says_so(data: strategies.Data, chance: st.DataObject) -> None:
    """Whatever the policy, the history and the candidates: the fast path and the verdicts agree, order kept."""
    policy = Policy.model_validate(data)
    plan = Plan(policy)
    events: list[Happened] = []
    for age in sorted(chance.draw(st.lists(st.integers(0, 3 * DAY), max_size=6)), reverse=True):
        event = chance.draw(strategies.events(policy))
        events.append((event.event, event.subject, age))
    everything = decided(plan, *events)
    assert everything.eligible == tuple(id_ for id_ in policy.campaign if everything[id_])
    candidates = tuple(chance.draw(st.lists(strategies.candidates(policy), max_size=5)))
    decision = decided(plan, *events, candidates=candidates)
    assert decision.eligible == tuple(candidate for candidate in candidates if decision[candidate])


def test_a_decision_reads_as_its_candidates() -> None:
    """In the caller's order, with repeats; without candidates, every campaign in the policy's order."""
    plan = plan_of(SHOP)
    decision = decided(plan, candidates=("mail", "shut", "capped", "mail"))
    assert (list(decision), len(decision)) == (["mail", "shut", "capped", "mail"], 4)
    assert decision.eligible == ("mail", "capped", "mail")
    assert (decision.at, decision.second) == (utc(NOW), NOW)
    assert repr(decision) == "<Decision 3 of 4 eligible at 2026-11-10 12:00:00+00:00>"
    assert tuple(decided(plan)) == decided(plan).candidates == ("capped", "mail", "shut", "lost")


def test_what_was_not_decided_on_has_no_verdict() -> None:
    """KeyError, also for a campaign of the policy that was no candidate."""
    plan = plan_of(SHOP)
    for decision in (
        decided(plan, candidates=("mail",)),
        uniform(plan, Verdict(eligible=True, reason="full"), ("mail",)),
    ):
        with pytest.raises(KeyError, match="capped"):
            decision["capped"]
    with pytest.raises(KeyError, match="stranger"):
        decided(plan)["stranger"]


def test_a_campaign_that_the_policy_does_not_know_is_an_error() -> None:
    """While the decision is made, not when the verdict is asked for."""
    with pytest.raises(InputError, match="'stranger' is not in the policy"):
        decided(plan_of(SHOP), candidates=("mail", "stranger"))


def test_candidates_with_labels_are_decided_each_by_its_own() -> None:
    """What is missing for one is there for the other."""
    wanted, other = Candidate("lost", item="sku"), Candidate("lost", item="other")
    decision = decided(plan_of(SHOP), ("visit", "sku", 60), candidates=(other, wanted, "lost"))
    assert decision.eligible == (wanted,)


# ---- verdicts ----


def test_an_eligible_verdict() -> None:
    """True, from now on, and no rule is named."""
    verdict = decided(plan_of(SHOP))["mail"]
    assert verdict == Verdict(eligible=True, reason="eligible", eligible_at=utc(NOW))
    assert verdict


def test_a_verdict_names_its_rule_and_what_it_counted() -> None:
    """Of a cap how much of the limit is used, and the first second at which it is free again."""
    verdict = decided(plan_of(SHOP), ("impression", "capped", HOUR))["capped"]
    assert verdict == denied("cap", "1 per day", 1, 1, utc(NOW - HOUR + DAY + 1))
    assert not verdict


def test_a_rule_that_counts_nothing_has_no_seen() -> None:
    """Hours name no number; an audience of several conditions neither."""
    plan = plan_of('[campaign.shut]\nhours = "08:00-09:00"\n[campaign.ad]\naudience = [{ any = ["visit", "login"] }]')
    decision = decided(plan)
    tomorrow = utc(NOW - NOW % DAY + DAY + 8 * HOUR)
    assert decision["shut"] == Verdict(eligible=False, reason="hours", rule="hours 08:00-09:00", eligible_at=tomorrow)
    assert decision["ad"] == Verdict(eligible=False, reason="audience", rule="visit or login")


def test_what_cannot_be_named_was_seen_zero_times() -> None:
    """A label is missing: 0 of 1, never."""
    assert decided(plan_of(SHOP))["lost"] == denied("audience", "visit {item}", 0, 1)


def test_a_session_cap_has_seen_nothing_when_the_session_is_over() -> None:
    """The verdict names another rule then; the annoyance level says zero."""
    plan = plan_of('[annoyance]\nthreshold = ["3 per session"]\n[campaign.ad]')
    assert decided(plan, ("impression", "ad", 60)).annoyance == AnnoyanceLevel("annoyance", "3 per session", 1, 3)
    assert decided(plan, ("impression", "ad", HOUR)).annoyance == AnnoyanceLevel("annoyance", "3 per session", 0, 3)


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ('caps = ["1 per hour", "1 per day"]', "1 per day"),
        ('caps = ["1 per day", "1 per hour"]', "1 per day"),
        ('caps = ["1 per day"]\naudience = ["login"]', "login"),
        ('audience = ["login", "visit"]', "login"),
        ('caps = ["1 per hour"]\nstart = 2026-11-10T12:30:00', "1 per hour"),
        ('caps = ["1 per hour"]\nstart = 2026-11-10T14:00:00', "start 2026-11-10T14:00:00"),
        ("caps = ['9 per day']", None),
    ],
)
def test_of_several_rules_the_one_that_stops_binding_last_is_named(rules: str, named: str | None) -> None:
    """Never is later than any second; of two that end together, or never, the first."""
    plan = plan_of(f"[campaign.ad]\n{rules}")
    rule = denying_rule(view_of(plan, ("impression", "ad", 0)), plan.bound_rules(Candidate("ad")))
    assert (rule and rule.text) == named


# ---- without a history ----


def test_a_uniform_no_is_for_all() -> None:
    """Also for those that the clock forbids."""
    blocked = Verdict(eligible=False, reason="full")
    decision = uniform(plan_of(SHOP), blocked)
    assert decision.eligible == ()
    assert [decision[id_] for id_ in decision] == [blocked] * 4
    assert decision.annoyance is None


def test_a_uniform_yes_spares_those_that_nobody_may_be_shown() -> None:
    """Outside its hours, or with a label missing; with when the clock lets it be shown."""
    allowed = Verdict(eligible=True, reason="store error")
    error = StoreError("gone")
    decision = uniform(plan_of(SHOP), allowed, degraded=error)
    assert decision.degraded is error
    assert decision.eligible == ("capped", "mail")
    assert decision["capped"] == allowed
    tomorrow = utc(NOW - NOW % DAY + DAY + 8 * HOUR)
    assert decision["shut"] == Verdict(eligible=False, reason="hours", rule="hours 08:00-09:00", eligible_at=tomorrow)
    assert decision["lost"] == Verdict(eligible=False, reason="audience", rule="visit {item}")


def test_a_flight_that_is_over_never_opens() -> None:
    """`eligible_at` is None."""
    decision = uniform(plan_of("[campaign.ad]\nend = 2026-11-01"), Verdict(eligible=True, reason="no consent"))
    assert decision["ad"] == Verdict(eligible=False, reason="end", rule="end 2026-11-01")


# ---- full ----


def full(plan: Plan, *fields: bytes) -> Decision:
    """The decision on a visitor who has too many timelines, these among them."""
    state = {field: packed(NOW, shield=True) for field in fields}
    return Decision(PlanAt(plan, NOW, plan.zone), None, full=state)


def test_a_full_visitor_is_shown_nothing_and_the_rule_is_named() -> None:
    """The one that most timelines are kept for, on every candidate alike; also in a copy."""
    decision = full(plan_of(SHOP), b"icapped", b"*")
    assert decision.eligible == ()
    assert decision.annoyance is None
    named = Verdict(eligible=False, reason="full", rule="1 per day")
    assert [decision[id_] for id_ in decision] == [named] * 4
    assert copy.copy(decision)["mail"] == pickle.loads(pickle.dumps(decision))["shut"] == named  # noqa: S301
    with pytest.raises(KeyError, match="stranger"):
        decision["stranger"]


def test_a_full_visitor_of_a_policy_that_asks_nothing_has_no_rule() -> None:
    """What is kept was kept for another policy."""
    assert full(plan_of("[campaign.ad]"), b"icapped")["ad"] == Verdict(eligible=False, reason="full")


def test_the_rule_of_a_full_visitor_is_looked_for_when_it_is_asked_for() -> None:
    """A decision on a bot costs no more than another."""
    decision = full(plan_of(SHOP), b"icapped")
    decision._full = {b"*": packed(NOW, shield=True)}  # as if asked later
    assert decision["mail"].rule == "segment customers: 50 per 7 days"


# ---- the annoyance level ----


@pytest.mark.parametrize(
    ("events", "level"),
    [
        ([], ("annoyance", "9 per day", 0, 9)),
        ([("impression", "mail", 60)], ("annoyance", "9 per day", 3, 9)),
        ([("impression", "mail", 2 * DAY)] * 2, ("annoyance", "20 per 7 days", 6, 20)),
        ([("purchase", None, DAY), ("impression", "capped", 60)], ("segment customers", "50 per 7 days", 1, 50)),
    ],
)
def test_the_threshold_in_force_that_is_nearest_to_its_limit(
    events: list[Happened], level: tuple[str, str, int, int]
) -> None:
    """The first segment that fits replaces the general threshold."""
    assert decided(plan_of(SHOP), *events).annoyance == AnnoyanceLevel(*level)


def test_no_level_without_a_threshold() -> None:
    """A policy without `[annoyance]` has none."""
    assert decided(plan_of("[campaign.ad]")).annoyance is None


def test_holds_use_points_up() -> None:
    """What is reserved is counted in the level."""
    plan = plan_of(SHOP)
    view = View(PlanAt(plan, NOW, plan.zone), {b"*": packed(NOW - 60), **held(b"*", NOW + 9, NOW + 9)})
    assert Decision(view.plan_at, (), view=view).annoyance == AnnoyanceLevel("annoyance", "9 per day", 3, 9)


# ---- pickled and copied ----


def answers(decision: Decision) -> tuple[object, ...]:
    """All that a decision can be asked."""
    verdicts = [decision[candidate] for candidate in decision]
    same = decision.eligible, tuple(decision.candidates), list(decision), len(decision), repr(decision)
    return *same, decision.at, decision.second, decision.annoyance, str(decision.degraded), verdicts


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("candidates", [None, (), ("shut", Candidate("lost", item="sku"), "capped", "shut")])
def test_a_copy_answers_as_the_original(copied: Callable[[Any], Any], candidates: tuple[Subject, ...] | None) -> None:
    """Candidates, eligible, each verdict, the second, the level; and so does a copy of the copy."""
    original = decided(plan_of(SHOP), ("visit", "sku", 90), ("impression", "capped", 60), candidates=candidates)
    copy_ = copied(original)
    assert type(copy_) is Decision
    assert answers(copy_) == answers(copied(copy_)) == answers(original)
    assert copy_.annoyance == AnnoyanceLevel("annoyance", "9 per day", 1, 9)
    with pytest.raises(KeyError, match="stranger"):
        copy_["stranger"]


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_of_a_decision_without_a_history(copied: Callable[[Any], Any]) -> None:
    """The store's error is kept, and so are the verdicts of those that the clock forbids."""
    original = uniform(plan_of(SHOP), Verdict(eligible=True, reason="store error"), degraded=StoreError("gone"))
    copy_ = copied(original)
    assert answers(copy_) == answers(original)
    assert type(copy_.degraded) is StoreError
    assert copy_.annoyance is None


def test_a_pickled_decision_carries_neither_policy_nor_history() -> None:
    """It is as large as its verdicts, not as the policy; and later changes of either do not reach it."""
    large = "".join(f'[campaign.c{number}]\ncaps = ["3 per day"]\n' for number in range(300))
    plan = plan_of(SHOP + large)
    state = dict(history(plan, ("impression", "capped", 60)))
    view = View(PlanAt(plan, NOW, plan.zone), state)
    decision = Decision(view.plan_at, ("capped",), view=view)
    pickled = pickle.dumps(decision)
    assert len(pickled) < 1_000
    assert b"c299" not in pickled
    verdict, copied = decision["capped"], copy.copy(decision)
    state.clear()
    assert decision["capped"] != verdict == copied["capped"]


@pytest.mark.parametrize("copied", COPIES)
def test_verdicts_and_levels_are_plain_values(copied: Callable[[Any], Any]) -> None:
    """Equal when copied or pickled, and hashable."""
    decision = decided(plan_of(SHOP), ("impression", "capped", 60))
    for value in (decision["capped"], decision["mail"], decision.annoyance):
        assert copied(value) == value
        assert hash(copied(value)) == hash(value)
