"""Everything stored about a visitor, in readable form: for a data access request.

Rules:
- Complete: every timeline by the name a policy would give it, reservations, the ids of events.
- Ready for JSON; times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from retarget.errors import StoreError
from retarget.timelines import RECORD, timeline


def export(visitor: str, states: Iterable[Mapping[bytes, bytes] | StoreError]) -> dict[str, Any]:
    """Everything stored about a visitor, combined from all their keys. Raises StoreError."""
    moments: dict[bytes, list[int]] = {}
    horizons: dict[bytes, int] = {}
    event_ids: list[str] = []
    for state in states:
        if isinstance(state, StoreError):
            raise state
        ids = state.get(b"#0", b"") + state.get(b"#1", b"")
        event_ids += [ids[start : start + 5].hex() for start in range(0, len(ids), RECORD)]
        for name, raw in state.items():
            if name.startswith(b"#"):
                continue
            moments.setdefault(name, []).extend(timeline.moments(timeline.check(name, raw)))
            horizons[name] = max(horizons.get(name, 0), timeline.horizon_of(raw))
    timelines = {
        timeline.readable(name): {
            "at": [datetime.fromtimestamp(moment, UTC).isoformat() for moment in sorted(entries)],
            "matters_for_seconds": horizons[name],
        }
        for name, entries in sorted(moments.items())
    }
    return {"visitor": visitor, "timelines": timelines, "event_ids": event_ids}
