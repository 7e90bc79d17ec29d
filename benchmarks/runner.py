"""Contestants take turns, each in its own process.

Rules:
- All contestants of a case are ready before the first turn. Each has a turn in every round, in an order shuffled anew,
  so that a change in the machine's speed affects all alike.
- A turn yields the times of single calls. A round's figure is their median, a contestant's the median of its rounds; a
  ratio is that of two contestants' medians, its spread the quartiles of the ratios of each round.
- A contestant that fails is reported with its error; the others continue.
"""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from multiprocessing.connection import Connection
from random import Random
from typing import Any

from benchmarks.contest import Build, Case, Contestant, Effort, Setting, Target

MODULES = {"limits": "limits", "throttled-py": "throttled", "pyrate-limiter": "pyrate_limiter", "uvloop": "uvloop"}
"""The module of each optional package."""

_PROCESSES = multiprocessing.get_context("forkserver")  # without this process's state, and with imports shared
_PROCESSES.set_forkserver_preload(["benchmarks.cases"])
_P99_NEEDS = 100
"""The fewest single calls for which a p99 means something."""

Say = Callable[[str], None]


def installed(package: str | None) -> bool:
    """Whether a contestant's package is installed; None needs no package."""
    return package is None or find_spec(MODULES[package]) is not None


@dataclass
class _Turns:
    """The results of one contestant's turns, in seconds per unit."""

    rounds: list[float] = field(default_factory=list)
    singles: list[float] = field(default_factory=list)
    calls: int = 0
    failure: str | None = None


def compete(case: Case, setting: Setting, effort: Effort, say: Say) -> dict[str, Any]:
    """Run a case. The result is ready for JSON."""
    runners = [c for c in case.contestants if c.build is not None and installed(c.package)]
    turns = {contestant.name: _Turns() for contestant in runners}
    with ExitStack() as stack:
        opened: dict[str, Connection] = {}
        for number, contestant in enumerate(runners):
            own = replace(setting, prefix=f"{setting.prefix}{case.name}-{number}:")
            assert contestant.build is not None  # noqa: S101 - by the choice of runners
            opened[contestant.name] = stack.enter_context(_process(contestant.build, own))
        for name, connection in opened.items():
            turns[name].failure = _answer(connection)
        say(f"{case.name}: {sum(not t.failure for t in turns.values())} contestants ready")
        rounds = effort.rounds if case.rounds is None else min(effort.rounds, case.rounds)
        for turn in range(effort.warm_up + rounds):
            order = [name for name in opened if turns[name].failure is None]
            Random(turn).shuffle(order)
            for name in order:
                _turn(opened[name], turns[name], effort, counts=turn >= effort.warm_up)
    say(f"{case.name}: done")
    return _summary(case, turns)


def _turn(connection: Connection, turns: _Turns, effort: Effort, *, counts: bool) -> None:
    connection.send((effort.seconds, effort.calls))
    result = _answer(connection)
    if isinstance(result, str):
        turns.failure = result
    elif counts:
        median, singles, made = result
        turns.rounds.append(median)
        turns.singles += singles
        turns.calls += made


def _answer(connection: Connection) -> Any:  # noqa: ANN401 - the times of a turn, a failure, or None: ready
    try:
        return connection.recv()
    except EOFError:
        return "its process ended"


@contextmanager
def _process(build: Build, setting: Setting) -> Iterator[Connection]:
    here, there = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_contestant, args=(there, build, setting), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()  # the contestant then reads EOF, and ends
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


def _contestant(pipe: Connection, build: Build, setting: Setting) -> None:
    """Runs in the contestant's process: get ready and report it, then take a turn per request."""
    try:
        running = build(setting)
    except Exception as error:  # noqa: BLE001 - any error is the answer
        pipe.send(_described(error))
        return
    pipe.send(None)
    gc.collect()
    gc.freeze()  # no collection of what was built in the middle of a call
    try:
        while True:
            seconds, calls = pipe.recv()
            try:
                times = measure(running.call, seconds, calls)
            except Exception as error:  # noqa: BLE001 - as above
                pipe.send(_described(error))
                return
            singles = [seconds / running.units for seconds in times]
            if running.singles is not None:
                singles, running.singles[:] = list(running.singles), []
            pipe.send((statistics.median(times) / running.units, singles, len(times) * running.units))
    except EOFError:
        running.close()


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def measure(call: Callable[[], object], seconds: float, calls: int) -> list[float]:
    """Call repeatedly, at least once: the seconds of each call."""
    times: list[float] = []
    before = time.perf_counter()
    until = before + seconds
    while len(times) < calls and (before < until or not times):
        call()
        after = time.perf_counter()
        times.append(after - before)
        before = after
    return times


# -- results -----------------------------------------------------------------------------------------------------------


def _summary(case: Case, turns: dict[str, _Turns]) -> dict[str, Any]:
    done = {name: t for name, t in turns.items() if t.failure is None and t.rounds}
    return {
        "name": case.name,
        "title": case.title,
        "what": case.what,
        "unit": case.unit,
        "compared_with": case.compared_with,
        "contestants": [_row(case, contestant, turns, done) for contestant in case.contestants],
        "targets": [_judged(target, done) for target in case.targets],
    }


def _row(case: Case, contestant: Contestant, turns: dict[str, _Turns], done: dict[str, _Turns]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": contestant.name, "role": contestant.role, "note": contestant.note}
    own = turns.get(contestant.name)
    if contestant.build is None:
        return row | {"status": "cannot"}
    if own is None:
        return row | {"status": "missing", "note": f"{contestant.package} is not installed"}
    if contestant.name not in done:
        return row | {"status": "failed", "note": own.failure}
    against = contestant.compared_with or case.compared_with
    return row | {
        "status": "measured",
        "median_us": statistics.median(own.rounds) * 1e6,
        "quartiles_us": [seconds * 1e6 for seconds in quartiles(own.rounds)],
        "p99_us": p99(own.singles),
        "rounds": len(own.rounds),
        "calls": own.calls,
        "compared_with": against,
        "ratio": ratio(own.rounds, done[against].rounds) if against in done else None,
    }


def _judged(target: Target, done: dict[str, _Turns]) -> dict[str, Any]:
    """A target and what was reached; `reached` is None if a contestant could not be measured."""
    row: dict[str, Any] = {"what": target.what, "at_most": target.at_most, "at_least": target.at_least}
    row["kind"] = "rate" if target.against is None else "ratio"
    reached: dict[str, Any]
    own, other = done.get(target.contestant), done.get(target.against or target.contestant)
    if own is None or other is None:
        return row | {"reached": None, "met": None}
    if target.against is None:
        rates = [1 / seconds for seconds in own.rounds]
        reached = {"median": statistics.median(rates), "quartiles": quartiles(rates)}
    elif target.at_most is not None:
        reached = ratio(own.rounds, other.rounds)
    else:
        reached = ratio(other.rounds, own.rounds)
    return row | {"reached": reached, "met": met(reached["median"], target.at_most, target.at_least)}


def met(reached: float, at_most: float | None, at_least: float | None) -> bool:
    """Whether a figure is within its bounds."""
    return (at_most is None or reached <= at_most) and (at_least is None or reached >= at_least)


def quartiles(values: Sequence[float]) -> list[float]:
    """The first and the third quartile."""
    if len(values) < 2:
        return [values[0], values[0]]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [first, third]


def p99(seconds: Sequence[float]) -> float | None:
    """Microseconds that one call in a hundred exceeds; None for too few calls."""
    return statistics.quantiles(seconds, n=100)[98] * 1e6 if len(seconds) >= _P99_NEEDS else None


def ratio(values: Sequence[float], floor: Sequence[float]) -> dict[str, Any]:
    """The ratio of the medians, and the quartiles of the ratios of each round."""
    rounds = [value / least for value, least in zip(values, floor, strict=True)]
    return {"median": statistics.median(values) / statistics.median(floor), "quartiles": quartiles(rounds)}
