"""keys.py: keys and ids, pinned, for data outlives a release."""

from __future__ import annotations

from retarget.timelines import keys


def test_a_key_carries_prefix_and_format() -> None:
    """Prefix, format version, visitor: a library that reads the data otherwise uses another key."""
    assert keys.key("rt:", "v-1") == b"rt:1:v-1"
    assert keys.key("", "\N{SNOWMAN}{x}\n\0") == b"1:\xe2\x98\x83{x}\n\0"


def test_an_events_id_is_five_bytes_that_depend_on_its_name_too() -> None:
    """A bid's impression and click may share an id; the same event with the same id is the same, always."""
    first = keys.event_id("impression", "bid-1")
    assert len(first) == 5
    assert first == keys.event_id("impression", "bid-1")
    assert len({first, keys.event_id("click", "bid-1"), keys.event_id("impression", "bid-2")}) == 3


def test_an_events_id_is_the_same_in_every_release() -> None:
    """Pinned: a repeat after an upgrade is still a repeat."""
    assert keys.event_id("impression", "bid-1").hex() == "e8e2acd6bb"
