"""What a workload takes: memory, nodes, cores and network, by arithmetic from measured constants.

Rules:
- Memory comes from `redis_memory`: how a server stores one visitor. Times come from `Costs`: what was measured.
- Uncertain figures are taken on the safe side: tables are rehashing, and a write scans all timelines.
- What the estimate leaves out is reported first: `Capacity.unknown`.
- Sizes are bytes, times seconds unless the name says `us` (microseconds), rates per second. No clock, no redis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any, Literal, NamedTuple

from retarget.engine import Plan, compile_subject
from retarget.errors import InputError
from retarget.operate.costs import Costs
from retarget.operate.quantities import require
from retarget.operate.redis_memory import Layout, Shape, tables
from retarget.operate.workload import (
    Workload,
    axes,
    candidates,
    labels_of_candidates,
    other_events,
    other_timelines,
    shapes,
)
from retarget.timelines import MOST_TIMELINES

_MOST_NAMED = 3
_PAGE = 4_096
_PACKET = 66
"""Ethernet 14, IPv4 20, TCP with timestamps 32 (RFC 9293, RFC 7323): a request and its reply are a packet each."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The servers: memory of a node (bytes), replicas of each primary, and the shares that stay free or may be used.

    `headroom`: the share of memory that stays free. `utilisation`: the share of time that a primary's core may be busy.
    At 0.5 a call waits, on average, half as long as a call takes (M/D/1); at 0.8 twice as long. `saves`: whether
    servers fork to save (RDB, AOF rewrite) or to feed a new replica. Raises InputError for a value out of range.
    """

    node_memory: float = 64e9
    replicas: int = 1
    headroom: float = 0.2
    utilisation: float = 0.5
    saves: bool = True
    layout: Layout = field(default_factory=Layout)

    def __post_init__(self) -> None:
        require(self.node_memory >= 1e8, "node_memory", self.node_memory, "at least 100 MB")
        require(0 <= self.replicas <= 10, "replicas", self.replicas, "from 0 to 10")
        require(0 <= self.headroom <= 0.9, "headroom", self.headroom, "from 0 to 0.9")
        require(0.01 <= self.utilisation <= 0.95, "utilisation", self.utilisation, "from 0.01 to 0.95")


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a workload takes. `node_*` figures are those of one primary; each of its replicas takes the same."""

    timelines: float
    """Timelines of a visitor, on average."""
    beyond_listpack: float
    """The share of visitors who do not fit into a listpack, and take several times the memory."""
    visitor_bytes: float
    """Bytes of one visitor on average, including two slots in each of the server's tables."""
    visitor_bytes_least: float
    """The same with one slot in each: the real figure is between, and depends on how full the tables are."""
    longest_value: int
    """Bytes of the longest timeline: with hash-max-listpack-value at least this, every visitor fits into a listpack."""
    visitor_bytes_small: float
    """`visitor_bytes` with that setting."""
    data_bytes: float
    """All visitors, once."""
    data_bytes_replicated: float
    node_used_bytes: float
    """`used_memory` of a primary."""
    node_resident_bytes: float
    """`used_memory` with fragmentation."""
    node_copied_bytes: float
    """What writes copy while a forked child saves."""
    node_saving_seconds: float
    primaries: int
    nodes: int
    primaries_by_memory: int
    primaries_by_cpu: int
    decided_by: Literal["memory", "CPU", "neither: one server is enough"]
    server_us: float
    """CPU microseconds of a primary for one call, on average."""
    server_us_decide: float
    server_us_claim: float
    server_us_record: float
    calls_per_core: float
    """Calls per second that one core handles at the fleet's utilisation."""
    server_busy: float
    """The share of time that each primary's core is busy."""
    wait_us: float
    """Microseconds that a call queues, on average (M/G/1)."""
    client_cores: float
    """Cores that ad servers need for these calls, at the fleet's utilisation."""
    network_in: float
    """Bytes per second into all primaries, including packet headers."""
    network_out: float
    unknown: tuple[str, ...]
    """What the estimate leaves out, a sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {one.name: getattr(self, one.name) for one in fields(self)} | {"unknown": list(self.unknown)}


def estimate_capacity(
    workload: Workload, fleet: Fleet | None = None, *, plan: Plan | None = None, costs: Costs | None = None
) -> Capacity:
    """What the workload takes on this fleet; `plan` (`Plan(policy)`) says which timelines there are.

    Raises InputError if no number of nodes is enough.
    """
    fleet, costs = fleet or Fleet(), costs or Costs()
    likely = shapes(workload, plan)
    calls = _Calls(workload, plan, costs, likely)
    by_cpu = max(1, math.ceil(workload.qps * calls.mean / 1e6 / fleet.utilisation - 1e-9))
    # More than one primary means a cluster, whose keys take more memory.
    layouts = {several: replace(fleet.layout, cluster=fleet.layout.cluster or several) for several in (False, True)}
    sizes = {several: _mean_size(likely, layout) for several, layout in layouts.items()}

    def node(primaries: int) -> _Node:
        return _Node.of(workload, fleet, costs, sizes[primaries > 1], primaries)

    by_memory = _least(lambda primaries: node(primaries).fits(fleet), workload.visitors)
    primaries = max(by_memory, by_cpu)
    chosen = node(primaries)
    layout, own, table = layouts[primaries > 1], sizes[primaries > 1], tables(1)
    longest = max(one.value for _, shape in likely for one in shape.fields)
    data = workload.visitors * (own + table.most)
    rate = workload.qps / primaries / 1e6
    busy = rate * calls.mean
    return Capacity(
        timelines=calls.timelines,
        beyond_listpack=sum(share for share, shape in likely if not fleet.layout.is_small(shape.fields)),
        visitor_bytes=own + table.most,
        visitor_bytes_least=own + table.least,
        longest_value=longest,
        visitor_bytes_small=_mean_size(likely, replace(layout, value=max(longest, layout.value))) + table.most,
        data_bytes=data,
        data_bytes_replicated=data * (1 + fleet.replicas),
        node_used_bytes=chosen.used,
        node_resident_bytes=chosen.resident,
        node_copied_bytes=chosen.copied,
        node_saving_seconds=chosen.saving if fleet.saves else 0,
        primaries=primaries,
        nodes=primaries * (1 + fleet.replicas),
        primaries_by_memory=by_memory,
        primaries_by_cpu=by_cpu,
        decided_by=("neither: one server is enough" if primaries == 1 else "memory" if by_memory >= by_cpu else "CPU"),
        server_us=calls.mean,
        server_us_decide=calls.decide,
        server_us_claim=calls.claim,
        server_us_record=calls.record,
        calls_per_core=1e6 * fleet.utilisation / calls.mean,
        server_busy=busy,
        wait_us=rate * calls.mean_square / 2 / (1 - busy),
        client_cores=workload.qps * calls.client / 1e6 / fleet.utilisation,
        network_in=workload.qps * calls.sent,
        network_out=workload.qps * calls.received,
        unknown=tuple(_unknown(workload, plan, fleet, likely)),
    )


class _Node(NamedTuple):
    """A primary: bytes used, resident, and copied while it saves; seconds that saving takes."""

    used: float
    resident: float
    copied: float
    saving: float

    @classmethod
    def of(cls, workload: Workload, fleet: Fleet, costs: Costs, own: float, primaries: int) -> _Node:
        """One of `primaries`, with its share of visitors and writes; `own` is the mean size of a visitor.

        A write copies a few pages, each page as likely as any other. So of P pages N copies touch P (1 - e^(-N/P)),
        the expectation of the occupancy problem (Feller, An Introduction to Probability Theory, IV.2).
        """
        visitors = math.ceil(workload.visitors / primaries)
        used = EMPTY_SERVER + visitors * own + tables(visitors).rehashing
        resident = used * costs.fragmentation
        saving = used / costs.save_rate
        writes = workload.qps / primaries * (workload.share_of_claims + workload.share_of_records)
        pages = resident / _PAGE
        touched = -math.expm1(-writes * saving * costs.write_pages / pages) if fleet.saves else 0.0
        return cls(used, resident, resident * touched, saving)

    def fits(self, fleet: Fleet) -> bool:
        return self.resident + self.copied <= fleet.node_memory * (1 - fleet.headroom)


EMPTY_SERVER = 16e6
"""Bytes of a server without visitors: itself, the replication backlog, buffers of a few hundred connections."""


class _Calls:
    """What the average call takes: CPU microseconds of server and client, bytes on the network."""

    def __init__(self, workload: Workload, plan: Plan | None, costs: Costs, likely: list[tuple[float, Shape]]) -> None:
        shares = (workload.share_of_decisions, workload.share_of_claims, workload.share_of_records)
        entered = axes(workload, plan)
        entries = sum(sum(map(len, axis)) / max(1, len(axis)) for axis in entered)
        name = sum(sum(kept.name for _, kept in chain(*axis)) / max(1, len(axis)) for axis in entered)
        name /= max(1, entries)
        words = sum(sum(_bulk(kept.name) for _, kept in chain(*axis)) / max(1, len(axis)) for axis in entered)
        words += len(str(8 + round(entries))) - 1  # the number of words has another digit
        guards, anchors = _guards(workload, plan)
        self.timelines = sum(share * len(shape.fields) for share, shape in likely)
        self.decide = costs.read(self.timelines)
        self.claim = costs.write(entries, guards, self.timelines)
        self.record = costs.write(entries, 0, self.timelines)
        times = (self.decide, self.claim, self.record)
        self.mean = _weighted(shares, times)
        self.mean_square = _weighted(shares, [time**2 for time in times])
        decided = costs.decide_client_us + workload.candidates * costs.candidate_client_us
        self.client = _weighted(shares, (decided, costs.claim_client_us, costs.record_client_us))
        key = likely[0][1].key
        state = sum(share * _reply(shape) for share, shape in likely)
        # See data-format.md: an alternative, its entries and guards; the first one's timelines are repeated as words.
        interval = 8 if plan is not None and plan.activity_place is not None else 0
        alternative = 21 + entries * (13 + name) + interval
        guarded = alternative + guards * (9 + name) + anchors
        script = _array(7, 40, 1, key, 10, 5 * workload.event_ids, 0)
        claim = script + _array(workload.candidates * guarded) + words - 4
        record = script + _array(alternative) + words - 4
        requests = (_array(7, key), claim, record)
        self.sent = _weighted(shares, requests) + 2 * _PACKET  # the request, and the acknowledgement of the reply
        self.received = _weighted(shares, (state, 4, 4)) + 2 * _PACKET


def _guards(workload: Workload, plan: Plan | None) -> tuple[float, float]:
    """The guards of one candidate's rules, and the bytes of the anchors in them, on average."""
    shown = candidates(workload, plan) if plan is not None else []
    if plan is None or not shown:
        return 1, 0
    facts = [fact for ad in shown for fact, _ in chain.from_iterable(compile_subject(plan, ad).guards)]
    anchors = sum(8 + len(fact.anchor.field) for fact in facts if fact.anchor is not None)
    return len(facts) / len(shown), anchors / len(shown)


def _reply(shape: Shape) -> float:
    """Bytes of a visitor's HGETALL reply (RESP2)."""
    return _array(*chain(*shape.fields))


def _array(*lengths: float) -> float:
    """Bytes of a RESP2 array of bulk strings: `*N`, then each string; each line ends with two bytes."""
    return 3 + len(str(len(lengths))) + sum(map(_bulk, lengths))


def _bulk(length: float) -> float:
    """Bytes of a RESP2 bulk string: `$LENGTH`, then the text."""
    return length + 5 + len(str(int(length)))


def _weighted(shares: tuple[float, ...], values: tuple[float, ...] | list[float]) -> float:
    return sum(share * value for share, value in zip(shares, values, strict=True))


def _mean_size(likely: list[tuple[float, Shape]], layout: Layout) -> float:
    return sum(share * layout.visitor(shape) for share, shape in likely)


def _least(enough: Callable[[int], bool], most: int) -> int:
    """The smallest number that is enough, given that all larger ones are too; searched up to twice `most`."""
    high = 1
    while not enough(high):
        if high > most:
            raise InputError("node_memory: too small to hold any visitors besides the server itself")
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _unknown(workload: Workload, plan: Plan | None, fleet: Fleet, likely: list[tuple[float, Shape]]) -> Iterator[str]:
    """What the estimate leaves out, and what it assumes instead."""
    yield (
        "Your machines: times were measured on one machine, and vary there by a factor of two from hour to hour. "
        "Measure yours with `python -m benchmarks.capacity --measure`."
    )
    yield (
        "Other servers: memory is that of Redis 7.0 with jemalloc, accurate to 1% for a million visitors. Valkey 9.1 "
        "took 7 to 32% less; other versions were not measured."
    )
    if workload.spread == "uneven":
        yield "How many impressions your visitors really have: a geometric distribution around the mean is assumed."
    else:
        yield "How many impressions your visitors really have: the same number for each is assumed."
    if plan is None:
        yield "Your rules: without a policy, an impression enters one timeline only, its campaign's."
    else:
        yield from _assumed(workload, plan, likely)
    yield (
        "How unevenly slots and busy visitors load the nodes, and expired visitors that the server has not deleted yet "
        f"(up to a tenth). The headroom of {fleet.headroom:.0%} is for these."
    )
    yield "TLS, proxies, traffic to replicas, network latency, and other programs on these machines."


def _assumed(workload: Workload, plan: Plan, likely: list[tuple[float, Shape]]) -> Iterator[str]:
    """What is assumed of labels that come with candidates, and of other events."""
    spread = labels_of_candidates(workload, plan.policy)
    if spread:
        values = ", ".join(f"{number:,} of {kind}" for kind, number in spread.items())
        guessed = next((kind for kind in spread if kind not in workload.distinct), None)
        cure = f": --distinct {guessed}=N says how many" if guessed else ""
        yield f"How many values of a label your visitors really meet: {values} for each visitor are assumed{cure}."
    asked = [f"{event} {subject}" if subject else event for event, subject in other_events(plan.policy)]
    if asked:
        named = ", ".join(asked[:_MOST_NAMED]) + (
            f" and {len(asked) - _MOST_NAMED:,} more" * (len(asked) > _MOST_NAMED)
        )
        number = len(other_timelines(workload, plan))
        assumed = "none are assumed: --visits N says how many"
        if number:
            timelines, verb = ("timeline", "is") if number == 1 else ("timelines", "are")
            assumed = f"{number:,} {timelines} of one entry for each visitor {verb} assumed"
        fewer = f", not {workload.visits:,}, since the policy asks about no more" if number < workload.visits else ""
        yield f"How many other events your visitors really have ({named}): {assumed}{fewer}."
    full = sum(share for share, shape in likely if len(shape.fields) > MOST_TIMELINES)
    if full:
        yield (
            f"That a visitor has room for {MOST_TIMELINES:,} timelines: {full:.1%} of visitors would have more, and "
            "those of rules that block leave no room to count. Give these shorter windows, or labels with fewer values."
        )
