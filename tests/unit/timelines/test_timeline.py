"""timeline.py: names, heads, the one question, entering and removing, compared with plain sorted lists."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.errors import StoreError
from retarget.timelines import timeline
from retarget.timelines.timeline import LAST_MOMENT, SKEW, SLACK

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
        (b"h", "reserved until"),
        (b"hinotebook", "reserved impression notebook"),
        (b"h*", "reserved points"),
        (b"H\x01\x02\x03\x04\x05", "reservation 0102030405"),
        (b"M", "moving"),
        (b"Mevisit shop", "moving visit shop"),
        (b"M>rt:2~v", "moving to another visitor"),
        (b"D\0\0\1\2", "expected parcel 00000102"),
        (b"d\1\2", "distinct 0102"),
        (b"lchannel:email", "impression labelled channel:email"),
        (b"fclick channel:email", "click labelled channel:email"),
        (b"cchannel:email", "capped impression channel:email"),
        (b"hcchannel:email", "reserved capped impression channel:email"),
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
    labels = [
        timeline.label_name("impression", "a:b"),
        timeline.label_name("click", "a:b"),
        timeline.capped_name("a:b"),
    ]
    subjects = [timeline.name("impression", "a:b"), timeline.name("click", "a:b")]
    assert len({*names, *labels, *subjects}) == len(names) + 5
    assert {b"*", b"@", b"h", b"M", b"#0", b"#1", b"#2"}.isdisjoint({*names, *labels})


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


def test_the_slack_is_twice_the_skew() -> None:
    """An event may be as far ahead of a caller who is as far ahead of another."""
    assert SLACK == 2 * SKEW == 600


@pytest.mark.parametrize("horizon", [0, 1_000])
def test_a_timeline_is_live_while_its_newest_entry_may_matter_to_anyone(horizon: int) -> None:
    """A horizon and the slack old it still may; one second more and it does not."""
    raw = packed(NOW, horizon=horizon)
    assert timeline.is_live(raw, NOW + horizon + SLACK)
    assert not timeline.is_live(raw, NOW + horizon + SLACK + 1)


@pytest.mark.parametrize(("age", "kept"), [(0, True), (1_000 + SLACK, True), (1_000 + SLACK + 1, False)])
def test_an_event_too_old_to_matter_is_not_entered(age: int, *, kept: bool) -> None:
    """Older than the horizon and the slack together: None, in an empty timeline and beside entries."""
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
    """What may not have ended for someone is entered and kept; what ended the slack ago is not."""
    code = timeline.head(0, shield=True)
    raw = timeline.add(None, NOW + 60, 1, 16, code, NOW)
    assert raw is not None
    assert timeline.add(raw, NOW - SLACK, 1, 16, code, NOW) is None
    late = timeline.add(raw, NOW - SLACK + 1, 1, 16, code, NOW)
    assert late is not None
    assert timeline.moments(late) == (NOW - SLACK + 1, NOW + 60)
    later = timeline.add(late, NOW + 90, 1, 16, code, NOW + 59 + SLACK)
    assert later is not None
    assert timeline.moments(later) == (NOW + 60, NOW + 90)


DAY_AND_PAUSE = timeline.head(DAY + 60, shield=True)


def covered(*intervals: tuple[int, int], pause: int = 60, keep: int = 100, now: int = NOW) -> list[int] | None:
    """What is left of these intervals, one after the other, as seconds from NOW; None if the last is too old."""
    raw: bytes | None = None
    for first, last in intervals:
        raw = timeline.cover(raw, NOW + first, NOW + last, pause, keep, DAY_AND_PAUSE, now)
    return None if raw is None else [at - NOW for at in timeline.moments(raw)]


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(0, 0)], [0, 0]),
        ([(0, 0), (60, 60)], [0, 60]),
        ([(0, 0), (61, 61)], [0, 0, 61, 61]),
        ([(0, 0), (-60, -60)], [-60, 0]),
        ([(0, 0), (-61, -61)], [-61, -61, 0, 0]),
        ([(0, 100), (50, 50)], [0, 100]),
        ([(0, 100), (-50, 150)], [-50, 150]),
        ([(0, 0), (100, 100), (50, 50)], [0, 100]),
        ([(0, 0), (100, 100), (300, 300), (200, 210)], [0, 0, 100, 100, 200, 210, 300, 300]),
        ([(0, 0), (100, 100), (300, 300), (140, 240)], [0, 0, 100, 300]),
    ],
)
def test_covering_unites_what_a_pause_or_less_lies_between(
    intervals: list[tuple[int, int]], expected: list[int]
) -> None:
    """The others stay as they are, in order."""
    assert covered(*intervals) == expected


def test_covering_keeps_the_newest_intervals() -> None:
    """As many entries as asked for; an older one that comes late is not among them."""
    many = [(at, at) for at in range(0, 1_000, 100)]
    assert covered(*many, keep=4) == [800, 800, 900, 900]
    assert covered(*many, (500, 500), keep=4) == [800, 800, 900, 900]
    assert covered(*many, (850, 850), keep=4) == [800, 900]


def test_covering_drops_intervals_that_ended_too_long_ago() -> None:
    """By their end, with the slack; one that began as long ago stays whole."""
    horizon = timeline.seconds_of(DAY_AND_PAUSE)
    oldest = -horizon - SLACK
    raw = timeline.cover(None, NOW + oldest - 900, NOW + oldest - 500, 60, 100, DAY_AND_PAUSE, NOW + oldest)
    raw = timeline.cover(raw, NOW + oldest - 300, NOW + oldest, 60, 100, DAY_AND_PAUSE, NOW + oldest)
    raw = timeline.cover(raw, NOW, NOW, 60, 100, DAY_AND_PAUSE, NOW)
    assert raw is not None
    assert [at - NOW for at in timeline.moments(raw)] == [oldest - 300, oldest, 0, 0]
    assert timeline.cover(raw, NOW + oldest - 9, NOW + oldest - 1, 60, 100, DAY_AND_PAUSE, NOW) is None
    assert timeline.cover(None, NOW + oldest - 9, NOW + oldest - 1, 60, 100, DAY_AND_PAUSE, NOW) is None
    later = timeline.cover(raw, NOW + 1, NOW + 1, 60, 100, DAY_AND_PAUSE, NOW)
    assert later is not None
    assert [at - NOW for at in timeline.moments(later)] == [oldest - 300, oldest, 0, 1]


def test_a_longer_pause_unites_to_the_left_as_far_as_it_reaches() -> None:
    """A policy that changes it does not see two sessions where there is one now."""
    raw: bytes | None = None
    for at in (0, 100, 200, 500):
        raw = timeline.cover(raw, NOW + at, NOW + at, 60, 100, DAY_AND_PAUSE, NOW)
    raw = timeline.cover(raw, NOW + 250, NOW + 250, 120, 100, DAY_AND_PAUSE, NOW)
    assert raw is not None
    assert [at - NOW for at in timeline.moments(raw)] == [0, 250, 500, 500]


INTERVALS = st.lists(st.tuples(st.integers(-DAY + 6_000, -5_000), st.integers(0, 5_000)), min_size=1, max_size=30)


@given(INTERVALS, st.sampled_from([1, 60, 1_800]), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_intervals_are_the_union_of_what_happened(events: list[tuple[int, int]], pause: int, chance: object) -> None:
    """In any order, as drawn and as shuffled: the seconds covered, with every pause of at most so many filled in."""
    expected: list[int] = []
    for at, longer in sorted(events):
        if expected and at - expected[-1] <= pause:
            expected[-1] = max(expected[-1], at + longer)
        else:
            expected += [at, at + longer]
    shuffled = list(events)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    for order in (events, shuffled):
        assert covered(*((at, at + longer) for at, longer in order), pause=pause) == expected


@pytest.mark.parametrize("raw", [b"", b"\0\1", packed(1), packed(1, 2, 3), packed(1, 2) + b"\0"])
def test_what_is_no_sequence_of_pairs_is_corrupt(raw: bytes) -> None:
    """A StoreError with its name and length."""
    with pytest.raises(StoreError, match=rf"^the timeline 'activity' is corrupt: {len(raw)} bytes$"):
        timeline.check_intervals(b"@", raw)
    assert timeline.check_intervals(b"@", packed(1, 2)) == packed(1, 2)


@pytest.mark.parametrize(
    ("raw", "keep", "horizon", "shield", "expected"),
    [
        (None, 16, DAY, True, (16, DAY, True)),
        (packed(*range(3)), 16, DAY, True, (16, DAY, True)),
        (packed(*range(40)), 16, DAY, True, (40, DAY, True)),
        (packed(1, horizon=2 * DAY), 16, DAY, False, (16, 2 * DAY, False)),
        (packed(1, horizon=DAY // 2), 16, DAY, False, (16, DAY, False)),
        (packed(1, horizon=DAY // 2, shield=True), 16, DAY, False, (16, DAY, True)),
        (packed(1, horizon=2 * DAY), 16, DAY, True, (16, 2 * DAY, True)),
    ],
)
def test_a_record_never_cuts_or_bares_what_a_newer_policy_keeps(
    raw: bytes | None,
    keep: int,
    horizon: int,
    shield: bool,  # noqa: FBT001
    expected: tuple[int, int, bool],
) -> None:
    """The longer horizon, the larger number, and a shield if either is one."""
    kept, long, shielded = expected
    code = timeline.head(horizon, shield=shield)
    assert timeline.widest(raw, keep, code) == (kept, timeline.head(long, shield=shielded))


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
