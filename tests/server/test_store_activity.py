"""The contract of a store on each of them: intervals of activity, whatever the order of arrival."""

from __future__ import annotations

import pytest

from retarget.errors import StoreError
from retarget.timelines import ACTIVITY, LATE, SLACK, Anchor, Store, timeline
from tests.support.servers import Server
from tests.support.writes import (
    DAY,
    KEY,
    NOW,
    cover,
    entry,
    guard,
    moments,
    plant,
    write,
)

PAUSE = 60


def covered(store: Store) -> list[tuple[int, int]]:
    """The intervals, as seconds from NOW."""
    entries = [at - NOW for at in moments(store.read(KEY), ACTIVITY)]
    return list(zip(entries[::2], entries[1::2], strict=True))


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 0, [(-300, -200), (0, 0), (100, 100)]),  # a new one between
        (-200, -200, [(-300, -200), (100, 100)]),  # known already
        (-140, -140, [(-300, -140), (100, 100)]),  # a pause after
        (-139, -139, [(-300, -200), (-139, -139), (100, 100)]),  # a second more
        (-360, -360, [(-360, -200), (100, 100)]),  # a pause before
        (-361, -361, [(-361, -361), (-300, -200), (100, 100)]),
        (-150, 40, [(-300, 100)]),  # joins two
        (-900, 900, [(-900, 900)]),  # covers all
        (161, 161, [(-300, -200), (100, 100), (161, 161)]),
    ],
)
def test_an_interval_is_united_with_those_it_touches(
    store: Store, first: int, last: int, expected: list[tuple[int, int]]
) -> None:
    """Where at most a pause lies between them; the others stay as they are."""
    store.write(write(cover(NOW - 300, NOW - 200)))
    store.write(write(cover(NOW + 100)))
    assert store.write(write(cover(NOW + first, NOW + last))) == 1
    assert covered(store) == expected


def test_the_order_of_arrival_makes_no_difference(store: Store) -> None:
    """Late events too: a session began when its first event happened, whenever that is told."""
    for order in ([0, 50, 100, 200, 230], [230, 0, 100, 200, 50], [100, 230, 50, 200, 0]):
        store.delete(KEY)
        for at in order:
            assert store.write(write(cover(NOW + at))) == 1
        assert covered(store) == [(0, 100), (200, 230)]


def test_a_day_and_a_pause_are_kept_with_time_to_spare(store: Store) -> None:
    """Whole intervals: one that ended longer ago goes with the next event, one that ended later stays."""
    horizon = timeline.seconds_of(timeline.head(DAY + PAUSE, shield=True))
    oldest = NOW - horizon - SLACK
    store.write(write(cover(oldest - 300, oldest - 100), now=oldest))
    store.write(write(cover(oldest - 30, oldest), now=oldest))
    assert store.write(write(cover(NOW))) == 1
    assert covered(store) == [(oldest - 30 - NOW, oldest - NOW), (0, 0)]
    assert store.write(write(cover(oldest - 500, oldest - 400))) == LATE
    assert store.write(write(cover(NOW + 1), now=NOW + 1)) == 1
    assert covered(store) == [(0, 1)]


def test_the_newest_intervals_are_kept(store: Store) -> None:
    """As many entries as asked for, an even number."""
    for at in range(0, 1_000, 100):
        store.write(write(cover(NOW + at, keep=4)))
    assert covered(store) == [(800, 800), (900, 900)]
    store.write(write(cover(NOW + 500, keep=4)))
    assert covered(store) == [(800, 800), (900, 900)]


def test_a_longer_pause_joins_what_the_next_event_touches(store: Store) -> None:
    """A policy that changes it does not see two sessions where there is one now."""
    for at in (0, 100, 200):
        store.write(write(cover(NOW + at)))
    assert covered(store) == [(0, 0), (100, 100), (200, 200)]
    store.write(write(cover(NOW + 250, pause=120)))
    assert covered(store) == [(0, 250)]


@pytest.mark.parametrize(("since", "holds"), [(-1_000, True), (-300, True), (-100, True), (-99, False)])
def test_a_session_is_a_window_with_an_anchor(store: Store, since: int, *, holds: bool) -> None:
    """The second newest entry is where the session began: what was before does not count."""
    store.write(write(entry(b"ia", NOW - 200), cover(NOW - 200)))
    store.write(write(entry(b"ia", NOW - 100), cover(NOW - 120, NOW)))
    anchor = Anchor(ACTIVITY, 2, 0)
    seen = guard(b"ia", 1, NOW + since, anchor=anchor)
    assert store.write(write(entry(b"ib"), guards=(seen,))) == (1 if holds else 0)
    assert store.write(write(entry(b"ic"), guards=(seen._replace(n=2),))) == 0


@pytest.mark.parametrize("raw", [b"\x80\x01" + b"\0" * 4, b"\x80\x01" + b"\0" * 12, b"\x80\x01", b""])
def test_half_an_interval_is_corrupt(store: Store, behind: Server | None, raw: bytes) -> None:
    """Refused whole: not a byte is changed."""
    plant(store, behind, {ACTIVITY: raw, b"ib": b"\x80\x01" + NOW.to_bytes(4)})
    before = dict(store.read(KEY))
    with pytest.raises(StoreError, match=r"(?i)corrupt"):
        store.write(write(entry(b"ia"), cover(NOW)))
    assert dict(store.read(KEY)) == before
