"""crowds.py: rules that may remember more timelines of one visitor than there is room for."""

from __future__ import annotations

from typing import Any

import pytest

from retarget.events import Candidate
from retarget.policy.lint.finding import Finding
from retarget.policy.load import Policy
from retarget.retargeter import Retargeter
from retarget.timelines import MOST_TIMELINES


def of(policy: Policy) -> list[Finding]:
    """What is found about room."""
    return [finding for finding in policy.findings() if finding.rule == "many-timelines"]


def places(toml: str) -> list[str]:
    """Where something is found about room."""
    return [finding.place for finding in of(Policy.from_text(toml))]


RARE = MOST_TIMELINES // 58
"""As many per 7 days are less in 400 days than there is room for; one more is more."""

LASTING = [
    ('[caps]\nitem = ["8 per 7 days", "20 per lifetime"]', ["caps.item[1]"]),
    ('[caps]\nitem = ["8 per 7 days", "20 per 33 days"]', ["caps.item[1]"]),
    ('[caps]\nitem = ["8 per flight"]', ["caps.item[0]"]),
    ('[defaults]\ncaps = ["3 per 60 days"]', ["defaults.caps[0]"]),
    ('[defaults]\ngap = "60 days"\n[campaign.a]', ["defaults.gap"]),
    ('[defaults]\nexclude = ["5 impression {campaign}"]', ["defaults.exclude[0]"]),
    ('[campaign.a]\nexclude = ["5 impression product/{item}"]', ["campaign.a.exclude[0]"]),
    # a threshold that leaves room for more
    (f'[annoyance]\nthreshold = ["{RARE + 1} per 7 days"]\n[caps]\nitem = ["20 per lifetime"]', ["caps.item[0]"]),
    # what obeys no threshold may be shown more often than it allows
    (
        f'[annoyance]\nthreshold = ["{RARE} per 7 days"]\n[caps]\nitem = ["20 per lifetime"]\n'
        "[campaign.a]\nobeys = false",
        ["caps.item[0]"],
    ),
]


@pytest.mark.parametrize(("toml", "expected"), LASTING)
def test_what_may_become_too_much(toml: str, expected: list[str]) -> None:
    """Rules about each value of a label, or each campaign, that look back further than a month."""
    assert places(toml) == expected


FINE = [
    '[caps]\nitem = ["8 per 7 days", "20 per 30 days", "25 per calendar month", "2 per session"]',
    'retention = "30 days"\n[caps]\nitem = ["20 per lifetime"]',
    '[caps]\n"item:x" = ["20 per lifetime"]',
    '[caps]\nadvertiser = ["20 per lifetime"]\n[campaign.a]\nlabels = { advertiser = "x" }',
    '[defaults]\ncaps = ["3 per day"]\nexclude = ["dismiss {campaign}", "purchase product/{item}"]',
    '[defaults]\naudience = ["impression product/{item}"]',
    '[campaign.a]\ncaps = ["3 per lifetime"]\nexclude = ["5 impression {campaign}"]',
    f'[annoyance]\nthreshold = ["{RARE} per 7 days"]\n[caps]\nitem = ["20 per lifetime"]',
]


@pytest.mark.parametrize("toml", FINE)
def test_what_stays_little(toml: str) -> None:
    """Short windows, few values, events that a visitor has seldom, what never blocks, and what thresholds keep rare."""
    assert places(toml) == []


@pytest.mark.parametrize(("count", "expected"), [(MOST_TIMELINES, []), (MOST_TIMELINES + 1, ["campaign.c0.caps[0]"])])
def test_many_campaigns(count: int, expected: list[str]) -> None:
    """More campaigns than there is room for, each remembered for long: one finding for all of them."""
    rules: dict[str, Any] = {f"c{n}": {"caps": ["3 per lifetime"]} for n in range(count)}
    found = of(Policy.model_validate({"campaign": {**rules, "short": {"caps": ["1 per day"]}}}))
    assert [finding.place for finding in found] == expected


def test_many_values() -> None:
    """A label that campaigns carry has as many values as they carry."""
    rules: dict[str, Any] = {f"c{n}": {"labels": {"creative": f"x{n}"}} for n in range(MOST_TIMELINES + 1)}
    policy = Policy.model_validate({"campaign": rules, "caps": {"creative": ["9 per lifetime"]}})
    assert [finding.place for finding in of(policy)] == ["caps.creative[0]"]


def test_it_says_what_happens_and_what_to_do() -> None:
    """The rule, for how long, how many, and the cure."""
    [finding] = of(Policy.from_text('[caps]\nitem = ["20 per lifetime"]'))
    assert str(finding) == (
        "remark caps.item[0]: '20 per lifetime' is remembered for 400 days for each item: a visitor who is shown more "
        f"than {MOST_TIMELINES:,} of them in that time is blocked as full; use a window of a month or less, shorten "
        "retention, or limit a label that has fewer values"
    )


def test_it_is_true() -> None:
    """A visitor who was shown that many is blocked as full for one more; with the cure they are not."""

    def reason(window: str) -> str:
        now = 1_800_000_000
        policy = Policy.from_text(f'[caps]\nitem = ["3 per {window}"]\n[defaults]')
        ads = Retargeter(policy, "memory://", clock=lambda: now)
        for n in range(MOST_TIMELINES + 1):
            now += 7_200
            ads.record("v", "impression", Candidate("a", item=f"i{n}"))
        another = Candidate("a", item="another")
        return ads.decide("v", [another])[another].reason

    assert (reason("lifetime"), reason("30 days")) == ("full", "eligible")
