"""timeline.py: names, heads, the one question, entering and removing, compared with plain sorted lists."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.errors import StoreError
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
    """A name packs event and subject, and reads as both."""
    assert timeline.name(event, subject) == name
    assert timeline.readable(name) == " ".join(filter(None, [event, subject]))


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (b"*", "points"),
        (b"@", "activity"),
        (b"^", "sessions"),
        (b"h", "reserved until"),
        (b"hinotebook", "reserved impression notebook"),
        (b"h*", "reserved points"),
        (b"H\x01\x02\x03\x04\x05", "reservation 0102030405"),
        (b"M", "moving"),
        (b"Mevisit shop", "moving visit shop"),
        (b"i\xff", "impression \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_what_the_library_keeps_for_itself_has_names(field: bytes, text: str) -> None:
    """Special timelines, holds and parcels are named in words; bytes that are not text do no harm."""
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
    """A horizon is never too short, and at most 0.2 % too long; the shield is kept beside it."""
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


@pytest.mark.parametrize("raw", [b"", b"\0\1", b"\0\1\0\0\0", b"\0\1\0\0\0\1\0"])
def test_what_is_no_timeline_is_corrupt(raw: bytes) -> None:
    """A StoreError with the timeline's name as a policy writes it, and its length; a timeline is handed back."""
    with pytest.raises(StoreError, match=rf"^the timeline 'visit shop' is corrupt: {len(raw)} bytes$"):
        timeline.check(b"evisit shop", raw)
    assert timeline.check(b"evisit shop", packed(1)) == packed(1)
    assert str(timeline.corrupt(b"*", "it is not in order")) == "the timeline 'points' is corrupt: it is not in order"


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
    """The last moment of 32 bits can be entered and read."""
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


def test_without_a_horizon_entries_are_dated_at_their_own_end() -> None:
    """What has not ended is entered and kept, what ends now or earlier is not."""
    code = timeline.head(0, shield=True)
    raw = timeline.add(None, NOW + 60, 1, 16, code, NOW)
    assert raw is not None
    assert timeline.add(raw, NOW, 1, 16, code, NOW) is None
    later = timeline.add(raw, NOW + 90, 1, 16, code, NOW + 59)
    assert later is not None
    assert timeline.moments(later) == (NOW + 60, NOW + 90)


@pytest.mark.parametrize(
    ("moment", "times", "left"),
    [(20, 1, (10, 20, 30)), (20, 2, (10, 30)), (20, 9, (10, 30)), (15, 3, (10, 20, 20, 30)), (30, 1, (10, 20, 20))],
)
def test_removing_takes_out_what_is_there(moment: int, times: int, left: tuple[int, ...]) -> None:
    """At most as many as asked for; the head stays."""
    raw = timeline.remove(packed(10, 20, 20, 30, shield=True), moment, times)
    assert raw == packed(*left, shield=True)


def test_removing_the_last_entry_leaves_nothing() -> None:
    """None, not an empty timeline."""
    assert timeline.remove(packed(20, 20), 20, 2) is None


def test_pending_holds_by_timeline() -> None:
    """Those whose end is after now; timelines of which all have ended are left out."""
    state = {b"h": packed(50), b"hia": packed(10, 40, 50), b"hib": packed(10), b"ia": packed(1), b"H12345": packed(50)}
    assert timeline.live_holds(state, 39) == {b"ia": [40, 50]}
    assert timeline.live_holds(state, 5) == {b"ia": [10, 40, 50], b"ib": [10]}


def test_holds_are_looked_at_only_while_the_last_of_them_is_pending() -> None:
    """`h` decides: absent or past, none counts."""
    assert timeline.live_holds({b"hia": packed(50)}, 10) == {}
    assert timeline.live_holds({b"h": packed(50), b"hia": packed(90)}, 50) == {}
    assert timeline.live_holds({}, 0) == {}


@pytest.mark.parametrize("field", [b"h", b"hia"])
def test_a_corrupt_hold_is_a_store_error(field: bytes) -> None:
    """Whichever it is, and whether it is pending or not."""
    with pytest.raises(StoreError, match="corrupt: 3 bytes"):
        timeline.live_holds({b"h": packed(5), field: b"\0\1\0"}, 10)
