"""Who says, in a replay, which impressions are served: a store, as the ad server would.

A store is asked in time order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

from retarget.errors import StoreError
from retarget.events import Candidate, Event, Subject
from retarget.policy import Policy
from retarget.replay.figures import Denial, denial
from retarget.replay.meanings import Meaning
from retarget.retargeter import Retargeter
from retarget.timelines import DAY, SKEW, Answer, Store, Write

_PENDING = 500


class OnStore:
    """Claims and records through a retargeter. Events wait, and go together, until the visitor is to be shown an ad."""

    def __init__(self, policy: Policy, store: Store, prefix: str) -> None:
        self.prefix = prefix
        self._now = self._begun = 0
        self._known: set[str] = set()
        self._pending: list[Event] = []
        self._waiting: set[str] = set()
        self._dropped = 0
        self._ads = Retargeter(policy, _Patient(store), clock=lambda: self._now, prefix=prefix)

    def take(self, visitor: str, meaning: Meaning, at: int) -> Denial | None:
        """Remember an event; or count an impression if it may be shown, or say why not."""
        self._known.add(visitor)
        events = meaning.events
        if meaning.ad is not None:
            why = self._show(visitor, meaning.ad, at, meaning.zone)
            if why is not None:
                return why
            events = events[1:]
        for event, subject in events:
            self._happened(visitor, event, subject, at)
        return None

    def _show(self, visitor: str, ad: Candidate, at: int, zone: ZoneInfo) -> Denial | None:
        if visitor in self._waiting:
            self._send()
        self._now = at
        if self._ads.claim(visitor, (ad,), timezone=zone) is not None:
            return None
        return denial(self._ads.decide(visitor, (ad,), timezone=zone)[ad])

    def _happened(self, visitor: str, event: str, subject: Subject | None, at: int) -> None:
        # They are all judged against the first one's moment, so none is late; and none may be far ahead of it.
        if self._pending and (len(self._pending) >= _PENDING or at > self._begun + SKEW):
            self._send()
        if not self._pending:
            self._begun = at
        self._pending.append(Event(visitor, event, subject, at))
        self._waiting.add(visitor)

    def _send(self) -> None:
        self._now = self._begun
        self._dropped += self._ads.record_many(self._pending).count(False)
        self._pending.clear()
        self._waiting.clear()

    def finish(self) -> int:
        """Nothing follows. How many events found no room."""
        if self._pending:
            self._send()
        return self._dropped

    def forget(self) -> None:
        """Leave nothing in the store."""
        for visitor in self._known:
            self._ads.forget(visitor)


class _Patient:
    """A store that keeps a visitor for a day of its own time at least: a log may be denser than its replay is fast."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.read, self.read_many, self.delete, self.close = store.read, store.read_many, store.delete, store.close
        self.health = store.health

    def write(self, write: Write) -> Answer:
        return self._store.write(_longer(write))

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        return self._store.write_many([_longer(write) for write in writes])


def _longer(write: Write) -> Write:
    longer = tuple(replace(choice, ttl=max(choice.ttl, DAY)) for choice in write.alternatives)
    return replace(write, alternatives=longer)
