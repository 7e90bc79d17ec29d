"""keys.py: keys, ids and what is remembered of them, pinned, for data outlives a release."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.errors import StoreError
from retarget.timelines import keys

NOW = 1_794_312_000
ID, OUTCOME = b"12345", b"abcde"


def test_a_key_carries_prefix_and_format() -> None:
    """Prefix, format version, visitor: a library that reads the data otherwise uses another key."""
    assert keys.key("rt:", "v-1") == b"rt:2~v-1"
    assert keys.key("", "\N{SNOWMAN}{x}\n\0") == b"2~\xe2\x98\x83{x}\n\0"


def test_a_hashed_key_carries_the_version_of_its_pepper() -> None:
    """And sixteen bytes in place of the visitor."""
    assert keys.hashed_key("rt:", 17, bytes(range(16))) == b"rt:2!17~" + bytes(range(16))


PREFIXES = st.text(st.characters(codec="utf-8", exclude_characters="~!"), max_size=4)
VISITORS = st.text(st.sampled_from("2~!:0a"), max_size=6) | st.text(max_size=6)
OWNERS = st.tuples(PREFIXES | st.sampled_from(["", "2", "rt:", "rt:2", "rt:1:"]), VISITORS)


@given(OWNERS, OWNERS)
@settings(max_examples=300)
def test_the_keys_of_two_prefixes_never_meet(one: tuple[str, str], other: tuple[str, str]) -> None:
    """A prefix has neither `~` nor `!`, so the first of them ends it: two equal keys are of one visitor."""
    assert (keys.key(*one) == keys.key(*other)) is (one == other)


@given(OWNERS, PREFIXES, st.integers(0, 99), st.binary(min_size=16, max_size=16))
@settings(max_examples=300)
def test_clear_and_hashed_keys_never_meet(one: tuple[str, str], prefix: str, version: int, digest: bytes) -> None:
    """Whatever the id, the prefix or the hash."""
    assert keys.key(*one) != keys.hashed_key(prefix, version, digest)


def test_what_met_under_format_1_no_longer_meets() -> None:
    """The prefix "shop" with the visitor "1:bob", and "shop1:" with "bob"."""
    assert len({keys.key("shop", "1:bob"), keys.key("shop1:", "bob"), keys.key("shop", "2~bob")}) == 3


def test_an_events_id_is_five_bytes_that_depend_on_its_name_too() -> None:
    """A bid's impression and click may share an id; the same event with the same id is the same, always."""
    first = keys.event_id("impression", "bid-1")
    assert len(first) == keys.ID_BYTES == 5
    assert first == keys.event_id("impression", "bid-1")
    assert len({first, keys.event_id("click", "bid-1"), keys.event_id("impression", "bid-2")}) == 3


def test_an_events_id_is_the_same_in_every_release() -> None:
    """Pinned: a repeat after an upgrade is still a repeat."""
    assert keys.event_id("impression", "bid-1").hex() == "e8e2acd6bb"


def test_what_is_remembered_is_pinned_byte_for_byte() -> None:
    """A deadline, then the records, the oldest first."""
    state = keys.remember(b"", ID, OUTCOME, NOW)
    assert state == {b"#0": NOW.to_bytes(4) + b"12345abcde"}
    assert keys.remember(keys.remembered(state, NOW), b"67890", b"fghij", NOW + 1) == {
        b"#0": (NOW + 1).to_bytes(4) + b"12345abcde67890fghij"
    }


def test_the_latest_sixteen_are_remembered_in_pieces() -> None:
    """None of more than 64 bytes: a small hash stays small."""
    records = b""
    for number in range(40):
        state = keys.remember(records, b"%05d" % number, b"%05d" % (number + 50), NOW)
        records = keys.remembered(state, NOW)
        assert len(records) == keys.RECORD * min(number + 1, keys.IDS_KEPT)
        assert max(len(raw) for raw in state.values()) <= keys.PIECE
    assert list(state) == [b"#0", b"#1", b"#2"]
    known = [number for number in range(40) if keys.outcome_of(records, b"%05d" % number) == b"%05d" % (number + 50)]
    assert known == list(range(24, 40))


@pytest.mark.parametrize(("now", "known"), [(NOW - 400, True), (NOW, True), (NOW + 1, False)])
def test_ids_are_known_until_their_deadline(now: int, *, known: bool) -> None:
    """That second included; the deadline itself can be read for ever."""
    state = keys.remember(b"", ID, OUTCOME, NOW)
    assert keys.remembered(state, now) == (ID + OUTCOME if known else b"")
    assert keys.deadline(state) == NOW


def test_nothing_is_remembered_of_a_visitor_without_ids() -> None:
    """No records, and a deadline that has passed."""
    assert keys.remembered({b"ia": b"x"}, NOW) == b""
    assert keys.deadline({}) == 0


def test_an_outcome_is_found_at_the_start_of_a_record_alone() -> None:
    """Not where an outcome, or two records together, happen to look like the id."""
    records = b"00000" + b"12345" + b"a1234" + b"5bcde"
    assert keys.outcome_of(records, b"12345") is None
    assert keys.outcome_of(records, b"00000") == b"12345"
    assert keys.outcome_of(records + b"12345fghij", b"12345") == b"fghij"
    assert keys.outcome_of(b"", b"12345") is None


@pytest.mark.parametrize(
    "state",
    [{b"#0": b"abc"}, {b"#0": b"\0" * 13}, {b"#0": b"\0" * 64, b"#1": b"\0"}, {b"#0": b"\0" * 64, b"#2": b"\0" * 36}],
)
def test_what_is_no_sequence_of_records_is_corrupt(state: dict[bytes, bytes]) -> None:
    """A StoreError that says how many bytes there are."""
    with pytest.raises(StoreError, match=r"^the remembered ids are corrupt: \d+ bytes$"):
        keys.remembered(state, NOW)
