"""What tests share by name: which servers there are, and the types of the fixtures."""

from __future__ import annotations

import os
from collections.abc import Callable

from retarget.retargeter import Retargeter
from tests.support import servers
from tests.support.servers import Server

REAL = [name for name in ("redis", "valkey") if servers.available(name)]
"""The servers on this machine: Debian's Redis where it is installed, and the Valkey that a wheel brings."""
KINDS = ["memory", *REAL]

NEED_REDIS = [] if "redis" in REAL else ["server/test_tls.py", "unit/operate/test_used_memory.py"]
"""Files not collected without Debian's Redis: the wheel's Valkey has no TLS and no jemalloc."""

Start = Callable[[str], Server]
Ads = Callable[..., Retargeter]


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def in_ci() -> bool:
    """Whether `CI` is set, as CI services do: then every server must be there."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")
