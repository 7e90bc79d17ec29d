"""errors.py: one tree of errors, each of which survives pickling and copying with everything it says."""

from __future__ import annotations

import pytest

from retarget import InputError, NotExecuted, OutcomeUnknown, PartlyExecuted, PolicyError, RetargetError, errors
from tests.support.copies import COPIES

RESULTS: list[bool | errors.StoreError] = [
    True,
    NotExecuted("it was down"),
    False,
    OutcomeUnknown("the reply was lost"),
]
EXAMPLES = [
    *(
        kind("what is wrong")
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception) and kind not in (PolicyError, PartlyExecuted)
    ),
    PolicyError(["caps[0]: wrong", "gap: wrong too"]),
    PartlyExecuted(RESULTS),
]


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_survives_pickle_and_copy(error: Exception, how: str) -> None:
    """The same class, message and attributes, notes included; so an error crosses a process pool."""
    error.add_note("during the test")
    same = COPIES[how](error)
    assert (type(same), str(same)) == (type(error), str(error))
    assert same.__notes__[-1] == "during the test"
    if isinstance(error, PolicyError):
        assert same.problems == error.problems
    if isinstance(error, PartlyExecuted):
        assert [str(result) for result in same.results] == [str(result) for result in error.results]
        assert [type(result) for result in same.results] == [bool, NotExecuted, bool, OutcomeUnknown]


def test_every_error_is_in_the_tree() -> None:
    """Catching RetargetError catches them all; the docstring draws the tree as it is."""
    for error in EXAMPLES:
        if not isinstance(error, Warning):
            assert isinstance(error, RetargetError)
            assert type(error).__name__ in (errors.__doc__ or "")


def test_a_policy_error_lists_its_problems_one_per_line() -> None:
    """`str()` for people, `problems` for programs."""
    error = PolicyError(["caps[0]: wrong", "gap: wrong too"])
    assert str(error).splitlines() == error.problems


def test_a_batch_that_failed_in_part_names_its_first_failure() -> None:
    """How many of how many, and why the first."""
    assert str(PartlyExecuted(RESULTS)) == "2 of 4 failed, the first with: it was down"
    claims = PartlyExecuted([None, InputError("counted for something else")])
    assert str(claims) == "1 of 2 failed, the first with: counted for something else"
