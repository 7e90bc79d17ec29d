"""Redis and Valkey: one server, Sentinel and Cluster; sync and async over one protocol.

Never imports the policy, the engine or the calls.
"""

from retarget.stores.redis import script
from retarget.stores.redis.async_store import AsyncRedisStore
from retarget.stores.redis.store import RedisStore
from retarget.stores.redis.target import CONNECTIONS, target_of_url

__all__ = ["CONNECTIONS", "AsyncRedisStore", "RedisStore", "script", "target_of_url"]
