"""writes.py: what a store is asked to do, as plain values."""

from __future__ import annotations

import pickle

from retarget.timelines import writes
from retarget.timelines.writes import Alternative, Enter, Guard, Remove, Reserve, Unreserve, Write


def test_answers_cannot_be_taken_for_one_another() -> None:
    """Numbers of alternatives are above zero; what is not applied is zero or below; an outcome is bytes."""
    assert len({writes.DENIED, writes.FULL, writes.LATE}) == 3
    assert max(writes.DENIED, writes.FULL, writes.LATE) == writes.DENIED == 0


def test_a_record_is_an_id_and_an_outcome() -> None:
    """Five bytes and three; as many as are kept fill two fields of 64 bytes."""
    assert len(b"12345" + writes.NO_OUTCOME) == writes.RECORD
    assert writes.IDS_KEPT * writes.RECORD == 2 * 64


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
    """Equal by content, hashable, and told apart by their type."""
    changes = [Enter(b"ia", 1, 1, 16, 7), Remove(b"ia", 1, 1), Reserve(9, 7), Unreserve(b"ia", 1)]
    assert len(set(changes)) == len(changes)
    assert pickle.loads(pickle.dumps(changes)) == changes  # noqa: S301 - our own bytes
    assert Guard(b"ia", 1, 0, wanted=True, more=False, anchored=False) == (b"ia", 1, 0, True, False, False)
