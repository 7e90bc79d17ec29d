"""denials.py: a visitor found blocked is answered without asking the store, until anything could have changed."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from retarget import AsyncRetargeter, ConfigError, Decision, MemoryStore, OutcomeUnknown, Policy, Retargeter, StoreError
from retarget.calls.denials import LONGEST, MOST_VISITORS, Denials, denials_for
from retarget.calls.operations import Operations
from retarget.calls.requests import Read
from retarget.timelines import Answer, State, Write
from tests.support import servers
from tests.support.fixtures import Clock
from tests.support.servers import Server

TEN = timedelta(seconds=10)
POLICY = Policy.from_text("""
    [campaign.a]
    caps = ["1 per 30 seconds"]
    [campaign.b]
    audience = ["visit shop"]
    caps = ["1 per day"]
""")


class Counting(MemoryStore):
    """A store in memory that notes what it was asked, and fails on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.failing: type[BaseException] | None = None

    def note(self, verb: str) -> None:
        """Note the verb."""
        self.asked.append(verb)
        if self.failing:
            raise self.failing("the answer was lost")

    def read(self, key: bytes) -> State:
        """`read`, noted."""
        self.note("read")
        return super().read(key)

    def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        """`read_many`, noted; it never fails, so that a merge comes to its first write."""
        self.asked.append("read_many")
        return [super(Counting, self).read(key) for key in keys]

    def write(self, write: Write) -> Answer:
        """`write`, noted."""
        self.note("write")
        return super().write(write)

    def delete(self, key: bytes) -> bool:
        """`delete`, noted."""
        self.note("delete")
        return super().delete(key)


@pytest.fixture
def counting() -> Counting:
    """A store that notes what it was asked."""
    return Counting()


@pytest.fixture
def ads(counting: Counting, clock: Clock) -> Retargeter:
    """A retargeter that remembers denials for ten seconds, and a visitor who is blocked by the cap of a."""
    ads = Retargeter(POLICY, counting, clock=clock, remember_denials="10 seconds", pepper={1: "o" * 16, 2: "n" * 16})
    ads.record("v", "impression", "a")
    counting.asked.clear()
    return ads


def asks(counting: Counting, call: Callable[[], Any]) -> list[str]:
    """What a call asks of the store."""
    counting.asked.clear()
    call()
    return list(counting.asked)


def verdicts(decision: Decision) -> list[Any]:
    """The verdict on each candidate."""
    return [decision[candidate] for candidate in decision]


# -- what it saves -----------------------------------------------------------------------------------------------------


def test_it_is_off_unless_asked_for(counting: Counting, clock: Clock) -> None:
    """Each decision and each claim asks the store."""
    ads = Retargeter(POLICY, counting, clock=clock)
    ads.record("v", "impression", "a")
    assert [asks(counting, lambda: ads.decide("v")) for _ in range(3)] == [["read"]] * 3
    assert [asks(counting, lambda: ads.claim("v")) for _ in range(3)] == [["write"]] * 3


def test_a_blocked_visitor_is_answered_without_asking(ads: Retargeter, counting: Counting) -> None:
    """Decisions and claims, with the verdicts that the store's data would give; a hundred of them ask once."""
    first = ads.decide("v")
    assert first.eligible == ()
    for _ in range(50):
        assert asks(counting, lambda: ads.claim("v")) == []
        assert asks(counting, lambda: ads.claim("v", hold="1 minute")) == []
        counting.asked.clear()
        again = ads.decide("v")
        assert counting.asked == []
        assert verdicts(again) == verdicts(first)
        assert again.degraded is None


def test_a_server_is_not_sent_a_command(server: Server, clock: Clock) -> None:
    """Counted by the server itself, for both clients."""
    with Retargeter(POLICY, server.url, timeout=servers.PATIENCE, clock=clock, remember_denials="10 seconds") as ads:
        ads.record("v", "impression", "a")
        ads.decide("v")
        before = server.commands()
        assert [ads.decide("v").eligible for _ in range(20)] == [()] * 20
        assert [ads.claim("v") for _ in range(20)] == [None] * 20
        assert server.commands() == before

    async def awaited() -> None:
        async with AsyncRetargeter(POLICY, server.url, timeout=5, clock=clock, remember_denials=TEN) as ads:
            await ads.decide("v")
            before = server.commands()
            decisions = await asyncio.gather(*(ads.decide("v") for _ in range(20)))
            assert [decision.eligible for decision in decisions] == [()] * 20
            assert await ads.claim("v") is None
            assert server.commands() == before

    asyncio.run(awaited())


def test_a_visitor_who_is_not_blocked_is_always_asked_for(ads: Retargeter, counting: Counting) -> None:
    """Only blocked visitors are remembered, and only for the candidates they are blocked for."""
    ads.record("v", "visit", "shop")
    assert [asks(counting, lambda: ads.decide("v")) for _ in range(2)] == [["read"]] * 2
    assert asks(counting, lambda: ads.decide("v", ["a"])) == ["read"]
    assert asks(counting, lambda: ads.decide("v", ["a"])) == []
    assert asks(counting, lambda: ads.decide("v", ["a", "b"])) == ["read"]
    assert asks(counting, lambda: ads.claim("v", ["a"])) == []
    assert asks(counting, lambda: ads.claim("v", ["a", "b"])) == ["write"]
    assert asks(counting, lambda: ads.decide("w")) == ["read"]


def test_a_claim_with_an_id_always_asks(ads: Retargeter, counting: Counting) -> None:
    """Its id may already be counted, for a candidate that is blocked now."""
    claim = ads.claim("w", ["a"], id="bid-1")
    assert ads.decide("w").eligible == ()
    again = ads.claim("w", ["a"], id="bid-1")
    assert claim is not None
    assert again is not None
    assert again.repeated
    assert asks(counting, lambda: ads.claim("w", id="bid-2")) == ["write"]


def test_lists_always_ask(ads: Retargeter, counting: Counting) -> None:
    """A batch is one round trip in any case."""
    ads.decide("v")
    assert asks(counting, lambda: list(ads.decide_many(["v", "w"]))) == ["read_many"]


# -- how long an entry is used -----------------------------------------------------------------------------------------


def test_an_entry_is_used_for_its_seconds_and_no_longer(ads: Retargeter, counting: Counting, clock: Clock) -> None:
    """Ten seconds: still in the tenth, no longer in the eleventh. Nor before it was read, if the clock goes back."""
    ads.decide("v")
    start = clock.now
    for seconds, asked in ((10, []), (11, ["read"]), (21, []), (10, ["read"]), (22, ["read"])):
        clock.now = start + seconds
        assert asks(counting, lambda: ads.decide("v")) == asked, seconds


@pytest.mark.parametrize("call", ["decide", "claim"])
def test_a_cap_that_expires_is_noticed_at_once(counting: Counting, clock: Clock, call: str) -> None:
    """In that very second, though the memory is still fresh."""
    ads = Retargeter(POLICY, counting, clock=clock, remember_denials="1 minute")
    ads.record("v", "impression", "a")
    again = ads.decide("v")["a"].eligible_at
    assert again is not None
    clock.now = int(again.timestamp()) - 1
    assert asks(counting, lambda: getattr(ads, call)("v")) == []
    clock.now += 1
    assert asks(counting, lambda: getattr(ads, call)("v")) == ["read" if call == "decide" else "write"]
    assert bool(ads.decide("v").eligible) is (call == "decide")


def test_a_reservation_that_lapses_is_noticed_at_once(counting: Counting, clock: Clock) -> None:
    """Like a cap that expires."""
    ads = Retargeter(POLICY, counting, clock=clock, remember_denials="1 minute")
    ads.claim("v", ["a"], hold="20 seconds")
    assert ads.decide("v").eligible == ()
    clock.now += 20
    assert asks(counting, lambda: ads.decide("v")) == []
    clock.now += 1
    assert ads.decide("v").eligible == ("a",)


def test_a_call_gives_its_own_time(ads: Retargeter, counting: Counting, clock: Clock) -> None:
    """What was read at one time is used for times just after it, whatever the clock says."""
    ads.decide("v", now=clock.now + 5)
    assert asks(counting, lambda: ads.decide("v", now=clock.now + 15)) == []
    assert asks(counting, lambda: ads.decide("v", now=clock.now)) == ["read"]
    assert asks(counting, lambda: ads.decide("v", now=clock.now + 20)) == ["read"]


def test_another_process_is_noticed_when_the_entry_expires(ads: Retargeter, counting: Counting, clock: Clock) -> None:
    """The price: while an entry is used, changes by other processes are not seen; never for longer."""
    other = Retargeter(POLICY, counting, clock=clock, pepper={1: "o" * 16, 2: "n" * 16})
    ads.decide("v")
    other.forget("v")
    clock.now += 10
    assert ads.decide("v").eligible == ()
    clock.now += 1
    assert ads.decide("v").eligible == ("a",)


# -- what drops an entry -----------------------------------------------------------------------------------------------


def change_policy(ads: Retargeter) -> None:
    """Set another policy."""
    ads.policy = Policy.from_text('[campaign.a]\ncaps = ["2 per day"]')


def elsewhere(counting: Counting, clock: Clock) -> None:
    """Give a merge and a rotation something to move."""
    for visitor, version, pepper in (("w", 2, "n" * 16), ("v", 1, "o" * 16)):
        other = Retargeter(POLICY, counting, clock=clock, pepper={version: pepper})
        assert other.record(visitor, "impression", "a")


CHANGES: dict[str, Callable[[Retargeter], object]] = {
    "record": lambda ads: ads.record("v", "visit", "shop"),
    "record_many": lambda ads: ads.record_many([("w", "visit", "shop"), ("v", "visit", "shop")]),
    "claim with an id": lambda ads: ads.claim("v", id="bid-1"),
    "forget": lambda ads: ads.forget("v"),
    "merge into the visitor": lambda ads: ads.merge("w", into="v"),
    "merge the visitor into another": lambda ads: ads.merge("v", into="w"),
    "rotate": lambda ads: ads.rotate("v"),
    "policy": change_policy,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_this_process_changes_is_seen_at_once(
    ads: Retargeter, counting: Counting, clock: Clock, change: str
) -> None:
    """Any change of the visitor or the rules: the next decision asks again, and is right."""
    elsewhere(counting, clock)
    ads.decide("v")
    assert asks(counting, lambda: ads.decide("v")) == []
    CHANGES[change](ads)
    counting.asked.clear()
    decision = ads.decide("v")
    assert counting.asked == ["read"]
    fresh = Retargeter(ads.policy, counting, clock=lambda: decision.second, pepper={2: "n" * 16})
    assert verdicts(decision) == verdicts(fresh.decide("v"))


@pytest.mark.parametrize("error", [OutcomeUnknown, KeyboardInterrupt])
@pytest.mark.parametrize("change", ["record", "record_many", "claim with an id", "merge into the visitor"])
def test_a_change_whose_reply_was_lost_drops_it_too(
    ads: Retargeter, counting: Counting, clock: Clock, change: str, error: type[BaseException]
) -> None:
    """It may have happened; an interrupted call too."""
    elsewhere(counting, clock)
    ads.decide("v")
    counting.failing = error
    with suppress(StoreError, KeyboardInterrupt):
        CHANGES[change](ads)
    counting.failing = None
    assert asks(counting, lambda: ads.decide("v")) == ["read"]


@pytest.mark.parametrize("call", ["confirm", "release"])
def test_what_becomes_of_a_reservation_is_seen_at_once(ads: Retargeter, counting: Counting, call: str) -> None:
    """Released: eligible, in the same second. Confirmed: asked again."""
    claim = ads.claim("w", ["a"], hold="10 minutes")
    assert ads.decide("w").eligible == ()
    assert asks(counting, lambda: ads.decide("w")) == []
    getattr(ads, call)(claim)
    counting.asked.clear()
    assert ads.decide("w").eligible == (("a",) if call == "release" else ())
    assert counting.asked == ["read"]


def test_entries_of_others_stay(ads: Retargeter, counting: Counting) -> None:
    """A change of one visitor drops only what is remembered of that visitor."""
    ads.record("w", "impression", "a")
    ads.decide("v")
    ads.decide("w")
    ads.record("w", "visit", "shop")
    assert asks(counting, lambda: ads.decide("v")) == []
    assert asks(counting, lambda: ads.decide("w")) == ["read"]


def test_a_store_that_fails_is_not_remembered(ads: Retargeter, counting: Counting) -> None:
    """Blocked by the policy's answer: the next decision asks again."""
    counting.failing = OutcomeUnknown
    assert ads.decide("v").degraded is not None
    counting.failing = None
    assert asks(counting, lambda: ads.decide("v")) == ["read"]


# -- races -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [None, *CHANGES])
def test_a_read_under_way_during_a_change_is_not_kept(
    ads: Retargeter, counting: Counting, clock: Clock, change: str | None
) -> None:
    """Read before the change, answered after it: the answer stands, but is not remembered."""
    elsewhere(counting, clock)
    operations: Operations = ads._operations
    steps = operations.decide("v", None, now=None, timezone=None, consent=True)
    request = next(steps)
    assert isinstance(request, Read)
    state = dict(request.ask(counting))
    if change is not None:
        CHANGES[change](ads)
    with pytest.raises(StopIteration) as stop:
        steps.send(state)
    assert stop.value.value.eligible == ()
    assert asks(counting, lambda: ads.decide("v")) == ([] if change is None else ["read"])


def test_threads_that_decide_while_others_change(counting: Counting, clock: Clock) -> None:
    """In the end each visitor is decided on by what the store has, not by what was read earlier."""
    ads = Retargeter(POLICY, counting, clock=clock, remember_denials="1 minute")
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(400):
                visitor = f"v{rng.randrange(5)}"
                match rng.randrange(5):
                    case 0:
                        ads.forget(visitor)
                    case 1:
                        ads.record(visitor, "impression", "a")
                    case _:
                        ads.decide(visitor)
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(servers.PATIENCE)
    assert failed == []
    plain = Retargeter(POLICY, counting, clock=clock)
    for visitor in (f"v{n}" for n in range(5)):
        assert ads.decide(visitor).eligible == plain.decide(visitor).eligible


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_it_is_bounded_and_the_oldest_are_evicted_first() -> None:
    """Ten thousand visitors; one who is read again is new again."""
    denials = Denials(10)
    for number in range(MOST_VISITORS):
        denials.put(b"%d" % number, {}, 100, denials.generation)
    denials.put(b"0", {}, 101, denials.generation)
    assert denials.get(b"1", 101) is not None
    for number in range(MOST_VISITORS, MOST_VISITORS + 5):
        denials.put(b"%d" % number, {}, 102, denials.generation)
    assert MOST_VISITORS == 10_000
    assert len(denials._kept) == MOST_VISITORS
    assert [denials.get(b"%d" % n, 102) is None for n in range(7)] == [False, *[True] * 5, False]
    denials.drop()
    assert len(denials._kept) == 0


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("1 second", 1), ("5 seconds", 5), ("minute", 60), (timedelta(seconds=2.5), 2), (timedelta(minutes=1), LONGEST)],
)
def test_valid_durations(given: str | timedelta, seconds: int) -> None:
    """From a second to a minute, as str or timedelta; whole seconds."""
    denials = denials_for(given)
    assert denials is not None
    denials.put(b"k", {}, 100, denials.generation)
    assert [denials.get(b"k", 100 + seconds + more) is None for more in (0, 1)] == [False, True]


WRONG: list[Any] = [
    "",
    "5",
    "soon",
    "0 seconds",
    "61 seconds",
    "1 hour",
    5,
    5.0,
    True,
    -1,
    [],
    timedelta(0),
    timedelta(seconds=0.9),
    timedelta(seconds=61),
    timedelta(days=-1),
]


@pytest.mark.parametrize("given", WRONG)
def test_invalid_durations_are_refused(given: Any) -> None:
    """On set-up, with what was given and what would be right."""
    with pytest.raises(ConfigError, match=r"remember_denials=.*(such as \"5 seconds\"|from 1 to 60 seconds)"):
        Retargeter(POLICY, "memory://", remember_denials=given)
