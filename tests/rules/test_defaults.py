"""Defaults by example: what a campaign inherits, and campaigns that the policy does not name.

Each example: a policy, what happened, a second, and the verdict then (tests/support/world.py).
"""

from __future__ import annotations

import pytest

from retarget import InputError
from tests.support.world import World, line_of

DEFAULTS = """
[defaults]
caps = ["1 per day"]
gap = "2 days"
exclude = ["dismiss {campaign}"]
audience = ["visit"]
[campaign.ad]
caps = ["3 per hour"]
[campaign.open]
exclude = []
audience = []
[campaign.free]
obeys = false
"""
HIDDEN = "exclude: dismiss {campaign} (1 of 1), never"
TOO_SOON = "gap: gap 2 days (1 of 1), again 2026-03-06 12:00:01"


@pytest.mark.parametrize(
    ("what", "history", "expected"),
    [
        ("ad", [], "audience: visit (0 of 1), never"),
        ("stranger", [], "audience: visit (0 of 1), never"),
        ("open", [], "yes"),
        ("open", ["12:00 dismiss open"], "yes"),
        ("stranger", ["12:00 visit"], "yes"),
        ("stranger", ["12:00 visit", "12:00 dismiss stranger"], HIDDEN),
        ("stranger", ["12:00 visit", "12:00 dismiss ad"], "yes"),
        ("stranger", ["12:00 visit", "12:00 impression stranger"], TOO_SOON),
        ("stranger item=x", ["12:00 visit", "12:00 impression stranger"], TOO_SOON),
        ("ad", ["12:00 visit", "12:00 impression ad"], TOO_SOON),
        ("ad", ["12:00 visit", "12:00 dismiss ad"], HIDDEN),
        ("free", ["12:00 visit", "12:00 impression free"], "yes"),
    ],
)
def test_defaults(what: str, history: list[str], expected: str) -> None:
    """A campaign has the defaults, one that is not named just these; its own replace those of the same kind."""
    assert line_of(DEFAULTS, "12:00", *history, what=what) == expected


def test_own_caps_replace_the_default_caps_only() -> None:
    """With caps of its own a campaign has no default caps, and keeps the default hours."""
    policy = '[defaults]\ncaps = ["1 per day"]\nhours = "08:00-20:00"\n[campaign.ad]\ncaps = ["2 per hour"]'
    assert line_of(policy, "12:00", "12:00 impression ad") == "yes"
    line = line_of(policy, "12:00", "12:00 impression ad", "12:00 impression ad")
    assert line == "cap: 2 per hour (2 of 2), again 2026-03-04 13:00:01"
    assert line_of(policy, "20:00") == "hours: hours 08:00-20:00, again 2026-03-05 08:00:00"


def test_a_campaign_that_nobody_knows() -> None:
    """Without [defaults] there is no deciding on a campaign that the policy does not name; an empty table will do."""
    world = World("[campaign.ad]")
    with pytest.raises(InputError, match=r"'stranger' is not in the policy.*\[defaults\]"):
        world.ads.decide("v", ["stranger"])
    assert line_of("[defaults]", "12:00", what="stranger") == "yes"
    world.happens("12:00 impression stranger")  # it may have been shown all the same: ads outlive their policy
