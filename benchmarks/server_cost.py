"""Server time of a call: by the server's own clock around each command (INFO commandstats), and CPU time of the whole
process, which includes reading sockets and parsing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import redis

from benchmarks import floors, ours, rivals
from benchmarks.contest import Build, Setting
from benchmarks.runner import Say, installed
from benchmarks.servers import client

_SCRIPTS = ("evalsha", "eval")


def jobs() -> list[tuple[str, str, str | None, Build]]:
    """Each job: name, role, the package it needs, and its `build`."""
    own: list[tuple[str, str, str | None, Build]] = [
        (floors.GET, "floor", None, floors.get),
        (floors.HGETALL, "floor", None, floors.hgetall),
        (floors.EVALSHA, "floor", None, floors.evalsha),
        ("decide", "retarget", None, ours.decide),
        ("claim, new visitor", "retarget", None, ours.claim_new),
        ("claim, 20 impressions", "retarget", None, ours.claim),
        ("claim, first three capped", "retarget", None, partial(ours.claim, capped=True)),
        ("claim with hold, confirm", "retarget", None, ours.hold),
        ("record", "retarget", None, ours.record),
        ("record, a new campaign", "retarget", None, partial(ours.record, new=True)),
    ]
    for job in ("decide", "claim", "record"):
        for name in rivals.MAIN:
            if name not in rivals.CANNOT.get(job, {}):
                build = partial(rivals.build, name=name, job=job)
                own.append((f"{job}: {name}", "rival", rivals.RIVALS[name][0], build))
    return own


def measured(url: str, calls: int, say: Say) -> list[dict[str, Any]]:
    """A row for each job; rivals, which need many commands, are called less often."""
    rows = []
    with client(url) as connected:
        for name, role, package, build in jobs():
            if not installed(package):
                continue
            connected.flushall()
            running = build(Setting(url, "bench:", visitors=max(10, calls // 3)))
            for _ in range(5):
                running.call()
            often = calls if role != "rival" else max(5, calls // 20)
            rows.append({"name": name, "role": role, "calls": often} | _spent(connected, running.call, often))
            running.close()
        connected.flushall()
    say(f"server: {len(rows)} rows")
    return rows


def _spent(connected: redis.Redis, call: Callable[[], object], often: int) -> dict[str, Any]:
    before, cpu = _commands(connected), _cpu(connected)
    for _ in range(often):
        call()
    cpu, after = _cpu(connected) - cpu, _commands(connected)
    spent: dict[str, dict[str, float]] = {}
    for command, (calls, microseconds) in after.items():
        known = before.get(command, (0, 0))
        if calls > known[0]:
            spent[command] = {"calls": (calls - known[0]) / often, "us": (microseconds - known[1]) / often}
    # A script's time includes the commands it calls, which are counted separately as well.
    outer = {name: cost for name, cost in spent.items() if name in _SCRIPTS} or spent
    own = sum(cost["us"] for cost in outer.values())
    return {
        "commands": spent,
        "us": own,
        "per_second_and_core": 1e6 / own if own else None,
        "cpu_us": cpu * 1e6 / often,
    }


def _commands(connected: redis.Redis) -> dict[str, tuple[int, int]]:
    info: dict[str, dict[str, int]] = connected.info("commandstats")
    counted = {name.removeprefix("cmdstat_"): (row["calls"], row["usec"]) for name, row in info.items()}
    return {name: row for name, row in counted.items() if name.split("|")[0] not in ("info", "client", "hello")}


def _cpu(connected: redis.Redis) -> float:
    info = connected.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])
