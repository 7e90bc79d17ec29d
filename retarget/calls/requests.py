"""Generator protocol between operations and drivers.

Rules:
- An operation asks the store with `reply = yield from Read(key)`: the request yields itself to the driver and returns
  the reply, typed.
- A driver asks the store each request it is handed (`ask`, or `ask_async` for asyncio) and sends the reply back. A
  `StoreError` is thrown into the operation at the request that failed; in the reply to a list it stands in its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from retarget.errors import StoreError
from retarget.timelines import Answer, AsyncStore, State, Store, Write

T = TypeVar("T")


@dataclass(slots=True)
class Read:
    """Read one visitor's timelines."""

    key: bytes

    def __iter__(self) -> Generator[Read, State, State]:
        return (yield self)

    def ask(self, store: Store) -> State:
        """Ask a store. Raises StoreError."""
        return store.read(self.key)

    def ask_async(self, store: AsyncStore) -> Awaitable[State]:
        """Ask an async store. Raises StoreError."""
        return store.read(self.key)


@dataclass(slots=True)
class ReadMany:
    """Read the timelines of several visitors in one round trip."""

    keys: Sequence[bytes]

    def __iter__(self) -> Generator[ReadMany, list[State | StoreError], list[State | StoreError]]:
        return (yield self)

    def ask(self, store: Store) -> list[State | StoreError]:
        """Ask a store."""
        return store.read_many(self.keys)

    def ask_async(self, store: AsyncStore) -> Awaitable[list[State | StoreError]]:
        """Ask an async store."""
        return store.read_many(self.keys)


@dataclass(slots=True)
class Apply:
    """Apply one write to one visitor."""

    write: Write

    def __iter__(self) -> Generator[Apply, Answer, Answer]:
        return (yield self)

    def ask(self, store: Store) -> Answer:
        """Ask a store. Raises NotExecuted or OutcomeUnknown."""
        return store.write(self.write)

    def ask_async(self, store: AsyncStore) -> Awaitable[Answer]:
        """Ask an async store. Raises NotExecuted or OutcomeUnknown."""
        return store.write(self.write)


@dataclass(slots=True)
class ApplyMany:
    """Apply writes in order in one round trip."""

    writes: Sequence[Write]

    def __iter__(self) -> Generator[ApplyMany, list[Answer | StoreError], list[Answer | StoreError]]:
        return (yield self)

    def ask(self, store: Store) -> list[Answer | StoreError]:
        """Ask a store."""
        return store.write_many(self.writes)

    def ask_async(self, store: AsyncStore) -> Awaitable[list[Answer | StoreError]]:
        """Ask an async store."""
        return store.write_many(self.writes)


@dataclass(slots=True)
class Delete:
    """Delete everything kept under one key. Reply: whether there was anything."""

    key: bytes

    def __iter__(self) -> Generator[Delete, bool, bool]:
        return (yield self)

    def ask(self, store: Store) -> bool:
        """Ask a store. Raises StoreError."""
        return store.delete(self.key)

    def ask_async(self, store: AsyncStore) -> Awaitable[bool]:
        """Ask an async store. Raises StoreError."""
        return store.delete(self.key)


Request: TypeAlias = Read | ReadMany | Apply | ApplyMany | Delete

Steps: TypeAlias = Generator[Request, Any, T]
"""An operation under way: yields requests, is sent their replies, returns its result."""

Batches: TypeAlias = Iterator[Steps[list[T]]]
"""One operation per batch, so that a list of any length needs little memory."""
