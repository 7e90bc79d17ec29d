"""The replay judge through a store: claims and records in time order, as an ad server would have made them.

Rules:
- A server is asked as it would have been that day: each call is judged at its row's time, never at the wall clock's.
- What a log holds in a minute may take longer to replay: nothing expires within a day of the store's own time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

from retarget.errors import StoreError
from retarget.events import Candidate, Event
from retarget.policy import Policy
from retarget.replay.figures import Denial, denial
from retarget.replay.meanings import Meaning
from retarget.retargeter import Retargeter
from retarget.timelines import DAY, SKEW, Answer, Store, Write

_MOST_PENDING = 500


class StoreJudge:
    """Judges rows in time order. Events wait, and are sent together, until their visitor may be shown an ad."""

    def __init__(self, policy: Policy, store: Store, prefix: str) -> None:
        self.prefix = prefix
        self._now = self._first_pending = 0
        self._known: set[str] = set()
        self._pending: list[Event] = []
        self._waiting: set[str] = set()
        self._dropped = 0
        self._ads = Retargeter(policy, _Patient(store), clock=lambda: self._now, prefix=prefix)

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
            self._add(Event(visitor, event, subject, at), visitor, at)
        return None

    def _show(self, visitor: str, ad: Candidate, at: int, zone: ZoneInfo) -> Denial | None:
        if visitor in self._waiting:
            self._send()
        self._now = at
        if self._ads.claim(visitor, (ad,), timezone=zone) is not None:
            return None
        return denial(self._ads.decide(visitor, (ad,), timezone=zone)[ad])

    def _add(self, event: Event, visitor: str, at: int) -> None:
        # All are judged at the time of the first, so that none is late; and none may be far ahead of it.
        if self._pending and (len(self._pending) >= _MOST_PENDING or at > self._first_pending + SKEW):
            self._send()
        if not self._pending:
            self._first_pending = at
        self._pending.append(event)
        self._waiting.add(visitor)

    def _send(self) -> None:
        self._now = self._first_pending
        self._dropped += self._ads.record_many(self._pending).count(False)
        self._pending.clear()
        self._waiting.clear()

    def finish(self) -> int:
        """Send what waits after the last row. Returns how many events found no room."""
        if self._pending:
            self._send()
        return self._dropped

    def forget(self) -> None:
        """Leave nothing in the store."""
        for visitor in self._known:
            self._ads.forget(visitor)


class _Patient:
    """A store whose visitors expire after a day at the earliest."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.read, self.read_many, self.delete, self.close = store.read, store.read_many, store.delete, store.close
        self.health = store.health

    def write(self, write: Write) -> Answer:
        return self._store.write(_for_a_day(write))

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        return self._store.write_many([_for_a_day(write) for write in writes])


def _for_a_day(write: Write) -> Write:
    alternatives = tuple(replace(one, ttl=max(one.ttl, DAY)) for one in write.alternatives)
    return replace(write, alternatives=alternatives)
