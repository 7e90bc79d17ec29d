"""A timeline: the newest times of one subject for one visitor, packed; and the one question asked of it.

Rules:
- A moment is a whole epoch second in an unsigned 32-bit integer, big-endian: bytes compare as numbers do, so the
  question is answered without unpacking. The last moment is in 2106.
- A packed timeline is a 2-byte head, then its moments, oldest first. The head says how long an entry matters (its
  horizon) and whether a rule that blocks asks about it (a shield: such a timeline is never evicted for room).
- The only question: is the n-th newest moment at or after T?
- Adding keeps the newest `keep`; the result does not depend on the order of arrival.
- A timeline's name is short, since it is stored with each visitor: `i` + subject for impressions, `e` + event + subject
  for other events, one character for what the library keeps for itself.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Mapping

from retarget.errors import StoreError

HEAD = 2
ENTRY = 4
LAST_MOMENT = 0xFFFF_FFFF
SKEW = 300
"""Seconds that two callers' clocks may differ by: events further ahead are refused."""

SLACK = 2 * SKEW
"""Seconds that everything is kept longer than it matters: an event may be ahead of a caller who is ahead of another."""

MIN_KEEP = 16
"""Every timeline keeps at least this many entries, so that a limit raised tomorrow still sees past events."""

POINTS = b"*"
ACTIVITY = b"@"
"""When the visitor was active: intervals, each a start and an end; events a pause or less apart are in one."""
HELD = b"h"
"""The end of the last hold; followed by a timeline's name, the ends of the holds in that timeline."""
HOLD = b"H"
"""Followed by the hold's mark: the end of one hold."""
RECORDED = b"#h"
"""Followed by the hold's mark and a piece's number (2 bytes): where one hold is reserved (see `reservations`)."""
PARCEL = b"M"
"""The number of a parcel being moved to another visitor; followed by a timeline's name, its entries in the parcel."""
PARCEL_TO = b"M>"
"""Followed by a key: where the parcel goes."""
DUE = b"D"
"""Followed by a parcel's number: that it may be delivered here, once."""
TAKEN = b"d"
"""Followed by the mark of a call and a hash of a campaign: that a claim of this call was counted for it."""
IMPRESSION = "impression"

_SHIELD = 0x8000


def name(event: str, subject: str | None = None) -> bytes:
    """The name of the timeline of `event` on `subject`; of `event` on anything if None."""
    if event == IMPRESSION:
        return f"i{subject or ''}".encode()
    return (f"e{event} {subject}" if subject is not None else f"e{event}").encode()


def label_name(event: str, label: str) -> bytes:
    """The name of the timeline of `event` under a label, written `kind:value`."""
    return f"l{label}".encode() if event == IMPRESSION else f"f{event} {label}".encode()


def capped_name(label: str) -> bytes:
    """The name of the timeline of the impressions that a cap on this label counts."""
    return f"c{label}".encode()


def readable(field: bytes) -> str:
    """The name as a policy writes it: `impression notebook`, `visit product/notebook`, `points`."""
    special = {POINTS: "points", ACTIVITY: "activity", HELD: "reserved until", PARCEL: "moving"}
    if field in special:
        return special[field]
    if field[:2] == PARCEL_TO:
        return "moving to another visitor"
    if field[:1] == DUE:
        return f"expected parcel {field[1:].hex()}"
    if field[:1] == TAKEN:
        return f"distinct {field[1:].hex()}"
    if field[:1] == HELD:
        return f"reserved {readable(field[1:])}"
    if field[:1] == PARCEL:
        return f"moving {readable(field[1:])}"
    if field[:1] == HOLD:
        return f"reservation {field[1:].hex()}"
    text = field.decode(errors="replace")
    if text[:1] == "c":
        return f"capped {IMPRESSION} {text[1:]}"
    if text[:1] == "l":
        return f"{IMPRESSION} labelled {text[1:]}"
    if text[:1] == "f":
        return " labelled ".join(text[1:].split(" ", 1))
    return f"{IMPRESSION} {text[1:]}".rstrip() if text[:1] == "i" else text[1:]


def head(horizon: int, *, shield: bool) -> int:
    """The head of a timeline whose entries matter for `horizon` seconds: a 10-bit number and a 5-bit left shift.

    Rounded up, by less than 0.2 %: an entry that matters never counts as dead.
    """
    shift = max(0, horizon.bit_length() - 10)
    mantissa = -(-horizon >> shift)
    if mantissa > 1023:
        mantissa, shift = mantissa + 1 >> 1, shift + 1
    return (_SHIELD if shield else 0) | shift << 10 | mantissa


def horizon_of(raw: bytes) -> int:
    """How many seconds an entry of this packed timeline matters."""
    return seconds_of(int.from_bytes(raw[:HEAD]))


def seconds_of(code: int) -> int:
    """The horizon in a head."""
    return (code & 0x3FF) << (code >> 10 & 0x1F)


def is_shield(raw: bytes) -> bool:
    """Whether a rule that blocks asks about this packed timeline."""
    return raw[:1] >= b"\x80"


def is_packed(raw: bytes) -> bool:
    """Whether these bytes can be a timeline: a head and at least one whole entry."""
    return len(raw) >= HEAD + ENTRY and (len(raw) - HEAD) % ENTRY == 0


def check(field: bytes, raw: bytes) -> bytes:
    """`raw`, if it is a packed timeline. Raises StoreError naming the field."""
    if not is_packed(raw):
        raise corrupt(field, f"{len(raw)} bytes")
    return raw


def check_intervals(field: bytes, raw: bytes) -> bytes:
    """`raw`, if it is a packed timeline of pairs. Raises StoreError naming the field."""
    if (len(raw) - HEAD) % (2 * ENTRY):
        raise corrupt(field, f"{len(raw)} bytes")
    return check(field, raw)


def corrupt(field: bytes, why: str) -> StoreError:
    """The error for a timeline that cannot be one."""
    return StoreError(f"the timeline {readable(field)!r} is corrupt: {why}")


def is_live(raw: bytes, now: int) -> bool:
    """Whether the newest entry may still matter to a caller whose clock is behind `now`."""
    return newest(raw) >= now - horizon_of(raw) - SLACK


def moments(raw: bytes) -> tuple[int, ...]:
    """All entries, oldest first."""
    return struct.unpack(f">{(len(raw) - HEAD) // ENTRY}I", raw[HEAD:])


def newest(raw: bytes) -> int:
    """The newest entry."""
    return int.from_bytes(raw[-ENTRY:])


def nth_newest(raw: bytes, n: int) -> int | None:
    """The n-th newest entry (n >= 1), or None where there are fewer."""
    end = len(raw) - ENTRY * (n - 1)
    return int.from_bytes(raw[end - ENTRY : end]) if end - ENTRY >= HEAD else None


def count_since(raw: bytes, since: int) -> int:
    """How many kept entries are at or after `since`."""
    entries = moments(raw)
    return len(entries) - bisect_left(entries, since)


def add(raw: bytes | None, at: int, weight: int, keep: int, code: int, now: int) -> bytes | None:
    """The timeline with `at` entered `weight` times, cut to the newest `keep` that matter; None if `at` is too old."""
    entries = list(moments(raw)) if raw else []
    oldest = _oldest(entries, code, now)
    if at < oldest:
        return None
    entries += [at] * weight
    entries.sort()
    entries = entries[max(0, len(entries) - keep, bisect_left(entries, oldest)) :]
    return _packed(code, entries)


def cover(raw: bytes | None, first: int, last: int, pause: int, keep: int, code: int, now: int) -> bytes | None:
    """The intervals with the one from `first` to `last` united, joined where at most `pause` seconds lie between them.

    Cut to the newest `keep` entries of intervals that matter; None if this one is too old. The order in which intervals
    arrive makes no difference. The timeline has been checked with `check_intervals`.
    """
    entries = list(moments(raw)) if raw else []
    oldest = _oldest(entries, code, now)
    if last < oldest:
        return None
    earlier, later = entries, list[int]()
    while earlier:
        begin, end = earlier[-2:]
        if first - end > pause:
            break
        if begin - last > pause:
            later = [begin, end, *later]
        else:
            first, last = min(first, begin), max(last, end)
        earlier = earlier[:-2]
    entries = [*earlier, first, last, *later]
    while entries[1] < oldest:
        del entries[:2]
    return _packed(code, entries[-keep:])


def widest(raw: bytes | None, keep: int, code: int) -> tuple[int, int]:
    """The keep and the head with which a recorded entry is made: a record never cuts what a newer policy keeps."""
    if not raw:
        return keep, code
    known = int.from_bytes(raw[:HEAD])
    wider = known if seconds_of(known) > seconds_of(code) else code
    return max(keep, (len(raw) - HEAD) // ENTRY), wider | known & _SHIELD | code & _SHIELD


def _oldest(entries: list[int], code: int, now: int) -> int:
    """The oldest moment that may still matter to a caller whose clock is behind."""
    horizon = seconds_of(code)
    latest = max(now, entries[-1]) if entries and horizon else now  # without horizon: dated at its own end
    return latest - horizon - SLACK + (horizon == 0)


def _packed(code: int, entries: list[int]) -> bytes:
    return struct.pack(f">H{len(entries)}I", code, *entries)


def remove(raw: bytes, moment: int, times: int) -> bytes | None:
    """The timeline with `moment` removed at most `times` times; None if nothing is left."""
    entries = list(moments(raw))
    for _ in range(min(times, entries.count(moment))):
        entries.remove(moment)
    return raw[:HEAD] + struct.pack(f">{len(entries)}I", *entries) if entries else None


def live_holds(state: Mapping[bytes, bytes], now: int) -> dict[bytes, list[int]]:
    """The ends of the reserved impressions still pending at `now`, by the timeline in which they count. Usually empty.

    Raises StoreError for a corrupt one.
    """
    if HELD not in state:
        return {}
    reserved = {field: check(field, raw) for field, raw in state.items() if field[:1] == HELD}
    if newest(reserved.pop(HELD)) <= now:
        return {}
    pending = ((field[1:], [end for end in moments(raw) if end > now]) for field, raw in reserved.items())
    return {field: ends for field, ends in pending if ends}
