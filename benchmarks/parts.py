"""Parts of a call, measured separately: reading replies, deciding, and hashing an id, as quoted in the docs.

    python -m benchmarks.parts [--rounds N]

The contestants of a part take turns in one process; a figure is the median of its turns, a ratio that of two figures.
"""

from __future__ import annotations

import argparse
import hmac
import statistics
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b, sha256

from benchmarks import data, servers
from retarget import MemoryStore, Retargeter
from retarget.engine import Decision, View
from retarget.stores.redis import target_of_url
from retarget.stores.redis.connection import ConnectionPool
from retarget.stores.redis.protocol import Call, encode, reading

CALLS = 200
"""Calls per turn of a contestant."""

NOW = 1_795_600_000
Parts = dict[str, Callable[[], object]]


def replies(url: str) -> Parts:
    """HGETALL of 20 fields on one connection, by redis-py's own connection and by ours."""
    with servers.client(url) as client:
        client.hset("parts:2~v", mapping={f"f{n}": b"x" * 10 for n in range(20)})
        client.expire("parts:2~v", 600)
    end = time.monotonic() + 3_600
    target = target_of_url(url, 10, is_async=False)
    theirs, ours = target.connection(), ConnectionPool(target.connection, 1).acquire(end)
    theirs.connect()

    def redis_py() -> object:
        theirs.can_read()
        theirs.send_packed_command(theirs.pack_command("HGETALL", b"parts:2~v"))
        return theirs.read_response(disable_decoding=True, timeout=10)

    def retarget() -> object:
        ours.is_clean()
        return ours.exchange(encode([Call(reading(b"parts:2~v"))])[0], 1, end)

    return {"HGETALL of 20 fields, redis-py's connection": redis_py, "the same, our connection": retarget}


def deciding() -> Parts:
    """A decision over 50 candidates in memory, for the first case's visitor, and its two halves."""
    store = MemoryStore()
    ads = Retargeter(data.policy(), store, clock=lambda: NOW)
    candidates = tuple(ads.policy.campaign)[:50]
    for number in range(5):
        ads.record("v-1", "visit", f"product-{number}")
    for number in range(11):
        ads.record("v-1", "impression", candidates[number * 3], at=NOW - number * 90_000)
    state = dict(store.read(b"rt:2~v-1"))
    moment = ads._operations._clock.plan_at(ads._operations.plan, NOW, None)
    view = View(moment, state)
    return {
        "decide, 50 candidates, in memory": lambda: ads.decide("v-1", candidates),
        "the true facts": lambda: View(moment, state),
        "the 50 verdicts": lambda: Decision(moment, candidates, view=view),
    }


def hashing() -> Parts:
    """Hashing a visitor's id with a pepper of 16 bytes."""
    pepper, visitor = b"p" * 16, b"visitor-1234567"
    return {
        "keyed BLAKE2b, 128 bits": lambda: blake2b(visitor, key=pepper, digest_size=16).digest(),
        "HMAC-SHA256": lambda: hmac.digest(pepper, visitor, sha256),
    }


def measure(parts: Parts, rounds: int) -> dict[str, float]:
    """Microseconds of each contestant, the median of its turns."""
    turns: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(rounds + 2):
        for name, call in parts.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            if turn >= 2:  # the first turns warm up
                turns[name].append((time.perf_counter() - start) / CALLS * 1e6)
    return {name: statistics.median(taken) for name, taken in turns.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parts", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--rounds", type=int, default=60)
    asked = parser.parse_args(arguments)
    with servers.server() as url:
        for parts in (replies(url), deciding(), hashing()):
            figures = measure(parts, asked.rounds)
            first = next(iter(figures.values()))
            for name, figure in figures.items():
                print(f"{name:46} {figure:7.2f} us {figure / first:6.2f}x")


if __name__ == "__main__":
    main()
