"""formula.py: combining formulas, compared with truth tables; what is dropped, and what is refused."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.errors import PolicyError
from retarget.policy.formula import (
    FALSE,
    MOST_CLAUSES,
    TRUE,
    Formula,
    all_of,
    any_of,
    clauses_of_any,
    literal,
    negated,
    outsides,
)

ATOMS = "abcd"
LITERALS = st.tuples(st.sampled_from(ATOMS), st.booleans())
FORMULAS: st.SearchStrategy[Formula[str]] = st.frozensets(st.frozensets(LITERALS, max_size=3), max_size=4)
WORLDS = [dict(zip(ATOMS, truth, strict=True)) for truth in product([False, True], repeat=len(ATOMS))]


def holds(formula: Formula[str], world: dict[str, bool]) -> bool:
    """Whether the formula holds, by its definition."""
    return all(any(world[atom] is wanted for atom, wanted in clause) for clause in formula)


def table(formula: Formula[str]) -> list[bool]:
    """Whether the formula holds, in every world."""
    return [holds(formula, world) for world in WORLDS]


def pairs(count: int) -> list[Formula[int]]:
    """Formulas of two atoms each, all different."""
    return [all_of([literal(2 * n), literal(2 * n + 1)]) for n in range(count)]


@given(st.lists(FORMULAS, max_size=3))
@settings(max_examples=100)
def test_all_of_is_and(formulas: list[Formula[str]]) -> None:
    """It holds exactly where all hold; of none, always."""
    assert table(all_of(formulas)) == [all(holds(formula, world) for formula in formulas) for world in WORLDS]


@given(st.lists(FORMULAS, max_size=3))
@settings(max_examples=100)
def test_any_of_is_or(formulas: list[Formula[str]]) -> None:
    """It holds exactly where one holds; of none, never."""
    assert table(any_of(formulas)) == [any(holds(formula, world) for formula in formulas) for world in WORLDS]


@given(FORMULAS)
@settings(max_examples=100)
def test_negated_is_not(formula: Formula[str]) -> None:
    """It holds exactly where the formula does not."""
    assert table(negated(formula)) == [not holds(formula, world) for world in WORLDS]


@given(st.lists(FORMULAS, min_size=1, max_size=3))
@settings(max_examples=100)
def test_any_of_drops_what_says_nothing(formulas: list[Formula[str]]) -> None:
    """No clause that always holds is left, and none that follows from a shorter one."""
    clauses = any_of(formulas)
    assert not any((atom, not wanted) in clause for clause in clauses for atom, wanted in clause)
    assert not any(one < other for one in clauses for other in clauses)


@given(st.permutations(range(3)), st.lists(FORMULAS, min_size=3, max_size=3))
def test_the_order_of_or_does_not_matter(order: list[int], formulas: list[Formula[str]]) -> None:
    """The same clauses, whichever formula comes first."""
    assert any_of(formulas) == any_of(formulas[index] for index in order)


def test_true_and_false() -> None:
    """Always and never are each other's negation, and neutral where they should be."""
    formula = literal("a")
    assert (negated(TRUE), negated(FALSE)) == (FALSE, TRUE)
    assert any_of([FALSE, formula]) == all_of([TRUE, formula]) == formula
    assert any_of([TRUE, formula]) == TRUE
    assert negated(formula) == literal("a", wanted=False)


def test_the_largest_formula_is_allowed() -> None:
    """2 x 2 x ... clauses up to the bound."""
    assert len(any_of(pairs(8))) == MOST_CLAUSES == 256


@pytest.mark.parametrize(("count", "clauses"), [(9, "512"), (12, "4,096"), (40, "1,099,511,627,776")])
def test_a_formula_that_grows_beyond_the_bound_is_refused(count: int, clauses: str) -> None:
    """The message has the number of clauses that it expands to, the bound, and what to use fewer of."""
    with pytest.raises(
        PolicyError, match=f"any, who and segments expand to {clauses} clauses, at most 256 are allowed"
    ):
        any_of(pairs(count))


def test_a_formula_may_be_larger_in_between() -> None:
    """512 clauses, all but one of which follow from a last one, are one clause: nine pairs, or an atom of each."""
    one_of_each = frozenset([frozenset((2 * n, True) for n in range(9))])
    assert any_of([*pairs(9), one_of_each]) == any_of([one_of_each, *pairs(9)])


def test_a_formula_too_large_even_to_simplify_is_refused_at_once() -> None:
    """A product of more than 256 x 256 clauses is not computed; one that simplifies to nothing is."""
    widest, wider = all_of(literal(n) for n in range(256)), all_of(literal(n) for n in range(1_000, 1_300))
    with pytest.raises(PolicyError, match="expand to 76,800 clauses"):
        any_of([widest, wider])
    with pytest.raises(PolicyError, match="expand to 65,536 clauses"):
        any_of([widest, all_of(literal(n) for n in range(1_000, 1_256))])
    assert any_of([widest, TRUE]) == TRUE


@given(st.lists(FORMULAS, max_size=3))
@settings(max_examples=100)
def test_outsides(formulas: list[Formula[str]]) -> None:
    """For each formula, the worlds in which it is not the first that holds; at last those in which one holds."""
    first = [
        [holds(formula, world) for formula in formulas].index(True) if holds_any(formulas, world) else None
        for world in WORLDS
    ]
    *each, anywhere = outsides(formulas)
    assert [table(formula) for formula in each] == [[one != n for one in first] for n in range(len(formulas))]
    assert table(anywhere) == [one is not None for one in first]


def holds_any(formulas: list[Formula[str]], world: dict[str, bool]) -> bool:
    """Whether one of them holds."""
    return any(holds(formula, world) for formula in formulas)


def test_outsides_do_not_grow_in_between() -> None:
    """Formulas that are small, though what negates them is not: each is built from the one before."""
    parts = [all_of(any_of(literal(10 * n + m) for m in range(5)) for n in range(3)), literal(99), literal(100)]
    assert [len(formula) for formula in outsides(parts)] == [125, 3, 3, 3]


def test_the_size_of_what_is_too_large() -> None:
    """The number that the refusal names; and the number of clauses of what is not refused."""
    assert clauses_of_any(pairs(3)) == 8
    assert clauses_of_any(pairs(12)) == 4_096
