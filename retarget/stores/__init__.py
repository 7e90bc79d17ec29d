"""Where timelines are kept: memory, and in `redis` Redis and Valkey.

Never imports the policy, the engine or the calls.
"""

from retarget.stores.memory import AsyncMemoryStore, MemoryStore
from retarget.stores.opening import AnyAsyncStore, AnyStore, open_async_store, open_store

__all__ = ["AnyAsyncStore", "AnyStore", "AsyncMemoryStore", "MemoryStore", "open_async_store", "open_store"]
