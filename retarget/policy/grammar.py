"""The grammar of a policy's texts: caps, conditions, windows, durations, hours and days.

Rules:
- Every text has exactly one meaning. An ambiguous one ("1 per month") is refused, and the error names both meanings.
- Errors are ValueErrors that quote the text and say what would be right; the caller adds the place (campaign and key).
- Keywords are case-insensitive; event names, subjects and labels are case-sensitive.

    cap        LIMIT per WINDOW | LIMIT/WINDOW | LIMIT SINCE
    condition  [N] EVENT [SUBJECT] [within WINDOW | SINCE]
    window     [N] second|minute|hour|day|week(s) | calendar hour|day|week|month | flight | lifetime | session
    since      since EVENT [SUBJECT]

A subject with spaces goes in double quotes, and so do an event and a subject named "since" or "within".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Period: TypeAlias = Literal["rolling", "hour", "day", "week", "month", "flight", "lifetime", "session", "since"]

MAX_COUNT = 10_000
"""The largest limit or count of a rule. A timeline keeps that many entries, four bytes each."""

MAX_TEXT_BYTES = 256
"""The longest campaign id, subject or label, in UTF-8 bytes. Nothing longer is ever recorded."""

MAX_SECONDS = 20 * 366 * 86_400
"""The longest duration, in seconds: about twenty years."""

NOMINAL = {"hour": 3_600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}
"""Nominal lengths of the calendar periods, in seconds: what a cap is spread over."""

_UNITS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_AMBIGUOUS = {"month": 30, "quarter": 90, "year": 365}
_NAMED: dict[str, Period] = {"flight": "flight", "lifetime": "lifetime", "session": "session"}
_CALENDAR: dict[str, Period] = {"hour": "hour", "day": "day", "week": "week", "month": "month"}
_DURATION = re.compile(r"(?:(\d+)\s*)?([a-z]+?)s?", re.IGNORECASE)
_CAP = re.compile(r"(-?\d+)\s*(?:\bper\b|/)\s*(.+)", re.IGNORECASE)
_CAP_SINCE = re.compile(r"(-?\d+)\s+since(?:\s+(.+))?", re.IGNORECASE)
_NAME = r"[^\W\d][\w.-]{0,63}"
_WORD = rf'(?:"({_NAME})"|(?!(?:within|since)(?!\S))({_NAME}))'
"""An event, in quotes or not."""
_ON = r'(?:\s+(?:"([^"]+)"|(?!(?:within|since)(?!\S))([^\s"]+)))?'
"""The subject after an event, in quotes or not; or none."""
_CONDITION = re.compile(rf"(?:(-?\d+)\s+)?{_WORD}{_ON}(?:\s+(?:within\s+(.+)|(since)(?:\s+(.+))?))?", re.IGNORECASE)
_ANCHOR = re.compile(_WORD + _ON, re.IGNORECASE)
_SPAN = re.compile(r"\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*")
_WEEKDAYS = {
    name[:letters]: day
    for day, name in enumerate(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"))
    for letters in range(3, len(name) + 1)
}
"""The number of each weekday by its name, in full or abbreviated to at least three letters."""
_TEMPLATE = re.compile(r"\{([^{}]*)\}")
_KIND = re.compile(r"[^\W\d][\w-]*")

CAP_EXAMPLE = '"3 per day", "10 per 30 days" or "5 per calendar week"'
CONDITION_EXAMPLE = '"visit product/notebook within 30 days", "3 visit pricing within 7 days" or "purchase"'
CAP_FORM = "LIMIT per WINDOW, or LIMIT since EVENT [SUBJECT]"
CONDITION_FORM = "[N] EVENT [SUBJECT] [within WINDOW], or [N] EVENT [SUBJECT] since EVENT [SUBJECT]"
_SINCE_EXAMPLE = '"since purchase" or "since click {campaign}"'
_HOURS_EXAMPLE = '"08:00-21:00", "21:00-06:00" or "08:00-12:00, 14:00-18:00"'
_DAYS_EXAMPLE = '"mon-sat", "sat, sun" or "mon, wed-fri"'
_DURATION_EXAMPLE = '"90 minutes" or "30 days"'
_WINDOW_EXAMPLE = 'a duration such as "90 minutes" or "30 days", "calendar day", "flight", "lifetime" or "session"'


@dataclass(frozen=True, slots=True)
class Span:
    """A window as written: rolling, with its length in seconds, or another period, whose `seconds` is 0.

    One that begins at another event has that event, and its subject if it is on one.
    """

    period: Period
    seconds: int = 0
    event: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `limit` impressions within `window`; with `spread`, evenly spaced as well."""

    text: str
    limit: int
    window: Span
    spread: bool = False

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects that it names: that of the event at which its window begins."""
        return (self.window.subject,) if self.window.subject else ()

    @property
    def spacing(self) -> int:
        """Seconds between two impressions if they are spread evenly over the window's nominal length; 0 if not."""
        return (self.window.seconds or NOMINAL[self.window.period]) // self.limit if self.spread else 0


@dataclass(frozen=True, slots=True)
class Condition:
    """`event` at least `count` times, on `subject` (None: on any), within `window` (None: the policy's retention)."""

    text: str
    count: int
    event: str
    subject: str | None
    window: Span | None

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects that it names: its own, and that of the event at which its window begins."""
        return tuple(subject for subject in (self.subject, self.window and self.window.subject) if subject)


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration: its text and its length in seconds."""

    text: str
    seconds: int


@dataclass(frozen=True, slots=True)
class OpeningHours:
    """Spans of the local day in seconds since midnight, end excluded, and their text; past midnight, end < begin."""

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Weekdays:
    """Local weekdays, Monday is 0, and their text."""

    text: str
    days: frozenset[int]


def parse_duration(text: str) -> Duration:
    """Parse `30 days`, `90 minutes` or `day` (24 hours). Raises ValueError."""
    return Duration(text.strip(), _seconds(text, f"is not a valid duration: write {_DURATION_EXAMPLE}"))


def parse_window(text: str) -> Span:
    """Parse a window of the grammar above, but not `since`. Raises ValueError."""
    words = text.lower().split()
    if len(words) == 1 and words[0] in _NAMED:
        return Span(_NAMED[words[0]])
    if words and words[0] == "calendar":
        if len(words) == 2 and words[1] in _CALENDAR:
            return Span(_CALENDAR[words[1]])
        raise ValueError(
            f"{text!r} is not a valid calendar window: write calendar hour, calendar day, calendar week "
            "or calendar month"
        )
    if words and words[0] == "since":
        raise ValueError(f"write {text!r} without the per, the slash or the within before it")
    if "since" in words:
        raise ValueError(f"{text!r}: a rule has one window, a length of time or since an event; write two rules")
    return Span("rolling", _seconds(text, f"is not a valid window: write {_WINDOW_EXAMPLE}"))


def parse_since(text: str) -> Span:
    """Parse what follows `since`: `EVENT [SUBJECT]`. Raises ValueError."""
    match = _ANCHOR.fullmatch(text.strip())
    if not match:
        raise ValueError(
            f"'since {text}' is not a valid window: write since EVENT [SUBJECT], such as {_SINCE_EXAMPLE}; "
            "a length of time goes after per or within, and a rule has one window"
        )
    subject = match[3] or match[4]
    _check_subject(f"since {text}", subject)
    return Span("since", event=match[1] or match[2], subject=subject)


def parse_cap(text: str) -> Cap:
    """Parse `3 per day`, `3/day` or `3 since click`. Raises ValueError."""
    stripped = text.strip()  # first: the patterns would backtrack over trailing spaces
    since = _CAP_SINCE.fullmatch(stripped)
    match = since or _CAP.fullmatch(stripped)
    if not match:
        raise ValueError(f"{text!r} is not a valid cap: write {CAP_FORM}, such as {CAP_EXAMPLE}")
    limit = int(match[1])
    if not 1 <= limit <= MAX_COUNT:
        cure = "to stop showing a campaign, remove it or set an end" if limit < 1 else "a cap that high never binds"
        raise ValueError(f"{text!r}: the limit is {limit}, it must be from 1 to {MAX_COUNT:,}; {cure}")
    return Cap(stripped, limit, parse_since(match[2] or "") if since else parse_window(match[2]))


def parse_condition(text: str) -> Condition:
    """Parse `[N] EVENT [SUBJECT] [within WINDOW]`, or the same with `since EVENT [SUBJECT]`. Raises ValueError."""
    match = _CONDITION.fullmatch(text.strip())
    if not match:
        raise ValueError(
            f"{text!r} is not a valid condition: write {CONDITION_FORM}, such as {CONDITION_EXAMPLE}; put a subject "
            'with spaces in double quotes: visit "red shoes" within 7 days'
        )
    count = int(match[1] or 1)
    if not 1 <= count <= MAX_COUNT:
        raise ValueError(
            f"{text!r}: the count is {count}, it must be from 1 to {MAX_COUNT:,}; "
            "put an event that must not have happened under exclude"
        )
    subject = match[4] or match[5]
    _check_subject(text, subject)
    window = parse_since(match[8] or "") if match[7] else parse_window(match[6]) if match[6] else None
    return Condition(text.strip(), count, match[2] or match[3], subject, window)


def _check_subject(text: str, subject: str | None) -> None:
    """Raise ValueError if this subject, written in that text, is too long, not Unicode or not a valid template."""
    if subject is None:
        return
    size = len(subject.encode(errors="surrogatepass"))
    if size > MAX_TEXT_BYTES:
        raise ValueError(f"{text!r:.80}: the subject has {size} bytes; it must have at most {MAX_TEXT_BYTES}")
    if any("\ud800" <= letter <= "\udfff" for letter in subject):
        raise ValueError(f"{text!r}: the subject is not valid Unicode")
    for label in _TEMPLATE.findall(subject):
        if not _KIND.fullmatch(label):
            raise ValueError(f"{text!r}: {{{label}}} is not a valid label; write its name in braces, such as {{item}}")


def parse_hours(text: str) -> OpeningHours:
    """Parse `08:00-21:00`; several spans with commas; a span may pass midnight. Raises ValueError."""
    spans = []
    for part in text.split(","):
        match = _SPAN.fullmatch(part)
        numbers = [int(number) for number in match.groups()] if match else []
        begin, end = (numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]) if match else (0, 0)
        if not match or begin == end or begin >= 1_440 or end > 1_440 or numbers[1] > 59 or numbers[3] > 59:
            raise ValueError(f"{text!r} is not a valid time range: write {_HOURS_EXAMPLE}")
        spans.append((begin * 60, end * 60))
    return OpeningHours(text.strip(), tuple(spans))


def parse_days(text: str) -> Weekdays:
    """Parse `mon-sat`, `sat, sun` or `fri-mon`. Raises ValueError."""
    days: set[int] = set()
    for part in text.lower().split(","):
        ends = [_weekday(word.strip(), text) for word in part.split("-")]
        if len(ends) > 2:
            raise _invalid_days(text)
        days.update((ends[0] + step) % 7 for step in range((ends[-1] - ends[0]) % 7 + 1))
    return Weekdays(text.strip(), frozenset(days))


def labels_in(template: str) -> tuple[str, ...]:
    """The kinds of labels that a subject template names, in order: `item` for `product/{item}`."""
    return tuple(_TEMPLATE.findall(template))


def fill(template: str, labels: dict[str, str]) -> str | None:
    """The template with its labels filled in; None if one is missing."""
    if "{" not in template:
        return template
    if any(kind not in labels for kind in labels_in(template)):
        return None
    return _TEMPLATE.sub(lambda match: labels[match[1]], template)


def is_label_kind(text: str) -> bool:
    """Whether the text can name a kind of label: letters, digits, - and _, not starting with a digit."""
    return _KIND.fullmatch(text) is not None


def _weekday(word: str, text: str) -> int:
    if word in _WEEKDAYS:
        return _WEEKDAYS[word]
    if len(words := word.split()) > 1 and _WEEKDAYS.keys() >= set(words):
        separated = re.sub(r"(?<=\w)\s+(?=\w)", ", ", text.lower().strip())
        raise ValueError(f'{text!r} is not a valid list of days: separate days with commas, "{separated}"')
    raise _invalid_days(text)


def _invalid_days(text: str) -> ValueError:
    return ValueError(f"{text!r} is not a valid list of days: write {_DAYS_EXAMPLE}")


def _seconds(text: str, invalid: str) -> int:
    """The length of a duration. `invalid` is said of a text that is none."""
    match = _DURATION.fullmatch(text.strip())
    unit = match[2].lower() if match else ""
    if match and unit in _AMBIGUOUS:
        count = int(match[1] or 1)
        days = f'"{count * _AMBIGUOUS[unit]} days" (rolling)'
        other = '"calendar month" (from the first of the month)' if unit == "month" else "a cap per calendar month"
        raise ValueError(f"{text.strip()!r} can be read in two ways: write {days} or {other}")
    if not match or unit not in _UNITS:
        raise ValueError(f"{text.strip()!r} {invalid}")
    seconds = int(match[1] or 1) * _UNITS[unit]
    if not 1 <= seconds <= MAX_SECONDS:
        raise ValueError(
            f"{text.strip()!r} is {seconds:,} seconds: a duration must be from 1 second to "
            f"{MAX_SECONDS // 86_400:,} days"
        )
    return seconds
