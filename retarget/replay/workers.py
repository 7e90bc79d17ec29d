"""Shares of a log, judged one after the other: in this process, or in several at once.

Rules:
- Each visitor is in one share with all her rows, so shares can be judged in any order, by anybody; their losses are
  added up.
- DuckDB sorts in the process that reads the log, on all cores. The others only judge: they get a policy and the kinds
  when they begin, then shares, which are arrays of integers.
- A process begins anew and imports what it takes (`spawn`): so it is the same on every system.
- No more shares are under way than keep the processes busy, so the log's size is no matter.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise

from retarget.errors import ConfigError
from retarget.logs import Kind, Share
from retarget.policy import Policy
from retarget.replay.by_visitor import VisitorJudge
from retarget.replay.figures import Denials, Followed, Losses

_AHEAD = 2
"""Shares that wait for each process, so that none waits for the next."""


def losses(
    shares: Iterable[Share], policy: Policy, kinds: Sequence[Kind], labels: Sequence[str], processes: int
) -> Iterator[tuple[Losses, int]]:
    """What the policy takes from the visitors of each share, and how many rows that share has.

    Raises ConfigError where a process came to its end.
    """
    if processes == 1:
        judge = VisitorJudge(policy, kinds, labels)
        for share in shares:
            yield _losses(share, judge), len(share.seconds)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin, (policy, kinds, labels)) as pool:
        under_way: deque[tuple[Future[Losses], int]] = deque()
        try:
            for share in shares:
                under_way.append((pool.submit(_judged, share), len(share.seconds)))
                if len(under_way) > processes * _AHEAD:
                    done, rows = under_way.popleft()
                    yield done.result(), rows
            for done, rows in under_way:
                yield done.result(), rows
        except BrokenProcessPool as error:
            raise ConfigError(
                "a process of the replay came to its end, for want of memory perhaps: give fewer"
            ) from error


def follow(share: Share, begin: int, end: int, denials: Denials, kinds: Sequence[Kind], losses: Losses) -> Followed:
    """Add up what the policy takes from one visitor, whose rows stand there."""
    followed = Followed(losses)
    for place in range(begin, end):
        cost = share.costs[place] if share.costs is not None else 0.0
        value = share.values[place] if share.values is not None else 0.0
        followed.row(kinds[share.kinds[place]], denials.get(place - begin), cost, value)
    return followed


def _losses(share: Share, judge: VisitorJudge) -> Losses:
    losses, judged = Losses(), judge.denials
    seconds, kinds = (
        share.seconds.tolist(),
        share.kinds.tolist(),
    )  # lists, for an array makes its numbers anew each time
    for begin, end in pairwise(share.begins):
        if end - begin <= judge.harmless:
            continue
        denials = judged(seconds[begin:end], kinds[begin:end])
        if denials:
            follow(share, begin, end, denials, judge.kinds, losses).leave()
    losses.dropped, judge.dropped = judge.dropped, 0
    return losses


# -- in a process of its own -------------------------------------------------------------------------------------------

_judge: VisitorJudge | None = None


def _begin(policy: Policy, kinds: Sequence[Kind], labels: Sequence[str]) -> None:
    global _judge
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who pressed the keys is the other process's to answer
    _judge = VisitorJudge(policy, kinds, labels)


def _judged(share: Share) -> Losses:
    assert _judge is not None  # noqa: S101 - `_begin` came first
    return _losses(share, _judge)
