"""Any policy, any history, every candidate: the verdict is the oracle's in all it says.

Whether it may be shown; which rule forbids it, of several the one that ends last; how much of its limit is used; and
when it may be shown again: then it may, a second before it may not, and at no moment between at which anything changes.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from retarget import Policy, PolicyError, Retargeter, Verdict
from retarget.events import Subject
from tests.property.asking import compare, second
from tests.property.oracle import Oracle
from tests.support.strategies import BASE, ZONES, Data, candidates, events, policies, second_of

_AHEAD = st.sampled_from([0, 0, 1, 5, 59, 600, 601, 3_600, 86_400])
_HOLDS = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([1, 60, 3_600])), max_size=2)


class Differ:
    """The library over memory and the oracle, with the same history of visitor v1."""

    def __init__(self, data: Data) -> None:
        self.now = BASE
        try:
            self.policy = Policy.model_validate(data)
            self.ads = Retargeter(self.policy, "memory://", clock=lambda: self.now)
        except PolicyError as error:  # a refusal, not a wrong answer
            assume("clauses" not in str(error))
            raise
        self.oracle = Oracle(self.policy)

    def happens(self, data: st.DataObject) -> None:
        """A few events in any order of arrival, some reservations, and time that goes on."""
        for event in data.draw(st.lists(events(self.policy), max_size=12), "events"):
            at = second_of(event)
            self.now = max(self.now, at)
            kept = self.ads.record("v1", event.event, event.subject, at=at)
            self.oracle.record("v1", event.event, event.subject, at, now=self.now, kept=kept)
        self.now += data.draw(_AHEAD, "later")
        offered = data.draw(st.lists(candidates(self.policy), min_size=10, max_size=10), "reserved")
        for number, seconds in data.draw(_HOLDS, "holds"):
            claim = self.ads.claim("v1", [offered[number]], hold=f"{seconds} seconds")
            assert (claim is None) == (self.oracle.hold("v1", [offered[number]], self.now, seconds) is None)
        self.now += data.draw(_AHEAD, "later")

    def check(self, candidate: Subject, zone: str | None) -> Verdict:
        """All that the verdict says."""
        now = self.now
        verdict = self.ads.decide("v1", [candidate], timezone=zone)[candidate]
        expected = self.oracle.decide("v1", candidate, now, zone)
        compare(verdict, expected)
        again = second(verdict)
        assert again == self.oracle.eligible_at("v1", candidate, now, zone), (candidate, verdict, expected)
        if verdict:
            return verdict
        until = self.oracle.lasts("v1", candidate, now, zone)
        named = {
            until[rule.place] for rule in expected.broken if (rule.reason, rule.rule) == (verdict.reason, verdict.rule)
        }
        last = None if None in until.values() else max(end for end in until.values() if end is not None)
        assert last in named, (candidate, verdict, until)
        if again is not None:
            for at, eligible in ((again, (candidate,)), (again - 1, ())):
                assert self.ads.decide("v1", [candidate], now=at, timezone=zone).eligible == eligible
        return verdict


def check(data: st.DataObject, rolling_only: bool) -> None:  # noqa: FBT001
    """One policy, one history, a few candidates."""
    differ = Differ(data.draw(policies(rolling_only=rolling_only), "policy"))
    differ.happens(data)
    zone = data.draw(st.sampled_from([None, None, *ZONES]), "zone")
    for candidate in data.draw(st.lists(candidates(differ.policy), min_size=1, max_size=5, unique_by=str), "asked"):
        differ.check(candidate, zone)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data(), rolling_only=st.booleans())
def test_a_verdict_says_what_the_oracle_says(data: st.DataObject, rolling_only: bool) -> None:  # noqa: FBT001
    """On any policy and history."""
    check(data, rolling_only)


@pytest.mark.soak
@settings(
    max_examples=10_000, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck], database=None
)
@given(data=st.data(), rolling_only=st.booleans())
def test_ten_thousand_verdicts(data: st.DataObject, rolling_only: bool) -> None:  # noqa: FBT001
    """The same, ten thousand times."""
    check(data, rolling_only)
