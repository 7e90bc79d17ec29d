"""Recording: the write that counts an event, and what its answer means to the caller.

Rules:
- What an event enters depends on the event, the plan and the second, never on the visitor: computed once per second.
- An event that no rule could ask about any more is dropped, and reported in the log `retarget`.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from retarget.calls.clock import Clock
from retarget.calls.inputs import check_event, event_id, event_key
from retarget.calls.visitors import Visitors
from retarget.engine import Plan, alternatives, outcome
from retarget.events import Event
from retarget.timelines import DENIED, FULL, LATE, NO_OUTCOME, SLACK, Alternative, Answer, Write

_log = logging.getLogger("retarget")


def event_write(plan: Plan, clock: Clock, visitors: Visitors, event: Event) -> Write | bool:
    """The write that counts an event, or the result where there is nothing to write. Raises InputError."""
    moment = clock.happened(event.at, "at")
    at, now = moment.second, clock.judged(moment)
    id_ = event_id(event.event, event.id)
    choices = _event_alternatives(plan, clock, event, at, now)
    if event.visitor is None:
        return False
    key = visitors.key(event.visitor)
    if choices is None:
        report_too_old("record", at)
        return False
    if not (id_ or choices[0].changes):
        return True
    return Write(key, now, id_, choices)


def was_counted(answer: Answer) -> bool:
    """Whether the write counted the event; one that was dropped is reported."""
    if answer == LATE:
        report_too_old("record", None)
    elif answer == FULL:
        _log.warning("record: this visitor's timelines are full; the event was dropped")
    return isinstance(answer, int) and answer > DENIED


def _event_alternatives(plan: Plan, clock: Clock, event: Event, at: int, now: int) -> tuple[Alternative, ...] | None:
    """What enters the event; None if it is too old for every rule."""
    plan_at, key = clock.plan_at(plan, now, None), event_key(event)
    known = plan_at.records.get(key) if at == now else None
    if known is not None:
        return known
    places = plan.places(event.event, check_event(event))
    is_fresh = any(at >= now - place.horizon for place in places) or plan.asks_activity(at, now)
    if places and not is_fresh:
        return None
    fresh = [place for place in places if at >= now - place.horizon - SLACK]  # a caller's clock may be behind
    remembered = outcome(event.subject) if event.subject is not None else NO_OUTCOME
    choices = alternatives(plan, fresh, at, now, outcome=remembered)
    if at == now:
        plan_at.records[key] = choices
    return choices


def report_too_old(call: str, at: int | None) -> None:
    """Log that an event was not counted, since no rule asks about one that old."""
    when = f"of {datetime.fromtimestamp(at, UTC).isoformat()} " if at is not None else ""
    _log.warning(
        "%s: an event %sis older than any rule asks about, and was dropped (for an old log, give a clock= of its time)",
        call,
        when,
    )
