"""operations.py: lists of any length, and what a repeated claim returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from retarget import (
    Candidate,
    InputError,
    MemoryStore,
    NotExecuted,
    PartlyExecuted,
    Policy,
    Retargeter,
    StoreError,
)
from retarget.calls.operations import BATCH
from retarget.timelines import MOST_TIMELINES, Answer, State, Write
from tests.support.fixtures import Clock

# -- a lot -------------------------------------------------------------------------------------------------------------


def test_a_million_candidates_are_decided_on(clock: Clock) -> None:
    """All known to the policy: in order; claimed too."""
    shop = Retargeter(
        Policy.from_text("".join(f'[campaign.c{n}]\ncaps = ["1 per day"]\n' for n in range(500))),
        "memory://",
        clock=clock,
    )
    for number in range(0, 500, 2):
        shop.claim("v", [f"c{number}"])
    candidates = [f"c{number % 500}" for number in range(1_000_000)]
    eligible = shop.decide("v", candidates).eligible
    claim = shop.claim("v", candidates)
    assert len(eligible) == 500_000
    assert set(eligible) == {f"c{number}" for number in range(1, 500, 2)}
    assert claim is not None
    assert claim.campaign == "c1"


def test_thousands_of_candidates_each_with_its_verdict(clock: Clock) -> None:
    """Items of a catalogue: a decision on each, and the verdict of each, which is looked up and not searched for."""
    shop = Retargeter(Policy.from_text('[defaults]\n[caps]\nitem = ["1 per day"]'), "memory://", clock=clock)
    shop.record("v", "impression", Candidate("shop", item="7"))
    candidates = [Candidate("shop", item=f"{n}") for n in range(5_000)]
    decision = shop.decide("v", candidates)
    assert [n for n, candidate in enumerate(candidates) if not decision[candidate].eligible] == [7]


class Failing(MemoryStore):
    """A store whose lists fail for the visitors named."""

    def __init__(self, *failing: bytes) -> None:
        super().__init__()
        self.failing = failing

    def read_many(self, keys: Sequence[bytes]) -> list[State | StoreError]:
        """`read` each, but for those that fail."""
        return [StoreError("down") if key in self.failing else self.read(key) for key in keys]

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        """`write` each, but for those that fail."""
        return [NotExecuted("down") if write.key in self.failing else self.write(write) for write in writes]


def test_each_visitor_of_a_list_is_decided_on_alone(clock: Clock) -> None:
    """One whose read fails gets the policy's answer, one who is unknown another, the rest their own."""
    store = Failing(b"rt:2~broken")
    shop = Retargeter(Policy.from_text('[campaign.a]\ncaps = ["1 per day"]'), store, clock=clock)
    shop.record("capped", "impression", "a")
    decisions = list(shop.decide_many(["fresh", "broken", None, "capped"]))
    assert [decision.eligible for decision in decisions] == [("a",), (), (), ()]
    assert [decision["a"].reason for decision in decisions] == ["eligible", "store error", "unknown visitor", "cap"]
    assert [decision.degraded is None for decision in decisions] == [True, False, True, True]


def test_a_list_longer_than_a_batch_is_read_as_it_is_needed(clock: Clock) -> None:
    """A generator of visitors is read a batch ahead, no further; answers keep their order."""
    read: list[int] = []

    def visitors() -> Iterator[str]:
        for number in range(2 * BATCH + 1):
            read.append(number)
            yield f"v{number}"

    shop = Retargeter(Policy.from_text('[campaign.a]\ncaps = ["1 per day"]'), MemoryStore(), clock=clock)
    shop.record(f"v{BATCH}", "impression", "a")
    decisions = shop.decide_many(visitors())
    next(decisions)
    assert len(read) == BATCH
    eligible = [("a",), *(decision.eligible for decision in decisions)]
    assert [number for number, found in enumerate(eligible) if not found] == [BATCH]
    assert len(eligible) == 2 * BATCH + 1


def test_a_batch_that_fails_in_part_has_every_outcome(clock: Clock) -> None:
    """PartlyExecuted: True, False or its own error for each event, in order."""
    store = Failing(b"rt:2~broken")
    shop = Retargeter(Policy.from_text('[campaign.a]\ncaps = ["1 per day"]'), store, clock=clock)
    with pytest.raises(PartlyExecuted, match="1 of 4 failed") as raised:
        shop.record_many(
            [
                ("v", "impression", "a", None, "x"),
                ("v", "impression", "a", None, "x"),
                (None, "visit"),
                ("broken", "impression", "a"),
            ]
        )
    assert [result if isinstance(result, bool) else type(result) for result in raised.value.results] == [
        True,
        False,
        False,
        NotExecuted,
    ]


def test_a_repeated_claim_finds_its_candidate(clock: Clock) -> None:
    """Among those given now, then among the policy's campaigns; elsewhere it is an error that says so."""
    shop = Retargeter(Policy.from_text("[defaults]\n[campaign.a]\n[campaign.b]"), MemoryStore(), clock=clock)
    for id_, candidate in (("1", "a"), ("2", Candidate("shop", item="x"))):
        assert shop.claim("v", [candidate], id=id_) is not None
    elsewhere = shop.claim("v", ["b"], id="1")
    assert elsewhere is not None
    assert (elsewhere.campaign, elsewhere.repeated) == ("a", True)
    given = shop.claim("v", ["b", Candidate("shop", item="x")], id="2")
    assert given is not None
    assert given.candidate == Candidate("shop", item="x")
    with pytest.raises(InputError, match="already counted, for a candidate that is not among those given now"):
        shop.claim("v", ["b"], id="2")


def test_a_full_visitor_is_blocked_with_that_reason(clock: Clock) -> None:
    """Nothing can be counted, so nothing may be shown; and a confirmation says that it was not counted."""
    shop = Retargeter(Policy.from_text('[defaults]\ncaps = ["3 per day"]'), MemoryStore(), clock=clock)
    claim = shop.claim("v", ["a"], hold="15 minutes")
    assert claim is not None
    shop.record_many([("v", "impression", f"c{number}") for number in range(MOST_TIMELINES)])
    assert shop.decide("v", ["b"])["b"].reason == "full"


def test_only_a_policy_that_allows_gives_a_claim_without_the_store(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed store: an uncounted claim with "allow", if any candidate could be shown; the log names the answer."""

    class Down(MemoryStore):
        def write(self, write: Write) -> Answer:
            raise NotExecuted("down for the test")

    text = 'on_store_error = "allow"\n[campaign.a]\nhours = "03:00-04:00"\n[campaign.b]'
    shop = Retargeter(Policy.from_text(text), Down(), clock=clock)
    claim = shop.claim("v")
    assert claim is not None
    assert (claim.campaign, claim.counted, str(claim.degraded)) == ("b", False, "down for the test")
    assert shop.claim("v", ["a"], id="bid-1") is None
    assert "claim: the store failed, on_store_error=allow: NotExecuted: down for the test" in caplog.messages


def test_merging_one_id_with_itself_is_refused(clock: Clock) -> None:
    """InputError, before the store is asked."""
    shop = Retargeter(Policy.from_text("[campaign.a]"), MemoryStore(), clock=clock)
    with pytest.raises(InputError, match="source and into are the same visitor"):
        shop.merge("v", into="v")
