"""Keys and ids: how a visitor is named in the store, and how an event is told from another.

Rules:
- The key carries the version of the data format: a library that reads the data otherwise uses another key.
"""

from __future__ import annotations

from hashlib import blake2b

FORMAT = "1"
"""The version of the data format: what stands behind the prefix in every key."""


def key(prefix: str, visitor: str) -> bytes:
    """The key of a visitor's hash."""
    return f"{prefix}{FORMAT}:{visitor}".encode()


def event_id(event: str, id_: str) -> bytes:
    """Five bytes for an event's id. The event's name is part of it: a bid's impression and click may share an id."""
    return blake2b(f"{event}\0{id_}".encode(), digest_size=5).digest()
