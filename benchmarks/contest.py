"""What is measured: cases, the contestants of each, and their targets.

Rules:
- A case is one job. Its contestants do that job, or say why they cannot.
- A contestant is built and called in its own process, so `build` is a module's function, which can be pickled.
- A call does `units` of the job; a figure is always the time of one unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["floor", "retarget", "rival"]


@dataclass(frozen=True)
class Setting:
    """The server and the sizes that a contestant works with."""

    url: str
    prefix: str
    """The prefix of every key that this contestant writes."""
    visitors: int = 4_000
    """Calls cycle through this many visitors."""
    events: int = 500_000
    """Rows of the replayed log."""


@dataclass(frozen=True)
class Running:
    """A contestant that is ready to be called."""

    call: Callable[[], object]
    units: int = 1
    close: Callable[[], object] = lambda: None
    singles: list[float] | None = None
    """Seconds of single units, if a call runs several at once: filled by `call`, emptied by the reader."""


Build = Callable[[Setting], Running]


@dataclass(frozen=True)
class Contestant:
    """One way to do the job, or a reason why it cannot be done."""

    name: str
    role: Role
    build: Build | None = None
    package: str | None = None
    """The distribution it needs; if not installed, the contestant is reported as missing."""
    note: str = ""
    """What it does differently, or why it cannot do the job."""
    compared_with: str | None = None
    """The contestant its time is divided by; None: the case's."""


@dataclass(frozen=True)
class Target:
    """A ratio of two contestants' times and its bound: `at_most` for a cost, `at_least` for a speed-up.

    With `against` None it is a rate: units of the job per second.
    """

    what: str
    contestant: str
    against: str | None
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True)
class Case:
    """A job and its contestants."""

    name: str
    title: str
    what: str
    contestants: Sequence[Contestant]
    compared_with: str
    """The contestant that the others' times are divided by."""
    targets: Sequence[Target] = ()
    unit: Literal["call", "visitor", "event"] = "call"
    rounds: int | None = None
    """The most rounds, for jobs whose calls take seconds."""


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int
    seconds: float
    """Seconds of one turn, of at least one call."""
    calls: int
    """The most calls in a turn."""
    warm_up: int = 2
    """Turns that are not counted."""


FULL = Effort(rounds=60, seconds=0.05, calls=300)
QUICK = Effort(rounds=9, seconds=0.01, calls=100, warm_up=1)

Row = Mapping[str, Any]


@dataclass
class Result:
    """Everything that tables and charts need."""

    about: dict[str, Any]
    cases: list[dict[str, Any]] = field(default_factory=list)
    memory: list[dict[str, Any]] = field(default_factory=list)
    growth: list[dict[str, Any]] = field(default_factory=list)
    server_cost: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": 1,
            "about": self.about,
            "cases": self.cases,
            "memory": self.memory,
            "growth": self.growth,
            "server_cost": self.server_cost,
        }
