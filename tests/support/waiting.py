"""Waiting for something that another process does: looked at again and again, for a bounded time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tests.support.servers import PATIENCE

T = TypeVar("T")

_BETWEEN = 0.01
"""Seconds between two looks."""


def until(look: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """The first result of `look` that is true. Raises TimeoutError, naming `what`, when none is within `patience` s.

    A look that raises is one that saw nothing; the last such error stands in the message.
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


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is done inside ends in so many seconds: a bound that only a hang breaks."""
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    assert took < seconds, f"took {took:.2f} seconds, not {seconds:g} at most"
