"""Full visitors, no visitor, no consent, no store: what the policy says without looking at the history."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from retarget import (
    Candidate,
    Event,
    InputError,
    MemoryStore,
    NotExecuted,
    PartlyExecuted,
    Policy,
    Retargeter,
    StoreError,
)
from retarget.timelines import MOST_TIMELINES, SLACK
from tests.support.fixtures import Ads, Clock
from tests.support.verdicts import DAY, see


def test_a_bots_interests_push_out_each_other_and_never_an_impression(ads: Ads, clock: Clock) -> None:
    """More products visited than there is room for: the newest are known, and the cap still holds."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]\naudience = ["visit product/{item} within 30 days"]')
    see(shop, "a", 100, clock=clock)
    number = MOST_TIMELINES + 200
    events = [Event("v", "visit", f"product/{n}", at=clock.now - 1) for n in range(number)]
    assert shop.record_many(events) == [True] * number
    assert len(shop.export("v")["timelines"]) <= MOST_TIMELINES
    newest, oldest = Candidate("b", item=f"{number - 1}"), Candidate("b", item="0")
    assert shop.decide("v", ["a", newest, oldest]).eligible in [(newest,), (newest, oldest)]
    assert shop.decide("v", ["a"]).eligible == ()


def test_a_visitor_full_of_impressions_is_blocked_with_that_reason(
    ads: Ads, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """So many campaigns seen today, each capped: nothing can be evicted, nothing is eligible; tomorrow it is."""
    shop = ads('[defaults]\ncaps = ["2 per day"]')
    shop.record_many([("bot", "impression", f"c{n}") for n in range(MOST_TIMELINES)])
    decision = shop.decide("bot", ["c1", "new"])
    assert decision.eligible == ()
    assert [(decision[c].reason, decision[c].rule) for c in decision] == [("full", "2 per day")] * 2
    assert shop.claim("bot", ["c1", "new"]) is None
    with caplog.at_level(logging.WARNING, "retarget"):
        assert shop.record("bot", "impression", "new") is False
    assert "full" in caplog.text
    assert "bot" not in caplog.text
    clock.now += DAY + SLACK + 200
    assert shop.claim("bot", ["c1", "new"]) is not None


class Untouchable:
    """A store that must not be used."""

    def _touched(self, *_: object) -> Any:
        raise AssertionError("the store was touched")

    read = write = delete = read_many = write_many = health = close = _touched


class Broken(MemoryStore):
    """A store that fails while `broken` is set."""

    broken: StoreError | None = NotExecuted("gone")

    def read(self, key: bytes) -> Any:
        if self.broken:
            raise self.broken
        return super().read(key)

    def write(self, write: Any) -> Any:
        if self.broken:
            raise self.broken
        return super().write(write)

    def read_many(self, keys: Sequence[bytes]) -> list[Any]:
        return [self.broken] * len(keys) if self.broken else super().read_many(keys)

    def write_many(self, writes: Sequence[Any]) -> list[Any]:
        return [self.broken] * len(writes) if self.broken else super().write_many(writes)


@pytest.mark.parametrize("answer", ["block", "allow"])
@pytest.mark.parametrize("who", ["unknown visitor", "no consent"])
def test_no_visitor_and_no_consent_touch_no_store(clock: Clock, answer: str, who: str) -> None:
    """The policy says what they get; nothing is read, nothing counted."""
    key = "on_unknown_visitor" if who == "unknown visitor" else "on_no_consent"
    policy = Policy.from_text(f'{key} = "{answer}"\n[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]')
    shop = Retargeter(policy, Untouchable(), clock=clock)
    visitor, consent = (None, True) if who == "unknown visitor" else ("v", False)
    decision = shop.decide(visitor, consent=consent)
    assert decision.eligible == (("a", "b") if answer == "allow" else ())
    assert [decision[c].reason for c in decision] == [who, who]
    assert decision.degraded is None
    assert decision.annoyance is None
    claim = shop.claim(visitor, ["b", "a"], consent=consent, id="x")
    assert (claim and (claim.campaign, claim.counted)) == (("b", False) if answer == "allow" else None)
    assert shop.record(visitor, "impression", "a", consent=consent) is False


def test_without_a_visitor_the_clock_still_holds_for_decide_as_for_claim(clock: Clock) -> None:
    """Allowed is not around the clock: before its flight or out of its hours a campaign is shown to nobody."""
    campaigns = '[campaign.late]\nstart = 2027-01-01\n[campaign.night]\nhours = "01:00-05:00"\n[campaign.a]'
    text = f'on_unknown_visitor = "allow"\n{campaigns}'
    shop = Retargeter(Policy.from_text(text), Untouchable(), clock=clock)
    claim = shop.claim(None)
    assert claim is not None
    assert claim.campaign == "a"
    assert shop.decide(None).eligible == ("a",)


@pytest.mark.parametrize("store", [Untouchable(), Broken()])
def test_a_wrong_candidate_is_an_error_whoever_the_visitor_is(clock: Clock, store: Any) -> None:
    """Allowing the unknown visitor, or a store's failure, does not allow a campaign that the policy does not know."""
    text = 'on_unknown_visitor = "allow"\non_store_error = "allow"\n[campaign.a]'
    shop = Retargeter(Policy.from_text(text), store, clock=clock)
    visitor = None if isinstance(store, Untouchable) else "v"
    for call in (shop.claim, shop.decide):
        with pytest.raises(InputError, match="stranger"):
            call(visitor, ["a", "stranger"])


def test_a_batch_of_visitors_may_hold_unknown_ones(ads: Ads) -> None:
    """`decide_many` answers each in order."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]')
    shop.claim("seen", ["a"])
    decisions = list(shop.decide_many(["seen", None, "new"]))
    assert [decision.eligible for decision in decisions] == [(), (), ("a",)]
    assert [decision["a"].reason for decision in decisions] == ["cap", "unknown visitor", "eligible"]


@pytest.mark.parametrize(("answer", "eligible"), [("block", ()), ("allow", ("a", "b"))])
def test_when_the_store_fails_the_policy_answers_and_marks_it(
    clock: Clock, caplog: pytest.LogCaptureFixture, answer: str, eligible: tuple[str, ...]
) -> None:
    """Block or allow; `.degraded` is the error; a claim allowed is not counted; and it recovers by itself."""
    store = Broken()
    shop = Retargeter(
        Policy.from_text(f'on_store_error = "{answer}"\n[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]'),
        store,
        clock=clock,
    )
    decision = shop.decide("v")
    assert decision.eligible == eligible
    assert decision.degraded is store.broken
    assert decision["a"].reason == "store error"
    assert [d.degraded is store.broken for d in shop.decide_many(["v", None])] == [True, False]
    claim = shop.claim("v", ["a", "b"])
    if answer == "allow":
        assert claim is not None
        assert (claim.campaign, claim.counted, claim.degraded) == ("a", False, store.broken)
    else:
        assert claim is None
    store.broken = None
    assert shop.decide("v").degraded is None
    assert shop.decide("v").eligible == ("a", "b")


def test_when_the_store_fails_the_policy_may_raise(clock: Clock) -> None:
    """`raise`: decide, claim and decide_many raise the store's error."""
    shop = Retargeter(Policy.from_text('on_store_error = "raise"\n[campaign.a]'), Broken(), clock=clock)
    for call in (lambda: shop.decide("v"), lambda: shop.claim("v"), lambda: list(shop.decide_many(["v"]))):
        with pytest.raises(NotExecuted, match="gone"):
            call()


@pytest.mark.parametrize("answer", ["block", "allow", "raise"])
def test_record_export_and_forget_always_raise(clock: Clock, answer: str) -> None:
    """Whatever the policy says about deciding, an event that was not counted raises."""
    store = Broken()
    shop = Retargeter(
        Policy.from_text(f'on_store_error = "{answer}"\n[campaign.a]\ncaps = ["1 per day"]'), store, clock=clock
    )
    with pytest.raises(NotExecuted):
        shop.record("v", "impression", "a")
    with pytest.raises(StoreError):
        shop.export("v")
    with pytest.raises(PartlyExecuted, match="2 of 3") as raised:
        shop.record_many([("v", "impression", "a"), (None, "impression", "a"), Event("w", "impression", "a")])
    assert raised.value.results == [store.broken, False, store.broken]


def test_without_a_visitor_decide_and_claim_agree_on_what_nobody_can_be_shown() -> None:
    """Allowed without history: neither a campaign outside its hours, nor one whose rule needs an absent label."""
    policy = Policy.from_text(
        'on_unknown_visitor = "allow"\n[campaign.shut]\nhours = "08:00-09:00"\n'
        '[campaign.needs-item]\naudience = ["visit product/{item}"]\n[campaign.free]\ncaps = ["1 per day"]'
    )
    ads = Retargeter(policy, "memory://", clock=lambda: 1_795_600_000)
    decision = ads.decide(None)
    assert decision.eligible == ("free",)
    assert [decision[c].reason for c in ("shut", "needs-item", "free")] == ["hours", "audience", "unknown visitor"]
    assert ads.claim(None, ["shut", "needs-item"]) is None
    claim = ads.claim(None, ["shut", "needs-item", "free"])
    assert claim is not None
    assert (claim.campaign, claim.counted) == ("free", False)
