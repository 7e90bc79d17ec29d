"""claiming.py: lists of claims where the store fails, an id was used before, or a request is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from retarget import (
    Claim,
    InputError,
    MemoryStore,
    NotExecuted,
    PartlyExecuted,
    Policy,
    Retargeter,
    StoreError,
)
from retarget.calls.inputs import ClaimRow
from retarget.calls.operations import BATCH
from retarget.timelines import Answer, Write
from tests.support.claims import OPEN, PAGE, RANKED, Lossy, Sent, campaigns, claimed
from tests.support.fixtures import Ads, Clock
from tests.support.holds import DAY

# -- stores that fail --------------------------------------------------------------------------------------------------


class Failing(MemoryStore):
    """A store whose writes fail for one visitor, or all at once."""

    def __init__(self, *, at_once: bool = False) -> None:
        super().__init__()
        self._at_once = at_once

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        """Fail those of one visitor."""
        if self._at_once:
            raise NotExecuted("down")
        return [NotExecuted("down") if b"broken" in write.key else self.write(write) for write in writes]


REQUESTS: list[ClaimRow] = [("v", RANKED), ("broken", RANKED), ("w", RANKED), ("broken", RANKED)]


def failing(answer: str, *, at_once: bool = False) -> Retargeter:
    """A retargeter over that store."""
    store = Failing(at_once=at_once)
    return Retargeter(Policy.from_text(f'on_store_error = "{answer}"\n{PAGE}'), store, clock=lambda: 1_794_312_000)


@pytest.mark.parametrize("distinct", [False, True])
def test_a_request_whose_write_fails_is_answered_as_the_policy_says(
    caplog: pytest.LogCaptureFixture, *, distinct: bool
) -> None:
    """As a claim is: None, or uncounted with the error; the others are answered; the log has one line."""
    assert campaigns(failing("block").claim_many(REQUESTS, distinct=distinct)) == ["a", None, "a", None]
    claims = failing("allow").claim_many(REQUESTS, distinct=distinct)
    assert campaigns(claims) == ["a", "a", "a", "b" if distinct else "a"]
    assert [claimed(claim).counted for claim in claims] == [True, False, True, False]
    assert [type(claimed(claim).degraded) for claim in claims] == [type(None), NotExecuted, type(None), NotExecuted]
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [
        f"claim_many: the store failed, on_store_error={answer} for 2 claims: NotExecuted: down"
        for answer in ("block", "allow")
    ]


def test_a_list_of_which_requests_fail_has_all_answers(caplog: pytest.LogCaptureFixture) -> None:
    """With "raise": PartlyExecuted, and for each request its claim, None or its error."""
    with pytest.raises(PartlyExecuted, match=r"^2 of 4 failed, the first with: down") as raised:
        failing("raise").claim_many(REQUESTS)
    kinds = [type(result) for result in raised.value.results]
    assert kinds == [Claim, NotExecuted, Claim, NotExecuted]
    assert caplog.records == []


@pytest.mark.parametrize(("answer", "expected"), [("block", [None] * 4), ("allow", ["a", "a", "a", "b"])])
def test_a_store_that_fails_at_once_is_answered_alike(answer: str, expected: list[str | None]) -> None:
    """A store of one's own may raise in place of a list of errors."""
    assert campaigns(failing(answer, at_once=True).claim_many(REQUESTS, distinct=True)) == expected
    with pytest.raises(PartlyExecuted, match="4 of 4 failed"):
        failing("raise", at_once=True).claim_many(REQUESTS)


def test_what_is_allowed_without_the_store_does_not_name_what_was_counted() -> None:
    """Distinct: the place that failed comes first, and gets a campaign that no other place has."""
    store, clock = MemoryStore(), 1_794_312_000
    lossy: Any = Lossy(store, (False, True, False))
    ads = Retargeter(Policy.from_text(f'on_store_error = "allow"\n{OPEN}'), lossy, clock=lambda: clock)
    claims = ads.claim_many([("v", list("abc"))] * 3, distinct=True)
    assert campaigns(claims) == ["b", "a", "c"]


def test_a_repeat_of_which_one_cannot_be_told_has_all_answers(ads: Ads) -> None:
    """The others were counted: they are not lost for the one whose id was used for something else."""
    shop = ads("[defaults]")
    shop.claim("v", ["gone"], id="2")
    with pytest.raises(PartlyExecuted, match=r"^1 of 3 failed, the first with: this claim's id was already") as raised:
        shop.claim_many([("v", ["a"], "1"), ("v", ["b"], "2"), ("v", ["c"], "3")])
    kinds = [type(result) for result in raised.value.results]
    assert kinds == [Claim, InputError, Claim]


# -- wrong requests ----------------------------------------------------------------------------------------------------

WRONG: list[tuple[Any, str]] = [
    ("v", r"give \(visitor, candidates\) or \(visitor, candidates, id\), not a str"),
    (("v",), "not a tuple of 1"),
    (["v", ["a"], "id", 4], "not a list of 4"),
    (None, "not a NoneType"),
    ({"visitor": "v"}, "not a dict"),
    ((5, ["a"]), "a visitor's id must be a string"),
    (("v" * 600, ["a"]), "1 to 510 bytes"),
    (("v", "a"), "candidates='a': give a list"),
    (("v", ["gone"]), "campaign 'gone' is not in the policy"),
    (("v", [5]), "campaign 5 must be a string"),
    (("v", [[]]), "candidate"),
    (("v", ["a"], ""), "id='' is not a valid event id"),
    (("v", ["a"], 5), "id=5 is not a valid event id"),
]


@pytest.mark.parametrize(("row", "cure"), WRONG, ids=[f"{n}" for n in range(len(WRONG))])
@pytest.mark.parametrize("position", [0, 2, BATCH + 5])
def test_a_wrong_request_names_its_position_and_changes_nothing(row: Any, cure: str, position: int) -> None:
    """Whichever it is of however many: none is counted, and the message says what would be right."""
    store = Sent()
    ads = Retargeter(Policy.from_text(PAGE), store)
    requests: list[Any] = [("w", ["a"])] * position + [row, ("w", ["a"])]
    with pytest.raises(InputError, match=rf"^requests\[{position}\]: .*{cure}") as raised:
        ads.claim_many(requests)
    assert len(str(raised.value)) < 250
    assert (store.lists, len(store)) == ([], 0)


@pytest.mark.parametrize("requests", [None, 5, "v", b"v", {"v": ["a"]}])
def test_requests_must_come_as_a_list(requests: Any) -> None:
    """Not one request, not a mapping."""
    with pytest.raises(InputError, match=r"^requests is a .*: give a list of \(visitor, candidates, id\)"):
        Retargeter(Policy.from_text(PAGE), "memory://").claim_many(requests)


@pytest.mark.parametrize("options", [{"hold": "2 days"}, {"now": "noon"}, {"timezone": 1e9}])
def test_a_wrong_option_changes_nothing(options: dict[str, Any]) -> None:
    """It is for all of them, and names itself."""
    store = Sent()
    with pytest.raises(InputError, match=f"^{next(iter(options))}="):
        Retargeter(Policy.from_text(PAGE), store).claim_many([("v", ["a"])], **options)
    assert store.lists == []


def test_requests_are_read_once() -> None:
    """A generator will do."""

    def requests() -> Iterator[ClaimRow]:
        yield from (("v", ["a"]) for _ in range(3))

    assert campaigns(Retargeter(Policy.from_text(PAGE), "memory://").claim_many(requests())) == ["a", "a", None]


def test_remembered_denials_are_answered_without_the_store(clock: Clock) -> None:
    """Of a visitor found blocked, as a claim is; one with an id is asked all the same: it may be a repeat."""
    store = Sent()
    policy = Policy.from_text('[campaign.a]\ncaps = ["1 per day"]')
    ads = Retargeter(policy, store, clock=clock, remember_denials="10 seconds")
    ads.record("v", "impression", "a")
    assert ads.decide("v").eligible == ()
    assert campaigns(ads.claim_many([("v", ["a"]), ("w", ["a"]), ("v", ["a"])])) == [None, "a", None]
    assert campaigns(ads.claim_many([("v", ["a"], "id")])) == [None]
    assert store.lists == [1, 1]
    assert ads.decide("w", now=clock.now + DAY + 1).eligible == ("a",)
