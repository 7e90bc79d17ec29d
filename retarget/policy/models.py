"""The policy file as models: what may be written in it, and how its texts are read.

Rules:
- Strict: an unknown key, a wrong type, a text of no or of two readings is an error.
- A policy says what is wanted. How it is found out (facts, timelines) is `plan.py`'s business.
- A policy is frozen: change it by loading another and setting `ads.policy`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
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
from retarget.policy.grammar import Cap, Condition, Duration, Spans, Weekdays
from retarget.timelines import LocalTime

ID_BYTES = grammar.SUBJECT_BYTES
"""The longest campaign id, subject or label, in UTF-8 bytes."""


def load_zone(key: str) -> ZoneInfo:
    """The IANA time zone of that name. Raises ValueError with what would be right."""
    try:
        return ZoneInfo(key)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{key!r:.60} is no known time zone: write an IANA name such as Europe/Zurich or UTC"
        ) from error


def check_text(text: object, what: str) -> str:
    """The text, if it can be an id, a subject or a label: 1 to 256 bytes, printable. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"{what} {text!r:.60} must be a text, not {type(text).__name__}")  # noqa: TRY004 - one kind
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} {text!r:.60} is not valid Unicode") from error
    if not 1 <= size <= ID_BYTES:
        raise ValueError(f"{what} {text!r:.60} has {size} bytes; it must have 1 to {ID_BYTES}")
    if not text.isprintable():
        raise ValueError(f"{what} {text!r:.60} has control characters; use printable ones")
    return text


def _read_cap(value: object) -> Cap:
    if isinstance(value, Cap):
        return value
    if isinstance(value, str):
        return grammar.parse_cap(value)
    if not (isinstance(value, dict) and set(value) <= {"cap", "spread"} and isinstance(value.get("cap"), str)):
        raise ValueError(f'{value!r} is no cap: write {grammar.CAP_EXAMPLE}, or {{ cap = "4 per day", spread = true }}')
    cap, spread = grammar.parse_cap(value["cap"]), value.get("spread", False)
    if not isinstance(spread, bool):
        raise ValueError(f"spread is {spread!r}, it must be true or false")  # noqa: TRY004 - pydantic collects these
    if spread and cap.window.period in ("flight", "lifetime", "session"):
        raise ValueError(f"{cap.text!r} cannot be spread: give it a rolling or calendar window, or the campaign a gap")
    return Cap(cap.text, cap.limit, cap.window, spread)


def _read_clause(value: object) -> tuple[Condition, ...]:
    if isinstance(value, tuple) and all(isinstance(part, Condition) for part in value):
        return value
    texts = value["any"] if isinstance(value, dict) and set(value) == {"any"} else [value]
    if not (isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)):
        raise ValueError(f'{value!r} is no condition: write {grammar.CONDITION_EXAMPLE}, or {{ any = ["...", "..."] }}')
    return tuple(grammar.parse_condition(text) for text in texts)


def _read_spans(value: object) -> Spans:
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f'{value!r} are no hours: write "08:00-21:00", or a list of such spans')
    return grammar.parse_hours(", ".join(map(str, texts)))


def _read_moment(value: object) -> LocalTime:
    moment = value
    if isinstance(value, str):
        try:
            moment = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is no date: write 2026-11-01 or 2026-11-01T08:00:00+01:00") from error
    if not isinstance(moment, date):  # a datetime is one too
        raise ValueError(f"{value!r} is no date: write 2026-11-01 or 2026-11-01T08:00:00+01:00")  # noqa: TRY004
    if not 1971 <= moment.year <= 2105:
        raise ValueError(f"{value!s} is out of range: moments are from 1971 to 2105; leave it out if there is none")
    return moment


def _parsed(kind: type, parse: Callable[[str], object]) -> PlainValidator:
    """A validator that takes what is parsed already, and parses text."""

    def read(value: object) -> object:
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{value!r} must be a text in quotes")  # noqa: TRY004 - pydantic collects ValueErrors
        return parse(value)

    return PlainValidator(read)


def _text(value: Any) -> str:  # noqa: ANN401 - whatever a grammar parses has its text
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
_CONDITION_IS = "[N] EVENT [SUBJECT] [within WINDOW]"

CapText: TypeAlias = Annotated[
    Cap,
    PlainValidator(_read_cap),
    PlainSerializer(_cap_text),
    _schema("LIMIT per WINDOW", "3 per day", "10 per 30 days", "5 per calendar week", or_else=_SPREAD),
]
ConditionText: TypeAlias = Annotated[
    Condition,
    _parsed(Condition, grammar.parse_condition),
    PlainSerializer(_text),
    _schema(_CONDITION_IS, "purchase within 90 days", "signup webinar"),
]
ClauseText: TypeAlias = Annotated[
    tuple[Condition, ...],
    PlainValidator(_read_clause),
    PlainSerializer(_clause_text),
    _schema(_CONDITION_IS, "visit product/notebook within 30 days", or_else=_ANY),
]
DurationText: TypeAlias = Annotated[
    Duration,
    _parsed(Duration, grammar.parse_duration),
    PlainSerializer(_text),
    _schema("a duration", "2 hours", "30 days"),
]
SpansText: TypeAlias = Annotated[
    Spans,
    PlainValidator(lambda value: value if isinstance(value, Spans) else _read_spans(value)),
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


class Segment(_Model):
    """Visitors with a threshold of their own."""

    who: list[ClauseText] = Field(min_length=1)
    """All of these conditions make a visitor one of the segment."""
    threshold: list[CapText] = Field(min_length=1)
    """What replaces the threshold for her."""


class Annoyance(_Model):
    """The threshold, per visitor, over every campaign and channel."""

    threshold: list[CapText] = Field(min_length=1)
    """At most so many points per window: all of these hold."""
    points: dict[str, Annotated[int, Field(ge=1, le=1_000)]] = {}
    """What one impression costs, by the campaign's `channel` label; 1 where not named."""
    segment: dict[str, Segment] = {}
    """The first segment that fits replaces the threshold."""


class Rules(_Model):
    """What a campaign may ask for; in [defaults], what every campaign has unless it says otherwise itself."""

    audience: list[ClauseText] = []
    """All of these conditions are required; `{ any = [...] }` requires one of several."""
    exclude: list[ConditionText] = []
    """Any one of these blocks."""
    caps: list[CapText] = []
    """At most so many impressions of this campaign per window: all of these hold."""
    gap: DurationText | None = None
    """At least this long between two impressions of this campaign."""
    hours: SpansText | None = None
    """Only at these local times of day."""
    days: DaysText | None = None
    """Only on these local weekdays."""
    start: MomentText | None = None
    """Not before: the beginning of the flight. A date begins at local midnight."""
    end: MomentText | None = None
    """Not after: a date is included whole, a time is excluded."""
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Per impression, for reports."""
    obeys: bool = True
    """false: never capped; neither the threshold nor a cap applies."""
    counts: bool = True
    """false: uses up nothing of the threshold and of the caps it shares with others."""


class Campaign(Rules):
    """One campaign."""

    labels: dict[str, str] = {}
    """Its advertiser, channel, creative, ...: what caps per label and the threshold's points go by."""


class PolicyModel(_Model):
    """The fields of a policy file."""

    timezone: str = "UTC"
    """IANA zone of calendar windows, hours, days, start and end, where the visitor's own is not given."""
    retention: DurationText = Duration("400 days", 400 * 86_400)
    """How long what has no window is remembered."""
    week_start: Literal["monday", "sunday"] = "monday"
    """The first day of a calendar week."""
    session: DurationText = Duration("30 minutes", 1_800)
    """So long without an event ends a session."""
    on_unknown_visitor: Literal["block", "allow"] = "block"
    """The answer where there is no visitor id."""
    on_no_consent: Literal["block", "allow"] = "block"
    """The answer where the visitor has not consented; nothing is read or written."""
    on_store_error: Literal["block", "allow", "raise"] = "block"
    """The answer where the store fails."""
    annoyance: Annoyance | None = None
    """The threshold over every campaign and channel."""
    caps: dict[str, list[CapText]] = {}
    """Per label kind (`advertiser`: each one) or per label (`"channel:email"`), over all campaigns that carry it."""
    defaults: Rules | None = None
    """What every campaign has unless it says otherwise; campaigns not named get just this."""
    campaign: dict[str, Campaign] = {}
    """The campaigns by id."""

    def rules(self, campaign: str) -> Campaign | None:
        """The campaign with the defaults filled in where it says nothing itself; None if nothing applies to it."""
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
