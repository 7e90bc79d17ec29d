"""Commands run in this process: their exit codes and output."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

MONDAY = 1_793_577_600
"""Monday 2026-11-02, 00:00 UTC."""

JOURNEY = """
timezone = "Europe/Zurich"

[annoyance]
threshold = ["4 per day"]

[campaign.brand]
caps = ["2 per hour"]

[campaign.comeback]
audience = ["visit shop within 7 days"]

[campaign.invited]
audience = ["2 click brand within 7 days"]

[campaign.over]
end = 2026-10-01
"""
"""A campaign that is used up, one that may be shown, one that waits for a click, one that has ended."""


class Ran(NamedTuple):
    """The exit code and output of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


def lines_of(ran: Ran) -> list[str]:
    """The printed lines, with runs of spaces collapsed."""
    assert all(line == line.rstrip() for line in ran.out.splitlines())
    return [" ".join(line.split()) for line in ran.out.splitlines()]
