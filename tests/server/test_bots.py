"""A bot: however many events, subjects and labels it makes up, its cost stays bounded in every store.

There are three: one is interested in everything, one is shown everything, one makes up labels. A batch costs a server
as many commands as the one before; they are counted, not timed.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any, TypeAlias

import pytest

from retarget import Candidate, Event, MemoryStore, Policy, Retargeter
from retarget.timelines import MOST_TIMELINES, Store
from tests.support import servers
from tests.support.fixtures import REAL, Ads, Clock, Start
from tests.support.servers import Server

POLICY = """
[annoyance]
threshold = ["2000 per day"]
[caps]
item = ["3 per 7 days"]
slot = ["9 per day"]
[defaults]
caps = ["5 per day"]
exclude = ["dismiss {campaign} within 90 days"]
[campaign.back]
audience = ["visit product/{item} within 30 days"]
caps = ["2 per day"]
"""
Events: TypeAlias = Iterator[Event]

FIELDS = MOST_TIMELINES + 3 + 3
"""The most timelines, three fields of ids, and the further timelines that one event may add: see the contract."""

NAME = 32
"""The longest name of a timeline that these bots create, in bytes."""

BYTES = FIELDS * (NAME + 2 + 4 * 16)
"""The bytes of all names and values: no cap here needs more than the 16 entries that every timeline keeps."""

MEMORY = 2 * BYTES
"""What a server uses for them, including its own overhead."""

COMMANDS = 14
"""The most commands per event in a server, including those in the script: an event enters four timelines at most."""


def interested(visitor: str) -> Events:
    """Visits a new product each time, and dismisses one of a hundred campaigns now and then: what blocks stays."""
    for n in count():
        event, subject = ("dismiss", f"x{n % 1_000}") if n % 10 == 0 else ("visit", f"product/{n}")
        yield Event(visitor, event, subject, id=f"{n}")


def shown(visitor: str) -> Events:
    """Sees a new campaign each time, with a new item."""
    for n in count():
        yield Event(visitor, "impression", Candidate(f"c{n}", item=f"i{n}"), id=f"{n}")


def labelled(visitor: str) -> Events:
    """Sees one campaign for ever, mostly in a new slot, now and then in an old one."""
    for n in count():
        yield Event(visitor, "impression", Candidate("back", item=f"i{n % 7}", slot=f"s{n if n % 3 else n // 2}"))


BOTS: dict[str, Callable[[str], Events]] = {"interested": interested, "shown": shown, "labelled": labelled}


@pytest.fixture
def behind(url: str, start: Start) -> Server | None:
    """The server behind the store, None in memory."""
    return None if url == "memory://" else next(s for s in map(start, REAL) if s.url == url)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep the warnings about a full visitor, one per event, out of the log."""
    caplog.set_level(logging.CRITICAL, "retarget")


def bounded(store: Store, behind: Server | None, key: bytes) -> int:
    """Check that the visitor's data are bounded; returns the number of fields."""
    state = store.read(key)
    assert len(state) <= FIELDS
    assert max(map(len, state)) <= NAME
    assert sum(len(field) + len(raw) for field, raw in state.items()) <= BYTES
    if behind is not None:
        with behind.client(socket_timeout=servers.PATIENCE) as client:
            assert client.memory_usage(key.decode(), samples=0) <= MEMORY
            assert 0 < client.ttl(key.decode()) <= 91 * 86_400
    return len(state)


def storm(ads: Retargeter, store: Store, behind: Server | None, kind: str, batches: int, size: int) -> list[float]:
    """Run the bot; after each batch it is bounded. Returns the server's commands per event for each batch."""
    events, cost = BOTS[kind](kind), []
    for batch in range(1, batches + 1):
        before = sum(behind.commands().values()) if behind else 0
        ads.record_many(islice(events, size))
        cost.append((sum(behind.commands().values()) - before) / size if behind else 0)
        assert bounded(store, behind, b"rt:bots:2~" + kind.encode()) >= min(batch * size, MOST_TIMELINES) / 2
    return cost


def verdicts(ads: Retargeter) -> None:
    """The interested bot is capped as before; the others may be shown nothing more."""
    seen = Candidate("back", item="seen")
    decision = ads.decide("interested", [seen, "c1"])
    assert (decision[seen].reason, decision[seen].seen, decision[seen].limit) == ("cap", 2, 2)
    assert decision.eligible == ("c1",)
    for bot in ("shown", "labelled"):
        decision = ads.decide(bot, ["c1", "never-seen", Candidate("back", item="i1")])
        assert {decision[candidate].reason for candidate in decision} == {"full"}
        assert decision.eligible == ()
        assert ads.claim(bot, ["never-seen"]) is None
        assert ads.claim(bot, ["never-seen"], hold="1 minute", id="again") is None
        assert ads.record(bot, "impression", "never-seen") is False


def rage(ads: Retargeter, store: Store, behind: Server | None, batches: int, size: int) -> None:
    """All three bots, one after another, and their verdicts."""
    ads.record_many([("interested", "impression", Candidate("back", item="seen"))] * 2)
    ads.record("interested", "visit", "product/seen")
    for kind in BOTS:
        cost = storm(ads, store, behind, kind, batches, size)
        assert max(cost) <= COMMANDS
        assert cost[-1] <= max(cost[1:-1]) + 0.1, cost  # the first batch sends the script, and finds room
    verdicts(ads)
    assert ads.decide("somebody", ["c1"]).eligible == ("c1",)
    for kind in BOTS:
        assert ads.forget(kind) is True
        assert dict(store.read(b"rt:bots:2~" + kind.encode())) == {}


def test_a_bot_stays_bounded_in_every_store(ads: Ads, store: Store, behind: Server | None) -> None:
    """Thousands of products, campaigns, labels: fields, bytes and commands per event, and the verdict at the end."""
    rage(ads(POLICY, prefix="rt:bots:"), store, behind, 4, MOST_TIMELINES * 3 // 8)


@pytest.mark.soak
def test_a_million_events_stay_bounded_in_every_store(ads: Ads, store: Store, behind: Server | None) -> None:
    """The same, a million and two thousand times, a thousand to a batch."""
    rage(ads(POLICY, prefix="rt:bots:"), store, behind, 334, 1_000)


# -- in the process ----------------------------------------------------------------------------------------------------


class Nothing(MemoryStore):
    """A store that accepts everything and remembers nothing, so that only the library can grow."""

    def write(self, write: object) -> int:
        """Counted, it says."""
        return 1


def objects() -> int:
    """How many objects the process holds that can hold others."""
    gc.collect()
    return len(gc.get_objects())


def everything(ads: Retargeter, numbers: range) -> None:
    """Calls with new visitors, events, subjects, campaigns and labels."""
    for n in numbers:
        bot, item = f"v{n}", Candidate("back", item=f"{n}")
        ads.record(bot, "visit", f"product/{n}")
        ads.record(bot, f"visit-{n}", item, id=f"{n}")
        assert ads.claim(bot, [f"c{n}"], id=f"{n}") is not None
        assert None not in [ads.claim(bot, [item], hold=hold) for hold in ("1 minute", "2 minutes")]
        decision = ads.decide(bot, [f"c{n}", item])
        assert [decision[candidate].eligible for candidate in decision] == [True, False]


def grown(clock: Any, peaks: int, size: int) -> int:
    """By how many objects the process still grows once every cache is full."""
    ads = Retargeter(Policy.from_text(FEW_RULES), Nothing(), clock=clock)
    seen = []
    for start in range(0, peaks * size, size):
        everything(ads, range(start, start + size))
        seen.append(objects())
    return max(seen[peaks // 2 :]) - max(seen[: peaks // 2])


FEW_RULES = '[defaults]\n[campaign.back]\naudience = ["visit product/{item}"]'


def test_a_second_full_of_new_names_fills_no_memory(clock: Clock) -> None:
    """The clock stands still, as in a replay or a busy second: what is cached for a second is bounded too."""
    assert grown(clock, 9, 512) < 10_000


@pytest.mark.soak
def test_a_second_of_two_hundred_thousand_new_names_fills_no_memory(clock: Clock) -> None:
    """The same with as many of each."""
    assert grown(clock, 20, 10_000) < 10_000
