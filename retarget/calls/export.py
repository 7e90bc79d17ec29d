"""Everything stored about a visitor, in readable form: for a data access request.

Rules:
- Complete: every timeline by the name a policy would give it, reservations with what they are of, the ids of events.
- Ready for JSON; times are ISO 8601 in UTC. Activity is intervals: a start, then its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from retarget.errors import StoreError
from retarget.timelines import ACTIVITY, HOLD, PARCEL, PARCEL_TO, RECORD, keys, reservations, timeline


def export(visitor: str, states: Iterable[Mapping[bytes, bytes] | StoreError]) -> dict[str, Any]:
    """Everything stored about a visitor, combined from all their keys. Raises StoreError."""
    moments: dict[bytes, list[int]] = {}
    horizons: dict[bytes, int] = {}
    details: dict[bytes, dict[str, Any]] = {}
    event_ids: list[str] = []
    for state in states:
        if isinstance(state, StoreError):
            raise state
        records = keys.remembered(state, 0)
        event_ids += [records[start : start + keys.ID_BYTES].hex() for start in range(0, len(records), RECORD)]
        for name, raw in state.items():
            if name.startswith(b"#"):
                continue
            timeline.check(name, raw)
            if name == PARCEL:  # a number, no moment: said with the parcel's target
                continue
            found = (timeline.newest(raw),) if name.startswith(HOLD) else timeline.moments(raw)
            moments.setdefault(name, []).extend(found)
            horizons[name] = max(horizons.get(name, 0), timeline.horizon_of(raw))
            if name.startswith(HOLD):
                record = reservations.joined(name[len(HOLD) :], state)
                details[name] = {"of": [timeline.readable(place.field) for place in reservations.unpack(record)]}
            if name.startswith(PARCEL_TO) and PARCEL in state:
                details[name] = {"parcel": state[PARCEL][-timeline.ENTRY :].hex()}
    timelines = {
        timeline.readable(name): {
            "at": [
                datetime.fromtimestamp(at, UTC).isoformat() for at in (found if name == ACTIVITY else sorted(found))
            ],
            "matters_for_seconds": horizons[name],
            **details.get(name, {}),
        }
        for name, found in sorted(moments.items())
    }
    return {"visitor": visitor, "timelines": timelines, "event_ids": event_ids}
