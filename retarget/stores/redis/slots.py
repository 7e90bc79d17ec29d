"""The slot map of a cluster: which server owns which visitor, as far as is known.

Rules:
- A visitor's key determines its slot, CLUSTER SLOTS names each slot's primary. No command goes to a replica.
- The map is refreshed after a server said that a slot has moved, or did not answer: at most ten times a second. Until
  then the old map is used.
- Time is an argument: seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

Address: TypeAlias = tuple[str, int]

_PAUSE = 0.1
"""Seconds between two refreshes."""


class Route(NamedTuple):
    """Where a command has to go, as the last reply to it said."""

    to: Address | None = None
    """The server to send it to; None for the one that the map names."""
    asking: bool = False
    """The slot is being moved: `to` serves this command alone, after ASKING, and the map stays as it is."""
    doubtful: bool = False
    """The map may be wrong."""


BY_MAP = Route()
"""The server that the map names, and no reason to doubt it."""


class Slots:
    """The map of one cluster. `nodes` are the servers worth asking for it, the startup nodes included."""

    def __init__(self, startup_nodes: Iterable[Address]) -> None:
        self.startup_nodes = list(startup_nodes)
        self.nodes = list(self.startup_nodes)
        self._primaries: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._stale = True
        self._next = 0.0

    def primary(self, key: bytes) -> Address:
        """The server to ask about this key; any server if its slot is not in the map: it will redirect."""
        return self._primaries[key_slot(key)] or self.nodes[0]

    def due(self, now: float) -> bool:
        """Whether to refresh the map now; if so, the next refresh is due 0.1 s later at the earliest."""
        if not self._stale or now < self._next:
            return False
        self._next = now + _PAUSE
        return True

    def note(self, key: bytes, route: Route) -> None:
        """Learn from what a server said about this key: a move, or that the map may be wrong."""
        if route.doubtful:
            self._stale = True
        if route.to and not route.asking:
            self._primaries[key_slot(key)] = route.to

    def update(self, ranges: Any, asked: Address) -> None:  # noqa: ANN401 - the reply to CLUSTER SLOTS
        """Replace the map by the reply of the server at `asked`.

        Raises TypeError or ValueError, and keeps the old map, if the reply is not a map.
        """
        primaries: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            if not 0 <= first <= last < REDIS_CLUSTER_HASH_SLOTS:
                raise ValueError(f"slots {first} to {last} are not a valid range")
            name = host.decode() if isinstance(host, bytes) else host
            address = (name or asked[0], int(port))  # no host: the one we connected to
            primaries[first : last + 1] = [address] * (last + 1 - first)
        found = dict.fromkeys(address for address in primaries if address is not None)
        if not found:
            raise ValueError("no slot is assigned yet")
        self._primaries = primaries
        self.nodes = [*found, *(address for address in self.startup_nodes if address not in found)]
        self._stale = False
