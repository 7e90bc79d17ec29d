# pyright: strict
"""The types of the public contract: read by mypy and pyright in `test_strictness.py`, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal, assert_type
from zoneinfo import ZoneInfo

import redis
import redis.asyncio

from retarget import (
    AnnoyanceLevel,
    AsyncRetargeter,
    Candidate,
    Claim,
    Decision,
    Event,
    Health,
    MemoryStore,
    PartlyExecuted,
    Policy,
    PolicyError,
    Retargeter,
    StoreError,
    Verdict,
)

Confirmation = Literal["confirmed", "late", "repeated"]
NOW = datetime.now(UTC)
ZURICH = ZoneInfo("Europe/Zurich")
CANDIDATES: list[str | Candidate] = ["brand", Candidate("shop", item="sku-1")]

policy = Policy.from_toml("policy.toml")
assert_type(policy, Policy)
assert_type(Policy.from_text(""), Policy)


def options() -> None:
    """Every option, in each of the types it takes, of both clients."""
    Retargeter(policy, "memory://")
    Retargeter(policy, MemoryStore(), clock=lambda: 0.0, timeout=1, prefix="rt:", pepper=None, secret=None)
    Retargeter(policy, redis.Redis(), pepper="p" * 16, secret="s" * 16, remember_denials="5 seconds")
    Retargeter(policy, "memory://", pepper=b"p" * 16, secret=b"s" * 16, remember_denials=timedelta(seconds=5))
    Retargeter(policy, "memory://", clock=None, pepper={0: None, 1: "p" * 16, 2: b"p" * 16}, remember_denials=None)
    AsyncRetargeter(policy, "memory://")
    AsyncRetargeter(policy, MemoryStore(), clock=lambda: 0, timeout=0.1, prefix="rt:", pepper=None, secret=None)
    AsyncRetargeter(policy, redis.asyncio.Redis(), pepper="p" * 16, secret=b"s" * 16, remember_denials="5 seconds")
    AsyncRetargeter(policy, "memory://", pepper={1: b"p" * 16}, remember_denials=timedelta(seconds=5))


def sync_client() -> None:
    """Every method of Retargeter."""
    with Retargeter(policy, "memory://") as ads:
        assert_type(ads, Retargeter)
        assert_type(ads.policy, Policy)
        ads.policy = policy
        assert_type(ads.decide("v"), Decision)
        assert_type(ads.decide(None, CANDIDATES, now=NOW, timezone=ZURICH, consent=False), Decision)
        assert_type(ads.decide("v", ("a", "b"), now=1_800_000_000, timezone="Europe/Zurich"), Decision)
        assert_type(ads.decide_many(["v", None]), Iterator[Decision])
        assert_type(ads.decide_many({"v"}, CANDIDATES, now=1.5, timezone=ZURICH), Iterator[Decision])
        assert_type(ads.claim("v"), Claim | None)
        assert_type(ads.claim("v", CANDIDATES, now=NOW, id="bid", hold="1 minute", timezone="UTC"), Claim | None)
        assert_type(ads.claim(None, CANDIDATES, hold=timedelta(minutes=1), consent=False), Claim | None)
        assert_type(ads.decide("v", timezone="-03:30"), Decision)
        assert_type(ads.decide("v", timezone=120), Decision)
        assert_type(ads.decide("v", timezone=timezone(timedelta(hours=2))), Decision)
        assert_type(next(ads.decide_many(["v"], timezone=UTC)), Decision)
        assert_type(ads.claim_many([("v", CANDIDATES), ("v", None, None), (None, ["a"], "id")]), list[Claim | None])
        requests = [("v", ["a", "b"], f"id-{n}") for n in range(3)]
        assert_type(ads.claim_many(requests, distinct=True, hold="1 minute", now=NOW, timezone=-60), list[Claim | None])
        assert_type(ads.claim_many((request for request in requests), hold=timedelta(minutes=1)), list[Claim | None])
        claim = ads.claim("v")
        assert claim is not None
        assert_type(ads.confirm(claim), Confirmation)
        assert_type(ads.confirm(claim.token, at=NOW), Confirmation)
        assert_type(ads.release(claim), bool)
        assert_type(ads.release(claim.token, now=1_800_000_000), bool)
        assert_type(ads.record("v", "purchase"), bool)
        assert_type(ads.record(None, "click", Candidate("a"), at=NOW, id="click-1", consent=True), bool)
        assert_type(ads.record_many([Event("v", "visit", "shop"), ("v", "visit"), {"visitor": "v"}]), list[bool])
        assert_type(ads.record_many(Event("v", "visit", f"shop-{n}") for n in range(3)), list[bool])
        assert_type(ads.export("v"), dict[str, Any])
        assert_type(ads.forget("v"), bool)
        assert_type(ads.merge("cookie", into="customer"), bool)
        assert_type(ads.merge("cookie", into="customer", now=NOW), bool)
        assert_type(ads.rotate("v"), bool)
        assert_type(ads.rotate("v", now=1.5), bool)
        assert_type(ads.health(), tuple[Health, ...])
        assert_type(ads.close(), None)


async def async_client() -> None:
    """Every method of AsyncRetargeter."""
    async with AsyncRetargeter(policy, "memory://") as ads:
        assert_type(ads, AsyncRetargeter)
        assert_type(ads.policy, Policy)
        ads.policy = policy
        assert_type(await ads.decide("v"), Decision)
        assert_type(await ads.decide(None, CANDIDATES, now=NOW, timezone=ZURICH, consent=False), Decision)
        assert_type(await ads.decide("v", ("a", "b"), now=1_800_000_000, timezone="Europe/Zurich"), Decision)
        assert_type(ads.decide_many(["v", None]), AsyncIterator[Decision])
        assert_type(ads.decide_many({"v"}, CANDIDATES, now=1.5, timezone=ZURICH), AsyncIterator[Decision])
        assert_type([decision async for decision in ads.decide_many(["v"])], list[Decision])
        assert_type(await ads.claim("v"), Claim | None)
        assert_type(await ads.claim("v", CANDIDATES, now=NOW, id="bid", hold="1 minute", timezone="UTC"), Claim | None)
        assert_type(await ads.claim(None, CANDIDATES, hold=timedelta(minutes=1), consent=False), Claim | None)
        assert_type(await ads.decide("v", timezone="-03:30"), Decision)
        assert_type(await ads.claim_many([("v", CANDIDATES), ("v", None, None)]), list[Claim | None])
        requests = [("v", ["a", "b"], f"id-{n}") for n in range(3)]
        assert_type(await ads.claim_many(requests, distinct=True, hold="1 minute", timezone=-60), list[Claim | None])
        claim = await ads.claim("v")
        assert claim is not None
        assert_type(await ads.confirm(claim), Confirmation)
        assert_type(await ads.confirm(claim.token, at=NOW), Confirmation)
        assert_type(await ads.release(claim), bool)
        assert_type(await ads.release(claim.token, now=1_800_000_000), bool)
        assert_type(await ads.record("v", "purchase"), bool)
        assert_type(await ads.record(None, "click", Candidate("a"), at=NOW, id="click-1", consent=True), bool)
        assert_type(await ads.record_many([Event("v", "visit", "shop"), ("v", "visit"), {"visitor": "v"}]), list[bool])
        assert_type(await ads.record_many(Event("v", "visit", f"shop-{n}") for n in range(3)), list[bool])
        assert_type(await ads.export("v"), dict[str, Any])
        assert_type(await ads.forget("v"), bool)
        assert_type(await ads.merge("cookie", into="customer"), bool)
        assert_type(await ads.merge("cookie", into="customer", now=NOW), bool)
        assert_type(await ads.rotate("v"), bool)
        assert_type(await ads.rotate("v", now=1.5), bool)
        assert_type(ads.health(), tuple[Health, ...])
        assert_type(await ads.close(), None)


def values(ads: Retargeter, claim: Claim, event: Event, candidate: Candidate) -> None:
    """Every public member of what the methods take and return."""
    decision = ads.decide("v", CANDIDATES)
    assert_type(decision.eligible, tuple[str | Candidate, ...])
    assert_type(decision["brand"], Verdict)
    assert_type(decision[candidate], Verdict)
    assert_type(list(decision), list[str | Candidate])
    assert_type(len(decision), int)
    assert_type(decision.at, datetime)
    assert_type(decision.second, int)
    assert_type(decision.degraded, StoreError | None)
    assert_type(decision.annoyance, AnnoyanceLevel | None)

    verdict = decision["brand"]
    assert_type(verdict.eligible, bool)
    assert_type(bool(verdict), bool)
    reason: str = verdict.reason
    assert reason
    assert_type(verdict.rule, str | None)
    assert_type(verdict.seen, int | None)
    assert_type(verdict.limit, int | None)
    assert_type(verdict.eligible_at, datetime | None)

    level = decision.annoyance
    assert level is not None
    assert_type((level.segment, level.rule), tuple[str, str])
    assert_type((level.points, level.limit), tuple[int, int])

    assert_type(claim.candidate, str | Candidate)
    assert_type(claim.campaign, str)
    assert_type(claim.token, str)
    assert_type(claim.at, datetime)
    assert_type(claim.second, int)
    assert_type(claim.held_for, int | None)
    assert_type((claim.counted, claim.repeated), tuple[bool, bool])
    assert_type(claim.degraded, StoreError | None)

    assert_type(event.visitor, str | None)
    assert_type(event.event, str)
    assert_type(event.subject, str | Candidate | None)
    assert_type(event.at, datetime | float | None)
    assert_type(event.id, str | None)
    assert_type(candidate.campaign, str)
    assert_type(candidate.labels, tuple[tuple[str, str], ...])

    health = ads.health()[0]
    assert_type((health.server, health.up, health.failures, health.error), tuple[str, bool, int, str])


def errors(invalid: PolicyError, partly: PartlyExecuted) -> None:
    """What errors carry."""
    assert_type(invalid.problems, list[str])
    assert_type(partly.results, list[Any])
