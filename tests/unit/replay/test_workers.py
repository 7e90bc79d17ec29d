"""Chunks judged by several processes: the same figures, and a process that dies is reported."""

from __future__ import annotations

import pytest

from retarget.policy import Policy
from retarget.replay.run import replay
from tests.support.replays import EVERYTHING, MONDAY, facts, opened, row, shop_rows


def test_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many processes judge the visitors, and in however many shares, the figures are the same."""
    monkeypatch.setattr("retarget.logs.kinds.CHUNK", 300)
    rows = [*shop_rows(80), row(MONDAY, None, "brand", *[None] * 4, click=True)]
    told: list[tuple[int, int]] = []
    with opened(rows, "channel", "advertiser", "creative", "item") as log:
        policy = Policy.from_text(EVERYTHING)
        alone = facts(replay(log, policy))
        for processes in (2, 3):
            result = replay(log, policy, processes=processes, progress=lambda done, count: told.append((done, count)))
            assert facts(result) == alone
    assert len(told) > 4
    assert told[-1] == (len(rows), len(rows))
