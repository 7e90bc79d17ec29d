"""claiming.py: what a repeated claim was counted for, and lists of claims."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import timedelta
from hashlib import blake2b
from typing import Any

import pytest

from retarget import (
    Candidate,
    Claim,
    InputError,
    PartlyExecuted,
    Policy,
    Retargeter,
)
from retarget.calls.inputs import ClaimRow
from retarget.calls.operations import BATCH
from retarget.events import Subject
from retarget.timelines import LOOK_EVERY, SKEW, Store
from tests.support import servers
from tests.support.claims import OPEN, PAGE, RANKED, Lossy, Sent, campaigns, claimed
from tests.support.driving import opened
from tests.support.fixtures import Ads, Clock
from tests.support.holds import DAY, LAPSED, MINUTE, reserved, shown
from tests.support.servers import Server

# -- what a repeated claim was counted for -----------------------------------------------------------------------------


def alike() -> tuple[str, str]:
    """Two campaigns whose names have the same three bytes of a hash."""
    seen: dict[bytes, str] = {}
    for number in itertools.count():
        name = f"c{number}"
        digest = blake2b(name.encode(), digest_size=3).digest()
        if digest in seen:
            return seen[digest], name
        seen[digest] = name
    raise AssertionError


def test_a_repeat_names_its_campaign_among_very_many(ads: Ads) -> None:
    """Two of 5,000 campaigns are alike in 24 bits of a hash: the repeat returns the one that was counted."""
    one, other = alike()
    shop = ads("[defaults]")
    assert claimed(shop.claim("v", [other], id="bid")).campaign == other
    again = claimed(shop.claim("v", [one, other], id="bid"))
    assert (again.campaign, again.repeated) == (other, True)


@pytest.mark.parametrize("hold", [None, "15 minutes"])
@pytest.mark.parametrize("given", [["a k=v", Candidate("a", k="v")], [Candidate("a", k="v"), "a k=v"]])
def test_a_candidate_is_told_from_a_campaign_of_its_name(ads: Ads, given: list[Subject], hold: str | None) -> None:
    """`a k=v` may be a campaign's id, and how a candidate is written: the repeat returns what was counted."""
    shop = ads("[defaults]")
    for number, subject in enumerate(given):
        first = claimed(shop.claim("v", [subject], id=f"bid-{number}", hold=hold))
        again = claimed(shop.claim("v", given, id=f"bid-{number}", hold=hold))
        assert (again.candidate, again.repeated, again.token) == (subject, True, first.token)


def test_a_repeat_that_cannot_be_told_is_an_error(ads: Ads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two candidates leave the same bytes, none is guessed; with the original one alone it is told."""
    monkeypatch.setattr("retarget.calls.claiming.outcome", lambda _: b"alike")
    monkeypatch.setattr("retarget.engine.guards.outcome", lambda _: b"alike")
    shop = ads("[defaults]")
    claimed(shop.claim("v", ["a"], id="bid"))
    with pytest.raises(InputError, match=r"already counted, for 'a' or 'b'; which of them is no longer known"):
        shop.claim("v", ["a", "b"], id="bid")
    assert claimed(shop.claim("v", ["a", Candidate("a")], id="bid")).campaign == "a"


def test_a_repeat_with_other_candidates_is_an_error(ads: Ads) -> None:
    """It was counted for something that is neither among them nor in the policy."""
    shop = ads("[defaults]")
    claimed(shop.claim("v", ["a"], id="bid"))
    with pytest.raises(InputError, match="not among those given now: repeat a claim with the candidates that it had"):
        shop.claim("v", ["b"], id="bid")


def test_a_repeat_describes_the_original_whether_it_was_reserved_or_counted(ads: Ads) -> None:
    """One that counted has nothing to confirm, even if repeated with a hold; one that reserved has, even without."""
    shop = ads('[campaign.a]\ncaps = ["9 per day"]')
    claimed(shop.claim("v", ["a"], id="counted"))
    again = claimed(shop.claim("v", ["a"], id="counted", hold="15 minutes"))
    assert (again.held_for, again.repeated, shop.confirm(again)) == (None, True, "repeated")
    claimed(shop.claim("v", ["a"], id="reserved", hold="15 minutes"))
    again = claimed(shop.claim("v", ["a"], id="reserved"))
    assert (again.repeated, shop.confirm(again), shop.confirm(again)) == (True, "confirmed", "repeated")
    assert len(shown(shop)) == 2


CHANGED = [
    '[campaign.a]\ncaps = ["9 per day"]\nlabels = { advertiser = "acme" }\n[caps]\nadvertiser = ["5 per day"]',
    '[annoyance]\nthreshold = ["99 per day"]\npoints = { email = 9 }\n[campaign.a]\nlabels = { channel = "email" }',
    "[campaign.b]\n[defaults]",
]


@pytest.mark.parametrize("changed", CHANGED, ids=["a label", "points", "removed"])
@pytest.mark.parametrize("settled", ["confirm", "release"])
def test_a_repeated_token_works_after_a_change_of_policy(ads: Ads, changed: str, settled: str) -> None:
    """It confirms or releases exactly what was reserved, once, and so does the original one."""
    shop = ads('[campaign.a]\ncaps = ["9 per day"]')
    first = claimed(shop.claim("v", ["a"], id="bid", hold="15 minutes"))
    shop.policy = Policy.from_text(changed)
    again = claimed(shop.claim("v", ["a"], id="bid", hold="15 minutes"))
    assert (again.campaign, again.repeated, again.token) == ("a", True, first.token)
    settle = getattr(shop, settled)
    assert [settle(again), settle(first)] == (["confirmed", "repeated"] if settled == "confirm" else [True, False])
    assert reserved(shop) == []
    assert len(shown(shop)) == (settled == "confirm")


# -- a list of claims --------------------------------------------------------------------------------------------------


def test_the_places_of_a_page_respect_caps_and_gaps_together(ads: Ads) -> None:
    """Each is judged after those before it, as if they had been claimed one by one."""
    shop = ads(PAGE)
    assert campaigns(shop.claim_many([("v", RANKED)] * 5)) == ["a", "a", "b", "c", "c"]
    assert campaigns(shop.claim_many([("v", RANKED)] * 5)) == ["c", "c", "c", None, None]
    assert len(shown(shop)) == 2


def test_requests_of_several_visitors_are_answered_in_order(ads: Ads) -> None:
    """Each visitor has their own history; no candidates given are all of the policy's; an empty list has no answers."""
    shop = ads(PAGE)
    requests: list[ClaimRow] = [("v", ["b"]), ("w", ["b", "a"], None), ("v", ["b"], "id"), ("w", None), ("v", [])]
    assert campaigns(shop.claim_many(requests)) == ["b", "b", None, "a", None]
    assert shop.claim_many([]) == []
    assert campaigns(shop.claim_many(iter([("x", iter(["c"]))]))) == ["c"]


@pytest.mark.parametrize("seed", range(6))
def test_a_list_is_answered_as_one_claim_after_the_other(store: Store, clock: Clock, seed: int) -> None:
    """Random histories, ids that are repeated, holds: the same answers, and the same bytes in the end."""
    rng, policy = random.Random(seed), Policy.from_text(f'[annoyance]\nthreshold = ["9 per day"]\n{PAGE}')
    many = Retargeter(policy, store, clock=clock, prefix="rt:many:")
    each = Retargeter(policy, store, clock=clock, prefix="rt:each:")
    for _ in range(12):
        clock.now += rng.choice([0, 1, MINUTE, 7_200])
        hold = rng.choice([None, "10 minutes"])
        requests = [
            (rng.choice("vwx"), rng.sample(RANKED, rng.randrange(4)), f"bid-{rng.randrange(40)}")
            for _ in range(rng.randrange(8))
        ]
        together = many.claim_many(requests, hold=hold)
        apart = [each.claim(visitor, ranked, id=id_, hold=hold) for visitor, ranked, id_ in requests]
        assert together == apart
    for visitor in "vwx":
        assert store.read(f"rt:many:2~{visitor}".encode()) == store.read(f"rt:each:2~{visitor}".encode())


def test_a_list_takes_the_arguments_of_a_claim(ads: Ads, clock: Clock) -> None:
    """A time, a zone and a hold for all: reserved as long, and each confirmed or released by itself."""
    shop = ads('[campaign.a]\ncaps = ["3 per day"]\nhours = "14:00-15:00"')
    assert campaigns(shop.claim_many([("v", ["a"])])) == [None]
    claims = shop.claim_many([("v", ["a"])] * 4, hold=timedelta(minutes=15), timezone=120, now=clock.now + 60)
    assert campaigns(claims) == ["a", "a", "a", None]
    one, two, three = (claimed(claim) for claim in claims[:3])
    assert (one.held_for, one.second) == (15 * MINUTE, clock.now + 60)
    assert [shop.confirm(one), shop.release(two.token)] == ["confirmed", True]
    clock.now += 60 + LAPSED
    assert shop.confirm(three) == "late"
    assert len(shown(shop)) == 2


def test_a_repeated_list_counts_nothing(ads: Ads) -> None:
    """By its ids: the same campaigns, marked as repeated; what was denied is judged again."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]\ncaps = ["1 per day"]')
    requests = [("v", ["a", "b"], f"place-{number}") for number in range(3)]
    for repeated in (False, True, True):
        claims = shop.claim_many(requests)
        assert campaigns(claims) == ["a", "b", None]
        assert [claim and claim.repeated for claim in claims] == [repeated, repeated, None]
    assert len(shown(shop)) == 1


@pytest.mark.parametrize(("allowed", "expected"), [("block", [None, "c", None]), ("allow", ["a", "c", "a"])])
def test_an_unknown_visitor_gets_what_the_policy_says(ads: Ads, allowed: str, expected: list[str | None]) -> None:
    """Among others who are known; not counted, and each of them may be somebody else."""
    shop = ads(f'on_unknown_visitor = "{allowed}"\n{PAGE}')
    claims = shop.claim_many([(None, ["a"]), ("v", ["c"]), (None, ["a"], "id")], distinct=True)
    assert campaigns(claims) == expected
    assert [claim.counted for claim in claims if claim] == ([True] if allowed == "block" else [False, True, False])


@pytest.mark.parametrize("sort", ["sync", "async"])
def test_both_clients_answer_alike(url: str, sort: str) -> None:
    """The same method, awaited."""
    with opened(sort, Policy.from_text(PAGE), url, timeout=5) as ads:
        requests = [("v", RANKED, f"id-{number}") for number in range(3)]
        assert campaigns(ads.claim_many(requests, distinct=True)) == ["a", "b", "c"]
        assert campaigns(ads.claim_many(requests)) == ["a", "b", "c"]
        with pytest.raises(InputError, match=r"^requests\[1\]: "):
            ads.claim_many([("v", RANKED), "w"])


# -- in one round trip -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize(("size", "lists"), [(0, []), (1, [1]), (BATCH, [BATCH]), (2 * BATCH + 1, [BATCH, BATCH, 1])])
def test_a_list_is_sent_a_thousand_at_a_time(clock: Clock, size: int, lists: list[int], *, distinct: bool) -> None:
    """One write for each request, and nothing is read."""
    store = Sent()
    ads = Retargeter(Policy.from_text(PAGE), store, clock=clock)
    assert len(ads.claim_many([(f"v{n % 700}", RANKED) for n in range(size)], distinct=distinct)) == size
    assert store.lists == lists


def test_a_list_is_one_command_for_each_request(server: Server, clock: Clock) -> None:
    """On a server, counted by it: no other command from a client, whatever is asked for."""
    with Retargeter(Policy.from_text(PAGE), server.url, clock=clock, timeout=5) as shop:
        shop.claim("w", ["a"])
        before = server.commands()
        shop.claim_many([(f"v{number % 9}", RANKED, f"id-{number}") for number in range(50)], distinct=True)
        after = server.commands()
    ran = {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}
    inside = {"hget", "hmget", "hlen", "hset", "hdel", "ttl", "expire", "hgetall"}
    assert {name: count for name, count in ran.items() if name not in inside} == {"evalsha": 50}


@pytest.mark.parametrize("sort", ["sync", "async"])
def test_a_list_is_one_round_trip(sort: str) -> None:
    """A server that says nothing before it has heard all fifty requests is no reason to wait."""
    heard = itertools.count(1)
    with (
        servers.fake(lambda _: b":1\r\n" * 50 if next(heard) == 50 else b"") as fake,
        opened(sort, Policy.from_text(PAGE), fake.url, timeout=5) as ads,
    ):
        requests = [(f"v{number % 9}", RANKED, f"id-{number}") for number in range(50)]
        assert campaigns(ads.claim_many(requests, distinct=True)) == ["a"] * 50
        assert len(fake.commands) == 50


# -- distinct ----------------------------------------------------------------------------------------------------------


def test_distinct_claims_of_a_visitor_name_each_campaign_once(ads: Ads) -> None:
    """Three places of one page show three campaigns; candidates with labels are of their campaign; another visitor is
    free, and so is the next page.
    """
    shop = ads(OPEN)
    ranked: list[Subject] = [Candidate("a", item="x"), Candidate("a", item="y"), "b", "c"]
    requests = [("v", ranked), ("w", ranked), ("v", ranked), ("v", ranked), ("w", ranked), ("v", ranked)]
    for _ in range(3):
        assert campaigns(shop.claim_many(requests, distinct=True)) == ["a", "a", "b", "c", "b", None]
    assert campaigns(shop.claim_many(requests)) == ["a"] * 6


@pytest.mark.parametrize("hold", [None, "15 minutes"])
@pytest.mark.parametrize("later", [0, 1, 299])
@pytest.mark.parametrize("done", list(itertools.product([False, True], repeat=3)))
def test_a_distinct_list_that_is_repeated_stays_distinct(
    store: Store, clock: Clock, done: tuple[bool, ...], later: int, hold: str | None
) -> None:
    """Whichever of its writes was lost: the repeat names for the others what they were counted for, and no campaign
    twice.
    """
    lossy = Lossy(store, done)
    ads = Retargeter(Policy.from_text(f'on_store_error = "raise"\n{OPEN}'), lossy, clock=clock, prefix="rt:twice:")
    requests = [("v", ["a", "b", "c", "d"], f"place-{number}") for number in range(3)]
    first: list[Any]
    try:
        first = [*ads.claim_many(requests, distinct=True, hold=hold)]
    except PartlyExecuted as error:
        first = error.results
    lossy.done = None
    clock.now += later
    second = ads.claim_many(requests, distinct=True, hold=hold)
    assert len({claim.campaign for claim in second if claim}) == 3
    for before, after, counted in zip(first, second, done, strict=True):
        assert after is not None
        assert after.repeated is counted
        assert not isinstance(before, Claim) or before.campaign == after.campaign


def test_distinct_lists_are_told_apart_by_their_ids(ads: Ads) -> None:
    """However they are split: another page is free to name the same campaigns."""
    shop = ads(OPEN)
    for ids in (("ab", "c"), ("a", "bc")):
        claims = shop.claim_many([("v", ["a", "b"], id_) for id_ in ids], distinct=True)
        assert campaigns(claims) == ["a", "b"]


def test_distinct_lists_leave_nothing_for_long(ads: Ads, store: Store, clock: Clock) -> None:
    """The marks are evicted once no clock can be behind them: a visitor who comes every minute has a few of them, and
    none on the next day.
    """
    shop = ads("".join(f'[campaign.{name}]\ncaps = ["99 per 2 days"]\n' for name in "abc"), prefix="rt:long:")
    sizes = []
    for _ in range(60):
        assert all(shop.claim_many([("v", list("abc"))] * 3, distinct=True))
        sizes.append(len(store.read(b"rt:long:2~v")))
        clock.now += MINUTE
    assert max(sizes) <= 3 + 3 * (SKEW // MINUTE + 1) + LOOK_EVERY
    clock.now += DAY
    shop.claim("v", ["a"])
    assert set(store.read(b"rt:long:2~v")) == {b"ia", b"ib", b"ic"}


def test_a_single_request_leaves_no_mark(ads: Ads, store: Store) -> None:
    """There is nothing to tell it from: what is stored is what a claim stores."""
    shop = ads('[campaign.a]\ncaps = ["1 per day"]', prefix="rt:one:")
    shop.claim_many([("v", ["a"]), ("w", ["a"])], distinct=True)
    assert list(store.read(b"rt:one:2~v")) == [b"ia"]


def test_an_export_names_the_marks(ads: Ads) -> None:
    """Nothing that is stored is left out."""
    shop = ads(OPEN)
    shop.claim_many([("v", list("ab"))] * 2, distinct=True)
    assert Counter(name.split()[0] for name in shop.export("v")["timelines"]) == {"distinct": 2}
