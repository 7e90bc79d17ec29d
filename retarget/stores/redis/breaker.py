"""A circuit breaker per server: a server that is down only gets probes.

Rules:
- Three failures in a row, and the server is down. Any answer, even an error, and it is up.
- While it is down, calls fail at once. A probe is let through after 50 ms, then after twice as long each time, at most
  a second. It may spend half of its call's time, so no call waits a full timeout for a server that is down.
- Time is an argument: seconds of a monotonic clock.
"""

from __future__ import annotations

import logging

from retarget.timelines import Health

TRIP_AFTER = 3
"""Failures in a row after which a server is down."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds until the first probe of a server that is down, and the longest pause between two probes."""

_log = logging.getLogger("retarget")


class Breaker:
    """What is known of one server. Threads may share it: the worst that a race costs is a second probe."""

    __slots__ = ("_next_probe", "_pause", "error", "failures", "server")

    def __init__(self, server: str) -> None:
        self.server = server
        self.failures = 0
        self.error = ""
        self._pause = FIRST_PAUSE
        self._next_probe = 0.0

    def share(self, now: float) -> float:
        """The share of its time that a call may spend on this server: 1, 0.5 if it is the probe, or 0."""
        if self.failures < TRIP_AFTER:
            return 1
        if now < self._next_probe:
            return 0
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._next_probe = now + self._pause
        return 0.5

    def answered(self) -> None:
        """The server answered, possibly with an error."""
        if self.failures >= TRIP_AFTER:
            _log.warning("%s answers again", self.server)
        if self.failures:
            self.failures, self.error, self._pause = 0, "", FIRST_PAUSE

    def failed(self, error: str, now: float) -> None:
        """The server did not answer, or could not be reached."""
        self.failures += 1
        self.error = error
        if self.failures == TRIP_AFTER:
            self._next_probe = now + self._pause
            _log.warning("%s is down after %d failures in a row, the last: %s", self.server, TRIP_AFTER, error)

    def reason(self) -> str:
        """Why a call was not even tried."""
        return (
            f"{self.server} is known to be down after {self.failures} failures in a row (the last: {self.error}); "
            f"the next probe is due within {LONGEST_PAUSE:.0f} s"
        )

    def health(self) -> Health:
        """Whether the server is up, its failures in a row, and the last error."""
        return Health(self.server, self.failures < TRIP_AFTER, self.failures, self.error)
