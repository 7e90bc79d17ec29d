"""Kinds of rows in the library's words, and the rows that it refuses."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from retarget.errors import InputError, LogError
from retarget.events import Candidate
from retarget.logs import Kind
from retarget.logs.log import LogRow
from retarget.policy import Policy
from retarget.replay.meanings import Meanings, zone_named
from retarget.replay.run import replay
from retarget.stores import MemoryStore
from tests.support.replays import MONDAY, opened, row


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (row(MONDAY, "v", None), "an impression without a campaign"),
        (row(MONDAY, "v", "c", event="Add To Cart"), "event='Add To Cart' is not a valid event name"),
        (row(MONDAY, "v", "c\n"), "control characters"),
        (row(MONDAY, "v" * 600, "c"), "a visitor's id has 1 to"),
        (row(MONDAY, "v", "c", timezone="Mars/Olympus"), "'Mars/Olympus' is not a known time zone"),
    ],
)
@pytest.mark.parametrize("store", ["memory://", MemoryStore()])
def test_rows_that_are_refused(wrong: LogRow, message: str, store: str | MemoryStore) -> None:
    """A row that the library refuses is a LogError with the row's time and the reason."""
    log = opened([row(MONDAY - 5), wrong])
    with log, pytest.raises(LogError, match=r"the row of 2026-11-02T00:00:00") as raised:
        replay(log, Policy.from_text('[defaults]\ncaps = ["1 per day"]'), store=store)
    assert message in str(raised.value)
    assert "v" * 600 not in str(raised.value)


KIND = Kind("impression", "c", None, False, False, None, False, False, ("still", None), 1, MONDAY, 0, 0)  # noqa: FBT003
"""An impression of campaign c with one of two labels."""


def meanings() -> Meanings:
    return Meanings(Policy.from_text('timezone = "Europe/Zurich"\n[defaults]'), ["creative", "item"])


def test_an_impression_with_its_reactions() -> None:
    """An impression is an ad with the labels that it has; its click and conversion are events of the same ad."""
    ad = Candidate("c", creative="still")
    assert meanings().of(KIND) == ((("impression", ad),), ad, ZoneInfo("Europe/Zurich"))
    reacted = meanings().of(KIND._replace(click=True, conversion=True, timezone="Asia/Tokyo"))
    assert reacted == ((("impression", ad), ("click", ad), ("conversion", ad)), ad, ZoneInfo("Asia/Tokyo"))


@pytest.mark.parametrize(
    ("campaign", "subject", "about"),
    [
        ("c", None, Candidate("c", creative="still")),
        ("c", "c", Candidate("c", creative="still")),
        ("c", "home", "home"),
        (None, "home", "home"),
        (None, None, None),
    ],
)
def test_other_events(campaign: str | None, subject: str | None, about: object) -> None:
    """Another event is about its subject, or else about its campaign, with the labels if it is about the campaign."""
    found = meanings().of(KIND._replace(event="click", campaign=campaign, subject=subject))
    assert (found.events, found.ad) == ((("click", about),), None)


def test_a_refused_kind() -> None:
    """A kind without a campaign and an unknown time zone are errors that say what would be right."""
    with pytest.raises(InputError, match="map a column to campaign, or give one for all rows"):
        meanings().of(KIND._replace(campaign=None))
    with pytest.raises(InputError, match="time zone 'Mars' is not a known time zone: write an IANA name"):
        zone_named("Mars")
