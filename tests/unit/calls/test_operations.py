"""operations.py: lists of any length, and what a repeated claim returns."""

from __future__ import annotations

from retarget import (
    Candidate,
    Policy,
    Retargeter,
)
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
