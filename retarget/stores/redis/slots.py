"""Which server of a cluster has which visitor, as far as is known.

Rules:
- A visitor's key names its slot, CLUSTER SLOTS names each slot's primary. No command goes to a replica.
- The map is looked at anew when a server said that a slot has moved, or did not answer: at most ten times a second,
  and until then what is known is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

Address: TypeAlias = tuple[str, int]

_PAUSE = 0.1
"""Seconds between two looks."""


class Slots:
    """The map of one cluster. `known` are the servers worth asking for it, those it was set up with included."""

    def __init__(self, start: Iterable[Address]) -> None:
        self.start = list(start)
        self.known = list(self.start)
        self._primary: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._stale = True
        self._next = 0.0

    def of(self, key: bytes) -> Address:
        """The server to ask about this key; any where its slot is not known: it will say where to go."""
        return self._primary[key_slot(key)] or self.known[0]

    def doubt(self) -> None:
        """Something is not as the map says."""
        self._stale = True

    def due(self, now: float) -> bool:
        """Whether to look at the map now."""
        if not self._stale or now < self._next:
            return False
        self._next = now + _PAUSE
        return True

    def moved(self, key: bytes, to: Address) -> None:
        """A server said that the key's slot is elsewhere."""
        self._primary[key_slot(key)] = to

    def learn(self, ranges: Any, asked: Address) -> None:  # noqa: ANN401 - what CLUSTER SLOTS answered
        """Take the answer of the server asked. Raises TypeError or ValueError for what is none."""
        primary: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            if not 0 <= first <= last < REDIS_CLUSTER_HASH_SLOTS:
                raise ValueError(f"no slots are {first} to {last}")
            name = host.decode() if isinstance(host, bytes) else host
            address = (name or asked[0], int(port))  # a server that does not know its own name has the one we used
            primary[first : last + 1] = [address] * (last + 1 - first)
        found = dict.fromkeys(address for address in primary if address is not None)
        if not found:
            raise ValueError("no server has any slot yet")
        self._primary = primary
        self.known = [*found, *(address for address in self.start if address not in found)]
        self._stale = False
