"""AsyncRetargeter: the same operations, awaited; concurrent calls share a pipeline, and never each other's answers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
import redis.asyncio

from retarget import AsyncRetargeter, Candidate, ConfigError, Event, MemoryStore, Policy, Retargeter, StoreError
from tests.support.fixtures import Clock
from tests.support.servers import Server

NOW = 1_795_600_000
POLICY = Policy.from_text(
    '[annoyance]\nthreshold = ["6 per day"]\n[caps]\nitem = ["1 per day"]\n'
    '[campaign.a]\ncaps = ["3 per hour"]\n[campaign.b]\n'
)
T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run in an event loop of its own, in a bounded time."""
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def ads(store: str, **options: Any) -> AsyncRetargeter:
    """An AsyncRetargeter whose clock stands still."""
    return AsyncRetargeter(POLICY, store, clock=lambda: NOW, timeout=5, **options)


def test_every_operation_answers_as_the_sync_client_does(url: str) -> None:
    """One script of calls on both clients, each with keys of its own: the same answers, down to the export."""
    sync = Retargeter(POLICY, url, clock=lambda: NOW, timeout=5, prefix="rt:sync:")

    async def script() -> None:
        async with ads(url, prefix="rt:async:") as one:
            assert await one.record("v", "visit", "shop") == sync.record("v", "visit", "shop")
            events: list[Any] = [
                Event("v", "click", "a", id="x"),
                Event("v", "click", "a", id="x"),
                ("w", "impression", "a"),
            ]
            assert await one.record_many(events) == sync.record_many(events) == [True, False, True]
            shop: list[Candidate | str] = [Candidate("b", item="sku"), "a"]
            for _ in range(5):
                assert await one.claim("v", shop) == sync.claim("v", shop)
            page = [("x", shop, f"place-{number}") for number in range(4)]
            for distinct in (True, False):
                assert await one.claim_many(page, distinct=distinct) == sync.claim_many(page, distinct=distinct)
            held, same = await one.claim("w", ["b"], hold="15 minutes"), sync.claim("w", ["b"], hold="15 minutes")
            assert held is not None
            assert same is not None
            assert await one.confirm(held.token) == sync.confirm(same.token) == "confirmed"
            assert await one.release(held) == sync.release(same) is False
            theirs, ours = await one.decide("v", shop), sync.decide("v", shop)
            assert (theirs.eligible, theirs["a"], theirs.annoyance) == (ours.eligible, ours["a"], ours.annoyance)
            many = [d.eligible async for d in one.decide_many(["v", "w", None], ["a", "b"])]
            assert many == [d.eligible for d in sync.decide_many(["v", "w", None], ["a", "b"])]
            assert (await one.export("v"))["timelines"] == sync.export("v")["timelines"]
            assert await one.forget("v") is sync.forget("v") is True

    run(script())
    sync.close()


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    """Nothing is missing on either side, and nothing differs but what is awaited."""
    public = {name for name in vars(Retargeter) if not name.startswith("_")}
    assert public == {name for name in vars(AsyncRetargeter) if not name.startswith("_")}
    for name in public - {"policy"}:
        one, other = (inspect.signature(getattr(client, name)) for client in (Retargeter, AsyncRetargeter))
        assert one.parameters == other.parameters
        assert name == "decide_many" or one.return_annotation == other.return_annotation
    options = [list(inspect.signature(client).parameters.values()) for client in (Retargeter, AsyncRetargeter)]
    assert options[0][2:] == options[1][2:]  # all but the store


def test_a_thousand_in_flight_get_each_its_own_answer(server: Server) -> None:
    """A thousand visitors at once, each with as many impressions as its number says: no answer is another's."""

    async def script() -> None:
        async with ads(server.url) as one:
            await one.record_many([(f"v{n}", "impression", "a", NOW) for n in range(1_000) for _ in range(n % 5)])
            decisions = await asyncio.gather(*(one.decide(f"v{n}", ["a"]) for n in range(1_000)))
            assert [d.eligible == ("a",) for d in decisions] == [n % 5 < 3 for n in range(1_000)]
            assert not any(d.degraded for d in decisions)

    run(script())


def test_no_cap_is_exceeded_by_claims_in_flight(server: Server) -> None:
    """Two hundred claims at once for one visitor: exactly the limit is used."""

    async def script() -> None:
        async with ads(server.url) as one:
            claims = await asyncio.gather(*(one.claim("v", ["a"]) for _ in range(200)))
            assert sum(claim is not None for claim in claims) == 3

    run(script())


def test_calls_in_flight_share_round_trips(server: Server) -> None:
    """A hundred decisions at once need no more than a handful of connections."""

    async def script() -> None:
        async with ads(server.url) as one:
            before = server.connections()
            await asyncio.gather(*(one.decide(f"v{n}") for n in range(100)))
            assert len(server.connections() - before) <= 5

    run(script())


def test_a_cancelled_call_spoils_nobodys_answer(server: Server) -> None:
    """Every second call is cancelled at a random step of the loop; the others, and the next, get their own answers."""

    async def script() -> None:
        async with ads(server.url) as one:
            await one.record_many([(f"v{n}", "impression", "a", NOW) for n in range(50) for _ in range(n % 5)])
            for turn in range(40):
                calls = [asyncio.ensure_future(one.decide(f"v{n}", ["a"])) for n in range(50)]
                for _ in range(turn % 7):
                    await asyncio.sleep(0)
                for call in calls[turn % 2 :: 2]:
                    call.cancel()
                answers = await asyncio.gather(*calls, return_exceptions=True)
                for n, answer in enumerate(answers):
                    if not isinstance(answer, BaseException):
                        assert (answer.eligible == ("a",)) is (n % 5 < 3)
            assert [(await one.decide(f"v{n}", ["a"])).eligible == ("a",) for n in range(5)] == [True] * 3 + [False] * 2

    run(script())


@pytest.mark.parametrize("opened", [True, False])
def test_closing_ends_what_is_in_flight_and_opens_nothing_again(server: Server, opened: bool) -> None:  # noqa: FBT001
    """Reads, otherwise retried, get the policy's answer; no connection is left; the client can be used again."""

    async def script() -> None:
        with server.client() as admin:
            admin.ping()
            before = server.connections()
            one = ads(server.url)
            if opened:
                await one.decide("v")
            calls = [asyncio.ensure_future(one.decide(f"v{n}")) for n in range(5)]
            await asyncio.sleep(0)
            await one.close()
            for call in calls:
                assert "closed" in str((await call).degraded)
            for _ in range(50):  # turns of the loop, in which a connection could come back
                await asyncio.sleep(0)
                admin.ping()
            assert server.connections() <= before
            assert (await one.decide("v")).degraded is None
            await one.close()

    run(script())


def test_calls_one_after_the_other_each_find_a_worker(server: Server) -> None:
    """A call that arrives just as the last worker stops is served all the same."""

    async def script() -> None:
        async with ads(server.url) as one:
            for _ in range(200):
                assert await one.record("v", "impression", "b")
            await asyncio.gather(*(_in_turn(one) for _ in range(5)))

    async def _in_turn(one: AsyncRetargeter) -> None:
        for _ in range(50):
            await one.decide("v", ["a"])

    run(script())


def test_a_store_that_is_gone_yields_the_policys_answer() -> None:
    """Refused connections: decide is degraded, record raises, and nothing hangs."""

    async def script() -> None:
        async with AsyncRetargeter(POLICY, "redis://127.0.0.1:1/0", timeout=1) as one:
            decision = await one.decide("v", ["a"])
            assert decision.degraded is not None
            assert decision.eligible == ()
            with pytest.raises(StoreError):
                await one.record("v", "impression", "b")

    run(script())


def test_a_flushed_script_is_sent_again_once(server: Server) -> None:
    """SCRIPT FLUSH in between: counted, once each."""

    async def script() -> None:
        async with ads(server.url) as one:
            for _ in range(3):
                with server.client() as client:
                    client.script_flush()
                await asyncio.gather(*(one.record("v", "impression", "b") for _ in range(2)))
            assert (await one.decide("v")).annoyance.points == 6  # type: ignore[union-attr]

    run(script())


def test_one_event_loop_each(server: Server) -> None:
    """A second loop is refused, with the cure, instead of hanging."""
    one = ads(server.url)

    async def script() -> None:
        await one.decide("v")
        await one.close()

    run(script())
    with pytest.raises(ConfigError, match="one in each loop"):
        run(one.decide("v"))


def test_an_invalid_store_is_refused(clock: Clock) -> None:
    """A sync client, or anything else, is refused on set-up; a MemoryStore may be shared with a sync client."""
    with pytest.raises(ConfigError, match=r"redis\.asyncio\.Redis"):
        AsyncRetargeter(POLICY, redis.Redis())  # type: ignore[arg-type]
    store = MemoryStore()
    Retargeter(POLICY, store, clock=clock).record("v", "impression", "b")
    level = run(AsyncRetargeter(POLICY, store, clock=clock).decide("v")).annoyance
    assert level is not None
    assert level.points == 1


def test_a_given_client_is_used_and_left_open(server: Server) -> None:
    """A caller's own `redis.asyncio.Redis` works, and is still open after close()."""

    async def script() -> None:
        client = redis.asyncio.Redis.from_url(server.url, socket_timeout=1, protocol=2)
        async with AsyncRetargeter(POLICY, client, clock=lambda: NOW, timeout=5) as one:
            assert await one.record("v", "impression", "b")
        assert await client.hgetall("rt:nobody") == {}
        await client.aclose()

    run(script())
