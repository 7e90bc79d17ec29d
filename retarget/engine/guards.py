"""Claims and records as writes: a candidate's facts as guards, so that the store itself judges them.

Rules:
- The alternatives of one second are the same for every visitor: they are built once and cached in `PlanAt`.
- Nothing here reads a clock or a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from retarget.engine.places import Place
from retarget.engine.plan import BoundClause, Plan, compile_subject
from retarget.engine.view import PlanAt
from retarget.events import Subject
from retarget.timelines import ACTIVITY, DAY, IMPRESSION, LAST_MOMENT, NO_OUTCOME, Alternative, Enter, Guard


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
    """What enters an event of second `at` in these places: one alternative, or two if a rule asks about sessions.

    The first continues the visitor's session, the second starts one.
    """
    if not plan.has_sessions:
        return (_alternative(places, at, now, guards, outcome),)
    activity, started = plan.session_places()
    going_on = Guard(ACTIVITY, 1, max(0, at - plan.alive.window.horizon), wanted=True, more=False, anchored=False)
    return (
        _alternative([*places, activity], at, now, (*guards, going_on), outcome),
        _alternative([*places, activity, started], at, now, guards, outcome),
    )


def outcome(subject: Subject) -> bytes:
    """Three bytes that tell the candidates of one claim apart, remembered with the claim's id."""
    return blake2b(str(subject).encode(), digest_size=3).digest()


def _alternative(places: Iterable[Place], at: int, now: int, guards: tuple[Guard, ...], outcome: bytes) -> Alternative:
    """An id is remembered as long as the entries it counted; for a day if no rule asks about its event."""
    places = tuple(places)
    entries = tuple(Enter(place.field, at, place.weight, place.keep, place.head) for place in places)
    ttl = max((place.horizon + 1 + at - now for place in places), default=DAY)
    return Alternative(guards, entries, max(1, ttl), outcome)


def _guards(clause: BoundClause, plan_at: PlanAt) -> Iterator[Guard]:
    """A clause as guards joined by "or"."""
    for position, (fact, wanted) in enumerate(clause):
        since = min(max(0, fact.window.since(plan_at.now, plan_at.zone)), LAST_MOMENT)
        more = position < len(clause) - 1
        yield Guard(fact.field, max(0, fact.n), since, wanted, more, fact.window.anchored)
