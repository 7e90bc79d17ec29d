"""Chunks of a log judged one after the other, in this process or in several.

Rules:
- A visitor's rows are all in one chunk, so chunks may be judged in any order, by any process; the losses are sums.
- DuckDB sorts in the process that reads the log, on all cores. The others only judge: they get the policy and the
  kinds when they start, then chunks, which are arrays of numbers.
- Processes are spawned, which behaves alike on every system.
- Only as many chunks are under way as keep the processes busy, so memory does not depend on the size of the log.
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
from retarget.logs import Chunk, Kind
from retarget.policy import Policy
from retarget.replay.by_visitor import VisitorJudge
from retarget.replay.figures import Denials, Losses, VisitorLosses
from retarget.replay.full import FullTally

_AHEAD = 2
"""Chunks that wait per process, so that no process waits for its next one."""


def losses(
    chunks: Iterable[Chunk], policy: Policy, kinds: Sequence[Kind], labels: Sequence[str], processes: int
) -> Iterator[tuple[Losses, int]]:
    """The losses of each chunk, with its number of rows. Raises ConfigError if a process dies."""
    if processes == 1:
        judge = VisitorJudge(policy, kinds, labels)
        for chunk in chunks:
            yield _losses(chunk, judge), len(chunk.seconds)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _start, (policy, kinds, labels)) as pool:
        under_way: deque[tuple[Future[Losses], int]] = deque()
        try:
            for chunk in chunks:
                under_way.append((pool.submit(_judged, chunk), len(chunk.seconds)))
                if len(under_way) > processes * _AHEAD:
                    done, rows = under_way.popleft()
                    yield done.result(), rows
            for done, rows in under_way:
                yield done.result(), rows
        except BrokenProcessPool as error:
            raise ConfigError(
                f"one of the replay's {processes} processes died, perhaps out of memory: use fewer processes"
            ) from error


def visitor_losses(
    chunk: Chunk, begin: int, end: int, denials: Denials, kinds: Sequence[Kind], losses: Losses
) -> VisitorLosses:
    """Add up the losses of the visitor whose rows are `begin` to `end`; `denials` are by position among these."""
    visitor = VisitorLosses(losses)
    for place in range(begin, end):
        cost = chunk.costs[place] if chunk.costs is not None else 0.0
        value = chunk.values[place] if chunk.values is not None else 0.0
        visitor.add(kinds[chunk.kinds[place]], denials.get(place - begin), cost, value)
    return visitor


def _losses(chunk: Chunk, judge: VisitorJudge) -> Losses:
    losses, judged = Losses(), judge.denials
    seconds, kinds = chunk.seconds.tolist(), chunk.kinds.tolist()  # an array makes its numbers anew at each look
    for begin, end in pairwise(chunk.begins):
        if end - begin <= judge.harmless:
            continue
        denials = judged(seconds[begin:end], kinds[begin:end])
        if denials:
            visitor_losses(chunk, begin, end, denials, judge.kinds, losses).finish()
    losses.dropped, judge.dropped = judge.dropped, 0
    losses.full, judge.full = judge.full, FullTally()
    return losses


# -- in a process of its own -------------------------------------------------------------------------------------------

_judge: VisitorJudge | None = None


def _start(policy: Policy, kinds: Sequence[Kind], labels: Sequence[str]) -> None:
    global _judge
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the process that started this one
    _judge = VisitorJudge(policy, kinds, labels)


def _judged(chunk: Chunk) -> Losses:
    assert _judge is not None  # noqa: S101 - `_start` ran first
    return _losses(chunk, _judge)
