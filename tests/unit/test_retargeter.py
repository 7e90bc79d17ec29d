"""retargeter.py: what a client needs to be set up, what it drives, and what its answers are worth elsewhere."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from retarget import (
    AsyncRetargeter,
    Candidate,
    ConfigError,
    Decision,
    Health,
    InputError,
    MemoryStore,
    NotExecuted,
    Policy,
    Retargeter,
    StoreError,
)
from retarget.timelines import Answer, State, Write
from tests.support.copies import COPIES
from tests.support.fixtures import Clock

CAPPED = Policy.from_text(
    '[annoyance]\nthreshold = ["3 per day"]\n[campaign.a]\ncaps = ["1 per day"]\n[campaign.b]\nhours = "08:00-09:00"\n'
    "[campaign.c]"
)


class Down(MemoryStore):
    """A store that fails whatever it is asked."""

    def read(self, key: bytes) -> State:
        """Fail."""
        raise StoreError("down")

    def write(self, write: Write) -> Answer:
        """Fail."""
        raise NotExecuted("down")

    def delete(self, key: bytes) -> bool:
        """Fail."""
        raise StoreError("down")

    def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        """Fail each."""
        return [StoreError("down") for _ in keys]

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        """Fail each."""
        return [NotExecuted("down") for _ in writes]


# -- setting up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["policy.toml", {"campaign": {}}, None, Path("policy.toml"), Policy])
def test_a_retargeter_needs_a_policy(policy: Any) -> None:
    """A file name or plain data in its place is refused, saying how to load one; when set later too."""
    with pytest.raises((ConfigError, InputError), match=r"policy must be a Policy, got .*Policy\.from_toml"):
        Retargeter(policy, "memory://")
    shop = Retargeter(Policy.from_text("[campaign.a]"), "memory://")
    with pytest.raises((ConfigError, InputError), match=r"Policy\.from_toml"):
        shop.policy = policy
    assert shop.decide("v").eligible == ("a",)


@pytest.mark.parametrize("client", [Retargeter, AsyncRetargeter])
@pytest.mark.parametrize("store", [None, 5, b"redis://localhost", object()])
def test_a_store_of_another_kind_is_refused(client: Any, store: object) -> None:
    """The message says what it may be, and what was given."""
    with pytest.raises(ConfigError, match=f"store must be a URL.*got {type(store).__name__}"):
        client(CAPPED, store)


@pytest.mark.parametrize("client", [Retargeter, AsyncRetargeter])
@pytest.mark.parametrize("timeout", [0, -1, 60.5, "1", None, float("nan")])
def test_a_timeout_out_of_range_is_refused(client: Any, timeout: object) -> None:
    """Above 0 and at most 60 seconds."""
    with pytest.raises(ConfigError, match="timeout="):
        client(CAPPED, "memory://", timeout=timeout)


@pytest.mark.parametrize("client", [Retargeter, AsyncRetargeter])
def test_an_unknown_option_is_refused(client: Any) -> None:
    """A slip in an option's name is an error, not a default."""
    with pytest.raises(TypeError, match="peper"):
        client(CAPPED, "memory://", peper="p" * 16)


def test_the_policy_can_be_read_and_set() -> None:
    """The one in force, on both clients; calls from then on decide by it."""
    other = Policy.from_text("[campaign.b]")
    for ads in (Retargeter(CAPPED, "memory://"), AsyncRetargeter(CAPPED, "memory://")):
        assert ads.policy is CAPPED
        ads.policy = other
        assert ads.policy is other


@pytest.mark.parametrize(
    "who", ['"x{n}", "y{n}", "z{n}"', '{{ any = ["x{n}", "y{n}"] }}, {{ any = ["z{n}", "w{n}"] }}']
)
def test_a_policy_that_multiplies_out_is_refused_not_run(who: str) -> None:
    """Twenty segments of several conditions each: an error that says what to simplify, at once; no endless loading."""
    segments = "".join(
        f'[annoyance.segment.s{n}]\nwho = [{who.format(n=n)}]\nthreshold = ["9 per day"]\n' for n in range(20)
    )
    text = f'[annoyance]\nthreshold = ["5 per day"]\n{segments}[campaign.a]'
    program = "import sys, retarget; retarget.Retargeter(retarget.Policy.from_text(sys.argv[1]), 'memory://')"
    done = subprocess.run([sys.executable, "-c", program, text], timeout=60, capture_output=True, check=False)
    assert b"PolicyError" in done.stderr
    assert b"clauses" in done.stderr


# -- driving -----------------------------------------------------------------------------------------------------------


def test_a_store_of_ones_own_serves_both_clients() -> None:
    """Whatever has the verbs of a store; closing the client closes it."""
    store = MemoryStore()
    with Retargeter(CAPPED, store) as ads:
        assert ads.record("v", "impression", "a")
        assert ads.health() == ()

    class Awaited:
        def __init__(self) -> None:
            self.closed = False

        async def read(self, key: bytes) -> State:
            return store.read(key)

        async def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
            return store.write_many(writes)

        def health(self) -> tuple[Health, ...]:
            return (Health("here", True, 0, ""),)  # noqa: FBT003 - a row

        async def close(self) -> None:
            self.closed = True

    async def script() -> None:
        own: Any = Awaited()
        async with AsyncRetargeter(CAPPED, own) as one:
            assert (await one.decide("v", ["a"])).eligible == ()
            assert await one.record_many([("v", "impression", "c")]) == [True]
            assert one.health()[0].server == "here"
        assert own.closed

    asyncio.run(script())


@pytest.mark.parametrize("answer", ["block", "allow", "raise"])
def test_a_store_that_fails_is_thrown_into_the_operation(answer: str) -> None:
    """On both clients: what the policy says for decisions and claims, StoreError for everything else."""
    policy = Policy.from_text(f'on_store_error = "{answer}"\n[campaign.a]\ncaps = ["1 per day"]')

    async def script() -> None:
        sync, awaited = Retargeter(policy, Down()), AsyncRetargeter(policy, Down())
        if answer == "raise":
            for call in (sync.decide, sync.claim):
                with pytest.raises(StoreError):
                    call("v")
            for coroutine in (awaited.decide, awaited.claim):
                with pytest.raises(StoreError):
                    await coroutine("v")
        else:
            expected = ("a",) if answer == "allow" else ()
            assert sync.decide("v").eligible == (await awaited.decide("v")).eligible == expected
            for claim in (sync.claim("v"), await awaited.claim("v")):
                assert (claim is not None) is (answer == "allow")
            assert [decision.eligible for decision in sync.decide_many(["v"])] == [expected]
            assert [decision.eligible async for decision in awaited.decide_many(["v"])] == [expected]
        with pytest.raises(NotExecuted):
            sync.record("v", "impression", "a")
        with pytest.raises(NotExecuted):
            await awaited.record("v", "impression", "a")
        for failing in (sync.forget, sync.export):
            with pytest.raises(StoreError):
                failing("v")
        for failing_async in (awaited.forget, awaited.export):
            with pytest.raises(StoreError):
                await failing_async("v")

    asyncio.run(script())


def test_every_operation_in_memory_is_the_same_on_both_clients(clock: Clock) -> None:
    """All methods, once each: the same answers."""

    async def script() -> None:
        with Retargeter(CAPPED, MemoryStore(), clock=clock) as one:
            async with AsyncRetargeter(CAPPED, MemoryStore(), clock=clock) as other:
                events: list[Any] = [("v", "impression", "a"), ("w", "visit", "shop")]
                assert one.record_many(events) == await other.record_many(events) == [True, True]
                assert one.decide("v").eligible == (await other.decide("v")).eligible == ("c",)
                claims = one.claim("v", hold="1 minute"), await other.claim("v", hold="1 minute")
                assert claims[0] is not None
                assert claims[1] is not None
                assert one.confirm(claims[0]) == await other.confirm(claims[1]) == "confirmed"
                assert one.release(claims[0]) is await other.release(claims[1]) is False
                assert one.merge("v", into="w") is await other.merge("v", into="w") is True
                assert one.rotate("w") is await other.rotate("w") is False
                assert one.export("w") == await other.export("w") | {"event_ids": one.export("w")["event_ids"]}
                assert one.forget("w") is await other.forget("w") is True

    asyncio.run(script())


def test_clients_of_redis_py_are_taken_as_they_are() -> None:
    """A client of the right kind makes a store, without connecting; one of the wrong kind is refused with the cure."""
    Retargeter(CAPPED, redis.Redis(port=1)).close()
    given: Any = redis.asyncio.Redis(port=1)

    async def script() -> None:
        await AsyncRetargeter(CAPPED, given).close()
        await given.aclose()

    asyncio.run(script())
    with pytest.raises(ConfigError, match="this client is for asyncio: give it to an AsyncRetargeter"):
        Retargeter(CAPPED, given)


# -- what is answered, elsewhere ---------------------------------------------------------------------------------------


def _all(decision: Decision) -> list[Any]:
    return [
        decision.eligible,
        tuple(decision),
        tuple(decision.candidates),
        len(decision),
        decision.at,
        str(decision.degraded),
        type(decision.degraded),
        decision.annoyance,
        [decision[candidate] for candidate in decision],
        repr(decision),
    ]


def _decisions(clock: Clock) -> dict[str, Decision]:
    """One of each kind."""
    ads = Retargeter(CAPPED, MemoryStore(), clock=clock)
    ads.record("v", "impression", "a")
    down = Retargeter(CAPPED, Down(), clock=clock)
    return {
        "every campaign": ads.decide("v"),
        "some, with labels": ads.decide("v", [Candidate("c", item="x"), "a"]),
        "none given": ads.decide("v", []),
        "nobody": ads.decide(None),
        "no consent": ads.decide("v", consent=False),
        "degraded": down.decide("v"),
    }


@pytest.mark.parametrize("how", COPIES)
def test_a_decision_survives_pickle_and_copy(clock: Clock, how: str) -> None:
    """With everything public: eligible, candidates, verdicts, time, annoyance, the store's error."""
    for name, decision in _decisions(clock).items():
        same = COPIES[how](decision)
        assert _all(same) == _all(decision), name
        with pytest.raises(KeyError):
            same["somebody else's"]


def test_a_pickled_decision_is_small_and_keeps_no_history(clock: Clock) -> None:
    """It carries verdicts, neither the policy nor the visitor's timelines."""
    policy = Policy.from_text("".join(f'[campaign.c{n}]\ncaps = ["1 per day"]\n' for n in range(500)))
    decision = Retargeter(policy, "memory://", clock=clock).decide("v", ["c1", "c2"])
    assert len(pickle.dumps(decision)) < 1_000


@pytest.mark.parametrize("how", COPIES)
def test_verdicts_levels_and_health_survive_pickle_and_copy(clock: Clock, how: str) -> None:
    """Equal afterwards."""
    decision = _decisions(clock)["every campaign"]
    for value in (decision["a"], decision["b"], decision["c"], decision.annoyance, Health("s", False, 3, "down")):  # noqa: FBT003
        assert value is not None
        assert COPIES[how](value) == value
