"""Kinds of rows in the library's words, and the rows that it refuses."""

from __future__ import annotations

import pytest

from retarget.errors import LogError
from retarget.logs.log import LogRow
from retarget.policy import Policy
from retarget.replay.run import replay
from retarget.stores import MemoryStore
from tests.support.replays import MONDAY, opened, row


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (row(MONDAY, "v", None), "an impression without a campaign"),
        (row(MONDAY, "v", "c", event="Add To Cart"), "event='Add To Cart' is not a valid event name"),
        (row(MONDAY, "v", "c\n"), "control characters"),
        (row(MONDAY, "v" * 600, "c"), "a visitor's id has 1 to"),
        (row(MONDAY, "v", "c", timezone="Mars/Olympus"), "'Mars/Olympus' is not a known time zone"),
    ],
)
@pytest.mark.parametrize("store", ["memory://", MemoryStore()])
def test_rows_that_make_no_sense(wrong: LogRow, message: str, store: str | MemoryStore) -> None:
    """A row that the library refuses is the log's fault: the error says which moment and why."""
    log = opened([row(MONDAY - 5), wrong])
    with log, pytest.raises(LogError, match=r"the row of 2026-11-02T00:00:00") as raised:
        replay(log, Policy.from_text('[defaults]\ncaps = ["1 per day"]'), store=store)
    assert message in str(raised.value)
    assert "v" * 600 not in str(raised.value)
