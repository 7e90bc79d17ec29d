"""What a caller is promised of the store, on each of them: expiry, ids, prefixes, clocks that differ."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from itertools import count

import pytest

from retarget import ConfigError, MemoryStore, Policy, PolicyError, Retargeter
from retarget.timelines import SLACK, Store, keys
from tests.support import servers
from tests.support.fixtures import Clock
from tests.support.servers import Server

HOUR, DAY = 3_600, 86_400

Shop = Callable[..., Retargeter]


@pytest.fixture
def shop(store: Store) -> Shop:
    """Retargeters over one store, each with a policy, a clock and perhaps a prefix."""

    def shop(text: str, clock: Callable[[], float], prefix: str = "rt:") -> Retargeter:
        return Retargeter(Policy.from_text(text), store, clock=clock, prefix=prefix, timeout=servers.PATIENCE)

    return shop


def left(store: Store, behind: Server | None, clock: Clock, visitor: str = "v") -> int:
    """Seconds until the visitor expires."""
    if isinstance(store, MemoryStore):
        return store.ttl(keys.key("rt:", visitor), clock.now) or -2
    assert behind is not None
    with behind.client() as client:
        return int(client.ttl(keys.key("rt:", visitor)))


@pytest.mark.parametrize("ahead", [0, 8, 300])
def test_a_visitor_outlives_the_window_by_what_clocks_may_differ(
    shop: Shop, store: Store, behind: Server | None, clock: Clock, ahead: int
) -> None:
    """A caller 300 seconds behind the one who recorded it still finds the event while it is in their window."""
    ads = shop('[campaign.a]\ncaps = ["1 per hour"]', clock)
    assert ads.record("v", "impression", "a", at=clock.now + ahead)
    assert left(store, behind, clock) >= ahead + HOUR + 300


def test_events_ahead_do_not_prune_what_counts_for_a_caller_whose_clock_is_right(shop: Shop, clock: Clock) -> None:
    """One within the hour; then two, told by a caller 300 seconds ahead, of 300 seconds ahead of that."""
    text = '[campaign.a]\ncaps = ["3 per hour"]'
    right, ahead = shop(text, clock), shop(text, lambda: clock.now + 300)
    assert right.record("v", "impression", "a", at=clock.now - HOUR)
    for _ in range(2):
        assert ahead.record("v", "impression", "a", at=clock.now + 600)
    assert right.decide("v", ["a"]).eligible == ()
    assert right.claim("v", ["a"]) is None


def test_a_repeated_claim_is_told_by_more_than_24_bits(shop: Shop, clock: Clock) -> None:
    """Two campaigns that 24 bits do not tell apart: the repeat names the one that was counted, whatever the order."""
    seen: dict[bytes, str] = {}
    for number in count():
        name = f"campaign-{number}"
        known = seen.setdefault(blake2b(name.encode(), digest_size=3).digest(), name)
        if known != name:
            break
    ads = shop("[defaults]", clock)
    first = ads.claim("v", [name, known], id="bid-1")
    again = ads.claim("v", [known, name], id="bid-1")
    assert first is not None
    assert again is not None
    assert (first.campaign, again.campaign, again.repeated) == (name, name, True)


@pytest.mark.parametrize("second", [0.0, 0.25, 0.9])
def test_a_hold_of_a_second_lasts_a_second(shop: Shop, second: float) -> None:
    """Times are floored to the second; a hold is not shortened by it."""
    now = [1_794_312_000 + second]
    ads = shop('[campaign.a]\ncaps = ["5 per day"]', lambda: now[0])
    claim = ads.claim("v", ["a"], hold="1 second")
    assert claim is not None
    now[0] += 0.99
    assert ads.confirm(claim) == "confirmed"


def test_the_visitors_of_two_prefixes_are_two(shop: Shop, clock: Clock) -> None:
    """The prefix "rt:shop" with the visitor "1:bob", and "rt:shop1:" with "bob"; whatever number the format has."""
    text = '[campaign.a]\ncaps = ["1 per day"]'
    seen = [
        ("rt:shop", "1:bob"),
        ("rt:shop1:", "bob"),
        ("rt:shop", "2~bob"),
        ("rt:shop2", "~bob"),
        ("rt:sho", "p2~bob"),
    ]
    for prefix, visitor in seen:
        assert shop(text, clock, prefix).claim(visitor, ["a"]) is not None
    for prefix, visitor in seen:
        assert shop(text, clock, prefix).claim(visitor, ["a"]) is None
        assert shop(text, clock, prefix).forget(visitor) is True


def test_an_id_is_known_for_a_day_and_then_on_no_store(
    shop: Shop, store: Store, behind: Server | None, clock: Clock
) -> None:
    """Where windows are short: a server keeps the visitor for that long, and memory does not keep the id longer."""
    ads = shop('[campaign.a]\ncaps = ["5 per minute"]', clock)
    assert ads.record("v", "impression", "a", id="bid-1")
    assert DAY <= left(store, behind, clock) <= DAY + SLACK
    clock.now += DAY
    assert not ads.record("v", "impression", "a", id="bid-1")
    clock.now += 1
    assert ads.record("v", "impression", "a", id="bid-1")


def test_a_repeated_confirmation_counts_nothing_as_long_as_it_counts(
    shop: Shop, store: Store, behind: Server | None, clock: Clock
) -> None:
    """The id of a confirmation is known as long as the impression that it entered."""
    ads = shop('[campaign.a]\ncaps = ["2 per 30 days"]', clock)
    claim = ads.claim("v", ["a"], hold="1 minute")
    assert claim is not None
    assert ads.confirm(claim) == "confirmed"
    assert left(store, behind, clock) >= 30 * DAY
    clock.now += 29 * DAY
    assert ads.confirm(claim.token) == "repeated"
    assert ads.claim("v", ["a"]) is not None


def test_66_000_conditions_work_or_are_refused_when_the_policy_is_loaded(shop: Shop, clock: Clock) -> None:
    """A claim that cannot be sent is not noticed before."""
    texts = ", ".join(f'"visit s{number}"' for number in range(66_000))
    try:
        ads = shop(f"[campaign.a]\nexclude = [{texts}]", clock)
    except PolicyError:
        return
    assert ads.claim("v", ["a"]) is not None
    ads.record("v", "visit", "s65999")
    assert ads.claim("v", ["a"]) is None


def test_a_prefix_that_ends_itself_is_refused(store: Store) -> None:
    """`~` and `!` end it in a key."""
    for prefix in ("a~", "!", "a!b"):
        with pytest.raises(ConfigError, match="~ and !"):
            Retargeter(Policy.from_text("[campaign.a]"), store, prefix=prefix)
