"""Claims and records as writes: a candidate's facts as guards, so that the store itself judges them.

Rules:
- The alternatives of one second are the same for every visitor: they are built once and cached in `PlanAt`.
- Nothing here reads a clock or a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain

from retarget.engine.places import Place
from retarget.engine.plan import BoundClause, Plan, compile_subject
from retarget.engine.view import PlanAt
from retarget.events import Candidate, Subject
from retarget.timelines import IMPRESSION, LAST_MOMENT, NO_OUTCOME, Alternative, Enter, Guard, timeline


def claim_alternatives(plan_at: PlanAt, subject: Subject) -> tuple[Alternative, ...]:
    """What counts an impression of the candidate if it is eligible; empty if the clock forbids it."""
    known = plan_at.claims.get(subject)
    if known is None:
        plan, compiled = plan_at.plan, compile_subject(plan_at.plan, subject)
        known = ()
        if plan_at.is_open(compiled.openings) and () not in compiled.guards:
            places = plan.places(IMPRESSION, compiled.candidate)
            guards = claim_guards(plan_at, subject)
            known = alternatives(plan, places, plan_at.now, plan_at.now, guards, outcome(subject))
        plan_at.claims[subject] = known
    return known


def claim_guards(plan_at: PlanAt, subject: Subject) -> tuple[Guard, ...]:
    """The guards that hold if the visitor's history lets the candidate be shown."""
    clauses = compile_subject(plan_at.plan, subject).guards
    return tuple(guard for clause in clauses for guard in _guards(clause, plan_at))


def alternatives(
    plan: Plan, places: Iterable[Place], at: int, now: int, guards: tuple[Guard, ...] = (), outcome: bytes = NO_OUTCOME
) -> tuple[Alternative, ...]:
    """What enters an event of second `at` in these places: one alternative, as a tuple.

    The visitor was active at that second, if a rule asks about it.
    """
    places, activity = tuple(places), plan.activity(at, at)
    entries = tuple(Enter(place.field, at, place.weight, place.keep, place.head) for place in places)
    horizons = [*(place.horizon for place in places), *(timeline.seconds_of(cover.head) for cover in activity)]
    ttl = max((horizon + 1 + at - now for horizon in horizons), default=1)
    return (Alternative(guards, (*entries, *activity), max(1, ttl), outcome),)


def outcome(subject: Subject) -> bytes:
    """What tells the candidates of one claim apart, remembered with the claim's id: 5 bytes."""
    labels = subject.labels if isinstance(subject, Candidate) else ()
    campaign = subject.campaign if isinstance(subject, Candidate) else subject
    return blake2b("\0".join([campaign, *chain.from_iterable(labels)]).encode(), digest_size=len(NO_OUTCOME)).digest()


def _guards(clause: BoundClause, plan_at: PlanAt) -> Iterator[Guard]:
    """A clause as guards joined by "or"."""
    for position, (fact, wanted) in enumerate(clause):
        since = min(max(0, fact.window.since(plan_at.now, plan_at.zone)), LAST_MOMENT)
        more = position < len(clause) - 1
        yield Guard(fact.field, max(0, fact.n), since, wanted, more, fact.anchor)
