"""The public contract's types: read by mypy in `test_strictness.py`, never run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, assert_type

from retarget import Candidate, Claim, Decision, MemoryStore, Policy, Retargeter, Verdict

policy = Policy.from_toml("policy.toml")
ads = Retargeter(policy, MemoryStore(), clock=lambda: 0.0, timeout=0.1, prefix="rt:")
decision = ads.decide("visitor", ["brand", Candidate("shop", item="sku-1")], now=datetime.now().astimezone())
assert_type(decision, Decision)
assert_type(decision.eligible, tuple[str | Candidate, ...])
assert_type(decision["brand"], Verdict)
assert_type(decision["brand"].eligible_at, datetime | None)
assert_type(ads.claim("visitor", ["brand"], id="bid-1"), Claim | None)
assert_type(ads.record("visitor", "impression", "brand", at=1_800_000_000), bool)
assert_type(ads.decide_many(["visitor", None], ["brand"]), Iterator[Decision])
assert_type(ads.record_many([("visitor", "visit", "shop")]), list[bool])
assert_type(ads.export("visitor"), dict[str, Any])
assert_type(ads.forget("visitor"), bool)
