"""A visitor's timelines as a plan would have them stored, for tests of the engine without a client."""

from __future__ import annotations

import struct

from retarget.engine import Plan, PlanAt, View, alternatives, as_candidate
from retarget.events import Subject
from retarget.policy import Policy
from retarget.stores import MemoryStore
from retarget.timelines import HELD, State, Write, timeline

NOW = 1_794_312_000
"""Tuesday 10 November 2026, 12:00 UTC."""

Happened = tuple[str, Subject | None, int]
"""An event's name, its subject, and how many seconds before `NOW` it happened."""


def plan_of(toml: str) -> Plan:
    """The plan of a policy's text."""
    return Plan(Policy.from_text(toml))


def history(plan: Plan, *events: Happened) -> State:
    """The timelines of a visitor to whom these events happened, in this order."""
    store = MemoryStore()
    for event, subject, age in events:
        places = plan.places(event, None if subject is None else as_candidate(subject))
        store.write(Write(b"v", NOW - age, b"", alternatives(plan, places, NOW - age, NOW - age)))
    return store.read(b"v")


def view_of(plan: Plan, *events: Happened) -> View:
    """What the plan sees of that visitor at `NOW`, in its own time zone."""
    return View(PlanAt(plan, NOW, plan.zone), history(plan, *events))


def packed(*moments: int, horizon: int = 86_400, shield: bool = False) -> bytes:
    """A packed timeline."""
    return struct.pack(f">H{len(moments)}I", timeline.head(horizon, shield=shield), *moments)


def held(field: bytes, *ends: int) -> dict[bytes, bytes]:
    """The fields of holds in a timeline that end at these seconds."""
    return {HELD: packed(max(ends), horizon=0), HELD + field: packed(*sorted(ends), horizon=0)}
