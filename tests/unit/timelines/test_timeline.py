"""timeline.py: names, heads, the one question, and entering an event, compared with a plain sorted list."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.timelines import timeline
from retarget.timelines.timeline import LAST_MOMENT, SKEW

NOW = 1_794_312_000
DAY = 86_400


def packed(*moments: int, horizon: int = DAY, shield: bool = False) -> bytes:
    """A packed timeline."""
    return struct.pack(f">H{len(moments)}I", timeline.head(horizon, shield=shield), *moments)


@pytest.mark.parametrize(
    ("event", "subject", "name"),
    [
        ("impression", "notebook", b"inotebook"),
        ("impression", None, b"i"),
        ("visit", "product/notebook", b"evisit product/notebook"),
        ("visit", None, b"evisit"),
        ("click", "channel:email", b"eclick channel:email"),
        ("impression", "\N{SNOWMAN}", b"i\xe2\x98\x83"),
    ],
)
def test_names_are_short_and_read_as_a_policy_writes_them(event: str, subject: str | None, name: bytes) -> None:
    """A name packs event and subject, and tells them again."""
    assert timeline.name(event, subject) == name
    assert timeline.readable(name) == " ".join(filter(None, [event, subject]))


@pytest.mark.parametrize(("field", "text"), [(b"*", "points"), (b"@", "activity"), (b"^", "sessions")])
def test_what_the_library_keeps_by_itself_has_names(field: bytes, text: str) -> None:
    """The three special timelines are told in words."""
    assert timeline.readable(field) == text


def test_events_and_subjects_cannot_be_taken_for_one_another() -> None:
    """No two of these share a name: an event cannot hold a blank, so a name splits in one way only."""
    pairs = [("impression", "x"), ("x", None), ("i", "x"), ("ix", None), ("e", "x"), ("ex", None), ("impression", None)]
    pairs += [("visit", "a b"), ("visit", "a"), ("impression", "visit a"), ("impression", "*"), ("impression", "@")]
    names = [timeline.name(*pair) for pair in pairs]
    assert len(set(names)) == len(names)
    assert {b"*", b"@", b"^", b"#0", b"#1"}.isdisjoint(names)


@given(st.integers(0, 20 * 366 * DAY), st.booleans())
@settings(max_examples=200)
def test_a_head_rounds_a_horizon_up_by_less_than_two_thousandths(horizon: int, shield: bool) -> None:  # noqa: FBT001
    """A horizon is never told too short, nor more than 0.2 % too long; the shield is kept beside it."""
    raw = timeline.head(horizon, shield=shield).to_bytes(2) + b"\0\0\0\1"
    assert horizon <= timeline.horizon_of(raw) <= horizon * 1.002
    assert timeline.is_shield(raw) is shield


@pytest.mark.parametrize(
    ("raw", "is_one"),
    [(b"", False), (b"\0\1", False), (b"\0\1\0\0\0", False), (b"\0\1\0\0\0\1", True), (b"\0\1\0\0\0\1\0", False)],
)
def test_only_a_head_with_whole_entries_is_a_timeline(raw: bytes, *, is_one: bool) -> None:
    """A timeline is 2 bytes and then at least once 4."""
    assert timeline.is_packed(raw) is is_one


def test_the_nth_newest_entry() -> None:
    """Counted from the newest, 1 being the newest; None where there are fewer."""
    raw = packed(10, 20, 20, 30)
    assert [timeline.nth_newest(raw, n) for n in (1, 2, 3, 4, 5, 1_000)] == [30, 20, 20, 10, None, None]
    assert timeline.newest(raw) == 30
    assert timeline.nth_newest(b"", 1) is None


def test_counting_since_includes_the_moment_itself() -> None:
    """An entry at T counts since T."""
    raw = packed(10, 20, 20, 30)
    assert [timeline.count_since(raw, since) for since in (0, 10, 11, 20, 21, 30, 31)] == [4, 4, 3, 3, 1, 1, 0]


def test_a_timeline_is_live_while_its_newest_entry_matters() -> None:
    """Exactly a horizon old still matters; one second more does not."""
    raw = packed(NOW, horizon=1_000)
    assert timeline.is_live(raw, NOW + 1_000)
    assert not timeline.is_live(raw, NOW + 1_001)


@pytest.mark.parametrize(("age", "kept"), [(0, True), (1_000 + SKEW, True), (1_000 + SKEW + 1, False)])
def test_an_event_too_old_to_matter_is_not_entered(age: int, *, kept: bool) -> None:
    """Older than the horizon and the skew of clocks together: None, in an empty timeline and beside entries."""
    code = timeline.head(1_000, shield=False)
    empty = timeline.add(None, NOW - age, 1, 16, code, NOW)
    beside = timeline.add(packed(NOW, horizon=1_000), NOW - age, 1, 16, code, NOW - 5_000)
    assert ((empty is not None), (beside is not None)) == (kept, kept)


def test_moments_up_to_2106_fit() -> None:
    """The last moment of 32 bits goes in and comes out."""
    raw = timeline.add(None, LAST_MOMENT, 1, 16, timeline.head(DAY, shield=True), LAST_MOMENT)
    assert raw is not None
    assert timeline.moments(raw) == (LAST_MOMENT,)


MOMENTS = st.lists(st.tuples(st.integers(NOW - 3_000, NOW), st.integers(1, 5)), min_size=1, max_size=30)


@given(MOMENTS, st.integers(1, 20), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_the_order_of_arrival_does_not_matter(events: list[tuple[int, int]], keep: int, chance: object) -> None:
    """However events are shuffled, the newest `keep` remain, in order."""
    code = timeline.head(DAY, shield=False)
    shuffled = list(events)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    raw: bytes | None = None
    for at, weight in shuffled:
        raw = timeline.add(raw, at, weight, keep, code, NOW) or raw
    assert raw is not None
    assert timeline.moments(raw) == tuple(sorted(at for at, weight in events for _ in range(weight))[-keep:])


@given(MOMENTS, st.integers(1, 20), st.integers(NOW - 4_000, NOW + 1))
@settings(max_examples=100)
def test_trimming_loses_nothing_for_what_is_asked(events: list[tuple[int, int]], keep: int, since: int) -> None:
    """For every n up to `keep` the one question has the answer that all events would give."""
    raw: bytes | None = None
    for at, weight in events:
        raw = timeline.add(raw, at, weight, keep, timeline.head(DAY, shield=False), NOW) or raw
    everything = sorted((at for at, weight in events for _ in range(weight)), reverse=True)
    assert raw is not None
    for n in range(1, keep + 1):
        entry = timeline.nth_newest(raw, n)
        expected = n <= len(everything) and everything[n - 1] >= since
        assert (entry is not None and entry >= since) is expected
