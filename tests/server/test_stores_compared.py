"""All stores run the same random programs of writes: the same answers and the same bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.errors import StoreError
from retarget.stores import MemoryStore
from retarget.timelines import (
    MOST_TIMELINES,
    Alternative,
    Answer,
    Enter,
    State,
    Store,
    Write,
)
from tests.support import servers
from tests.support.servers import Server
from tests.support.writes import (
    DAY,
    DAY_LONG,
    NOW,
    SHIELD,
    Step,
    entry,
    steps,
)

numbers = itertools.count()


@pytest.fixture(scope="module")
def compared(fleet: dict[str, Server]) -> Iterator[list[Store]]:
    """Memory and every real server."""
    with ExitStack() as stack:
        stores: list[Store] = [MemoryStore()]
        for server in fleet.values():
            stores.append(servers.open_store(server.url))
            stack.callback(stores[-1].close)
        yield stores


def answer(store: Store, write: Write) -> Answer | str:
    """What the store answers; a refusal of what is corrupt is an answer too."""
    try:
        return store.write(write)
    except StoreError as error:
        return "corrupt" if "corrupt" in str(error).lower() else repr(error)


def same_everywhere(stores: list[Store], crowd: tuple[Enter, ...], steps: list[Step]) -> None:
    """Run the writes on every store: one answer each, and one hash after each, byte for byte.

    Servers expire visitors by their own clock, so the first write has a long time to live.
    """
    key = b"rt:differential:%d" % next(numbers)
    writes = [Write(key, NOW, b"", (Alternative((), (entry(b"i"), *crowd), 500 * DAY),))]
    writes += [Write(key, now, id_, choices, hold) for now, id_, choices, hold in steps]
    seen: list[list[tuple[Answer | str, State]]] = []
    for store in stores:
        seen.append([(answer(store, each), dict(store.read(key))) for each in writes])
        store.delete(key)
    for others in seen[1:]:
        assert others == seen[0]
    for (_, before), (said, after) in itertools.pairwise(seen[0]):
        assert after == before or (isinstance(said, int) and said > 0), "a write that was not applied changed something"


@given(steps(20))
@settings(max_examples=150, deadline=None)
def test_every_store_answers_the_same_and_holds_the_same_bytes(compared: list[Store], steps: list[Step]) -> None:
    """Random programs of writes on a fresh visitor."""
    same_everywhere(compared, (), steps)


@given(st.integers(MOST_TIMELINES - 6, MOST_TIMELINES + 2), st.integers(1, 8), steps(4))
@settings(max_examples=30, deadline=None)
def test_every_store_makes_the_same_room(compared: list[Store], filling: int, shields: int, steps: list[Step]) -> None:
    """Random programs of writes on a crowded visitor, of whose timelines a part or all are shields."""
    crowd = [entry(b"ec %d" % n, NOW - n % 7, head=SHIELD if n % 8 < shields else DAY_LONG) for n in range(filling)]
    same_everywhere(compared, tuple(crowd), steps)


@given(steps(6))
@settings(max_examples=100, deadline=None)
def test_every_store_keeps_the_visitor_as_long(
    compared: list[Store], fleet: dict[str, Server], steps: list[Step]
) -> None:
    """Random programs at one time, which servers do not read: each key lives as long, but for seconds of their own."""
    key = b"rt:differential:%d" % next(numbers)
    for _, id_, choices, hold in steps:
        lives = []
        for store in compared:
            answer(store, Write(key, NOW, id_, choices, hold))
            if isinstance(store, MemoryStore):
                lives.append(store.ttl(key, NOW) or -2)
        for server in fleet.values():
            with server.client() as client:
                lives.append(int(client.ttl(key)))
        assert max(lives) - min(lives) <= 10
        assert all(life == -2 or life > 0 for life in lives)
    for store in compared:
        store.delete(key)
