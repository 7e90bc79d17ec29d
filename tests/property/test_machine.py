"""One machine drives four at once and compares them: the oracle, the memory store and two real servers.

Random policies (every kind of rule), visitors, events on time, late, early and repeated, claims with and without ids,
visitors' zones, merged ids, time that passes in steps from a second to weeks, and SCRIPT FLUSH in between.
After each step the stores must answer as the oracle does, "when again" included: just before it blocked, at it free.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from retarget import Event, Policy, PolicyError, Retargeter
from retarget.events import Subject
from tests.property.oracle import Oracle
from tests.support import strategies
from tests.support.servers import Server

_RUNS = count()
_STEPS = st.sampled_from([0, 1, 1, 4, 5, 6, 59, 60, 61, 300, 599, 601, 1_800, 3_600, 3_601, 86_400, 86_401, 259_201])


class Machine(RuleBasedStateMachine):
    """The four, side by side."""

    servers: tuple[Server, ...] = ()
    rolling_only = False

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.policy = Policy.model_validate(data.draw(strategies.policies(rolling_only=self.rolling_only), "policy"))
        self.now = strategies.BASE
        self.reserved: list[tuple[str, Subject, object, list[str]]] = []
        self.confirmed: set[int] = set()
        self.oracle = Oracle(self.policy)
        stores = ["memory://", *(server.url for server in self.servers)]
        try:
            prefix = f"rt:machine-{next(_RUNS)}:"
            self.all = [Retargeter(self.policy, s, clock=lambda: self.now, prefix=prefix, timeout=5) for s in stores]
        except PolicyError as error:  # too many clauses: a refusal, not a wrong answer
            assume("clauses" not in str(error))
            raise

    def teardown(self) -> None:
        for ads in getattr(self, "all", ()):
            for visitor in strategies.VISITORS:
                ads.forget(visitor)
            ads.close()

    def same(self, answers: Iterator[Any] | list[Any]) -> Any:
        """The one answer that all stores give."""
        first, *others = answers
        assert all(other == first for other in others), [first, *others]
        return first

    @rule(seconds=_STEPS)
    def time_goes_on(self, seconds: int) -> None:
        self.now += seconds

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        drawn = data.draw(strategies.events(self.policy), "event")
        shift = data.draw(st.sampled_from([0, 0, 0, -1, -5, -60, -599, -3_600, -86_400, 1, 300]), "shift")
        event = Event(drawn.visitor, drawn.event, drawn.subject, self.now + shift, drawn.id)
        kept = self.oracle.kept_for_sure(strategies.second_of(event), self.now)
        assume(kept is not None)
        arguments = (event.visitor, event.event, event.subject)
        expected = self.oracle.record(*arguments, self.now + shift, event.id, self.now) and kept  # type: ignore[arg-type]
        counted = self.same([ads.record(*arguments, at=event.at, id=event.id) for ads in self.all])
        assert counted is expected, event

    @rule(data=st.data())
    def many_things_happen(self, data: st.DataObject) -> None:
        drawn = data.draw(st.lists(strategies.events(self.policy), max_size=6), "events")
        events = [Event(e.visitor, e.event, e.subject, self.now, e.id) for e in drawn]
        expected = [self.oracle.record(e.visitor or "", e.event, e.subject, self.now, e.id, self.now) for e in events]
        assert self.same([ads.record_many(events) for ads in self.all]) == expected

    @rule(data=st.data(), visitor=st.sampled_from(strategies.VISITORS))
    def an_impression_is_claimed(self, data: st.DataObject, visitor: str) -> None:
        ranked = data.draw(st.lists(strategies.candidates(self.policy), min_size=1, max_size=4), "ranked")
        id_ = data.draw(st.sampled_from([None, None, None, "x1", "y1", "y2"]), "id")
        zone = data.draw(st.sampled_from([None, None, *strategies.ZONES]), "zone")
        known = self.oracle.visitors.get(visitor)
        before = known.ids.get(("impression", id_)) if known and id_ else None
        assume(before is None or str(before) in [*map(str, ranked), *self.policy.campaign])
        expected = self.oracle.claim(visitor, ranked, self.now, id_, zone)
        claims = [ads.claim(visitor, ranked, now=self.now, id=id_, timezone=zone) for ads in self.all]
        claim = self.same(claims)
        assert (str(claim.candidate) if claim else None) == (
            str(expected) if expected else None
        )  # `a` is Candidate(`a`)
        assert not claim or claim.repeated is (before is not None)

    @rule(data=st.data(), visitor=st.sampled_from(strategies.VISITORS), seconds=st.sampled_from([1, 60, 900, 86_400]))
    def an_impression_is_reserved(self, data: st.DataObject, visitor: str, seconds: int) -> None:
        ranked = data.draw(st.lists(strategies.candidates(self.policy), min_size=1, max_size=3), "ranked")
        expected = self.oracle.hold(visitor, ranked, self.now, seconds)
        claims = [ads.claim(visitor, ranked, hold=timedelta(seconds=seconds)) for ads in self.all]
        assert self.same([claim and str(claim.candidate) for claim in claims]) == (expected and str(expected[0]))
        if expected:
            self.reserved.append((visitor, expected[0], expected[1], [claim.token for claim in claims if claim]))

    @precondition(lambda self: self.reserved)
    @rule(data=st.data())
    def a_reserved_impression_is_confirmed(self, data: st.DataObject) -> None:
        visitor, candidate, held, tokens = data.draw(st.sampled_from(self.reserved), "which")
        again = id(held) in self.confirmed  # then nothing changes, though a merge there and back may still hold it
        lasted = not again and self.oracle.release(visitor, held, self.now)
        expected = "repeated" if again else "confirmed" if lasted else "late"
        done = [ads.confirm(token) for ads, token in zip(self.all, tokens, strict=True)]
        assert self.same(done) == expected
        if not again:
            self.oracle.record(visitor, "impression", candidate, self.now)
            self.confirmed.add(id(held))

    @precondition(lambda self: self.reserved)
    @rule(data=st.data())
    def a_reserved_impression_is_released(self, data: st.DataObject) -> None:
        visitor, _, held, tokens = data.draw(st.sampled_from(self.reserved), "which")
        expected = self.oracle.release(visitor, held, self.now)
        assert self.same([ads.release(token) for ads, token in zip(self.all, tokens, strict=True)]) is expected

    @rule(ends=st.permutations(strategies.VISITORS))
    def two_ids_turn_out_to_be_one_visitor(self, ends: list[str]) -> None:
        source, into, *_ = ends
        self.oracle.merge(source, into, self.now)
        self.same([ads.merge(source, into=into) for ads in self.all])

    @rule(data=st.data(), visitor=st.sampled_from(strategies.VISITORS))
    def a_decision_is_asked_for(self, data: st.DataObject, visitor: str) -> None:
        wanted = data.draw(st.lists(strategies.candidates(self.policy), min_size=1, max_size=5), "candidates")
        zone = data.draw(st.sampled_from([None, None, *strategies.ZONES]), "zone")
        decisions = [ads.decide(visitor, wanted, timezone=zone) for ads in self.all]
        verdicts = self.same([[decision[candidate] for candidate in wanted] for decision in decisions])
        for candidate, verdict in zip(wanted, verdicts, strict=True):
            expected = self.oracle.decide(visitor, candidate, self.now, zone)
            assert verdict.eligible is expected.eligible, (candidate, verdict, expected)
            assert verdict.eligible or any(_bare(verdict.rule) in text for text in expected.violated), (
                verdict,
                expected,
            )
            again = verdict.eligible_at and int(verdict.eligible_at.timestamp())
            assert again == self.oracle.eligible_at(visitor, candidate, self.now, zone), (candidate, verdict)
            self.check_again(visitor, candidate, again, zone)
        eligible = self.same([decision.eligible for decision in decisions])
        assert eligible == tuple(c for c, verdict in zip(wanted, verdicts, strict=True) if verdict)

    def check_again(self, visitor: str, candidate: Subject, again: int | None, zone: str | None) -> None:
        """At `eligible_at` the visitor is free, one second before they are not, says the library itself."""
        if again is not None and again > self.now:
            free = [ads.decide(visitor, [candidate], now=again, timezone=zone)[candidate].eligible for ads in self.all]
            early = [ads.decide(visitor, [candidate], now=again - 1, timezone=zone)[candidate] for ads in self.all]
            assert all(free), (candidate, datetime.fromtimestamp(again, UTC))
            assert not any(verdict.eligible for verdict in early)

    @rule(visitor=st.sampled_from(strategies.VISITORS))
    def every_campaign_is_decided_over(self, visitor: str) -> None:
        decisions = [ads.decide(visitor) for ads in self.all]
        eligible = self.same([decision.eligible for decision in decisions])
        expected = [c for c in self.policy.campaign if self.oracle.decide(visitor, c, self.now).eligible]
        assert list(eligible) == expected
        levels = self.same([decision.annoyance for decision in decisions])
        assert (levels is None) == (self.policy.annoyance is None)
        assert [d.eligible for d in self.all[0].decide_many(strategies.VISITORS)] == [
            d.eligible for d in self.all[-1].decide_many(strategies.VISITORS)
        ]

    @precondition(lambda self: self.servers)
    @rule()
    def the_scripts_are_flushed(self) -> None:
        for server in self.servers:
            with server.client() as client:
                client.script_flush()


def _bare(text: str | None) -> str:
    """A rule's text without the place that the verdict names before it."""
    return (text or "").partition(": ")[2].removesuffix(", spread") or (text or "").removesuffix(", spread")


@pytest.mark.parametrize("rules", ["rolling", "every rule"])
def test_the_stores_answer_as_the_oracle_does(rules: str, fleet: dict[str, Server]) -> None:
    """Memory, Redis and Valkey agree with a full scan of all events, whatever policy and history."""
    own = {"servers": tuple(fleet.values()), "rolling_only": rules == "rolling"}
    machine = type("Machine", (Machine,), own)
    run_state_machine_as_test(machine, settings=_settings(40, 25))


@pytest.mark.soak
def test_ten_thousand_random_histories() -> None:
    """The same in memory, ten thousand times."""
    run_state_machine_as_test(Machine, settings=_settings(10_000, 30))


def _settings(examples: int, steps: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    return settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks)
