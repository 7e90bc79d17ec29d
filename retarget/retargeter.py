"""The clients: a policy, a store, and what an ad server or a campaign backend asks of them.

Rules:
- The methods are those of `operations.py`, with their arguments, types and docstrings; a client only drives their
  steps: takes each request to the store and brings the reply back.
- Threads may share a retargeter. `policy` may be set at any time; calls under way finish on the old one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar, Unpack, overload

import redis
import redis.asyncio

from retarget.calls import Batches, Operations, Options, Request, Steps, begun, gone_on, results
from retarget.errors import ConfigError, StoreError
from retarget.policy import Policy
from retarget.stores import AsyncMemoryStore, MemoryStore
from retarget.stores.redis import AsyncRedisStore, RedisStore
from retarget.timelines import AsyncStore, Health, Store

P = ParamSpec("P")
T = TypeVar("T")

AnyStore: TypeAlias = str | redis.Redis | redis.RedisCluster | Store
AnyAsyncStore: TypeAlias = str | redis.asyncio.Redis | redis.asyncio.RedisCluster | MemoryStore | AsyncStore


def _call(operation: Callable[Concatenate[Operations, P], Steps[T]]) -> Callable[Concatenate[Retargeter, P], T]:
    """The method that runs an operation's steps."""

    @wraps(operation)
    def method(self: Retargeter, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._drive(operation(self._operations, *args, **kwargs))

    return method


def _each(
    operation: Callable[Concatenate[Operations, P], Batches[T]],
) -> Callable[Concatenate[Retargeter, P], Iterator[T]]:
    """The method that runs one batch after the other, and hands on the answers one by one."""

    @wraps(operation)
    def method(self: Retargeter, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        for steps in operation(self._operations, *args, **kwargs):
            yield from self._drive(steps)

    return method


def _all(
    operation: Callable[Concatenate[Operations, P], Batches[bool | StoreError]],
) -> Callable[Concatenate[Retargeter, P], list[bool]]:
    """The method that runs all batches, and raises if some of it failed."""

    @wraps(operation)
    def method(self: Retargeter, /, *args: P.args, **kwargs: P.kwargs) -> list[bool]:
        return results([done for steps in operation(self._operations, *args, **kwargs) for done in self._drive(steps)])

    return method


def _await(
    operation: Callable[Concatenate[Operations, P], Steps[T]],
) -> Callable[Concatenate[AsyncRetargeter, P], Coroutine[Any, Any, T]]:
    """The coroutine that runs an operation's steps."""

    @wraps(operation)
    async def method(self: AsyncRetargeter, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._drive(operation(self._operations, *args, **kwargs))

    return method


def _await_each(
    operation: Callable[Concatenate[Operations, P], Batches[T]],
) -> Callable[Concatenate[AsyncRetargeter, P], AsyncIterator[T]]:
    """The asynchronous iterator over the answers of one batch after the other."""

    @wraps(operation)
    async def method(self: AsyncRetargeter, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        for steps in operation(self._operations, *args, **kwargs):
            for answer in await self._drive(steps):
                yield answer

    return method


def _await_all(
    operation: Callable[Concatenate[Operations, P], Batches[bool | StoreError]],
) -> Callable[Concatenate[AsyncRetargeter, P], Coroutine[Any, Any, list[bool]]]:
    """The coroutine that runs all batches, and raises if some of it failed."""

    @wraps(operation)
    async def method(self: AsyncRetargeter, /, *args: P.args, **kwargs: P.kwargs) -> list[bool]:
        batches = operation(self._operations, *args, **kwargs)
        return results([done for steps in batches for done in await self._drive(steps)])

    return method


class _InForce:
    """The policy in force; set another at any time."""

    @overload
    def __get__(self, ads: None, owner: object) -> _InForce: ...
    @overload
    def __get__(self, ads: Retargeter | AsyncRetargeter, owner: object) -> Policy: ...
    def __get__(self, ads: Retargeter | AsyncRetargeter | None, owner: object) -> Policy | _InForce:
        return self if ads is None else ads._operations.plan.policy

    def __set__(self, ads: Retargeter | AsyncRetargeter, policy: Policy) -> None:
        ads._operations.use(policy)


def _health(self: Retargeter | AsyncRetargeter) -> tuple[Health, ...]:
    """What is known of each server asked so far: is it up, its failures in a row, and the last of them."""
    return self._store.health()


class Retargeter:
    """Remembers what visitors did and were shown, and says what they may be shown.

    `store` is a URL (`redis://`, `rediss://`, `unix://`, `redis+cluster://`, `redis+sentinel://host/service`,
    `memory://`), a `redis.Redis`, a Sentinel's master, a `redis.RedisCluster`, or a store such as `MemoryStore()`.
    `timeout` is the seconds one call may take in all, connecting and trying again included. Options, all by name:
    `clock` gives epoch seconds where a call says no time of its own (default: the system's); `prefix` begins every key
    (`rt:`); `pepper` (at least 16 bytes) hashes visitors' ids, none is then stored; `secret` (at least 16 bytes) signs
    the tokens of claims, give all processes the same; `remember_denials` ("5 seconds", at most a minute) answers for
    visitors found blocked without asking the store. `policy` is the one in force; set another at any time.

    Raises `ConfigError` for a store that cannot serve; warns (`RetargetWarning`) of a client whose own
    kind of pool is not used.
    """

    policy = _InForce()
    health = _health
    decide = _call(Operations.decide)
    decide_many = _each(Operations.decide_many)
    claim = _call(Operations.claim)
    confirm = _call(Operations.confirm)
    release = _call(Operations.release)
    record = _call(Operations.record)
    record_many = _all(Operations.record_many)
    export = _call(Operations.export)
    forget = _call(Operations.forget)
    merge = _call(Operations.merge)
    rotate = _call(Operations.rotate)

    def __init__(self, policy: Policy, store: AnyStore, **options: Unpack[Options]) -> None:
        self._operations = Operations(policy, time.time, **options)
        self._store = open_store(store, options.get("timeout", 0.1))

    def close(self) -> None:
        """Let go of connections that the library opened. A client that was given stays as it is."""
        self._store.close()

    def __enter__(self) -> Retargeter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drive(self, steps: Steps[T]) -> T:
        state = begun(steps)
        while isinstance(state, Request):
            try:
                reply = getattr(self._store, state.verb)(state.argument)
            except StoreError as error:
                reply = error
            state = gone_on(steps, reply)
        result: T = state.result
        return result


class AsyncRetargeter:
    """`Retargeter` for asyncio: the same names, awaited; concurrent calls share a pipeline.

    `store` is a URL, a `redis.asyncio.Redis` or `RedisCluster`, or a `MemoryStore()`; all else is as there. It belongs
    to the event loop of its first call. A call that is cancelled never spoils another's answer; a write
    may have happened all the same.
    """

    policy = _InForce()
    health = _health
    decide = _await(Operations.decide)
    decide_many = _await_each(Operations.decide_many)
    claim = _await(Operations.claim)
    confirm = _await(Operations.confirm)
    release = _await(Operations.release)
    record = _await(Operations.record)
    record_many = _await_all(Operations.record_many)
    export = _await(Operations.export)
    forget = _await(Operations.forget)
    merge = _await(Operations.merge)
    rotate = _await(Operations.rotate)

    def __init__(self, policy: Policy, store: AnyAsyncStore, **options: Unpack[Options]) -> None:
        self._operations = Operations(policy, time.time, **options)
        self._store = open_async_store(store, options.get("timeout", 0.1))

    async def close(self) -> None:
        """Let go of connections that the library opened. A client that was given stays as it is."""
        await self._store.close()

    async def __aenter__(self) -> AsyncRetargeter:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _drive(self, steps: Steps[T]) -> T:
        state = begun(steps)
        while isinstance(state, Request):
            try:
                reply = await getattr(self._store, state.verb)(state.argument)
            except StoreError as error:
                reply = error
            state = gone_on(steps, reply)
        result: T = state.result
        return result


def open_store(store: AnyStore, timeout: float) -> Store:
    """The store that a URL, a client or a store itself stands for. Raises ConfigError."""
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
    raise ConfigError(f"{type(store).__name__} is no store: give a URL, a redis.Redis, or a MemoryStore()")


def open_async_store(store: AnyAsyncStore, timeout: float) -> AsyncStore:
    """The store that a URL, an asyncio client or a store itself stands for. Raises ConfigError."""
    _check_timeout(timeout)
    if isinstance(store, str):
        return AsyncMemoryStore(MemoryStore()) if store == "memory://" else AsyncRedisStore.from_url(store, timeout)
    if isinstance(store, MemoryStore):
        return AsyncMemoryStore(store)
    if isinstance(store, (redis.asyncio.Redis, redis.asyncio.RedisCluster)):
        return AsyncRedisStore(store, timeout)
    if hasattr(store, "write_many"):
        return store
    raise ConfigError(f"{type(store).__name__} is no store: give a URL, a redis.asyncio.Redis, or a MemoryStore()")


def _check_timeout(timeout: object) -> None:
    if not isinstance(timeout, int | float) or not 0 < timeout <= 60:
        raise ConfigError(f"timeout={timeout!r}: give seconds, more than 0 and at most 60")
