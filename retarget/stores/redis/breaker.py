"""The breaker of one server: who is known to be down is not asked, but for one call now and then.

Rules:
- Three failures in a row, and the server is known to be down; any answer, be it an error, and it is known to be up.
- While it is down, calls fail at once. One call is let through after 50 ms, the next after twice as long, at most a
  second, and may spend half its time: so no call waits a full time-out for a server known to be down.
- Time is an argument: seconds of a clock that only goes forward.
"""

from __future__ import annotations

import logging

from retarget.timelines import Health

TRIP = 3
"""So many failures in a row, and a server is known to be down."""

FIRST, LONGEST = 0.05, 1.0
"""Seconds until a server that is down is asked again, and the longest pause this doubles to."""

_log = logging.getLogger("retarget")


class Breaker:
    """What is known of one server. Threads may share it: the worst that a race costs is a second probe."""

    __slots__ = ("_next", "_pause", "error", "failures", "server")

    def __init__(self, server: str) -> None:
        self.server = server
        self.failures = 0
        self.error = ""
        self._pause = FIRST
        self._next = 0.0

    def share(self, now: float) -> float:
        """The share of its time that a call may spend on this server: all, half for a probe, or none."""
        if self.failures < TRIP:
            return 1
        if now < self._next:
            return 0
        self._pause = min(2 * self._pause, LONGEST)
        self._next = now + self._pause
        return 0.5

    def answered(self) -> None:
        """The server answered."""
        if self.failures >= TRIP:
            _log.warning("%s answers again", self.server)
        if self.failures:
            self.failures, self.error, self._pause = 0, "", FIRST

    def failed(self, error: str, now: float) -> None:
        """The server did not answer, or could not be reached."""
        self.failures += 1
        self.error = error
        if self.failures == TRIP:
            self._next = now + self._pause
            _log.warning("%s is down after %d failures in a row, the last: %s", self.server, TRIP, error)

    def said(self) -> str:
        """Why a call is not even tried."""
        return (
            f"{self.server} is known to be down after {self.failures} failures in a row (the last: {self.error}); "
            f"it is asked again within {LONGEST:.0f} s"
        )

    def health(self) -> Health:
        """What is known of the server."""
        return Health(self.server, self.failures < TRIP, self.failures, self.error)
