"""formula.py: combining formulas, compared with truth tables; what is dropped, and what is refused."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.engine.formula import FALSE, MOST_CLAUSES, TRUE, Formula, Term, all_of, any_of, negated
from retarget.errors import PolicyError
from retarget.timelines import Rolling

TERMS = [Term("visit", name, 1, Rolling(60), 1) for name in "abcd"]
LITERALS = st.tuples(st.sampled_from(TERMS), st.booleans())
FORMULAS: st.SearchStrategy[Formula] = st.frozensets(st.frozensets(LITERALS, max_size=3), max_size=4)
WORLDS = [dict(zip(TERMS, truth, strict=True)) for truth in product([False, True], repeat=len(TERMS))]


def one(number: int, *, wanted: bool = True) -> Formula:
    """The formula of one term."""
    return frozenset([frozenset([(Term("visit", str(number), 1, Rolling(60), 1), wanted)])])


def holds(formula: Formula, world: dict[Term, bool]) -> bool:
    """Whether the formula holds, by its definition."""
    return all(any(world[term] is wanted for term, wanted in clause) for clause in formula)


def table(formula: Formula) -> list[bool]:
    """Whether the formula holds, in every world."""
    return [holds(formula, world) for world in WORLDS]


@given(st.lists(FORMULAS, max_size=3))
@settings(max_examples=100)
def test_all_of_is_and(formulas: list[Formula]) -> None:
    """It holds exactly where all hold; of none, always."""
    assert table(all_of(formulas)) == [all(holds(formula, world) for formula in formulas) for world in WORLDS]


@given(st.lists(FORMULAS, max_size=3))
@settings(max_examples=100)
def test_any_of_is_or(formulas: list[Formula]) -> None:
    """It holds exactly where one holds; of none, never."""
    assert table(any_of(formulas)) == [any(holds(formula, world) for formula in formulas) for world in WORLDS]


@given(FORMULAS)
@settings(max_examples=100)
def test_negated_is_not(formula: Formula) -> None:
    """It holds exactly where the formula does not."""
    assert table(negated(formula)) == [not holds(formula, world) for world in WORLDS]


@given(st.lists(FORMULAS, min_size=1, max_size=3))
@settings(max_examples=100)
def test_any_of_drops_what_says_nothing(formulas: list[Formula]) -> None:
    """No clause that always holds is left, and none that follows from a shorter one."""
    clauses = any_of(formulas)
    assert not any((term, not wanted) in clause for clause in clauses for term, wanted in clause)
    assert not any(one < other for one in clauses for other in clauses)


def test_true_and_false() -> None:
    """Always and never are each other's negation, and neutral where they should be."""
    formula = one(1)
    assert (negated(TRUE), negated(FALSE)) == (FALSE, TRUE)
    assert any_of([FALSE, formula]) == all_of([TRUE, formula]) == formula
    assert any_of([TRUE, formula]) == TRUE


def test_the_largest_formula_is_allowed() -> None:
    """2 x 2 x ... clauses up to the bound."""
    pairs = [all_of([one(2 * n), one(2 * n + 1)]) for n in range(8)]
    assert len(any_of(pairs)) == MOST_CLAUSES == 256


def test_a_formula_that_grows_beyond_the_bound_is_refused() -> None:
    """The message has the number of clauses, the bound, and what to use fewer of."""
    pairs = [all_of([one(2 * n), one(2 * n + 1)]) for n in range(9)]
    with pytest.raises(PolicyError, match="any, who and segments expand to 512 clauses, at most 256 are allowed"):
        any_of(pairs)


def test_a_formula_too_large_even_to_simplify_is_refused_at_once() -> None:
    """A product of more than 256 x 256 clauses is not computed."""
    widest, wider = all_of(one(n) for n in range(256)), all_of(one(n) for n in range(1_000, 1_300))
    with pytest.raises(PolicyError, match="expand to 76,800 clauses"):
        any_of([widest, wider])
    assert any_of([widest, TRUE]) == TRUE
