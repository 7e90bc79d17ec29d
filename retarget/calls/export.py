"""What is remembered of a visitor, written so that she can read it: for whoever asks what is known of her.

Rules:
- All that is stored is there: every timeline by the name a policy would give it, reservations, the ids of events.
- Ready for JSON; moments are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from retarget.errors import StoreError
from retarget.timelines import RECORD, timeline


def exported(visitor: str, states: Iterable[Mapping[bytes, bytes] | StoreError]) -> dict[str, Any]:
    """All that is remembered of a visitor, put together from all her keys. Raises StoreError."""
    moments: dict[bytes, list[int]] = {}
    matter: dict[bytes, int] = {}
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
            matter[name] = max(matter.get(name, 0), timeline.horizon_of(raw))
    timelines = {
        timeline.readable(name): {
            "at": [datetime.fromtimestamp(moment, UTC).isoformat() for moment in sorted(entered)],
            "matters_for_seconds": matter[name],
        }
        for name, entered in sorted(moments.items())
    }
    return {"visitor": visitor, "timelines": timelines, "event_ids": event_ids}
