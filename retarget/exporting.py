"""What is remembered of a visitor, written so that she can read it: for whoever asks what is known of her.

Rules:
- All that is stored is there: every timeline by the name a policy would give it, reservations, the ids of events.
- Ready for JSON; moments are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from retarget import timeline
from retarget.changes import RECORD
from retarget.errors import StoreError


def exported(visitor: str, state: Mapping[bytes, bytes]) -> dict[str, Any]:
    """All that is remembered of a visitor. Raises StoreError for what is no timeline."""
    timelines = {}
    ids = b""
    for name, raw in sorted(state.items()):
        if name.startswith(b"#"):
            ids += raw
        elif timeline.is_packed(raw):
            timelines[timeline.readable(name)] = {
                "at": [datetime.fromtimestamp(moment, UTC).isoformat() for moment in timeline.moments(raw)],
                "matters_for_seconds": timeline.horizon_of(raw),
            }
        else:
            raise StoreError(f"the timeline {timeline.readable(name)!r} is corrupt: {len(raw)} bytes")
    event_ids = [ids[start : start + 5].hex() for start in range(0, len(ids), RECORD)]
    return {"visitor": visitor, "timelines": timelines, "event_ids": event_ids}
