"""capacity.py: what a workload takes, on a fleet and under a policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.engine import Plan
from retarget.errors import InputError
from retarget.events import Candidate
from retarget.operate.capacity import Capacity, Fleet, estimate_capacity
from retarget.operate.costs import Costs
from retarget.operate.redis_memory import Layout
from retarget.operate.workload import Spread, Workload
from retarget.policy import Policy
from retarget.retargeter import Retargeter
from retarget.stores import MemoryStore
from retarget.stores.redis.protocol import writing
from retarget.timelines import MOST_TIMELINES, Answer, Write

LARGE = Workload(visitors=500_000_000, impressions=20, qps=400_000)
NOW = 1_794_312_000
POLICY = Policy.from_text(
    """
    [annoyance]
    threshold = ["20 per 7 days"]

    [caps]
    advertiser = ["5 per 7 days"]

    [campaign.brand]
    labels = { advertiser = "oyashop" }
    caps = ["2 per day", "6 per 7 days"]

    [campaign.comeback]
    labels = { advertiser = "oyashop" }
    caps = ["6 per 7 days"]
    audience = ["visit shop within 7 days"]
    exclude = ["purchase within 7 days"]
    """
)


def estimate(work: Workload = LARGE, fleet: Fleet | None = None, **costs: float) -> Capacity:
    return estimate_capacity(work, fleet, costs=Costs(**costs))


# -- who is remembered -------------------------------------------------------------------------------------------------


# -- what it takes -----------------------------------------------------------------------------------------------------


def test_memory_or_cpu_decides_the_number_of_nodes() -> None:
    """The larger number decides, and the result says which it is."""
    found = estimate(fleet=Fleet(node_memory=16e9))
    assert found.decided_by == "memory"
    assert found.primaries == found.primaries_by_memory > found.primaries_by_cpu
    assert found.nodes == 2 * found.primaries
    busy = estimate(fleet=Fleet(node_memory=500e9), read_us=30)
    assert busy.decided_by == "CPU"
    assert busy.primaries == busy.primaries_by_cpu > busy.primaries_by_memory
    assert busy.server_busy <= 0.5 + 1e-9
    small = estimate(Workload(visitors=1_000, qps=100))
    assert (small.decided_by, small.primaries) == ("neither: one server is enough", 1)


@pytest.mark.parametrize("memory", [8e9, 16e9, 64e9])
def test_the_nodes_are_as_few_as_can_be(memory: float) -> None:
    """They fit with the headroom; one primary less would not."""
    fleet = Fleet(node_memory=memory, headroom=0.2)
    quiet = replace(LARGE, qps=4_000)
    found = estimate(quiet, fleet)
    assert found.node_resident_bytes + found.node_copied_bytes <= 0.8 * memory
    per_node = (found.node_resident_bytes + found.node_copied_bytes) * found.primaries / (found.primaries - 1)
    assert per_node > 0.8 * memory


def test_waiting_is_that_of_the_queue() -> None:
    """With equal service times, half a call's time at 50 %; twice at 80 % (M/D/1)."""
    same = Costs(read_us=20.0, read_timeline_us=0.0)
    only = Workload(visitors=1_000_000, qps=25_000, share_of_claims=0, share_of_records=0)
    half = estimate_capacity(only, costs=same)
    assert (half.primaries, half.server_busy, half.wait_us) == (1, 0.5, 10)
    most = estimate_capacity(replace(only, qps=40_000), Fleet(utilisation=0.8), costs=same)
    assert most.server_busy == pytest.approx(0.8)
    assert most.wait_us == pytest.approx(40)


def test_what_is_copied_while_saving() -> None:
    """Nothing without saving or writes; never more than the resident memory."""
    assert estimate(fleet=Fleet(saves=False)).node_copied_bytes == 0
    assert estimate(replace(LARGE, share_of_claims=0, share_of_records=0)).node_copied_bytes == 0
    found = estimate(replace(LARGE, share_of_claims=0.5, share_of_records=0.5))
    assert 0 < found.node_copied_bytes < found.node_resident_bytes
    usual = estimate()
    share, less = (one.node_copied_bytes / one.node_resident_bytes for one in (found, usual))
    assert share > less


def test_a_larger_listpack_value_keeps_visitors_small() -> None:
    """The recommended setting gives the promised size."""
    found = estimate(replace(LARGE, campaigns=1))
    assert found.beyond_listpack > 0.4
    larger = estimate(replace(LARGE, campaigns=1), Fleet(layout=Layout(value=found.longest_value)))
    assert larger.beyond_listpack == 0
    assert larger.visitor_bytes == found.visitor_bytes_small < found.visitor_bytes


@settings(deadline=None, max_examples=30)
@given(
    visitors=st.integers(1, 10**10),
    impressions=st.floats(1, 60),
    campaigns=st.integers(1, 20),
    qps=st.floats(0, 1e7),
    memory=st.floats(1e8, 1e12),
    spread=st.sampled_from(["uneven", "even"]),
)
def test_more_of_anything_never_takes_less(
    visitors: int, impressions: float, campaigns: int, qps: float, memory: float, spread: Spread
) -> None:
    """Twice the visitors or calls take at least as many nodes; a larger node never needs more."""
    work = Workload(visitors, impressions, campaigns, spread=spread, qps=qps)
    fleet = Fleet(node_memory=memory)
    found = estimate(work, fleet)
    assert estimate(replace(work, qps=2 * qps), fleet).primaries_by_cpu >= found.primaries_by_cpu
    assert estimate(replace(work, visitors=2 * visitors, qps=2 * qps), fleet).nodes >= found.nodes
    assert estimate(work, Fleet(node_memory=2 * memory)).primaries_by_memory <= found.primaries_by_memory
    assert found.visitor_bytes_least < found.visitor_bytes


class Spy(MemoryStore):
    """Remembers the last write."""

    def write(self, write: Write) -> Answer:
        self.last = write
        return super().write(write)


@pytest.mark.parametrize(
    ("own", "caps", "distinct"),
    [
        ("2 per day", "", {}),
        ("2 per session", "", {}),
        ("2 per day", '[caps]\nitem = ["3 per day"]', {"item": 1}),
    ],
)
def test_the_network_is_that_of_the_bytes_sent(own: str, caps: str, distinct: dict[str, int]) -> None:
    """A record and a claim are as long as the commands that the library sends."""
    policy = Policy.from_text(f'[campaign.brand]\ncaps = ["{own}"]\n{caps}')
    spy = Spy()
    ads = Retargeter(policy, spy, clock=lambda: NOW)
    work = Workload(visitors=1, impressions=1, campaigns=1, id_bytes=8, qps=1, candidates=1, distinct=distinct)
    ad = Candidate("brand", **dict.fromkeys(distinct, "0" * 12))
    calls: dict[int, Callable[[], object]] = {
        0: lambda: ads.record("visitor1", "impression", ad),
        1: lambda: ads.claim("visitor1", [ad]),
    }
    for claims, call in calls.items():
        call()
        words = [word if isinstance(word, bytes) else str(word).encode() for word in writing(spy.last).words]
        sent = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        found = estimate_capacity(replace(work, share_of_claims=claims, share_of_records=1 - claims), plan=Plan(policy))
        assert found.network_in - 2 * 66 == len(sent)


# -- what callers give -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"node_memory": 1e6}, {"replicas": -1}, {"headroom": 1.0}, {"utilisation": 1.0}, {"utilisation": 0.0}]
)
def test_an_invalid_fleet_is_refused(wrong: dict[str, Any]) -> None:
    """The message names the field."""
    with pytest.raises(InputError, match=next(iter(wrong))):
        Fleet(**wrong)


def test_the_estimate_says_what_it_leaves_out() -> None:
    """And which distribution of impressions was assumed."""
    known = estimate_capacity(replace(LARGE, spread="even"), plan=Plan(POLICY))
    assert any("same number for each" in text for text in known.unknown)
    assert any("geometric" in text for text in estimate().unknown)
    assert any("without a policy" in text for text in estimate().unknown)
    assert not any("without a policy" in text for text in known.unknown)  # it says what an impression enters
    assert known.to_dict()["nodes"] == known.nodes


ITEMS = Policy.from_text(
    """
    [caps]
    item = ["3 per 7 days"]
    slot = ["9 per 7 days"]

    [campaign.brand]
    audience = ["visit product/{item} within 7 days", "open", "start"]
    exclude = ["purchase {item}"]
    """
)


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ({"distinct": {"item": 12, "slot": 3}}, "really meet: 12 of item, 3 of slot for each visitor are assumed."),
        (
            {"distinct": {"item": 12}},
            ": 12 of item, 4 of slot for each visitor are assumed: --distinct slot=N says how many.",
        ),
        ({"visits": 0}, "(visit product/{item}, open, start and 1 more): none are assumed: --visits N says how many."),
        ({"visits": 1}, "1 more): 1 timeline of one entry for each visitor is assumed."),
        ({"visits": 300}, "1 more): 300 timelines of one entry for each visitor are assumed."),
    ],
)
def test_the_estimate_says_what_it_assumes(work: dict[str, Any], said: str) -> None:
    """Of labels that come with candidates, whether given or not, and of events on subjects of templates."""
    found = estimate_capacity(replace(LARGE, **work), plan=Plan(ITEMS))
    assert [text for text in found.unknown if text.endswith(said)]


def test_no_more_events_than_the_policy_asks_about() -> None:
    """Where no template makes more, the estimate says how many there are."""
    found = estimate_capacity(replace(LARGE, visits=5), plan=Plan(POLICY))
    assert [
        text
        for text in found.unknown
        if "2 timelines of one entry for each visitor are assumed, not 5" in text and "not 5" in text
    ]


def test_visitors_who_would_be_full_are_reported() -> None:
    """More timelines than a visitor has room for are said to be too many."""
    for visits, full in ((100, False), (MOST_TIMELINES - 10, True)):
        work = replace(LARGE, visits=visits, distinct={"item": 30})
        said = [text for text in estimate_capacity(work, plan=Plan(ITEMS)).unknown if "leave no room" in text]
        assert bool(said) is full


def test_labels_of_candidates_cost_time_too() -> None:
    """Their timelines are entered and guarded: a claim and a record take longer with a label than without."""
    plain = estimate_capacity(LARGE, plan=Plan(Policy.from_text('[campaign.brand]\ncaps = ["3 per 7 days"]')))
    text = '[campaign.brand]\ncaps = ["3 per 7 days"]\n[caps]\nitem = ["3 per 7 days"]'
    labelled = estimate_capacity(replace(LARGE, distinct={"item": 1}), plan=Plan(Policy.from_text(text)))
    costs = Costs()
    assert labelled.server_us_record - plain.server_us_record == pytest.approx(
        costs.write_entry_us + costs.write_timeline_us
    )
    guarded = costs.write_entry_us + costs.write_timeline_us + costs.write_guard_us
    assert labelled.server_us_claim - plain.server_us_claim == pytest.approx(guarded)


def test_a_node_too_small_for_any_visitor_is_refused() -> None:
    """If the server alone uses up the memory, no number of nodes is enough."""
    with pytest.raises(InputError, match="node_memory: too small to hold any visitors"):
        estimate(fleet=Fleet(node_memory=1e8, headroom=0.9))
