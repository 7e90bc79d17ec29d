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
from retarget.timelines import (
    DAY,
    DENIED,
    FULL,
    IDS_KEPT,
    LATE,
    MOST_TIMELINES,
    RECORD,
    Alternative,
    Answer,
    Enter,
    Guard,
    Health,
    Remove,
    Reserve,
    State,
    Unreserve,
    Write,
    timeline,
)

_ID = 5


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
        return [self.write(write) for write in writes]

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
            ids = state.get(b"#0", b"") + state.get(b"#1", b"")
            if write.id:
                for start in range(0, len(ids), RECORD):
                    if ids[start : start + _ID] == write.id:
                        return ids[start + _ID : start + RECORD]
            held = timeline.live_holds(state, write.now)
            for number, alternative in enumerate(write.alternatives, 1):
                if _hold(state, held, alternative.guards):
                    return self._apply(write, state, ids, alternative) or number
            return DENIED

    def _apply(self, write: Write, state: dict[bytes, bytes], ids: bytes, alternative: Alternative) -> int:
        """Apply the alternative and return 0, or return `LATE` or `FULL`."""
        full = len(state) >= MOST_TIMELINES and any(isinstance(c, Enter | Reserve) for c in alternative.changes)
        prune, after, days = full, dict(state), set[int]()
        changed, removed = set(), set()
        hold = state.get(write.hold)
        for change in alternative.changes:
            field = write.hold if isinstance(change, Reserve) else change.field
            raw = after.get(field)
            if isinstance(change, Remove | Unreserve):
                moment = change.at if isinstance(change, Remove) else timeline.newest(hold) if hold else None
                left = raw if raw is None or moment is None else timeline.remove(raw, moment, change.times)
                if raw is not None and left is None:
                    removed.add(field)
                    del after[field]
                elif left is not None and left != raw:
                    changed.add(field)
                    after[field] = left
                continue
            entry = Enter(field, change.end, 1, 1, change.head) if isinstance(change, Reserve) else change
            value = timeline.add(raw, entry.at, entry.weight, entry.keep, entry.head, write.now)
            if value is not None:
                after[field] = value
                changed.add(field)
                prune = prune or raw is None
                days.add(0 if raw is None else timeline.newest(raw) // DAY)
        if alternative.changes and not (changed or removed):
            return LATE
        if prune or (days and write.now // DAY not in days):
            dead = _to_prune(state, write.now, full=full)
            if dead is None:
                return FULL
            for field in dead - changed - removed:
                after.pop(field, None)
        if write.id:
            ids = (ids + write.id + alternative.outcome)[-IDS_KEPT * RECORD :]
            after[b"#0"] = ids[:64]
            if len(ids) > 64:
                after[b"#1"] = ids[64:]
        if changed or write.id:
            self._until[write.key] = max(self._until.get(write.key, 0), write.now + alternative.ttl)
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
        clause = clause or _at_least(state, guard, len(held.get(guard.field, ()))) is guard.wanted
        if not guard.more:
            if not clause:
                return False
            clause = False
    return True


def _at_least(state: State, guard: Guard, held: int) -> bool:
    if guard.n <= held:
        return True
    since = guard.since
    if guard.anchored and timeline.SESSIONS in state:
        since = max(since, timeline.newest(state[timeline.SESSIONS]))
    entry = timeline.nth_newest(state.get(guard.field, b""), guard.n - held)
    return entry is not None and entry >= since


def _to_prune(state: State, now: int, *, full: bool) -> set[bytes] | None:
    """What to evict: dead timelines and, if the visitor is full, the oldest that no blocking rule asks about.

    None if that is not enough.
    """
    timelines = {field: raw for field, raw in state.items() if not field.startswith(b"#")}
    live = {field: raw for field, raw in timelines.items() if timeline.is_live(raw, now)}
    dead = timelines.keys() - live.keys()
    if full and len(live) >= MOST_TIMELINES:
        interests = sorted((timeline.newest(raw), field) for field, raw in live.items() if not timeline.is_shield(raw))
        if len(live) - len(interests) >= MOST_TIMELINES:
            return None
        dead |= {field for _, field in interests[: len(live) - MOST_TIMELINES + 1]}
    return dead
