"""What tests share by name: which servers there are, and the types of the fixtures."""

from __future__ import annotations

from collections.abc import Callable

from retarget.retargeter import Retargeter
from tests.support import servers
from tests.support.servers import Server

REAL = [name for name in ("redis", "valkey") if servers.available(name)]
KINDS = ["memory", *REAL]

Start = Callable[[str], Server]
Ads = Callable[..., Retargeter]


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
