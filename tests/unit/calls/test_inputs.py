"""inputs.py: what callers get wrong is a clear error that says what would be right, and nothing is changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from retarget import Candidate, Event, InputError, MemoryStore, Policy, PolicyError, Retargeter
from tests.support.fixtures import Ads, Clock

TEXT = """
[annoyance]
threshold = ["50 per day"]
[caps]
item = ["9 per day"]
[campaign.a]
caps = ["9 per day"]
exclude = ["click a"]
[campaign.b]
audience = ["visit product/{item}"]
"""
NAUGHTY = [
    "{",
    "{campaign}",
    "{item}",
    "}{",
    "a:b",
    "*",
    "@",
    "^",
    "#0",
    "#1",
    "i",
    "e",
    " ",
    "a b",
    "../..",
    "%s%d",
    "'; DROP",
    '"',
    "\\",
    "\N{GRINNING FACE}",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "e\N{COMBINING ACUTE ACCENT}",
    "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 80,
    "0",
    "None",
    "-1",
    "x" * 256,
]
UNPRINTABLE = ["a\nb", "\0", "a\0b", "\t", "\x1b[31m", "\r\n", "\N{RIGHT-TO-LEFT OVERRIDE}x"]


@pytest.fixture
def memory() -> MemoryStore:
    """The store that the tests here inspect."""
    return MemoryStore()


@pytest.fixture
def shop(memory: MemoryStore, clock: Clock) -> Iterator[Retargeter]:
    """A retargeter whose visitor `v` has some history; the test must not change a byte of it."""
    shop = Retargeter(Policy.from_text(TEXT), memory, clock=clock)
    shop.claim("v", ["a"], id="before")
    shop.record("v", "visit", "product/x")
    before = shop.export("v"), len(memory)
    yield shop
    assert (shop.export("v"), len(memory)) == before


# -- visitors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("visitor", [*NAUGHTY, *UNPRINTABLE, "x" * 500])
def test_a_visitors_id_may_be_any_string(ads: Ads, visitor: str) -> None:
    """Up to 510 bytes of anything: counted for this visitor only, exported and forgotten."""
    shop = ads(TEXT)
    assert shop.claim(visitor, ["a"], id="x") is not None
    assert shop.record("v", "impression", "a") is True
    exported = shop.export(visitor)
    assert exported["visitor"] == visitor
    assert len(exported["timelines"]["impression a"]["at"]) == 1
    assert shop.forget(visitor) is True
    assert shop.export(visitor)["timelines"] == {}
    assert shop.forget("v") is True


@pytest.mark.parametrize(
    ("visitor", "expected"),
    [
        ("", "has 1 to 510 bytes; this one has 0"),
        ("secret" * 170_000, "has 1 to 510 bytes; this one has 1020000"),
        ("secret\N{GRINNING FACE}" * 60, "has 1 to 510 bytes; this one has 600"),
        ("secret\ud800", "not valid Unicode"),
        (b"secret", "not bytes"),
        (4711, "not int"),
        (True, "not bool"),
        (47.11, "not float"),
        (["secret"], "not list"),
        ({"secret": 1}, "not dict"),
    ],
    ids=["empty", "1 MB", "too long in bytes", "lone surrogate", "bytes", "int", "bool", "float", "list", "dict"],
)
def test_an_invalid_visitor_is_refused_and_not_shown(shop: Retargeter, visitor: Any, expected: str) -> None:
    """Every call says what an id must be, and never repeats the id, which may identify a person."""
    calls: list[Callable[[], object]] = [
        lambda: shop.decide(visitor),
        lambda: shop.claim(visitor, ["a"], id="x"),
        lambda: shop.record(visitor, "impression", "a"),
        lambda: shop.record_many([(visitor, "impression", "a")]),
        lambda: list(shop.decide_many([visitor])),
        lambda: shop.export(visitor),
        lambda: shop.forget(visitor),
    ]
    for call in calls:
        with pytest.raises(InputError, match=expected) as raised:
            call()
        assert "visitor" in str(raised.value)
        assert "secret" not in str(raised.value) + repr(raised.value.__cause__)
        assert "4711" not in str(raised.value)


def test_the_length_of_a_visitors_id_does_not_depend_on_the_prefix(memory: MemoryStore) -> None:
    """510 bytes are 510 bytes behind a prefix of accents too."""
    shop = Retargeter(Policy.from_text(TEXT), memory, prefix="\N{LATIN SMALL LETTER E WITH ACUTE}" * 20)
    assert shop.claim("x" * 510, ["a"]) is not None


def test_an_unknown_visitor_cannot_be_exported_or_forgotten(shop: Retargeter) -> None:
    """None cannot be exported or forgotten: an error, while decide, claim and record accept it."""
    for call in (shop.export, shop.forget):
        with pytest.raises(InputError, match="visitor"):
            call(None)  # type: ignore[arg-type]
    assert shop.record(None, "impression", "a") is False


# -- campaigns, subjects, labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", NAUGHTY)
def test_campaigns_subjects_and_labels_may_be_any_printable_text(ads: Ads, text: str) -> None:
    """Up to 256 bytes: a cap on each counts independently, and none is mistaken for another."""
    shop = ads('[defaults]\ncaps = ["1 per day"]\nexclude = ["dismiss {campaign}"]\n[caps]\nitem = ["1 per day"]')
    labelled = Candidate("labelled", item=text)
    assert shop.claim("v", [text]) is not None
    assert shop.decide("v", [text, "plain", labelled]).eligible == ("plain", labelled)
    assert shop.claim("v", [labelled]) is not None
    assert shop.decide("v", [labelled, Candidate("other", item=text), "plain"]).eligible == ("plain",)
    assert shop.record("w", "dismiss", text) is True
    assert shop.decide("w", [text, "plain"]).eligible == ("plain",)


@pytest.mark.parametrize("name", ["{item}", "{campaign}", "a b", "\N{GRINNING FACE}", "x" * 256, "#0", "*", "a.b"])
def test_a_policys_own_campaigns_may_be_called_anything_printable(ads: Ads, name: str) -> None:
    """Its cap counts its own impressions only; only a name like a template is refused."""
    text = f'[campaign."{name}"]\ncaps = ["1 per day"]\n[campaign.z]\ncaps = ["1 per day"]'
    if "{" in name:
        with pytest.raises(PolicyError) as raised:
            ads(text)
        assert name in str(raised.value)
        return
    shop = ads(text)
    assert shop.record("v", "impression", "stranger") is True
    assert shop.claim("v", [name]) is not None
    assert shop.decide("v").eligible == ("z",)
    assert shop.export("v")["timelines"].keys() == {f"impression {name}"}


WRONG_TEXTS = [
    ("", "0 bytes"),
    ("x" * 257, "257 bytes"),
    ("x" * 1_000_000, "1000000 bytes"),
    *((text, "control characters") for text in UNPRINTABLE),
    ("\ud800", "Unicode"),
    (5, "int"),
    (b"a", "bytes"),
    (True, "bool"),
    (1.5, "float"),
    (["a"], "list"),
    ({"a": 1}, "dict"),
    (("a",), "tuple"),
]
WRONG_IDS = [f"{number}" for number in range(len(WRONG_TEXTS))]


@pytest.mark.parametrize(("text", "expected"), WRONG_TEXTS, ids=WRONG_IDS)
def test_an_invalid_campaign_is_refused(shop: Retargeter, text: Any, expected: str) -> None:
    """In decide, claim and record: an error of a readable length that says what is wrong with it."""
    for call in (
        lambda: shop.decide("v", ["a", text]),
        lambda: shop.claim("v", [text, "a"]),
        lambda: shop.claim("v", [Candidate(text), "a"]),
        lambda: shop.record("v", "impression", text),
        lambda: shop.record("v", "click", Candidate(text)),
        lambda: list(shop.decide_many(["v"], [text])),
        lambda: shop.record_many([("v", "impression", "a"), ("v", "impression", text)]),
    ):
        with pytest.raises(InputError, match=expected) as raised:
            call()
        assert len(str(raised.value)) < 400
        assert "campaign" in str(raised.value)


@pytest.mark.parametrize(("text", "expected"), [(None, "NoneType"), *WRONG_TEXTS], ids=["None", *WRONG_IDS])
def test_an_invalid_label_is_refused(shop: Retargeter, text: Any, expected: str) -> None:
    """The error names the label's kind."""
    for call in (
        lambda: shop.decide("v", [Candidate("b", item=text)]),
        lambda: shop.claim("v", [Candidate("a", item=text)]),
        lambda: shop.record("v", "impression", Candidate("a", item=text)),
    ):
        with pytest.raises(InputError, match=expected) as raised:
            call()
        assert len(str(raised.value)) < 400
        assert "item" in str(raised.value)


def test_a_candidate_of_none_is_refused(shop: Retargeter) -> None:
    """None among the candidates is a mistake, not "every campaign"."""
    for call in (shop.decide, shop.claim):
        with pytest.raises(InputError, match="NoneType"):
            call("v", [None])  # type: ignore[list-item]


@pytest.mark.parametrize("candidates", ["a", "", Candidate("a"), 5, True, 1.5, object()])
def test_candidates_must_come_as_a_list(shop: Retargeter, candidates: Any) -> None:
    """A single string would be taken letter by letter: refused, saying what to give."""
    for call in (
        lambda: shop.decide("v", candidates),
        lambda: shop.claim("v", candidates),
        lambda: list(shop.decide_many(["v"], candidates)),
    ):
        with pytest.raises(InputError, match=r"candidates=.*give a list of campaign ids"):
            call()


def test_visitors_must_come_as_a_list(shop: Retargeter) -> None:
    """`decide_many("v1")` would decide on the visitors `v` and `1`: refused like candidates given as a string."""
    for visitors in ("visitor-1", 5, None):
        with pytest.raises(InputError, match="visitors"):
            list(shop.decide_many(visitors))  # type: ignore[arg-type]


# -- events ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        "",
        " ",
        "a b",
        "1click",
        "click!",
        "cl\nick",
        "\0",
        "x" * 65,
        "x" * 1_000_000,
        "\ud800",
        5,
        None,
        b"click",
        ["click"],
        True,
    ],
)
def test_an_invalid_event_name_is_refused(shop: Retargeter, event: Any) -> None:
    """Letters, digits, . - and _, at most 64, no digit first: the message says so, and stays short."""
    for call in (
        lambda: shop.record("v", event, "a"),
        lambda: shop.record_many([("v", "click", "a"), ("v", event, "a")]),
    ):
        with pytest.raises(InputError, match="not a valid event name: use letters, digits") as raised:
            call()
        assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "event", ["Click", "video.complete-50", "\N{LATIN SMALL LETTER E WITH ACUTE}v\u00e9nement", "x" * 64, "_x"]
)
def test_event_names_may_be_words_of_any_language(ads: Ads, event: str) -> None:
    """What a policy may ask about can be recorded."""
    shop = ads(f'[campaign.a]\nexclude = ["{event}"]')
    assert shop.record("v", event) is True
    assert shop.decide("v").eligible == ()


def test_an_impression_needs_its_campaign(shop: Retargeter) -> None:
    """Without it nobody could tell what was shown."""
    with pytest.raises(InputError, match="campaign as the subject"):
        shop.record("v", "impression")


@pytest.mark.parametrize("id_", ["", "\ud800", 5, b"x", True, ["x"], 1.5])
def test_an_invalid_event_id_is_refused(shop: Retargeter, id_: Any) -> None:
    """A non-empty string: the message says so."""
    for call in (
        lambda: shop.record("v", "click", "a", id=id_),
        lambda: shop.claim("v", ["a"], id=id_),
        lambda: shop.record_many([Event("v", "click", "a", id=id_)]),
    ):
        with pytest.raises(InputError, match="id="):
            call()


@pytest.mark.parametrize("id_", [*NAUGHTY, *UNPRINTABLE, "x" * 1_000_000], ids=range(len(NAUGHTY + UNPRINTABLE) + 1))
def test_an_event_id_may_be_any_string_of_any_length(ads: Ads, id_: str) -> None:
    """It is remembered by its hash: a repeat is recognised, another id is not."""
    shop = ads(TEXT)
    assert [shop.record("v", "click", "a", id=id_) for _ in range(2)] == [True, False]
    assert shop.record("v", "click", "a", id=id_ + "x") is True


@pytest.mark.parametrize(
    "row",
    [
        5,
        None,
        "click",
        b"click",
        (),
        ("v",),
        ("v", "click", "a", None, None, "too many"),
        {},
        {"visitor": "v"},
        {"visitor": "v", "event": "click", "when": 5},
        {1: 2},
    ],
)
def test_an_invalid_event_is_refused_and_nothing_of_its_batch_is_written(shop: Retargeter, row: Any) -> None:
    """`record_many` says what a row must be, and the good rows before it are not counted."""
    with pytest.raises(InputError, match="is not a valid event"):
        shop.record_many([("v", "click", "a"), row])


@pytest.mark.parametrize("events", [5, None])
def test_events_must_come_as_a_list(shop: Retargeter, events: Any) -> None:
    """What cannot be iterated over is refused."""
    with pytest.raises(InputError, match="events"):
        shop.record_many(events)


def test_a_single_event_is_not_taken_for_a_list(shop: Retargeter) -> None:
    """A tuple or mapping of one event is not taken for several."""
    for events in (("v", "click", "a"), {"visitor": "v", "event": "click"}, "click"):
        with pytest.raises(InputError, match=r"give a list of Events|not a valid event"):
            shop.record_many(events)  # type: ignore[arg-type]


# -- times -------------------------------------------------------------------------------------------------------------

WRONG_TIMES: list[tuple[Any, str]] = [
    (datetime(2026, 11, 10), "no time zone"),  # noqa: DTZ001 - that is the case
    (math.nan, "not a valid time"),
    (math.inf, "not a valid time"),
    (-math.inf, "not a valid time"),
    (True, "not a valid time"),
    ("2026-11-10T12:00:00Z", "not a valid time"),
    ("1794312000", "not a valid time"),
    (b"1", "not a valid time"),
    ([1_794_312_000], "not a valid time"),
    (Decimal(5), "not a valid time"),
    (timedelta(1), "not a valid time"),
    (datetime(2026, 11, 10).date(), "not a valid time"),  # noqa: DTZ001
    (-1, "out of range"),
    (-0.5, "out of range"),
    (1_794_312_000_000, "milliseconds"),
    (1_794_312_000_000.0, "milliseconds"),
    (1_794_312_000_000_000, "out of range"),
    (2**32, "out of range"),
    (1e300, "out of range"),
    (10**400, "valid time|out of range"),
    (datetime(9999, 12, 31, tzinfo=UTC), "out of range"),
    (datetime(1, 1, 1, tzinfo=UTC), "out of range"),
    (datetime(1969, 12, 31, tzinfo=UTC), "out of range"),
]


@pytest.mark.parametrize(("moment", "expected"), WRONG_TIMES, ids=[f"{n}" for n in range(len(WRONG_TIMES))])
def test_an_invalid_time_is_refused(shop: Retargeter, moment: Any, expected: str) -> None:
    """Naive, not finite, not a number, out of range, in milliseconds: the message names the argument and the cure."""
    for name, call in (
        ("now", lambda: shop.decide("v", now=moment)),
        ("now", lambda: shop.claim("v", ["a"], now=moment)),
        ("now", lambda: list(shop.decide_many(["v"], now=moment))),
        ("at", lambda: shop.record("v", "click", "a", at=moment)),
        ("at", lambda: shop.record_many([("v", "click", "a", moment)])),
    ):
        with pytest.raises(InputError, match=f"^{name}=.*({expected})") as raised:
            call()
        assert len(str(raised.value)) < 300


@pytest.mark.parametrize("now", [0, 1, 2**32 - 301])
def test_the_first_and_the_last_second_are_valid_times(ads: Ads, now: int) -> None:
    """1970 and 2106: decided, claimed, explained, without an overflow."""
    shop = ads(
        '[campaign.a]\ncaps = ["1 per calendar month", "2 per lifetime"]\ngap = "1 day"\nhours = "00:00-24:00"',
        clock=lambda: now,
    )
    assert shop.claim("v", now=now) is not None
    assert shop.claim("v", now=now) is None
    verdict = shop.decide("v", now=now)["a"]
    assert verdict.eligible_at is not None
    assert verdict.eligible_at.timestamp() > now


# -- what has no hash --------------------------------------------------------------------------------------------------


class Odd(str):
    """A string that has no hash."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]


def test_what_has_no_hash_is_refused(shop: Retargeter) -> None:
    """A string without a hash among candidates, as an event's name or its subject: InputError, not TypeError."""
    for call in (
        lambda: shop.decide("v", ["a", Odd("a")]),
        lambda: shop.claim("v", [Odd("a")]),
        lambda: list(shop.decide_many(["v"], [Odd("a")])),
        lambda: shop.record("v", "click", Odd("a")),
        lambda: shop.record("v", Odd("click"), "a"),
    ):
        with pytest.raises(InputError, match=r"(candidates|event): unhashable type"):
            call()
