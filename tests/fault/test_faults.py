"""Failures of one server: the answer comes in time, is the policy's, says why, and service resumes by itself.

Each against real servers, by both clients. What a server refuses is not executed; what it leaves without an answer is
unknown; what really happened is read from the server itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from retarget import NotExecuted, OutcomeUnknown, PartlyExecuted, Policy, StoreError
from retarget.timelines import keys
from tests.support import nodes, proxy
from tests.support.driving import NOW, PATIENT, PROMPT, TIMEOUT, Ads, held, load, opened, refused, resumes
from tests.support.fixtures import REAL
from tests.support.nodes import Node
from tests.support.proxy import Proxy
from tests.support.waiting import insist, until, within

CAPS = '[campaign.a]\ncaps = ["50 per day"]\n[campaign.b]\ncaps = ["1 per day"]\n'
POLICY = Policy.from_text(CAPS)
BUSY = "while true do end"


@pytest.fixture
def patient(sort: str, victim: Node) -> Iterator[Ads]:
    """A retargeter of each sort that has served, with a time-out that a busy machine keeps."""
    with opened(sort, POLICY, victim.url, timeout=PATIENT) as ads:
        insist(lambda: ads.record("warm-up", "impression", "a"))
        yield ads


@pytest.fixture
def ads(sort: str, victim: Node) -> Iterator[Ads]:
    """The same with a short time-out."""
    with opened(sort, POLICY, victim.url) as ads:
        insist(lambda: ads.record("warm-up", "impression", "a"))
        yield ads


# -- gone --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REAL)
def test_a_server_that_is_not_there_and_comes(sort: str, name: str) -> None:
    """Refused connections from the first call on; the server is started later."""
    port = nodes.quiet_port()
    with opened(sort, POLICY, f"redis://127.0.0.1:{port}/0") as ads:
        refused(ads)
        assert not ads.health[0].up
        with nodes.node(name, port=port):
            resumes(ads)


def test_a_server_that_is_killed_and_restarted(ads: Ads, victim: Node) -> None:
    """After `kill -9`: the policy's answers. A new process on the port, without the script: served as before."""
    victim.kill()
    refused(ads)
    victim.start()
    resumes(ads)
    assert held(victim, "v") == 0


def test_a_server_that_restarts_between_two_calls_is_not_noticed(patient: Ads, victim: Node) -> None:
    """The connection was dropped and the script is unknown: the very next calls are answered."""
    victim.restart()
    assert patient.record("v", "impression", "a") is True
    victim.restart()
    assert patient.decide("v").degraded is None
    victim.restart()
    assert patient.claim("v", ["a"]) is not None


def test_a_server_that_is_killed_under_load(ads: Ads, victim: Node) -> None:
    """While four threads claim and decide: only our exceptions, each answer in time, and service resumes."""
    with load(ads) as answered:
        until(lambda: len(answered) > 100, "answers")
        victim.kill()
        until(lambda: any(degraded for _, degraded in answered), "a degraded answer")
        victim.start()
        so_far = len(answered)
        until(lambda: any(not degraded for _, degraded in answered[so_far:]), "answers again")
    assert max(took for took, _ in answered) < PROMPT
    resumes(ads)


def test_scripts_flushed_under_load_are_not_noticed(patient: Ads, victim: Node) -> None:
    """SCRIPT FLUSH again and again while four threads claim: no degraded answer."""
    with load(patient) as answered:
        for turn in range(1, 21):
            victim.ask("SCRIPT", "FLUSH")
            until(lambda turn=turn: len(answered) > 10 * turn, "answers")  # type: ignore[misc]
    assert not any(degraded for _, degraded in answered)


# -- silent and slow ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["block", "allow", "raise"])
def test_a_server_that_is_stopped_gets_the_policys_answer(sort: str, valkey: Node, answer: str) -> None:
    """SIGSTOP: the time-out ends the wait; the answer is the policy's, and marked. SIGCONT: service resumes."""
    policy = Policy.from_text(f'on_store_error = "{answer}"\n{CAPS}')
    with opened(sort, policy, valkey.url) as ads:
        insist(lambda: ads.record("warm-up", "impression", "a"))
        valkey.pause()
        with within(2 * PROMPT):
            if answer == "raise":
                with pytest.raises(NotExecuted):
                    ads.decide("v")
                with pytest.raises(StoreError):
                    ads.claim("v", ["a"])
            else:
                decision, claim = ads.decide("v"), ads.claim("v", ["a"])
                assert isinstance(decision.degraded, NotExecuted)
                assert decision.eligible == (("a", "b") if answer == "allow" else ())
                assert (claim is not None) is (answer == "allow")
                if claim is not None:
                    assert claim.counted is False
                    assert isinstance(claim.degraded, StoreError)
        valkey.resume()
        until(lambda: answers(ads), "an answer")


def answers(ads: Ads) -> bool:
    """Whether the store answers."""
    return ads.decide("v").degraded is None


def test_writes_to_a_stopped_server_are_told_apart(ads: Ads, victim: Node) -> None:
    """What was sent is unknown, what was not sent is not executed; on SIGCONT only unknown ones can have happened."""
    victim.pause()
    outcomes: list[type[StoreError]] = []
    with within(12 * PROMPT):
        for number in range(12):
            with pytest.raises(StoreError) as raised:
                ads.record(f"v{number}", "impression", "a")
            outcomes.append(type(raised.value))
    assert outcomes[0] is OutcomeUnknown
    victim.resume()
    resumes(ads)
    for number, outcome in enumerate(outcomes):
        assert held(victim, f"v{number}") <= (outcome is OutcomeUnknown)


def test_lists_for_a_stopped_server(ads: Ads, victim: Node) -> None:
    """Three batches of events and of visitors: given up in little more than one time-out, then known to be down."""
    victim.pause()
    with within(2 * PROMPT):
        with pytest.raises(PartlyExecuted) as raised:
            ads.record_many([(f"v{number}", "impression", "a", NOW, f"id-{number}") for number in range(2_500)])
        assert len(raised.value.results) == 2_500
    with within(2 * PROMPT):
        decisions = ads.decide_many(f"v{number}" for number in range(2_500))
    assert all(decision.degraded for decision in decisions)
    victim.resume()
    resumes(ads)


def test_one_timeout_is_one_failure(sort: str, valkey: Node) -> None:
    """A call whose time is up is not tried again: it counts as one failure, and says what happened."""
    with opened(sort, POLICY, valkey.url) as ads:
        insist(lambda: ads.record("warm-up", "impression", "a"))
        valkey.pause()
        for failures in (1, 2, 3):
            assert "did not answer in time" in str(ads.decide("v").degraded)
            assert ads.health[0].failures == failures
        valkey.resume()
        resumes(ads)


@pytest.mark.parametrize("fault", [proxy.late(2 * TIMEOUT), proxy.trickled(TIMEOUT / 2)], ids=["late", "trickled"])
def test_a_slow_server_is_not_waited_for(sort: str, valkey: Node, fault: proxy.Fault) -> None:
    """Each reply later than the time-out, or in crumbs: degraded in time; once fast again, it serves again."""
    with Proxy(valkey.port) as between, opened(sort, POLICY, between.url) as ads:
        insist(lambda: ads.record("warm-up", "impression", "a"))
        between.fault = fault
        for _ in range(3):
            with within(PROMPT):
                assert isinstance(ads.decide("v").degraded, NotExecuted)
        between.fault = proxy.passing
        resumes(ads)


@pytest.mark.parametrize("fault", [proxy.reset_before, proxy.half_then_reset, proxy.reset_after])
def test_a_server_that_always_resets_is_given_up_in_time(sort: str, valkey: Node, fault: proxy.Fault) -> None:
    """A reset before, during or after each command: a bounded number of repeats, then the policy's answer."""
    with Proxy(valkey.port) as between, opened(sort, POLICY, between.url) as ads:
        insist(lambda: ads.record("warm-up", "impression", "a"))
        between.fault = proxy.on(fault)
        with within(3 * PROMPT):
            assert isinstance(ads.decide("v").degraded, NotExecuted)
            assert ads.claim("v", ["a"], id="one") is None
            with pytest.raises(StoreError):
                ads.record("v", "impression", "a", id="two")
        assert len(between.arrived) < 20
        between.fault = proxy.passing
        resumes(ads)


def test_connections_that_are_accepted_and_left_alone(sort: str, valkey: Node) -> None:
    """Not one byte is ever sent."""
    with Proxy(valkey.port) as between, opened(sort, POLICY, between.url) as ads:
        between.fault = proxy.stalled
        refused_or_unknown(ads)
        between.fault = proxy.passing
        resumes(ads)


def refused_or_unknown(ads: Ads) -> None:
    """A read and a write fail in time."""
    with within(2 * PROMPT):
        assert isinstance(ads.decide("v").degraded, NotExecuted)
        with pytest.raises(StoreError):
            ads.record("v", "impression", "a")


def test_a_connection_refused_in_between(sort: str, valkey: Node) -> None:
    """All connections are reset and the port is closed, then opened again."""
    with Proxy(valkey.port) as between, opened(sort, POLICY, between.url) as ads:
        insist(lambda: ads.record("warm-up", "impression", "a"))
        between.stop()
        refused(ads)
        between.start()
        resumes(ads)


def test_connections_cut_between_two_calls_are_not_noticed(sort: str, valkey: Node) -> None:
    """A firewall or a network failover: idle connections are gone, the next calls are answered."""
    with Proxy(valkey.port) as between, opened(sort, POLICY, between.url, timeout=PATIENT) as ads:
        insist(lambda: ads.record("warm-up", "impression", "a"))
        for number in range(3):
            between.cut()
            assert ads.decide("v").degraded is None
            between.cut()
            assert ads.record("v", "impression", "a") is True
            assert held(valkey, "v") == number + 1


# -- known to be down --------------------------------------------------------------------------------------------------


def test_a_server_known_to_be_down_costs_no_waiting(ads: Ads, victim: Node, caplog: pytest.LogCaptureFixture) -> None:
    """After three time-outs calls fail at once; `health` and the log say so, and say when the server is back."""
    caplog.set_level(logging.DEBUG, "retarget")
    assert [(server.up, server.failures, server.error) for server in ads.health] == [(True, 0, "")]
    victim.pause()
    for _ in range(3):
        ads.decide("v")
    said = caplog.text
    with within(60 * TIMEOUT):  # two hundred time-outs would take 200 * TIMEOUT
        errors = [str(ads.decide("v").degraded) for _ in range(200)]
    assert sum("known to be down" in error for error in errors) > 190
    server = ads.health[0]
    assert (server.up, server.failures >= 3) == (False, True)
    assert server.error
    assert str(victim.port) in server.server
    assert str(victim.port) in said
    caplog.clear()
    victim.resume()
    resumes(ads)
    assert [(server.up, server.failures) for server in ads.health] == [(True, 0)]
    assert str(victim.port) in caplog.text


def test_the_log_tells_of_a_server_that_is_down_once(ads: Ads, victim: Node, caplog: pytest.LogCaptureFixture) -> None:
    """A line when it goes down and one when it is back, not one per call."""
    caplog.set_level(logging.DEBUG, "retarget")
    victim.kill()
    for _ in range(100):
        ads.decide("v")
    assert 1 <= len(caplog.records) < 20
    victim.start()
    resumes(ads)


def test_what_a_server_refuses_does_not_make_it_known_to_be_down(patient: Ads, victim: Node) -> None:
    """A key of another type, asked for again and again, affects nobody else."""
    victim.ask("SET", keys.key("rt:", "wrong"), "text")
    for _ in range(10):
        assert patient.decide("wrong").degraded is not None
    assert patient.health[0].up
    assert patient.decide("v").degraded is None
