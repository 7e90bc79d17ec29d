"""claims.py: reserved impressions are confirmed, late or released; and claims that reserved nothing."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from retarget import (
    Candidate,
    InputError,
    NotExecuted,
    Policy,
    Retargeter,
)
from retarget.timelines import Store
from tests.support import servers
from tests.support.copies import COPIES
from tests.support.fixtures import Ads, Clock
from tests.support.holds import (
    CAP,
    HOUR,
    LAPSED,
    MINUTE,
    QUARTER,
    SECRET,
    SHOP,
    Counting,
    again,
    free,
    hold,
    local,
    reserved,
    shown,
)
from tests.support.servers import Server

# -- confirmed, late, released -----------------------------------------------------------------------------------------


def test_confirm_makes_it_an_impression_at_the_time_of_the_confirm(ads: Ads, clock: Clock) -> None:
    """The window begins when it was shown, not when it was reserved; nothing is left of the reservation."""
    shop = ads(CAP)
    claim = hold(shop)
    clock.now += 10 * MINUTE
    assert shop.confirm(claim) == "confirmed"
    assert shown(shop) == [clock.now]
    assert reserved(shop) == []
    assert again(shop) == clock.now + HOUR + 1


def test_confirm_takes_a_time_of_its_own(ads: Ads, clock: Clock) -> None:
    """`at`: a late notice says when it was shown; a time without a zone is refused and changes nothing."""
    shop = ads(CAP)
    claim = hold(shop)
    clock.now += 10 * MINUTE
    with pytest.raises(InputError, match="time zone"):
        shop.confirm(claim, at=datetime.fromtimestamp(clock.now))  # noqa: DTZ006 - the mistake
    assert shown(shop) == []
    assert shop.confirm(claim, at=clock.now - MINUTE) == "confirmed"
    assert shown(shop) == [clock.now - MINUTE]


@pytest.mark.parametrize(("after", "expected"), [(QUARTER, "confirmed"), (LAPSED, "late"), (2 * HOUR, "late")])
def test_confirm_after_the_end_counts_and_says_late(ads: Ads, clock: Clock, after: int, expected: str) -> None:
    """It was shown, so it counts, even if that exceeds the cap: the caller learns that it was late."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]')
    claim = hold(shop)
    clock.now += after
    other = shop.claim("v", ["a"])
    assert (other is None) == (expected == "confirmed")
    assert shop.confirm(claim) == expected
    assert shown(shop) == [clock.now] * (1 + (other is not None))


def test_confirmed_later_than_any_rule_asks_about_it_is_late_and_logged(
    ads: Ads, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts nowhere, so the log says so, as for an event that is recorded."""
    shop = ads(CAP)
    claim = hold(shop)
    shown_at = clock.now
    clock.now += 2 * HOUR
    assert shop.confirm(claim, at=shown_at) == "late"
    assert shown(shop) == []
    assert [record.getMessage() for record in caplog.records] == [
        "confirm: an event of 2026-11-10T12:00:00+00:00 is older than any rule asks about, and was dropped "
        "(for an old log, give a clock= of its time)"
    ]


def test_confirm_and_release_may_be_repeated(ads: Ads, clock: Clock) -> None:
    """A repeat changes nothing and says so."""
    shop = ads('[campaign.a]\ncaps = ["3 per day"]')
    claim, other = hold(shop), hold(shop)
    assert [shop.confirm(claim) for _ in range(3)] == ["confirmed", "repeated", "repeated"]
    clock.now += LAPSED
    assert shop.confirm(claim.token) == "repeated"
    assert shown(shop) == [clock.now - LAPSED]
    assert shop.confirm(other) == "late"
    assert shop.confirm(other) == "repeated"


def test_release_frees_at_once(ads: Ads) -> None:
    """The lost bid counts for nothing; a second release finds nothing."""
    shop = ads(CAP)
    claim = hold(shop)
    assert not free(shop)
    assert [shop.release(claim), shop.release(claim.token), shop.release(claim)] == [True, False, False]
    assert reserved(shop) == []
    assert shop.claim("v", ["a"]) is not None


def test_release_after_the_end_finds_nothing(ads: Ads, clock: Clock) -> None:
    """It has lapsed by itself; one second before there was something to release."""
    shop = ads('[campaign.a]\ncaps = ["2 per day"]')
    first, second = hold(shop), hold(shop)
    clock.now += QUARTER
    assert shop.release(first) is True
    clock.now += 1
    assert shop.release(second) is False


def test_release_after_confirm_does_nothing(ads: Ads) -> None:
    """What was shown cannot be unshown."""
    shop = ads(CAP)
    claim = hold(shop)
    shop.confirm(claim)
    assert shop.release(claim) is False
    assert len(shown(shop)) == 1
    assert not free(shop)


def test_confirm_after_release_counts_as_late(ads: Ads) -> None:
    """A caller who reports "lost" and then "shown" was wrong once; a cap is about what was shown."""
    shop = ads(CAP)
    claim = hold(shop)
    assert shop.release(claim) is True
    assert [shop.confirm(claim), shop.confirm(claim)] == ["late", "repeated"]
    assert len(shown(shop)) == 1


def test_the_label_and_the_points_are_released_and_confirmed_with_it(ads: Ads) -> None:
    """Every timeline that the impression was reserved in is freed, or entered."""
    shop = ads(
        '[annoyance]\nthreshold = ["6 per day"]\npoints = { email = 3 }\n[caps]\nadvertiser = ["2 per day"]\n'
        f'item = ["2 per day"]\n[campaign.a]\n{SHOP}\ncaps = ["2 per day"]'
    )
    candidate = Candidate("a", item="x")
    one, two = hold(shop, candidate), hold(shop, candidate)
    assert shop.release(one) is True
    assert shop.confirm(two) == "confirmed"
    assert reserved(shop) == []
    timelines = shop.export("v")["timelines"]
    counts = {name: len(found["at"]) for name, found in timelines.items() if name != "reserved until"}
    labels = {"capped impression advertiser:acme": 1, "capped impression item:x": 1}
    assert counts == {"impression a": 1, **labels, "points": 3}


def test_two_holds_that_end_in_the_same_second_are_told_apart(ads: Ads, clock: Clock) -> None:
    """One is released, one confirmed, one lapses: each independently."""
    shop = ads('[campaign.a]\ncaps = ["3 per day"]')
    one, two, three = hold(shop), hold(shop), hold(shop)
    assert len({one.token, two.token, three.token}) == 3
    assert shop.claim("v", ["a"]) is None
    assert [shop.release(one), shop.release(one)] == [True, False]
    assert shop.decide("v")["a"].seen is None
    assert hold(shop).token != one.token
    assert shop.confirm(two) == "confirmed"
    assert not free(shop)
    clock.now += LAPSED
    assert shop.confirm(three) == "late"
    assert len(shown(shop)) == 2


def test_holds_of_different_lengths_end_in_their_own_order(ads: Ads, clock: Clock) -> None:
    """The last one reserved may be the first to lapse."""
    shop = ads('[campaign.a]\ncaps = ["3 per day"]')
    hold(shop, length="30 minutes")
    hold(shop, length="10 minutes")
    middle = hold(shop, length="20 minutes")
    clock.now += 10 * MINUTE + 1
    plain = shop.claim("v", ["a"])
    assert plain is not None
    assert not free(shop)
    assert shop.release(middle) is True
    assert free(shop)


# -- from another process ----------------------------------------------------------------------------------------------

_ELSEWHERE = """
import sys
from retarget import Policy, Retargeter
url, token, secret, now = sys.argv[1:]
with Retargeter(Policy.from_text('[campaign.other]'), url, secret=secret, timeout=1, clock=lambda: int(now)) as ads:
    print(ads.confirm(token), ads.confirm(token), ads.release(token))
"""


def test_another_process_confirms_by_the_token(server: Server, clock: Clock) -> None:
    """The token and the secret are all it takes; its policy need not even know the campaign."""
    with Retargeter(Policy.from_text(CAP), servers.open_store(server.url), clock=clock, secret=SECRET) as shop:
        claim = hold(shop)
        words = [sys.executable, "-c", _ELSEWHERE, server.url, claim.token, SECRET, str(clock.now + MINUTE)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=servers.PATIENCE, check=True)
        assert done.stdout.split() == ["confirmed", "repeated", "False"]
        assert shop.confirm(claim) == "repeated"


def test_another_retargeter_confirms_what_this_one_reserved(ads: Ads, store: Store, clock: Clock) -> None:
    """The same store, prefix and policy: the impression is entered as if it were its own."""
    here = ads(CAP, prefix="rt:shared:", secret=SECRET)
    there = ads(CAP, prefix="rt:shared:", secret=SECRET.encode())
    claim = hold(here)
    clock.now += MINUTE
    assert there.confirm(claim.token) == "confirmed"
    assert shown(here) == [clock.now]


def test_a_hold_outlives_its_campaign(ads: Ads) -> None:
    """The policy no longer has it: confirm and release work, and count where a rule still asks."""
    shop = ads('[annoyance]\nthreshold = ["9 per day"]\n[campaign.a]\ncaps = ["5 per day"]')
    one, two = hold(shop), hold(shop)
    shop.policy = Policy.from_text('[annoyance]\nthreshold = ["9 per day"]\n[campaign.b]')
    assert shop.confirm(one) == "confirmed"
    assert shop.release(two) is True
    level = shop.decide("v").annoyance
    assert level is not None
    assert level.points == 1
    shop.policy = Policy.from_text("[campaign.b]")
    assert shop.confirm(two) == "late"


def test_a_claim_repeated_with_its_id_reserves_once(ads: Ads, clock: Clock) -> None:
    """The same campaign, and a token that confirms the same reservation: the first answer may have been lost."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]')
    first = shop.claim("v", ["a", "b"], id="bid-1", hold="15 minutes")
    clock.now += MINUTE
    second = shop.claim("v", ["b", "a"], id="bid-1", hold="15 minutes")
    assert first is not None
    assert second is not None
    assert (first.campaign, first.repeated) == ("a", False)
    assert (second.campaign, second.repeated) == ("a", True)
    assert shop.confirm(second.token) == "confirmed"
    assert shop.confirm(first.token) == "repeated"
    assert shown(shop) == [clock.now]
    assert shop.record("v", "impression", "a", id="bid-1") is False


def test_the_same_id_of_two_visitors_are_two_reservations(ads: Ads) -> None:
    """An id names an event of one visitor."""
    shop = ads(CAP)
    claims = [shop.claim(visitor, ["a"], id="bid-1", hold="15 minutes") for visitor in ("v", "w")]
    assert [claim and shop.confirm(claim) for claim in claims] == ["confirmed", "confirmed"]
    assert [len(shown(shop, visitor=visitor)) for visitor in ("v", "w")] == [1, 1]


def test_a_hold_that_was_denied_does_not_use_up_its_id(ads: Ads, clock: Clock) -> None:
    """As for a plain claim: it is judged again."""
    shop = ads(CAP)
    hold(shop)
    assert shop.claim("v", ["a"], id="bid-1", hold="1 minute") is None
    clock.now += LAPSED
    claim = shop.claim("v", ["a"], id="bid-1", hold="1 minute")
    assert claim is not None
    assert not claim.repeated


# -- claims that reserved nothing --------------------------------------------------------------------------------------


def test_a_claim_without_hold_is_confirmed_already(ads: Ads) -> None:
    """Callers may confirm any claim: "repeated", and nothing to release; the store is not asked."""
    store = Counting()
    shop = local(store=store)
    claim = shop.claim("v", ["a"])
    assert claim is not None
    before = store.calls
    assert [shop.confirm(claim), shop.confirm(claim.token), shop.release(claim)] == ["repeated", "repeated", False]
    assert store.calls == before == 1
    assert len(shown(shop)) == 1


@pytest.mark.parametrize("length", [None, "15 minutes"])
def test_an_uncounted_claim_can_be_confirmed_later(length: str | None) -> None:
    """The store was down and the policy allowed: once it is back the impression counts after all, once."""
    store = Counting()
    shop = local(f'on_store_error = "allow"\n{CAP}', store)
    store.down = True
    claim = shop.claim("v", ["a"], hold=length)
    assert claim is not None
    assert not claim.counted
    with pytest.raises(NotExecuted):
        shop.confirm(claim)
    with pytest.raises(NotExecuted):
        shop.release(claim)
    store.down = False
    assert shop.release(claim) is False
    assert [shop.confirm(claim), shop.confirm(claim)] == ["late", "repeated"]
    assert len(shown(shop)) == 1


@pytest.mark.parametrize(("answer", "raises"), [("block", False), ("raise", True)])
def test_a_store_that_fails_reserves_nothing(answer: str, *, raises: bool) -> None:
    """As for a plain claim: None, or the error."""
    store = Counting()
    store.down = True
    shop = local(f'on_store_error = "{answer}"\n{CAP}', store)
    if raises:
        with pytest.raises(NotExecuted):
            shop.claim("v", ["a"], hold="1 minute")
    else:
        assert shop.claim("v", ["a"], hold="1 minute") is None


@pytest.mark.parametrize("key", ["on_unknown_visitor", "on_no_consent"])
@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_claim_without_a_visitor_has_nothing_to_confirm(key: str, secret: str | None) -> None:
    """Allowed without history: the token can be used like any other, does nothing, and touches no store."""
    store = Counting()
    shop = local(f'{key} = "allow"\n{CAP}', store, secret=secret)
    visitor, consent = (None, True) if key == "on_unknown_visitor" else ("v", False)
    claim = shop.claim(visitor, ["a"], hold="15 minutes", consent=consent)
    assert claim is not None
    assert not claim.counted
    assert (shop.confirm(claim), shop.confirm(claim.token), shop.release(claim)) == ("repeated", "repeated", False)
    assert store.calls == 0
    assert local(CAP, store).claim(visitor, ["a"], hold="15 minutes", consent=consent) is None


# -- the value ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", COPIES)
def test_a_claim_survives_pickle_and_copy(how: str) -> None:
    """Of every kind: equal, with everything public, and a token that still confirms; sealed once, it can be sent on."""
    store = Counting()
    shop = local(f'on_store_error = "allow"\non_unknown_visitor = "allow"\n{CAP}', store, SECRET)
    shop.policy = Policy.from_text('on_store_error = "allow"\non_unknown_visitor = "allow"\n[defaults]')
    claims = [
        shop.claim("v", ["a"], hold="15 minutes"),
        shop.claim("v", [Candidate("a", item="x")], id="bid-1"),
        shop.claim("v", [Candidate("a", item="x")], id="bid-1"),
        shop.claim(None, ["a"]),
    ]
    store.down = True
    claims.append(shop.claim("v", ["a"]))
    store.down = False
    for claim in claims:
        assert claim is not None
        same = COPIES[how](claim)
        assert same == claim
        assert (same.campaign, same.at, same.token) == (claim.campaign, claim.at, claim.token)
        assert (same.held_for, same.counted, same.repeated) == (claim.held_for, claim.counted, claim.repeated)
        assert (type(same.degraded), str(same.degraded)) == (type(claim.degraded), str(claim.degraded))
        assert COPIES[how](same).token == claim.token
    held = claims[0]
    assert held is not None
    assert shop.confirm(COPIES[how](held)) == "confirmed"


def test_the_secret_and_the_pepper_stay_in_the_process() -> None:
    """Neither is in a claim's repr, nor in its pickle."""
    pepper = "a pepper of its own"
    shop = Retargeter(Policy.from_text(CAP), "memory://", secret=SECRET, pepper=pepper)
    claim = hold(shop)
    for shown_as in (repr(claim).encode(), pickle.dumps(claim)):
        assert SECRET.encode() not in shown_as
        assert pepper.encode() not in shown_as


def test_a_claim_says_when_it_was_made(ads: Ads, clock: Clock) -> None:
    """In UTC, by the retargeter's clock."""
    assert hold(ads(CAP)).at == datetime.fromtimestamp(clock.now, UTC)
