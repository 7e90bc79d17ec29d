"""Claims and records as writes: the facts of a candidate as guards, so that the store itself judges them.

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
from retarget.timelines import ACTIVITY, DAY, LAST_MOMENT, NO_OUTCOME, Alternative, Enter, Guard, timeline


def claim_alternatives(moment: PlanAt, subject: Subject) -> tuple[Alternative, ...]:
    """What counts an impression of the candidate if it is eligible; none where the clock forbids it."""
    try:
        known = moment.claims.get(subject)
    except TypeError:  # unhashable, so no candidate: compile_subject says it properly
        known = None
    if known is None:
        compiled = compile_subject(moment.plan, subject)
        known = ()
        if moment.is_open(compiled.openings) and () not in compiled.guards:
            places = moment.plan.places(timeline.IMPRESSION, compiled.candidate)
            guards = claim_guards(moment, subject)
            known = alternatives(moment.plan, places, moment.now, moment.now, guards, outcome(subject))
        moment.claims[subject] = known
    return known


def claim_guards(moment: PlanAt, subject: Subject) -> tuple[Guard, ...]:
    """The questions whose answers let the candidate be shown."""
    clauses = compile_subject(moment.plan, subject).guards
    return tuple(guard for clause in clauses for guard in _guards(clause, moment))


def alternatives(
    plan: Plan, places: Iterable[Place], at: int, now: int, guards: tuple[Guard, ...] = (), outcome: bytes = NO_OUTCOME
) -> tuple[Alternative, ...]:
    """What enters an event of moment `at` in these places: one alternative, or two where sessions are asked about."""
    if not plan.has_sessions:
        return (_alternative(places, at, now, guards, outcome),)
    activity, begun = plan.session_places()
    going_on = Guard(ACTIVITY, 1, max(0, at - plan.alive.window.horizon), wanted=True, more=False, anchored=False)
    return (
        _alternative([*places, activity], at, now, (*guards, going_on), outcome),
        _alternative([*places, activity, begun], at, now, guards, outcome),
    )


def outcome(subject: Subject) -> bytes:
    """Three bytes that tell the candidates of one claim apart, remembered with the claim's id."""
    return blake2b(str(subject).encode(), digest_size=3).digest()


def _alternative(places: Iterable[Place], at: int, now: int, guards: tuple[Guard, ...], outcome: bytes) -> Alternative:
    """An id is remembered as long as the entries it counted; for a day where no rule asks about its event."""
    places = tuple(places)
    entries = tuple(Enter(place.field, at, place.weight, place.keep, place.head) for place in places)
    ttl = max((place.horizon + 1 + at - now for place in places), default=DAY)
    return Alternative(guards, entries, max(1, ttl), outcome)


def _guards(clause: BoundClause, moment: PlanAt) -> Iterator[Guard]:
    for position, (fact, wanted) in enumerate(clause):
        since = min(max(0, fact.window.since(moment.now, moment.zone)), LAST_MOMENT)
        more = position < len(clause) - 1
        yield Guard(fact.field, max(0, fact.n), since, wanted, more, fact.window.anchored)
