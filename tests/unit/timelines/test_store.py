"""store.py: the protocols, and that the stores of the library have all of their methods."""

from __future__ import annotations

import inspect

import pytest

from retarget.stores import AsyncMemoryStore, MemoryStore
from retarget.stores.redis import AsyncRedisStore, RedisStore
from retarget.timelines import Health
from retarget.timelines.store import AsyncStore, Store

METHODS = ["close", "delete", "health", "read", "read_many", "write", "write_many"]


def methods(of: type) -> dict[str, list[str]]:
    """The methods that a protocol asks for, with the names of their arguments."""
    return {name: [*inspect.signature(getattr(of, name)).parameters] for name in METHODS}


def test_both_protocols_ask_for_the_same_methods() -> None:
    """Of the same arguments; the async ones are awaited, except `health`, which asks no server."""
    assert methods(Store) == methods(AsyncStore)
    assert [name for name in METHODS if inspect.iscoroutinefunction(getattr(AsyncStore, name))] == [
        name for name in METHODS if name != "health"
    ]
    assert not any(inspect.iscoroutinefunction(getattr(Store, name)) for name in METHODS)


@pytest.mark.parametrize(
    ("store", "protocol"),
    [(MemoryStore, Store), (RedisStore, Store), (AsyncMemoryStore, AsyncStore), (AsyncRedisStore, AsyncStore)],
)
def test_a_store_has_what_its_protocol_asks_for(store: type, protocol: type) -> None:
    """Every method with the same arguments, awaited where the protocol says so."""
    assert methods(store) == methods(protocol)
    for name in METHODS:
        awaited = inspect.iscoroutinefunction(getattr(protocol, name))
        assert inspect.iscoroutinefunction(getattr(store, name)) is awaited


def test_health_is_a_plain_value() -> None:
    """Server, whether calls are sent to it, consecutive failures, the last error."""
    assert Health("localhost:6379", up=False, failures=3, error="gone") == ("localhost:6379", False, 3, "gone")
