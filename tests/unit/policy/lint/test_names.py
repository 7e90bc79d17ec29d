"""names.py: names that are probably misspelled, and those that a log does not have."""

from __future__ import annotations

from typing import Any

import pytest

from retarget.policy.load import Policy


def found(data: dict[str, Any], events: tuple[str, ...] = (), labels: tuple[str, ...] = ()) -> list[str]:
    """What is found about names, as texts."""
    rules = ("unknown-label", "unknown-event", "unknown-campaign")
    everything = Policy.model_validate(data).findings(events=events, labels=labels)
    return [f"{finding.place}: {finding.text}; {finding.cure}" for finding in everything if finding.rule in rules]


A = {"a": {"labels": {"advertiser": "oyashop", "channel": "display"}}}


@pytest.mark.parametrize(
    ("caps", "expected"),
    [
        ("advertiser", []),
        ("item", []),
        ("advertizer", ["caps.advertizer: no campaign carries a label 'advertizer'; did you mean 'advertiser'?"]),
        ("advertiser:oyashop", []),
        ("advertiser:Oyashop", ["caps.advertiser:Oyashop: no campaign carries the advertiser 'Oyashop'; "
                                "did you mean 'oyashop'?"]),
        ("channel:displays", ["caps.channel:displays: no campaign carries the channel 'displays'; "
                              "did you mean 'display'?"]),
        ("channel:email", []),
    ],
)  # fmt: skip
def test_labels(caps: str, expected: list[str]) -> None:
    """A candidate may carry any label: only what is spelled like a carried one is reported."""
    assert found({"campaign": A, "caps": {caps: ["1 per day"]}}) == expected


def test_a_kind_that_is_capped_itself_is_not_meant() -> None:
    """Two kinds that are spelled alike may both be meant."""
    caps = {"advertizer": ["1 per day"], "advertiser": ["1 per day"]}
    assert found({"campaign": A, "caps": caps}) == []


def test_kinds_of_a_log() -> None:
    """With the kinds of a log, one that nothing carries is reported even if it is spelled like none."""
    caps = {"item": ["1 per day"], "slot": ["1 per day"]}
    assert found({"campaign": A, "caps": caps}, labels=("slot",)) == [
        "caps.item: no campaign carries a label 'item', nor does the log; "
        "check the name, or pass it with each candidate"
    ]


def test_channels_with_points() -> None:
    """A channel with points that is spelled like one that a campaign carries."""
    annoyance = {"threshold": ["9 per day"], "points": {"displey": 2, "email": 3}}
    assert found({"campaign": A, "annoyance": annoyance}) == [
        "annoyance.points.displey: no campaign carries the channel 'displey'; did you mean 'display'?"
    ]


def test_events() -> None:
    """An event that only one rule names, spelled like another; well-known names are never taken for a misspelling."""
    exclude = ["purchas", "subscribe newsletter", "subscribed x", "subscribe y", "visits", "visit"]
    assert found({"campaign": {"a": {"exclude": exclude}}}) == [
        "campaign.a.exclude[0]: 'purchas': no other rule names an event 'purchas'; did you mean 'purchase'?",
        "campaign.a.exclude[2]: 'subscribed x': no other rule names an event 'subscribed'; did you mean 'subscribe'?",
        "campaign.a.exclude[4]: 'visits': no other rule names an event 'visits'; did you mean 'visit'?",
    ]


def test_events_of_a_log() -> None:
    """With the events of a log, those that it does not have are reported, however they are spelled."""
    exclude = ["purchase", "buy", "impression x"]
    assert found({"campaign": {"a": {"exclude": exclude}}}, events=("purchases",)) == [
        "campaign.a.exclude[0]: 'purchase': the log has no event 'purchase'; did you mean 'purchases'?",
        "campaign.a.exclude[1]: 'buy': the log has no event 'buy'; check the name, and that it is recorded",
    ]


def test_campaigns() -> None:
    """Subjects of events that campaigns have, spelled like a campaign; other events and templates are not meant."""
    exclude = ["click notebok", "visit notebok", "click notebo{item}", "click x:notebok", "dismiss notebooks"]
    assert found({"campaign": {"notebook": {"exclude": exclude}}}) == [
        "campaign.notebook.exclude[0]: 'click notebok': there is no campaign 'notebok'; did you mean 'notebook'?",
        "campaign.notebook.exclude[4]: 'dismiss notebooks': there is no campaign 'notebooks'; did you mean 'notebook'?",
    ]
