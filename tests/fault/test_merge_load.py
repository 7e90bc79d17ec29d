"""Merges under load: processes merge, record and claim at once, and die at any point; every impression counts once.

Each impression is shown in a second of its own, so that it is known by its moment: one that was acknowledged is there
at any time, and exactly once in the end; one whose process died before it heard of it is there at most once.

A slot forks one life after another; a life ends itself by `kill -9`, before or after a random write of a merge.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from retarget import AsyncRetargeter, Policy, Retargeter
from retarget.calls import Visitors
from retarget.timelines import Answer, Store, Write, timeline
from tests.support import servers
from tests.support.fixtures import REAL, Start
from tests.support.servers import PATIENCE, Server

ROOT = Path(__file__).parents[2]
NOW = 1_794_312_000
LATER = NOW + 2 * 3_600
"""When no reservation is left."""

POLICY = Policy.from_text('[campaign.a]\ncaps = ["10000 per 20 days"]')
PER_LIFE, PER_SLOT = 200, 100_000
"""The seconds that a life, and a slot, may use."""

VISITORS = "0123"
PAIRS = {
    "fan": [("0", "1"), ("0", "2"), ("0", "3")],
    "ring": [("0", "1"), ("1", "2"), ("2", "3"), ("3", "0")],
    "chain": [("0", "1"), ("1", "2"), ("2", "3")],
    "into one": [("0", "3"), ("1", "3"), ("2", "3")],
    "both ways": [("0", "1"), ("1", "0")],
    "all": [*itertools.permutations(VISITORS, 2)],
}


# -- a slot, in a process of its own -----------------------------------------------------------------------------------


class Mortal:
    """A store whose process dies by `kill -9` before or after one of its writes, once it is told to."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        self._store, self._rng, self.left = store, rng, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def write(self, write: Write) -> Answer:
        self.left -= 1
        if self.left == 0 and self._rng.random() < 0.5:
            _die()
        answer = self._store.write(write)
        if self.left == 0:
            _die()
        return answer


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it is dead")


def _say(sign: str, moment: int) -> None:
    os.write(1, b"%b%d\n" % (sign.encode(), moment))


def _live(url: str, prefix: str, pairs: list[tuple[str, str]], moments: range) -> None:
    """Show and merge until it dies. `?` announces a moment, `=` says that it was counted."""
    rng = random.Random(moments[0])
    store = Mortal(servers.open_store(url), rng)
    ads = Retargeter(POLICY, store, clock=lambda: NOW, prefix=prefix)  # type: ignore[arg-type]
    for moment in moments:
        visitor, way = rng.choice(VISITORS), rng.randrange(4)
        _say("?", moment)
        if way == 0:
            claim = ads.claim(visitor, ["a"], hold="1 hour")
            assert claim is not None
            if rng.random() < 0.8:
                assert ads.confirm(claim, at=moment) == "confirmed"
                _say("=", moment)
            elif rng.random() < 0.5:
                assert ads.release(claim) is True
        elif way == 1:
            assert ads.claim(visitor, ["a"], now=moment, id=f"{moment}") is not None
            _say("=", moment)
        else:
            assert ads.record(visitor, "impression", "a", at=moment) is True
            _say("=", moment)
        for _ in range(rng.randrange(3)):
            store.left = rng.randrange(1, 40)
            source, into = rng.choice(pairs)
            ads.merge(source, into=into)
            store.left = 0


def main(url: str, prefix: str, how: str, slot: str, lives: str) -> None:
    """A slot: one life after another, each in a fork of this process."""
    begin = NOW - PER_SLOT * (1 + int(slot))
    for life in range(int(lives)):
        pid = os.fork()
        if pid == 0:
            first = begin + life * PER_LIFE
            try:
                _live(url, prefix, PAIRS[how], range(first, first + PER_LIFE))
            except BaseException as error:  # noqa: BLE001 - reported by the test
                os.write(2, f"{error!r}\n".encode())
                os._exit(1)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if os.WIFSIGNALED(status):
            _say("!", life)
        elif status:
            sys.exit(1)


# -- the test ----------------------------------------------------------------------------------------------------------


class Heard:
    """What the slots said."""

    def __init__(self) -> None:
        self.announced: set[int] = set()
        self.acknowledged: set[int] = set()
        self.deaths = 0
        self.errors: list[str] = []

    def listen(self, slot: subprocess.Popen[bytes]) -> None:
        """Read to the end."""
        assert slot.stdout is not None
        for line in slot.stdout:
            sign, number = line[:1], int(line[1:])
            if sign == b"!":
                self.deaths += 1
            else:
                (self.announced if sign == b"?" else self.acknowledged).add(number)
        assert slot.stderr is not None
        self.errors += slot.stderr.read().decode().splitlines()


@contextmanager
def slots(heard: Heard, commands: Iterable[list[str]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run slots, and listen to them to their end."""
    running = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands
    ]
    listeners = [threading.Thread(target=heard.listen, args=(slot,), daemon=True) for slot in running]
    for listener in listeners:
        listener.start()
    try:
        yield running
        for slot, listener in zip(running, listeners, strict=True):
            slot.wait(PATIENCE)
            listener.join(PATIENCE)
    finally:
        for slot in running:
            slot.kill()
            for pipe in (slot.stdout, slot.stderr):
                assert pipe is not None
                pipe.close()


def load(server: Server, how: str, number: int, lives: int) -> Heard:
    """Run so many slots of so many lives, look at all visitors at once meanwhile, and count in the end."""
    server.flush()
    prefix, heard = f"rt:{how.replace(' ', '')}:", Heard()
    keys = [Visitors(prefix, None).key(visitor) for visitor in VISITORS]
    command = [sys.executable, "-m", __name__, server.url, prefix, how]
    commands = ([*command, str(slot), str(lives)] for slot in range(number))
    with slots(heard, commands) as running, server.client() as client:
        while any(slot.poll() is None for slot in running):
            sure = set(heard.acknowledged)
            with client.pipeline(transaction=True) as together:
                for key in keys:
                    together.hget(key, "ia")
                there = _moments(together.execute())
            assert there.keys() >= sure, "an impression counted for nobody"
    assert heard.errors == []
    with Retargeter(POLICY, server.url, clock=lambda: LATER, prefix=prefix, timeout=PATIENCE) as ads:
        for visitor in VISITORS * 2:
            ads.merge(visitor, into="z")
        counts = {visitor: ads.export(visitor)["timelines"].get("impression a", {"at": []}) for visitor in VISITORS}
    assert not any(line["at"] for line in counts.values())
    with server.client() as client:
        end = _moments([client.hget(Visitors(prefix, None).key("z"), "ia")])
    assert not [moment for moment, times in end.items() if times > 1]
    assert heard.acknowledged <= end.keys() <= heard.announced
    return heard


def _moments(raws: Iterable[bytes | None]) -> Counter[int]:
    return Counter(moment for raw in raws if raw for moment in timeline.moments(raw))


@pytest.mark.parametrize("name", REAL)
def test_merges_between_all_of_four_visitors(name: str, start: Start) -> None:
    """Fans, rings and chains at once: two slots of six lives."""
    heard = load(start(name), "all", 2, 6)
    assert heard.deaths > 6
    assert len(heard.acknowledged) > 12


@pytest.mark.parametrize("name", REAL)
def test_merges_that_are_cancelled(name: str, start: Start) -> None:
    """One client for asyncio, forty merges at once and records beside them; half of the merges are cancelled."""
    server = start(name)
    server.flush()
    asyncio.run(_cancelled_merges(server.url, random.Random(name)))
    with Retargeter(POLICY, server.url, clock=lambda: NOW, timeout=PATIENCE) as ads:
        for visitor in VISITORS * 2:
            ads.merge(visitor, into="z")
        everything = ads.export("z")["timelines"]["impression a"]["at"]
    assert len(everything) == len(set(everything)) == 40


async def _cancelled_merges(url: str, rng: random.Random) -> None:
    async with AsyncRetargeter(POLICY, url, clock=lambda: NOW, timeout=PATIENCE) as ads:
        merges = []
        for number in range(40):
            source, into = rng.choice(PAIRS["all"])
            merges.append(asyncio.ensure_future(ads.merge(source, into=into)))
            assert await ads.record(rng.choice(VISITORS), "impression", "a", at=NOW - number)
            if number % 2:
                rng.choice(merges).cancel()
        results = await asyncio.gather(*merges, return_exceptions=True)
    unexpected = [result for result in results if not isinstance(result, bool | asyncio.CancelledError)]
    assert unexpected == []


@pytest.mark.soak
@pytest.mark.parametrize("how", PAIRS)
@pytest.mark.parametrize("name", REAL)
def test_merges_for_long(how: str, name: str, start: Start) -> None:
    """Each way for itself: four slots of fifty lives. On a busy machine twice as many show more than the cap keeps."""
    heard = load(start(name), how, 4, 50)
    assert heard.deaths > 150
    assert len(heard.acknowledged) > 500


if __name__ == "__main__":
    main(*sys.argv[1:])
