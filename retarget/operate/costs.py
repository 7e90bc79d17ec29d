"""Measured constants of time, saving and fragmentation, from which the capacity estimate computes.

Rules:
- Times are microseconds, rates bytes per second. Each constant says what was measured; the class says on what.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured constants; `python -m benchmarks.capacity --measure` measures another machine's.

    These were measured on Redis 7.0.15 (Debian), Python 3.11.7, redis-py 8.1.0, a virtual x86_64 machine with 2 cores.
    Server times are CPU time of the main thread, including reading sockets and parsing, with 32 connections; the
    minimum of five rounds, since other work on the machine only adds.
    """

    read_us: float = 6.8
    """Reading a visitor without timelines."""
    read_timeline_us: float = 0.09
    """Added by each of the visitor's timelines."""
    write_us: float = 20.0
    """A claim or a record, without the additions below."""
    write_entry_us: float = 4.0
    """Added by each timeline that the event enters."""
    write_guard_us: float = 1.2
    """Added by each guard of a claim."""
    write_timeline_us: float = 0.7
    """Added by each of the visitor's timelines: all are scanned when one begins and on the first entry of a day."""
    decide_client_us: float = 27.0
    """A decision in the ad server's process, without candidates; sync client, one call at a time."""
    candidate_client_us: float = 0.14
    """Added by each candidate."""
    claim_client_us: float = 53.0
    record_client_us: float = 50.0
    save_rate: float = 44e6
    """Bytes of `used_memory` that a server saves per second (SAVE to a local disk): 44 to 125e6 in three runs."""
    write_pages: float = 2.8
    """Pages of memory that a write copies while a child saves, with a million visitors."""
    fragmentation: float = 1.11
    """Resident memory divided by `used_memory`, after three times replacing a third of the visitors."""

    @classmethod
    def of(cls, measured: dict[str, float]) -> Costs:
        """Constants by name, with the defaults for those not given. Raises TypeError, ValueError."""
        return cls(**{name: float(value) for name, value in measured.items()})

    def read(self, timelines: float) -> float:
        """Server microseconds of one decision."""
        return self.read_us + timelines * self.read_timeline_us

    def write(self, entries: float, guards: float, timelines: float) -> float:
        """Server microseconds of one claim or record."""
        added = entries * self.write_entry_us + guards * self.write_guard_us + timelines * self.write_timeline_us
        return self.write_us + added
