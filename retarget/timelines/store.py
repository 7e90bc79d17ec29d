"""What a store is: two verbs and a half.

Rules:
- `read` gives a visitor's timelines as they are; `write` applies the first alternative whose guards hold, atomically.
- Both take many visitors at once and answer each by itself: one that fails does not hide the others' answers.
- A store fails with a `StoreError` from `retarget.errors`, never with an error of whatever it is built on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from retarget.errors import StoreError
from retarget.timelines.writes import Answer, Write

State: TypeAlias = Mapping[bytes, bytes]


class Health(NamedTuple):
    """What is known of one server: whether it is asked, its failures in a row, and the last of them."""

    server: str
    up: bool
    failures: int
    error: str


class Store(Protocol):
    """Where visitors' timelines are kept. Every store passes one contract suite."""

    def read(self, key: bytes) -> State:
        """The visitor's timelines; empty for one who is not known. Raises StoreError."""

    def write(self, write: Write) -> Answer:
        """Apply the first alternative whose guards hold, whole. Raises NotExecuted or OutcomeUnknown."""

    def delete(self, key: bytes) -> bool:
        """Forget the visitor; True if there was anything. Raises StoreError."""

    def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        """`read` for each key, together."""

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        """`write` for each, in order, together."""

    def health(self) -> tuple[Health, ...]:
        """What is known of each server; nothing where there is none."""

    def close(self) -> None:
        """Let go of connections that the store opened itself."""


class AsyncStore(Protocol):
    """The same, awaited."""

    async def read(self, key: bytes) -> State: ...
    async def write(self, write: Write) -> Answer: ...
    async def delete(self, key: bytes) -> bool: ...
    async def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]: ...
    async def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]: ...
    def health(self) -> tuple[Health, ...]: ...
    async def close(self) -> None: ...
