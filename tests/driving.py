"""One way to call both clients, so that a test says what it shows once.

An AsyncRetargeter runs in an event loop of its own, in a thread of its own: it lives on between two calls, as it does
in a server, and many threads may call at once.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import redis.asyncio.retry
import redis.retry
from redis.backoff import NoBackoff
from servers import PATIENCE

from retarget import AsyncRetargeter, Claim, Decision, Policy, Retargeter, timeline, wire
from retarget.errors import RetargetWarning

T = TypeVar("T")
SORTS = ("sync", "async")


class Ads:
    """A retargeter of either sort, called as the sync one is."""

    def __init__(self, ads: Retargeter | AsyncRetargeter, loop: asyncio.AbstractEventLoop) -> None:
        self.ads, self._loop = ads, loop

    def decide(self, *args: Any, **options: Any) -> Decision:
        """`decide` of either."""
        return self._answer(self.ads.decide(*args, **options))

    def claim(self, *args: Any, **options: Any) -> Claim | None:
        """`claim` of either."""
        return self._answer(self.ads.claim(*args, **options))

    def confirm(self, *args: Any, **options: Any) -> str:
        """`confirm` of either."""
        return self._answer(self.ads.confirm(*args, **options))

    def release(self, *args: Any, **options: Any) -> bool:
        """`release` of either."""
        return self._answer(self.ads.release(*args, **options))

    def record(self, *args: Any, **options: Any) -> bool:
        """`record` of either."""
        return self._answer(self.ads.record(*args, **options))

    def record_many(self, events: Iterable[Any]) -> list[bool]:
        """`record_many` of either."""
        return self._answer(self.ads.record_many(events))

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
        return self._answer(self.ads.export(*args))

    def forget(self, *args: Any) -> bool:
        """`forget` of either."""
        return self._answer(self.ads.forget(*args))

    def close(self) -> None:
        """Close either."""
        done = self.ads.close()
        if done is not None:
            self.wait(done)

    @property
    def health(self) -> tuple[Any, ...]:
        """`health` of either."""
        return tuple(getattr(self.ads, "health"))  # noqa: B009

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs in the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def _answer(self, given: T | Coroutine[Any, Any, T]) -> T:
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
    sort: str, policy: Policy, store: str | Callable[[Any], Any], *, timeout: float = 0.2, **options: Any
) -> Iterator[Ads]:
    """A retargeter of that sort. `store` is a URL, or makes a client, given the module `redis` or `redis.asyncio`.

    Warnings of clients that are set up badly are no matter here.
    """
    with event_loop() as loop, warnings.catch_warnings():
        warnings.simplefilter("ignore", RetargetWarning)
        given: Any = None

        async def made() -> Any:
            nonlocal given
            given = store if isinstance(store, str) else store(redis.asyncio)
            return AsyncRetargeter(policy, given, timeout=timeout, **options)

        if sort == "async":
            ads = Ads(asyncio.run_coroutine_threadsafe(made(), loop).result(PATIENCE), loop)
        else:
            given = store if isinstance(store, str) else store(redis)
            ads = Ads(Retargeter(policy, given, timeout=timeout, **options), loop)
        try:
            yield ads
        finally:
            ads.close()
            if not isinstance(given, str):
                ads.wait(given.aclose()) if sort == "async" else given.close()


def client(module: Any, port: int, **options: Any) -> Any:
    """A client of one's own that serves well, from the module `redis` or `redis.asyncio`."""
    given = {"socket_timeout": 0.2, "socket_connect_timeout": 0.2, "protocol": 2, **options}
    return module.Redis(host="127.0.0.1", port=port, retry=module.retry.Retry(NoBackoff(), 0), **given)


def counted(server: redis.Redis, visitor: str, campaign: str = "a") -> int:
    """How many impressions of a campaign a server holds for her, asked past the library."""
    raw = server.hget(wire.key("rt:", visitor), f"i{campaign}")
    return len(timeline.moments(raw)) if raw else 0  # type: ignore[arg-type]
