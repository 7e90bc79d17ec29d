"""Where timelines are kept: memory, and in `redis` Redis and Valkey.

Never imports the policy, the engine or the calls.
"""

from retarget.stores.memory import AsyncMemoryStore, MemoryStore

__all__ = ["AsyncMemoryStore", "MemoryStore"]
