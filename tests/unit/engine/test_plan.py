"""plan.py: what a policy compiles to: facts, where events enter, and how candidates are looked up."""

from __future__ import annotations

import sys

import pytest

from retarget.engine.places import Place
from retarget.engine.plan import Counted, Fact, Plan, as_candidate, compile_subject
from retarget.errors import InputError
from retarget.events import Candidate
from retarget.policy import Policy
from retarget.timelines import (
    ACTIVITY,
    DAY,
    IMPRESSION,
    MIN_KEEP,
    SESSION_AT_MOST,
    Anchor,
    Cover,
    Days,
    Ends,
    Hours,
    Reserved,
    Rolling,
    Starts,
    timeline,
)
from tests.support.histories import plan_of

RETENTION = 400 * DAY

EVERYTHING = """
    retention = "400 days"
    [annoyance]
    threshold = [{ cap = "12 per day", spread = true }]
    points = { email = 3 }
    [annoyance.segment.customers]
    who = ["purchase within 365 days"]
    threshold = ["50 per 7 days"]
    [caps]
    advertiser = ["5 per day"]
    "channel:email" = ["2 per week"]
    "channel:display" = ["9 per week"]
    [campaign.ad]
    labels = { advertiser = "oyashop", channel = "email" }
    audience = ["visit pricing within 30 days", { any = ["2 click ad", "login"] }]
    exclude = ["dismiss {campaign}"]
    caps = [{ cap = "4 per day", spread = true }]
    gap = "2 hours"
    hours = "08:00-21:00"
    days = "mon-sat"
    start = 2026-11-01
    end = 2026-12-24
"""


def keeps(plan: Plan, event: str, subject: str | Candidate | None = None) -> dict[bytes, tuple[int, int]]:
    """Where an event enters: entries kept and weight, by timeline."""
    return {place.field: (place.keep, place.weight) for place in plan.places(event, subject)}


# ---- facts and candidates ----


def test_the_clock_is_openings() -> None:
    """Start, end, days and hours ask about no timeline."""
    compiled = plan_of(EVERYTHING).compiled["ad"]
    kinds = [type(opening) for opening in compiled.openings]
    assert kinds == [Starts, Ends, Days, Hours]


def test_points_are_the_limit_less_the_weight() -> None:
    """A candidate of 3 points under a limit of 12 is forbidden once 10 points are used; 13 points never fit."""
    plan = plan_of(
        '[annoyance]\nthreshold = ["12 per day"]\npoints = { email = 3, call = 13 }\n'
        '[campaign.mail]\nlabels = { channel = "email" }\n[campaign.ad]\n'
        '[campaign.service]\nlabels = { channel = "call" }\nobeys = false'
    )
    compiled = {**plan.compiled, "call": plan.bind(Candidate("ad", channel="call"))}
    asked = {id_: {fact.n for clause in each.guards for fact, _ in clause} for id_, each in compiled.items()}
    assert asked == {"mail": {10}, "ad": {12}, "service": set(), "call": {0}}


def test_clauses_of_one_fact_go_into_two_sets() -> None:
    """`requires` and `forbids`; where that is all, the candidate is simple."""
    plan = plan_of('[campaign.ad]\naudience = ["visit"]\nexclude = ["purchase"]\ncaps = ["2 per day"]')
    compiled = plan.compiled["ad"]
    assert {plan.numbered[number].field for number in compiled.requires} == {b"evisit"}
    assert {plan.numbered[number].field for number in compiled.forbids} == {b"epurchase", b"iad"}
    assert compiled.simple
    assert plan.forbidding == compiled.forbids


@pytest.mark.parametrize(
    "rule", ['audience = [{ any = ["visit", "click"] }]', 'hours = "08:00-09:00"', 'audience = ["visit {item}"]']
)
def test_what_the_sets_cannot_express(rule: str) -> None:
    """A clause of several facts, the clock, and a label that is missing: the candidate is not simple."""
    compiled = plan_of(f"[campaign.ad]\n{rule}").compiled["ad"]
    assert not compiled.simple
    assert (bool(compiled.clauses), bool(compiled.openings), compiled.bound) == {
        "any": (True, False, ()),
        "hours": (False, True, ()),
        "{item}": (False, False, ((),)),
    }[next(word for word in ("any", "hours", "{item}") if word in rule)]


def test_a_missing_label_makes_a_fact_false() -> None:
    """What is required cannot hold, what excludes does not."""
    plan = plan_of('[campaign.ad]\naudience = ["visit {item}"]\nexclude = ["purchase {item}"]')
    assert plan.compiled["ad"].guards == ((),)
    bound = plan.bind(Candidate("ad", item="sku")).guards
    assert {(fact.field, wanted) for clause in bound for fact, wanted in clause} == {
        (b"evisit sku", True),
        (b"epurchase sku", False),
    }


def test_a_candidates_labels_override_the_campaigns() -> None:
    """`campaign` is always the campaign's id."""
    plan = plan_of('[campaign.ad]\nlabels = { item = "a", advertiser = "b" }')
    labels = plan.labels(Candidate("ad", item="c", slot="d"))
    assert labels == {"item": "c", "advertiser": "b", "slot": "d", "campaign": "ad"}
    assert plan.labels(Candidate("stranger")) == {"campaign": "stranger"}


def test_bare_candidates_share_what_the_campaign_compiled_to() -> None:
    """A candidate without labels is the campaign; one with labels is bound once."""
    plan = plan_of('[campaign.ad]\nexclude = ["purchase {item}"]')
    assert plan.bind(Candidate("ad")) is plan.compiled["ad"]
    with_item = Candidate("ad", item="sku")
    assert plan.bind(with_item) is plan.bind(Candidate("ad", item="sku")) is not plan.compiled["ad"]
    assert [bound.rule.text for bound in plan.bound_rules(with_item)] == ["purchase {item}"]


def test_facts_of_other_candidates_are_not_numbered() -> None:
    """Binding a candidate leaves the plan as it was: its facts are looked up by themselves."""
    plan = plan_of('[campaign.ad]\nexclude = ["purchase {item}"]')
    before = dict(plan.facts)
    assert plan.bind(Candidate("ad", item="sku")).bound
    assert plan.facts == before


def test_campaigns_are_indexed_by_facts_they_cannot_do_without() -> None:
    """By one required fact, by all of a clause of which one is needed; the others are always tried."""
    plan = plan_of(
        '[campaign.needs]\naudience = ["visit", "login"]\n'
        '[campaign.either]\naudience = [{ any = ["click", "purchase"] }]\n[campaign.free]\nexclude = ["optout"]'
    )
    by_field: dict[str, set[bytes]] = {}
    for number, ids in plan.by_fact.items():
        for id_ in ids:
            by_field.setdefault(id_, set()).add(plan.numbered[number].field)
    assert by_field["either"] == {b"eclick", b"epurchase"}
    assert len(by_field["needs"]) == 1
    assert by_field["needs"] < {b"evisit", b"elogin"}
    assert plan.always == ["free"]
    assert plan.position == {"needs": 0, "either": 1, "free": 2}


def test_who_can_be_decided_on() -> None:
    """The policy's campaigns, and with defaults all others."""
    assert plan_of("[campaign.ad]").knows("ad")
    assert not plan_of("[campaign.ad]").knows("stranger")
    assert plan_of("[defaults]\n[campaign.ad]").knows("stranger")


def test_compile_subject() -> None:
    """A campaign's id, a candidate, or a campaign under the defaults; anything else says what would be right."""
    plan = plan_of("[campaign.ad]")
    assert compile_subject(plan, "ad") is compile_subject(plan, Candidate("ad")) is plan.compiled["ad"]
    with pytest.raises(InputError, match=r"campaign 'stranger' is not in the policy, which has no \[defaults\]"):
        compile_subject(plan, "stranger")
    open_plan = plan_of("[defaults]\ncaps = ['1 per day']")
    assert compile_subject(open_plan, "stranger").guards == (((Fact(b"istranger", 1, Rolling(DAY)), False),),)


@pytest.mark.parametrize(
    "subject",
    [5, None, "", "a\nb", "x" * 300, "\ud800", ["ad"], Candidate("ad", item=""), Candidate("ad", item=5)],  # type: ignore[arg-type]
)
def test_what_is_not_a_candidate_is_an_input_error(subject: object) -> None:
    """Every wrong value, hashable or not, in the campaign or in a label."""
    with pytest.raises(InputError, match="a candidate is a campaign id or a Candidate"):
        as_candidate(subject)


def test_a_candidate_is_taken_as_it_is() -> None:
    """Given as one, or as its campaign's id."""
    candidate = Candidate("ad", item="sku")
    assert as_candidate(candidate) is candidate
    assert as_candidate("ad") == Candidate("ad")


# ---- events ----


def test_an_event_enters_only_what_a_rule_asks_about() -> None:
    """The event, its subject, the campaign's labels, points: no more timelines than there are questions."""
    plan = plan_of(EVERYTHING)
    assert keeps(plan, "visit", "pricing") == {b"evisit pricing": (MIN_KEEP, 1)}
    assert keeps(plan, "visit", "home") == keeps(plan, "signup") == {}
    assert keeps(plan, "purchase") == keeps(plan, "purchase", "sku") == {b"epurchase": (MIN_KEEP, 1)}
    assert set(keeps(plan, IMPRESSION, "ad")) == {b"iad", b"cadvertiser:oyashop", b"cchannel:email", b"*"}
    assert keeps(plan, IMPRESSION, "ad")[b"*"] == (50, 3)
    assert keeps(plan, IMPRESSION, "stranger") == {b"*": (50, 1)}


def test_a_candidates_own_labels_are_entered() -> None:
    """Under the label's own kind, never under a template that happens to fit."""
    plan = plan_of('[caps]\nitem = ["30 per day"]\n[campaign.ad]\nexclude = ["visit {campaign}"]')
    assert set(keeps(plan, IMPRESSION, Candidate("ad", item="sku"))) == {b"citem:sku"}
    assert keeps(plan, IMPRESSION, Candidate("ad", item="sku"))[b"citem:sku"] == (30, 1)
    assert set(keeps(plan, "visit", "ad")) == {b"evisit ad"}


def test_counts_false_enters_its_own_timelines_only() -> None:
    """Neither labels nor points."""
    plan = plan_of(EVERYTHING.replace('gap = "2 hours"', "counts = false"))
    assert set(keeps(plan, IMPRESSION, "ad")) == {b"iad"}


def test_the_defaults_ask_about_campaigns_that_nobody_named() -> None:
    """A default cap is kept for any campaign."""
    plan = plan_of('[defaults]\ncaps = ["20 per day"]\nexclude = ["dismiss {campaign}"]\n[campaign.ad]\ncaps = []')
    assert keeps(plan, IMPRESSION, "stranger") == {b"istranger": (20, 1)}
    assert keeps(plan, "dismiss", "stranger") == {b"edismiss stranger": (MIN_KEEP, 1)}
    assert keeps(plan, IMPRESSION, "ad") == {}


def test_a_shield_is_what_a_blocking_rule_asks_about() -> None:
    """Caps and exclusions are shields, audiences are not."""
    plan = plan_of('[campaign.ad]\naudience = ["visit"]\nexclude = ["dismiss"]\ncaps = ["2 per day"]')
    shields = {
        place.field: timeline.is_shield(place.head.to_bytes(2))
        for event, subject in (("visit", None), ("dismiss", None), (IMPRESSION, "ad"))
        for place in plan.places(event, subject)
    }
    assert shields == {b"evisit": False, b"edismiss": True, b"iad": True}


def test_place_of_a_name() -> None:
    """Of one that nobody asks about none, whatever the bytes."""
    plan = plan_of('[campaign.ad]\ncaps = ["2 per day"]')
    assert [plan.place_of(field) for field in (b"ix", b"evisit x", b"e", b"", b"\xff", b"@", b"^", b"*")] == [None] * 8
    assert plan.place_of(b"iad") == plan.places(IMPRESSION, "ad")[0]


def test_the_blocking_rule_of_a_name() -> None:
    """As written; of an audience none."""
    plan = plan_of('[campaign.ad]\ncaps = ["2 per day"]\naudience = ["visit"]')
    assert (plan.blocking(b"iad"), plan.blocking(b"evisit")) == ("2 per day", None)


def test_where_an_impression_is_reserved() -> None:
    """Where it will be counted, with its weight; activity is kept going, and counted by the confirmation."""
    plan = plan_of(EVERYTHING)
    places = plan.places(IMPRESSION, "ad")
    assert plan.reserved("ad") == tuple(Reserved(place.field, place.weight, place.keep, place.head) for place in places)
    with_session = plan_of('[campaign.ad]\ncaps = ["2 per session"]')
    *counted, activity = with_session.reserved("ad")
    assert [each.field for each in counted] == [b"iad"]
    assert (activity.field, activity.weight, activity.keep) == (ACTIVITY, 1, 0)


# ---- sessions ----

SEGMENTED = """
    [annoyance]
    threshold = ["9 per day"]
    [annoyance.segment.here]
    who = ["visit within session"]
    threshold = ["1 per day"]
"""


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ('[campaign.ad]\ncaps = ["2 per day"]', False),
        ('[campaign.ad]\ncaps = ["2 per session"]', True),
        ('[campaign.ad]\naudience = ["visit within session"]', True),
        ('[caps]\nitem = ["2 per session"]', True),
        ('[defaults]\nexclude = ["visit within session"]', True),
        ('[annoyance]\nthreshold = ["9 per session"]', True),
        (SEGMENTED, True),
        ('[annoyance]\nthreshold = ["9 per day"]\n[campaign.ad]\nobeys = false', False),
    ],
)
def test_sessions_are_kept_if_a_rule_asks_about_them(toml: str, *, expected: bool) -> None:
    """Known when the plan is built; no query changes it."""
    plan = plan_of(toml)
    assert (plan.activity_place is not None) is expected
    assert (plan.place_of(ACTIVITY) is not None) is bool(plan.activity(5, 9)) is expected
    if plan.knows("ad"):
        plan.rules(Candidate("ad", item="sku"))
    assert (plan.activity_place is not None) is expected


def test_activity_is_an_interval_in_the_visitors_activity() -> None:
    """Joined where the pause between two is no longer than the policy's."""
    plan = plan_of('session = "20 minutes"\n[campaign.ad]\ncaps = ["2 per session"]')
    place = plan.activity_place
    assert place is not None
    assert plan.activity(5, 9) == (Cover(ACTIVITY, 5, 9, 1_200, place.keep, place.head),)
    assert plan.place_of(ACTIVITY) == place


def test_activity_matters_for_a_day_and_a_pause() -> None:
    """If a rule asks about sessions; of no event else."""
    plan = plan_of('session = "20 minutes"\n[campaign.ad]\ncaps = ["2 per session"]')
    longest = SESSION_AT_MOST + 1_200
    asked = [plan.asks_activity(9, now) for now in (0, 9, 9 + longest, 10 + longest)]
    assert asked == [True, True, True, False]
    assert not plan_of('[campaign.ad]\ncaps = ["2 per day"]').asks_activity(9, 9)


def test_a_session_cap_needs_the_session_to_be_going_on() -> None:
    """The cap forbids only while both facts are true; it looks back to the start of the newest interval."""
    plan = plan_of('session = "20 minutes"\n[campaign.ad]\ncaps = ["2 per session"]')
    (clause,) = plan.compiled["ad"].guards
    capped = Fact(b"iad", 2, Rolling(SESSION_AT_MOST), Anchor(ACTIVITY, 2, 0))
    alive = Fact(ACTIVITY, 1, Rolling(1_200))
    assert set(clause) == {(capped, False), (alive, False)}
    (rule,) = plan.rules(Candidate("ad"))
    assert rule.counted is not None
    assert plan.counted(rule.counted, {"campaign": "ad"}) == Counted(capped, (((alive, True),),))


def test_what_cannot_be_named_is_not_counted() -> None:
    """There is no fact to look up; with the label there is, and nothing else is needed."""
    plan = plan_of('[campaign.ad]\naudience = ["2 visit {item}"]')
    (rule,) = plan.rules(Candidate("ad"))
    assert rule.counted is not None
    assert plan.counted(rule.counted, {}) == Counted(None, ())
    assert plan.counted(rule.counted, {"item": "x"}) == Counted(Fact(b"evisit x", 2, Rolling(RETENTION)), ())


# ---- anchors ----


def test_an_anchor_is_filled_in_for_each_campaign() -> None:
    """As the subject is; of a campaign with a label missing there is none."""
    plan = plan_of(
        '[campaign.a]\ncaps = ["3 since click {campaign}"]\n[campaign.b]\nexclude = ["visit since click {item}"]'
    )
    lifetime = Rolling(RETENTION)
    assert plan.compiled["a"].guards == (((Fact(b"ia", 3, lifetime, Anchor(b"eclick a", 1, 1)), False),),)
    assert plan.compiled["b"].guards == (((Fact(b"evisit", 1, lifetime), False),),)
    bound = plan.bind(Candidate("b", item="x")).guards
    assert bound == (((Fact(b"evisit", 1, lifetime, Anchor(b"eclick x", 1, 1)), False),),)


def test_events_enter_the_anchors_timelines() -> None:
    """Kept as long as anything is, at least MIN_KEEP entries, a shield where the rule blocks."""
    plan = plan_of(
        '[campaign.a]\ncaps = ["30 since click {campaign}"]\naudience = ["visit since login {item}"]\n[campaign.b]'
    )
    (click,), (login,) = plan.places("click", "a"), plan.places("login", "any")
    assert click == Place(b"eclick a", 1, MIN_KEEP, timeline.head(RETENTION, shield=True), RETENTION)
    assert login == Place(b"elogin any", 1, MIN_KEEP, timeline.head(RETENTION, shield=False), RETENTION)
    assert plan.places("click", "b") == ()


# ---- starts ----


def test_facts_share_their_starts() -> None:
    """One per window and anchor, however many facts count from there; anchored ones are looked up apart."""
    plan = plan_of(
        '[campaign.a]\ncaps = ["2 per day", "1 per session"]\n[campaign.b]\ncaps = ["2 per day", "5 per session"]\n'
        'exclude = ["purchase within 1 day"]'
    )
    counted = [(start.window, start.anchor) for start in plan.starts]
    assert len(counted) == len(set(counted)) == 3
    assert set(plan.anchored_on) == {b"ia", b"ib"}
    assert set(plan.on) == {b"ia", b"ib", b"epurchase", ACTIVITY}


# ---- growth ----

FLIGHTS = 'start = 2026-11-01T{hour:02}:{minute:02}:{second:02}\ncaps = ["3 per flight"]'
GROWING = {
    "flights": FLIGHTS,
    "conditions on others": 'exclude = ["dismiss everything", "click promo{number}"]\naudience = ["visit p{number}"]',
    "templates": 'exclude = ["click {{campaign}}/{{item}}", "visit p{number}/{{item}}", "visit {{item}}-{number}"]',
    "anchors": 'caps = ["3 per session"]\nexclude = ["visit {{campaign}}"]\ngap = "{number} seconds"',
    "caps on labels": 'labels = {{ item = "i{number}" }}',
}


def work(toml: str) -> int:
    """How many functions are called while a policy is compiled and events are placed: the same on every machine."""
    policy, calls = Policy.from_text(toml), 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        plan = Plan(policy)
        for id_ in policy.campaign:
            plan.places("visit", f"{id_}/sku")
            plan.places(IMPRESSION, id_)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("rules", GROWING.values(), ids=GROWING.keys())
def test_work_grows_with_the_policy_and_not_with_its_square(rules: str) -> None:
    """Four times as many campaigns, at most four and a half times the work."""

    def policy(campaigns: int) -> str:
        lines = ["[caps]", *(f'"item:i{number}" = ["2 per day"]' for number in range(1, campaigns))]
        for number in range(campaigns):
            clock = {"hour": number // 3_600, "minute": number // 60 % 60, "second": number % 60}
            lines += [f"[campaign.c{number}]", rules.format(number=number + 1, **clock)]
        return "\n".join(lines)

    assert work(policy(400)) < 4.5 * work(policy(100))
