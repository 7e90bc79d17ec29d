"""Formulas: a rule as clauses of literals, and how formulas are combined. What an atom says is the caller's business.

Rules:
- A formula is a conjunction of clauses, a clause a disjunction of literals; a literal is an atom that must be true, or
  one that must be false. Any hashable value is an atom.
- Combining keeps formulas small: a clause that always holds, or that follows from a shorter one, is dropped.
- "And" adds clauses up, "or" multiplies them. A formula of more than `MOST_CLAUSES` clauses is refused, with the number
  that it expands to.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from math import prod
from typing import Any, TypeAlias, TypeVar

from retarget.errors import PolicyError

MOST_CLAUSES = 256
"""The most clauses one rule may have."""

_MOST_BETWEEN = 4 * MOST_CLAUSES
"""The most clauses while formulas are joined: which of them come first must not decide what is refused."""

Atom = TypeVar("Atom", bound=Hashable)
Clause: TypeAlias = frozenset[tuple[Atom, bool]]
Formula: TypeAlias = frozenset[Clause[Atom]]
"""A conjunction of clauses, each a disjunction of literals."""

TRUE: Formula[Any] = frozenset()
FALSE: Formula[Any] = frozenset([frozenset()])


def literal(atom: Atom, *, wanted: bool = True) -> Formula[Atom]:
    """The formula of one literal."""
    return frozenset([frozenset([(atom, wanted)])])


def all_of(formulas: Iterable[Formula[Atom]]) -> Formula[Atom]:
    """The formula that holds if all of them hold."""
    return frozenset().union(*formulas)


def any_of(formulas: Iterable[Formula[Atom]]) -> Formula[Atom]:
    """The formula that holds if one of them holds ("or" distributed over "and"). Raises PolicyError if too large."""
    clauses = _any_of(formulas)
    if isinstance(clauses, int):
        raise PolicyError(
            [
                f"any, who and segments expand to {clauses:,} clauses, at most {MOST_CLAUSES} are allowed: "
                "use fewer of them"
            ]
        )
    return clauses


def clauses_of_any(formulas: Iterable[Formula[Atom]]) -> int:
    """How many clauses `any_of` comes to; where it refuses, how many they are before they are simplified."""
    clauses = _any_of(formulas)
    return clauses if isinstance(clauses, int) else len(clauses)


def negated(formula: Formula[Atom]) -> Formula[Atom]:
    """The formula that holds if this one does not. Raises PolicyError if it would be too large."""
    return any_of(frozenset(frozenset([(atom, not wanted)]) for atom, wanted in clause) for clause in formula)


def _any_of(formulas: Iterable[Formula[Atom]]) -> Formula[Atom] | int:
    """One of them, simplified; if that is too large, the number of its clauses."""
    clauses: Formula[Atom] = FALSE
    parts = list(formulas)
    for position, part in enumerate(parts):
        joined = None if len(clauses) * len(part) > MOST_CLAUSES**2 else _joined(clauses, part)
        if joined is None:
            return prod(map(len, parts[position:]), start=len(clauses))
        clauses = joined
    return clauses if len(clauses) <= MOST_CLAUSES else len(clauses)


def outsides(formulas: Iterable[Formula[Atom]]) -> Iterator[Formula[Atom]]:
    """For each of these formulas, that it is not the first that holds; and at last, that one of them holds.

    Each is built from the one before, not by negating what negates it: that is larger by far in between. Raises
    PolicyError, once it gets there, for one that is too large.
    """
    earlier: Formula[Atom] = FALSE
    for formula in formulas:
        yield any_of([earlier, negated(formula)])
        earlier = any_of([earlier, formula])
    yield earlier


def _joined(one: Formula[Atom], other: Formula[Atom]) -> Formula[Atom] | None:
    """One or the other, simplified; None if that leaves too many clauses to go on with."""
    pairs = {left | right for left in one for right in other}
    undecided = [clause for clause in pairs if not any((atom, not wanted) in clause for atom, wanted in clause)]
    kept: list[Clause[Atom]] = []
    for clause in sorted(undecided, key=len):  # what a clause follows from is shorter
        if not any(shorter < clause for shorter in kept):
            kept.append(clause)
            if len(kept) > _MOST_BETWEEN:
                return None
    return frozenset(kept)
