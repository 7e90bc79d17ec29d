"""Formulas: what a rule says, as clauses of literals, and how they are joined.

Rules:
- A formula is a conjunction of clauses, a clause a disjunction of literals; a literal is a term that must be true, or
  one that must be false.
- Joining keeps formulas small: a clause that always holds, or that follows from a shorter one, is dropped. One that
  grows beyond reason is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from retarget.errors import PolicyError
from retarget.timelines import Window

MOST_CLAUSES = 256
"""The most clauses one rule may come to."""


class Term(NamedTuple):
    """A fact whose subject may still be a template; `keep` entries answer it and tell how many there were."""

    event: str
    subject: str | None
    n: int
    window: Window
    keep: int


Clause: TypeAlias = frozenset[tuple[Term, bool]]
Formula: TypeAlias = frozenset[Clause]
"""A conjunction of clauses, each a disjunction of literals."""

TRUE: Formula = frozenset()
FALSE: Formula = frozenset([frozenset()])


def all_of(formulas: Iterable[Formula]) -> Formula:
    """What holds where all of them do."""
    return frozenset().union(*formulas)


def any_of(formulas: Iterable[Formula]) -> Formula:
    """Distribute "or" over "and"; clauses that always hold, or that follow from a shorter one, are dropped."""
    clauses: Formula = FALSE
    for formula in formulas:
        if len(clauses) * len(formula) > MOST_CLAUSES**2:
            raise _too_intricate(len(clauses) * len(formula))
        joined = {one | other for one in clauses for other in formula}
        open_ones = [c for c in joined if not any((term, not wanted) in c for term, wanted in c)]
        clauses = frozenset(c for c in open_ones if not any(other < c for other in open_ones))
        if len(clauses) > MOST_CLAUSES:
            raise _too_intricate(len(clauses))
    return clauses


def _too_intricate(clauses: int) -> PolicyError:
    return PolicyError(
        [f"any, who and segments come to {clauses:,} clauses, at most {MOST_CLAUSES}: use fewer of them"]
    )


def negated(formula: Formula) -> Formula:
    """What holds where it does not."""
    return any_of(frozenset(frozenset([(term, not wanted)]) for term, wanted in clause) for clause in formula)
