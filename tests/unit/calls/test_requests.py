"""requests.py: each request yields itself, asks one verb of either kind of store, and returns the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from retarget import MemoryStore, StoreError
from retarget.calls.requests import Apply, ApplyMany, Delete, Read, ReadMany, Request, Steps
from retarget.stores import AsyncMemoryStore
from retarget.timelines import Alternative, Enter, Write, timeline

NOW = 1_795_600_000
WRITE = Write(b"k", NOW, b"", (Alternative((), (Enter(b"ia", NOW, 1, 16, timeline.head(60, shield=True)),), 60),))

CASES: dict[str, tuple[Request, Callable[[Any], object]]] = {
    "read": (Read(b"k"), lambda reply: list(reply) == [b"ia"]),
    "read many": (ReadMany([b"k", b"unknown"]), lambda reply: [list(state) for state in reply] == [[b"ia"], []]),
    "apply": (Apply(WRITE), lambda reply: reply == 1),
    "apply many": (ApplyMany([WRITE, WRITE]), lambda reply: reply == [1, 1]),
    "delete": (Delete(b"k"), lambda reply: reply is True),
}


def operation(request: Request) -> Steps[Any]:
    """The shortest operation: one request, its reply is the result."""
    return (yield from request)


@pytest.mark.parametrize("name", CASES)
def test_a_request_is_answered_by_either_store(name: str) -> None:
    """It yields itself to the driver, and the operation receives the reply."""
    request, expected = CASES[name]
    for awaited in (False, True):
        store = MemoryStore()
        store.write(WRITE)
        steps = operation(request)
        asked = next(steps)
        assert asked is request

        async def reply(asked: Request = asked, store: MemoryStore = store) -> Any:
            return await asked.ask_async(AsyncMemoryStore(store))

        with pytest.raises(StopIteration) as stop:
            steps.send(asyncio.run(reply()) if awaited else asked.ask(store))
        assert expected(stop.value.value), stop.value.value


def test_an_error_is_thrown_at_the_request_that_failed() -> None:
    """An operation may catch it there and go on."""

    def patient() -> Steps[str]:
        try:
            yield from Read(b"k")
        except StoreError as error:
            yield from Delete(b"k")
            return str(error)
        return "not thrown"

    steps = patient()
    next(steps)
    assert steps.throw(StoreError("down")) == Delete(b"k")
    with pytest.raises(StopIteration) as stop:
        steps.send(True)  # noqa: FBT003 - the reply
    assert stop.value.value == "down"
