"""Validation of what callers pass: candidates, lists, events, ids, times, zones, keys. Done once, here.

Rules:
- Wrong input is an InputError (or ConfigError for an option) that names the argument, what was given and what would be
  right. A visitor's id never appears in a message.
- Nothing here reads a clock or asks a store.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from retarget.engine import as_candidate
from retarget.errors import ConfigError, InputError
from retarget.events import Candidate, Event, Subject
from retarget.policy import load_zone, parse_duration
from retarget.timelines import IMPRESSION, LAST_MOMENT, SKEW, keys

T = TypeVar("T")

ClaimRow: TypeAlias = (
    tuple[str | None, Iterable[Subject] | None] | tuple[str | None, Iterable[Subject] | None, str | None]
)
"""What claim_many takes: a visitor, candidates and, where a repeat must not count, an id."""

_OFFSET = re.compile(r"([+-])(\d\d):([0-5]\d)", re.ASCII)
_WEST, _EAST = -12 * 60, 14 * 60
"""The offsets that clocks on Earth have, in minutes east of UTC."""

_EVENT_NAME = re.compile(r"[^\W\d][\w.-]{0,63}")


def check_candidates(candidates: Iterable[Subject] | None) -> tuple[Subject, ...] | None:
    """The candidates as a tuple whose members can be looked up; None for every campaign. Raises InputError."""
    if candidates is None:
        return None
    checked = tuple(
        check_list(candidates, "candidates", "a list of campaign ids or Candidates, or None for every campaign")
    )
    try:
        hash(checked)  # one call for all of them; the engine explains whatever can be looked up and is not a candidate
    except TypeError as error:
        for candidate in checked:
            as_candidate(candidate)
        raise InputError(f"candidates: {error}") from error
    return checked


def check_list(things: Iterable[T], name: str, expected: str) -> Iterable[T]:
    """The argument, if it is a list of things: a string would be taken letter by letter. Raises InputError."""
    if isinstance(things, str | bytes | Mapping | Candidate) or not isinstance(things, Iterable):
        shown = f"={things!r:.80}" if name == "candidates" else f" is a {type(things).__name__}"  # ids stay unsaid
        raise InputError(f"{name}{shown}: give {expected}")
    return things


def as_event(row: object) -> Event:
    """A row of `record_many` as an Event. Raises InputError."""
    try:
        if isinstance(row, Event):
            return row
        if isinstance(row, Mapping):
            return Event(**row)
        if isinstance(row, tuple | list):
            return Event(*row)
    except TypeError as error:
        raise InputError(f"this {type(row).__name__} is not a valid event: {error}") from error
    raise InputError(
        f"an event must be an Event, or a mapping or tuple of its fields; {type(row).__name__} is not a valid event"
    )


def as_claim_row(row: object) -> tuple[str | None, Iterable[Subject] | None, str | None]:
    """A request of `claim_many`: visitor, candidates and id. Raises InputError."""
    if isinstance(row, tuple | list) and len(row) in (2, 3):
        visitor, candidates, *rest = row
        return visitor, candidates, rest[0] if rest else None
    shown = f"{type(row).__name__} of {len(row)}" if isinstance(row, tuple | list) else type(row).__name__
    raise InputError(f"give (visitor, candidates) or (visitor, candidates, id), not a {shown}")


def event_key(event: Event) -> tuple[str, Subject | None]:
    """What the event is about, as something that can be looked up. Raises InputError."""
    key = event.event, event.subject
    try:
        hash(key)
    except TypeError as error:
        check_event(event)
        raise InputError(f"event: {error}") from error
    return key


def check_event(event: Event) -> Candidate | None:
    """The event's subject as a candidate. Raises InputError for a wrong event name or subject."""
    if not isinstance(event.event, str) or not _EVENT_NAME.fullmatch(event.event):
        raise InputError(
            f"event={event.event!r:.80} is not a valid event name: use letters, digits, . - and _, at most 64, "
            "not starting with a digit"
        )
    subject = None if event.subject is None else as_candidate(event.subject)
    if subject is None and event.event == IMPRESSION:
        raise InputError("an impression needs its campaign as the subject")
    return subject


def event_id(event: str, id_: str | None) -> bytes:
    """The bytes that stand for an event's id in the store; empty for None. Raises InputError."""
    if id_ is None:
        return b""
    if not isinstance(id_, str) or not id_:
        raise InputError(f"id={id_!r:.80} is not a valid event id: give a non-empty string, or None")
    try:
        return keys.event_id(event, id_)
    except UnicodeEncodeError as error:
        raise InputError(f"id={id_!r:.80} is not valid Unicode") from error


def duration_seconds(duration: object) -> float:
    """The seconds of a string such as "15 minutes", or of a timedelta. Raises ValueError."""
    return duration.total_seconds() if isinstance(duration, timedelta) else parse_duration(str(duration)).seconds


def key_bytes(key: object, name: str, least: int) -> bytes:
    """A secret or pepper as bytes. Raises ConfigError for one of the wrong type, or shorter than `least` bytes."""
    try:
        data = key.encode() if isinstance(key, str) else bytes(key) if isinstance(key, bytes) else b""
    except UnicodeError:
        data = b""
    if len(data) < least:
        raise ConfigError(f"{name} must be a str or bytes of at least {least} bytes, random; see secrets.token_bytes")
    return data


def epoch_second(moment: object, name: str) -> int:
    """Whole epoch seconds, floored. Raises InputError for a naive datetime, a non-number, or one out of range."""
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise InputError(f"{name}={moment!r} has no time zone; give an aware datetime, such as datetime.now(UTC)")
        moment = moment.timestamp()
    if isinstance(moment, bool) or not isinstance(moment, int | float) or not _is_finite(moment):
        raise InputError(f"{name}={moment!r:.80} is not a valid time: give an aware datetime or epoch seconds")
    if not 0 <= moment <= LAST_MOMENT - SKEW:
        hint = "; this looks like milliseconds" if 10**11 < moment < 10**14 else ""
        shown = f"{moment!r}" if -1e15 < moment < 1e15 else "this number"
        raise InputError(f"{name}={shown} is out of range: give epoch seconds from 1970 to 2106{hint}")
    return int(moment)


def as_zone(zone: object) -> tzinfo:
    """The time zone: an IANA name, `+02:00`, minutes east of UTC, a ZoneInfo or a `datetime.timezone`.

    Raises InputError.
    """
    if isinstance(zone, ZoneInfo):
        return zone
    if isinstance(zone, str):
        offset = _OFFSET.fullmatch(zone)
        if offset is None:
            return _named_zone(zone)
        sign, hours, minutes = offset.groups()
        east: float = (int(hours) * 60 + int(minutes)) * (-1 if sign == "-" else 1)
    elif isinstance(zone, timezone):
        east = zone.utcoffset(None).total_seconds() / 60
    elif isinstance(zone, int) and not isinstance(zone, bool):
        east = zone
    else:
        raise InputError(f"timezone={zone!r:.60}: {_ZONES}")
    if not (_WEST <= east <= _EAST and east == int(east)):
        shown = repr(zone) if -(10**9) < east < 10**9 else "this number"  # a long one cannot be written out
        raise InputError(f"timezone={shown}: an offset is whole minutes, from -12:00 to +14:00 (-720 to 840)")
    return zone if isinstance(zone, timezone) else timezone(timedelta(minutes=east))


_ZONES = (
    "give an IANA name such as Europe/Zurich, an offset such as +02:00, whole minutes east of UTC such as 120, a "
    "ZoneInfo or a datetime.timezone"
)


def _named_zone(name: str) -> tzinfo:
    try:
        return load_zone(name)
    except ValueError as error:
        raise InputError(f"timezone={name!r:.60}: {_ZONES}") from error


def _is_finite(moment: float) -> bool:
    return not isinstance(moment, float) or math.isfinite(moment)
