"""How an operation speaks: it yields what it asks of the store, and is sent what the store answered.

Rules:
- A `StoreError` is thrown into the steps at the request that met it; among the answers to a list it stands as one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from retarget.errors import StoreError

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


class Done(NamedTuple):
    """The result of an operation."""

    result: Any


def begun(steps: Steps[Any]) -> Request | Done:
    """What the operation asks first, or its result."""
    return gone_on(steps, None)


def gone_on(steps: Steps[Any], reply: Any) -> Request | Done:  # noqa: ANN401 - whatever the store answered
    """What the operation asks next, or its result."""
    try:
        return steps.throw(reply) if isinstance(reply, StoreError) else steps.send(reply)
    except StopIteration as stop:
        return Done(stop.value)
