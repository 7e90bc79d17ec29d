"""Threads, forks and uvloop: sharing or copying a retargeter gives the right answers and never hangs.

Forks happen in a process of their own, with only the threads that the test is about: a test run has others, and
forking beside them is a matter of luck.
"""

from __future__ import annotations

import asyncio
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis

from retarget import AsyncRetargeter, Policy, Retargeter
from tests.support.fixtures import REAL, Start
from tests.support.servers import PATIENCE, Server

ROOT = Path(__file__).parents[2]
NOW = 1_794_312_000
NUMBERS = range(8)
POLICY = Policy.from_text('[defaults]\ncaps = ["1 per day"]')
T = TypeVar("T")


# -- threads -----------------------------------------------------------------------------------------------------------


def own_visitors(ads: Retargeter, who: int, turns: int) -> None:
    """Claim, record, decide and forget the caller's own visitors; each answer must be theirs."""
    campaigns = [f"c{n}" for n in NUMBERS]
    for turn in range(turns):
        visitor, own = f"v{who}-{turn}", f"c{(who + turn) % len(NUMBERS)}"
        claim = ads.claim(visitor, [own], id="x")
        assert claim is not None
        assert claim.campaign == own
        assert ads.claim(visitor, [own]) is None
        assert set(campaigns) - set(ads.decide(visitor, campaigns).eligible) == {own}
        other = f"c{(who + turn + 3) % len(NUMBERS)}"
        assert ads.record_many([(visitor, "impression", other)] * 2) == [True, True]
        both = [ads.decide(visitor, campaigns), *ads.decide_many([visitor, f"nobody{who}"], campaigns)]
        assert [set(campaigns) - set(d.eligible) for d in both] == [{own, other}, {own, other}, set()]
        assert len(ads.export(visitor)["timelines"]) == 2
        assert ads.forget(visitor) is True


def test_sixteen_threads_share_a_retargeter(url: str) -> None:
    """Each with its own visitors, over each store: hundreds of answers, each the right one."""
    errors: list[BaseException] = []
    ready = threading.Barrier(16)

    def work(who: int) -> None:
        try:
            ready.wait(PATIENCE)
            own_visitors(ads, who, 8)
        except BaseException as error:  # noqa: BLE001 - raised by the main thread
            errors.append(error)

    with Retargeter(POLICY, url, clock=lambda: NOW, timeout=5) as ads:
        threads = [threading.Thread(target=work, args=(who,), daemon=True) for who in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


# -- forks -------------------------------------------------------------------------------------------------------------


def forked(work: Callable[[int], None], children: int) -> None:
    """Run `work(n)` in n forks of this process, and `work(0)` here at the same time; all must succeed."""
    pids = []
    for number in range(1, children + 1):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(int(PATIENCE))
                work(number)
                status = 0
            except Exception:  # noqa: BLE001 - printed; it must not go on as the parent
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        pids.append(pid)
    work(0)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * children


def fork_while_used(ads: Retargeter) -> None:
    """Parent and children use the same retargeter, which has open connections, at the same time."""
    own_visitors(ads, 0, 3)
    forked(lambda number: own_visitors(ads, 10 + number, 15), 3)
    own_visitors(ads, 0, 3)


def fork_in_a_fork(ads: Retargeter) -> None:
    """A child forks again."""
    own_visitors(ads, 0, 3)
    forked(lambda number: own_visitors(ads, 20 + number, 10) if number == 0 else fork_while_used(ads), 1)


def fork_and_close(ads: Retargeter) -> None:
    """A child that closes its copy leaves the parent's connections open, and may use its own again."""

    def work(number: int) -> None:
        own_visitors(ads, 30 + number, 3)
        if number:
            ads.close()
        own_visitors(ads, 30 + number, 10)

    own_visitors(ads, 0, 3)
    forked(work, 3)


def fork_beside_threads(ads: Retargeter) -> None:
    """Other threads are in the middle of calls, holding whatever a call holds, while the process forks."""
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads; here it is meant
    over: list[bool] = []

    def busy(who: int) -> None:
        while not over:
            own_visitors(ads, 40 + who, 1)

    threads = [threading.Thread(target=busy, args=(who,), daemon=True) for who in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(12):
        forked(lambda number, turn=turn: own_visitors(ads, 100 + 10 * turn + number, 2), 1)  # type: ignore[misc]
    over.append(True)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def fork_by_multiprocessing(ads: Retargeter) -> None:
    """As in a server that forks its workers."""
    own_visitors(ads, 0, 3)
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=own_visitors, args=(ads, 60 + number, 10)) for number in range(4)]
    for worker in workers:
        worker.start()
    own_visitors(ads, 0, 20)
    for worker in workers:
        worker.join(PATIENCE)
        assert worker.exitcode == 0


WAYS = [fork_while_used, fork_in_a_fork, fork_and_close, fork_beside_threads, fork_by_multiprocessing]


@pytest.mark.parametrize(("kind", "name"), [("url", REAL[-1]), ("given", REAL[0])])
@pytest.mark.parametrize("way", [way.__name__ for way in WAYS])
def test_a_process_that_forks_gets_working_connections(way: str, kind: str, name: str, start: Start) -> None:
    """No process reads another's answer or waits for a lock that was copied while held."""
    command = [sys.executable, "-m", __name__, way, kind, str(start(name).port)]
    done = subprocess.run(command, cwd=ROOT, timeout=4 * PATIENCE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5_000:]


def test_the_first_connection_imports_nothing(start: Start) -> None:
    """Import locks that are held stay held in a fork: a thread that connects must not be importing anything."""
    program = """
import sys, retarget
ads = retarget.Retargeter(retarget.Policy.from_text("[campaign.a]"), sys.argv[1], timeout=5)
before = set(sys.modules)
assert ads.claim("first", ["a"], id="x")
ads.decide("first")["a"], ads.export("first"), ads.record("first", "impression", "a"), ads.forget("first")
assert set(sys.modules) == before, set(sys.modules) - before
"""
    for name in REAL:
        command = [sys.executable, "-c", program, start(name).url]
        done = subprocess.run(command, timeout=4 * PATIENCE, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-5_000:]


def main(way: str, kind: str, port: int) -> None:
    """One way to fork, in a process of its own."""
    faulthandler.register(signal.SIGALRM, chain=True)  # prints where it hangs, and ends it
    signal.alarm(3 * int(PATIENCE))
    given = redis.Redis(port=port, socket_timeout=5, protocol=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = f"redis://127.0.0.1:{port}/0" if kind == "url" else given
        ads = Retargeter(POLICY, store, clock=lambda: NOW, timeout=5)
    next(each for each in WAYS if each.__name__ == way)(ads)


# -- uvloop ------------------------------------------------------------------------------------------------------------


def run(loop: str, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it in an event loop of that kind, in a bounded time."""
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(asyncio.wait_for(coroutine, 3 * PATIENCE))


LOOPS = ["asyncio"] if sys.platform == "win32" else ["asyncio", "uvloop"]


@pytest.fixture
def server(start: Start) -> Server:
    """One server, empty: the loop is what differs here."""
    start("valkey").flush()
    return start("valkey")


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """Each event loop in turn."""
    return str(request.param)


def async_ads(server: Server) -> AsyncRetargeter:
    """An AsyncRetargeter whose clock stands still."""
    return AsyncRetargeter(
        Policy.from_text('[campaign.a]\ncaps = ["3 per hour"]'), server.url, clock=lambda: NOW, timeout=5
    )


def free(number: int) -> bool:
    """Whether visitor n, with n % 5 impressions, may see one more under a cap of three."""
    return number % 5 < 3


async def shown(ads: AsyncRetargeter, visitors: int) -> None:
    """Visitor n gets n % 5 impressions."""
    await ads.record_many([(f"v{n}", "impression", "a", NOW) for n in range(visitors) for _ in range(n % 5)])


def test_every_operation_works_in_every_loop(loop: str, server: Server) -> None:
    """Claim, hold, confirm, release, record, decide, export, forget."""

    async def script() -> None:
        async with async_ads(server) as ads:
            held = [await ads.claim("v", ["a"], hold="1 minute") for _ in range(2)]
            assert held[0] is not None
            assert held[1] is not None
            assert await ads.confirm(held[0]) == "confirmed"
            assert await ads.release(held[1]) is True
            assert await ads.record("v", "impression", "a", id="x") is True
            assert await ads.record("v", "impression", "a", id="x") is False
            assert await ads.claim("v", ["a"]) is not None
            assert (await ads.decide("v"))["a"].seen == 3
            assert [d.eligible async for d in ads.decide_many(["v", "w"])] == [(), ("a",)]
            assert len((await ads.export("v"))["timelines"]["impression a"]["at"]) == 3
            assert await ads.forget("v") is True

    run(loop, script())


def test_a_thousand_in_flight_in_every_loop(loop: str, server: Server) -> None:
    """A thousand visitors decided on at once, over few connections: each call gets its own answer."""

    async def script() -> None:
        before = server.connections()
        async with async_ads(server) as ads:
            await shown(ads, 1_000)
            decisions = await asyncio.gather(*(ads.decide(f"v{n}") for n in range(1_000)))
            assert not any(decision.degraded for decision in decisions)
            assert [decision.eligible == ("a",) for decision in decisions] == [free(n) for n in range(1_000)]
            assert len(server.connections() - before) <= 9
            claims = await asyncio.gather(*(ads.claim("one", ["a"]) for _ in range(200)))
            assert sum(claim is not None for claim in claims) == 3

    run(loop, script())


def test_what_is_cancelled_spoils_nobodys_answer_in_any_loop(loop: str, server: Server) -> None:
    """Every second call is cancelled, each time at another step of the loop; the others get their own answers."""

    async def script() -> None:
        async with async_ads(server) as ads:
            await shown(ads, 50)
            for turn in range(40):
                calls = [asyncio.ensure_future(ads.decide(f"v{n}")) for n in range(50)]
                for _ in range(turn % 9):
                    await asyncio.sleep(0)
                for call in calls[turn % 2 :: 2]:
                    call.cancel()
                answers = await asyncio.gather(*calls, return_exceptions=True)
                for n, answer in enumerate(answers):
                    if not isinstance(answer, BaseException):
                        assert (answer.eligible == ("a",)) is free(n)
                    else:
                        assert isinstance(answer, asyncio.CancelledError)
            assert [(await ads.decide(f"v{n}")).eligible == ("a",) for n in range(5)] == [free(n) for n in range(5)]

    run(loop, script())


def test_a_call_with_a_deadline_of_its_own_spoils_nobodys_answer(loop: str, server: Server) -> None:
    """A tiny `asyncio.timeout` around calls, and a task group that fails: the others get their own answers."""

    async def hasty(ads: AsyncRetargeter, number: int) -> None:
        async with asyncio.timeout(number * 1e-5):
            assert ((await ads.decide(f"v{number}")).eligible == ("a",)) is free(number)

    async def failing(ads: AsyncRetargeter) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(50):
                group.create_task(ads.decide(f"v{n}"))
            group.create_task(ads.decide(5))  # type: ignore[arg-type]

    async def script() -> None:
        async with async_ads(server) as ads:
            await shown(ads, 50)
            for _ in range(20):
                results = await asyncio.gather(*(hasty(ads, n) for n in range(50)), return_exceptions=True)
                assert all(result is None or isinstance(result, TimeoutError) for result in results)
            with pytest.raises(ExceptionGroup):
                await failing(ads)
            decisions = await asyncio.gather(*(ads.decide(f"v{n}") for n in range(50)))
            assert [decision.eligible == ("a",) for decision in decisions] == [free(n) for n in range(50)]

    run(loop, script())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
