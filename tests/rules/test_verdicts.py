"""Verdicts: when again with all rules together, the closed set of reasons, the order of candidates.

Each example: a policy, what happened, a second, and the verdict then (tests/support/world.py).
"""

from __future__ import annotations

from datetime import datetime
from typing import get_args
from zoneinfo import ZoneInfo

import pytest

from retarget import Event, MemoryStore, Policy, Retargeter, StoreError, Verdict
from retarget.engine import Reason
from retarget.timelines import MOST_TIMELINES, State
from tests.support.world import World, capped, line_of


@pytest.mark.parametrize(
    ("rules", "history", "now", "expected"),
    [
        (  # the cap ends at night: in the morning
            'caps = ["1 per 12 hours"]\nhours = "08:00-21:00"',
            ["12:00 impression ad"],
            "12:00",
            "cap: 1 per 12 hours (1 of 1), again 2026-03-05 08:00:00",
        ),
        (  # closed now, and the cap ends within the hours of tomorrow
            'caps = ["1 per day"]\nhours = "08:00-21:00"',
            ["20:00 impression ad"],
            "21:00",
            "cap: 1 per day (1 of 1), again 2026-03-05 20:00:01",
        ),
        (  # the cap ends on a Saturday: on Monday morning
            'caps = ["1 per 3 days"]\nhours = "08:00-21:00"\ndays = "mon-fri"',
            ["12:00 impression ad"],
            "12:00",
            "cap: 1 per 3 days (1 of 1), again 2026-03-09 08:00:00",
        ),
        (  # the audience is over before the cap ends
            'caps = ["1 per day"]\naudience = ["visit within 1 day"]',
            ["11:00 visit", "12:00 impression ad"],
            "12:00",
            "cap: 1 per day (1 of 1), never",
        ),
        (  # in the audience just long enough
            'caps = ["1 per day"]\naudience = ["visit within 1 day"]',
            ["12:00 impression ad", "12:00:01 visit"],
            "12:00:01",
            "cap: 1 per day (1 of 1), again 2026-03-05 12:00:01",
        ),
        (  # the audience is over before it opens
            'hours = "08:00-21:00"\naudience = ["visit within 8 hours"]',
            ["23:59 visit"],
            "23:59",
            "hours: hours 08:00-21:00, never",
        ),
        (  # any: one of the two lasts
            'caps = ["1 per day"]\naudience = [{ any = ["visit within 1 day", "click within 2 days"] }]',
            ["11:00 visit", "11:00 click", "12:00 impression ad"],
            "12:00",
            "cap: 1 per day (1 of 1), again 2026-03-05 12:00:01",
        ),
        (  # it ends before the cap ends
            'caps = ["1 per day"]\nend = 2026-03-04',
            ["12:00 impression ad"],
            "12:00",
            "cap: 1 per day (1 of 1), never",
        ),
        (  # on its last day it does not open again
            'hours = "08:00-12:00"\nend = 2026-03-04',
            [],
            "12:00",
            "hours: hours 08:00-12:00, never",
        ),
        (  # it starts later than the cap ends
            'caps = ["1 per day"]\nstart = 2026-03-07',
            ["12:00 impression ad"],
            "12:00",
            "start: start 2026-03-07, again 2026-03-07 00:00:00",
        ),
        (  # by the time it starts nobody is in the audience
            'start = 2026-03-07\naudience = ["visit within 1 day"]',
            ["12:00 visit"],
            "12:00",
            "start: start 2026-03-07, never",
        ),
        (  # two rules that end at different times, and the clock on top
            'caps = ["1 per calendar day"]\ngap = "20 hours"\nexclude = ["dismiss within 1 hour"]\ndays = "wed, fri"',
            ["12:00 impression ad", "12:30 dismiss ad"],
            "12:30",
            "gap: gap 20 hours (1 of 1), again 2026-03-06 00:00:00",
        ),
    ],
)
def test_when_again(rules: str, history: list[str], now: str, expected: str) -> None:
    """`eligible_at` is when all rules hold together if nothing else happens; None if one of them ends before."""
    assert line_of(f"[campaign.ad]\n{rules}", now, *history) == expected


class Broken(MemoryStore):
    """A store that fails."""

    def read(self, key: bytes) -> State:
        raise StoreError("the store is out for lunch")


def test_reasons_are_a_closed_set() -> None:
    """Each of the reasons can be met, and there are no others."""
    rules = 'start = 2026-03-04T10:00:00\nend = 2026-03-20\ndays = "wed"\nhours = "12:00-20:00"'
    more = 'audience = ["visit"]\nexclude = ["dismiss"]\ncaps = ["2 per day"]\ngap = "1 hour"'
    shared = '[annoyance]\nthreshold = ["3 per day"]\n[campaign.other]'
    clock, world = World(f"[campaign.ad]\n{rules}"), World(f"{shared}\n[campaign.ad]\n{more}", "12:00 visit")
    met = {
        clock.verdict(at).reason
        for at in ("2026-03-02T12:00", "10:00", "12:00", "2026-03-05T12:00", "2026-03-21T12:00")
    }
    met.add(World(f"{shared}\n[campaign.ad]\n{more}").verdict("12:00").reason)
    met.add(world.verdict("12:00").reason)
    world.happens("12:00 impression ad")
    met.add(world.verdict("12:00").reason)
    world.happens("14:00 impression ad")
    met.add(world.verdict("16:00").reason)
    world.happens("16:00 impression other")
    met.add(world.verdict("16:00", "other").reason)
    world.happens("16:00 dismiss")
    met.add(world.verdict("16:00").reason)
    met.add(world.ads.decide(None)["ad"].reason)
    met.add(world.ads.decide("v", consent=False)["ad"].reason)
    met.add(Retargeter(world.policy, Broken()).decide("v")["ad"].reason)
    full = Retargeter(Policy.from_text('[campaign.ad]\nexclude = ["dismiss product/{item}"]'), "memory://")
    full.record_many([Event("v", "dismiss", f"product/{number}") for number in range(MOST_TIMELINES)])
    met.add(full.decide("v")["ad"].reason)
    assert met == set(get_args(Reason))


@pytest.mark.parametrize("answer", ["block", "allow"])
def test_without_a_visitor_or_consent(answer: str) -> None:
    """Without a visitor or consent all candidates get what the policy says, whatever else it says."""
    policy = f'on_unknown_visitor = "{answer}"\non_no_consent = "{answer}"\n[campaign.ad]\naudience = ["visit"]'
    ads = Retargeter(Policy.from_text(policy), "memory://")
    expected = ("ad",) if answer == "allow" else ()
    unknown, refused = ads.decide(None, ["ad"]), ads.decide("v", ["ad"], consent=False)
    assert (unknown.eligible, refused.eligible) == (expected, expected)
    assert unknown["ad"] == Verdict(bool(expected), "unknown visitor")
    assert refused["ad"] == Verdict(bool(expected), "no consent")
    assert unknown.annoyance is None


def test_a_verdict_is_true_if_eligible() -> None:
    """A verdict can be asked as a condition; an eligible one says so, from now on, and names no rule."""
    world = World(capped("1 per day"))
    now = datetime.fromtimestamp(world.second("12:00"), ZoneInfo("UTC"))
    assert world.verdict("12:00") == Verdict(eligible=True, reason="eligible", eligible_at=now)
    decision = world.ads.decide("v", ["ad"], now=now)
    assert (decision.eligible, list(decision), len(decision)) == (("ad",), ["ad"], 1)
    with pytest.raises(KeyError):
        decision["other"]


def test_candidates_keep_their_order() -> None:
    """`eligible` is in the caller's order; without candidates, in the policy's."""
    world = World('[campaign.a]\n[campaign.b]\naudience = ["visit"]\n[campaign.c]\n[campaign.d]', "12:00 visit")
    assert world.ads.decide("v", ["d", "b", "a"]).eligible == ("d", "b", "a")
    assert world.ads.decide("v").eligible == ("a", "b", "c", "d")
    assert world.ads.decide("w").eligible == ("a", "c", "d")
