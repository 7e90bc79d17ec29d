"""fullness.py: who is full, and which rule makes most of their timelines."""

from __future__ import annotations

import pytest

from retarget.engine.fullness import crowding_rule, is_full
from retarget.errors import StoreError
from retarget.timelines import DAY, HELD, MOST_TIMELINES, SLACK, timeline
from tests.support.histories import NOW, held, packed, plan_of


@pytest.mark.parametrize(
    ("shields", "age", "others", "full"),
    [
        (MOST_TIMELINES, 0, 0, True),
        (MOST_TIMELINES - 1, 0, 0, False),
        (MOST_TIMELINES - 1, 0, 9, False),
        (MOST_TIMELINES, DAY, 0, True),
        (MOST_TIMELINES, DAY + SLACK + 1, 0, False),
        (0, 0, 2 * MOST_TIMELINES, False),
    ],
)
def test_a_visitor_is_full_of_live_shields(shields: int, age: int, others: int, *, full: bool) -> None:
    """As many as may be kept that blocking rules ask about and that may still matter; interests can be evicted."""
    rounded = timeline.seconds_of(timeline.head(DAY, shield=True)) - DAY
    state = {b"i%d" % n: packed(NOW - age - (rounded if age > DAY else 0), shield=True) for n in range(shields)}
    state |= {b"e%d" % n: packed(NOW) for n in range(others)}
    assert is_full({**state, b"#0": b"x" * 8}, NOW) is full


def test_a_full_visitor_of_corrupt_timelines_is_a_store_error() -> None:
    """The first corrupt one is named; below the bound nobody counts."""
    assert not is_full({b"i%d" % n: b"" for n in range(MOST_TIMELINES - 1)}, NOW)
    with pytest.raises(StoreError, match="the timeline 'impression 0' is corrupt: 0 bytes"):
        is_full({b"i%d" % n: b"" for n in range(MOST_TIMELINES)}, NOW)


CREATIVES = """
    [caps]
    creative = ["3 per lifetime"]
    [defaults]
    caps = ["5 per day"]
    exclude = ["dismiss {campaign}"]
    [campaign.ad]
    caps = ["2 per day", "9 per 7 days"]
    audience = ["visit pricing"]
"""


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ([b"ccreative:1", b"ccreative:2", b"ix"], "creative: 3 per lifetime"),
        ([b"ccreative:1", b"ix", b"iy"], "5 per day"),
        ([b"edismiss x", b"edismiss ad", b"iy"], "dismiss {campaign}"),
        ([b"iad"], "9 per 7 days"),
        ([b"evisit pricing", b"lx", b"nobody"], None),
        ([], None),
    ],
)
def test_the_rule_that_most_timelines_are_kept_for(fields: list[bytes], rule: str | None) -> None:
    """Of the rules that block: a template's or a campaign's, as it is written."""
    assert crowding_rule(plan_of(CREATIVES), {field: packed(NOW, shield=True) for field in fields}, NOW) == rule


def test_what_can_be_evicted_crowds_nobody() -> None:
    """Neither interests, nor what no longer matters, nor remembered ids."""
    state = {b"ccreative:%d" % n: packed(NOW) for n in range(9)}
    state |= {b"edismiss %d" % n: packed(NOW - 9 * DAY, shield=True) for n in range(9)}
    state |= {b"#0": b"x" * 24, b"ix": packed(NOW, shield=True)}
    assert crowding_rule(plan_of(CREATIVES), state, NOW) == "5 per day"


def test_what_is_reserved_counts_for_the_rule_of_its_timeline() -> None:
    """A hold takes a timeline of its own."""
    plan = plan_of(CREATIVES)
    reserved = {HELD + b"ccreative:%d" % n: packed(NOW + 9, horizon=0, shield=True) for n in range(3)}
    assert crowding_rule(plan, {**held(b"ix", NOW + 9), **reserved}, NOW) == "creative: 3 per lifetime"


def test_a_corrupt_timeline_among_those_that_crowd_is_a_store_error() -> None:
    """It is named."""
    with pytest.raises(StoreError, match="the timeline 'impression 0' is corrupt"):
        crowding_rule(plan_of(CREATIVES), {b"i0": b"x"}, NOW)
