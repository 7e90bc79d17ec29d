"""Lists of claims in tests: what they named, and stores that note or lose their writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retarget import Claim, MemoryStore, OutcomeUnknown, StoreError
from retarget.timelines import Answer, Store, Write

PAGE = '[campaign.a]\ncaps = ["2 per day"]\n[campaign.b]\ngap = "1 hour"\n[campaign.c]\ncaps = ["5 per day"]'
RANKED = ["a", "b", "c"]
OPEN = "".join(f"[campaign.{name}]\n" for name in "abcde")


def claimed(claim: Claim | None) -> Claim:
    """The claim, which there must be."""
    assert claim is not None
    return claim


def campaigns(claims: Sequence[Claim | None]) -> list[str | None]:
    """The campaigns that were claimed."""
    return [claim.campaign if claim else None for claim in claims]


class Sent(MemoryStore):
    """A store that notes what it was sent: the number of writes of each list."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: list[int] = []

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        """`write_many`, noted."""
        self.lists.append(len(writes))
        return super().write_many(writes)


class Lossy:
    """A store of which some writes of a list are not done, and fail."""

    def __init__(self, store: Store, done: tuple[bool, ...]) -> None:
        self._store = store
        self.done: tuple[bool, ...] | None = done

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        """Do those that are to be done."""
        done = self.done or [True] * len(writes)
        return [
            self._store.write(write) if do else OutcomeUnknown("lost") for write, do in zip(writes, done, strict=True)
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
