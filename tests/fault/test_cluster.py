"""Clusters of six nodes: everything works, slots move and primaries die under load, and service resumes by itself.

The cluster outlives a test. Each test finds it healthy and empty, but with any node in any role.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from retarget import Event, NotExecuted, Policy
from retarget.timelines import keys
from tests.support.claiming import POLICY as CLAIMED
from tests.support.claiming import Claiming
from tests.support.clusters import Cluster
from tests.support.driving import NOW, PATIENT, PROMPT, SORTS, Ads, counted, opened, refused
from tests.support.fixtures import REAL
from tests.support.nodes import Node, quiet_port
from tests.support.waiting import insist, until, within

POLICY = Policy.from_text('[campaign.a]\ncaps = ["3 per day"]\n[campaign.b]\ncaps = ["1 per day"]\n')
PAIRS = [pytest.param(sort, name, id=f"{sort}-{name}") for sort, name in zip(SORTS, (REAL[0], REAL[-1]), strict=True)]
"""Each client once, and each kind of server once."""


@pytest.fixture
def ads(sort: str, cluster: Cluster) -> Iterator[Ads]:
    """A retargeter of each sort on each kind of cluster."""
    with opened(sort, POLICY, cluster.url, timeout=PATIENT) as ads:
        yield ads


@pytest.fixture
def one(start_cluster: Callable[[str], Cluster], name: str) -> Iterator[Cluster]:
    """The cluster of that name, healthy and empty, and healed afterwards."""
    cluster = start_cluster(name)
    cluster.heal()
    cluster.flush()
    yield cluster
    cluster.heal()


def held(cluster: Cluster, visitor: str, campaign: str = "a") -> int:
    """How many impressions of a campaign the cluster holds for the visitor."""
    with cluster.primary_of(keys.key("rt:", visitor)).client() as client:
        return counted(client, visitor, campaign)


def slot(visitor: str) -> int:
    """The visitor's slot."""
    return key_slot(keys.key("rt:", visitor))


def visitors_of(cluster: Cluster, node: Node, most: int) -> list[str]:
    """Up to `most` visitors whose slots a node serves."""
    ranges = next(member.slots for member in cluster.members() if member.port == node.port)
    names = (f"v{number}" for number in range(2_500))
    return [name for name in names if any(slot(name) in served for served in ranges)][:most]


def serves(ads: Ads, visitors: list[str]) -> bool:
    """Whether the store answers for all of them."""
    return all(decision.degraded is None for decision in ads.decide_many(visitors))


# -- everything works --------------------------------------------------------------------------------------------------


def test_every_operation_works_on_every_node(ads: Ads, cluster: Cluster) -> None:
    """Visitors of all three primaries: each verb answers as it does on one server."""
    for node in cluster.primaries():
        visitor = visitors_of(cluster, node, 1)[0]
        assert ads.record(visitor, "impression", "a", id="one") is True
        assert ads.record(visitor, "impression", "a", id="one") is False
        claim = ads.claim(visitor, ["b", "a"], hold="15 minutes")
        assert claim is not None
        assert claim.campaign == "b"
        assert ads.confirm(claim.token) == "confirmed"
        lost = ads.claim(visitor, ["a"], hold="15 minutes")
        assert lost is not None
        assert ads.release(lost) is True
        assert ads.decide(visitor).eligible == ("a",)
        assert held(cluster, visitor) == held(cluster, visitor, "b") == 1
        assert "impression a" in ads.export(visitor)["timelines"]
        assert ads.forget(visitor) is True
        assert ads.decide(visitor).eligible == ("a", "b")


def test_lists_go_to_all_nodes_and_come_back_in_order(ads: Ads, cluster: Cluster) -> None:
    """record_many and decide_many over 600 visitors of all nodes; none is sent to the wrong node."""
    visitors = [f"v{number}" for number in range(600)]
    events = [Event(name, "impression", "a", NOW, f"id-{turn}") for turn in range(2) for name in visitors]
    assert ads.record_many(events) == [True] * 1_200
    assert ads.record_many(events[::7]) == [False] * len(events[::7])
    ads.record_many([(name, "impression", "a", NOW) for name in visitors[::2]])
    decisions = ads.decide_many(visitors)
    assert [decision.degraded for decision in decisions] == [None] * 600
    assert [decision.eligible for decision in decisions] == [("b",), ("a", "b")] * 300
    assert [node.ask("DBSIZE") > 100 for node in cluster.primaries()] == [True] * 3


def test_lists_of_claims_go_to_all_nodes_and_come_back_in_order(ads: Ads, cluster: Cluster) -> None:
    """Each visitor's requests are judged in their order, distinct, wherever the visitor lives; repeated, they count
    nothing.
    """
    ads.ads.policy = Policy.from_text("[campaign.a]\ncaps = ['1 per day']\n[campaign.b]\n[campaign.c]\ngap = '1 hour'")
    requests = [(f"page-{number % 60}", ["a", "b", "c"], f"id-{number}") for number in range(240)]
    for repeated in (False, True):
        claims = ads.claim_many(requests, distinct=True)
        assert [claim and claim.campaign for claim in claims] == [*"a" * 60, *"b" * 60, *"c" * 60, *[None] * 60]
        assert {claim.repeated for claim in claims if claim} == {repeated}
    assert [node.ask("DBSIZE") > 10 for node in cluster.primaries()] == [True] * 3


@pytest.mark.parametrize("sort", SORTS)
def test_a_cluster_client_of_ones_own(sort: str, cluster: Cluster) -> None:
    """redis.RedisCluster and its asyncio counterpart are taken as they are, and left open."""

    def given(module: Any) -> Any:
        kind = module.RedisCluster if module is redis else module.cluster.RedisCluster
        return kind(host="127.0.0.1", port=cluster.nodes[0].port, protocol=2)

    with opened(sort, POLICY, given, timeout=PATIENT) as ads:
        visitors = [f"v{number}" for number in range(50)]
        assert ads.record_many([(name, "impression", "b", NOW) for name in visitors]) == [True] * 50
        assert {decision.eligible for decision in ads.decide_many(visitors)} == {("a",)}
        assert ads.done(ads.client.ping(target_nodes="all"))


def test_scripts_flushed_on_all_nodes_are_not_noticed(ads: Ads, cluster: Cluster) -> None:
    """Each node is sent the script again, and every event counts once."""
    visitors = [f"v{number}" for number in range(60)]
    for turn in range(1, 4):
        for node in cluster.primaries():
            node.ask("SCRIPT", "FLUSH")
        assert ads.record_many([(name, "impression", "a", NOW) for name in visitors]) == [True] * 60
        assert held(cluster, "v7") == turn


def test_health_names_each_node(ads: Ads, cluster: Cluster) -> None:
    """Each primary that was asked has its own entry."""
    ads.decide_many([f"v{number}" for number in range(60)])
    known = {server.server for server in ads.health if server.up}
    assert known >= {f"127.0.0.1:{node.port}" for node in cluster.primaries()}


def test_a_first_address_that_is_dead_is_passed_over(sort: str, cluster: Cluster) -> None:
    """One live address in the URL is enough: the cluster names the others."""
    url = f"redis+cluster://127.0.0.1:{quiet_port()},127.0.0.1:{cluster.nodes[4].port}"
    with opened(sort, POLICY, url) as ads:
        until(lambda: serves(ads, [f"v{number}" for number in range(60)]), "service of all slots")


# -- slots move --------------------------------------------------------------------------------------------------------


def test_a_slot_that_has_moved_is_followed(ads: Ads, cluster: Cluster) -> None:
    """MOVED: the very call that gets it is answered by the new node, which does not know the script."""
    source, target = cluster.primaries()[:2]
    visitor = visitors_of(cluster, source, 1)[0]
    assert ads.record(visitor, "impression", "a") is True
    target.ask("SCRIPT", "FLUSH")
    assert cluster.move_slot(slot(visitor), target) == 1
    assert ads.record(visitor, "impression", "a", id="one") is True
    assert ads.decide(visitor).degraded is None
    assert held(cluster, visitor) == 2
    cluster.move_slot(slot(visitor), source)
    assert ads.decide(visitor).degraded is None


@pytest.mark.parametrize("id_", ["one", None])
def test_a_slot_on_its_way_is_followed(ads: Ads, cluster: Cluster, id_: str | None) -> None:
    """ASK: a visitor already moved, or new, is asked for at the target node, whether it knows the script or not."""
    source, target = cluster.primaries()[:2]
    visitor = visitors_of(cluster, source, 1)[0]
    place = slot(visitor)
    assert ads.record(visitor, "impression", "a") is True
    cluster.begin_move(place, target)
    try:
        assert ads.record(visitor, "impression", "a", id=id_) is True  # not moved yet
        cluster.move_keys(place, source, target)
        assert ads.decide(visitor).degraded is None
        target.ask("SCRIPT", "FLUSH")
        assert ads.record(visitor, "impression", "a", id=id_ and "two") is True
        assert ads.decide(visitor).eligible == ("b",)
        decisions = ads.decide_many([visitor, "other", visitor])
        assert [decision.degraded for decision in decisions] == [None] * 3
        target.ask("SCRIPT", "FLUSH")
        claims = [ads.claim(visitor, ["a", "b"], id=id_ and f"three-{turn}") for turn in range(2)]
        assert [claim is None or claim.campaign for claim in claims] == ["b", True]
        target.ask("SCRIPT", "FLUSH")
        assert ads.record_many([(visitor, "impression", "b", NOW)]) == [True]
    finally:
        cluster.end_move(place, source, target)
        cluster.move_slot(place, source)


def reshard(cluster: Cluster, slots: list[int]) -> None:
    """Move each slot to another primary, and back."""
    for place in slots:
        source = cluster.primary_of(place)
        others = [node for node in cluster.primaries() if node is not source]
        cluster.move_slot(place, others[place % 2])
        cluster.move_slot(place, source)


@pytest.mark.parametrize(("sort", "name"), PAIRS)
def test_slots_move_under_load(sort: str, one: Cluster) -> None:
    """Live resharding while three threads claim: no call fails, no cap is exceeded, nothing is lost."""
    with opened(sort, CLAIMED, one.url, timeout=PATIENT) as ads:
        with Claiming(ads) as claiming:
            until(lambda: claiming.answered > 100, "claims")
            for node in one.primaries():
                reshard(one, [slot(name) for name in list(claiming.granted)[-4:]])
                node.ask("SCRIPT", "FLUSH")
        assert claiming.errors == {}
        assert claiming.check() == 0


# -- nodes die ---------------------------------------------------------------------------------------------------------


def fail_over(cluster: Cluster, node: Node, fail: Callable[[Node], None]) -> None:
    """Make a primary fail, and wait until its replica serves."""
    replica = cluster.replica_of(node)
    cluster.watch_closely()
    fail(node)
    until(lambda: replica in cluster.primaries(replica), "a new primary")  # `node` may be paused: it answers nothing


@pytest.mark.parametrize(("sort", "name"), PAIRS)
def test_a_primary_is_killed_under_load(sort: str, one: Cluster) -> None:
    """While three threads claim: only our exceptions, each in time, caps exceeded by no more than was lost."""
    with opened(sort, CLAIMED, one.url) as ads:
        with Claiming(ads) as claiming:
            until(lambda: claiming.answered > 200, "claims")
            fail_over(one, one.primaries()[0], Node.kill)
            until(lambda: serves(ads, [f"v{number}" for number in range(100)]), "service of all slots")
            so_far = claiming.answered
            until(lambda: claiming.answered > so_far + 200, "claims again")
        assert claiming.failed.total() > 0
        claiming.check()


@pytest.mark.parametrize(("sort", "name"), PAIRS[:1])
def test_a_primary_that_is_stopped_is_replaced(sort: str, one: Cluster) -> None:
    """SIGSTOP, then the old primary comes back as a replica: no call is slow, and none stays degraded."""
    with opened(sort, POLICY, one.url) as ads:
        node = one.primaries()[-1]
        visitors = visitors_of(one, node, 10)
        until(lambda: serves(ads, visitors), "service")

        def served() -> bool:
            with within(PROMPT):
                return ads.decide(visitors[0]).degraded is None

        fail_over(one, node, Node.pause)
        until(served, "service")
        node.resume()
        until(one.is_healthy, "a healthy cluster")
        until(lambda: serves(ads, visitors), "service")
        until(lambda: ads.record(visitors[0], "impression", "a"), "an event recorded")


@pytest.mark.parametrize(("sort", "name"), PAIRS)
def test_lists_while_a_primary_is_stopped(sort: str, one: Cluster) -> None:
    """Other nodes' visitors get their own answers, its own are degraded, and the list does not wait for each batch."""
    with opened(sort, POLICY, one.url, timeout=PATIENT) as ads:
        visitors = [f"v{number}" for number in range(2_500)]
        assert serves(ads, visitors)
        node = one.primaries()[0]
        concerned = set(visitors_of(one, node, 2_500))
        node.pause()
        with within(PATIENT + 2 * PROMPT):
            decisions = ads.decide_many(visitors)
        degraded = {name for name, decision in zip(visitors, decisions, strict=True) if decision.degraded is not None}
        assert degraded <= concerned
        assert degraded


@pytest.mark.parametrize(("sort", "name"), PAIRS[1:])
def test_a_cap_is_passed_by_what_a_failover_lost(sort: str, one: Cluster) -> None:
    """A replica that was cut off takes over: what was granted meanwhile is lost; caps are exceeded by that at most."""
    with opened(sort, CLAIMED, one.url) as ads:
        with Claiming(ads) as claiming:
            until(lambda: claiming.answered > 200, "claims")
            node = one.primaries()[0]
            replica = one.replica_of(node)
            one.watch_closely()
            replica.pause()
            node.ask("CLIENT", "KILL", "TYPE", "replica")
            so_far = claiming.answered
            until(lambda: claiming.answered > so_far + 300, "claims that are not replicated")
            node.kill()
            replica.resume()
            until(lambda: replica in one.primaries(), "a new primary")
            until(lambda: serves(ads, [f"v{number}" for number in range(100)]), "service of all slots")
            so_far = claiming.answered
            until(lambda: claiming.answered > so_far + 300, "claims again")
        assert claiming.check() > 0


@pytest.mark.parametrize(("sort", "name"), PAIRS[:1])
def test_a_cluster_that_is_gone_and_comes_back(sort: str, one: Cluster) -> None:
    """All six killed: refused in time, known to be down. Started again: served again, by the same retargeter."""
    with opened(sort, POLICY, one.url) as ads:
        insist(lambda: ads.record("v", "impression", "a", id="one"))
        for node in one.nodes:
            node.kill()

        def known_to_be_down() -> bool:
            refused(ads)
            return not any(server.up for server in ads.health if server.failures)

        until(known_to_be_down, "every server that was asked known to be down")
        one.heal()
        until(lambda: serves(ads, [f"v{number}" for number in range(100)]), "service of all slots")
        assert held(one, "v") == 1


@pytest.mark.parametrize(("sort", "name"), PAIRS[1:])
def test_a_cluster_without_a_majority(sort: str, one: Cluster) -> None:
    """CLUSTERDOWN: two primaries and their replicas are stopped. Not executed, in time; then served again."""
    with opened(sort, POLICY, one.url) as ads:
        last = one.primaries()[-1]
        visitor = visitors_of(one, last, 1)[0]
        insist(lambda: ads.record(visitor, "impression", "a", id="one"))
        kept = (last, one.replica_of(last))
        one.watch_closely()
        for node in one.nodes:
            if node not in kept:
                node.pause()
        until(lambda: isinstance(ads.decide(visitor).degraded, NotExecuted), "a cluster that is down")
        with within(PROMPT), pytest.raises(NotExecuted):
            ads.record(visitor, "impression", "a")
        one.heal()
        until(lambda: ads.decide(visitor).degraded is None, "service")
        assert held(one, visitor) == 1


# -- long runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.parametrize("sort", SORTS)
def test_twenty_primaries_are_killed_under_load(sort: str, cluster: Cluster) -> None:
    """Kill -9 one primary after another while claims go on: as above, twenty times."""
    with opened(sort, CLAIMED, cluster.url) as ads:
        with Claiming(ads) as claiming:
            for turn in range(20):
                primaries = cluster.primaries()
                fail_over(cluster, primaries[turn % len(primaries)], Node.kill)
                start = time.monotonic()
                until(lambda: serves(ads, [f"w{number}" for number in range(100)]), "service of all slots")
                print(f"served again {time.monotonic() - start:.2f} s after the failover")  # noqa: T201
                cluster.heal()
        lost = claiming.check()
        granted = sum(map(len, claiming.granted.values()))
        print(f"{granted} claims granted, {lost} lost, failed: {dict(claiming.failed)}")  # noqa: T201


@pytest.mark.soak
@pytest.mark.parametrize("sort", SORTS)
def test_many_slots_move_under_load(sort: str, cluster: Cluster) -> None:
    """Two hundred slots move away and back while claims go on: no call fails, nothing is lost."""
    with opened(sort, CLAIMED, cluster.url, timeout=PATIENT) as ads:
        with Claiming(ads) as claiming:
            until(lambda: claiming.answered > 100, "claims")
            for turn in range(20):
                reshard(cluster, [slot(name) for name in list(claiming.granted)[-10:]])
                cluster.primaries()[turn % 3].ask("SCRIPT", "FLUSH")
        assert claiming.errors == {}
        assert claiming.check() == 0
