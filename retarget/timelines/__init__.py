"""What is remembered of a visitor: packed timelines, windows, writes, keys, and the protocol of a store.

Imports `errors` and `events` at most; never a clock, a socket, pydantic or Redis.
"""

from retarget.timelines import keys, reservations, timeline
from retarget.timelines.keys import IDS_KEPT, RECORD
from retarget.timelines.store import AsyncStore, Health, State, Store
from retarget.timelines.timeline import (
    ACTIVITY,
    DELIVERED,
    DUE,
    ENTRY,
    HEAD,
    HELD,
    HOLD,
    IMPRESSION,
    LAST_MOMENT,
    MIN_KEEP,
    PARCEL,
    PARCEL_TO,
    POINTS,
    RECORDED,
    SKEW,
    SLACK,
    TAKEN,
)
from retarget.timelines.windows import (
    DAY,
    SESSION_AT_MOST,
    Anchor,
    Calendar,
    Days,
    Ends,
    Flight,
    Hours,
    LocalTime,
    Opening,
    Rolling,
    Starts,
    Window,
    end_instant,
    in_spans,
    instant,
)
from retarget.timelines.writes import (
    DENIED,
    FULL,
    LATE,
    MARK_BYTES,
    MOST_TIMELINES,
    NO_OUTCOME,
    Alternative,
    Answer,
    Change,
    Clear,
    Cover,
    Enter,
    Guard,
    Remove,
    Reserve,
    Reserved,
    Settle,
    Write,
)

__all__ = [
    "ACTIVITY",
    "DAY",
    "DELIVERED",
    "DENIED",
    "DUE",
    "ENTRY",
    "FULL",
    "HEAD",
    "HELD",
    "HOLD",
    "IDS_KEPT",
    "IMPRESSION",
    "LAST_MOMENT",
    "LATE",
    "MARK_BYTES",
    "MIN_KEEP",
    "MOST_TIMELINES",
    "NO_OUTCOME",
    "PARCEL",
    "PARCEL_TO",
    "POINTS",
    "RECORD",
    "RECORDED",
    "SESSION_AT_MOST",
    "SKEW",
    "SLACK",
    "TAKEN",
    "Alternative",
    "Anchor",
    "Answer",
    "AsyncStore",
    "Calendar",
    "Change",
    "Clear",
    "Cover",
    "Days",
    "Ends",
    "Enter",
    "Flight",
    "Guard",
    "Health",
    "Hours",
    "LocalTime",
    "Opening",
    "Remove",
    "Reserve",
    "Reserved",
    "Rolling",
    "Settle",
    "Starts",
    "State",
    "Store",
    "Window",
    "Write",
    "end_instant",
    "in_spans",
    "instant",
    "keys",
    "reservations",
    "timeline",
]

# Until the rooms above are moved to format 2.
SESSIONS = b"^"


def session() -> Rolling:
    return Rolling(SESSION_AT_MOST)


Unreserve = Remove
