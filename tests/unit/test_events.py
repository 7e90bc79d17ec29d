"""events.py: candidates and events are plain values."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime

import pytest

from retarget import Candidate, Event


def test_a_candidate_is_compared_by_campaign_and_labels() -> None:
    """Whatever the order of its labels; so it can be looked up."""
    one, other = Candidate("shop", item="sku-1", slot="top"), Candidate("shop", slot="top", item="sku-1")
    assert one == other
    assert len({one, other, Candidate("shop"), Candidate("shop", item="sku-2")}) == 3
    assert one.labels == (("item", "sku-1"), ("slot", "top"))


def test_a_candidate_reads_as_its_campaign_and_labels() -> None:
    """What tells two candidates of one claim apart."""
    assert str(Candidate("shop", slot="top", item="sku-1")) == "shop item=sku-1 slot=top"
    assert str(Candidate("shop")) == "shop"


@pytest.mark.parametrize(
    "value",
    [
        Candidate("shop"),
        Candidate("shop", item="sku-1", slot="top"),
        Event("v", "impression", Candidate("shop", item="x"), datetime(2026, 11, 10, tzinfo=UTC), "imp-1"),
        Event(None, "visit"),
    ],
    ids=str,
)
def test_values_survive_pickle_and_copy(value: Candidate | Event) -> None:
    """Equal afterwards, with an equal hash: they can be sent to another process."""
    for same in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):  # noqa: S301 - our own
        assert same == value
        assert hash(same) == hash(value)


def test_values_cannot_be_changed() -> None:
    """Frozen: one may be shared by threads and used as a key."""
    with pytest.raises(AttributeError):
        Candidate("shop").campaign = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Event("v", "visit").event = "click"  # type: ignore[misc]


def test_an_event_does_not_show_its_visitor() -> None:
    """Events end up in logs."""
    assert "person-7" not in repr(Event("person-7", "visit", "shop"))
