"""The oracle checked by hand: before it may judge the library, it must agree with the design's settled questions."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.events import Candidate
from retarget.policy import Policy
from tests.property.asking import T, at, ok, oracle, shown
from tests.property.local_time import DAY, HOUR
from tests.property.oracle import Oracle
from tests.support.strategies import BASE, ZONES, candidates, events, moments, policies, second_of

# ---- what peers pin down (peer-cases.md) ----


@pytest.mark.parametrize(
    ("case", "caps", "seen", "eligible"),
    [
        ("RV1", [], 0, True),
        ("RV1 seen often", [], 50, True),
        ("RV2", ["3 per lifetime"], 0, True),
        ("RV3", ["3 per lifetime"], 2, True),
        ("RV4", ["3 per lifetime"], 3, False),
        ("RV5", ["3 per lifetime"], 4, False),
        ("RV6", ["3 per session"], 0, True),
        ("RV7", ["3 per session"], 2, True),
        ("RV8", ["3 per session"], 3, False),
        ("RV9", ["3 per session"], 4, False),
        ("PL2 first", ["3 per 1 second", "9 per 5 seconds"], 3, False),
        ("PL2 second", ["9 per 1 second", "5 per 5 seconds"], 5, False),
        ("PL9 equal moments", ["2 per day"], 2, False),
    ],
)
def test_counts_of_impressions(case: str, caps: list[str], seen: int, eligible: bool) -> None:  # noqa: FBT001
    """A cap of n lets the n-th pass and stops the next; more than n is no error; equal moments all count."""
    asked = shown(oracle({"caps": caps}), *[T] * seen)
    assert ok(asked, T) is eligible, case


@pytest.mark.parametrize(
    ("case", "rules", "seen", "eligible"),
    [
        ("RV10", {"caps": ["2 per session"], "gap": "60 seconds"}, [], True),
        (
            "RV11: here a gap spaces whatever the caps say",
            {"caps": ["2 per session"], "gap": "60 seconds"},
            [59],
            False,
        ),
        ("RV11 without the gap", {"caps": ["2 per session"]}, [59], True),
        ("RV12", {"caps": ["2 per session"], "gap": "60 seconds"}, [100, 59], False),
        ("RV13: here the cap holds on", {"caps": ["2 per session"], "gap": "60 seconds"}, [100, 61], False),
        ("RV13 as a rolling cap", {"caps": ["2 per 60 seconds"]}, [100, 61], True),
        ("RV15 inside", {"gap": "60 seconds"}, [59], False),
        ("RV15 exactly", {"gap": "60 seconds"}, [60], False),
        ("RV15 after", {"gap": "60 seconds"}, [61], True),
        ("RV16 the gap runs from the last", {"gap": "60 seconds"}, [100, 30], False),
        ("MA4 exactly a day", {"caps": ["1 per day"]}, [DAY], False),
        ("MA4 after a day", {"caps": ["1 per day"]}, [DAY + 1], True),
        ("LM5 rolling, not aligned", {"caps": ["10 per 2 minutes"]}, [90] * 5 + [10] * 5, False),
        ("LM6 five are free again", {"caps": ["10 per 2 minutes"]}, [121] * 5 + [10] * 5, True),
        ("clocks that differ: what is ahead counts", {"caps": ["1 per hour"]}, [-300], False),
    ],
)
def test_windows_and_gaps(case: str, rules: dict[str, Any], seen: list[int], eligible: bool) -> None:  # noqa: FBT001
    """An entry exactly W old still counts, one second later it does not; all rules must hold."""
    asked = oracle(rules)
    for ago in seen:
        asked.record("v", "impression", "ad", T - ago, now=T)
    assert ok(asked, T) is eligible, case


def test_rv17_the_label_and_the_campaign_both_hold() -> None:
    """RV17: one capped level is enough to withhold; what one level denies uses up nothing of the other."""
    labels = {"labels": {"advertiser": "shop"}}
    asked = oracle({**labels, "caps": ["1 per day"]}, campaign={"other": labels}, caps={"advertiser": ["2 per day"]})
    assert asked.claim("v", ["ad"], T) == "ad"
    assert asked.decide("v", "ad", T).violated == ["caps 1 per day"]
    assert asked.claim("v", ["ad", "other"], T) == "other"
    assert asked.decide("v", "other", T).violated == ["caps.advertiser 2 per day"]
    assert asked.claim("v", ["ad", "other"], T) is None


def test_lm4_asking_takes_nothing() -> None:
    """LM4: decide uses nothing up, and neither does a claim that is denied."""
    asked = oracle({"caps": ["2 per hour"]})
    answers = []
    for _ in range(3):
        answers += [asked.claim("v", ["ad"], T) is not None, ok(asked, T)]
    assert answers == [True, True, True, False, False, False]
    assert len(asked.visitors["v"].entries) == 2


def test_lm7_the_oldest_that_matters_leaves_first() -> None:
    """LM7: two per minute, seen at 0 s and 1 s, asked at 2 s: free when the older one leaves, one second past W."""
    asked = shown(oracle({"caps": ["2 per 60 seconds"]}), T, T + 1)
    assert asked.eligible_at("v", "ad", T + 2) == T + 61
    assert asked.eligible_at("v", "ad", T + 61) == T + 61


def test_lm3_points_are_all_or_nothing() -> None:
    """LM3, PL3, PL5: an impression of w points fits only if w are free; a denied one takes none of them."""
    campaigns = {"mail": {"labels": {"channel": "email"}}, "call": {"labels": {"channel": "call"}}}
    annoyance = {"threshold": ["10 per 2 minutes"], "points": {"email": 5, "call": 6}}
    asked = oracle({}, campaign=campaigns, annoyance=annoyance)
    assert asked.claim("v", ["mail"], T) == "mail"
    assert asked.claim("v", ["call"], T) is None
    assert asked.decide("v", "call", T).violated == ["annoyance.threshold 10 per 2 minutes"]
    assert asked.claim("v", ["call", "mail"], T) == "mail"
    assert asked.claim("v", ["call", "mail", "ad"], T) is None
    assert asked.eligible_at("v", "ad", T) == T + 121
    assert not ok(asked, T + 120, "call")
    assert ok(asked, T + 121, "call")


def test_points_that_are_all_of_a_threshold() -> None:
    """PL5: a candidate whose own channel costs all of the threshold needs all of it."""
    asked = oracle({}, annoyance={"threshold": ["4 per day"], "points": {"call": 4}})
    assert ok(asked, T, Candidate("ad", channel="call"))
    shown(asked, T)
    assert ok(asked, T)
    assert not ok(asked, T, Candidate("ad", channel="call"))
    assert asked.eligible_at("v", Candidate("ad", channel="call"), T) == T + DAY + 1


def test_ma1_an_own_rule_replaces_the_default() -> None:
    """MA1: the campaign's own cap displaces the default's; what it does not say comes from the default; [] is said."""
    campaigns: dict[str, Any] = {"plain": {}, "free": {"caps": []}}
    asked = oracle({"caps": ["2 per day"]}, campaign=campaigns, defaults={"caps": ["1 per day"]})
    for name in ("ad", "plain", "free", "stranger"):
        shown(asked, T, what=name)
    assert [ok(asked, T, name) for name in ("ad", "plain", "free", "stranger")] == [True, False, True, False]
    shown(asked, T)
    assert asked.decide("v", "ad", T).violated == ["caps 2 per day"]


def test_ma2_without_defaults_a_stranger_is_an_error_but_is_recorded() -> None:
    """MA2: no default, no rule; an event on a campaign that the policy does not know is accepted all the same."""
    asked = shown(oracle({}, caps={"item": ["1 per day"]}), T, what=Candidate("gone", item="i"))
    with pytest.raises(KeyError):
        asked.decide("v", "gone", T)
    assert not ok(asked, T, Candidate("ad", item="i"))
    assert ok(asked, T, Candidate("ad", item="j"))
    assert ok(asked, T)


# ---- the settled questions (design.md, part 3) ----


def test_ids_are_counted_once_per_event_name() -> None:
    """The same event id twice counts once; the id belongs to the event's name and to the visitor."""
    asked = oracle({"caps": ["9 per day"]})
    assert asked.record("v", "impression", "ad", T, id="1")
    assert not asked.record("v", "impression", "ad", T + 5, id="1")
    assert asked.record("v", "click", "ad", T, id="1")
    assert asked.record("w", "impression", "ad", T, id="1")
    assert [len(asked.visitors[visitor].entries) for visitor in ("v", "w")] == [2, 1]


def test_a_claim_repeated_with_its_id_returns_the_same() -> None:
    """A repeated claim gives the candidate of the first time and counts nothing, even where others come first now."""
    item = Candidate("ad", item="i")
    asked = oracle({"caps": ["1 per day"]}, campaign={"other": {}})
    assert asked.claim("v", [item, "other"], T, id="c1") == item
    assert asked.claim("v", ["other"], T + 9, id="c1") == item
    assert asked.claim("v", [item, "other"], T + 9, id="c2") == "other"
    assert len(asked.visitors["v"].entries) == 2


def test_a_denied_claim_does_not_use_up_its_id() -> None:
    """A denied attempt uses nothing up: the same id may be counted later."""
    asked = shown(oracle({"gap": "60 seconds"}), T)
    assert asked.claim("v", ["ad"], T + 1, id="c") is None
    assert asked.claim("v", ["ad"], T + 61, id="c") == "ad"


def test_late_and_early_events() -> None:
    """Late: at its own place. Older than everything: dropped. 300 s ahead: counted; more: an error, nothing stored."""
    asked = oracle({"caps": ["1 per hour"]}, retention="2 days")
    assert asked.record("v", "impression", "ad", T - HOUR - 1, now=T)
    assert ok(asked, T)
    assert asked.record("v", "impression", "ad", T - HOUR, now=T)
    assert asked.eligible_at("v", "ad", T) == T + 1
    assert not asked.record("v", "impression", "ad", T - 2 * DAY - 1, now=T, id="old")
    assert asked.record("v", "visit", None, T - 2 * DAY, now=T)
    assert asked.record("v", "impression", "ad", T + 300, now=T)
    with pytest.raises(ValueError, match="future"):
        asked.record("v", "impression", "ad", T + 301, now=T)
    assert asked.eligible_at("v", "ad", T) == T + 300 + HOUR + 1


def test_where_it_is_certain_what_is_kept() -> None:
    """`kept_for_sure`: within the shortest window; beyond that it is the library's choice, and changes no decision."""
    asked = oracle({"caps": ["1 per hour"]}, retention="10 days")
    sure = [asked.kept_for_sure(T - ago, T) for ago in (-300, 0, 1_800, 1_801, 10 * DAY)]
    assert sure == [True, True, True, False, False]
    assert not asked.record("v", "visit", None, T - DAY, id="x", now=T, kept=False)
    assert asked.record("v", "visit", None, T - DAY, id="x", now=T, kept=True)


@pytest.mark.parametrize(
    ("rules", "happened", "eligible"),
    [
        ({"audience": ["visit shop within 1 hour"]}, [], False),
        ({"audience": ["visit shop within 1 hour"]}, [("visit", "shop", HOUR)], True),
        ({"audience": ["visit shop within 1 hour"]}, [("visit", "shop", HOUR + 1)], False),
        ({"audience": ["visit shop within 1 hour"]}, [("visit", "other", 0), ("click", "shop", 0)], False),
        ({"audience": ["visit"]}, [("visit", None, 9 * DAY)], True),
        ({"audience": ["visit"]}, [("visit", "shop", 10 * DAY)], True),
        ({"audience": ["visit"]}, [("visit", "shop", 10 * DAY + 1)], False),
        ({"audience": ["2 visit"]}, [("visit", "a", 0), ("visit", "b", 0)], True),
        ({"audience": ["2 visit shop"]}, [("visit", "shop", 0), ("visit", "b", 0)], False),
        ({"audience": [{"any": ["click ad", "buy"]}]}, [("buy", None, 0)], True),
        ({"audience": [{"any": ["click ad", "buy"]}, "visit"]}, [("buy", None, 0)], False),
        ({"exclude": ["buy", "dismiss ad"]}, [], True),
        ({"exclude": ["buy", "dismiss ad"]}, [("dismiss", "ad", 0)], False),
        ({"exclude": ["buy", "dismiss ad"]}, [("dismiss", "b", 0)], True),
        ({"exclude": ["dismiss {campaign}"]}, [("dismiss", "ad", 0)], False),
        ({"exclude": ["click channel:email"]}, [("click", "b", 0)], False),
        ({"exclude": ["click channel:email"]}, [("click", "stranger", 0)], True),
        ({"exclude": ["click channel:email"]}, [("click", Candidate("stranger", channel="email"), 0)], False),
        ({"exclude": ["click channel:email"]}, [("click", Candidate("b", channel="call"), 0)], True),
        ({"exclude": ["click channel:email"]}, [("click", "uncounted", 0)], False),
        ({"exclude": ["impression channel:email"]}, [("impression", "uncounted", 0)], False),
        ({"exclude": ["visit channel:email"]}, [("visit", "channel:email", 0)], False),
        ({"exclude": ["visit {campaign}"]}, [("visit", Candidate("b", item="ad"), 0)], True),
        ({"exclude": ["click uncounted"]}, [("click", "uncounted", 0)], False),
        ({"exclude": ["2 impression"]}, [("impression", "b", 0), ("impression", "uncounted", 0)], False),
    ],
)
def test_conditions(rules: dict[str, Any], happened: list[tuple[str, Any, int]], eligible: bool) -> None:  # noqa: FBT001
    """Audience: every clause; exclude: any one; no window: as long as the retention; labels of what it happened on."""
    mail = {"channel": "email"}
    asked = oracle(
        rules, campaign={"b": {"labels": mail}, "uncounted": {"labels": mail, "counts": False}}, retention="10 days"
    )
    for event, subject, ago in happened:
        assert asked.record("v", event, subject, T - ago, now=T - ago)
    assert ok(asked, T) is eligible


def test_templates() -> None:
    """A label that the candidate lacks: the audience is never entered, the exclusion never blocks."""
    asked = oracle({"audience": ["visit product/{item}"]}, campaign={"b": {"exclude": ["buy product/{item}"]}})
    for event in ("visit", "buy"):
        asked.record("v", event, "product/1", T)
    assert [ok(asked, T, c) for c in ("ad", Candidate("ad", item="2"), Candidate("ad", item="1"))] == [
        False,
        False,
        True,
    ]
    assert [ok(asked, T, c) for c in ("b", Candidate("b", item="2"), Candidate("b", item="1"))] == [True, True, False]


def test_label_caps() -> None:
    """A kind's cap holds for each value by itself, a label's cap for the one; the candidate's label stands first."""
    labels = {"labels": {"channel": "email"}}
    asked = oracle({**labels}, campaign={"b": {}}, caps={"channel": ["3 per day"], "channel:email": ["2 per day"]})
    shown(asked, T, T)
    assert asked.decide("v", "ad", T).violated == ["caps.channel:email 2 per day"]
    assert ok(asked, T, Candidate("ad", channel="call"))
    assert ok(asked, T, "b")
    assert not ok(asked, T, Candidate("b", channel="email"))
    shown(asked, T, T, T, what=Candidate("ad", channel="call"))
    assert asked.decide("v", Candidate("b", channel="call"), T).violated == ["caps.channel 3 per day"]


def test_labels_and_points_are_those_of_the_time_of_recording() -> None:
    """A policy that renames a label changes what comes, not what was."""
    asked = oracle({"labels": {"channel": "email"}}, caps={"channel": ["1 per day"]})
    shown(asked, T)
    changed = {"campaign": {"ad": {"labels": {"channel": "display"}}}, "caps": {"channel": ["1 per day"]}}
    asked.policy = Policy.model_validate(changed)
    assert ok(asked, T)
    assert not ok(asked, T, Candidate("ad", channel="email"))


def test_obeys_and_counts_are_separate() -> None:
    """`obeys = false` is never capped but counted; `counts = false` is capped but not counted, except for its own."""
    labels = {"labels": {"advertiser": "shop"}}
    campaigns = {"proud": {**labels, "obeys": False}, "quiet": {**labels, "counts": False, "caps": ["2 per day"]}}
    annoyance = {"threshold": ["2 per day"]}
    asked = oracle(
        labels,
        campaign=campaigns,
        annoyance=annoyance,
        caps={"advertiser": ["2 per day"]},
        defaults={"caps": ["1 per day"]},
    )
    shown(asked, T, T, what="quiet")
    assert [ok(asked, T, name) for name in ("ad", "proud", "quiet")] == [True, True, False]
    shown(asked, T, T, what="proud")
    assert ok(asked, T, "proud")
    assert asked.decide("v", "ad", T).violated == ["caps.advertiser 2 per day", "annoyance.threshold 2 per day"]


def test_segments() -> None:
    """The first segment that fits replaces the threshold, upwards or downwards, and only while it fits."""
    segments = {
        "buyers": {"who": ["buy within 1 hour", "visit"], "threshold": ["3 per day"]},
        "callers": {"who": ["buy"], "threshold": ["1 per day"]},
    }
    asked = oracle({}, annoyance={"threshold": ["2 per day"], "segment": segments})
    shown(asked, T)
    assert ok(asked, T)
    asked.record("v", "buy", None, T)
    assert asked.decide("v", "ad", T).violated == ["annoyance.segment.callers.threshold 1 per day"]
    asked.record("v", "visit", None, T)
    shown(asked, T)
    assert ok(asked, T + HOUR)
    assert not ok(asked, T + HOUR + 1)


def test_spread() -> None:
    """Four a day, spread, are six hours apart as well; a calendar month counts as thirty days for that."""
    asked = shown(oracle({"caps": [{"cap": "4 per day", "spread": True}]}), T)
    assert asked.eligible_at("v", "ad", T) == T + 6 * HOUR + 1
    monthly = shown(oracle({"caps": [{"cap": "4 per calendar month", "spread": True}]}), T)
    assert monthly.eligible_at("v", "ad", T) == T + 30 * DAY // 4 + 1


def test_the_next_time_waits_for_all_rules_at_once() -> None:
    """Cap, gap, hours and days together: the first moment at which all of them let go."""
    rules = {"caps": ["1 per 3 days"], "exclude": ["dismiss within 1 hour"], "hours": "08:00-21:00", "days": "mon-fri"}
    asked = shown(oracle(rules), T)  # Wednesday noon: the cap ends on Saturday noon
    assert asked.eligible_at("v", "ad", T) == at("2026-03-09T08:00")
    asked.record("v", "dismiss", "ad", at("2026-03-09T07:30"))
    assert asked.eligible_at("v", "ad", T) == at("2026-03-09T08:30:01")


def test_what_is_required_does_not_come_by_itself() -> None:
    """An audience that was not entered, or was left, gives no next time."""
    asked = oracle({"audience": ["visit within 1 hour"], "caps": ["1 per 2 hours"]})
    assert asked.eligible_at("v", "ad", T) is None
    asked.record("v", "visit", None, T)
    assert asked.eligible_at("v", "ad", T) == T
    shown(asked, T)
    assert asked.eligible_at("v", "ad", T) is None


def test_the_oracle_is_independent() -> None:
    """It imports the parsed policy and nothing that the library decides with."""
    imported: set[str] = set()
    for name in ("oracle.py", "oracle_rules.py", "local_time.py"):
        tree = ast.parse((Path(__file__).parent / name).read_text(encoding="utf-8"))
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name for name in imported if name.startswith(("retarget", "tests"))} == {
        "retarget.events",
        "retarget.policy.grammar",
        "retarget.policy",
        "tests.property.local_time",
        "tests.property.oracle_rules",
    }


@settings(max_examples=150, deadline=None)
@given(data=st.data(), rolling_only=st.booleans())
def test_the_next_time_is_the_first(data: st.DataObject, rolling_only: bool) -> None:  # noqa: FBT001
    """On any policy that the strategies make: eligible then, and at no probed moment before."""
    policy = Policy.model_validate(data.draw(policies(rolling_only=rolling_only)))
    asked = Oracle(policy)
    for event in data.draw(st.lists(events(policy), max_size=8)):
        assert event.visitor is not None
        asked.record(event.visitor, event.event, event.subject, second_of(event), event.id)
    candidate, now = data.draw(candidates(policy)), data.draw(moments())
    zone = None if rolling_only else data.draw(st.none() | st.sampled_from(ZONES))
    found = asked.eligible_at("v1", candidate, now, zone)
    if found is not None:
        assert asked.decide("v1", candidate, found, zone).eligible
    last = found if found is not None else now + 30 * DAY
    before = {*data.draw(st.lists(st.integers(now, last), max_size=20)), *range(last - 3, last), now}
    for moment in before:
        if now <= moment < last:
            assert not asked.decide("v1", candidate, moment, zone).eligible


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_claims_are_decisions_that_count(data: st.DataObject) -> None:
    """A claim takes the first candidate that `decide` allows; no cap of a campaign is ever passed."""
    policy = Policy.model_validate(data.draw(policies()))
    asked = Oracle(policy)
    offered = data.draw(st.lists(candidates(policy), min_size=1, max_size=4))
    for moment in sorted(data.draw(st.lists(st.integers(BASE, BASE + 2 * HOUR), max_size=6))):
        allowed = [candidate for candidate in offered if asked.decide("v", candidate, moment).eligible]
        assert asked.claim("v", offered, moment) == (allowed[0] if allowed else None)
