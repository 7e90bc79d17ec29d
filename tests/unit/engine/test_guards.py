"""guards.py: what a claim or a record asks the store to write, and that its guards mean the candidate's facts."""

from __future__ import annotations

from dataclasses import astuple
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.engine.guards import alternatives, claim_alternatives, claim_guards, outcome
from retarget.engine.plan import Plan
from retarget.engine.view import PlanAt, View
from retarget.errors import InputError
from retarget.events import Candidate, Subject
from retarget.policy import Policy
from retarget.stores import MemoryStore
from retarget.timelines import (
    DAY,
    IMPRESSION,
    LAST_MOMENT,
    NO_OUTCOME,
    SESSION_AT_MOST,
    Alternative,
    Anchor,
    Cover,
    Enter,
    Guard,
    State,
    Write,
)
from tests.support import strategies
from tests.support.histories import NOW, Happened, history, plan_of

HOUR = 3_600
CAPPED = '[campaign.ad]\ncaps = ["2 per day"]'
SESSION = 'session = "20 minutes"\n[campaign.ad]\ncaps = ["2 per session"]'


def at(plan: Plan, now: int = NOW) -> PlanAt:
    """The plan at a second in its own zone."""
    return PlanAt(plan, now, plan.zone)


def test_a_claim_counts_an_impression_if_its_guards_hold() -> None:
    """One alternative: the cap as a guard, the impression where the policy keeps it, for as long as it matters."""
    plan = plan_of(CAPPED)
    (choice,) = claim_alternatives(at(plan), "ad")
    (place,) = plan.places(IMPRESSION, "ad")
    assert choice.guards == (Guard(b"iad", 2, NOW - DAY, wanted=False),)
    assert choice.changes == (Enter(b"iad", NOW, 1, place.keep, place.head),)
    assert (choice.ttl, choice.outcome) == (DAY + 1, outcome("ad"))


def test_an_alternative_is_built_once_a_second() -> None:
    """All visitors of that second share it, candidates with labels too."""
    plan = plan_of(CAPPED)
    shared, with_item = at(plan), Candidate("ad", item="sku")
    assert claim_alternatives(shared, "ad") is claim_alternatives(shared, "ad")
    assert claim_alternatives(shared, with_item) is claim_alternatives(shared, Candidate("ad", item="sku"))
    assert claim_alternatives(at(plan), "ad") is not claim_alternatives(shared, "ad")


@pytest.mark.parametrize("rule", ['hours = "08:00-09:00"', "end = 2026-11-01", 'audience = ["visit {item}"]'])
def test_what_nobody_may_be_shown_has_no_alternative(rule: str) -> None:
    """Outside its hours, after its flight, or with a label missing; that is remembered, too."""
    shared = at(plan_of(f"[campaign.ad]\n{rule}"))
    assert claim_alternatives(shared, "ad") == claim_alternatives(shared, "ad") == ()
    assert len(shared.claims) == 1


def test_an_unknown_campaign_is_an_error() -> None:
    """As when it is decided on."""
    with pytest.raises(InputError, match="'stranger' is not in the policy"):
        claim_alternatives(at(plan_of(CAPPED)), "stranger")


def test_clauses_of_several_facts_are_joined_by_or() -> None:
    """All but the last guard of a clause are marked `more`."""
    plan = plan_of('[campaign.ad]\naudience = [{ any = ["visit", "2 click", "login"] }]\nexclude = ["optout"]')
    guards = claim_guards(at(plan), "ad")
    assert [guard.more for guard in guards if guard.field != b"eoptout"] == [True, True, False]
    assert [(guard.wanted, guard.more) for guard in guards if guard.field == b"eoptout"] == [(False, False)]


def test_guards_stay_within_what_a_store_can_hold() -> None:
    """`since` from 0 to 2106, n from 0."""
    plan = plan_of(
        '[annoyance]\nthreshold = ["2 per day"]\npoints = { call = 9 }\n[campaign.ad]\ncaps = ["2 per flight"]\n'
        'start = 2105-12-31\n[campaign.service]\nlabels = { channel = "call" }\nobeys = false'
    )
    subject = Candidate("ad", channel="call")
    late, early = claim_guards(at(plan, NOW), subject), claim_guards(at(plan, 100), subject)
    assert {guard.n for guard in late} == {0, 2}
    start = int(datetime(2105, 12, 31, tzinfo=UTC).timestamp())
    assert {guard.since for guard in late} == {start, NOW - DAY}
    assert {guard.since for guard in early} == {start, 0}
    assert start <= LAST_MOMENT


def test_with_sessions_an_event_is_activity_too() -> None:
    """Still one alternative; the cap looks back to the session's start, if the session is going on."""
    plan = plan_of(SESSION)
    (choice,) = claim_alternatives(at(plan), "ad")
    activity = plan.activity(NOW, NOW)
    assert [type(change) for change in choice.changes] == [Enter, Cover]
    assert choice.changes[1:] == activity
    assert {guard.anchor for guard in choice.guards} == {None, Anchor(b"@", 2, 0)}
    assert {guard.since for guard in choice.guards} == {NOW - 1_200, NOW - SESSION_AT_MOST}
    assert [guard.more for guard in choice.guards] == [True, False]
    assert choice.ttl > SESSION_AT_MOST + 1_200


def test_an_event_of_no_other_timeline_is_activity() -> None:
    """A visitor who does what no rule asks about is active all the same."""
    plan = plan_of(SESSION)
    (choice,) = alternatives(plan, (), NOW - 9, NOW)
    assert choice.changes == plan.activity(NOW - 9, NOW - 9)


@pytest.mark.parametrize(("age", "ttl"), [(0, DAY + 1), (HOUR, DAY + 1 - HOUR), (2 * DAY, 1)])
def test_a_late_event_is_kept_for_what_is_left(age: int, ttl: int) -> None:
    """Its time to live counts from its own second; at least one second."""
    plan = plan_of(CAPPED)
    (choice,) = alternatives(plan, plan.places(IMPRESSION, "ad"), NOW - age, NOW)
    assert (choice.ttl, choice.outcome, choice.guards) == (ttl, NO_OUTCOME, ())


def test_an_event_that_no_rule_asks_about_changes_nothing() -> None:
    """The store remembers its id, if it has one."""
    (choice,) = alternatives(plan_of(CAPPED), (), NOW, NOW)
    assert astuple(choice) == astuple(Alternative((), (), 1))


def test_outcomes_tell_candidates_apart() -> None:
    """Five bytes; a candidate without labels has that of its id, and no id looks like a candidate with labels."""
    subjects: list[Subject] = [
        "ad",
        "b",
        "ad item=1",
        "ad item",
        Candidate("ad", item="1"),
        Candidate("ad", item="2"),
        Candidate("ad", slot="1"),
        Candidate("ad", a="1", b="2"),
        Candidate("ad", a="1 b=2"),
    ]
    told = [outcome(subject) for subject in subjects]
    assert len(set(told)) == len(subjects)
    assert {len(each) for each in told} == {5}
    assert outcome(Candidate("ad")) == outcome("ad")


@given(strategies.policies(), st.data())
@settings(max_examples=80, deadline=None)
def test_guards_hold_where_the_history_satisfies(data: strategies.Data, chance: st.DataObject) -> None:
    """A store that judges the guards denies exactly what a view of the same timelines denies."""
    policy = Policy.model_validate(data)
    plan = Plan(policy)
    events: list[Happened] = []
    for age in sorted(chance.draw(st.lists(st.integers(0, 3 * DAY), max_size=6)), reverse=True):
        event = chance.draw(strategies.events(policy))
        events.append((event.event, event.subject, age))
    state, plan_at = history(plan, *events), at(plan)
    view = View(plan_at, state)
    for subject in chance.draw(st.lists(strategies.candidates(policy), max_size=5)):
        compiled = plan.bind(subject if isinstance(subject, Candidate) else Candidate(subject))
        if () not in compiled.guards:  # a clause that can never hold cannot be written as guards
            assert accepts(state, claim_guards(plan_at, subject)) is view.satisfies(compiled)


def accepts(state: State, guards: tuple[Guard, ...]) -> bool:
    """Whether a store with these timelines applies an alternative with these guards."""
    store = MemoryStore()
    store._visitors[b"v"] = dict(state)
    return store.write(Write(b"v", NOW, b"", (Alternative(guards, (), 1),))) == 1
