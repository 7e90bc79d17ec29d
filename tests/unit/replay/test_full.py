"""Visitors who became full: who they are, and which rules are named."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from retarget.engine import Plan
from retarget.events import Candidate
from retarget.logs.log import LogRow
from retarget.policy import Policy
from retarget.replay.full import Fullness, FullRule, FullRules, FullTally
from retarget.replay.meanings import labels_of
from retarget.retargeter import Retargeter
from retarget.stores import MemoryStore
from retarget.timelines import MOST_TIMELINES, keys, timeline
from tests.support.replays import MONDAY, row, run

LIFETIME = FullRule("cap", "1 per lifetime", "impression {campaign}")
MOST = MOST_TIMELINES + 100


def reader(name: str, articles: int = MOST, first: int = 0) -> list[LogRow]:
    """A visitor who is shown that many campaigns, one a minute."""
    return [row(MONDAY + 60 * n, name, f"article-{n + first}") for n in range(articles)]


def test_a_news_reader() -> None:
    """A lifetime cap for each of a thousand articles fills a visitor; one who reads few is not full."""
    result = run('[defaults]\ncaps = ["1 per lifetime"]', [*reader("ann"), *reader("ben", 5), *reader("cid", first=70)])
    assert result.total.rules["full", "full"] == 200
    assert result.full == Fullness(2, {LIFETIME: MOST_TIMELINES})
    assert result.to_dict()["full"] == {
        "visitors": 2,
        "rules": [
            {
                "reason": "cap",
                "rule": "1 per lifetime",
                "timeline": "impression {campaign}",
                "timelines": MOST_TIMELINES,
            }
        ],
    }


def test_nobody_is_full() -> None:
    """A shorter window lets go of timelines in time: nobody is full, whatever they read."""
    result = run('[defaults]\ncaps = ["1 per hour"]', reader("ann"))
    assert (result.suppressed, result.full) == (0, Fullness(0, {}))
    assert result.to_dict()["full"] == {"visitors": 0, "rules": []}


def test_a_visitor_whose_events_are_dropped() -> None:
    """Events alone can fill a visitor: no impression is suppressed, but events are dropped."""
    policy = '[campaign.c]\nexclude = ["visit {item}", "2 buy within 1 day"]'
    rows = [row(MONDAY + n, "bot", None, None, event="visit", subject=f"page-{n}") for n in range(MOST)]
    result = run(policy, [*rows, row(MONDAY, "ann", "c", "page-1")], "item")
    assert (result.suppressed, result.dropped) == (0, 100)
    assert result.full == Fullness(1, {FullRule("exclude", "visit {item}", "visit {item}"): MOST_TIMELINES})


def test_a_limit_that_is_never_reached_fills_visitors_too() -> None:
    """Timelines fill a visitor whatever the limit: they are not passed over as harmless. Nor are events alone."""
    result = run('[defaults]\ncaps = ["1000 per lifetime"]', reader("ann"))
    assert result.full == Fullness(1, {FullRule("cap", "1000 per lifetime", "impression {campaign}"): MOST_TIMELINES})
    assert result.suppressed == 100
    rows = [row(MONDAY + n, "ann", None, event="visit", subject=f"page-{n}") for n in range(MOST)]
    assert run('[campaign.c]\nexclude = ["visit {item}"]', rows).dropped == 100


def test_events_that_wait_are_judged_at_their_own_time() -> None:
    """When an event waits for others, room that appears meanwhile is used: in memory and through a store."""
    policy = '[campaign.c]\nexclude = ["visit {item} within 1 hour"]'
    raw = timeline.add(None, MONDAY, 1, 16, timeline.head(3_600, shield=True), MONDAY)
    assert raw is not None
    dead = next(second for second in range(MONDAY + 3_600, MONDAY + 9_000) if not timeline.is_live(raw, second))
    visits = [("bot", n, MONDAY) for n in range(MOST_TIMELINES)]
    visits += [("ann", 0, dead - 100), ("bot", MOST_TIMELINES, dead)]
    rows = [row(at, visitor, None, event="visit", subject=f"page-{page}") for visitor, page, at in visits]
    assert run(policy, rows).dropped == 0
    too_early = [*rows[:-1], rows[-1]._replace(at=dead - 1)]
    assert run(policy, too_early).dropped == 1


def test_dropped_events_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The figures say how many they are: a line for each would drown them."""
    rows = [row(MONDAY + n, "bot", None, event="visit", subject=f"page-{n}") for n in range(MOST)]
    assert run('[campaign.c]\nexclude = ["visit {item}"]', rows).dropped == 100
    assert caplog.records == []
    logging.getLogger("retarget").warning("others are")
    assert len(caplog.records) == 1


def test_processes_add_up() -> None:
    """Tallies are sums: visitors and timelines of both, averaged in the end."""
    tally = FullTally(1, Counter({LIFETIME: 500, FullRule("gap", "gap 2 hours", "impression {campaign}"): 12}))
    tally.add(FullTally(2, Counter({LIFETIME: 1_000})))
    assert tally.figures() == Fullness(
        3, {LIFETIME: 500.0, FullRule("gap", "gap 2 hours", "impression {campaign}"): 4.0}
    )


@pytest.mark.parametrize(
    ("policy", "events", "expected"),
    [
        pytest.param(
            '[caps]\nitem = ["3 per day"]\n[defaults]\ncaps = ["1 per lifetime"]',
            [("impression", "c")],
            {FullRule("cap", "item: 3 per day", "impression item:{item}"): 1, LIFETIME: 1},
            id="a label's own rule, not that of any campaign",
        ),
        pytest.param(
            '[caps]\n"item:x" = ["3 per day"]\n[campaign.c]\ngap = "1 hours"\ncaps = ["2 per day"]\n[defaults]',
            [("impression", "c"), ("impression", "d")],
            {
                FullRule("cap", "item:x: 3 per day", "impression item:x"): 1,
                FullRule("cap", "2 per day", "impression {campaign}"): 1,
            },
            id="of several rules, the one that needs it longest",
        ),
        pytest.param(
            '[annoyance]\nthreshold = ["9 per day"]\n[campaign.c]\nexclude = ["dismiss {campaign}", "buy"]\n[defaults]',
            [("impression", "c"), ("dismiss", "c"), ("dismiss", "d"), ("buy", "d")],
            {
                FullRule("annoyance", "annoyance: 9 per day", "points"): 1,
                FullRule("exclude", "dismiss {campaign}", "dismiss {campaign}"): 1,
                FullRule("exclude", "buy", "buy"): 1,
            },
            id="events and points",
        ),
        pytest.param(
            '[defaults]\ncaps = ["2 since visit {item}"]\nexclude = ["visit item:{item} within 1 day"]',
            [("impression", "c"), ("visit", "x"), ("visit", "item:x")],
            {
                FullRule("cap", "2 since visit {item}", "impression {campaign}"): 1,
                FullRule("cap", "2 since visit {item}", "visit {item}"): 2,
                FullRule("exclude", "visit item:{item} within 1 day", "visit item:{item}"): 1,
            },
            id="events at which windows begin, and labels",
        ),
        pytest.param(
            '[defaults]\ncaps = ["2 per session"]',
            [("impression", "c"), ("visit", "x")],
            {
                FullRule("cap", "2 per session", "impression {campaign}"): 1,
                FullRule("cap", "2 per session", "activity"): 1,
            },
            id="sessions",
        ),
        pytest.param(
            '[campaign.c]\naudience = ["visit home"]\n[defaults]', [("visit", "home")], {}, id="none that blocks"
        ),
    ],
)
def test_each_timeline_belongs_to_a_rule(
    policy: str, events: list[tuple[str, str]], expected: dict[FullRule, int]
) -> None:
    """Timelines of a real visitor, by the rule that is named for each."""
    rules = Policy.from_text(policy)
    store = MemoryStore()
    ads = Retargeter(rules, store, clock=lambda: MONDAY)
    for event, subject in events:
        about = Candidate(subject, item="x") if event == "impression" else subject
        ads.record("v", event, about)
    state = store.read(keys.key("rt:", "v"))
    found = FullRules(Plan(rules), labels_of(rules)).count(state, MONDAY)
    assert found == expected
