"""The pydantic models of a policy file, and how its texts are parsed.

Rules:
- Strict: an unknown key, a wrong type, an invalid or ambiguous text is an error.
- The models hold what the file says. `engine.plan` compiles it to facts and timelines.
- A policy is frozen: to change it, load another and set `ads.policy`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from itertools import chain
from typing import Annotated, Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    field_validator,
)

from retarget.policy import grammar
from retarget.policy.frozen import freeze
from retarget.policy.grammar import MAX_TEXT_BYTES, Cap, Condition, Duration, OpeningHours, Weekdays
from retarget.timelines import LocalTime

_DATE_EXAMPLE = "2026-11-01 or 2026-11-01T08:00:00+01:00"
_WEEK = re.compile(r"\d{4}-W\d\d(?!-?\d)|\d{4}W\d\d(?!\d)")
"""A week without a day, which Python reads as its Monday."""


_NO_IANA_NAMES = ("localtime", "posixrules", "Factory")
"""Files beside the zones of a system: whatever this machine is set to, and what it takes for unset."""
_VARIANTS = ("posix/", "right/")
"""Folders with the zones once more, with and without leap seconds."""


def load_zone(key: str) -> ZoneInfo:
    """The IANA time zone of that name. Raises ValueError.

    What a system keeps beside them is refused: it means another zone elsewhere, or none.
    """
    if key in _NO_IANA_NAMES:
        raise ValueError(
            f"{key!r} is not an IANA time zone, but what a machine is set to: write a name such as Europe/Zurich or UTC"
        )
    if isinstance(key, str) and key.startswith(_VARIANTS):
        raise ValueError(f"{key!r:.60} is not an IANA time zone: write {key.partition('/')[2]!r:.60}")
    try:
        return ZoneInfo(key)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{key!r:.60} is not a known time zone: write an IANA name such as Europe/Zurich or UTC"
        ) from error


def check_text(text: object, what: str) -> str:
    """Return `text` if it is valid as an id, a subject or a label: a printable string of 1 to 256 bytes in UTF-8.

    Raises ValueError otherwise, calling it `what`.
    """
    if not isinstance(text, str):
        raise ValueError(f"{what} {text!r:.60} must be a string, got {type(text).__name__}")  # noqa: TRY004 - one kind
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} {text!r:.60} is not valid Unicode") from error
    if not 1 <= size <= MAX_TEXT_BYTES:
        raise ValueError(f"{what} {text!r:.60} has {size} bytes; it must have 1 to {MAX_TEXT_BYTES}")
    if not text.isprintable():
        raise ValueError(f"{what} {text!r:.60} contains control characters; use printable characters only")
    return text


def _read_cap(value: object) -> Cap:
    if isinstance(value, Cap):
        return value
    if isinstance(value, str):
        return grammar.parse_cap(value)
    if not (isinstance(value, dict) and set(value) <= {"cap", "spread"} and isinstance(value.get("cap"), str)):
        raise ValueError(
            f'{value!r} is not a valid cap: write {grammar.CAP_EXAMPLE}, or {{ cap = "4 per day", spread = true }}'
        )
    cap, spread = grammar.parse_cap(value["cap"]), value.get("spread", False)
    if not isinstance(spread, bool):
        raise ValueError(f"spread must be true or false, got {spread!r}")  # noqa: TRY004 - pydantic collects ValueErrors
    if spread and cap.window.period in ("flight", "lifetime", "session", "since"):
        raise ValueError(f"{cap.text!r} cannot be spread: use a rolling or calendar window, or give the campaign a gap")
    return Cap(cap.text, cap.limit, cap.window, spread)


def _read_clause(value: object) -> tuple[Condition, ...]:
    if isinstance(value, tuple) and all(isinstance(part, Condition) for part in value):
        return value
    texts = value["any"] if isinstance(value, dict) and set(value) == {"any"} else [value]
    if not (isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)):
        raise ValueError(
            f'{value!r} is not a valid condition: write {grammar.CONDITION_EXAMPLE}, or {{ any = ["...", "..."] }}'
        )
    return tuple(grammar.parse_condition(text) for text in texts)


def _read_hours(value: object) -> OpeningHours:
    if isinstance(value, OpeningHours):
        return value
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f'{value!r} is not a valid time range: write "08:00-21:00", or a list of such strings')
    return grammar.parse_hours(", ".join(map(str, texts)))


def _read_moment(value: object) -> LocalTime:
    moment = _parse_moment(value) if isinstance(value, str) else value
    if not isinstance(moment, date):  # datetime is a subclass
        raise ValueError(f"{value!r} is not a valid date: write {_DATE_EXAMPLE}")  # noqa: TRY004 - see above
    if not 1971 <= moment.year <= 2105:
        raise ValueError(f"{value!s} is out of range: years run from 1971 to 2105; leave the key out for no limit")
    return moment


def _parse_moment(text: str) -> LocalTime:
    """A date in any form of ISO 8601 that names a day, which is that whole day; or a date and time."""
    if week := _WEEK.match(text):
        monday = f"{week[0]}-1" if "-" in week[0] else f"{week[0]}1"
        raise ValueError(f"{text!r} is a week, not a day: write a day of it, such as {monday} for its Monday")
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a valid date: write {_DATE_EXAMPLE}") from error


def _parsed(kind: type, parse: Callable[[str], object]) -> PlainValidator:
    """A validator that parses strings with `parse` and passes instances of `kind`."""

    def read(value: object) -> object:
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{value!r} must be a string in quotes")  # noqa: TRY004 - pydantic collects ValueErrors
        return parse(value)

    return PlainValidator(read)


def _text(value: Any) -> str:  # noqa: ANN401 - every parsed type has its text
    return str(value.text)


def _cap_text(cap: Cap) -> object:
    return {"cap": cap.text, "spread": True} if cap.spread else cap.text


def _clause_text(clause: tuple[Condition, ...]) -> object:
    return clause[0].text if len(clause) == 1 else {"any": [condition.text for condition in clause]}


def _schema(description: str, *examples: str, or_else: dict[str, Any] | None = None) -> WithJsonSchema:
    text = {"type": "string", "examples": list(examples)}
    return WithJsonSchema({"description": description, **({"anyOf": [text, or_else]} if or_else else text)})


_SPREAD = {
    "type": "object",
    "properties": {"cap": {"type": "string"}, "spread": {"type": "boolean"}},
    "required": ["cap"],
    "additionalProperties": False,
}
_ANY = {
    "type": "object",
    "properties": {"any": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
    "required": ["any"],
    "additionalProperties": False,
}

CapText: TypeAlias = Annotated[
    Cap,
    PlainValidator(_read_cap),
    PlainSerializer(_cap_text),
    _schema(
        grammar.CAP_FORM,
        "3 per day",
        "10 per 30 days",
        "5 per calendar week",
        "3 since click {campaign}",
        or_else=_SPREAD,
    ),
]
ConditionText: TypeAlias = Annotated[
    Condition,
    _parsed(Condition, grammar.parse_condition),
    PlainSerializer(_text),
    _schema(
        grammar.CONDITION_FORM,
        "purchase within 90 days",
        "signup webinar",
        "5 impression {campaign} since click {campaign}",
    ),
]
ClauseText: TypeAlias = Annotated[
    tuple[Condition, ...],
    PlainValidator(_read_clause),
    PlainSerializer(_clause_text),
    _schema(grammar.CONDITION_FORM, "visit product/notebook within 30 days", "add cart since purchase", or_else=_ANY),
]
DurationText: TypeAlias = Annotated[
    Duration,
    _parsed(Duration, grammar.parse_duration),
    PlainSerializer(_text),
    _schema("a duration", "2 hours", "30 days"),
]
HoursText: TypeAlias = Annotated[
    OpeningHours,
    PlainValidator(_read_hours),
    PlainSerializer(_text),
    _schema("local times of day", "08:00-21:00", "21:00-06:00", or_else={"type": "array", "items": {"type": "string"}}),
]
DaysText: TypeAlias = Annotated[
    Weekdays,
    _parsed(Weekdays, grammar.parse_days),
    PlainSerializer(_text),
    _schema("local weekdays", "mon-sat", "sat, sun"),
]
MomentText: TypeAlias = Annotated[
    LocalTime,
    PlainValidator(_read_moment),
    PlainSerializer(lambda value: value.isoformat()),
    WithJsonSchema({"type": "string", "description": "a local date, or a date and time", "examples": ["2026-11-01"]}),
]


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, validate_default=True, use_attribute_docstrings=True
    )

    def model_post_init(self, _: object) -> None:
        """Freeze what the fields hold, too."""
        held = self.__dict__
        for key, value in held.items():
            if type(value) is list or type(value) is dict:
                held[key] = freeze(value)


class Segment(_Model):
    """Visitors with a threshold of their own."""

    who: list[ClauseText] = Field(min_length=1)
    """The visitors for whom all of these conditions hold."""
    threshold: list[CapText] = Field(min_length=1)
    """Replaces the general threshold for these visitors."""


class Annoyance(_Model):
    """The threshold, per visitor, over every campaign and channel."""

    threshold: list[CapText] = Field(min_length=1)
    """At most this many points per window; all of these must hold."""
    points: dict[str, Annotated[int, Field(ge=1, le=1_000)]] = {}
    """What one impression costs, by the campaign's `channel` label; 1 for a channel not listed."""
    segment: dict[str, Segment] = {}
    """Segments by name. The first one that a visitor is in replaces the threshold."""


class Rules(_Model):
    """The rules of a campaign; in [defaults], the rules of every campaign that does not set its own."""

    audience: list[ClauseText] = []
    """All of these conditions must hold; `{ any = [...] }` holds if one of its conditions does."""
    exclude: list[ConditionText] = []
    """Any one of these conditions blocks."""
    caps: list[CapText] = []
    """At most this many impressions of this campaign per window; all of these must hold."""
    gap: DurationText | None = None
    """The shortest time between two impressions of this campaign."""
    hours: HoursText | None = None
    """Shown only at these local times of day."""
    days: DaysText | None = None
    """Shown only on these local weekdays."""
    start: MomentText | None = None
    """The start of the flight. A date starts at local midnight."""
    end: MomentText | None = None
    """The end of the flight. A date is included in full; a date and time is excluded."""
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The cost of one impression, for reports."""
    obeys: bool = True
    """false: never capped; no cap, gap, label cap or threshold applies."""
    counts: bool = True
    """false: its impressions do not count towards the threshold and label caps."""


class Campaign(Rules):
    """One campaign."""

    labels: dict[str, str] = {}
    """Advertiser, channel, creative, ...: label caps and points apply by these, and templates are filled from them."""


class PolicyModel(_Model):
    """The fields of a policy file. `load.Policy` adds loading and findings."""

    timezone: str = "UTC"
    """IANA time zone of calendar windows, hours, days, start and end, unless a call gives the visitor's own."""
    retention: DurationText = Duration("400 days", 400 * 86_400)
    """How long events are remembered for rules without a window."""
    week_start: Literal["monday", "sunday"] = "monday"
    """The first day of a calendar week."""
    session: DurationText = Duration("30 minutes", 1_800)
    """A session ends after this long without an event."""
    on_unknown_visitor: Literal["block", "allow"] = "block"
    """The answer for a visitor without an id."""
    on_no_consent: Literal["block", "allow"] = "block"
    """The answer for a visitor who has not consented; nothing is read or written."""
    on_store_error: Literal["block", "allow", "raise"] = "block"
    """The answer when the store fails."""
    annoyance: Annoyance | None = None
    """The threshold over every campaign and channel."""
    caps: dict[str, list[CapText]] = {}
    """Caps per label over all campaigns that carry it: `advertiser` caps each one, `"channel:email"` this one."""
    defaults: Rules | None = None
    """The rules of every campaign that does not set its own, and of campaigns not named in the policy."""
    campaign: dict[str, Campaign] = {}
    """The campaigns by id."""

    def rules(self, campaign: str) -> Campaign | None:
        """The campaign with defaults applied; None if the policy has no rules for it."""
        own = self.campaign.get(campaign)
        if self.defaults is None:
            return own
        given = {key: getattr(self.defaults, key) for key in self.defaults.model_fields_set}
        if own is not None:
            given |= {key: getattr(own, key) for key in own.model_fields_set}
        return Campaign.model_construct(**given)

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        load_zone(value)
        return value


def threshold_lists(policy: PolicyModel) -> dict[str, list[Cap]]:
    """The thresholds by their place in the policy, in the order in which they are tried: the general one last."""
    annoyance = policy.annoyance
    if annoyance is None:
        return {}
    segments = {f"annoyance.segment.{name}.threshold": part.threshold for name, part in annoyance.segment.items()}
    return {**segments, "annoyance.threshold": annoyance.threshold}


def events_named(policy: PolicyModel) -> Iterator[tuple[str, str | None]]:
    """Every event that a rule names, with its subject as written, None for any; some more than once.

    Those of conditions, and those at which windows begin: of conditions, caps, label caps and thresholds.
    """
    rules = [*policy.campaign.values(), *([policy.defaults] if policy.defaults else [])]
    segments = policy.annoyance.segment.values() if policy.annoyance else ()
    clauses = [*(rule.audience for rule in rules), *(segment.who for segment in segments)]
    conditions = [condition for clause in chain.from_iterable(clauses) for condition in clause]
    conditions += chain.from_iterable(rule.exclude for rule in rules)
    lists = [*(rule.caps for rule in rules), *policy.caps.values(), *threshold_lists(policy).values()]
    for condition in conditions:
        yield condition.event, condition.subject
    windows = [condition.window for condition in conditions] + [cap.window for cap in chain.from_iterable(lists)]
    for window in windows:
        if window and window.event:
            yield window.event, window.subject
