"""merge.py through `rotate`: a history moves from the keys of old peppers to the current one's."""

from __future__ import annotations

from typing import Any

import pytest

from retarget import MemoryStore, NotExecuted, Retargeter
from retarget.calls import Visitors
from retarget.calls.merge import move_history
from retarget.engine import Plan
from retarget.timelines import Answer, Store, Write
from tests.support.fixtures import Clock
from tests.support.merges import COUNTED, NOW, ByHand

PEPPERS: list[Any] = [None, {0: None, 1: "p" * 16}, {0: None, 1: "p" * 16, 2: "q" * 16}]
SECRET = "s" * 16


@pytest.fixture
def ages(store: Store, clock: Clock) -> list[Retargeter]:
    """Retargeters of one store: without a pepper, with a first one, with a second."""
    return [Retargeter(COUNTED, store, clock=clock, pepper=pepper, secret=SECRET) for pepper in PEPPERS]


def shown(ads: Retargeter, visitor: str = "v") -> int:
    """How many impressions are stored under all keys that the retargeter knows."""
    return len(ads.export(visitor)["timelines"].get("impression a", {"at": []})["at"])


def seen(ads: Retargeter, visitor: str = "v") -> int:
    """How many impressions of a count: a copy of the policy with a cap of one names them all."""
    policy, ads.policy = ads.policy, ads.policy.from_text('[campaign.a]\ncaps = ["1 per day"]')
    count = ads.decide(visitor)["a"].seen or 0
    ads.policy = policy
    return count


def test_every_old_key_moves(ages: list[Retargeter]) -> None:
    """From no pepper and from the first, into the second; then there is nothing left to move."""
    for ads in ages:
        ads.record("v", "impression", "a")
    newest = ages[-1]
    assert seen(newest) == 1
    assert [newest.rotate("v"), newest.rotate("v")] == [True, False]
    assert (seen(newest), shown(newest)) == (3, 3)
    assert [seen(ads) for ads in ages[:-1]] == [0, 0]


def test_a_token_of_before_a_pepper_after_a_rotation(ages: list[Retargeter], clock: Clock) -> None:
    """It is confirmed in time, where it was reserved, and counts once: under the old key until it is rotated again."""
    claim = ages[0].claim("v", hold="15 minutes")
    assert claim is not None
    new = ages[1]
    assert new.rotate("v")
    assert seen(new) == 1
    assert [new.confirm(claim.token), new.confirm(claim.token)] == ["confirmed", "repeated"]
    assert new.rotate("v")
    assert shown(new) == 1
    clock.now += 901
    assert (seen(new), shown(new)) == (1, 1)


def test_a_late_token_of_before_a_pepper_is_repeated_by_a_clock_that_is_behind(store: Store, clock: Clock) -> None:
    """For that clock the hold is open where it was reserved, but it has been counted: once is enough."""
    claim = Retargeter(COUNTED, store, clock=clock, secret=SECRET).claim("v", hold="15 minutes")
    assert claim is not None
    options: dict[str, Any] = {"pepper": PEPPERS[1], "secret": SECRET}
    new = Retargeter(COUNTED, store, clock=clock, **options)
    behind = Retargeter(COUNTED, store, clock=lambda: clock.now - 290, **options)
    clock.now += 1_000
    assert [new.confirm(claim.token), behind.confirm(claim.token)] == ["late", "repeated"]
    assert (seen(new), shown(new)) == (1, 1)


def test_a_late_confirmation_that_counted_never_says_that_it_did_not(clock: Clock) -> None:
    """The server of the old key fails once it is counted under the new one: late all the same, and repeated then."""
    store = MemoryStore()
    claim = Retargeter(COUNTED, store, clock=clock, secret=SECRET).claim("v", hold="15 minutes")
    assert claim is not None
    new = Retargeter(COUNTED, _FailsAfter(store, 2), clock=clock, pepper=PEPPERS[1], secret=SECRET)
    clock.now += 1_000
    assert [new.confirm(claim.token), seen(new)] == ["late", 1]


class _FailsAfter:
    """A store that does not execute what is written after so many writes."""

    def __init__(self, store: MemoryStore, writes: int) -> None:
        self._store, self._left = store, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, write: Write) -> Answer:
        self._left -= 1
        if self._left < 0:
            raise NotExecuted("this store has stopped")
        return self._store.write(write)


def test_a_token_of_before_a_pepper_that_is_released_after_a_rotation(ages: list[Retargeter], clock: Clock) -> None:
    """It is released; under the new key it counts until it would have lapsed."""
    claim = ages[0].claim("v", hold="15 minutes")
    assert claim is not None
    new = ages[1]
    assert new.rotate("v")
    assert [new.release(claim.token), new.release(claim.token)] == [True, False]
    assert seen(new) == 1
    clock.now += 901
    assert (seen(new), shown(new)) == (0, 0)


@pytest.mark.parametrize("after", range(6))
def test_a_rotation_that_was_interrupted_is_finished_by_the_next(
    store: Store, ages: list[Retargeter], after: int
) -> None:
    """After any step, whatever pepper is current by then: everything counts once."""
    ages[0].record_many([("v", "impression", "a", NOW)] * 2)
    old, first = Visitors("rt:", PEPPERS[1]).all_keys("v")
    ByHand(move_history(Plan(COUNTED), old, first, NOW), store).step(after)
    newest = ages[2]
    newest.rotate("v")
    newest.rotate("v")
    assert (seen(newest), shown(newest)) == (2, 2)


def test_a_merge_to_a_customer_of_an_old_pepper_is_finished_first(store: Store, ages: list[Retargeter]) -> None:
    """A parcel noted before the rotation goes where it was going, and moves on from there."""
    ages[1].record("cookie", "impression", "a")
    visitors = Visitors("rt:", PEPPERS[1])
    ByHand(move_history(Plan(COUNTED), visitors.key("cookie"), visitors.key("customer"), NOW), store).step(3)
    newest = ages[2]
    newest.rotate("cookie")
    newest.rotate("customer")
    newest.merge("cookie", into="customer")
    assert (seen(newest, "customer"), shown(newest, "cookie")) == (1, 0)
