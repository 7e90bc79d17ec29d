"""Measured constants of time, saving and fragmentation: what the capacity estimate multiplies by.

Rules:
- Times are microseconds, rates bytes per second. Each constant says what was measured, and the class where.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured constants; `python -m benchmarks.capacity --measure` gives those of another machine.

    These are of Redis 7.0.15 (Debian), Python 3.11.7, redis-py 8.1.0, a virtual x86_64 machine with 2 cores. Server
    times are processor time of the main thread, reading sockets and parsing included, with 32 connections; the least of
    five rounds, for other work on the machine only adds.
    """

    read_us: float = 6.8
    """A visitor read without timelines."""
    read_timeline_us: float = 0.09
    """Each of her timelines more."""
    write_us: float = 20.0
    """A claim or a record, without what follows."""
    write_entry_us: float = 4.0
    """Each timeline that the event enters."""
    write_guard_us: float = 1.2
    """Each question of the rules that a claim must pass."""
    write_timeline_us: float = 0.7
    """Each of her timelines, which are all looked through when one begins and on the first entry of a day."""
    decide_client_us: float = 27.0
    """A decision in the ad server's process, without what follows; synchronous client, one call at a time."""
    candidate_client_us: float = 0.14
    """Each candidate more."""
    claim_client_us: float = 53.0
    record_client_us: float = 50.0
    save_rate: float = 44e6
    """Bytes of `used_memory` that a server saves in a second (SAVE to a local disk): 44 to 125e6 in three runs."""
    write_pages: float = 2.8
    """Pages of memory that a write copies while a child saves, with a million visitors."""
    fragmentation: float = 1.11
    """Resident memory beside `used_memory`, after a third of the visitors went and others came, three times over."""

    @classmethod
    def of(cls, measured: dict[str, float]) -> Costs:
        """Constants by their names, those of this table for what is not given. Raises TypeError, ValueError."""
        return cls(**{name: float(value) for name, value in measured.items()})

    def read(self, timelines: float) -> float:
        """Server microseconds of one decision."""
        return self.read_us + timelines * self.read_timeline_us

    def write(self, entries: float, guards: float, timelines: float) -> float:
        """Server microseconds of one claim or record."""
        each = entries * self.write_entry_us + guards * self.write_guard_us + timelines * self.write_timeline_us
        return self.write_us + each
