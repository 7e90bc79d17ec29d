"""A local memory of visitors found blocked: for a few seconds they are answered without asking the store.

Rules:
- What is kept is the visitor's timelines as they were read, never a verdict. A call decides on them by its own policy
  and time, and answers from them only if everything is denied: so a cap that expires is noticed at once.
- A change of the visitor in this process drops what is kept. A change in another process is noticed when the memory
  expires: so it is off unless asked for.
- Bounded: the oldest entry is evicted first.
"""

from __future__ import annotations

from datetime import timedelta
from threading import Lock

from retarget.calls.inputs import duration_seconds
from retarget.errors import ConfigError
from retarget.timelines import State

MOST_VISITORS = 10_000
"""How many visitors are remembered."""

LONGEST = 60
"""The longest time, in seconds, that an entry may be used."""


def denials_for(duration: str | timedelta | None) -> Denials | None:
    """The memory for this duration; None for None. Raises ConfigError."""
    if duration is None:
        return None
    try:
        seconds = duration_seconds(duration)
    except ValueError as error:
        raise ConfigError(f'remember_denials={duration!r:.60}: write a duration such as "5 seconds"') from error
    if not 1 <= seconds <= LONGEST:
        raise ConfigError(f"remember_denials={duration!r:.60}: from 1 to {LONGEST} seconds")
    return Denials(int(seconds))


class Denials:
    """Timelines of visitors found blocked, each used for at most `seconds`."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._kept: dict[bytes, tuple[int, State]] = {}
        self._lock = Lock()
        self.generation = 0
        """Counts drops: timelines read in an earlier generation may be out of date, and are not kept."""

    def get(self, key: bytes, now: int) -> State | None:
        """The visitor's timelines, if they are fresh enough at `now`."""
        kept = self._kept.get(key)
        return kept[1] if kept is not None and 0 <= now - kept[0] <= self._seconds else None

    def put(self, key: bytes, state: State, now: int, generation: int) -> None:
        """Keep what was read at `now`, unless something was dropped since this generation."""
        with self._lock:
            if generation == self.generation:
                self._kept.pop(key, None)
                self._kept[key] = (now, state)
                if len(self._kept) > MOST_VISITORS:
                    del self._kept[next(iter(self._kept))]

    def drop(self, key: bytes | None = None) -> None:
        """Drop one visitor's timelines; without a key, everybody's."""
        with self._lock:
            self.generation += 1
            if key is None:
                self._kept.clear()
            else:
                self._kept.pop(key, None)
