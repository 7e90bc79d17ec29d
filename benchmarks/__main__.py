"""Measure retarget against floors and rivals.

    python -m benchmarks [--quick] [--cases decide claim ...] [--json FILE] [--store URL]

Prints caveats first, then the targets, then a table for each case. A full run takes about twenty minutes on two cores.
`python -m benchmarks.charts FILE` draws charts of a result, `python -m benchmarks.page FILE` writes it into the docs.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import growth, machine, memory, rivals, server_cost, servers, tables
from benchmarks.cases import cases
from benchmarks.contest import FULL, QUICK, Effort, Result, Setting
from benchmarks.runner import compete, met

_START = time.perf_counter()
OWN_SERVER = ("memory", "growth", "server")
"""Cases that need a server of their own, since they empty it."""


def names() -> list[str]:
    """The cases that `--cases` takes."""
    return [case.name for case in cases()] + list(OWN_SERVER)


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = _parser().parse_args(arguments)
    wanted = options.cases or names()
    effort = QUICK if options.quick else FULL
    if options.rounds is not None:
        effort = replace(effort, rounds=options.rounds)
    with ExitStack() as stack:
        own = options.store is None
        url = stack.enter_context(servers.server()) if own else options.store
        if not own:
            _say(f"writes to {url.rpartition('@')[2]} under its own prefix, bench:..., and deletes the keys at the end")
        about = machine.about(servers.about(url), quick=options.quick, own_server=own)
        result = Result(about)
        prefix = "bench:" if own else stack.enter_context(servers.own_prefix(url))
        setting = Setting(url, prefix, visitors=1_000, events=20_000) if options.quick else Setting(url, prefix, 6_000)
        for case in cases(quick=options.quick):
            if case.name in wanted:
                result.cases.append(compete(case, setting, effort, _say))
                servers.sweep(url, prefix)
        left_out = [name for name in OWN_SERVER if name in wanted and not own]
        if left_out:
            _say(f"left out, since they need a server of their own: {', '.join(left_out)}")
        elif own:
            _alone(url, wanted, result, effort, quick=options.quick)
    written = result.to_json()
    print(tables.page(written))
    if options.json:
        options.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return result


def _alone(url: str, wanted: Sequence[str], result: Result, effort: Effort, *, quick: bool) -> None:
    """The cases that empty the server."""
    if "memory" in wanted:
        every = list(memory.layouts())
        some = ["limits, moving window", "sorted sets"]
        visitors = 10_000 if quick else 100_000
        chosen = [(every[:1], some)] if quick else [(every[:2], rivals.MAIN), (every[2:], some)]
        for layouts, who in chosen:
            result.memory += memory.measured(url, visitors=visitors, names=who, chosen=layouts, say=_say)
        _memory_target(result.memory)
    if "growth" in wanted:
        sizes = growth.QUICK_SIZES if quick else growth.SIZES
        result.growth = growth.measured(url, dict(sizes), min(effort.rounds, 40), _say)
    if "server" in wanted:
        result.server_cost = server_cost.measured(url, 200 if quick else 5_000, _say)


def _memory_target(rows: list[dict[str, Any]]) -> None:
    """Attach the target to its row: the first of retarget."""
    row = next(row for row in rows if row["role"] == "retarget")
    reached = row["beside_set"]
    row["target"] = {
        "what": "memory, 8 impressions over 4 campaigns, compared with SET",
        "kind": "ratio",
        "at_most": memory.TARGET,
        "at_least": None,
        "reached": {"median": reached, "quartiles": None},
        "met": met(reached, memory.TARGET, None),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure retarget against floors and rivals."
    )
    parser.add_argument(
        "--cases", nargs="+", choices=names(), metavar="CASE", help=f"which cases: {', '.join(names())}"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, within 90 seconds: a smoke test")
    parser.add_argument("--rounds", type=int, help="turns per contestant")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there as JSON")
    parser.add_argument("--store", metavar="URL", help="measure this server instead of starting one")
    return parser


def _say(text: str) -> None:
    print(f"{time.perf_counter() - _START:6.1f} s  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped too
    main()
