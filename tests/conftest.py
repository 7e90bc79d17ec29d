"""Fixtures for every test: real servers for the session, and stores in memory and on each of them.

Also what the run says about itself: which servers it uses, and where `retarget` was imported from.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import redis
from hypothesis import settings

import retarget
from retarget.policy import Policy
from retarget.retargeter import Retargeter
from retarget.stores.redis.connection import ConnectionPool
from retarget.timelines import Store
from tests.support import clusters, driving, nodes, servers
from tests.support.clusters import Cluster
from tests.support.fixtures import KINDS, NEED_REDIS, REAL, Ads, Clock, Start, in_ci
from tests.support.nodes import Node
from tests.support.servers import Server

settings.register_profile("patient", deadline=None)  # a busy machine is not a failure
settings.load_profile("patient")

collect_ignore = NEED_REDIS


def pytest_configure(config: pytest.Config) -> None:
    """Fail at once where the run would not test what it claims to."""
    if in_ci() and "redis" not in REAL:
        raise pytest.UsageError("redis-server is not installed: with CI set, the suite must run on every server")
    if os.environ.get("RETARGET_WHEEL") == "1" and "site-packages" not in Path(retarget.__file__).parts:
        raise pytest.UsageError(f"RETARGET_WHEEL=1, but retarget was imported from {retarget.__file__}, not a wheel")


def pytest_report_header() -> str:
    """The servers, and which retarget is tested."""
    return f"servers: {', '.join(REAL)}\nretarget: {Path(retarget.__file__).parent}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line where a server is missing: what ran without it, and what did not run."""
    if "redis" not in REAL:
        passed = {report.nodeid for report in terminalreporter.stats.get("passed", [])}
        alone = sum("valkey" in nodeid.partition("[")[2] for nodeid in passed)
        terminalreporter.write_line(
            f"redis-server is not installed: {alone} tests passed on Valkey only, none ran on Redis; "
            f"not collected: {', '.join(NEED_REDIS)}"
        )


@pytest.fixture(autouse=True)
def _nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close at a test's end what it opened and left open: as garbage it would warn in the middle of another test."""
    opened: list[Callable[[], object]] = []
    for owner, close in (
        (ConnectionPool, ConnectionPool.close_idle),
        (redis.ConnectionPool, redis.ConnectionPool.disconnect),
    ):
        monkeypatch.setattr(owner, "__init__", _noting(owner.__init__, close, opened))
    yield
    for close_it in opened:
        with suppress(Exception):
            close_it()


def _noting(
    make: Callable[..., None], close: Callable[..., object], opened: list[Callable[[], object]]
) -> Callable[..., None]:
    """A constructor that notes how to close what it made."""

    @functools.wraps(make)
    def init(self: object, *given: object, **options: object) -> None:
        make(self, *given, **options)
        opened.append(functools.partial(close, self))

    return init


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Gives the session's server of that name, started on first use."""
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
    """A clock that stands still at Tuesday 10 November 2026, 12:00 UTC."""
    return Clock(1_794_312_000)


@pytest.fixture
def ads(store: Store, clock: Clock) -> Ads:
    """Makes a retargeter from a policy's text over each store in turn, with its own prefix and the clock above."""
    numbers = itertools.count()

    def make(toml: str, **options: object) -> Retargeter:
        given: dict[str, object] = {"clock": clock, "prefix": f"rt:t{next(numbers)}:", **options}
        assert str(given["prefix"]).startswith("rt:"), "the user that tests log in as may touch no other keys"
        return Retargeter(Policy.from_text(toml), store, **given)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def start_cluster() -> Iterator[Callable[[str], Cluster]]:
    """Gives the session's cluster of that kind of server, started on first use."""
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
    """Servers for tests that stop them, kill them or make them refuse."""
    running: dict[str, Node] = {}
    with ExitStack() as stack:

        def get(name: str) -> Node:
            if name not in running:
                running[name] = stack.enter_context(nodes.node(name, {"busy-reply-threshold": "1"}))
            return running[name]

        yield get


@pytest.fixture(params=REAL)
def victim(request: pytest.FixtureRequest, victims: Callable[[str], Node]) -> Node:
    """Each real server in turn, running and empty, for a test that stops or kills it."""
    return _fresh(victims(request.param))


@pytest.fixture
def valkey(victims: Callable[[str], Node]) -> Node:
    """A Valkey of these, for tests in which something else fails."""
    return _fresh(victims("valkey"))


def _fresh(node: Node) -> Node:
    if node.running:
        node.resume()
        node.ask("CLIENT", "KILL", "TYPE", "normal")  # what earlier tests sent while it was stopped is dropped
    else:
        node.start()
    node.ask("FLUSHALL")
    return node
