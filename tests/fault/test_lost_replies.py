"""Answers that are lost on the way: the outcome is reported as it was, and repeated only where that is safe.

A proxy forwards the command to a real server and drops its reply, or drops the command, and counts what it forwarded.
What really happened is read from the server, past the library and past the proxy.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from retarget import Decision, Event, NotExecuted, OutcomeUnknown, PartlyExecuted, Policy
from tests.support import driving, proxy
from tests.support.driving import NOW, PATIENT, PROMPT, TIMEOUT, Ads, counted
from tests.support.fixtures import REAL, Start
from tests.support.proxy import Fault, Proxy
from tests.support.servers import Server
from tests.support.waiting import insist, until, within

CAPS = '[campaign.a]\ncaps = ["5 per day"]\n[campaign.b]\ncaps = ["50 per day"]\n'
POLICY = Policy.from_text(CAPS)

BROKEN_AFTER = [proxy.closed_after, proxy.reset_after, proxy.half_then_closed, proxy.half_then_reset]
BROKEN_BEFORE = [proxy.closed_before, proxy.reset_before]
SILENT_AFTER = [proxy.silent, proxy.half_then_silence, proxy.late(3 * TIMEOUT)]
EXECUTED = [*BROKEN_AFTER, *SILENT_AFTER]
WRITES = ("EVALSHA", "EVAL")


def _name(fault: object) -> str:
    return getattr(fault, "__qualname__", str(fault)).partition(".")[0]


every_executed = pytest.mark.parametrize("fault", EXECUTED, ids=_name)
every_broken = pytest.mark.parametrize("fault", [*BROKEN_AFTER, *BROKEN_BEFORE], ids=_name)
every_silent = pytest.mark.parametrize("fault", [*SILENT_AFTER, proxy.stalled], ids=_name)


@pytest.fixture
def real(start: Start) -> Server:
    """A real server; either kind will do, for what fails is the proxy before it."""
    server = start(REAL[-1])
    server.flush()
    return server


@pytest.fixture
def between(real: Server) -> Iterator[Proxy]:
    """The proxy before it."""
    with Proxy(real.port) as between:
        yield between


@pytest.fixture
def ads(sort: str, between: Proxy) -> Iterator[Ads]:
    """A retargeter of each sort, connected through the proxy, whose server knows the script."""
    with driving.opened(sort, POLICY, between.url) as ads:
        yield warm(ads, between)


@pytest.fixture
def patient(sort: str, between: Proxy) -> Iterator[Ads]:
    """The same, with a time-out that a busy machine keeps."""
    with driving.opened(sort, POLICY, between.url, timeout=PATIENT) as ads:
        yield warm(ads, between)


def warm(ads: Ads, between: Proxy) -> Ads:
    """Connect it, and let the server know the script."""
    insist(lambda: ads.record("warm-up", "impression", "b"))
    between.forwarded.clear()
    between.arrived.clear()
    return ads


def truth(server: Server, visitor: str, campaign: str = "a") -> int:
    """How many impressions the server holds for the visitor."""
    with server.client() as client:
        return counted(client, visitor, campaign)


def eligible(ads: Ads, visitor: str) -> tuple[object, ...]:
    """What the visitor may be shown, once the store answers."""

    def decided() -> Decision | None:
        decision = ads.decide(visitor)
        return decision if decision.degraded is None else None

    decision = until(decided, "a decision")
    assert decision is not None
    return decision.eligible


def writes(between: Proxy) -> int:
    """How many writes the server was sent."""
    return sum(between.forwarded.count(name) for name in WRITES)


# -- with an id --------------------------------------------------------------------------------------------------------


@every_broken
def test_a_broken_record_with_an_id_is_repeated_and_counts_once(
    patient: Ads, between: Proxy, real: Server, fault: Fault
) -> None:
    """Nobody notices: the library repeats it on another connection, and the script knows what it has counted."""
    between.once(fault)
    patient.record("v", "impression", "a", id="one")
    assert truth(real, "v") == 1
    assert len(between.arrived) == 2
    assert patient.record("v", "impression", "a", id="one") is False
    assert truth(real, "v") == 1


@every_silent
def test_a_record_with_an_id_that_got_no_answer_can_be_repeated_by_the_caller(
    ads: Ads, between: Proxy, real: Server, fault: Fault
) -> None:
    """The time-out is used up, so it is not repeated, but unknown. The caller repeats it, and it counts once."""
    between.once(fault)
    with within(PROMPT), pytest.raises(OutcomeUnknown):
        ads.record("v", "impression", "a", id="one")
    insist(lambda: ads.record("v", "impression", "a", id="one"))
    assert truth(real, "v") == 1
    assert insist(lambda: ads.record("v", "impression", "a", id="one")) is False
    assert truth(real, "v") == 1


@pytest.mark.parametrize("hold", [None, "15 minutes"])
@every_broken
def test_a_broken_claim_with_an_id_gives_one_campaign(
    patient: Ads, between: Proxy, real: Server, fault: Fault, hold: str | None
) -> None:
    """Executed or not, it counts once, and each repeat names the same campaign, with a token that confirms it."""
    between.once(fault)
    claim = patient.claim("v", ["a", "b"], id="one", hold=hold)
    assert claim is not None
    assert (claim.campaign, claim.degraded) == ("a", None)
    again = patient.claim("v", ["b", "a"], id="one", hold=hold)
    assert again is not None
    assert (again.campaign, again.repeated) == ("a", True)
    if hold:
        assert again.token == claim.token
        assert patient.confirm(again.token) == "confirmed"
    assert truth(real, "v") == 1
    assert truth(real, "v", "b") == 0


@every_silent
def test_a_claim_with_an_id_that_got_no_answer_is_the_same_when_repeated(
    ads: Ads, between: Proxy, real: Server, fault: Fault
) -> None:
    """The policy answers in time; the repeat gets the campaign already counted, or counts it."""
    between.once(fault)
    with within(PROMPT):
        assert ads.claim("v", ["a", "b"], id="one") is None
    claim = until(lambda: ads.claim("v", ["a", "b"], id="one"), "a claim")
    assert claim is not None
    assert claim.campaign == "a"
    assert truth(real, "v") == 1
    assert truth(real, "v", "b") == 0


@every_broken
def test_a_broken_confirmation_counts_once(patient: Ads, between: Proxy, real: Server, fault: Fault) -> None:
    """A confirmation carries the reservation's id, so it is repeated."""
    claim = patient.claim("v", ["a"], hold="15 minutes")
    assert claim is not None
    between.once(fault)
    assert patient.confirm(claim) in ("confirmed", "repeated")
    assert patient.confirm(claim) == "repeated"
    assert truth(real, "v") == 1


@pytest.mark.parametrize("n", [1, 7, 20])
@every_broken
def test_a_broken_batch_with_ids_counts_each_once(
    patient: Ads, between: Proxy, real: Server, fault: Fault, n: int
) -> None:
    """The n-th of twenty breaks: what was lost is repeated, each event counts once."""
    between.only(n, fault)
    events = [Event(f"v{number % 4}", "impression", "a", NOW, f"id-{number}") for number in range(20)]
    assert len(patient.record_many(events)) == 20
    assert [truth(real, f"v{number}") for number in range(4)] == [5] * 4
    assert patient.record_many(events) == [False] * 20
    assert [truth(real, f"v{number}") for number in range(4)] == [5] * 4


@pytest.mark.parametrize("fault", [proxy.closed_after, proxy.reset_after], ids=_name)
def test_the_answer_to_the_script_sent_whole_may_be_lost_too(
    patient: Ads, between: Proxy, real: Server, fault: Fault
) -> None:
    """The server had forgotten the script; it is the reply to EVAL that is lost."""
    with real.client() as client:
        client.script_flush()
    between.only(2, fault)
    patient.record("v", "impression", "a", id="one")
    assert between.forwarded[:2] == ["EVALSHA", "EVAL"]
    assert truth(real, "v") == 1


# -- without an id -----------------------------------------------------------------------------------------------------


@every_executed
def test_a_record_without_an_id_is_never_repeated(ads: Ads, between: Proxy, real: Server, fault: Fault) -> None:
    """Its reply is lost: unknown, sent once, counted once."""
    between.once(fault)
    with within(PROMPT), pytest.raises(OutcomeUnknown) as raised:
        ads.record("v", "impression", "a")
    assert raised.value.__cause__ is not None
    until(lambda: truth(real, "v"), "the impression")
    assert (writes(between), truth(real, "v")) == (1, 1)


@pytest.mark.parametrize("fault", [*BROKEN_BEFORE, proxy.stalled], ids=_name)
def test_a_record_that_was_sent_but_never_arrived_is_unknown(
    ads: Ads, between: Proxy, real: Server, fault: Fault
) -> None:
    """The client cannot tell that it never arrived: it is not repeated, and nothing was counted."""
    between.once(fault)
    with within(PROMPT), pytest.raises(OutcomeUnknown):
        ads.record("v", "impression", "a")
    assert (writes(between), truth(real, "v")) == (0, 0)


@pytest.mark.parametrize("answer", ["block", "allow", "raise"])
@pytest.mark.parametrize("fault", [proxy.reset_after, proxy.silent], ids=_name)
def test_a_claim_without_an_id_gets_the_policys_answer(
    sort: str, between: Proxy, real: Server, fault: Fault, answer: str
) -> None:
    """Never repeated: nothing, an uncounted claim marked as degraded, or the error; and it was counted once."""
    policy = Policy.from_text(f'on_store_error = "{answer}"\n{CAPS}')
    with driving.opened(sort, policy, between.url) as ads:
        warm(ads, between)
        between.once(fault)
        with within(PROMPT):
            if answer == "raise":
                with pytest.raises(OutcomeUnknown):
                    ads.claim("v", ["a"])
            else:
                claim = ads.claim("v", ["a"])
                if answer == "block":
                    assert claim is None
                else:
                    assert claim is not None
                    assert claim.counted is False
                    assert isinstance(claim.degraded, OutcomeUnknown)
                    assert claim.degraded.__cause__ is not None
        until(lambda: truth(real, "v"), "the impression")
        assert (writes(between), truth(real, "v")) == (1, 1)


@every_executed
def test_a_release_may_be_repeated_by_the_caller(ads: Ads, between: Proxy, real: Server, fault: Fault) -> None:
    """It has no id, but nothing is undone twice: another reservation stays."""
    first = until(lambda: ads.claim("v", ["a"], id="one", hold="15 minutes"), "a claim")
    second = until(lambda: ads.claim("v", ["a"], id="two", hold="15 minutes"), "a claim")
    assert first is not None
    assert second is not None
    between.once(fault)
    with pytest.raises(OutcomeUnknown):
        ads.release(first)
    assert insist(lambda: ads.release(first)) in (False, True)
    assert insist(lambda: ads.release(first)) is False
    assert insist(lambda: ads.confirm(second)) in ("confirmed", "repeated")
    assert truth(real, "v") == 1


@pytest.mark.parametrize("n", [1, 7, 20])
@pytest.mark.parametrize("fault", [*BROKEN_AFTER, *BROKEN_BEFORE, proxy.silent], ids=_name)
def test_a_broken_batch_without_ids_says_of_each_what_is_known(
    ads: Ads, between: Proxy, real: Server, fault: Fault, n: int
) -> None:
    """Each result is true: counted, not executed, or unknown; and nothing is sent twice."""
    between.only(n, fault)
    events = [(f"v{number}", "impression", "a", NOW) for number in range(20)]
    with within(PROMPT), pytest.raises(PartlyExecuted) as raised:
        ads.record_many(events)
    results = raised.value.results
    assert not any(result is True for result in results[n - 1 :])
    for number, result in enumerate(results):
        held = truth(real, f"v{number}")
        assert held <= 1
        if result is True:
            assert held == 1
        elif isinstance(result, NotExecuted):
            assert held == 0
        else:
            assert isinstance(result, OutcomeUnknown)


# -- reads -------------------------------------------------------------------------------------------------------------


@every_broken
def test_a_broken_read_is_repeated(patient: Ads, between: Proxy, real: Server, fault: Fault) -> None:
    """Reading twice does no harm: the visitor's own answer, not degraded."""
    for _ in range(5):
        patient.record("v", "impression", "a")
    between.once(fault)
    decision = patient.decide("v")
    assert (decision.degraded, decision.eligible) == (None, ("b",))
    between.once(fault)
    assert [decision.eligible for decision in patient.decide_many(["v", "w"])] == [("b",), ("a", "b")]


@every_silent
def test_a_read_without_an_answer_is_degraded_and_spoils_nothing(
    ads: Ads, between: Proxy, real: Server, fault: Fault
) -> None:
    """Within the time-out; what arrives later, or half of it, never answers the next visitor."""
    for number in range(5):
        insist(partial(ads.record, "full", "impression", "a", id=f"id-{number}"))
    between.once(fault)
    with within(PROMPT):
        decision = ads.decide("full")
    assert isinstance(decision.degraded, NotExecuted)
    assert decision.degraded.__cause__ is not None
    assert decision.eligible == ()
    for _ in range(3):
        assert eligible(ads, "empty") == ("a", "b")
        assert eligible(ads, "full") == ("b",)


def test_a_reply_that_trickles_is_given_up_within_the_timeout(ads: Ads, between: Proxy) -> None:
    """Each byte comes in time, the whole does not: the time-out is for the whole call."""
    insist(lambda: ads.record("v", "impression", "a", id="one"))
    between.once(proxy.trickled(TIMEOUT / 4))
    with within(PROMPT):
        assert isinstance(ads.decide("v").degraded, NotExecuted)
    between.once(proxy.trickled(TIMEOUT / 3))
    with within(PROMPT), pytest.raises(OutcomeUnknown):
        ads.record("v", "impression", "a")


# -- all together ------------------------------------------------------------------------------------------------------


def test_in_a_storm_each_id_counts_once(sort: str, between: Proxy, real: Server) -> None:
    """Every third command hits some fault while four threads claim, each repeating until answered: exact counts."""
    dice = random.Random(20)
    faults = [*BROKEN_AFTER, *BROKEN_BEFORE, proxy.silent, proxy.late(2 * TIMEOUT)]

    def stormy(exchange: proxy.Exchange) -> None:
        (dice.choice(faults) if dice.random() < 0.33 else proxy.passing)(exchange)

    granted: list[str] = []

    def work(number: int, ads: Ads) -> None:
        for visitor in ("v", "w", f"own-{number}"):
            for turn in range(3):
                claim = insist(partial(ads.claim, visitor, ["a"], id=f"{number}-{turn}"))
                granted.extend([visitor] * (claim is not None))

    policy = Policy.from_text(f'on_store_error = "raise"\n{CAPS}')  # so that None is a denial, not a failure
    with driving.opened(sort, policy, between.url, timeout=TIMEOUT) as ads:
        insist(lambda: ads.record("warm-up", "impression", "b"))
        between.fault = proxy.on(stormy)
        threads = [threading.Thread(target=work, args=(number, ads)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        between.fault = proxy.passing
    for visitor, most in {"v": 5, "w": 5, **{f"own-{number}": 3 for number in range(4)}}.items():
        assert granted.count(visitor) == truth(real, visitor) == most
