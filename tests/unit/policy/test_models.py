"""The models of a policy file: what each key takes, what it holds afterwards, and how it is written back."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from retarget.errors import PolicyError
from retarget.policy.grammar import MAX_TEXT_BYTES, Cap, Condition, Duration, OpeningHours, Span, Weekdays
from retarget.policy.load import Policy
from retarget.policy.models import (
    Campaign,
    PolicyModel,
    Rules,
    check_text,
    events_named,
    load_zone,
    threshold_lists,
)

DAY = 86_400
PER_DAY = Cap("3 per day", 3, Span("rolling", DAY))
PURCHASE = Condition("purchase", 1, "purchase", None, None)
VISIT = Condition("2 visit x within day", 2, "visit", "x", Span("rolling", DAY))

# ---- what each key takes: as written, as held ------------------------------------------------------------------------

VALUES: list[tuple[str, object, object]] = [
    ("caps", ["3 per day"], [PER_DAY]),
    ("caps", [{"cap": "3 per day"}], [PER_DAY]),
    ("caps", [{"cap": "3 per day", "spread": True}], [Cap("3 per day", 3, Span("rolling", DAY), spread=True)]),
    ("caps", [PER_DAY], [PER_DAY]),
    ("audience", ["purchase"], [(PURCHASE,)]),
    ("audience", [{"any": ["purchase", "2 visit x within day"]}], [(PURCHASE, VISIT)]),
    ("audience", [(PURCHASE, VISIT)], [(PURCHASE, VISIT)]),
    ("exclude", ["purchase"], [PURCHASE]),
    ("exclude", [PURCHASE], [PURCHASE]),
    ("gap", "day", Duration("day", DAY)),
    ("gap", Duration("day", DAY), Duration("day", DAY)),
    ("gap", None, None),
    ("hours", "08:00-09:00", OpeningHours("08:00-09:00", ((28_800, 32_400),))),
    ("hours", ["08:00-09:00", "00:00-01:00"], OpeningHours("08:00-09:00, 00:00-01:00", ((28_800, 32_400), (0, 3_600)))),
    ("hours", OpeningHours("x", ((0, 1),)), OpeningHours("x", ((0, 1),))),
    ("days", "sat, sun", Weekdays("sat, sun", frozenset({5, 6}))),
    ("days", Weekdays("sat", frozenset({5})), Weekdays("sat", frozenset({5}))),
    ("start", "2026-11-01", date(2026, 11, 1)),
    ("start", "2026-11-01T08:00:00", datetime(2026, 11, 1, 8)),  # noqa: DTZ001 - local time
    ("start", "2026-11-01T08:00:00Z", datetime(2026, 11, 1, 8, tzinfo=UTC)),
    ("start", date(1971, 1, 1), date(1971, 1, 1)),
    ("end", "20261224", date(2026, 12, 24)),
    ("end", "2026-W52-4", date(2026, 12, 24)),
    ("end", "2026W524", date(2026, 12, 24)),
    ("end", "20261224T080000", datetime(2026, 12, 24, 8)),  # noqa: DTZ001 - local time
    ("end", "2026-W52-4T08", datetime(2026, 12, 24, 8)),  # noqa: DTZ001 - local time
    ("end", "2026-12-24T00:00", datetime(2026, 12, 24)),  # noqa: DTZ001 - local time
    ("end", date(2105, 12, 31), date(2105, 12, 31)),
    ("cost", 0.004, 0.004),
    ("cost", 1, 1.0),
    ("obeys", False, False),
    ("labels", {"channel": "email"}, {"channel": "email"}),
]
WRONG_VALUES: list[tuple[str, object, str]] = [
    ("end", "2026-W52", "'2026-W52' is a week, not a day: write a day of it, such as 2026-W52-1 for its Monday"),
    ("end", "2026W52", "'2026W52' is a week, not a day: write a day of it, such as 2026W521 for its Monday"),
    ("end", "2026-W52T08:00", "'2026-W52T08:00' is a week, not a day"),
    ("end", "2026-12", "'2026-12' is not a valid date: write 2026-11-01 or"),
    ("caps", [3], '3 is not a valid cap: write "3 per day"'),
    ("caps", [{"cap": 3}], "{'cap': 3} is not a valid cap"),
    ("caps", [{"cap": "3 per day", "sprad": True}], "is not a valid cap"),
    ("caps", [{"cap": "3 per day", "spread": "yes"}], "spread must be true or false, got 'yes'"),
    ("caps", [{"cap": "3 per flight", "spread": True}], "'3 per flight' cannot be spread: use a rolling or calendar"),
    ("caps", [{"cap": "3 per lifetime", "spread": True}], "or give the campaign a gap"),
    ("caps", ["3 a day"], "'3 a day' is not a valid cap"),
    ("audience", [5], "5 is not a valid condition: write"),
    ("audience", [{"any": []}], "{'any': []} is not a valid condition"),
    ("audience", [{"any": ["visit", 5]}], "is not a valid condition"),
    ("audience", [{"all": ["visit"]}], "is not a valid condition"),
    ("audience", [("visit",)], "('visit',) is not a valid condition"),
    ("exclude", [5], "5 must be a string in quotes"),
    ("gap", 7_200, "7200 must be a string in quotes"),
    ("gap", "flight", "'flight' is not a valid duration"),
    ("hours", [], '[] is not a valid time range: write "08:00-21:00", or a list of such strings'),
    ("hours", [8], "[8] is not a valid time range"),
    ("days", ["mon"], "['mon'] must be a string in quotes"),
    ("start", "soon", "'soon' is not a valid date: write 2026-11-01 or 2026-11-01T08:00:00+01:00"),
    ("start", 5, "5 is not a valid date"),
    ("start", date(1970, 12, 31), "1970-12-31 is out of range: years run from 1971 to 2105; leave the key out"),
    ("end", "2106-01-01", "2106-01-01 is out of range"),
    ("cost", -0.1, "greater than or equal to 0"),
    ("cost", float("inf"), "finite"),
    ("obeys", "no", "valid boolean"),
    ("labels", {"channel": 5}, "valid string"),
    ("cap", ["3 per day"], "Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("key", "written", "held"), VALUES)
def test_keys_of_a_campaign(key: str, written: object, held: object) -> None:
    """A text is parsed; a value that is parsed already is taken as it is."""
    assert getattr(Campaign.model_validate({key: written}), key) == held


@pytest.mark.parametrize(("key", "written", "message"), WRONG_VALUES)
def test_wrong_values(key: str, written: object, message: str) -> None:
    """The error quotes the value and says what would be right."""
    with pytest.raises(ValidationError, match=re.escape(message)):
        Campaign.model_validate({key: written})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"timezone": "Mars"}, "'Mars' is not a known time zone: write an IANA name such as Europe/Zurich or UTC"),
        ({"week_start": "tuesday"}, "'monday' or 'sunday'"),
        ({"on_store_error": "ignore"}, "'block', 'allow' or 'raise'"),
        ({"annoyance": {"threshold": []}}, "at least 1 item"),
        ({"annoyance": {"threshold": ["1 per day"], "points": {"x": 0}}}, "greater than or equal to 1"),
        ({"annoyance": {"threshold": ["1 per day"], "points": {"x": 1_001}}}, "less than or equal to 1000"),
        ({"annoyance": {"threshold": ["1 per day"], "segment": {"s": {"threshold": ["1 per day"]}}}}, "who"),
        ({"defaults": {"labels": {}}}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_policies(data: dict[str, Any], message: str) -> None:
    """The same for the other tables of a policy."""
    with pytest.raises(ValidationError, match=re.escape(message)):
        PolicyModel.model_validate(data)


def test_models_are_frozen() -> None:
    """A policy and its parts cannot be changed."""
    policy = PolicyModel.model_validate({"campaign": {"a": {}}})
    for model, key in ((policy, "timezone"), (policy.campaign["a"], "gap")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model, key, None)


def test_what_is_written_back() -> None:
    """Dumped as JSON, a policy has the texts it was written in, and loads as the same policy."""
    campaign = {
        "audience": ["purchase", {"any": ["purchase", "2 visit x within day"]}],
        "exclude": ["purchase"],
        "caps": ["3 per day", {"cap": "3 per day", "spread": True}],
        "gap": "2 hours",
        "hours": "08:00-09:00, 10:00-11:00",
        "days": "mon-fri",
        "start": "2026-11-01",
        "end": "2026-11-01T08:00:00+01:00",
    }
    policy = PolicyModel.model_validate({"campaign": {"a": campaign}})
    written = policy.model_dump(mode="json", exclude_unset=True)
    assert written == {"campaign": {"a": campaign}}
    assert PolicyModel.model_validate(written) == policy


# ---- defaults --------------------------------------------------------------------------------------------------------


def test_without_defaults_a_campaign_is_as_written() -> None:
    """A campaign that the policy does not name has no rules then."""
    policy = PolicyModel.model_validate({"campaign": {"a": {"gap": "day"}}})
    assert policy.rules("a") is policy.campaign["a"]
    assert policy.rules("b") is None


def test_defaults_fill_in_what_a_campaign_does_not_set() -> None:
    """A campaign's key replaces the default as a whole, even with []; an unnamed campaign has the defaults."""
    policy = PolicyModel(
        defaults=Rules.model_validate({"caps": ["3 per day"], "gap": "day"}),
        campaign={"a": Campaign.model_validate({"caps": [], "labels": {"k": "x"}})},
    )
    own, other = policy.rules("a"), policy.rules("b")
    assert own is not None
    assert other is not None
    assert (own.caps, own.gap, own.labels) == ([], Duration("day", DAY), {"k": "x"})
    assert (other.caps, other.gap, other.labels) == ([PER_DAY], Duration("day", DAY), {})
    assert own.model_fields_set == {"caps", "gap", "labels"}


def test_threshold_lists() -> None:
    """Segments in their order, then the general threshold; nothing without one."""
    assert threshold_lists(PolicyModel()) == {}
    segment = {"who": ["visit"], "threshold": ["3 per day"]}
    annoyance = {"threshold": ["3 per day", "3 per day"], "segment": {"t": segment, "s": segment}}
    assert list(threshold_lists(PolicyModel.model_validate({"annoyance": annoyance})).items()) == [
        ("annoyance.segment.t.threshold", [PER_DAY]),
        ("annoyance.segment.s.threshold", [PER_DAY]),
        ("annoyance.threshold", [PER_DAY, PER_DAY]),
    ]


# ---- texts and zones -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a", "{", "a b", "é" * 128, "x" * MAX_TEXT_BYTES])
def test_valid_texts(text: str) -> None:
    """Any printable string of 1 to 256 bytes can be an id, a subject or a label."""
    assert check_text(text, "campaign") == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (5, "campaign 5 must be a string, got int"),
        ("", "campaign '' has 0 bytes; it must have 1 to 256"),
        ("é" * 129, "has 258 bytes; it must have 1 to 256"),
        ("\ud800", "campaign '\\ud800' is not valid Unicode"),
        ("a\nb", "campaign 'a\\nb' contains control characters; use printable characters only"),
    ],
)
def test_invalid_texts(text: object, message: str) -> None:
    """The error names what the text is for, quotes it, and says what would be right."""
    with pytest.raises(ValueError, match=re.escape(message)):
        check_text(text, "campaign")


def test_zones() -> None:
    """An IANA name gives its zone; any other value is refused, and quoted up to a length."""
    assert load_zone("Europe/Zurich").key == "Europe/Zurich"
    for name in ("Mars", "../etc", "a\0b", "x" * 1_000, ""):
        with pytest.raises(ValueError, match="is not a known time zone: write an IANA name") as raised:
            load_zone(name)
        assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "localtime",
            "'localtime' is not an IANA time zone, but what a machine is set to: write a name such as Europe/",
        ),
        ("posixrules", "'posixrules' is not an IANA time zone, but what a machine is set to"),
        ("Factory", "'Factory' is not an IANA time zone, but what a machine is set to"),
        ("posix/Europe/Zurich", "'posix/Europe/Zurich' is not an IANA time zone: write 'Europe/Zurich'"),
        ("right/UTC", "'right/UTC' is not an IANA time zone: write 'UTC'"),
    ],
)
def test_what_lies_beside_the_zones_is_refused(name: str, message: str) -> None:
    """It means another zone on another machine, or counts leap seconds; the zone to write is named."""
    with pytest.raises(ValueError, match=re.escape(message)):
        load_zone(name)
    with pytest.raises(PolicyError, match=re.escape(message)):
        Policy.model_validate({"timezone": name})


def test_events_named() -> None:
    """Those of conditions, and those at which windows begin, wherever a rule may name one."""
    policy = Policy.from_text("""
        [annoyance]
        threshold = ["9 per day", "9 since a"]
        [annoyance.segment.s]
        who = [{ any = ["b", "c x since d"] }]
        threshold = ["9 since e y"]
        [caps]
        item = ["3 since f {item}"]
        [defaults]
        audience = ["g"]
        caps = ["3 since h"]
        [campaign.a]
        audience = [{ any = ["i x within day", "j"] }]
        exclude = ["k {item} since l"]
        caps = ["1 per day", "3 since m"]
    """)
    named = {"b": None, "c": "x", "g": None, "i": "x", "j": None, "k": "{item}"}
    begins = {"a": None, "d": None, "e": "y", "f": "{item}", "h": None, "l": None, "m": None}
    assert sorted(events_named(policy)) == sorted({**named, **begins}.items())
    assert list(events_named(PolicyModel())) == []
