"""The store in memory: the same answers as Redis, in one process. For tests, replays and trials.

Rules:
- It does what write.lua does, step by step, on the same bytes; the contract tests and the state machine compare them.
- Threads may share it: one lock around each write.
- Time is an argument here too: a visitor expires only when a caller says so with `expire(now)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from retarget.errors import StoreError
from retarget.stores.draft import Draft
from retarget.timelines import (
    DAY,
    DENIED,
    FULL,
    LAST_MOMENT,
    LATE,
    MOST_TIMELINES,
    SLACK,
    Alternative,
    Answer,
    Cover,
    Enter,
    Guard,
    Health,
    Reserve,
    State,
    Write,
    keys,
    timeline,
)


class MemoryStore:
    """Visitors' timelines in a dictionary. `len(store)` is the number of visitors."""

    def __init__(self) -> None:
        self._visitors: dict[bytes, dict[bytes, bytes]] = {}
        self._until: dict[bytes, int] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._visitors)

    def read(self, key: bytes) -> State:
        return self._visitors.get(key, {})

    def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        return [self.read(key) for key in keys]

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        return [self._answer(write) for write in writes]

    def delete(self, key: bytes) -> bool:
        with self._lock:
            self._until.pop(key, None)
            return self._visitors.pop(key, None) is not None

    def health(self) -> tuple[Health, ...]:
        return ()

    def close(self) -> None:
        """Nothing to close."""

    def expire(self, now: int) -> None:
        """Remove the visitors whose time to live is over at `now`."""
        with self._lock:
            for key in [key for key, until in self._until.items() if until < now]:
                del self._until[key], self._visitors[key]

    def ttl(self, key: bytes, now: int) -> int | None:
        """Seconds until the visitor expires, None for an unknown visitor."""
        return self._until[key] - now if key in self._until else None

    def write(self, write: Write) -> Answer:
        with self._lock:
            state = self._visitors.get(write.key, {})
            known = b""
            if write.id:
                known = keys.remembered(state, write.now)
                outcome = keys.outcome_of(known, write.id)
                if outcome is not None:
                    return outcome
            held = timeline.live_holds(state, write.now)
            for number, alternative in enumerate(write.alternatives, 1):
                if _hold(state, held, alternative.guards):
                    return self._apply(write, state, known, alternative) or number
            return DENIED

    def _answer(self, write: Write) -> Answer | StoreError:
        try:
            return self.write(write)
        except StoreError as error:
            return error

    def _apply(self, write: Write, state: dict[bytes, bytes], known: bytes, alternative: Alternative) -> int:
        """Apply the alternative and return 0, or return `LATE` or `FULL`."""
        draft = Draft(state, write)
        for change in alternative.changes:
            draft.make(change)
        if alternative.changes and not draft.changed:
            return LATE
        full = len(state) >= MOST_TIMELINES and any(isinstance(c, Enter | Cover | Reserve) for c in alternative.changes)
        if (full or draft.looks_for_the_dead) and not draft.evict(full=full):
            return FULL
        after, ttl = draft.after, max(alternative.ttl, draft.ttl)
        if write.id:
            ttl = max(ttl, DAY)
            until = min(max(keys.deadline(after), write.now + ttl), LAST_MOMENT)
            records = known if any(field in after for field in keys.IDS) else b""
            for field in keys.IDS:
                after.pop(field, None)
            after |= keys.remember(records, write.id, alternative.outcome, until)
        if write.id or not draft.changed.isdisjoint(after):
            self._until[write.key] = max(self._until.get(write.key, 0), write.now + ttl + SLACK)
        if after:
            self._visitors[write.key] = after
        else:
            self._visitors.pop(write.key, None)
            self._until.pop(write.key, None)
        return 0


class AsyncMemoryStore:
    """A `MemoryStore` with its methods awaited."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def close(self) -> None:
        """Nothing to close."""

    def health(self) -> tuple[Health, ...]:
        return ()

    async def read(self, key: bytes) -> State:
        return self._store.read(key)

    async def write(self, write: Write) -> Answer:
        return self._store.write(write)

    async def delete(self, key: bytes) -> bool:
        return self._store.delete(key)

    async def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        return self._store.read_many(keys)

    async def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        return self._store.write_many(writes)


def _hold(state: State, held: dict[bytes, list[int]], guards: tuple[Guard, ...]) -> bool:
    clause = False
    for guard in guards:
        clause = clause or _at_least(state, guard, len(held.get(guard.field, ())) if held else 0) is guard.wanted
        if not guard.more:
            if not clause:
                return False
            clause = False
    return True


def _at_least(state: State, guard: Guard, held: int) -> bool:
    field, n, since, _, _, anchor = guard
    if n <= held:
        return True
    if anchor is not None:
        begun = _nth_newest(state, anchor.field, anchor.n)
        since = since if begun is None else max(since, begun + anchor.after)
    entry = _nth_newest(state, field, n - held)
    return entry is not None and entry >= since


def _nth_newest(state: State, field: bytes, n: int) -> int | None:
    raw = state.get(field)
    return None if raw is None else timeline.nth_newest(timeline.check(field, raw), n)
