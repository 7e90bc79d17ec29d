"""One way to call both clients, so that a test is written once.

An AsyncRetargeter runs in its own event loop in its own thread: the loop lives on between two calls, as it does in a
server, and many threads may call at once.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import redis.asyncio.retry
import redis.retry
from redis.backoff import NoBackoff

from retarget import AsyncRetargeter, Claim, Decision, NotExecuted, Policy, Retargeter
from retarget.errors import StoreError
from retarget.timelines import Health, keys, timeline
from tests.support.nodes import Node
from tests.support.servers import PATIENCE
from tests.support.waiting import until, within

T = TypeVar("T")
SORTS = ("sync", "async")
NOW = 1_795_600_000
TIMEOUT = 0.4
PATIENT = 2.0
"""The time-out where every call must be answered: a busy machine may be slow."""
PROMPT = TIMEOUT + 3
"""Seconds within which a call has to end: its time-out, and what a busy machine may add."""


class Ads:
    """A retargeter of either sort, called like the sync one."""

    def __init__(self, ads: Retargeter | AsyncRetargeter, client: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.ads, self._loop = ads, loop
        self.client = client
        """The store the retargeter was given."""

    def decide(self, *args: Any, **options: Any) -> Decision:
        """`decide` of either."""
        return self.done(self.ads.decide(*args, **options))

    def claim(self, *args: Any, **options: Any) -> Claim | None:
        """`claim` of either."""
        return self.done(self.ads.claim(*args, **options))

    def claim_many(self, *args: Any, **options: Any) -> list[Claim | None]:
        """`claim_many` of either."""
        return self.done(self.ads.claim_many(*args, **options))

    def confirm(self, *args: Any, **options: Any) -> str:
        """`confirm` of either."""
        return self.done(self.ads.confirm(*args, **options))

    def release(self, *args: Any, **options: Any) -> bool:
        """`release` of either."""
        return self.done(self.ads.release(*args, **options))

    def record(self, *args: Any, **options: Any) -> bool:
        """`record` of either."""
        return self.done(self.ads.record(*args, **options))

    def record_many(self, events: Iterable[Any]) -> list[bool]:
        """`record_many` of either."""
        return self.done(self.ads.record_many(events))

    def decide_many(self, *args: Any, **options: Any) -> list[Decision]:
        """`decide_many` of either."""
        ads = self.ads
        if isinstance(ads, Retargeter):
            return list(ads.decide_many(*args, **options))

        async def gathered() -> list[Decision]:
            return [decision async for decision in ads.decide_many(*args, **options)]

        return self.wait(gathered())

    def export(self, *args: Any) -> Any:
        """`export` of either."""
        return self.done(self.ads.export(*args))

    def forget(self, *args: Any) -> bool:
        """`forget` of either."""
        return self.done(self.ads.forget(*args))

    def close(self) -> None:
        """Close either."""
        self.done(self.ads.close())

    @property
    def health(self) -> tuple[Health, ...]:
        """`health` of either."""
        return self.ads.health()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine, run in the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def done(self, given: T | Coroutine[Any, Any, T]) -> T:
        """The value itself, or its result where it is awaitable."""
        return self.wait(given) if isinstance(given, Coroutine) else given


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield loop
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(PATIENCE)


@contextmanager
def opened(
    sort: str, policy: Policy, store: str | Callable[[Any], Any], *, timeout: float = TIMEOUT, **options: Any
) -> Iterator[Ads]:
    """A retargeter of that sort. `store` is a URL, or makes a client, given the module `redis` or `redis.asyncio`.

    Its clock stands still.
    """
    options = {"clock": lambda: NOW, **options}
    with event_loop() as loop:
        given: Any = None

        async def made() -> Any:
            nonlocal given
            given = store if isinstance(store, str) else store(redis.asyncio)
            return AsyncRetargeter(policy, given, timeout=timeout, **options)

        if sort == "async":
            ads = Ads(asyncio.run_coroutine_threadsafe(made(), loop).result(PATIENCE), given, loop)
        else:
            given = store if isinstance(store, str) else store(redis)
            ads = Ads(Retargeter(policy, given, timeout=timeout, **options), given, loop)
        try:
            yield ads
        finally:
            ads.close()
            for client in _clients(given):
                ads.done(client.aclose() if sort == "async" else client.close())


def _clients(given: Any) -> list[Any]:
    """The client given, and those to the sentinels that it found its primary by."""
    if isinstance(given, str):
        return []
    manager = getattr(getattr(given, "connection_pool", None), "sentinel_manager", None)
    return [given, *(manager.sentinels if manager else ())]


def client(module: Any, port: int, **options: Any) -> Any:
    """A caller's own client, from the module `redis` or `redis.asyncio`."""
    given = {"socket_timeout": 0.2, "socket_connect_timeout": 0.2, "protocol": 2, **options}
    return module.Redis(host="127.0.0.1", port=port, retry=module.retry.Retry(NoBackoff(), 0), **given)


def counted(server: redis.Redis, visitor: str, campaign: str = "a") -> int:
    """How many impressions of a campaign a server holds for the visitor, read past the library."""
    raw = server.hget(keys.key("rt:", visitor), f"i{campaign}")
    return len(timeline.moments(raw)) if raw else 0  # type: ignore[arg-type]


@contextmanager
def load(ads: Ads) -> Iterator[list[tuple[float, bool]]]:
    """Four threads that decide, claim and record. For each call its duration, and whether it failed."""
    answered: list[tuple[float, bool]] = []
    surprises: list[BaseException] = []
    over = threading.Event()

    def work(number: int) -> None:
        turn = 0
        try:
            while not over.is_set():
                visitor, turn = f"{number}-{turn % 50}", turn + 1
                start = time.monotonic()
                try:
                    failed = ads.decide(visitor).degraded is not None
                    if turn % 2:
                        ads.record(visitor, "impression", "a", id=f"id-{turn}")
                    else:
                        ads.claim(visitor, ["a", "b"])
                except StoreError:
                    failed = True
                answered.append(((time.monotonic() - start) / 2, failed))
        except BaseException as error:  # noqa: BLE001 - shown below
            surprises.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert surprises == []


# -- what every failure must lead to -----------------------------------------------------------------------------------


def refused(ads: Ads, said: str = ".") -> None:
    """A read and each kind of write fail in time, as not executed, with their cause; `said` is a regex."""
    with within(4 * PROMPT):
        decision = ads.decide("v")
        assert isinstance(decision.degraded, NotExecuted), repr(decision.degraded)
        assert explained(decision.degraded)
        assert re.search(said, str(decision.degraded)), decision.degraded
        assert (decision.eligible, decision["a"].reason) == ((), "store error")
    refuses_writes(ads, said)


def refuses_writes(ads: Ads, said: str = ".") -> None:
    """Each kind of write fails in time, as not executed, with its cause."""
    with within(4 * PROMPT):
        assert ads.claim("v") is None
        with pytest.raises(NotExecuted, match=said) as raised:
            ads.record("v", "impression", "a")
        assert explained(raised.value)


def explained(error: StoreError) -> bool:
    """Whether an error has its cause, or says that the server was not asked and why not."""
    return error.__cause__ is not None or "is known to be down" in str(error)


def resumes(ads: Ads) -> None:
    """Reads and writes are answered again without any reset, and health says so."""
    until(lambda: ads.decide("v").degraded is None, "a decision that is not degraded")
    until(lambda: ads.record("later", "impression", "a"), "an event recorded")
    until(lambda: ads.claim("later", ["a"]), "a claim")
    assert all(server.up for server in ads.health)


def held(node: Node, visitor: str, campaign: str = "a") -> int:
    """How many impressions of a campaign the server holds for the visitor."""
    with node.client() as client:
        return counted(client, visitor, campaign)
