"""The speed of a replay: a log of many visitors under a policy, in memory.

    python -m benchmarks.replay [--impressions N] [--processes N] [--rich] [--csv] [--json FILE]

DuckDB generates the log from a seed: ten impressions per visitor on average, few visitors with thousands, most with
fewer; forty campaigns, two weeks. CPU time is that of all processes; unlike wall-clock time, it excludes waiting for
other programs. Both start from the opened log and include everything after: numbering, sorting, judging, summing.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb

from retarget import Policy
from retarget.logs import LogOptions
from retarget.replay import open_log, replay

TWO_CAPS = '[defaults]\ncaps = ["3 per day", "10 per 7 days"]'
RICH = """
    timezone = "Europe/Zurich"
    session = "20 minutes"
    [annoyance]
    threshold = ["9 per calendar day", "20 per 7 days"]
    [annoyance.segment.heavy]
    who = ["5 impression campaign-0 within 7 days"]
    threshold = ["6 per calendar day"]
    [caps]
    advertiser = [{ cap = "6 per 2 days", spread = true }]
    [defaults]
    caps = ["6 per session", "3 per calendar day", "10 per 7 days"]
    gap = "90 seconds"
    exclude = ["2 click {campaign} within 3 days"]
    [campaign.campaign-1]
    hours = "07:00-22:00"
    days = "mon-sat"
    [campaign.campaign-2]
    audience = [{ any = ["impression campaign-0 within 2 days", "impression campaign-1 within 2 days"] }]
    [campaign.campaign-3]
    start = 2026-11-04
    end = 2026-11-12
    caps = ["5 per flight"]
"""


def make_log(path: Path, impressions: int) -> None:
    """Write a log, in time order; the same seed makes the same log."""
    with duckdb.connect() as db:
        db.execute("SET threads = 1; SELECT setseed(0.42)")  # with one thread the random numbers come in a fixed order
        db.execute(
            f"""COPY (
                SELECT 1793577600 + CAST(floor(random() * 14 * 86400) AS BIGINT) AS "at",
                    md5(CAST(CAST(floor({impressions // 10} * pow(random(), 2)) AS BIGINT) AS VARCHAR))[:16] AS visitor,
                    'campaign-' || CAST(floor(40 * pow(random(), 1.5)) AS BIGINT) AS campaign,
                    'advertiser-' || CAST(floor(10 * random()) AS BIGINT) AS advertiser
                FROM range({impressions}) ORDER BY "at"
            ) TO '{path}'"""  # noqa: S608 - our own number and path
        )


def cpu_time() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replay", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--impressions", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rich", action="store_true", help="a policy with every kind of rule instead of two caps")
    parser.add_argument("--csv", action="store_true", help="a CSV log instead of Parquet")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    policy = Policy.from_text(RICH if options.rich else TWO_CAPS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"log.{'csv' if options.csv else 'parquet'}"
        make_log(path, options.impressions)
        opening = time.perf_counter(), cpu_time()
        with open_log(LogOptions((path,)), policy) as log:
            opened = time.perf_counter(), cpu_time()
            result = replay(log, policy, processes=options.processes)
            ended = time.perf_counter(), cpu_time()
    (read_wall, read_cpu), (wall, cpu) = (
        [after - before for before, after in zip(*pair, strict=True)] for pair in ((opening, opened), (opened, ended))
    )
    figures = {
        "impressions": result.impressions,
        "suppressed": result.suppressed,
        "visitors": result.visitors,
        "processes": options.processes,
        "read_seconds": read_wall,
        "read_cpu_seconds": read_cpu,
        "seconds": wall,
        "cpu_seconds": cpu,
        "impressions_per_second": result.impressions / wall,
        "impressions_per_cpu_second": result.impressions / cpu,
    }
    print(f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, {platform.machine()}")
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):34} {value:>12,.{0 if value >= 1_000 or isinstance(value, int) else 2}f}")
    if options.json:
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
