"""Measure the constants of `retarget plan`, and the error of its estimates compared with real servers.

python -m benchmarks.capacity [--visitors 1e6] [--first] [--json FILE]   the error of the memory model
python -m benchmarks.capacity --measure [--json FILE]                    the constants of time and of saving
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.capacity_costs import client_times, costs, saving, server_times, time_errors
from benchmarks.capacity_memory import errors
from retarget.operate import parse_number


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capacity", description="Measure the constants of a capacity estimate, or its error."
    )
    parser.add_argument("--visitors", default="1e6", help="visitors to load")
    parser.add_argument("--first", action="store_true", help="only the first layout, for more visitors")
    parser.add_argument("--measure", action="store_true", help="measure the constants instead of the error")
    parser.add_argument("--calls", type=int, default=40_000, help="calls per measured time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there as JSON")
    options = parser.parse_args(arguments)
    visitors = int(parse_number(options.visitors))
    if options.measure:
        found: dict[str, Any] = {
            "server": server_times(options.calls, _say),
            "client": client_times(options.calls // 4, _say),
            "saving": saving(visitors, _say),
        }
        found["costs"] = costs(found["server"], found["client"], found["saving"])
    else:
        _say(f"{visitors:,} visitors: bytes per visitor, measured and computed, and the error of the computed figure")
        found = {"memory": errors(visitors, _say, first=options.first)}
        if not options.first:
            found["times"] = time_errors(visitors, options.calls // 2, _say)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
