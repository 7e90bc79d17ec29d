"""Chunks judged by several processes: the same figures, and a process that dies is reported."""

from __future__ import annotations

import os
import signal
from array import array
from collections.abc import Callable
from typing import cast

import pytest

from retarget.errors import ConfigError
from retarget.logs import Chunk, Kind
from retarget.policy import Policy
from retarget.replay import workers
from retarget.replay.run import replay
from tests.support.replays import EVERYTHING, MONDAY, facts, opened, row, shop_rows


def test_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures do not depend on the number of processes or of chunks."""
    monkeypatch.setattr("retarget.logs.kinds.CHUNK", 50)
    rows = [*shop_rows(80), row(MONDAY, None, "brand", *[None] * 4, click=True)]
    reported: list[tuple[int, int]] = []
    with opened(rows, "channel", "advertiser", "creative", "item") as log:
        policy = Policy.from_text(EVERYTHING)
        alone = facts(replay(log, policy))
        for processes in (2, 3):
            result = replay(
                log, policy, processes=processes, progress=lambda done, count: reported.append((done, count))
            )
            assert facts(result) == alone
    assert len(reported) > 2 * 2 * 3  # more chunks than are under way at once, in both runs
    assert reported[-1] == (len(rows), len(rows))


def test_in_a_process() -> None:
    """A process starts with the policy and the kinds, then judges chunks; harmless visitors are skipped."""
    kind = Kind("impression", "c", None, False, False, None, False, False, (), 6, MONDAY, 0, 0)  # noqa: FBT003
    handler = signal.getsignal(signal.SIGINT)
    try:
        workers._start(Policy.from_text('[defaults]\ncaps = ["2 per day"]'), [kind], [])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)
    seconds = array("I", [MONDAY, MONDAY + 1, MONDAY, MONDAY + 1, MONDAY + 2, MONDAY + 2])
    losses = workers._judged(Chunk(array("q", [0, 2, 6]), seconds, array("i", [0] * 6), None, None))
    assert losses.visitors == {(4, 2): 1}
    assert losses.tallies["c"].rules == {("cap", "2 per day"): 2}


def test_a_process_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies, out of memory perhaps, is an error that says what to do."""
    monkeypatch.setattr(workers, "_judged", os._exit)
    with pytest.raises(ConfigError, match="one of the replay's 2 processes died, perhaps out of memory: use fewer"):
        list(workers.losses([cast("Chunk", Dying())], Policy(), [], [], 2))


class Dying:
    """A chunk that ends the process that unpickles it."""

    seconds = ()

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return os._exit, (1,)
