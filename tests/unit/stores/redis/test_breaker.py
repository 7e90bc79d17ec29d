"""breaker.py: a server that failed three times in a row only gets probes; any answer makes it up again."""

from __future__ import annotations

import logging
import threading

import pytest

from retarget.stores.redis.breaker import FIRST_PAUSE, LONGEST_PAUSE, TRIP_AFTER, Breaker
from retarget.timelines import Health

F, A = "failed", "answered"


def after(*events: tuple[str, float] | tuple[float]) -> Breaker:
    """A breaker after these events: failures, answers, or calls that ask for their share, each at a time."""
    breaker = Breaker("one:6379")
    for event in events:
        match event:
            case ("failed", at):
                breaker.failed("refused", at)
            case ("answered", _):
                breaker.answered()
            case (at,):
                breaker.share(at)
    return breaker


DOWN = ((F, 0.0), (F, 1.0), (F, 2.0))

TABLE: list[tuple[tuple[tuple[str, float] | tuple[float], ...], float, float]] = [
    # events, now, the share of its time that a call may spend
    ((), 0, 1),
    (((F, 0),), 0, 1),
    (((F, 0), (F, 0)), 0, 1),
    (((F, 0), (F, 0), (A, 0), (F, 0), (F, 0)), 0, 1),
    (DOWN, 2, 0),
    (DOWN, 2.049, 0),
    (DOWN, 2.05, 0.5),
    (DOWN, 99, 0.5),
    ((*DOWN, (A, 2)), 2, 1),
    ((*DOWN, (A, 2), (F, 3), (F, 3)), 3, 1),
    ((*DOWN, (A, 2), (F, 3), (F, 3), (F, 3)), 3.049, 0),
    ((*DOWN, (A, 2), (F, 3), (F, 3), (F, 3)), 3.05, 0.5),
    # one probe, the next after twice as long, whether or not that one has failed by then
    ((*DOWN, (3.0,)), 3.0, 0),
    ((*DOWN, (3.0,)), 3.099, 0),
    ((*DOWN, (3.0,)), 3.1, 0.5),
    ((*DOWN, (3.0,), (F, 3.05)), 3.099, 0),
    ((*DOWN, (3.0,), (F, 3.05)), 3.1, 0.5),
    ((*DOWN, (3.0,), (4.0,)), 4.199, 0),
    ((*DOWN, (3.0,), (4.0,)), 4.2, 0.5),
    # other calls change nothing
    ((*DOWN, (2.0,), (2.01,), (2.02,)), 2.05, 0.5),
    # at most a second
    ((*DOWN, *((float(n),) for n in range(10, 30))), 29.99, 0),
    ((*DOWN, *((float(n),) for n in range(10, 30))), 30.0, 0.5),
]


@pytest.mark.parametrize(("events", "now", "share"), TABLE)
def test_the_share_of_its_time_that_a_call_may_spend(
    events: tuple[tuple[str, float] | tuple[float], ...], now: float, share: float
) -> None:
    """All of it while the server is up, none while it is down, half of it for a probe."""
    assert after(*events).share(now) == share


def test_the_pauses_double_up_to_a_second() -> None:
    """A server that stays down is probed after 50, 100, 200 ms and so on, then once a second for ever."""
    breaker, now, pauses = after(*DOWN), 2_000, []
    for _ in range(8):
        started = now
        while not breaker.share(now / 1_000):
            now += 1
        pauses.append(now - started)
    assert pauses == pytest.approx([50, 100, 200, 400, 800, 1_000, 1_000, 1_000], abs=1)
    assert (FIRST_PAUSE, LONGEST_PAUSE, TRIP_AFTER) == (0.05, 1, 3)


@pytest.mark.parametrize(
    ("events", "health"),
    [
        ((), Health("one:6379", up=True, failures=0, error="")),
        (((F, 0), (F, 0)), Health("one:6379", up=True, failures=2, error="refused")),
        (DOWN, Health("one:6379", up=False, failures=3, error="refused")),
        ((*DOWN, (F, 9)), Health("one:6379", up=False, failures=4, error="refused")),
        ((*DOWN, (A, 9)), Health("one:6379", up=True, failures=0, error="")),
    ],
)
def test_health(events: tuple[tuple[str, float], ...], health: Health) -> None:
    """Whether it is up, its failures in a row, and the last error; an answer clears them."""
    assert after(*events).health() == health


def test_the_reason_why_a_call_is_not_tried() -> None:
    """The server, its failures, the last error, and when the next probe is due."""
    assert after(*DOWN).reason() == (
        "one:6379 is known to be down after 3 failures in a row (the last: refused); the next probe is due within 1 s"
    )


def test_the_log_says_when_it_goes_down_and_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    """Once each, however many calls fail in between; one or two failures are not logged."""
    caplog.set_level(logging.DEBUG)
    after((F, 0), (F, 0), (A, 0))
    assert caplog.messages == []
    after(*DOWN, (F, 3), (F, 4), (5.0,), (A, 5), (A, 5))
    assert caplog.messages == [
        "one:6379 is down after 3 failures in a row, the last: refused",
        "one:6379 answers again",
    ]


def test_threads_may_share_it() -> None:
    """Under concurrent use it stays in one of its states."""
    breaker = Breaker("one:6379")

    def work() -> None:
        for number in range(2_000):
            breaker.failed("refused", number / 1_000)
            assert breaker.share(number / 1_000) in (0, 0.5, 1)
            if number % 7 == 0:
                breaker.answered()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    breaker.answered()
    assert breaker.health() == Health("one:6379", up=True, failures=0, error="")
    assert breaker.share(0) == 1
