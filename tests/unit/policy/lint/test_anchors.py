"""anchors.py: windows that count nothing, and those that never begin anew."""

from __future__ import annotations

import pytest

from retarget.policy.load import Policy
from retarget.retargeter import Retargeter

NEVER = '[campaign.never]\naudience = ["click never"]\n'
"""A campaign that can never be shown."""


def of(toml: str) -> list[tuple[str, str]]:
    """The rules and places of what is found about windows since an event."""
    found = Policy.from_text(toml).findings()
    return [(finding.rule, finding.place) for finding in found if finding.rule in ("counts-nothing", "never-anew")]


NOTHING = [
    ('[campaign.a]\ncaps = ["3 since impression {campaign}"]', "campaign.a.caps[0]"),
    ('[campaign.a]\ncaps = ["9 per day", "3 since impression"]', "campaign.a.caps[1]"),
    ('[campaign.a]\ncaps = ["3 since impression a"]', "campaign.a.caps[0]"),
    ('[campaign.a]\nexclude = ["visit x since visit"]', "campaign.a.exclude[0]"),
    ('[campaign.a]\nexclude = ["visit {item} since visit {item}"]', "campaign.a.exclude[0]"),
    ('[campaign.a]\naudience = [{ any = ["visit since visit", "purchase"] }]', "campaign.a.audience[0]"),
    ('[campaign.a]\naudience = ["impression b since impression"]\n[campaign.b]', "campaign.a.audience[0]"),
    ('[caps]\nchannel = ["3 since impression channel:{channel}"]', "caps.channel[0]"),
    ('[caps]\n"channel:x" = ["3 since impression channel:x"]', "caps.channel:x[0]"),
    ('[caps]\n"channel:x" = ["3 since impression channel:{channel}"]', "caps.channel:x[0]"),
    ('[annoyance]\nthreshold = ["9 per day", "5 since impression"]', "annoyance.threshold[1]"),
    (
        '[annoyance]\nthreshold = ["9 per day"]\n[annoyance.segment.s]\nthreshold = ["9 per day"]\n'
        'who = [{ any = ["visit since visit", "purchase"] }]',
        "annoyance.segment.s.who[0]",
    ),
    ('[defaults]\ncaps = ["3 since impression {campaign}"]\n[campaign.a]\n[campaign.b]', "defaults.caps[0]"),
]


@pytest.mark.parametrize(("toml", "place"), NOTHING)
def test_what_counts_nothing(toml: str, place: str) -> None:
    """Its window begins at the newest of what it counts; once, where [defaults] say so."""
    assert of(toml) == [("counts-nothing", place)]


ANEW = [
    (NEVER + '[campaign.a]\ncaps = ["3 since click never"]', "campaign.a.caps[0]"),
    (NEVER + '[campaign.a]\nexclude = ["visit since impression never"]', "campaign.a.exclude[0]"),
    (NEVER + '[campaign.a]\naudience = ["visit since click never"]', "campaign.a.audience[0]"),
    (NEVER + '[caps]\nitem = ["3 since click never"]', "caps.item[0]"),
    (NEVER + '[annoyance]\nthreshold = ["3 since click never"]', "annoyance.threshold[0]"),
]


@pytest.mark.parametrize(("toml", "place"), ANEW)
def test_what_never_begins_anew(toml: str, place: str) -> None:
    """The event at which it begins needs a campaign that can never be shown."""
    assert of(toml) == [("never-anew", place)]


FINE = [
    '[campaign.a]\ncaps = ["3 since click {campaign}"]\nexclude = ["2 impression {campaign} since click {campaign}"]',
    '[campaign.a]\naudience = ["add cart since purchase", "visit since visit x"]',
    '[campaign.a]\ncaps = ["3 since impression b"]\n[campaign.b]',
    '[campaign.a]\nobeys = false\n[defaults]\ncaps = ["3 since click {campaign}"]',
    '[caps]\nchannel = ["3 since impression {campaign}", "3 since impression advertiser:x"]',
    '[annoyance]\nthreshold = ["3 since impression a"]\n[campaign.a]',
    NEVER + '[campaign.a]\ncaps = ["3 since dismiss never", "9 per day"]',
    # what makes nobody enter is reported as that, and a campaign that cannot be shown as just that
    '[campaign.a]\naudience = ["visit since visit"]',
    '[campaign.a]\naudience = ["click a"]\ncaps = ["3 since click a"]',
]


@pytest.mark.parametrize("toml", FINE)
def test_what_is_sound(toml: str) -> None:
    """Another event, another subject, another campaign."""
    assert of(toml) == []


def test_an_audience_that_counts_nothing_is_nobody() -> None:
    """It is an error: no visitor can enter; but what is reserved counts, and so may let a visitor in."""
    policy = Policy.from_text('[campaign.a]\naudience = ["visit since visit"]')
    assert [str(finding) for finding in policy.findings()] == [
        "error campaign.a.audience[0]: nobody can enter: 'visit since visit' counts nothing: its window begins at the "
        "newest of what it counts; relax one of them"
    ]


def test_what_is_reserved_counts() -> None:
    """So a cap since the campaign's own impression does something, and the finding says what."""
    policy = Policy.from_text('[campaign.a]\ncaps = ["1 since impression {campaign}"]')
    assert [str(finding) for finding in policy.findings()] == [
        "warning campaign.a.caps[0]: '1 since impression {campaign}' counts nothing but what is reserved: its window "
        "begins at the newest of what it counts; count since another event"
    ]
    ads = Retargeter(policy, "memory://", clock=lambda: 1_800_000_000)
    assert ads.claim("v", ["a"]) is not None
    assert ads.claim("v", ["a"], hold="10 minutes") is not None
    assert ads.claim("v", ["a"]) is None


def test_texts() -> None:
    """They quote the rule and say what would be right."""
    found = Policy.from_text(NEVER + '[campaign.a]\ncaps = ["3 since click never"]').findings()
    assert [str(finding) for finding in found if finding.rule == "never-anew"] == [
        "warning campaign.a.caps[0]: '3 since click never' never begins anew: click needs 'never', which can never be "
        "shown; count since another event, or write lifetime"
    ]


def test_names_of_anchors_are_checked_like_others() -> None:
    """Events, campaigns and labels that are misspelled, missing from a log, or known to the candidate alone."""
    policy = Policy.from_text("""
        [caps]
        item = ["3 since click item:{itm}"]
        [campaign.notebook]
        caps = ["3 since clik notebok", "3 since click notebok", "9 since click {slot}"]
        exclude = ["visit x since order"]
    """)
    found = [(finding.rule, finding.place) for finding in policy.findings(events=["click", "visit"])]
    assert [finding for finding in found if finding[0] != "many-timelines"] == [
        ("unknown-event", "campaign.notebook.caps[0]"),
        ("unknown-campaign", "campaign.notebook.caps[1]"),
        ("from-candidate", "campaign.notebook.caps[2]"),
        ("unknown-event", "campaign.notebook.exclude[0]"),
        ("from-candidate", "caps.item[0]"),
    ]
