"""Waiting, for a bounded time, for something that another process or thread does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tests.support.servers import PATIENCE

T = TypeVar("T")

_BETWEEN = 0.01
"""Seconds between two attempts."""


def until(look: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """The first true result of `look`. Raises TimeoutError, naming `what`, when there is none in `patience` seconds.

    A look that raises is tried again; the last error is part of the message.
    """
    pause = threading.Event()
    end = time.monotonic() + patience
    seen: object = None
    while True:
        try:
            seen = result = look()
        except Exception as error:  # noqa: BLE001 - what is not there yet fails in many ways
            seen = error
        else:
            if result:
                return result
        if time.monotonic() > end:
            raise TimeoutError(f"not within {patience:g} seconds: {what}; last seen: {seen!r:.500}")
        pause.wait(_BETWEEN)


def insist(call: Callable[[], T]) -> T:
    """Repeat a call until it does not raise; its result."""

    def answered() -> tuple[T]:
        return (call(),)

    return until(answered, "an answer")[0]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block ends within this time, and as much again on a busy machine: a bound that only a hang breaks."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert took < 2 * seconds, f"took {took:.2f} seconds, not {seconds:g} at most, nor twice that"
