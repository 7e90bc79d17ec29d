"""Formulas: a rule as clauses of literals, and how formulas are combined.

Rules:
- A formula is a conjunction of clauses, a clause a disjunction of literals; a literal is a term that must be true, or
  one that must be false.
- Combining keeps formulas small: a clause that always holds, or that follows from a shorter one, is dropped. A formula
  of more than `MOST_CLAUSES` clauses is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from retarget.errors import PolicyError
from retarget.timelines import Window

MOST_CLAUSES = 256
"""The most clauses one rule may have."""


class Topic(NamedTuple):
    """What a timeline is about: how the names of its kind begin, and its subject, which may be a template.

    Without a subject it is about any.
    """

    begins: str
    subject: str | None = None


class AnchorTerm(NamedTuple):
    """An anchor whose subject may still be a template: the n-th newest entry about this topic, and `after` seconds."""

    topic: Topic
    n: int
    after: int


class Term(NamedTuple):
    """A fact whose subject may still be a template; `keep` entries answer it, and say how many there were."""

    topic: Topic
    n: int
    window: Window
    keep: int
    anchor: AnchorTerm | None = None


Clause: TypeAlias = frozenset[tuple[Term, bool]]
Formula: TypeAlias = frozenset[Clause]
"""A conjunction of clauses, each a disjunction of literals."""

TRUE: Formula = frozenset()
FALSE: Formula = frozenset([frozenset()])


def all_of(formulas: Iterable[Formula]) -> Formula:
    """The formula that holds if all of them hold."""
    return frozenset().union(*formulas)


def any_of(formulas: Iterable[Formula]) -> Formula:
    """The formula that holds if one of them holds ("or" distributed over "and"). Raises PolicyError if too large."""
    clauses: Formula = FALSE
    for formula in formulas:
        if len(clauses) * len(formula) > MOST_CLAUSES**2:  # too many even to simplify
            raise _too_many(len(clauses) * len(formula))
        joined = {one | other for one in clauses for other in formula}
        undecided = [clause for clause in joined if not any((term, not wanted) in clause for term, wanted in clause)]
        clauses = frozenset(clause for clause in undecided if not any(other < clause for other in undecided))
        if len(clauses) > MOST_CLAUSES:
            raise _too_many(len(clauses))
    return clauses


def _too_many(clauses: int) -> PolicyError:
    return PolicyError(
        [f"any, who and segments expand to {clauses:,} clauses, at most {MOST_CLAUSES} are allowed: use fewer of them"]
    )


def negated(formula: Formula) -> Formula:
    """The formula that holds if this one does not."""
    return any_of(frozenset(frozenset([(term, not wanted)]) for term, wanted in clause) for clause in formula)
