"""What callers give, checked: candidates, lists, events, moments.

Rules:
- Wrong input is an InputError that names the argument, what was given and what would be right. Visitors' ids are
  never told.
- Nothing here reads a clock, or knows a store or a policy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TypeVar

from retarget.errors import ConfigError, InputError
from retarget.events import Candidate, Event, Subject
from retarget.policy import parse_duration
from retarget.timelines import LAST_MOMENT, SKEW

T = TypeVar("T")


def candidate_list(candidates: Iterable[Subject] | None) -> tuple[Subject, ...] | None:
    if candidates is None:
        return None
    return tuple(listed(candidates, "candidates", "a list of campaign ids or Candidates, or None for every campaign"))


def listed(things: Iterable[T], name: str, right: str) -> Iterable[T]:
    """What a caller gave as a list, if it is one: a text would be taken letter by letter."""
    if isinstance(things, str | bytes | Mapping | Candidate) or not isinstance(things, Iterable):
        shown = f"={things!r:.80}" if name == "candidates" else f" is a {type(things).__name__}"  # ids are not told
        raise InputError(f"{name}{shown}: give {right}")
    return things


def as_event(row: object) -> Event:
    try:
        if isinstance(row, Event):
            return row
        if isinstance(row, Mapping):
            return Event(**row)
        if isinstance(row, tuple | list):
            return Event(*row)
    except TypeError as error:
        raise InputError(f"{type(row).__name__} is no event: {error}") from error
    raise InputError(f"{type(row).__name__} is no event: give an Event, or a mapping or tuple of its fields")


def seconds_of(duration: object) -> float:
    """The seconds of a text such as "15 minutes", or of a timedelta. Raises ValueError."""
    return duration.total_seconds() if isinstance(duration, timedelta) else parse_duration(str(duration)).seconds


def key_bytes(key: object, name: str, least: int) -> bytes:
    """What something is signed or hashed with, as bytes. Raises ConfigError for one that is too short, or none."""
    try:
        data = key.encode() if isinstance(key, str) else bytes(key) if isinstance(key, bytes) else b""
    except UnicodeError:
        data = b""
    if len(data) < least:
        raise ConfigError(f"{name} must be a text or bytes, at least {least} bytes at random; see secrets.token_bytes")
    return data


def second(moment: object, what: str) -> int:
    """Whole epoch seconds, floored. Raises InputError for what is naive, no number, or out of range."""
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise InputError(f"{what}={moment!r} has no time zone; give an aware datetime, such as datetime.now(UTC)")
        moment = moment.timestamp()
    if isinstance(moment, bool) or not isinstance(moment, int | float) or _is_no_number(moment):
        raise InputError(f"{what}={moment!r:.80} is no moment: give an aware datetime or epoch seconds")
    if not 0 <= moment <= LAST_MOMENT - SKEW:
        hint = "; these look like milliseconds" if 10**11 < moment < 10**14 else ""
        shown = f"{moment!r}" if -1e15 < moment < 1e15 else "this number"
        raise InputError(f"{what}={shown} is out of range: epoch seconds from 1970 to 2106{hint}")
    return int(moment)


def _is_no_number(moment: float) -> bool:
    return isinstance(moment, float) and not math.isfinite(moment)
