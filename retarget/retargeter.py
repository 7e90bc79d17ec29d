"""The client: a policy, a store, and what an ad server or a campaign backend asks of them.

Rules:
- A method here drives the steps of the same name in `operations.py` and says, in its docstring, what it promises.
- Threads may share a retargeter. `policy` may be set at any time; calls under way finish on the old one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import redis

from retarget.decision import Decision
from retarget.errors import ConfigError, StoreError
from retarget.events import Event, Moment, Subject
from retarget.memory import MemoryStore
from retarget.operations import Claim, Operations, Steps, results
from retarget.plan import Plan
from retarget.policy import Policy
from retarget.redis_store import RedisStore
from retarget.store import Store

T = TypeVar("T")


class Retargeter:
    """Remembers what visitors did and were shown, and says what they may be shown.

    `store` is a URL (`redis://`, `rediss://`, `unix://`, `memory://`), a `redis.Redis`, or a store such as
    `MemoryStore()`. `clock` gives epoch seconds where a call says no time of its own (default: the system's).
    `timeout` is the seconds one call may wait for a store built from a URL (default 0.1). `prefix` begins every key.

    Raises `ConfigError` for a store that cannot serve; warns (`RetargetWarning`) of one that breaks a promise.
    """

    def __init__(
        self,
        policy: Policy,
        store: str | redis.Redis | Store,
        *,
        clock: Callable[[], float] | None = None,
        timeout: float = 0.1,
        prefix: str = "rt:",
    ) -> None:
        self._store = open_store(store, timeout)
        self._operations = Operations(policy, prefix, clock or time.time, own_clock=clock is not None)

    @property
    def policy(self) -> Policy:
        """The policy in force; set another at any time."""
        return self._operations.plan.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._operations.plan = Plan(policy)

    def decide(
        self,
        visitor: str | None,
        candidates: Iterable[Subject] | None = None,
        *,
        now: Moment | None = None,
        timezone: str | ZoneInfo | None = None,
        consent: bool = True,
    ) -> Decision:
        """What may this visitor be shown? One round trip; nothing is counted.

        `candidates` in the caller's order, None for every campaign of the policy. `visitor=None` and `consent=False`
        get what the policy says and touch no store. If the store fails, the answer is `on_store_error` and `.degraded`
        is its error. Raises InputError for a wrong argument, or a campaign that the policy cannot decide on;
        StoreError only with `on_store_error = "raise"`.
        """
        return self._drive(self._operations.decide(visitor, candidates, now, timezone, consent=consent))

    def decide_many(
        self,
        visitors: Iterable[str | None],
        candidates: Iterable[Subject] | None = None,
        *,
        now: Moment | None = None,
        timezone: str | ZoneInfo | None = None,
    ) -> Iterator[Decision]:
        """`decide` for each visitor, in order, a thousand to a round trip."""
        for steps in self._operations.decide_many(visitors, candidates, now, timezone):
            yield from self._drive(steps)

    def claim(
        self,
        visitor: str | None,
        candidates: Iterable[Subject] | None = None,
        *,
        now: Moment | None = None,
        id: str | None = None,  # noqa: A002 - the field's word
        timezone: str | ZoneInfo | None = None,
        consent: bool = True,
    ) -> Claim | None:
        """Count an impression of the first eligible candidate, atomically; None if none is. One round trip.

        However many processes claim for one visitor at once, none of her caps is passed. A claim repeated with its
        `id` counts nothing and returns what it returned. If the store fails: None with `on_store_error = "block"`, an
        uncounted claim with `.degraded` set with "allow", StoreError with "raise".
        """
        return self._drive(self._operations.claim(visitor, candidates, now, id, timezone, consent=consent))

    def record(
        self,
        visitor: str | None,
        event: str,
        subject: Subject | None = None,
        *,
        at: Moment | None = None,
        id: str | None = None,  # noqa: A002 - the field's word
        consent: bool = True,
    ) -> bool:
        """Remember that something happened. True; False where that id was counted before.

        Late events land at their own time; one older than anything the policy asks about is dropped: False, and a
        warning in the log `retarget`. Without a visitor or consent nothing is remembered: False. An `at` of the past is
        taken at its word unless the retargeter was given a clock. Raises InputError (nothing was stored) for a wrong
        argument or a moment more than 300 seconds ahead; NotExecuted or OutcomeUnknown if the store fails.
        """
        return self._drive(self._operations.record(visitor, event, subject, at, id, consent=consent))

    def record_many(self, events: Iterable[Event | tuple[Any, ...] | dict[str, Any]]) -> list[bool]:
        """`record` for each event, in order, a thousand to a round trip. Raises PartlyExecuted if some failed."""
        outcomes: list[bool | StoreError] = []
        for steps in self._operations.record_many(events):
            outcomes += self._drive(steps)
        return results(outcomes)

    def export(self, visitor: str) -> dict[str, Any]:
        """All that is remembered of a visitor, ready for JSON. Raises StoreError."""
        return self._drive(self._operations.export(visitor))

    def forget(self, visitor: str) -> bool:
        """Forget a visitor; True if anything was known. Raises StoreError."""
        return self._drive(self._operations.forget(visitor))

    def close(self) -> None:
        """Let go of connections that the library opened. A client that was given stays as it is."""
        self._store.close()

    def __enter__(self) -> Retargeter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drive(self, steps: Steps[T]) -> T:
        try:
            request = next(steps)
            while True:
                try:
                    reply = getattr(self._store, request.verb)(request.argument)
                except StoreError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


def open_store(store: str | redis.Redis | Store, timeout: float) -> Store:
    """The store that a URL, a client or a store itself stands for. Raises ConfigError."""
    if not 0 < timeout <= 60:
        raise ConfigError(f"timeout={timeout!r}: give seconds, more than 0 and at most 60")
    if isinstance(store, str):
        return MemoryStore() if store == "memory://" else RedisStore.from_url(store, timeout)
    if isinstance(store, redis.Redis):
        return RedisStore(store)
    if hasattr(store, "write_many"):
        return store
    raise ConfigError(f"{type(store).__name__} is no store: give a URL, a redis.Redis, or a MemoryStore()")
