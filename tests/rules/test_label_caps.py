"""Caps per label by example.

Each example: a policy, what happened, a second, and the verdict then (tests/support/world.py).
"""

from __future__ import annotations

import pytest

from tests.support.world import line_of

LABELS = """
[caps]
advertiser = ["2 per day"]
"channel:email" = ["1 per day"]
item = ["1 per hour"]
[campaign.ad]
labels = { advertiser = "pico", channel = "display" }
[campaign.mail]
labels = { advertiser = "pico", channel = "email" }
[campaign.letter]
labels = { advertiser = "lumen", channel = "email" }
[campaign.bare]
"""
PICO = "cap: advertiser: 2 per day (2 of 2), again 2026-03-05 12:00:01"


@pytest.mark.parametrize(
    ("what", "history", "expected"),
    [
        ("ad", ["ad", "mail"], PICO),
        ("mail", ["ad", "mail"], PICO),
        ("letter", ["ad", "mail"], "cap: channel:email: 1 per day (1 of 1), again 2026-03-05 12:00:01"),
        ("letter", ["ad", "ad"], "yes"),
        ("bare", ["ad", "mail", "letter"], "yes"),
        ("bare advertiser=pico", ["ad", "mail"], PICO),
        ("ad", ["bare advertiser=pico", "stranger advertiser=pico"], PICO),
        ("ad item=tea", ["letter item=tea"], "cap: item: 1 per hour (1 of 1), again 2026-03-04 13:00:01"),
        ("ad item=coffee", ["letter item=tea"], "yes"),
        ("ad", ["letter item=tea"], "yes"),
    ],
)
def test_caps_per_label(what: str, history: list[str], expected: str) -> None:
    """A kind's cap is for each of its labels, a label's for that one; over all that carry it."""
    assert line_of(LABELS, "12:00", *(f"12:00 impression {shown}" for shown in history), what=what) == expected


def test_only_impressions_use_up_caps() -> None:
    """A click or a visit counts for no cap, gap or threshold."""
    policy = '[annoyance]\nthreshold = ["1 per day"]\n[caps]\nitem = ["1 per day"]\n[campaign.ad]\ncaps = ["1 per day"]'
    assert line_of(policy, "12:00", "12:00 click ad item=x", "12:00 visit ad", what="ad item=x") == "yes"
