"""explain.py: an explanation is what the ad server would decide, in the given zone."""

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


def test_an_explanation(ads: Retargeter) -> None:
    """Timelines, verdicts and the annoyance level are those of `export` and `decide`, times in the policy's zone."""
    explanation = explain_visitor(ads, "ann")
    assert explanation.known
    assert explanation.at == "2026-11-10T13:00:00+01:00"
    assert explanation.timelines["impression brand"] == ["2026-11-10T12:40:00+01:00"]
    assert explanation.verdicts == {
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
    assert explanation.annoyance == decision.annoyance
    assert list(explanation.verdicts) == list(decision)
    data = json.loads(json.dumps(explanation.to_dict()))
    assert data["annoyance"] == {"segment": "annoyance", "rule": "4 per day", "points": 1, "limit": 4}


def test_another_time_and_zone(ads: Retargeter) -> None:
    """`now` and `timezone` are those of `decide`; every time is in that zone."""
    explanation = explain_visitor(ads, "ann", now=NOON + 3_600, timezone="Asia/Tokyo")
    assert explanation.at == "2026-11-10T22:00:00+09:00"
    assert explanation.timelines["impression brand"] == ["2026-11-10T20:40:00+09:00"]
    assert explanation.verdicts["brand"]["eligible_at"] == explanation.at


def test_an_unknown_visitor(ads: Retargeter) -> None:
    """An unknown visitor has no timelines, and the verdicts of any new visitor."""
    explanation = explain_visitor(ads, "ben")
    assert not explanation.known
    assert explanation.timelines == {}
    assert explanation.verdicts["brand"]["eligible"] is True


@pytest.mark.parametrize("wrong", [{"timezone": "Mars"}, {"now": -1}])
def test_wrong_arguments(ads: Retargeter, wrong: Mapping[str, object]) -> None:
    """An invalid zone or time raises InputError."""
    with pytest.raises(InputError):
        explain_visitor(ads, "ann", **wrong)  # type: ignore[arg-type]


def test_a_store_that_fails(ads: Retargeter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails raises, whatever the policy's on_store_error says."""

    def fail(_: bytes) -> NoReturn:
        raise NotExecuted("gone")

    store = MemoryStore()
    monkeypatch.setattr(store, "read", fail)
    with pytest.raises(StoreError, match="gone"):
        explain_visitor(Retargeter(ads.policy, store), "ann")
