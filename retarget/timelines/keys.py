"""Keys and event ids: what a visitor and an identified event are called in the store.

Rules:
- The key carries the version of the data format: a library with another format uses other keys.
"""

from __future__ import annotations

from hashlib import blake2b

FORMAT = "1"
"""The version of the data format, behind the prefix in every key."""


def key(prefix: str, visitor: str) -> bytes:
    """The key of a visitor's hash."""
    return f"{prefix}{FORMAT}:{visitor}".encode()


def event_id(event: str, id_: str) -> bytes:
    """Five bytes for an event's id. The event's name is hashed too: an impression and its click may share an id."""
    return blake2b(f"{event}\0{id_}".encode(), digest_size=5).digest()
