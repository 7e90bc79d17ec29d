"""opening.py: what may be given as a store, to which client."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

import pytest
import redis
import redis.asyncio

from retarget import ConfigError, MemoryStore
from retarget.stores import AsyncMemoryStore, open_async_store, open_store
from retarget.stores.redis import AsyncRedisStore, RedisStore


def test_a_url_opens_a_store_and_sends_nothing() -> None:
    """In memory, or on a server; nobody listens on this port."""
    assert isinstance(open_store("memory://", 1), MemoryStore)
    assert isinstance(open_async_store("memory://", 1), AsyncMemoryStore)
    with closing(open_store("redis://127.0.0.1:1/0", 1)) as store:
        assert isinstance(store, RedisStore)

    async def script() -> None:
        store = open_async_store("redis://127.0.0.1:1/0", 1)
        assert isinstance(store, AsyncRedisStore)
        await store.close()

    asyncio.run(script())


def test_a_store_is_taken_as_it_is() -> None:
    """And one in memory serves both clients."""
    store = MemoryStore()
    assert open_store(store, 1) is store
    assert isinstance(open_async_store(store, 1), AsyncMemoryStore)
    own = AsyncMemoryStore(store)
    assert open_async_store(own, 1) is own


def test_clients_of_redis_py_are_taken_as_they_are() -> None:
    """One of the right kind makes a store; one of the wrong kind is refused, with the cure where it is known."""
    given = redis.Redis(port=1)
    with closing(open_store(given, 1)) as store:
        assert isinstance(store, RedisStore)
    with pytest.raises(ConfigError, match=r"store must be a URL, a redis\.asyncio\.Redis.*got Redis"):
        open_async_store(given, 1)  # type: ignore[arg-type]
    given.close()

    async def script() -> None:
        awaited: Any = redis.asyncio.Redis(port=1)
        assert isinstance(open_async_store(awaited, 1), AsyncRedisStore)
        with pytest.raises(ConfigError, match="this client is for asyncio: give it to an AsyncRetargeter"):
            open_store(awaited, 1)
        await awaited.aclose()

    asyncio.run(script())


@pytest.mark.parametrize("timeout", [0, -1, 60.5, "1", None, float("nan")])
def test_a_timeout_out_of_range_is_refused(timeout: Any) -> None:
    """Above 0 and at most 60 seconds."""
    for opens in (open_store, open_async_store):
        with pytest.raises(ConfigError, match=r"timeout=.*more than 0 and at most 60"):
            opens("memory://", timeout)
