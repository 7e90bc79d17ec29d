"""writes.py: what a store is asked to do, as plain values."""

from __future__ import annotations

import pickle

from retarget.timelines import writes
from retarget.timelines.writes import (
    Alternative,
    Clear,
    Cover,
    Enter,
    Guard,
    Remove,
    Reserve,
    Reserved,
    Settle,
    Write,
)


def test_answers_cannot_be_taken_for_one_another() -> None:
    """Numbers of alternatives are above zero; what is not applied is zero or below; an outcome is bytes."""
    assert len({writes.DENIED, writes.FULL, writes.LATE}) == 3
    assert max(writes.DENIED, writes.FULL, writes.LATE) == writes.DENIED == 0


def test_room_is_made_for_a_part_of_the_most() -> None:
    """At least one timeline, and never so many that what is new would go too."""
    assert 1 <= writes.ROOM < writes.MOST_TIMELINES // 2
    assert 1 <= writes.LOOK_EVERY < writes.MOST_TIMELINES


def test_an_alternative_without_an_outcome_has_that_of_no_subject() -> None:
    """A write has no hold unless it says so."""
    alternative = Alternative((), (), 1)
    assert alternative.outcome == writes.NO_OUTCOME
    assert Write(b"v", 0, b"", (alternative,)).hold == b""


def test_alternatives_are_compared_by_identity() -> None:
    """They are shared between visitors and cached: comparing their content would cost more than they save."""
    one, other = Alternative((), (), 1), Alternative((), (), 1)
    assert one != other
    assert len({one, other}) == 2


def test_guards_and_changes_are_plain_tuples() -> None:
    """Equal by content, and hashable."""
    changes = [
        Enter(b"ia", 1, 1, 16, 7),
        Remove(b"ia", 1, 1),
        Cover(b"@", 1, 2, 60, 50, 7),
        Reserve(9, (Reserved(b"ia", 1, 16, 7),)),
        Settle(None),
        Settle(1),
        Clear(),
    ]
    assert len(set(changes)) == len(changes)
    assert pickle.loads(pickle.dumps(changes)) == changes  # noqa: S301 - our own bytes
    assert Guard(b"ia", 1, 0, wanted=True) == (b"ia", 1, 0, True, False, None)
