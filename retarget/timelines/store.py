"""The protocol of a store: read, write, delete.

Rules:
- `read` returns a visitor's timelines; `write` applies the first alternative whose guards hold, atomically.
- The batch forms answer for each visitor separately: one that fails does not hide the others' answers.
- A store fails with a `StoreError` from `retarget.errors`, never with an error of what it is built on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from retarget.errors import StoreError
from retarget.timelines.writes import Answer, Write

State: TypeAlias = Mapping[bytes, bytes]


class Health(NamedTuple):
    """The state of one server: whether calls are sent to it, its consecutive failures, and the last error."""

    server: str
    up: bool
    failures: int
    error: str


class Store(Protocol):
    """Where visitors' timelines are kept. All stores pass the same contract tests."""

    def read(self, key: bytes) -> State:
        """The visitor's timelines; empty for an unknown visitor. Raises StoreError."""

    def write(self, write: Write) -> Answer:
        """Apply the first alternative whose guards hold, whole. Raises NotExecuted or OutcomeUnknown."""

    def delete(self, key: bytes) -> bool:
        """Forget the visitor; True if anything was stored. Raises StoreError."""

    def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        """`read` for each key, together."""

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        """`write` for each, in order, together."""

    def health(self) -> tuple[Health, ...]:
        """The state of each server; empty for a store without servers."""

    def close(self) -> None:
        """Close the connections that the store opened itself."""


class AsyncStore(Protocol):
    """`Store` with its methods awaited, except `health`."""

    async def read(self, key: bytes) -> State: ...
    async def write(self, write: Write) -> Answer: ...
    async def delete(self, key: bytes) -> bool: ...
    async def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]: ...
    async def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]: ...
    def health(self) -> tuple[Health, ...]: ...
    async def close(self) -> None: ...
