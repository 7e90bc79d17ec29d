"""export.py: everything stored about a visitor, readable, from all their keys."""

from __future__ import annotations

import json

import pytest

from retarget import StoreError
from retarget.calls.export import export
from retarget.timelines import RECORD, timeline


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
    """The five bytes kept of each, from both buckets."""
    records = [bytes(range(start, start + RECORD)) for start in (0, 16, 32)]
    exported = export("v", [{b"#0": records[0] + records[1], b"#1": records[2]}])
    assert exported["event_ids"] == ["0001020304", "1011121314", "2021222324"]
    assert exported["timelines"] == {}


def test_what_cannot_be_read_is_an_error() -> None:
    """The store's own, or the name of the timeline that is corrupt: an export is complete or refused."""
    with pytest.raises(StoreError, match="down"):
        export("v", [{}, StoreError("down")])
    with pytest.raises(StoreError, match="'impression a' is corrupt"):
        export("v", [{b"ia": b"seven.."}])


def test_nothing_known_is_an_empty_export() -> None:
    """Not an error."""
    assert export("v", []) == {"visitor": "v", "timelines": {}, "event_ids": []}
