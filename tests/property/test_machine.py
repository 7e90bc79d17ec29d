"""One machine drives several at once and compares them: the oracle, the memory store and, where asked, real servers.

Random policies of every kind of rule, which change on the way; visitors; events on time, late, early and repeated;
callers whose clocks differ; claims, one and many, with and without ids; reservations that are confirmed, late and
again, and released; visitors' zones; merges; peppers that are replaced; visitors who are forgotten; time that passes in
steps from a second to weeks; and SCRIPT FLUSH in between. After each step the stores must answer as the oracle does,
"when again" included: just before it blocked, at it free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, product
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from retarget import Claim, Decision, InputError, MemoryStore, Policy, PolicyError, Retargeter, Verdict, retargeter
from retarget.events import Subject
from tests.property.asking import compare, is_seen, second
from tests.property.oracle import Hold, Oracle, Target
from tests.support import strategies
from tests.support.servers import Server
from tests.support.strategies import VISITORS

T = TypeVar("T")
PEPPERS: list[dict[int, Any] | None] = [None, {0: None, 1: "first pepper 1111"}, {1: "first pepper 1111", 2: "b" * 16}]
"""What retargeters are given one after the other; visitors' keys are of the same number."""

_RUNS = count()
_STEPS = st.sampled_from(
    [0, 1, 1, 4, 5, 6, 10, 59, 60, 61, 300, 599, 600, 601, 1_800, 3_600, 3_601, 86_400, 86_401, 259_201]
)
_SHIFTS = [0, 0, 0, -1, -5, -60, -599, -600, -3_600, -86_400, -2_000_000, 1, 300]
_CLOCKS = [0, 0, 0, 0, 0, -1, -120, -300]
"""How far callers' clocks are behind that of the first."""
_WHEN = st.sampled_from([(clock, shift) for clock in _CLOCKS for shift in _SHIFTS])
_CLOCK = st.sampled_from(_CLOCKS)
_NEAR = st.sampled_from([(clock, shift) for clock in _CLOCKS for shift in (0, 0, 0, -1, -60, 300)])
_ZONE = st.sampled_from([None, None, *strategies.ZONES])
_WHO = st.sampled_from(VISITORS)
_SECONDS = st.sampled_from([1, 60, 900, 86_400])
_NUMBER = st.integers(0, 2**16)
_EVENT_ID = st.sampled_from([None, None, None, "x1", "x2", "x3"])
_CLAIM_ID = st.sampled_from([None, None, None, "x1", "y1", "y2"])
_HOLD_ID = st.sampled_from([None, None, None, "h1", "h2"])


class Machine(RuleBasedStateMachine):
    """They, side by side."""

    servers: tuple[Server, ...] = ()
    rolling_only = False
    probes = 1_000
    """How many of the moments before `eligible_at` are tried on the oracle, at most."""

    @initialize(data=st.data(), changing=st.booleans(), own_clock=st.booleans())
    def begin(self, data: st.DataObject, changing: bool, own_clock: bool) -> None:  # noqa: FBT001
        self.now = self.clock = strategies.BASE
        self.changing, self.own_clock = changing, own_clock
        self.patches = ExitStack()
        self.patches.enter_context(patch.object(retargeter, "time", SimpleNamespace(time=lambda: self.clock)))
        self.data = data.draw(_POLICIES[self.rolling_only], "policy")
        self.policy = self.loaded()
        self.holds: list[tuple[str, int, Hold, list[str]]] = []
        self.page: tuple[Any, bool, list[Any]] = ([], False, [])
        self.numbers = count()
        self.oracle = Oracle(self.policy)
        self.version = 0
        self.prefix = f"rt:machine-{next(_RUNS)}:"
        self.stores: list[Any] = [MemoryStore(), *(server.url for server in self.servers)]
        self.all: list[Retargeter] = []
        self.open()

    def loaded(self) -> Policy:
        """The policy as it stands; one that has too many clauses is another history."""
        try:
            policy = Policy.model_validate(strategies.keeping(self.data) if self.changing else self.data)
            Retargeter(policy, "memory://")
        except PolicyError as error:  # a refusal, not a wrong answer
            assume("clauses" not in str(error))
            raise
        return policy

    def open(self) -> None:
        """Open a retargeter on each store, in place of those that are open."""
        for ads in self.all:
            ads.close()
        options: dict[str, Any] = {"prefix": self.prefix, "timeout": 5, "pepper": PEPPERS[self.version]}
        options["clock"] = (lambda: self.clock) if self.own_clock else None  # the system's shows the same
        self.all = [Retargeter(self.policy, store, **options) for store in self.stores]

    def teardown(self) -> None:
        for ads in getattr(self, "all", ()):
            for visitor in VISITORS:
                ads.forget(visitor)
            ads.close()
        if hasattr(self, "patches"):
            self.patches.close()

    def each(self, ask: Callable[[Retargeter], T]) -> T:
        """The one answer that all stores give."""
        first, *others = map(ask, self.all)
        assert all(other == first for other in others), [first, *others]
        return first

    def key(self, visitor: str) -> str:
        """What the oracle calls the visitor whose id is hashed with the pepper in force."""
        return f"{visitor}@{self.version}"

    def candidates(self) -> st.SearchStrategy[Subject]:
        """One that the policy can decide on."""
        return strategies.candidates(self.policy)

    # -- time, policies and peppers

    @rule(seconds=_STEPS)
    def time_goes_on(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self.changing)
    @rule(data=st.data())
    def the_policy_changes(self, data: st.DataObject) -> None:
        self.data = data.draw(strategies.changed(self.data, rolling_only=self.rolling_only), "policy")
        self.policy = self.oracle.policy = self.loaded()
        for ads in self.all:
            ads.policy = self.policy

    @precondition(lambda self: self.version + 1 < len(PEPPERS))
    @rule(number=_NUMBER)
    def the_pepper_is_replaced(self, number: int) -> None:
        if number % 4 == 0:
            self.version += 1
            self.open()

    # -- what happens

    @rule(what=st.data(), visitor=_WHO, when=_WHEN, id_=_EVENT_ID)
    def something_happens(self, what: st.DataObject, visitor: str, when: tuple[int, int], id_: str | None) -> None:
        event, subject = what.draw(strategies.happenings(tuple(self.policy.campaign)), "event")
        self.clock = self.now + when[0]
        at, who = self.clock + when[1], self.key(visitor)
        judged = self.clock if self.own_clock else at  # without a clock of its own it is as if reported at once
        if id_ is not None and self.oracle.in_doubt(who, (event, id_), judged):
            id_ = None
        counted = self.each(lambda ads: ads.record(visitor, event, subject, at=at, id=id_))
        if counted or self.own_clock or self.oracle.kept_for_sure(at, self.clock):
            assert counted is self.oracle.record(who, event, subject, at, id_, judged, kept=counted)

    @rule(data=st.data(), visitor=_WHO, seconds=st.sampled_from([301, 3_600, 400 * 86_400]))
    def nothing_happens_far_ahead(self, data: st.DataObject, visitor: str, seconds: int) -> None:
        if self.own_clock:  # then the caller says what time it is
            return
        self.clock, candidate = self.now, data.draw(self.candidates(), "candidate")
        ahead = self.clock + seconds
        calls: list[Callable[[Retargeter], object]] = [
            lambda ads: ads.record(visitor, "click", candidate, at=ahead),
            lambda ads: ads.claim(visitor, [candidate], now=ahead),
            lambda ads: ads.claim_many([(visitor, [candidate], None)], now=ahead),
        ]
        for call, ads in product(calls, self.all):
            with pytest.raises(InputError, match="in the future"):
                call(ads)

    @rule(data=st.data(), clock=_CLOCK)
    def many_things_happen(self, data: st.DataObject, clock: int) -> None:
        self.clock = self.now + clock
        drawn = data.draw(st.lists(strategies.events(self.policy, at=st.just(self.clock)), max_size=6), "events")
        events = [
            event
            for event in drawn
            if not self.oracle.in_doubt(self.key(event.visitor or ""), (event.event, event.id), self.clock)
        ]
        expected = [self.oracle.record(self.key(e.visitor or ""), e.event, e.subject, self.clock, e.id) for e in events]
        assert self.each(lambda ads: ads.record_many(events)) == expected

    # -- claims

    def is_repeatable(self, visitor: str, id_: str | None, ranked: Sequence[Target]) -> bool:
        """Whether the docs say what a claim with this id answers."""
        key = "impression", id_
        if id_ is None or not self.oracle.is_known(self.key(visitor), key):
            return True
        before = self.oracle.who(self.key(visitor)).ids[key]
        named = str(before) in [*map(str, ranked), *self.policy.campaign]
        return named and not self.oracle.in_doubt(self.key(visitor), key, self.clock)

    @rule(data=st.data(), visitor=_WHO, when=_NEAR, id_=_CLAIM_ID, zone=_ZONE)
    def an_impression_is_claimed(
        self, data: st.DataObject, visitor: str, when: tuple[int, int], id_: str | None, zone: str | None
    ) -> None:
        ranked = data.draw(st.lists(self.candidates(), min_size=1, max_size=4), "ranked")
        self.clock = self.now + when[0]
        now, who = self.clock + when[1], self.key(visitor)
        assume(self.is_repeatable(visitor, id_, ranked))
        repeated = id_ is not None and self.oracle.is_known(who, ("impression", id_))
        claim = self.each(lambda ads: ads.claim(visitor, ranked, now=now, id=id_, timezone=zone))
        expected = self.oracle.claim(who, ranked, now, id_, zone)
        assert _name(claim) == (expected and str(expected)), (claim, expected)
        assert not claim or claim.repeated is repeated

    @rule(data=st.data(), visitor=_WHO, clock=_CLOCK, id_=_HOLD_ID, seconds=_SECONDS)
    def an_impression_is_reserved(
        self, data: st.DataObject, visitor: str, clock: int, id_: str | None, seconds: int
    ) -> None:
        ranked = data.draw(st.lists(self.candidates(), min_size=1, max_size=3), "ranked")
        self.clock = self.now + clock
        id_ = id_ and f"{id_}@{self.version}"  # under another pepper an id is new, and so is what it reserves
        assume(self.is_repeatable(visitor, id_, ranked))
        hold = timedelta(seconds=seconds)
        claims = [ads.claim(visitor, ranked, id=id_, hold=hold) for ads in self.all]
        assert len(set(map(_name, claims))) == 1
        held = self.oracle.hold(self.key(visitor), ranked, self.clock, seconds, id_)
        assert _name(claims[0]) == (held and str(held.target)), (claims, held)
        if held:
            self.holds.append((visitor, self.version, held, [claim.token for claim in claims if claim]))

    @rule(data=st.data(), clock=_CLOCK, distinct=st.booleans(), identified=st.booleans())
    def many_are_claimed(self, data: st.DataObject, clock: int, distinct: bool, identified: bool) -> None:  # noqa: FBT001
        self.clock = self.now + clock
        ranked = st.lists(self.candidates(), min_size=1, max_size=3)
        drawn = data.draw(st.lists(st.tuples(_WHO, ranked), max_size=4), "requests")
        requests = [(who, offered, f"p{next(self.numbers)}" if identified else None) for who, offered in drawn]
        claims = self.each(lambda ads: ads.claim_many(requests, distinct=distinct))
        expected = self.oracle.claim_many([(self.key(v), c, i) for v, c, i in requests], self.clock, distinct=distinct)
        assert [*map(_name, claims)] == [found and str(found) for found in expected], (claims, expected)

    # -- reservations

    @precondition(lambda self: self.holds)
    @rule(number=_NUMBER, when=_NEAR)
    def a_reserved_impression_is_confirmed(self, number: int, when: tuple[int, int]) -> None:
        visitor, version, held, tokens = self.holds[number % len(self.holds)]
        self.clock = self.now + when[0]
        at = self.clock + when[1]
        late_for = self.key(visitor) if version == 0 else held.visitor  # a hashed id stands for one key only
        key = "confirm", held.mark
        assume(not any(self.oracle.in_doubt(who, key, self.clock) for who in (held.visitor, late_for)))
        assume(version > 0 or self.version < 2)  # then the clear key is no longer asked
        done = {ads.confirm(token, at=at) for ads, token in zip(self.all, tokens, strict=True)}
        expected = self.oracle.confirm(held, self.clock, at, late_for=late_for)
        assert done == {expected}, (done, expected, held)

    @precondition(lambda self: self.holds)
    @rule(number=_NUMBER, clock=_CLOCK)
    def a_reserved_impression_is_released(self, number: int, clock: int) -> None:
        _, version, held, tokens = self.holds[number % len(self.holds)]
        self.clock = self.now + clock
        assume(version > 0 or self.version < 2)
        done = {ads.release(token) for ads, token in zip(self.all, tokens, strict=True)}
        expected = self.oracle.release(held, self.clock)
        assert done == {expected}, (done, expected, held)

    # -- visitors

    @rule(ends=st.permutations(VISITORS), clock=_CLOCK)
    def two_ids_turn_out_to_be_one_visitor(self, ends: list[str], clock: int) -> None:
        self.clock = self.now + clock
        source, into, *_ = ends
        assume(not self.is_ending(self.key(source)))
        blank = self.oracle.is_blank(self.key(source))
        assert not (self.each(lambda ads: ads.merge(source, into=into)) and blank)
        self.oracle.merge(self.key(source), self.key(into))
        assert not self.each(lambda ads: ads.merge(source, into=into))

    @precondition(lambda self: self.version)
    @rule(visitor=_WHO)
    def a_visitor_is_rotated(self, visitor: str) -> None:
        self.clock, old = self.now, f"{visitor}@{self.version - 1}"
        assume(not self.is_ending(old))
        self.each(lambda ads: ads.rotate(visitor))
        self.oracle.merge(old, self.key(visitor))

    def is_ending(self, who: str) -> bool:
        """Whether a reservation has ended for some callers and not for others: then either may be moved."""
        return any(self.now - 300 < hold.end <= self.now for hold in self.oracle.who(who).reserved)

    @rule(visitor=_WHO, number=_NUMBER)
    def a_visitor_is_forgotten(self, visitor: str, number: int) -> None:
        if number % 3 == 0:
            self.each(lambda ads: ads.forget(visitor))
            for version in range(max(0, self.version - 1), self.version + 1):
                self.oracle.forget(f"{visitor}@{version}")
            assert not self.each(lambda ads: ads.forget(visitor))

    # -- decisions

    @rule(data=st.data(), visitor=_WHO, clock=_CLOCK, zone=_ZONE, number=_NUMBER)
    def a_decision_is_asked_for(
        self, data: st.DataObject, visitor: str, clock: int, zone: str | None, number: int
    ) -> None:
        self.clock = self.now + clock
        wanted = data.draw(st.lists(self.candidates(), min_size=1, max_size=4), "candidates")
        decisions = [ads.decide(visitor, wanted, timezone=zone) for ads in self.all]
        for candidate in dict.fromkeys(wanted):
            verdict, *others = [decision[candidate] for decision in decisions]
            assert all(other == verdict for other in others), (verdict, others)
            compare(verdict, self.oracle.decide(self.key(visitor), candidate, self.clock, zone))
            self.check_again(visitor, candidate, verdict, zone, number)
        verdicts = decisions[0]
        assert verdicts.eligible == tuple(candidate for candidate in wanted if verdicts[candidate])
        self.check_level(visitor, verdicts, zone)

    def check_again(self, visitor: str, candidate: Subject, verdict: Verdict, zone: str | None, number: int) -> None:
        """At `eligible_at` the visitor is free, and not before: says the oracle, and of a second before the library."""
        now, who = self.clock, self.key(visitor)
        again = second(verdict)
        if again is not None:
            assert self.oracle.is_eligible(who, candidate, again, zone), (candidate, verdict)
        if verdict:
            assert again == now
            return
        probes = [at for at in self.oracle.probes(who, candidate, now, zone) if again is None or at < again]
        if again is not None:
            probes.append(again - 1)
            free, early = [
                self.each(lambda ads, at=at: ads.decide(visitor, [candidate], now=at, timezone=zone).eligible)  # type: ignore[misc]
                for at in (again, again - 1)
            ]
            assert free == (candidate,)
            assert early == ()
        start = number % max(1, len(probes) - self.probes)
        for at in probes[start : start + self.probes]:
            found = self.oracle.is_eligible(who, candidate, at, zone)
            assert not found, (candidate, verdict, datetime.fromtimestamp(at, UTC))

    def check_level(self, visitor: str, decision: Decision, zone: str | None) -> None:
        """The points used of the threshold in force, in the window that is nearest to its limit."""
        level = decision.annoyance
        assert (level is None) == (self.policy.annoyance is None)
        if level is not None:
            anything = next(iter(strategies.campaigns(self.policy)))
            asked = replace(self.oracle.asked(self.key(visitor), anything, self.clock, zone), campaign="", labels={})
            _, name, threshold = asked.threshold_in_force()
            used = {cap.text: asked.spent(cap) for cap in threshold}
            assert (level.segment, level.rule in used) == (name, True)
            assert is_seen(level.points, used[level.rule]), (level, used)

    @rule(visitor=_WHO, clock=_CLOCK)
    def every_campaign_is_decided_over(self, visitor: str, clock: int) -> None:
        self.clock = self.now + clock
        eligible = self.each(lambda ads: ads.decide(visitor).eligible)
        who = self.key(visitor)
        expected = [name for name in self.policy.campaign if self.oracle.is_eligible(who, name, self.clock)]
        differ = {name: self.oracle.decide(who, name, self.clock) for name in {*eligible} ^ {*expected}}
        assert [*eligible] == expected, differ
        many = self.each(lambda ads: [decision.eligible for decision in ads.decide_many(VISITORS)])
        assert many[VISITORS.index(visitor)] == eligible

    @precondition(lambda self: self.servers)
    @rule()
    def the_scripts_are_flushed(self) -> None:
        for server in self.servers:
            with server.client() as client:
                client.script_flush()


def _name(claim: Claim | None) -> str | None:
    """What was claimed; `a` is Candidate(`a`)."""
    return str(claim.candidate) if claim else None


_POLICIES = {rolling_only: strategies.policies(rolling_only=rolling_only) for rolling_only in (False, True)}


@pytest.mark.parametrize("rules", ["rolling", "every rule"])
def test_the_stores_answer_as_the_oracle_does(rules: str, fleet: dict[str, Server]) -> None:
    """Memory, Redis and Valkey agree with a full scan of all events, whatever policy and history."""
    own = {"servers": tuple(fleet.values()), "rolling_only": rules == "rolling"}
    machine = type("Machine", (Machine,), own)
    run_state_machine_as_test(machine, settings=_settings(25, 25))


def test_memory_answers_as_the_oracle_does() -> None:
    """More of it, and in memory alone."""
    run_state_machine_as_test(Machine, settings=_settings(100, 40))


@pytest.mark.soak
def test_ten_thousand_random_histories() -> None:
    """The same in memory, ten thousand times."""
    machine = type("Machine", (Machine,), {"probes": 5})
    run_state_machine_as_test(machine, settings=_settings(10_000, 40, phases=[Phase.generate]))


@pytest.mark.soak
def test_a_thousand_random_histories_on_servers(fleet: dict[str, Server]) -> None:
    """The same on memory and each server side by side, a thousand times."""
    machine = type("Machine", (Machine,), {"servers": tuple(fleet.values()), "probes": 5})
    run_state_machine_as_test(machine, settings=_settings(1_000, 40, phases=[Phase.generate]))


def _settings(examples: int, steps: int, **more: Any) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, **more
    )
