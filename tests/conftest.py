"""Fixtures that every test may use: real servers for the session, and stores in memory and on each of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from retarget.policy import Policy
from retarget.retargeter import Retargeter
from retarget.timelines import Store
from tests.support import clusters, driving, nodes, servers
from tests.support.clusters import Cluster
from tests.support.fixtures import KINDS, REAL, Ads, Clock, Start
from tests.support.nodes import Node
from tests.support.servers import Server

collect_ignore = (  # the wheel's Valkey has no TLS, no jemalloc
    [] if "redis" in REAL else ["server/test_tls.py", "unit/operate/test_redis_memory.py"]
)


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """The session's server of that name, started when first asked for."""
    running: dict[str, Server] = {}
    with ExitStack() as stack:

        def get(name: str) -> Server:
            if name not in running:
                running[name] = stack.enter_context(servers.run(name))
            return running[name]

        yield get


@pytest.fixture(scope="session")
def fleet(start: Start) -> dict[str, Server]:
    """Every real server of the session, by name."""
    return {name: start(name) for name in REAL}


@pytest.fixture(params=REAL)
def server(request: pytest.FixtureRequest, start: Start) -> Server:
    """Each real server in turn, empty."""
    server = start(request.param)
    server.flush()
    return server


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, start: Start) -> str:
    """The address of each store in turn, empty."""
    if request.param == "memory":
        return "memory://"
    server = start(request.param)
    server.flush()
    return server.url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """Each store in turn, empty."""
    store = servers.open_store(url)
    yield store
    store.close()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands on Tuesday 10 November 2026, 12:00 UTC."""
    return Clock(1_794_312_000)


@pytest.fixture
def ads(store: Store, clock: Clock) -> Ads:
    """Makes a retargeter of a policy's text over each store in turn, with a prefix of its own and the clock above."""
    numbers = itertools.count()

    def make(toml: str, **options: object) -> Retargeter:
        given: dict[str, object] = {"clock": clock, "prefix": f"rt:t{next(numbers)}:", **options}
        assert str(given["prefix"]).startswith("rt:"), "the user whom tests log in as may touch no other keys"
        return Retargeter(Policy.from_text(toml), store, **given)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def start_cluster() -> Iterator[Callable[[str], Cluster]]:
    """The session's cluster of that kind of server, started when first asked for."""
    running: dict[str, Cluster] = {}
    with ExitStack() as stack:

        def get(name: str) -> Cluster:
            if name not in running:
                running[name] = stack.enter_context(clusters.cluster(name))
            return running[name]

        yield get


@pytest.fixture(params=REAL)
def cluster(request: pytest.FixtureRequest, start_cluster: Callable[[str], Cluster]) -> Cluster:
    """A healthy cluster of six nodes of each kind in turn, empty."""
    cluster = start_cluster(request.param)
    cluster.heal()
    cluster.flush()
    return cluster


@pytest.fixture(params=driving.SORTS)
def sort(request: pytest.FixtureRequest) -> str:
    """The sync client and the async one in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def victims() -> Iterator[Callable[[str], Node]]:
    """Servers for tests that are hard on them: stopped, killed, told to refuse."""
    running: dict[str, Node] = {}
    with ExitStack() as stack:

        def get(name: str) -> Node:
            if name not in running:
                running[name] = stack.enter_context(nodes.node(name, {"busy-reply-threshold": "1"}))
            return running[name]

        yield get


@pytest.fixture(params=REAL)
def victim(request: pytest.FixtureRequest, victims: Callable[[str], Node]) -> Node:
    """Each real server in turn, running and empty, for a test that is hard on it."""
    return _fresh(victims(request.param))


@pytest.fixture
def valkey(victims: Callable[[str], Node]) -> Node:
    """One of them, where what fails is not the server."""
    return _fresh(victims("valkey"))


def _fresh(node: Node) -> Node:
    if node.running:
        node.resume()
    else:
        node.start()
    node.ask("FLUSHALL")
    return node
