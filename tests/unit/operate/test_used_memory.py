"""redis_memory.py compared with `used_memory` of Debian's Redis, which has jemalloc."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks import capacity_memory as bench
from retarget.engine import Plan
from retarget.events import Candidate, Subject
from retarget.operate.redis_memory import Field, Layout, Shape, tables
from retarget.operate.workload import Workload, shapes
from retarget.policy import Policy
from retarget.retargeter import Retargeter
from retarget.timelines import keys
from tests.support.fixtures import Start

BOUND = 0.03
"""How far the arithmetic may be off here, where few visitors share what the server itself takes."""

VISITORS = 16_000

NOW = 1_794_312_000

MARGIN = 0.01
"""How far it may be off with a million visitors and more."""


SOME = [name for number, name in enumerate(bench.layouts()) if number not in (1, 2, 5)]


@pytest.mark.parametrize("name", SOME)
def test_the_arithmetic_gives_what_a_server_uses(start: Start, name: str) -> None:
    """For each layout of the benchmark: listpacks and tables, long ids, a mix of visitors."""
    layout = bench.layouts()[name]
    visitors = VISITORS if len(layout[0].fields) < 50 else VISITORS // 4
    row = bench.weighed(start("redis").port, visitors, layout)
    assert abs(row["error"]) < BOUND, row


def test_the_library_writes_what_is_assumed(start: Start) -> None:
    """Visitors recorded by the library, under a policy with several timelines per impression."""
    caps = ["3 per day", "10 per 7 days"]
    campaigns = {f"c{n}": {"labels": {"advertiser": f"a{n % 2}"}, "caps": caps} for n in range(4)}
    policy = Policy.model_validate(
        {"annoyance": {"threshold": ["99 per 7 days"]}, "caps": {"advertiser": ["9 per 7 days"]}, "campaign": campaigns}
    )
    work = Workload(visitors=4_000, impressions=5, campaigns=4, spread="even", id_bytes=8)
    check(start, policy, work, [("impression", f"c{turn % 4}", NOW - 3_600 * (5 - turn)) for turn in range(5)])


@pytest.mark.parametrize(("items", "visits"), [(12, 0), (12, 9), (36, 20)])
def test_labels_of_candidates_and_subjects_of_templates(start: Start, items: int, visits: int) -> None:
    """A shop of many items: each that a visitor is shown, and each product that they visit, has a timeline."""
    policy = Policy.from_text(
        """
        [caps]
        item = ["3 per 7 days"]
        [campaign.comeback]
        audience = ["visit product/{item} within 7 days"]
        caps = ["99 per 7 days"]
        """
    )
    work = Workload(
        visitors=2_000, impressions=40, campaigns=1, visits=visits, spread="even", id_bytes=8, distinct={"item": items}
    )
    events: list[tuple[str, Subject, int]] = [("visit", f"product/{n:012}", NOW - 9_000 + n) for n in range(visits)]
    for turn in range(40):
        ad = Candidate("comeback", item=f"{turn % items:012}")
        events.append(("impression", ad, NOW - 3_600 * (40 - turn)))
    check(start, policy, work, events)


def check(start: Start, policy: Policy, work: Workload, each: Sequence[tuple[str, Subject, int]]) -> None:
    """Record these events for every visitor: fields and bytes are those of the workload."""
    events = [(f"v{number:07d}", *event) for number in range(work.visitors) for event in each]
    server = start("redis")
    server.flush()
    with server.client(socket_timeout=30) as client:
        usual = client.config_get("slowlog-log-slower-than")
        client.config_set("slowlog-log-slower-than", -1)  # on a busy machine its entries would count

        def record(many: int) -> None:
            with Retargeter(policy, server.unix_url, timeout=20, clock=lambda: NOW) as ads:
                ads.record_many(events[:many])

        record(1)  # the script and each command's latency histogram are then counted already
        bench.moved(client, 1)
        server.flush()
        before = bench.settled(client)
        record(len(events))
        bench.moved(client, work.visitors)
        used = bench.settled(client) - before
        stored = client.hgetall(keys.key("rt:", "v0000007"))
        client.config_set("slowlog-log-slower-than", str(usual["slowlog-log-slower-than"]))
    ((share, shape),) = shapes(work, Plan(policy))
    assert share == 1
    assert sorted(shape.fields) == sorted(Field(len(name), len(value)) for name, value in stored.items())
    assert shape.key == len(keys.key("rt:", "v0000007"))
    computed = work.visitors * Layout().visitor(shape) + tables(work.visitors).now
    assert abs(computed / used - 1) < BOUND


@pytest.mark.soak
def test_the_arithmetic_holds_for_ten_million_visitors() -> None:
    """At 10^7 visitors of 8 impressions over 4 campaigns: about two gigabytes."""
    layout = bench.layouts()["8 impressions over 4 campaigns"]
    assert 10_000_000 * Layout().visitor(Shape(*layout[0])) < 4e9
    with bench.server() as port:
        row = bench.weighed(port, 10_000_000, layout)
    assert abs(row["error"]) < MARGIN, row


@pytest.mark.soak
def test_a_cluster_node_needs_more_for_each_key() -> None:
    """The links between the keys of a slot are included."""
    layout = bench.layouts()["8 impressions over 4 campaigns"]
    with bench.node() as port:
        row = bench.weighed(port, VISITORS, layout, cluster=True)
    assert abs(row["error"]) < BOUND, row
    assert Layout(cluster=True).visitor(layout[0]) == Layout().visitor(layout[0]) + 16
