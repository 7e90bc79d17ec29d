"""A primary and a replica watched by three sentinels: the primary is found, and found again after a failover.

The set-up outlives a test. Each test finds it healthy and empty, with either node as the primary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from retarget import Policy
from tests.support import clusters
from tests.support.claiming import POLICY as CLAIMED
from tests.support.claiming import Claiming
from tests.support.clusters import SERVICE, Watched
from tests.support.driving import PATIENT, TIMEOUT, counted, opened, refuses_writes
from tests.support.fixtures import REAL
from tests.support.waiting import until

POLICY = Policy.from_text('[campaign.a]\ncaps = ["50 per day"]\n')


@pytest.fixture(scope="module", params=REAL[-1:])
def setup(request: pytest.FixtureRequest) -> Iterator[Watched]:
    """The set-up, on one kind of server: what is tested is which node is asked."""
    with clusters.watched(request.param) as watched:
        yield watched


@pytest.fixture
def watched(setup: Watched) -> Watched:
    """The set-up, healthy and empty."""
    setup.heal()
    setup.flush()
    return setup


def by_url(watched: Watched) -> Any:
    """The sentinels by URL."""
    return watched.url


def by_client(watched: Watched) -> Any:
    """A caller's own client, from redis.Sentinel or its asyncio counterpart."""

    def given(module: Any) -> Any:
        kind = module.Sentinel if module is redis else module.sentinel.Sentinel
        options = {"socket_timeout": TIMEOUT, "protocol": 2}
        return kind(watched.addresses, sentinel_kwargs=options).master_for(SERVICE, **options)

    return given


@pytest.mark.parametrize("store", [by_url, by_client])
def test_the_primary_is_found(sort: str, watched: Watched, store: Any) -> None:
    """What is recorded is on the primary; the replica is not asked."""
    with opened(sort, POLICY, store(watched), timeout=PATIENT) as ads:
        assert ads.record("v", "impression", "a") is True
        assert ads.decide("v").degraded is None
        with watched.primary().client() as client:
            assert counted(client, "v") == 1


def test_a_sentinel_that_is_down_is_passed_over(sort: str, watched: Watched) -> None:
    """The first sentinel in the list is killed: the next one answers."""
    watched.sentinels[0].kill()
    with opened(sort, POLICY, watched.url) as ads:
        until(lambda: ads.decide("v").degraded is None, "a decision")


@pytest.mark.parametrize("store", [by_url, by_client])
def test_a_connection_to_a_former_primary_is_dropped(sort: str, watched: Watched, store: Any) -> None:
    """The sentinels are told to fail over while calls go on: READONLY is seen for a moment at most."""
    with opened(sort, POLICY, store(watched)) as ads:
        until(lambda: ads.record("v", "impression", "a"), "an event recorded")
        watched.fail_over()
        until(lambda: ads.record("v", "impression", "a"), "an event recorded")
        until(lambda: ads.claim("v", ["a"]), "a claim")
        assert all(server.up for server in ads.health)


def test_the_primary_is_killed_under_load(sort: str, watched: Watched) -> None:
    """While three threads claim: only our exceptions, caps exceeded by what was lost at most, and service resumes."""
    with opened(sort, CLAIMED, watched.url) as ads:
        with Claiming(ads) as claiming:
            until(lambda: claiming.answered > 200, "claims")
            before = watched.primary()
            watched.watch_closely()
            before.kill()
            until(lambda: watched.primary() is not before, "a failover")
            so_far = claiming.answered
            until(lambda: claiming.answered > so_far + 200, "claims again")
        assert claiming.failed.total() > 0
        claiming.check()


def test_no_sentinel_answers(sort: str, watched: Watched) -> None:
    """All three are stopped: a connected client is served; a new one is refused in time, served once they resume."""
    with opened(sort, POLICY, watched.url) as known, opened(sort, POLICY, watched.url) as new:
        until(lambda: known.decide("v").degraded is None, "a decision")
        for sentinel in watched.sentinels:
            sentinel.pause()
        until(lambda: known.decide("v").degraded is None, "a decision")
        assert new.decide("v").degraded is not None
        refuses_writes(new)
        for sentinel in watched.sentinels:
            sentinel.resume()
        until(lambda: new.decide("v").degraded is None, "a decision")
