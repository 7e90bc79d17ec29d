"""How an operation speaks: it yields what it asks of the store, and is sent what the store answered.

Rules:
- A `StoreError` is thrown into the steps at the request that met it; among the answers to a list it stands as one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")
Verb: TypeAlias = Literal["read", "write", "delete", "read_many", "write_many"]


class Request(NamedTuple):
    """One verb of the store and its argument."""

    verb: Verb
    argument: Any


Steps: TypeAlias = Generator[Request, Any, T]
"""Yields requests, is sent the replies, returns the result."""

Batches: TypeAlias = Iterator[Steps[list[T]]]
"""The steps of one batch after the other, so that a long list needs no memory."""
