"""What a limit on a visitor's timelines costs: time and bytes of a visitor who has that many.

    python -m benchmarks.timelines_limit [--limits 512 1024 2048 4096] [--calls 400]

Server time is from INFO commandstats; the script under test is the library's with another limit. Names are as long as
those of a shop's visits (`evisit product/123456`), each with one entry.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count

import redis

from benchmarks import servers
from benchmarks.runner import measure
from retarget.stores.redis import script
from retarget.timelines import DAY, FULL, Alternative, Enter, Write, timeline

NOW = int(time.time())
KEY = b"bench:visitor"
INTEREST, SHIELD = (timeline.head(30 * DAY, shield=shield) for shield in (False, True))
HEADINGS = ("limit", "read", "read, client", "reply", "stored", "known", "begins", "evicts", "full")


def main() -> None:
    """Print a row for each limit."""
    parser = argparse.ArgumentParser(description="What a limit on a visitor's timelines costs.")
    parser.add_argument("--limits", type=int, nargs="+", default=[512, 1_024, 2_048, 4_096])
    parser.add_argument("--calls", type=int, default=400)
    options = parser.parse_args()
    print("us per call, bytes per visitor (begins, evicts: a write that begins a timeline, below and at the limit)")
    print("".join(f"{heading:>14}" for heading in HEADINGS))
    with servers.server() as url, servers.client(url) as connected:
        for limit in options.limits:
            print("".join(f"{value:>14,.0f}" for value in row(connected, limit, options.calls)), flush=True)


def row(connected: redis.Redis, limit: int, calls: int) -> Iterator[float]:
    """The figures of one limit, in the order of HEADINGS."""
    yield limit
    visitor = Visitor(connected, limit)
    visitor.fill(limit - 1)
    yield visitor.spent("hgetall", lambda: connected.hgetall(KEY), calls)
    yield 1e6 * statistics.median(measure(lambda: connected.hgetall(KEY), 1, calls))
    yield sum(len(field) + len(raw) for field, raw in connected.hgetall(KEY).items())
    yield float(connected.memory_usage(KEY, samples=0) or 0)
    yield visitor.spent("evalsha", lambda: visitor.enter(1), calls)
    visitor.fill(limit - calls)
    numbers = count(limit)
    yield visitor.spent("evalsha", lambda: visitor.enter(next(numbers)), calls - 1)
    visitor.fill(limit)
    yield visitor.spent("evalsha", lambda: visitor.enter(next(numbers)), calls)
    visitor.fill(limit, SHIELD)
    yield visitor.spent("evalsha", lambda: visitor.enter(next(numbers)), calls)
    if visitor.enter(next(numbers)) != FULL:
        raise RuntimeError("a visitor full of shields was written")


class Visitor:
    """The one visitor on the server, written by a script with this limit."""

    def __init__(self, connected: redis.Redis, limit: int) -> None:
        self._connected = connected
        self._sha = str(connected.script_load(script.source(MOST_TIMELINES=limit, ROOM=limit // 16)))

    def fill(self, timelines: int, head: int = INTEREST) -> None:
        """Begin anew with this many timelines."""
        self._connected.delete(KEY)
        for number in range(timelines):
            self._connected.hset(KEY, _name(number), timeline.add(None, NOW, 1, 16, head, NOW) or b"")

    def enter(self, number: int) -> int:
        """An event in the timeline of this number."""
        entry = Enter(_name(number), NOW, 1, 16, INTEREST)
        key, *rest = script.arguments(Write(KEY, NOW, b"", (Alternative((), (entry,), DAY),)))
        return int(self._connected.evalsha(self._sha, 1, key, *rest))

    def spent(self, command: str, call: Callable[[], object], calls: int) -> float:
        """Microseconds of the server for each call."""
        self._connected.config_resetstat()
        for _ in range(calls):
            call()
        return float(self._connected.info("commandstats")[f"cmdstat_{command}"]["usec"]) / calls


def _name(number: int) -> bytes:
    return b"evisit product/%06d" % number


if __name__ == "__main__":
    main()
