"""A local memory of visitors found blocked: they are answered without asking the store, for a few seconds.

Rules:
- What is kept is her timelines as they were read, never a verdict: a call decides on them by the policy and the moment
  of its own, and only if everything is denied is that the answer. So a cap that lets go is noticed at once.
- Any call of this process that changes her drops what is kept. What other processes change is noticed when it is too
  old: so it is off unless asked for.
- Bounded: the oldest goes first.
"""

from __future__ import annotations

from datetime import timedelta
from threading import Lock

from retarget.calls.inputs import seconds_of
from retarget.errors import ConfigError
from retarget.timelines import State

MOST = 10_000
"""So many visitors are remembered."""


LONGEST = 60
"""Seconds that a memory may be believed at most."""


def denials_for(duration: str | timedelta | None) -> Denials | None:
    """The memory asked for, if one is. Raises ConfigError."""
    if duration is None:
        return None
    try:
        seconds = seconds_of(duration)
    except ValueError as error:
        raise ConfigError(f'remember_denials={duration!r:.60}: write a duration such as "5 seconds"') from error
    if not 1 <= seconds <= LONGEST:
        raise ConfigError(f"remember_denials={duration!r:.60}: from 1 to {LONGEST} seconds")
    return Denials(int(seconds))


class Denials:
    """Timelines of visitors found blocked, believed for `seconds`."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._kept: dict[bytes, tuple[int, State]] = {}
        self._lock = Lock()
        self.turn = 0
        """How often something was dropped: what was read before is not kept."""

    def get(self, key: bytes, now: int) -> State | None:
        """Her timelines, if they are fresh enough to be believed at `now`."""
        kept = self._kept.get(key)
        return kept[1] if kept is not None and 0 <= now - kept[0] <= self._seconds else None

    def put(self, key: bytes, state: State, now: int, turn: int) -> None:
        """Keep what was read at `now`, unless something was dropped since `turn`."""
        with self._lock:
            if turn == self.turn:
                self._kept.pop(key, None)
                self._kept[key] = (now, state)
                if len(self._kept) > MOST:
                    del self._kept[next(iter(self._kept))]

    def drop(self, key: bytes | None = None) -> None:
        """She has changed; or, without a key, everything has."""
        with self._lock:
            self.turn += 1
            if key is None:
                self._kept.clear()
            else:
                self._kept.pop(key, None)
