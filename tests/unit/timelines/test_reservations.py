"""reservations.py: the record of a reservation, pinned, and its pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.errors import StoreError
from retarget.timelines import reservations, timeline
from retarget.timelines.writes import Reserved

MARK = b"12345"
U16 = st.integers(0, 0xFFFF)
PLACES = st.lists(st.builds(Reserved, st.binary(max_size=400), U16, U16, U16), max_size=12).map(tuple)


def stored(record: bytes, mark: bytes = MARK) -> dict[bytes, bytes]:
    """The fields of a hold with this record: its pieces, and its own timeline."""
    ends = (7).to_bytes(4) * reservations.count(record)
    return {timeline.HOLD + mark: b"\x80\0" + ends, **reservations.pieces(mark, record)}


def test_a_record_is_pinned_byte_for_byte() -> None:
    """Weight, keep, head and length of the name, two bytes each, then the name."""
    record = reservations.pack([Reserved(b"ia", 1, 16, 0x8102), Reserved(b"@", 2, 0, 0)])
    assert record == bytes.fromhex("0001 0010 8102 0002 6961 0002 0000 0000 0001 40")
    assert reservations.pieces(MARK, record) == {b"#h12345\0\0": record}


@given(PLACES)
@settings(max_examples=200)
def test_what_was_packed_is_unpacked(places: tuple[Reserved, ...]) -> None:
    """Through pieces and back."""
    record = reservations.pack(places)
    state = stored(record)
    assert reservations.joined(MARK, state) == record
    assert reservations.unpack(record) == places


@given(PLACES.filter(bool), st.data())
@settings(max_examples=200)
def test_a_record_cut_off_is_corrupt(places: tuple[Reserved, ...], data: st.DataObject) -> None:
    """Anywhere but between two places: a StoreError."""
    record = reservations.pack(places)
    ends = {len(reservations.pack(places[:number])) for number in range(len(places) + 1)}
    cut = data.draw(st.integers(0, len(record)).filter(lambda at: at not in ends))
    with pytest.raises(StoreError, match="the record of a reservation is corrupt"):
        reservations.unpack(record[:cut])


@pytest.mark.parametrize(("length", "pieces"), [(0, 1), (1, 1), (64, 1), (65, 2), (128, 2), (129, 3), (64 * 300, 300)])
def test_pieces_are_counted_and_numbered(length: int, pieces: int) -> None:
    """At most 64 bytes each; of an empty record there is none, though it counts as one."""
    record = bytes(length)
    fields = reservations.pieces(MARK, record)
    assert reservations.count(record) == pieces
    assert list(fields) == [b"#h12345" + number.to_bytes(2) for number in range(pieces if length else 0)]
    assert all(0 < len(piece) <= 64 for piece in fields.values())
    assert reservations.fields(MARK, stored(record)) == list(fields)


def test_a_record_ends_where_a_piece_is_missing() -> None:
    """And where the hold says that it ends; without the hold there is none."""
    state = stored(bytes(200))
    assert len(reservations.fields(MARK, state)) == 4
    without = {field: raw for field, raw in state.items() if field != b"#h12345\0\2"}
    assert reservations.fields(MARK, without) == [b"#h12345\0\0", b"#h12345\0\1"]
    shorter = state | {timeline.HOLD + MARK: b"\x80\0" + bytes(4)}
    assert reservations.fields(MARK, shorter) == [b"#h12345\0\0"]
    del state[timeline.HOLD + MARK]
    assert reservations.fields(MARK, state) == []
    assert reservations.joined(MARK, state) == b""


def test_records_of_two_holds_are_two() -> None:
    """Each is found by its mark."""
    state = stored(b"one") | stored(b"other", b"67890")
    assert (reservations.joined(MARK, state), reservations.joined(b"67890", state)) == (b"one", b"other")


@pytest.mark.parametrize(
    ("field", "mark"), [(b"#h12345\0\0", MARK), (b"#0", None), (b"hia", None), (b"H12345", None), (b"", None)]
)
def test_the_mark_in_the_name_of_a_piece(field: bytes, mark: bytes | None) -> None:
    """None for other fields."""
    assert reservations.mark_of(field) == mark


@pytest.mark.parametrize("length", [0, 1, 64, 65, 200])
def test_what_a_merge_moved_is_told_by_one_more_end(length: int) -> None:
    """However many pieces the record has."""
    state = stored(bytes(length))
    assert not reservations.is_moved(MARK, state)
    state[timeline.HOLD + MARK] += (7).to_bytes(4)
    assert reservations.is_moved(MARK, state)
    assert not reservations.is_moved(b"other", state)
