"""What a store does with data that is not ours: it refuses the write whole. In memory only a test can plant it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from retarget.errors import NotExecuted, StoreError
from retarget.timelines import (
    Alternative,
    Anchor,
    Change,
    Guard,
    Remove,
    Reserve,
    Settle,
    Store,
    Write,
    reservations,
)
from tests.support import servers
from tests.support.servers import Server
from tests.support.writes import (
    DAY,
    DAY_LONG,
    HELD_HEAD,
    HOLD_ID,
    KEY,
    MARK,
    NOW,
    cover,
    entry,
    guard,
    place,
    plant,
    write,
)

GOOD = DAY_LONG.to_bytes(2) + NOW.to_bytes(4)
PENDING = HELD_HEAD.to_bytes(2) + (NOW + 60).to_bytes(4)
BROKEN = [b"", b"x", b"\0\1", b"\0\1\0\0\0\1\0", b"\0\1" + b"\0" * 5]
NO_GUARDS: tuple[Guard, ...] = ()


def refused(store: Store, server: Server | None, fields: dict[bytes, bytes], *attempts: Write) -> None:
    """Each is a StoreError that says what is corrupt, and not a byte is changed, nor is the time to live."""
    plant(store, server, fields)
    for attempt in attempts:
        with pytest.raises(StoreError, match=r"(?i)corrupt") as raised:
            store.write(attempt)
        assert server is None or isinstance(raised.value, NotExecuted)
        assert dict(store.read(KEY)) == fields
        (answer,) = store.write_many([attempt])
        assert isinstance(answer, StoreError)
        assert dict(store.read(KEY)) == fields
    if server is not None:
        with server.client() as client:
            assert client.ttl(KEY) == -1


@pytest.mark.parametrize("raw", BROKEN)
@pytest.mark.parametrize(
    ("guards", "changes"),
    [
        ((guard(b"ia", 1, 0),), (entry(b"ib"),)),
        ((guard(b"ib", 1, 0, anchor=Anchor(b"ia", 1, 1)),), (entry(b"ib"),)),
        (NO_GUARDS, (entry(b"ib"), entry(b"ia"))),
        (NO_GUARDS, (entry(b"ib"), Remove(b"ia", NOW, 1))),
        (NO_GUARDS, (entry(b"ib"), cover(NOW, field=b"ia"))),
        (NO_GUARDS, tuple(entry(b"i%d" % n) for n in range(16))),  # all are read to find the dead
    ],
)
def test_a_corrupt_timeline_refuses_the_write_whole(
    store: Store, behind: Server | None, raw: bytes, guards: tuple[Guard, ...], changes: tuple[Change, ...]
) -> None:
    """Met by a guard, an anchor, a change, or by whoever looks for the dead."""
    attempt = write(*changes, guards=guards)
    other = Alternative((guard(b"iz", 1, 0),), (), DAY)
    second = Write(KEY, NOW, b"12345", (other, *attempt.alternatives))
    refused(store, behind, {b"ia": raw, b"ib": GOOD}, attempt, second)


@pytest.mark.parametrize("field", [b"h", b"hib"])
def test_a_corrupt_reservation_refuses_the_write_whole(store: Store, behind: Server | None, field: bytes) -> None:
    """Met where it is asked whether anything is reserved."""
    attempt = write(entry(b"ib"), guards=(guard(b"ib", 1, 0, wanted=False),))
    refused(store, behind, {b"h": PENDING, field: b"\0\1\0"}, attempt)


RECORD = reservations.pack([place(b"ia"), place(b"ib")])


@pytest.mark.parametrize(
    "record",
    [b"x", RECORD[:-1], RECORD + b"\0", RECORD[:7], RECORD[:11], b"\0\1\0\x10\0\0\xff\xff" + b"ia", b"\0" * 9],
)
@pytest.mark.parametrize(
    "change", [Settle(None), Settle(NOW), Reserve(NOW + 90, (place(b"ic"),))], ids=["release", "confirm", "reserve"]
)
def test_a_corrupt_record_refuses_the_write_whole(
    store: Store, behind: Server | None, record: bytes, change: Change
) -> None:
    """Cut off, or longer than it says: nothing of the hold is undone."""
    fields = {b"h": PENDING, b"hia": PENDING, b"hib": PENDING, MARK: PENDING, b"ib": GOOD}
    fields |= reservations.pieces(HOLD_ID, record)
    refused(store, behind, fields, write(entry(b"iz"), change, hold=HOLD_ID))


@pytest.mark.parametrize("corrupt", [b"hia", MARK, b"ib"])
def test_a_corrupt_timeline_of_a_hold_refuses_the_write_whole(
    store: Store, behind: Server | None, corrupt: bytes
) -> None:
    """Where it is reserved, its own, or where it would be counted."""
    fields = {b"h": PENDING, b"hia": PENDING, b"hib": PENDING, MARK: PENDING, b"ib": GOOD}
    fields |= reservations.pieces(HOLD_ID, RECORD) | {corrupt: b"\0\1\0"}
    refused(store, behind, fields, write(Settle(NOW), hold=HOLD_ID))


@pytest.mark.parametrize(
    "ids",
    [
        {b"#0": b"seven.."},
        {b"#0": b"abc"},
        {b"#0": b"\0" * 64, b"#1": b"\0" * 63},
        {b"#0": b"\0" * 64, b"#2": b"\0" * 36},
    ],
)
def test_corrupt_ids_refuse_the_write_whole(store: Store, behind: Server | None, ids: dict[bytes, bytes]) -> None:
    """A deadline of four bytes, then records of ten; a write without an id does not read them."""
    refused(store, behind, {**ids, b"ia": GOOD}, write(entry(b"ia"), id=b"12345"), write(id=b"12345"))
    assert store.write(write(entry(b"ia"))) == 1


@pytest.fixture
def real(server: Server) -> Iterator[Store]:
    """A store on each real server."""
    store = servers.open_store(server.url)
    yield store
    store.close()


def test_a_key_of_another_type_is_refused_and_left_alone(real: Store, server: Server) -> None:
    """WRONGTYPE: read and write say so; in a batch the others are answered all the same."""
    with server.client() as client:
        client.set(KEY, "a string")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            real.read(KEY)
        with pytest.raises(NotExecuted, match="WRONGTYPE"):
            real.write(write(entry(b"ia")))
        other = Write(b"rt:2~w", NOW, b"", (Alternative((), (entry(b"ia"),), DAY),))
        answers = real.write_many([other, write(entry(b"ia")), other])
        states = real.read_many([b"rt:2~w", KEY, b"rt:2~w"])
        assert client.get(KEY) == b"a string"
    assert [answers[0], answers[2]] == [1, 1]
    assert isinstance(answers[1], NotExecuted)
    assert [isinstance(state, StoreError) for state in states] == [False, True, False]
