"""Visitors who are full: whether a visitor's timelines leave room to count, and which rule makes most of them.

Rules:
- A visitor is full once as many timelines as may be kept still matter to rules that block: nothing can be evicted.
- The rule that is named is the one that most of these timelines are kept for; each is kept for the blocking rule that
  looks back furthest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from retarget.engine.plan import Plan
from retarget.timelines import HELD, MOST_TIMELINES, State, timeline


def is_full(state: State, now: int) -> bool:
    """Whether the timelines that still matter leave no room to count. Raises StoreError for a corrupt one."""
    return len(state) >= MOST_TIMELINES and sum(1 for _ in _needed(state, now)) >= MOST_TIMELINES


def crowding_rule(plan: Plan, state: State, now: int) -> str | None:
    """The rule, as written, that most of the timelines that cannot be evicted are kept for.

    None where the policy asks about none of them. Raises StoreError for a corrupt one.
    """
    fields = (field[1:] if field[:1] == HELD else field for field in _needed(state, now))
    rules = Counter(rule for field in fields if (rule := plan.blocking(field)) is not None)
    return max(rules, key=rules.__getitem__, default=None)


def _needed(state: State, now: int) -> Iterator[bytes]:
    """The timelines that cannot be evicted."""
    for field, raw in state.items():
        if field[:1] != b"#":
            timeline.check(field, raw)
            if timeline.is_shield(raw) and timeline.is_live(raw, now):
                yield field
