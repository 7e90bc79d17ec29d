"""Where and with what it was measured, and what the figures cannot tell."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "retarget",
    "redis",
    "hiredis",
    "pydantic",
    "duckdb",
    "limits",
    "throttled-py",
    "pyrate-limiter",
    "uvloop",
)

CAVEATS = (
    "Loopback is the fastest network there is. Over a real one a round trip costs more, so libraries that need one "
    "gain on those that need many.",
    "One client, one thread. How many clients a server can take follows from the server's own time per call.",
    "Microseconds vary from run to run; compare the ratios. Each is a ratio of medians of one run, in which all "
    "contestants took turns; the spread is from the first to the third quartile, round by round.",
    "Client and server share the processors of one machine.",
    "Rivals do not take the time as an argument. So the impressions of several days are recorded at once; their "
    "windows contain the same number of impressions.",
    "Rate limiters were made for another job: one key, one limit. They are here because people use them for caps.",
)


def about(server: dict[str, Any], *, quick: bool, own_server: bool) -> dict[str, Any]:
    """The head of a result."""
    installed = {name: _version(name) for name in PACKAGES}
    caveats = [*CAVEATS]
    busy = os.getloadavg()[0]
    cores = os.cpu_count() or 1
    if quick:
        caveats.insert(0, "A quick run: small sizes, few rounds. It shows that all works; do not quote it.")
    if busy > cores / 2:
        caveats.insert(0, f"The machine was not idle when it began: a load of {busy:.1f} on {cores} cores.")
    if not own_server:
        caveats.append(
            "A server that is not our own: keys were written under a prefix of our own and deleted at the end; memory, "
            "growth and the server's time need a server to themselves and were left out."
        )
    elif not server["allocator"].startswith("jemalloc"):
        caveats.append(f"The server's allocator is {server['allocator']}, not jemalloc: do not quote its memory.")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "caveats": caveats,
        "machine": {"cpu": _cpu(), "cores": cores, "system": platform.system(), "machine": platform.machine()},
        "versions": {"python": platform.python_version()} | {name: v for name, v in installed.items() if v},
        "missing": [name for name, found in installed.items() if found is None],
        "server": server,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
