"""Explanations: what is told of a visitor is what the ad server would decide, in the zone asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn

import pytest

from retarget.errors import InputError, NotExecuted, StoreError
from retarget.operate.explain import explain_visitor
from retarget.policy import Policy
from retarget.retargeter import Retargeter
from retarget.stores import MemoryStore

NOON = 1_794_312_000  # 2026-11-10 12:00 UTC
POLICY = """
    timezone = "Europe/Zurich"
    on_store_error = "allow"

    [annoyance]
    threshold = ["4 per day"]

    [campaign.brand]
    caps = ["1 per hour"]

    [campaign.invited]
    audience = ["click brand"]
"""


@pytest.fixture
def ads() -> Retargeter:
    """A retargeter in memory, and a visitor who was shown the brand 20 minutes ago."""
    ads = Retargeter(Policy.from_text(POLICY), MemoryStore(), clock=lambda: NOON)
    ads.record("ann", "impression", "brand", at=NOON - 1_200)
    return ads


def test_what_is_told(ads: Retargeter) -> None:
    """Timelines, verdicts and the annoyance level are those of `export` and `decide`, moments in the policy's zone."""
    told = explain_visitor(ads, "ann")
    assert told.known
    assert told.at == "2026-11-10T13:00:00+01:00"
    assert told.timelines["impression brand"] == ["2026-11-10T12:40:00+01:00"]
    assert told.verdicts == {
        "brand": {
            "eligible": False,
            "reason": "cap",
            "rule": "1 per hour",
            "seen": 1,
            "limit": 1,
            "eligible_at": "2026-11-10T13:40:01+01:00",
        },
        "invited": {
            "eligible": False,
            "reason": "audience",
            "rule": "click brand",
            "seen": 0,
            "limit": 1,
            "eligible_at": None,
        },
    }
    decision = ads.decide("ann")
    assert told.annoyance == decision.annoyance
    assert list(told.verdicts) == list(decision)
    data = json.loads(json.dumps(told.to_dict()))
    assert data["annoyance"] == {"segment": "annoyance", "rule": "4 per day", "points": 1, "limit": 4}


def test_another_moment_and_zone(ads: Retargeter) -> None:
    """`now` and `timezone` are those of `decide`; every moment is told in that zone."""
    told = explain_visitor(ads, "ann", now=NOON + 3_600, timezone="Asia/Tokyo")
    assert told.at == "2026-11-10T22:00:00+09:00"
    assert told.timelines["impression brand"] == ["2026-11-10T20:40:00+09:00"]
    assert told.verdicts["brand"]["eligible_at"] == told.at


def test_somebody_unknown(ads: Retargeter) -> None:
    """Of a visitor who is not known nothing is told but what anybody new gets."""
    told = explain_visitor(ads, "ben")
    assert not told.known
    assert told.timelines == {}
    assert told.verdicts["brand"]["eligible"] is True


@pytest.mark.parametrize("wrong", [{"timezone": "Mars"}, {"now": -1}])
def test_wrong_arguments(ads: Retargeter, wrong: Mapping[str, object]) -> None:
    """A zone or a moment that cannot be is the caller's error."""
    with pytest.raises(InputError):
        explain_visitor(ads, "ann", **wrong)  # type: ignore[arg-type]


def test_a_store_that_fails(ads: Retargeter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the store fails there is no explanation: the policy's answer to that would explain nothing."""

    def fail(_: bytes) -> NoReturn:
        raise NotExecuted("gone")

    store = MemoryStore()
    monkeypatch.setattr(store, "read", fail)
    with pytest.raises(StoreError, match="gone"):
        explain_visitor(Retargeter(ads.policy, store), "ann")
