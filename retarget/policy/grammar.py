"""The words of a policy: what a cap, a condition, a duration, hours and days look like in text.

Rules:
- One text has one reading. A word with two ("1 per month") is refused with both.
- A refusal says what was read and what would be right; whoever calls adds the place (campaign and key).
- Case does not matter in the grammar's own words; event names, subjects and labels are taken as they are.

    cap        LIMIT per WINDOW | LIMIT/WINDOW
    condition  [N] EVENT [SUBJECT] [within WINDOW]      a subject with blanks stands in double quotes
    window     [N] second|minute|hour|day|week(s) | calendar hour|day|week|month | flight | lifetime | session
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Period: TypeAlias = Literal["rolling", "hour", "day", "week", "month", "flight", "lifetime", "session"]

MOST = 10_000
"""The largest limit or count a rule may name: so many entries of four bytes a timeline may have to keep."""

SUBJECT_BYTES = 256
"""The longest subject, in UTF-8 bytes: no longer one is ever recorded."""

LONGEST = 20 * 366 * 86_400
"""The longest duration, in seconds: about twenty years."""

NOMINAL = {"hour": 3_600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}
"""Nominal lengths of the calendar periods, in seconds: what a cap is spread over."""

_UNITS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_AMBIGUOUS = {"month": 30, "quarter": 90, "year": 365}
_NAMED: dict[str, Period] = {"flight": "flight", "lifetime": "lifetime", "session": "session"}
_CALENDAR: dict[str, Period] = {"hour": "hour", "day": "day", "week": "week", "month": "month"}
_DURATION = re.compile(r"(?:(\d+)\s*)?([a-z]+?)s?", re.IGNORECASE)
_CAP = re.compile(r"(-?\d+)\s*(?:\bper\b|/)\s*(.+)", re.IGNORECASE)
_CONDITION = re.compile(
    r'(?:(-?\d+)\s+)?([^\W\d][\w.-]{0,63})(?:\s+(?!within\b)(?:"([^"]+)"|([^\s"]+)))?(?:\s+within\s+(.+))?',
    re.IGNORECASE,
)
_SPAN = re.compile(r"\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TEMPLATE = re.compile(r"\{([^{}]*)\}")
_KIND = re.compile(r"[^\W\d][\w-]*")

CAP_EXAMPLE = '"3 per day", "10 per 30 days" or "5 per calendar week"'
CONDITION_EXAMPLE = '"visit product/notebook within 30 days", "3 visit pricing within 7 days" or "purchase"'


@dataclass(frozen=True, slots=True)
class Span:
    """A window as written: a rolling number of seconds, or one of the named periods (seconds is 0)."""

    period: Period
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `limit` impressions within `window`; `spread` spaces them evenly as well."""

    text: str
    limit: int
    window: Span
    spread: bool = False

    @property
    def spacing(self) -> int:
        """Seconds between two impressions if they are spread evenly over the window's nominal length; 0 if not."""
        return (self.window.seconds or NOMINAL[self.window.period]) // self.limit if self.spread else 0


@dataclass(frozen=True, slots=True)
class Condition:
    """At least `count` times `event` on `subject` (None: on anything) within `window` (None: as long as remembered)."""

    text: str
    count: int
    event: str
    subject: str | None
    window: Span | None


@dataclass(frozen=True, slots=True)
class Duration:
    """A number of seconds, with the words it was written in."""

    text: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Spans:
    """Spans of the local day in seconds from midnight, end excluded, with the words they were written in."""

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Weekdays:
    """Local weekdays, Monday being 0, with the words they were written in."""

    text: str
    days: frozenset[int]


def parse_duration(text: str) -> Duration:
    """`30 days`, `90 minutes`, `day` (= 24 hours). Raises ValueError saying what would be right."""
    return Duration(text.strip(), _seconds(text))


def parse_window(text: str) -> Span:
    """A window of the grammar above. Raises ValueError saying what would be right."""
    words = text.lower().split()
    if len(words) == 1 and words[0] in _NAMED:
        return Span(_NAMED[words[0]])
    if words and words[0] == "calendar":
        if len(words) == 2 and words[1] in _CALENDAR:
            return Span(_CALENDAR[words[1]])
        raise ValueError(
            f"{text!r} is no calendar window: write calendar hour, calendar day, calendar week or calendar month"
        )
    return Span("rolling", _seconds(text))


def parse_cap(text: str) -> Cap:
    """`3 per day` or `3/day`. Raises ValueError saying what would be right."""
    match = _CAP.fullmatch(text.strip())  # blanks at the end would be tried one by one
    if not match:
        raise ValueError(f"{text!r} is no cap: write LIMIT per WINDOW, such as {CAP_EXAMPLE}")
    limit = int(match[1])
    if not 1 <= limit <= MOST:
        cure = "to never show a campaign, take it out or give it an end" if limit < 1 else "a cap that high never binds"
        raise ValueError(f"{text!r}: the limit is {limit}, it must be from 1 to {MOST:,}; {cure}")
    return Cap(text.strip(), limit, parse_window(match[2]))


def parse_condition(text: str) -> Condition:
    """`[N] EVENT [SUBJECT] [within WINDOW]`. Raises ValueError saying what would be right."""
    match = _CONDITION.fullmatch(text.strip())
    if not match or match[2].lower() == "within":
        raise ValueError(
            f"{text!r} is no condition: write [N] EVENT [SUBJECT] [within WINDOW], such as {CONDITION_EXAMPLE}; "
            'a subject with blanks stands in double quotes: visit "red shoes" within 7 days'
        )
    count = int(match[1] or 1)
    if not 1 <= count <= MOST:
        raise ValueError(
            f"{text!r}: the count is {count}, it must be from 1 to {MOST:,}; what must not be goes to exclude"
        )
    subject = match[3] or match[4]
    size = len((subject or "").encode(errors="surrogatepass"))
    if size > SUBJECT_BYTES:
        raise ValueError(f"{text!r:.80}: the subject has {size} bytes; none longer than {SUBJECT_BYTES} is recorded")
    if subject and any("\ud800" <= letter <= "\udfff" for letter in subject):
        raise ValueError(f"{text!r}: the subject is not valid Unicode")
    for label in _TEMPLATE.findall(subject or ""):
        if not _KIND.fullmatch(label):
            raise ValueError(f"{text!r}: {{{label}}} is no label; write a label's name in braces, such as {{item}}")
    return Condition(text.strip(), count, match[2], subject, parse_window(match[5]) if match[5] else None)


def parse_hours(text: str) -> Spans:
    """`08:00-21:00`, several with commas, over midnight too. Raises ValueError."""
    spans = []
    for part in text.split(","):
        match = _SPAN.fullmatch(part)
        numbers = [int(number) for number in match.groups()] if match else []
        begin, end = (numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]) if match else (0, 0)
        if not match or begin == end or begin >= 1_440 or end > 1_440 or numbers[1] > 59 or numbers[3] > 59:
            raise ValueError(f'{text!r} are no hours: write "08:00-21:00", "21:00-06:00" or "08:00-12:00, 14:00-18:00"')
        spans.append((begin * 60, end * 60))
    return Spans(text.strip(), tuple(spans))


def parse_days(text: str) -> Weekdays:
    """`mon-sat`, `sat, sun`, `fri-mon`. Raises ValueError."""
    days: set[int] = set()
    for part in text.lower().split(","):
        ends = [_weekday(word.strip(), text) for word in part.split("-")]
        if len(ends) > 2:
            raise ValueError(f"{text!r} are no days: {_DAYS_RIGHT}")
        days.update((ends[0] + step) % 7 for step in range((ends[-1] - ends[0]) % 7 + 1))
    return Weekdays(text.strip(), frozenset(days))


def labels_in(template: str) -> tuple[str, ...]:
    """The labels that a subject template asks for, in order: `product/{item}` asks for `item`."""
    return tuple(_TEMPLATE.findall(template))


def fill(template: str, labels: dict[str, str]) -> str | None:
    """The template with its labels filled in; None where one is missing."""
    if "{" not in template:
        return template
    if any(kind not in labels for kind in labels_in(template)):
        return None
    return _TEMPLATE.sub(lambda match: labels[match[1]], template)


def is_kind(text: str) -> bool:
    """Whether the text can name a kind of label: letters, digits, - and _, not beginning with a digit."""
    return _KIND.fullmatch(text) is not None


_DAYS_RIGHT = 'write "mon-sat", "sat, sun" or "mon, wed-fri"'


def _weekday(word: str, text: str) -> int:
    short = word[:3]
    if short not in _WEEKDAYS or not "monday tuesday wednesday thursday friday saturday sunday".count(word):
        raise ValueError(f"{text!r} are no days: {_DAYS_RIGHT}")
    return _WEEKDAYS.index(short)


def _seconds(text: str) -> int:
    match = _DURATION.fullmatch(text.strip())
    unit = match[2].lower() if match else ""
    if match and unit in _AMBIGUOUS:
        count = int(match[1] or 1)
        days = f'"{count * _AMBIGUOUS[unit]} days" (rolling)'
        other = '"calendar month" (from the first of the month)' if unit == "month" else "a cap per calendar month"
        raise ValueError(f"{text.strip()!r} can be read in two ways: write {days} or {other}")
    if not match or unit not in _UNITS:
        raise ValueError(
            f'{text.strip()!r} is no window: write a duration such as "90 minutes" or "30 days", "calendar day", '
            '"flight", "lifetime" or "session"'
        )
    seconds = int(match[1] or 1) * _UNITS[unit]
    if not 1 <= seconds <= LONGEST:
        raise ValueError(
            f"{text.strip()!r} is {seconds:,} seconds: a duration is from 1 second to {LONGEST // 86_400:,} days"
        )
    return seconds
