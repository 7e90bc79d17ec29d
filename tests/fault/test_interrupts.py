"""Interrupted at any point, a call leaves nothing behind that the next one would take for its answer, or wait for.

A process is interrupted thousands of times in the middle of its calls: by a signal whose handler raises, as with Ctrl-C
or a worker's soft time-out, and by exceptions that another thread sends. Each visitor's data name the visitor, so an
answer that belongs to another is recognised. The storm runs in its own process, so that a hang ends only that.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import logging
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis

from retarget import Policy, Retargeter, StoreError
from tests.support.fixtures import REAL, Start
from tests.support.servers import PATIENCE, Server
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
NOW = 1_794_312_000
VISITORS = 40
CAMPAIGNS = [f"c{n}" for n in range(VISITORS)]
POLICY = """
[defaults]
caps = ["1 per day"]
[campaign.tally]
audience = ["10000 visit tally"]
"""
CONNECTIONS = 64
"""The most that a client built from a URL opens; a caller's own clients get as many."""

HANGS = 120
"""Seconds after which the storm counts as hanging; it usually takes a tenth of them."""


class Deadline(Exception):  # noqa: N818 - the usual name in task queues
    """What a worker's soft time-out raises: an Exception, which much code catches."""


class Ended(BaseException):
    """What ends a greenlet or a task: not an Exception."""


KINDS: list[type[BaseException]] = [KeyboardInterrupt, Deadline, TimeoutError, Ended]


class Storm:
    """Random calls, each with an answer that only its visitor can get, and a tally of what they came to."""

    def __init__(self, ads: Retargeter, seed: int) -> None:
        self.ads = ads
        self.chance = random.Random(seed)
        self.became = Counter[str]()
        self.counted = Counter[str]()
        self.tried = Counter[str]()

    def prepare(self) -> None:
        """Each visitor has claimed the campaign with their number, and nothing else."""
        for n in range(VISITORS):
            assert self.ads.claim(f"v{n}", [f"c{n}"], id="own") is not None

    def one(self) -> tuple[Callable[[], bool | None], str]:
        """A call and its name. It returns True for the visitor's own answer, None for the policy's."""
        n = self.chance.randrange(VISITORS)
        visitor, own = f"v{n}", f"c{n}"
        calls = [self._decide, self._decide, self._claim, self._record, self._repeat, self._export, self._many]
        call = self.chance.choice(calls)
        return lambda: call(visitor, own), call.__name__

    def _decide(self, visitor: str, own: str) -> bool | None:
        decision = self.ads.decide(visitor, CAMPAIGNS)
        return None if decision.degraded else set(CAMPAIGNS) - set(decision.eligible) == {own}

    def _claim(self, visitor: str, own: str) -> bool | None:
        claim = self.ads.claim(visitor, CAMPAIGNS, id="own")
        return None if claim is None else claim.repeated and claim.campaign == own

    def _record(self, visitor: str, own: str) -> bool | None:
        self.tried[visitor] += 1
        done = self.ads.record(visitor, "visit", "tally")
        self.counted[visitor] += 1
        return done is True

    def _repeat(self, visitor: str, own: str) -> bool | None:
        return self.ads.record(visitor, "impression", own, id="own") is False

    def _export(self, visitor: str, own: str) -> bool | None:
        return (
            {f"impression {own}"} <= set(self.ads.export(visitor)["timelines"]) <= {f"impression {own}", "visit tally"}
        )

    def _many(self, visitor: str, own: str) -> bool | None:
        numbers = self.chance.sample(range(VISITORS), 5)
        decisions = list(self.ads.decide_many([f"v{n}" for n in numbers], CAMPAIGNS))
        if any(decision.degraded for decision in decisions):
            return None
        return [set(CAMPAIGNS) - set(d.eligible) for d in decisions] == [{f"c{n}"} for n in numbers]

    def note(self, name: str, answer: bool | None) -> None:  # noqa: FBT001
        self.became[{True: "right", False: f"wrong {name}", None: "degraded"}[answer]] += 1

    def calm(self) -> None:
        """After the storm: the store answers each call with the visitor's own data, and nothing was counted twice."""
        for n in range(VISITORS):
            visitor, own = f"v{n}", f"c{n}"
            for call in (self._decide, self._claim, self._record, self._repeat, self._export, self._many):
                assert call(visitor, own) is True, (call.__name__, self.became)
            shown = self.ads.export(visitor)["timelines"]
            assert len(shown[f"impression {own}"]["at"]) == 1
            assert self.counted[visitor] <= len(shown["visit tally"]["at"]) <= self.tried[visitor]


def interrupted_by_signals(storm: Storm, times: int) -> None:
    """Interrupt calls by a timer that goes off somewhere in them, until `times` were cut short."""
    armed: list[type[BaseException]] = []

    def goes_off(number: int, frame: FrameType | None) -> None:
        if armed:
            raise armed.pop()("interrupted")

    signal.signal(signal.SIGALRM, goes_off)
    usual, cut = 1e-3, 0
    while cut < times:
        call, name = storm.one()
        kind, after = storm.chance.choice(KINDS), storm.chance.uniform(1e-6, usual)
        try:
            try:
                armed.append(kind)
                signal.setitimer(signal.ITIMER_REAL, after)
                answer = call()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                cut += not armed
                usual *= 0.99 if armed else 1.005  # so that most interrupts hit a call, at any point
                armed.clear()
            storm.note(name, answer)
        except BaseException as error:  # noqa: BLE001 - raised as it is, or as the StoreError it caused
            storm.became[type(error).__name__] += 1
        call, name = storm.one()
        try:
            storm.note(name, call())
        except StoreError as error:  # known to be down: an interrupt that is an Exception counts as a failure
            storm.became[str(error)[:200]] += 1


def _reached(laps: list[int], goal: int) -> bool:
    return sum(laps) >= goal


def interrupted_by_threads(storm: Storm, times: int) -> None:
    """Four threads share the retargeter; exceptions are sent into each, one at a time, `times` in all."""
    storms = [Storm(storm.ads, seed) for seed in range(4)]
    over, ready, laps = [False], [False] * len(storms), [0] * len(storms)

    def rage(number: int) -> None:
        mine, ready[number] = storms[number], True  # may be interrupted once from here on
        while not over[0]:
            laps[number] += 1
            call, name = mine.one()
            try:
                mine.note(name, call())
            except Exception as error:  # noqa: BLE001 - a StoreError caused by an interrupt
                mine.became[type(error).__name__] += 1

    def work(number: int) -> None:
        while not over[0]:
            with suppress(Ended):
                try:
                    rage(number)
                except Ended:
                    storms[number].became["Ended"] += 1

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(len(storms))]
    for thread in threads:
        thread.start()
    until(lambda: all(laps), "each thread's first call")
    last = [0.0] * len(storms)
    while times:
        number = storm.chance.randrange(len(storms))
        now = time.monotonic()
        if ready[number] or now > last[number] + 1:  # after a second: one raised in a destructor is lost
            ready[number], last[number], times = False, now, times - 1
            who = ctypes.c_ulong(threads[number].ident or 0)
            assert ctypes.pythonapi.PyThreadState_SetAsyncExc(who, ctypes.py_object(Ended)) == 1
        goal = sum(laps) + storm.chance.randrange(3)
        until(partial(_reached, laps, goal), "some calls of the others")
    done = list(laps)
    until(lambda: all(lap > before + 1 for lap, before in zip(laps, done, strict=True)), "two more calls of each")
    over[0] = True
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread hangs"
    for each in storms:
        storm.became += each.became
        storm.counted += each.counted
        storm.tried += each.tried


def client(kind: str, port: int) -> str | redis.Redis:
    """The store of a retargeter: a URL, or the caller's own client, in either protocol."""
    if kind == "url":
        return f"redis://127.0.0.1:{port}/0"
    options: dict[str, Any] = {"protocol": 2} if kind == "given" else {}
    pool = redis.ConnectionPool(port=port, max_connections=CONNECTIONS, socket_timeout=5, **options)
    return redis.Redis(connection_pool=pool)


def main(kind: str, by: str, port: int, times: int) -> None:
    """The storm, in a process of its own."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(HANGS - 10, exit=True)
    logging.disable()
    sys.unraisablehook = lambda _: None  # an interrupt in a destructor answers nobody
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ads = Retargeter(Policy.from_text(POLICY), client(kind, port), clock=lambda: NOW, timeout=5)
    with redis.Redis(port=port) as watching:
        watching.flushall()
        others = watching.info("clients")["connected_clients"]
    storm = Storm(ads, seed=7)
    storm.prepare()
    {"signals": interrupted_by_signals, "threads": interrupted_by_threads}[by](storm, times)
    gc.collect()
    storm.calm()
    with redis.Redis(port=port) as watching:
        connections = watching.info("clients")["connected_clients"] - others
    assert connections <= CONNECTIONS, connections
    assert not [what for what in storm.became if what.startswith("wrong")], storm.became
    print(dict(storm.became), connections)  # noqa: T201 - shown when the test fails


def weather(kind: str, by: str, server: Server, times: int) -> None:
    """Run the storm; it must end, and succeed."""
    command = [sys.executable, "-m", __name__, kind, by, str(server.port), str(times)]
    done = subprocess.run(
        command, cwd=ROOT, timeout=HANGS, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-5_000:]


@pytest.mark.parametrize(("kind", "name"), [("url", REAL[-1]), ("given", REAL[0]), ("given-resp3", REAL[0])])
def test_an_interrupted_call_never_gives_the_next_one_anothers_answer(kind: str, name: str, start: Start) -> None:
    """Signals cut short over a thousand calls, for each way to connect; the calls in between get their own answers."""
    weather(kind, "signals", start(name), 1_200)


@pytest.mark.parametrize(("kind", "name"), [("url", REAL[0]), ("given", REAL[-1])])
def test_threads_that_are_interrupted_leave_the_others_their_answers(kind: str, name: str, start: Start) -> None:
    """Exceptions sent into four threads that share a retargeter, hundreds in all."""
    weather(kind, "threads", start(name), 400)


@pytest.mark.soak
@pytest.mark.parametrize("by", ["signals", "threads"])
@pytest.mark.parametrize("kind", ["url", "given", "given-resp3"])
def test_ten_thousand_interrupts(kind: str, by: str, server: Server) -> None:
    """The same ten thousand times, on every server."""
    weather(kind, by, server, 10_000)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
