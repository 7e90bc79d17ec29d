"""The cases: each a job, its floors, what retarget does, and what its rivals do.

The targets are those of the design, as ratios of two contestants of one case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from benchmarks import floors, ours, rivals
from benchmarks.contest import Build, Case, Contestant, Target

CANDIDATES = (1, 10, 50, 500)
TIMELINES = (0, 5, 20, 100)
CAMPAIGNS = (100, 1_000, 10_000, 100_000)
IN_FLIGHT = (1, 8, 32, 256, 1_000)

_GET = Contestant(floors.GET, "floor", floors.get)
_HGETALL = Contestant(floors.HGETALL, "floor", floors.hgetall)
_EVALSHA = Contestant(floors.EVALSHA, "floor", floors.evalsha)
_FLOORS = [_GET, _HGETALL, _EVALSHA]


def _ours(name: str, build: Build, note: str = "", compared_with: str | None = None) -> Contestant:
    return Contestant(name, "retarget", build, note=note, compared_with=compared_with)


def _decide() -> Case:
    return Case(
        "decide",
        "One decision",
        "50 candidates with six rules each (two caps, an advertiser's cap, the annoyance threshold, an audience, an "
        "exclusion) for a visitor with 20 timelines",
        [*_FLOORS, _ours("decide", ours.decide), *rivals.contestants("decide", list(rivals.RIVALS))],
        floors.GET,
        [
            Target("decide, compared with GET", "decide", floors.GET, at_most=1.35),
            Target("decide, faster than `limits`, moving window", "decide", "limits, moving window", at_least=150),
            Target("decide, faster than a pipelined ZCOUNT per rule", "decide", _PER_RULE, at_least=8),
        ],
    )


_PER_RULE = "sorted sets, one ZCOUNT per rule"


def _candidates() -> Case:
    entries: list[Contestant] = [_GET]
    for number in CANDIDATES:
        campaigns = max(50, number)
        entries.append(_ours(f"decide, {number:,}", partial(ours.decide, candidates=number, campaigns=campaigns)))
        for name in ("limits, moving window", "sorted sets", "counters per day"):
            build = partial(rivals.build, name=name, job="candidates", candidates=number)
            entries.append(Contestant(f"{name}, {number:,}", "rival", build, rivals.RIVALS[name][0]))
    return Case(
        "candidates",
        "By the number of candidates",
        "the visitor of the first case, and 1 to 500 candidates",
        entries,
        floors.GET,
    )


def _history() -> Case:
    entries = [
        _ours(f"decide, {count} timelines", partial(ours.decide_history, timelines=count)) for count in TIMELINES
    ]
    return Case(
        "history",
        "By the visitor's history",
        "50 candidates of 500 campaigns, for visitors with 0 to 100 timelines",
        [_GET, *entries],
        floors.GET,
    )


def _campaigns(sizes: Iterable[int] = CAMPAIGNS) -> Case:
    name = "decide, all of {:,} campaigns".format
    smallest, *larger = sizes
    return Case(
        "campaigns",
        "Over every campaign",
        "the policy's campaigns all have audiences, five to a product; 25 are in reach of the visitor's five visits",
        [
            _GET,
            *(
                _ours(name(size), partial(ours.decide_all, campaigns=size), compared_with=name(smallest))
                for size in (smallest, *larger)
            ),
            *rivals.contestants("campaigns", rivals.MAIN),
        ],
        floors.GET,
        [
            Target(f"{size:,} campaigns, compared with {smallest:,}", name(size), name(smallest), at_most=1.1)
            for size in larger
        ],
    )


def _claim() -> Case:
    known = "claim, 20 impressions"
    return Case(
        "claim",
        "One claim",
        "10 ranked candidates; the first that may be shown is counted, atomically",
        [
            *_FLOORS,
            _ours("claim, new visitor", ours.claim_new, "a policy without audiences"),
            _ours(known, ours.claim),
            _ours("claim, first three capped", partial(ours.claim, capped=True), "20 impressions, and 9 of today"),
            *rivals.contestants("claim", rivals.MAIN),
        ],
        floors.GET,
        [Target("claim on 20 impressions, compared with GET", known, floors.GET, at_most=1.8)],
    )


def _hold() -> Case:
    floor = "two EVALSHA of `return 1`"
    return Case(
        "hold",
        "A claim with a hold, and its confirmation",
        "10 ranked candidates for visitors with 20 impressions; two round trips",
        [
            Contestant(floor, "floor", floors.two_evalsha),
            _ours("claim with hold, confirm", ours.hold),
            *rivals.contestants("hold", rivals.MAIN),
        ],
        floor,
    )


def _record() -> Case:
    return Case(
        "record",
        "One record",
        "an impression, for visitors with 20 impressions of as many campaigns",
        [
            *_FLOORS,
            _ours("record", ours.record, "a campaign the visitor saw today"),
            _ours("record, a new campaign", partial(ours.record, new=True), "new to the visitor: a timeline begins"),
            *rivals.contestants("record", rivals.MAIN),
        ],
        floors.EVALSHA,
        [Target("record, compared with EVALSHA", "record", floors.EVALSHA, at_most=1.15)],
    )


def _decide_many() -> Case:
    floor = "pipelined HGETALL"
    return Case(
        "decide-many",
        "Decisions in bulk",
        "1,000 visitors of 20 timelines to a batch (rivals: 100, whose batches are longer), 50 candidates each",
        [
            Contestant(floor, "floor", floors.pipelined_hgetall),
            _ours("decide_many", ours.decide_many),
            *rivals.contestants("decide-many", rivals.MAIN),
        ],
        floor,
        [Target("decide_many's throughput, compared with pipelined HGETALL", "decide_many", floor, at_least=0.8)],
        unit="visitor",
    )


def _record_many() -> Case:
    floor = "pipelined EVALSHA of `return 1`"
    return Case(
        "record-many",
        "Records in bulk",
        "1,000 impressions to a batch",
        [
            Contestant(floor, "floor", floors.pipelined_evalsha),
            _ours("record_many", ours.record_many),
            *(c for c in rivals.contestants("record-many", rivals.MAIN) if c.build is None),
        ],
        floor,
        unit="event",
    )


def _async(sizes: Sequence[int] = IN_FLIGHT) -> Case:
    entries: list[Contestant] = []
    targets = []
    for uvloop in (False, True):
        loop, package = (", uvloop", "uvloop") if uvloop else ("", None)
        for number in sizes:
            bare, own = f"bare hgetall, {number:,}{loop}", f"decide, {number:,}{loop}"
            floor = partial(floors.bare_async, in_flight=number, uvloop=uvloop)
            build = partial(ours.decide_async, in_flight=number, uvloop=uvloop)
            entries.append(Contestant(bare, "floor", floor, package, compared_with=bare))
            entries.append(Contestant(own, "retarget", build, package, compared_with=bare))
            if number == 32 and not uvloop:
                targets.append(Target("32 in flight, throughput compared with bare hgetall", own, bare, at_least=2.5))
    return Case(
        "async",
        "Concurrent decisions on one event loop",
        "1 to 1,000 decisions in flight, compared with as many hgetall of redis.asyncio over a pool that waits; "
        "rivals are not entered: their hundreds of round trips stay as many",
        entries,
        "bare hgetall, 1",
        targets,
    )


def _memory_store() -> Case:
    def entry(name: str, build: Build) -> Contestant:
        return _ours(name, partial(ours.in_memory, build=build))

    return Case(
        "memory-store",
        "The store in memory",
        "the same calls, no server",
        [
            _GET,
            entry("decide, in memory", ours.decide),
            entry("claim, in memory", ours.claim),
            entry("record, in memory", ours.record),
        ],
        floors.GET,
    )


def _replay() -> Case:
    fetched = "sorted and fetched, no decision"
    return Case(
        "replay",
        "A log replayed in memory",
        "impressions of 50 campaigns with four caps each, sorted by visitor and time by DuckDB",
        [
            Contestant(fetched, "floor", ours.fetch_log, note="the log is open"),
            Contestant("opened, sorted and fetched", "floor", ours.read_log, note="from the CSV file"),
            _ours("replay", ours.replay_log, "the log is open"),
        ],
        fetched,
        [Target("impressions replayed per second", "replay", None, at_least=500_000)],
        unit="event",
        rounds=5,
    )


def cases(*, quick: bool = False) -> list[Case]:
    """All cases; quick ones are smaller."""
    return [
        _decide(),
        _candidates(),
        _history(),
        _campaigns(CAMPAIGNS[:2] if quick else CAMPAIGNS),
        _claim(),
        _hold(),
        _record(),
        _decide_many(),
        _record_many(),
        _async((1, 32) if quick else IN_FLIGHT),
        _memory_store(),
        _replay(),
    ]
