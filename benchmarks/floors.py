"""Floors: single Redis commands, the least that a round trip costs, with which everything else is compared.

Each floor runs one command with a plain client; what it reads was written by the contestant it is compared with.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from benchmarks import data
from benchmarks.contest import Running, Setting
from benchmarks.servers import client
from retarget import Retargeter
from retarget.timelines import keys

GET = "GET of a missing key"
HGETALL = "HGETALL of the visitor"
EVALSHA = "EVALSHA of `return 1`"
PIPELINE = 1_000
"""Visitors or events per batch."""


def get(setting: Setting) -> Running:
    bare = client(setting.url)
    missing = f"{setting.prefix}missing"
    return Running(lambda: bare.get(missing), close=bare.close)


def hgetall(setting: Setting) -> Running:
    bare = client(setting.url)
    key = remember(setting)
    return Running(lambda: bare.hgetall(key), close=bare.close)


def evalsha(setting: Setting) -> Running:
    bare = client(setting.url)
    sha = bare.script_load("return 1")
    return Running(lambda: bare.evalsha(sha, 0), close=bare.close)


def two_evalsha(setting: Setting) -> Running:
    bare = client(setting.url)
    sha = bare.script_load("return 1")

    def call() -> None:
        bare.evalsha(sha, 0)
        bare.evalsha(sha, 0)

    return Running(call, close=bare.close)


def pipelined_hgetall(setting: Setting) -> Running:
    """A thousand HGETALL per round trip, of visitors with twenty timelines."""
    stored = many(setting)
    bare = client(setting.url)
    turns = count()

    def call() -> object:
        start = next(turns) * PIPELINE % len(stored)
        return data.pipelined(bare, (("HGETALL", key) for key in stored[start : start + PIPELINE]))

    return Running(call, units=PIPELINE, close=bare.close)


def pipelined_evalsha(setting: Setting) -> Running:
    bare = client(setting.url)
    sha = bare.script_load("return 1")
    command = ("EVALSHA", sha, 0)
    return Running(lambda: data.pipelined(bare, (command for _ in range(PIPELINE))), units=PIPELINE, close=bare.close)


def remember(setting: Setting) -> bytes:
    """Write the first case's visitor as retarget keeps them; their key."""
    with Retargeter(data.policy(), setting.url, timeout=1, prefix=setting.prefix) as ads:
        ads.record_many(data.events("v-1", data.today(), int(time.time())))
    return keys.key(setting.prefix, "v-1")


def many(setting: Setting) -> list[str]:
    """Write visitors of twenty timelines as retarget stores them; their keys."""
    with Retargeter(data.policy(500), setting.url, timeout=1, prefix=setting.prefix) as ads:
        ads.record_many(data.events(data.template(0), data.with_timelines(20), int(time.time())))
    visitors = max(PIPELINE, setting.visitors // PIPELINE * PIPELINE)
    data.copy(setting.url, setting.prefix, visitors)
    return [keys.key(setting.prefix, data.visitor(number)).decode() for number in range(visitors)]


# -- asyncio -----------------------------------------------------------------------------------------------------------


def bare_async(setting: Setting, in_flight: int, *, uvloop: bool = False) -> Running:
    """`hgetall` of redis.asyncio over a pool that waits for a free connection."""
    key = remember(setting)

    def connect() -> tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            setting.url, protocol=2, retry=Retry(NoBackoff(), 0), timeout=30
        )
        bare = redis.asyncio.Redis(connection_pool=pool)

        async def close() -> None:
            await bare.aclose()
            await pool.disconnect()

        return (lambda: bare.hgetall(key)), close

    return in_waves(connect, in_flight, uvloop=uvloop)


def in_waves(
    connect: Callable[[], tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]],
    in_flight: int,
    *,
    uvloop: bool,
) -> Running:
    """Keep `in_flight` calls in flight: that many tasks, each making one call after another."""
    each = max(4 if in_flight < 1_000 else 2, 64 // in_flight)
    loop = _loop(uvloop=uvloop)
    singles: list[float] = []
    once: Any
    disconnect: Any

    async def begin() -> Any:  # noqa: ANN401 - the two functions
        return connect()

    once, disconnect = loop.run_until_complete(begin())

    async def task() -> None:
        for _ in range(each):
            start = time.perf_counter()
            await once()
            singles.append(time.perf_counter() - start)

    async def wave() -> None:
        await asyncio.gather(*(task() for _ in range(in_flight)))

    def close() -> None:
        loop.run_until_complete(disconnect())
        loop.close()

    return Running(lambda: loop.run_until_complete(wave()), in_flight * each, close, singles)


def _loop(*, uvloop: bool) -> asyncio.AbstractEventLoop:
    if uvloop:
        import uvloop as faster

        loop: asyncio.AbstractEventLoop = faster.new_event_loop()
        return loop
    return asyncio.new_event_loop()
