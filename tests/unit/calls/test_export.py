"""export.py: everything stored about a visitor, readable, from all their keys."""

from __future__ import annotations

import json

import pytest

from retarget import StoreError
from retarget.calls.export import export
from retarget.timelines import ACTIVITY, HOLD, NO_OUTCOME, POINTS, Reserved, keys, reservations, timeline


def packed(*moments: int, horizon: int = 60) -> bytes:
    """A timeline with these moments."""
    return timeline.head(horizon, shield=True).to_bytes(2) + b"".join(moment.to_bytes(4) for moment in moments)


def test_timelines_have_readable_names_and_times() -> None:
    """As a policy would name them, in order, with how long they matter; ready for JSON."""
    exported = export("v", [{b"ia": packed(10, 70), b"evisit shop": packed(5)}])
    assert exported["visitor"] == "v"
    assert list(exported["timelines"]) == ["visit shop", "impression a"]
    line = exported["timelines"]["impression a"]
    assert line["at"] == ["1970-01-01T00:00:10+00:00", "1970-01-01T00:01:10+00:00"]
    assert line["matters_for_seconds"] >= 60
    assert json.loads(json.dumps(exported)) == exported


def test_keys_are_combined() -> None:
    """A timeline under two peppers is one, sorted, with the longer horizon."""
    exported = export("v", [{b"ia": packed(10, 30)}, {}, {b"ia": packed(20, horizon=600)}])
    line = exported["timelines"]["impression a"]
    assert [at[17:19] for at in line["at"]] == ["10", "20", "30"]
    assert line["matters_for_seconds"] >= 600


def test_event_ids_are_listed() -> None:
    """The five bytes kept of each, from all pieces, even those that are no longer known."""
    state: dict[bytes, bytes] = {}
    for number in range(17):
        state = keys.remember(keys.remembered(state, 0), bytes([number] * 5), NO_OUTCOME, 70)
    exported = export("v", [state, keys.remember(b"", b"later", NO_OUTCOME, 0)])
    assert exported["event_ids"] == [*(f"{number:02x}" * 5 for number in range(1, 17)), b"later".hex()]
    assert exported["timelines"] == {}


def test_a_reservation_says_what_it_is_of() -> None:
    """By the record of its places; one without a record is shown all the same."""
    places = [Reserved(b"ia" + bytes(60), 1, 16, 1), Reserved(POINTS, 3, 16, 1), Reserved(ACTIVITY, 1, 0, 1)]
    state = {HOLD + b"12345": packed(70, 70), HOLD + b"other": packed(80)}
    state |= reservations.pieces(b"12345", reservations.pack(places))
    timelines = export("v", [state])["timelines"]
    assert timelines["reservation 3132333435"]["of"] == ["impression a" + "\0" * 60, "points", "activity"]
    assert [at[17:19] for at in timelines["reservation 3132333435"]["at"]] == ["10"]
    assert timelines["reservation 6f74686572"]["of"] == []
    assert len(timelines) == 2


def test_activity_is_intervals() -> None:
    """A start and its end; those of two keys are not mixed up."""
    found = export("v", [{ACTIVITY: packed(10, 40)}, {ACTIVITY: packed(20, 30)}])["timelines"]["activity"]
    assert [at[17:19] for at in found["at"]] == ["10", "40", "20", "30"]


def test_a_parcel_on_its_way_and_one_expected() -> None:
    """Its number and its content, without the other visitor's id."""
    state = {b"M": packed(7), b"M>rt:2~other": packed(70), b"Mia": packed(10), b"ia": packed(10)}
    timelines = export("v", [state, {b"D\0\0\0\x08": packed(80)}])["timelines"]
    assert {name: line["at"][0][17:19] for name, line in timelines.items()} == {
        "impression a": "10",
        "moving impression a": "10",
        "moving to another visitor": "10",
        "expected parcel 00000008": "20",
    }
    assert timelines["moving to another visitor"]["parcel"] == "00000007"
    assert "other" not in json.dumps(timelines).replace("another", "")
    assert len(export("v", [{b"M>x": packed(70)}])["timelines"]) == 1


def test_what_cannot_be_read_is_an_error() -> None:
    """The store's own, or the name of the timeline that is corrupt: an export is complete or refused."""
    with pytest.raises(StoreError, match="down"):
        export("v", [{}, StoreError("down")])
    with pytest.raises(StoreError, match="'impression a' is corrupt"):
        export("v", [{b"ia": b"seven.."}])


def test_nothing_known_is_an_empty_export() -> None:
    """Not an error."""
    assert export("v", []) == {"visitor": "v", "timelines": {}, "event_ids": []}
