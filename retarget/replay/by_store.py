"""The replay judge through a store: claims and records in time order, as an ad server would have made them.

Rules:
- A server is asked as it would have been that day: each call is judged at its row's time, never at the wall clock's.
- A replay may pause, or take longer than what it replays: nothing expires within a year of the store's own time. All
  that it wrote is deleted at its end.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, repeat
from zoneinfo import ZoneInfo

from retarget.errors import NotExecuted, RetargetWarning, StoreError
from retarget.events import Candidate, Event
from retarget.policy import Policy
from retarget.replay.figures import Denial, denial
from retarget.replay.full import FullRules, FullTally
from retarget.replay.meanings import Meaning
from retarget.retargeter import Retargeter
from retarget.timelines import DAY, FULL, Answer, State, Store, Write, keys

_MOST_PENDING = 500
_KEPT = 366 * DAY


class StoreJudge:
    """Judges rows in time order. Events wait, and are sent together, until their visitor may be shown an ad.

    `dropped` events found no room in a visitor who was full; `full` counts such visitors.
    """

    def __init__(self, policy: Policy, store: Store, prefix: str, rules: FullRules) -> None:
        """`rules` tell which rule a full visitor's timelines belong to."""
        self.prefix = prefix
        self.dropped = 0
        self.full = FullTally()
        self._rules = rules
        self._known_full: set[bytes] = set()
        self._moments: Iterator[int] = repeat(0)
        self._known: set[str] = set()
        self._pending: list[tuple[int, Event]] = []
        self._waiting: set[str] = set()
        self._store = _Patient(store)
        self._ads = Retargeter(policy, self._store, clock=lambda: next(self._moments), prefix=prefix)

    def take(self, visitor: str, meaning: Meaning, at: int) -> Denial | None:
        """Record an event; or count an impression if it is eligible, else say why not. Raises StoreError."""
        self._known.add(visitor)
        events = meaning.events
        if meaning.ad is not None:
            why = self._show(visitor, meaning.ad, at, meaning.zone)
            if why is not None:
                return why
            events = events[1:]
        for event, subject in events:
            if len(self._pending) >= _MOST_PENDING:
                self._send()
            self._pending.append((at, Event(visitor, event, subject)))
            self._waiting.add(visitor)
        return None

    def _show(self, visitor: str, ad: Candidate, at: int, zone: ZoneInfo) -> Denial | None:
        if visitor in self._waiting:
            self._send()
        self._moments = repeat(at)
        if self._ads.claim(visitor, (ad,), timezone=zone) is not None:
            return None
        why = denial(self._ads.decide(visitor, (ad,), timezone=zone)[ad])
        if why[0] == "full":
            self._note(*self._store.last_read, at)
        return why

    def _send(self) -> None:
        moments = [at for at, _ in self._pending]
        self._moments = chain(moments, repeat(moments[-1]))  # the clock is asked once for each
        with _quiet():
            self.dropped += self._ads.record_many(event for _, event in self._pending).count(False)
        for key, now in self._store.take_refused():
            self._note(key, self._store.read(key), now)
        self._pending.clear()
        self._waiting.clear()

    def _note(self, key: bytes, state: State, now: int) -> None:
        """Count a visitor who is full, the first time."""
        if key not in self._known_full:
            self._known_full.add(key)
            self.full.add(FullTally(1, self._rules.count(state, now)))

    def finish(self) -> None:
        """Send what waits after the last row."""
        if self._pending:
            self._send()

    def forget(self) -> None:
        """Leave nothing in the store. Warns (RetargetWarning) if it fails."""
        if not self._store.written:
            return
        try:
            for visitor in self._known:
                self._store.delete(keys.key(self.prefix, visitor))
        except StoreError as error:
            what = f"keys of this replay are left under {self.prefix}, for at most a year: {error}"
            warnings.warn(what, RetargetWarning, stacklevel=3)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is logged of each event that is dropped: they are counted."""
    log = logging.getLogger("retarget")
    log.addFilter(_is_no_drop)
    try:
        yield
    finally:
        log.removeFilter(_is_no_drop)


def _is_no_drop(record: logging.LogRecord) -> bool:
    return "was dropped" not in record.msg


class _Patient:
    """A store whose visitors expire after a year at the earliest. It remembers what it was asked.

    `written`: whether anything may have been written. `last_read`: the last key that was read, and its visitor's state.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.delete, self.close, self.health = store.delete, store.close, store.health
        self.written = False
        self.last_read: tuple[bytes, State] = b"", {}
        self._refused: list[tuple[bytes, int]] = []

    def read(self, key: bytes) -> State:
        state = self._store.read(key)
        self.last_read = key, state
        return state

    def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        return self._store.read_many(keys)

    def write(self, write: Write) -> Answer:
        before, self.written = self.written, True
        try:
            return self._store.write(_for_a_year(write))
        except NotExecuted:
            self.written = before
            raise

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        self.written = True
        answers = self._store.write_many([_for_a_year(write) for write in writes])
        self._refused += [
            (write.key, write.now) for write, answer in zip(writes, answers, strict=True) if answer == FULL
        ]
        return answers

    def take_refused(self) -> list[tuple[bytes, int]]:
        """The keys of visitors who were full, and when, since the last call."""
        refused, self._refused = self._refused, []
        return refused


def _for_a_year(write: Write) -> Write:
    alternatives = tuple(replace(one, ttl=max(one.ttl, _KEPT)) for one in write.alternatives)
    return replace(write, alternatives=alternatives)
