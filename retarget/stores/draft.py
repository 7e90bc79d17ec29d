"""A visitor as a write would leave them: the changes of an alternative, made in memory before anything is stored.

Rules:
- It does what steps 4 and 5 of write.lua do, change by change.
- The state that it begins with is left as it is.
- A change that comes too late, or finds nothing, changes nothing.
"""

from __future__ import annotations

from typing import assert_never

from retarget.timelines import (
    DAY,
    HELD,
    HOLD,
    LOOK_EVERY,
    MOST_TIMELINES,
    ROOM,
    SLACK,
    Change,
    Clear,
    Cover,
    Enter,
    Remove,
    Reserve,
    Settle,
    State,
    Write,
    keys,
    reservations,
    timeline,
)

_HELD_HEAD = timeline.head(0, shield=True)
_HELD_KEEP = 0xFFFF


class Draft:
    """What a write makes of a visitor's fields.

    `after` are the fields, `changed` the names of those set or removed; `ttl` is how long what a reservation recorded
    matters once it is counted.
    """

    def __init__(self, state: State, write: Write) -> None:
        self._before = state
        self._now = write.now
        self._hold = write.hold
        self._has_id = bool(write.id)
        self._begun = 0
        self._days: set[int] = set()
        self.after = dict(state)
        self.changed: set[bytes] = set()
        self.ttl = 0

    def make(self, change: Change) -> None:
        """Make one change. Raises StoreError where it meets what is corrupt."""
        if isinstance(change, Enter):  # nearly always: a pattern would take its fields one by one
            field, at, weight, keep, head = change
            raw = self._timeline(field)
            self._enter(field, raw, timeline.add(raw, at, weight, keep, head, self._now))
            return
        match change:
            case Cover(field, first, last, pause, keep, head):
                raw = self.after.get(field)
                if raw is not None:
                    timeline.check_intervals(field, raw)
                self._enter(field, raw, timeline.cover(raw, first, last, pause, keep, head, self._now))
            case Remove(field, at, times):
                self._remove(field, at, times)
            case Reserve():
                self._reserve(change)
            case Settle():
                self._settle(change.at)
            case Clear():
                self._clear()
            case _:
                assert_never(change)

    @property
    def looks_for_the_dead(self) -> bool:
        """Whether timelines began past a multiple of `LOOK_EVERY`, or those entered have no entry of this day yet."""
        size = len(self._before)
        passes = (size + self._begun) // LOOK_EVERY > size // LOOK_EVERY
        return passes or (bool(self._days) and self._now // DAY not in self._days)

    def evict(self, *, full: bool) -> bool:
        """Remove dead timelines and, if the visitor is full, the oldest that no blocking rule asks about.

        False if that is not enough.
        """
        timelines = {f: timeline.check(f, raw) for f, raw in self._before.items() if not f.startswith(b"#")}
        live = {field: raw for field, raw in timelines.items() if timeline.is_live(raw, self._now)}
        gone = timelines.keys() - live.keys()
        if full and len(live) >= MOST_TIMELINES:
            interests = sorted((timeline.newest(raw), f) for f, raw in live.items() if not timeline.is_shield(raw))
            if len(live) - len(interests) >= MOST_TIMELINES:
                return False
            gone |= {field for _, field in interests[: len(live) - MOST_TIMELINES + ROOM]}
        for field in gone - self.changed:
            self.after.pop(field, None)
        for field in [field for field in self.after if self._is_orphan(field)]:
            del self.after[field]
        return True

    def _timeline(self, field: bytes) -> bytes | None:
        raw = self.after.get(field)
        return None if raw is None else timeline.check(field, raw)

    def _set(self, field: bytes, raw: bytes | None) -> None:
        self.changed.add(field)
        if raw is None:
            self.after.pop(field, None)
        else:
            self.after[field] = raw

    def _enter(self, field: bytes, raw: bytes | None, value: bytes | None) -> None:
        if value is not None:
            self._set(field, value)
            if raw is None:
                self._begun += 1
            else:
                self._days.add(timeline.newest(raw) // DAY)

    def _remove(self, field: bytes, at: int, times: int) -> None:
        raw = self._timeline(field)
        left = None if raw is None else timeline.remove(raw, at, times)
        if left != raw:
            self._set(field, left)

    def _reserve(self, change: Reserve) -> None:
        if change.end <= self._now - SLACK:
            return
        self._settle(None)
        record = reservations.pack(change.places)
        pieces = reservations.count(record)
        held = [(HELD + place.field, place.weight, _HELD_KEEP) for place in change.places]
        for field, weight, keep in [*held, (HELD, 1, 1), (HOLD + self._hold, pieces, pieces)]:
            self.make(Enter(field, change.end, weight, keep, _HELD_HEAD))
        self._begun += max(0, pieces - len(reservations.fields(self._hold, self._before)))
        for field, piece in reservations.pieces(self._hold, record).items():
            self._set(field, piece)

    def _settle(self, at: int | None) -> None:
        mark = self._timeline(HOLD + self._hold)
        if mark is None:
            return
        end, fields = timeline.newest(mark), reservations.fields(self._hold, self.after)
        moved = reservations.is_moved(self._hold, self.after)
        for place in reservations.unpack(b"".join(self.after[field] for field in fields)):
            if not moved:
                self._remove(HELD + place.field, end, place.weight)
            if at is not None and place.keep:
                raw = self._timeline(place.field)
                keep, head = timeline.widest(raw, place.keep, place.head)
                value = timeline.add(raw, at, place.weight, keep, head, self._now)
                self._enter(place.field, raw, value)
                if value is not None:
                    self.ttl = max(self.ttl, timeline.seconds_of(head) + 1 + at - self._now)
        for field in (HOLD + self._hold, *fields):
            self._set(field, None)

    def _clear(self) -> None:
        for field in self._before:
            if self._has_id and field in keys.IDS:  # written anew, with that id alone
                self.after.pop(field, None)
            elif field not in self.changed:
                self._set(field, None)

    def _is_orphan(self, field: bytes) -> bool:
        """Whether this is a part of the record of a hold that is gone."""
        mark = reservations.mark_of(field)
        hold = None if mark is None else self.after.get(HOLD + mark)
        return mark is not None and (hold is None or not timeline.is_live(hold, self._now))
