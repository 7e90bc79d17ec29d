"""The annoyance threshold by example: points, segments, and the switches `obeys` and `counts`.

Each example: a policy, what happened, a second, and the verdict then (tests/support/world.py).
"""

from __future__ import annotations

import pytest

from retarget import AnnoyanceLevel
from tests.support.world import World, line_of

THRESHOLD = """
[annoyance]
threshold = ["12 per 7 days"]
points = { email = 3, call = 10 }
[annoyance.segment.upset]
who = ["complaint within 30 days"]
threshold = ["10 per 7 days"]
[annoyance.segment.customers]
who = [{ any = ["purchase", "subscribe"] }, "visit within 90 days"]
threshold = ["20 per 7 days"]
[campaign.ad]
[campaign.mail]
labels = { channel = "email" }
[campaign.call]
labels = { channel = "call" }
"""


@pytest.mark.parametrize(
    ("history", "fits"),
    [
        ([], "ad mail call"),
        (["mail"], "ad mail"),
        (["ad", "ad"], "ad mail call"),
        (["ad", "ad", "ad"], "ad mail"),
        (["call"], "ad"),
        (["call", "ad", "ad"], ""),
        (["mail"] * 3, "ad mail"),
        (["mail"] * 3 + ["ad"], "ad"),
        (["mail"] * 4, ""),
        (["stranger"] * 10, "ad"),
        (["stranger channel=call"], "ad"),
        (["ad channel=call"], "ad"),
    ],
)
def test_points_per_channel(history: list[str], fits: str) -> None:
    """An impression costs its channel's points, one where none are named; what costs more than is left must wait."""
    world = World(THRESHOLD, *(f"12:00 impression {shown}" for shown in history))
    lines = {what: world.line("12:00", what) for what in ("ad", "mail", "call")}
    assert [what for what in lines if lines[what] == "yes"] == fits.split()
    for line in lines.values():
        assert line == "yes" or line.startswith("annoyance: annoyance: 12 per 7 days (")


def test_when_there_is_room_again() -> None:
    """A dear impression waits until enough cheap ones have left; the verdict says how many points are used."""
    world = World(THRESHOLD, "12:00 impression mail", "13:00 impression ad", "14:00 impression mail")
    assert world.line("14:00", "mail") == "yes"
    assert world.line("14:00", "call") == "annoyance: annoyance: 12 per 7 days (7 of 12), again 2026-03-11 14:00:01"
    assert World(THRESHOLD, "12:00 impression mail", "13:00 impression ad").line("13:00", "call") == (
        "annoyance: annoyance: 12 per 7 days (4 of 12), again 2026-03-11 12:00:01"
    )


@pytest.mark.parametrize(
    ("history", "segment", "rule", "limit"),
    [
        ([], "annoyance", "12 per 7 days", 12),
        (["12:00 visit"], "annoyance", "12 per 7 days", 12),
        (["12:00 purchase tea"], "annoyance", "12 per 7 days", 12),
        (["12:00 purchase tea", "12:00 visit"], "segment customers", "20 per 7 days", 20),
        (["12:00 subscribe", "12:00 visit shop"], "segment customers", "20 per 7 days", 20),
        (["12:00 complaint"], "segment upset", "10 per 7 days", 10),
        (["12:00 complaint", "12:00 purchase", "12:00 visit"], "segment upset", "10 per 7 days", 10),
    ],
)
def test_the_first_segment_that_fits(history: list[str], segment: str, rule: str, limit: int) -> None:
    """The first segment whose conditions all hold sets the threshold; the general one does where none fits."""
    world = World(THRESHOLD, *history, "12:00 impression call")
    assert world.annoyance("12:00") == AnnoyanceLevel(segment, rule, 10, limit)
    line = world.line("12:00", "mail")
    assert line == "yes" if limit == 20 else line.startswith(f"annoyance: {segment}: {rule} (10 of {limit})")
    for _ in range(limit - 10):
        assert world.line("12:00", "ad") == "yes"
        world.happens("12:00 impression ad")
    assert world.line("12:00", "ad").startswith(f"annoyance: {segment}: {rule} ({limit} of {limit})")


def test_segments_change_as_time_goes_on() -> None:
    """When a visitor leaves a segment the next threshold is in force: it may end earlier, or later."""
    longer = """
[annoyance]
threshold = ["1 per 7 days"]
[annoyance.segment.guests]
who = ["visit within 1 hour"]
threshold = ["2 per 30 minutes"]
[campaign.ad]
"""
    world = World(longer, "12:00 visit", "12:50 impression ad")
    assert world.annoyance("12:50") == AnnoyanceLevel("segment guests", "2 per 30 minutes", 1, 2)
    assert world.line("13:00") == "yes"
    assert world.line("13:00:01") == "annoyance: annoyance: 1 per 7 days (1 of 1), again 2026-03-11 12:50:01"
    world.happens("13:00:01 visit")
    world.happens("13:40 impression ad")
    world.happens("13:50 impression ad")
    # The segment's threshold would end at 14:10:01, but the visitor leaves the segment at 14:00:02.
    assert world.line("13:50").endswith("again 2026-03-11 13:50:01")
    earlier = longer.replace("1 per 7 days", "5 per day").replace("2 per 30 minutes", "1 per day")
    line = line_of(earlier, "12:30", "12:00 visit", "12:20 impression ad")
    assert line == "annoyance: segment guests: 1 per day (1 of 1), again 2026-03-04 13:00:01"


def test_the_threshold_that_is_nearest_to_its_limit() -> None:
    """Of several thresholds `annoyance` is the one nearest to its limit; without any it is None."""
    policy = '[annoyance]\nthreshold = ["4 per hour", "6 per day"]\n[campaign.ad]'
    world = World(policy, *["12:00 impression ad"] * 3)
    assert world.annoyance("12:30") == AnnoyanceLevel("annoyance", "4 per hour", 3, 4)
    assert world.annoyance("13:30") == AnnoyanceLevel("annoyance", "6 per day", 3, 6)
    assert World("[campaign.ad]", "12:00 impression ad").annoyance("12:00") is None


def test_a_threshold_per_session_is_unused_when_the_session_is_over() -> None:
    """When a session is over, the verdict and `annoyance` both say that nothing is used."""
    world = World('[annoyance]\nthreshold = ["3 per session"]\n[campaign.ad]', "12:00 impression ad")
    assert world.annoyance("12:30") == AnnoyanceLevel("annoyance", "3 per session", 1, 3)
    assert world.line("12:30:01") == "yes"
    assert world.annoyance("12:30:01") == AnnoyanceLevel("annoyance", "3 per session", 0, 3)


@pytest.mark.parametrize(
    ("switches", "held_back", "uses_up"),
    [
        ("", True, True),
        ("obeys = false", False, True),
        ("counts = false", True, False),
        ("obeys = false\ncounts = false", False, False),
    ],
)
def test_obeys_and_counts(switches: str, *, held_back: bool, uses_up: bool) -> None:
    """`obeys = false` is never held back by threshold and caps; `counts = false` uses up nothing of them."""
    policy = (
        '[annoyance]\nthreshold = ["2 per day"]\n[caps]\nchannel = ["2 per day"]\n'
        '[campaign.ad]\nlabels = { channel = "email" }\n'
        f'[campaign.service]\nlabels = {{ channel = "email" }}\n{switches}'
    )
    used = World(policy, *["12:00 impression ad"] * 2)
    assert (used.line("12:00", "service") != "yes") is held_back
    shown = World(policy, *["12:00 impression service"] * 2)
    assert (shown.line("12:00", "ad") != "yes") is uses_up
    assert (shown.line("12:00", "service") != "yes") is (held_back and uses_up)
    level = shown.annoyance("12:00")
    assert level is not None
    assert level.points == (2 if uses_up else 0)


def test_what_is_not_counted_has_its_own_caps() -> None:
    """`counts = false` spares what it shares with others; its own caps and gap hold, and conditions see it."""
    policy = (
        '[annoyance]\nthreshold = ["9 per day"]\n[campaign.help]\ncounts = false\ncaps = ["1 per day"]\n'
        '[campaign.ad]\nexclude = ["impression help within 1 hour"]'
    )
    shown = "12:00 impression help"
    assert line_of(policy, "12:00", shown, what="help") == "cap: 1 per day (1 of 1), again 2026-03-05 12:00:01"
    assert (
        line_of(policy, "12:00", shown) == "exclude: impression help within 1 hour (1 of 1), again 2026-03-04 13:00:01"
    )


def test_what_obeys_nothing_still_has_an_audience() -> None:
    """`obeys = false` sets aside caps and threshold, not audience, exclusions and hours."""
    policy = '[campaign.ad]\nobeys = false\naudience = ["purchase"]\nexclude = ["optout"]\nhours = "08:00-20:00"'
    assert line_of(policy, "12:00") == "audience: purchase (0 of 1), never"
    assert line_of(policy, "12:00", "12:00 purchase") == "yes"
    assert line_of(policy, "12:00", "12:00 purchase", "12:00 optout").startswith("exclude: optout")
    assert line_of(policy, "20:00", "12:00 purchase") == "hours: hours 08:00-20:00, again 2026-03-05 08:00:00"
