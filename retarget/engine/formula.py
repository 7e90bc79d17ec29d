"""Terms: the atoms of the engine's formulas. `policy.formula` combines them.

Rules:
- A term is a fact whose subject may still be a template.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from retarget import policy
from retarget.policy import FALSE, MOST_CLAUSES, TRUE, all_of, any_of, negated
from retarget.timelines import Window

__all__ = ["FALSE", "MOST_CLAUSES", "TRUE", "Clause", "Formula", "Term", "all_of", "any_of", "negated"]


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


Clause: TypeAlias = policy.Clause[Term]
Formula: TypeAlias = policy.Formula[Term]
"""A conjunction of clauses, each a disjunction of literals."""
