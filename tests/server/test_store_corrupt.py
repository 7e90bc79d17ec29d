"""What a server's store does with data that is not ours; in memory nobody else writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from retarget.errors import NotExecuted, StoreError
from retarget.timelines import (
    Alternative,
    Remove,
    Store,
    Unreserve,
    Write,
)
from tests.support import servers
from tests.support.servers import Server
from tests.support.writes import (
    DAY,
    DAY_LONG,
    HELD_HEAD,
    KEY,
    NOW,
    entry,
    guard,
    write,
)


@pytest.fixture
def real(server: Server) -> Iterator[Store]:
    """A store on each real server."""
    store = servers.open_store(server.url)
    yield store
    store.close()


@pytest.mark.parametrize("raw", [b"", b"x", b"\0\1", b"\0\1\0\0\0\1\0", b"\0\1" + b"\0" * 5])
def test_a_corrupt_timeline_refuses_the_write_whole(real: Store, server: Server, raw: bytes) -> None:
    """Met by a guard, by an entry, or by pruning: NotExecuted, and not a byte is changed."""
    with server.client() as client:
        client.hset(KEY, mapping={b"ia": raw, b"ib": DAY_LONG.to_bytes(2) + NOW.to_bytes(4)})
        before = client.hgetall(KEY)
        writes = [
            write(entry(b"ib"), guards=(guard(b"ia", 1, 0),)),
            write(entry(b"ib"), entry(b"ia")),
            write(entry(b"inew"), id=b"12345"),
            write(Remove(b"ib", NOW, 1), Unreserve(b"ia", 1), hold=b"ib"),
            write(Unreserve(b"ib", 1), hold=b"ia"),
        ]
        for attempt in writes:
            with pytest.raises(NotExecuted, match="CORRUPT"):
                real.write(attempt)
        assert client.hgetall(KEY) == before
        assert client.ttl(KEY) == -1


@pytest.mark.parametrize("field", [b"h", b"hib"])
def test_a_corrupt_reservation_refuses_the_write_whole(real: Store, server: Server, field: bytes) -> None:
    """Met where it is asked whether anything is reserved: NotExecuted, and not a byte is changed."""
    with server.client() as client:
        client.hset(KEY, mapping={b"h": HELD_HEAD.to_bytes(2) + (NOW + 60).to_bytes(4), field: b"\0\1\0"})
        before = client.hgetall(KEY)
        with pytest.raises(NotExecuted, match="CORRUPT"):
            real.write(write(entry(b"ib"), guards=(guard(b"ib", 1, 0, wanted=False),)))
        assert client.hgetall(KEY) == before


def test_corrupt_ids_refuse_the_write_whole(real: Store, server: Server) -> None:
    """Ids come in records of eight bytes."""
    with server.client() as client:
        client.hset(KEY, "#0", "seven..")
        with pytest.raises(NotExecuted, match="CORRUPT"):
            real.write(write(entry(b"ia"), id=b"12345"))
        assert client.hgetall(KEY) == {b"#0": b"seven.."}


def test_a_key_of_another_type_is_refused_and_left_alone(real: Store, server: Server) -> None:
    """WRONGTYPE: read and write say so; in a batch the others are answered all the same."""
    with server.client() as client:
        client.set(KEY, "a string")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            real.read(KEY)
        with pytest.raises(NotExecuted, match="WRONGTYPE"):
            real.write(write(entry(b"ia")))
        other = Write(b"rt:1:w", NOW, b"", (Alternative((), (entry(b"ia"),), DAY),))
        answers = real.write_many([other, write(entry(b"ia")), other])
        states = real.read_many([b"rt:1:w", KEY, b"rt:1:w"])
        assert client.get(KEY) == b"a string"
    assert [answers[0], answers[2]] == [1, 1]
    assert isinstance(answers[1], NotExecuted)
    assert [isinstance(state, StoreError) for state in states] == [False, True, False]
