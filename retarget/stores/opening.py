"""Opening a store: by URL, from a client, or a store itself.

Rules:
- Nothing is sent yet. What cannot be used is a ConfigError that says what would be right.
- Annotations here are evaluated, not postponed: they are part of the clients' signatures.
"""

from typing import TypeAlias

import redis
import redis.asyncio

from retarget.errors import ConfigError
from retarget.stores.memory import AsyncMemoryStore, MemoryStore
from retarget.stores.redis import AsyncRedisStore, RedisStore
from retarget.timelines import AsyncStore, Store

AnyStore: TypeAlias = str | redis.Redis | redis.RedisCluster | Store
"""What a Retargeter takes as its store."""

AnyAsyncStore: TypeAlias = str | redis.asyncio.Redis | redis.asyncio.RedisCluster | MemoryStore | AsyncStore
"""What an AsyncRetargeter takes as its store."""


def open_store(store: AnyStore, timeout: float) -> Store:
    """The store for a URL, a client, or a store itself. Raises ConfigError."""
    _check_timeout(timeout)
    if isinstance(store, str):
        return MemoryStore() if store == "memory://" else RedisStore.from_url(store, timeout)
    if isinstance(store, (redis.Redis, redis.RedisCluster)):
        return RedisStore(store, timeout)
    if hasattr(store, "write_many"):
        return store
    if type(store).__module__.startswith("redis.asyncio"):
        raise ConfigError(
            "this client is for asyncio: give it to an AsyncRetargeter, or give this one a redis.Redis or a URL"
        )
    raise ConfigError(f"store must be a URL, a redis.Redis or a MemoryStore(), got {type(store).__name__}")


def open_async_store(store: AnyAsyncStore, timeout: float) -> AsyncStore:
    """The store for a URL, an asyncio client, or a store itself. Raises ConfigError."""
    _check_timeout(timeout)
    if isinstance(store, str):
        return AsyncMemoryStore(MemoryStore()) if store == "memory://" else AsyncRedisStore.from_url(store, timeout)
    if isinstance(store, MemoryStore):
        return AsyncMemoryStore(store)
    if isinstance(store, (redis.asyncio.Redis, redis.asyncio.RedisCluster)):
        return AsyncRedisStore(store, timeout)
    if hasattr(store, "write_many"):
        return store
    raise ConfigError(f"store must be a URL, a redis.asyncio.Redis or a MemoryStore(), got {type(store).__name__}")


def _check_timeout(timeout: object) -> None:
    if not isinstance(timeout, int | float) or not 0 < timeout <= 60:
        raise ConfigError(f"timeout={timeout!r}: give seconds, more than 0 and at most 60")
