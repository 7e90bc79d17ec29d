"""The grammar as tables: a text and what it means, a text and what its error says."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retarget.policy import grammar
from retarget.policy.grammar import MAX_COUNT, MAX_SECONDS, MAX_TEXT_BYTES, Cap, Condition, Span

MINUTE, HOUR, DAY = 60, 3_600, 86_400


# ---- windows and durations -------------------------------------------------------------------------------------------

DURATIONS = [
    ("second", 1),
    ("1 second", 1),
    ("45 seconds", 45),
    ("90 minutes", 90 * MINUTE),
    ("90minutes", 90 * MINUTE),
    ("hour", HOUR),
    ("2 HOURS", 2 * HOUR),
    ("day", DAY),
    ("  30 days ", 30 * DAY),
    ("week", 7 * DAY),
    ("2 weeks", 14 * DAY),
    ("7320 days", MAX_SECONDS),
]
WINDOWS = [
    *((text, Span("rolling", seconds)) for text, seconds in DURATIONS),
    ("calendar hour", Span("hour")),
    ("Calendar Day", Span("day")),
    ("calendar  week", Span("week")),
    ("calendar month", Span("month")),
    ("flight", Span("flight")),
    ("Lifetime", Span("lifetime")),
    (" session ", Span("session")),
]
WRONG_LENGTHS = [
    ("month", '\'month\' can be read in two ways: write "30 days" (rolling) or "calendar month"'),
    ("2 months", '"60 days" (rolling) or "calendar month" (from the first of the month)'),
    ("quarter", '"90 days" (rolling) or a cap per calendar month'),
    ("1 year", '"365 days" (rolling) or a cap per calendar month'),
    ("0 days", "'0 days' is 0 seconds: a duration must be from 1 second to 7,320 days"),
    ("7321 days", "'7321 days' is 632,534,400 seconds: a duration must be from 1 second to 7,320 days"),
]
NOT_LENGTHS = ["", "soon", "-1 day", "1.5 hours", "2 hourz", "1 day 2 hours", "days 2"]


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_durations(text: str, seconds: int) -> None:
    """A number and a unit, in seconds; the text is kept, without the spaces around it."""
    assert grammar.parse_duration(text) == grammar.Duration(text.strip(), seconds)


@pytest.mark.parametrize(("text", "window"), WINDOWS)
def test_windows(text: str, window: Span) -> None:
    """A window is a duration or a named period, in any case."""
    assert grammar.parse_window(text) == window


@pytest.mark.parametrize(("text", "message"), WRONG_LENGTHS)
def test_ambiguous_and_extreme_lengths(text: str, message: str) -> None:
    """An ambiguous unit is refused with both meanings, a length out of range with the range."""
    for parse in (grammar.parse_duration, grammar.parse_window):
        with pytest.raises(ValueError, match=re.escape(message)):
            parse(text)


@pytest.mark.parametrize("text", NOT_LENGTHS)
def test_invalid_lengths(text: str) -> None:
    """A text that is neither a duration nor a named period is refused with examples of what may be written there."""
    with pytest.raises(ValueError, match='is not a valid duration: write "90 minutes" or "30 days"'):
        grammar.parse_duration(text)
    with pytest.raises(ValueError, match='is not a valid window: write a duration such as "90 minutes"'):
        grammar.parse_window(text)


@pytest.mark.parametrize("text", ["calendar", "calendar year", "calendar day 2", "calendar 2 days"])
def test_invalid_calendar_windows(text: str) -> None:
    """A calendar window is one of four."""
    with pytest.raises(ValueError, match="not a valid calendar window: write calendar hour, calendar day"):
        grammar.parse_window(text)


@pytest.mark.parametrize("text", ["flight", "lifetime", "session", "calendar day"])
def test_a_named_window_is_not_a_duration(text: str) -> None:
    """A gap or a retention has a length of its own."""
    with pytest.raises(ValueError, match="is not a valid duration"):
        grammar.parse_duration(text)


# ---- caps ------------------------------------------------------------------------------------------------------------

CAPS = [
    ("3 per day", 3, Span("rolling", DAY)),
    ("3/day", 3, Span("rolling", DAY)),
    ("3 / 2 hours", 3, Span("rolling", 2 * HOUR)),
    ("10 PER 30 Days  ", 10, Span("rolling", 30 * DAY)),
    ("5 per calendar week", 5, Span("week")),
    ("6 per flight", 6, Span("flight")),
    ("1 per session", 1, Span("session")),
    (f"{MAX_COUNT} per lifetime", MAX_COUNT, Span("lifetime")),
    ("3 since click", 3, Span("since", event="click")),
    (" 3  SINCE  Click  {campaign} ", 3, Span("since", event="Click", subject="{campaign}")),
    ('3 since order "red shoes"', 3, Span("since", event="order", subject="red shoes")),
    ('3 since "since" "within"', 3, Span("since", event="since", subject="within")),
    ("3 since click a/b", 3, Span("since", event="click", subject="a/b")),
]
WRONG_CAPS = [
    ("", "'' is not a valid cap: write LIMIT per WINDOW, or LIMIT since EVENT [SUBJECT], such as \"3 per day\""),
    ("3 a day", "'3 a day' is not a valid cap"),
    ("three per day", "'three per day' is not a valid cap"),
    ("3per day", "'3per day' is not a valid cap"),
    ("3 perday", "'3 perday' is not a valid cap"),
    ("3 per", "'3 per' is not a valid cap"),
    ("0 per day", "the limit is 0, it must be from 1 to 10,000; to stop showing a campaign, remove it or set an end"),
    ("-3 per day", "the limit is -3, it must be from 1 to 10,000; to stop showing"),
    ("10001 per day", "the limit is 10001, it must be from 1 to 10,000; a cap that high never binds"),
    ("3 per month", "'month' can be read in two ways"),
    ("3 per fortnight", "'fortnight' is not a valid window"),
    ("3since click", "'3since click' is not a valid cap"),
    ("3 since", "'since ' is not a valid window: write since EVENT [SUBJECT]"),
    ("3 since 7 days", "'since 7 days' is not a valid window: write since EVENT [SUBJECT]"),
    ("3 per since click", "write 'since click' without the per, the slash or the within before it"),
    ("3/since click", "write 'since click' without the per, the slash or the within before it"),
    (
        "3 per day since click",
        "'day since click': a rule has one window, a length of time or since an event; write two",
    ),
    ("3 since click per day", "a length of time goes after per or within, and a rule has one window"),
    ("0 since click", "the limit is 0, it must be from 1 to 10,000"),
]


@pytest.mark.parametrize(("text", "limit", "window"), CAPS)
def test_caps(text: str, limit: int, window: Span) -> None:
    """A cap is a limit per window; the text is kept."""
    assert grammar.parse_cap(text) == Cap(text.strip(), limit, window)


@pytest.mark.parametrize(("text", "message"), WRONG_CAPS)
def test_wrong_caps(text: str, message: str) -> None:
    """The error quotes the text and says what would be right."""
    with pytest.raises(ValueError, match=re.escape(message)):
        grammar.parse_cap(text)


def test_spacing() -> None:
    """A spread cap spaces impressions by its window's nominal length over its limit; another cap does not."""
    window = Span("rolling", DAY)
    assert Cap("4 per day", 4, window).spacing == 0
    assert Cap("4 per day", 4, window, spread=True).spacing == 6 * HOUR
    assert Cap("10 per calendar month", 10, Span("month"), spread=True).spacing == 3 * DAY


# ---- conditions ------------------------------------------------------------------------------------------------------

CLICK_SINCE = Span("since", event="click", subject="{campaign}")
CONDITIONS = [
    ("purchase", 1, "purchase", None, None),
    ("3 visit", 3, "visit", None, None),
    ("visit product/notebook", 1, "visit", "product/notebook", None),
    ("visit within 7 days", 1, "visit", None, Span("rolling", 7 * DAY)),
    ("3 visit pricing within 7 days", 3, "visit", "pricing", Span("rolling", 7 * DAY)),
    ('visit "red shoes" within session', 1, "visit", "red shoes", Span("session")),
    ('visit "within"', 1, "visit", "within", None),
    ("Visit Pricing WITHIN calendar DAY", 1, "Visit", "Pricing", Span("day")),
    ("click {campaign}", 1, "click", "{campaign}", None),
    ("add-to.cart_2 x", 1, "add-to.cart_2", "x", None),
    ("achète é", 1, "achète", "é", None),
    (f"{MAX_COUNT} visit", MAX_COUNT, "visit", None, None),
    ("visit " + "x" * MAX_TEXT_BYTES, 1, "visit", "x" * MAX_TEXT_BYTES, None),
    ("add cart since purchase", 1, "add", "cart", Span("since", event="purchase")),
    ("5 impression {campaign} since click {campaign}", 5, "impression", "{campaign}", CLICK_SINCE),
    ("visit since visit pricing", 1, "visit", None, Span("since", event="visit", subject="pricing")),
    ("Visit  X  SINCE  Order  Y", 1, "Visit", "X", Span("since", event="Order", subject="Y")),
    (
        'visit "red shoes" since order "red shoes"',
        1,
        "visit",
        "red shoes",
        Span("since", event="order", subject="red shoes"),
    ),
    ('"since" "within" since "within" "since"', 1, "since", "within", Span("since", event="within", subject="since")),
    ('"visit" x', 1, "visit", "x", None),
    ("visit since-2020 within day", 1, "visit", "since-2020", Span("rolling", DAY)),
    ("visit within.x", 1, "visit", "within.x", None),
    ("sinceRe x", 1, "sinceRe", "x", None),
]
WRONG_CONDITIONS = [
    (
        "",
        "'' is not a valid condition: write [N] EVENT [SUBJECT] [within WINDOW], or [N] EVENT [SUBJECT] since EVENT "
        "[SUBJECT], such as",
    ),
    ("since purchase", "'since purchase' is not a valid condition"),
    ("2 since", "'2 since' is not a valid condition"),
    ("visit within", "'visit within' is not a valid condition"),
    ('visit "x"since y', "is not a valid condition"),
    ("visit since", "'since ' is not a valid window: write since EVENT [SUBJECT], such as \"since purchase\""),
    ("visit x since", "'since ' is not a valid window: write since EVENT [SUBJECT]"),
    ("visit since 30 days", "'since 30 days' is not a valid window: write since EVENT [SUBJECT]"),
    ("visit since 2 purchase", "'since 2 purchase' is not a valid window"),
    ("visit since since", "'since since' is not a valid window"),
    ("visit since a b c", "'since a b c' is not a valid window"),
    ("visit since x within 3 days", "a length of time goes after per or within, and a rule has one window"),
    ("visit within 3 days since x", "'3 days since x': a rule has one window"),
    ("visit x within since purchase", "write 'since purchase' without the per, the slash or the within before it"),
    ("0 visit since x", "the count is 0, it must be from 1 to 10,000"),
    ("visit since x " + "y" * (MAX_TEXT_BYTES + 1), "the subject has 257 bytes; it must have at most 256"),
    ("visit since x \ud800", "the subject is not valid Unicode"),
    ("visit since x {1st}", "{1st} is not a valid label; write its name in braces, such as {item}"),
    ("within 7 days", "'within 7 days' is not a valid condition"),
    ("within", "'within' is not a valid condition"),
    ("2nd visit", "'2nd visit' is not a valid condition"),
    ("visit red shoes", 'put a subject with spaces in double quotes: visit "red shoes" within 7 days'),
    ('visit ""', "is not a valid condition"),
    ("x" * 65, "is not a valid condition"),
    ("0 visit", "the count is 0, it must be from 1 to 10,000; put an event that must not have happened under exclude"),
    ("-1 visit", "the count is -1, it must be from 1 to 10,000"),
    ("10001 visit", "the count is 10001, it must be from 1 to 10,000"),
    ("visit within soon", "'soon' is not a valid window"),
    ("visit " + "x" * (MAX_TEXT_BYTES + 1), "the subject has 257 bytes; it must have at most 256"),
    ("visit " + "é" * 129, "the subject has 258 bytes; it must have at most 256"),
    ("visit \ud800", "the subject is not valid Unicode"),
    ("visit product/{}", "{} is not a valid label; write its name in braces, such as {item}"),
    ("visit product/{1st}", "{1st} is not a valid label"),
]


@pytest.mark.parametrize(("text", "count", "event", "subject", "window"), CONDITIONS)
def test_conditions(text: str, count: int, event: str, subject: str | None, window: Span | None) -> None:
    """A count, an event, a subject and a window; all but the event may be left out."""
    assert grammar.parse_condition(f" {text} ") == Condition(text, count, event, subject, window)


@pytest.mark.parametrize(("text", "message"), WRONG_CONDITIONS)
def test_wrong_conditions(text: str, message: str) -> None:
    """The error quotes the text and says what would be right."""
    with pytest.raises(ValueError, match=re.escape(message)):
        grammar.parse_condition(text)


def test_subjects() -> None:
    """What a rule names: its own subject, and that of the event at which its window begins."""
    assert grammar.parse_condition("visit {item} since order {campaign}").subjects == ("{item}", "{campaign}")
    assert grammar.parse_condition("visit since order x").subjects == ("x",)
    assert grammar.parse_condition("visit x within day").subjects == ("x",)
    assert grammar.parse_condition("visit").subjects == ()
    assert grammar.parse_cap("3 since click {item}").subjects == ("{item}",)
    assert grammar.parse_cap("3 since click").subjects == grammar.parse_cap("3 per day").subjects == ()


@given(
    st.integers(1, 9),
    st.sampled_from(["visit", "Since2", "within_x"]),
    st.sampled_from(["", " x", ' "a b"', ' "since"', " since-x"]),
    st.sampled_from(["purchase", '"since"', '"within"']),
    st.sampled_from(["", " y", ' "c d"', ' "within"', " {item}"]),
    st.sampled_from([" since ", "  SINCE "]),
)
def test_a_condition_since_an_event_is_two_events(
    count: int, event: str, subject: str, anchor: str, on: str, since: str
) -> None:
    """Each half is read as it would be by itself."""
    found = grammar.parse_condition(f"{count} {event}{subject}{since}{anchor}{on}")
    left, right = grammar.parse_condition(f"{count} {event}{subject}"), grammar.parse_condition(f"{anchor}{on}")
    assert (found.count, found.event, found.subject) == (count, left.event, left.subject)
    assert found.window == Span("since", event=right.event, subject=right.subject)
    assert grammar.parse_cap(f"{count}{since}{anchor}{on}").window == found.window


# ---- hours and days --------------------------------------------------------------------------------------------------

HOURS = [
    ("08:00-21:00", [(8 * HOUR, 21 * HOUR)]),
    ("8:00 - 21:30", [(8 * HOUR, 21 * HOUR + 30 * MINUTE)]),
    ("21:00-06:00", [(21 * HOUR, 6 * HOUR)]),
    ("00:00-24:00", [(0, DAY)]),
    ("08:00-12:00, 14:00-18:00", [(8 * HOUR, 12 * HOUR), (14 * HOUR, 18 * HOUR)]),
]
DAYS = [
    ("mon", {0}),
    ("mon-sat", {0, 1, 2, 3, 4, 5}),
    ("sat, sun", {5, 6}),
    ("fri-mon", {4, 5, 6, 0}),
    ("mon, wed-fri", {0, 2, 3, 4}),
    ("Monday", {0}),
    ("TUESDAY - thursday", {1, 2, 3}),
    ("tues,thurs", {1, 3}),
    ("sunday,sunday", {6}),
    ("mon-mon", {0}),
    ("mon-sun", {0, 1, 2, 3, 4, 5, 6}),
]
RIGHT_DAYS = 'write "mon-sat", "sat, sun" or "mon, wed-fri"'
WRONG_DAYS = [
    ("monday tuesday", 'separate days with commas, "monday, tuesday"'),
    ("mon tue", 'separate days with commas, "mon, tue"'),
    ("saturday sunday", 'separate days with commas, "saturday, sunday"'),
    ("mon, wed fri", 'separate days with commas, "mon, wed, fri"'),
    ("mon tue-fri", 'separate days with commas, "mon, tue-fri"'),
    ("mon-wed  fri", 'separate days with commas, "mon-wed, fri"'),
    ("mon-someday", RIGHT_DAYS),
    ("mon someday", RIGHT_DAYS),
    ("mo", RIGHT_DAYS),
    ("mons", RIGHT_DAYS),
    ("day", RIGHT_DAYS),
    ("mon-wed-fri", RIGHT_DAYS),
    ("mon-", RIGHT_DAYS),
    ("mon,", RIGHT_DAYS),
    ("", RIGHT_DAYS),
]


@pytest.mark.parametrize(("text", "spans"), HOURS)
def test_hours(text: str, spans: list[tuple[int, int]]) -> None:
    """Spans in seconds since midnight; one that passes midnight ends before it begins."""
    assert grammar.parse_hours(f" {text} ") == grammar.OpeningHours(text, tuple(spans))


@pytest.mark.parametrize(
    "text",
    ["", "8-21", "08:00", "08:00-08:00", "24:00-06:00", "08:00-24:01", "08:60-09:00", "08:00-09:60", "x, 08:00-9:00"],
)
def test_wrong_hours(text: str) -> None:
    """An empty span and a time that no clock shows are refused."""
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is not a valid time range: write")):
        grammar.parse_hours(text)


@pytest.mark.parametrize(("text", "days"), DAYS)
def test_days(text: str, days: set[int]) -> None:
    """Days and ranges of days, also over the weekend; names in full or abbreviated to at least three letters."""
    assert grammar.parse_days(text) == grammar.Weekdays(text, frozenset(days))


@pytest.mark.parametrize(("text", "message"), WRONG_DAYS)
def test_wrong_days(text: str, message: str) -> None:
    """Several days without commas are refused with the commas they lack, other texts with examples."""
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is not a valid list of days: {message}")):
        grammar.parse_days(text)


# ---- templates and labels --------------------------------------------------------------------------------------------


def test_templates() -> None:
    """A template names kinds of labels and is filled from them; it is None if one is missing."""
    assert grammar.labels_in("product/{item}/{size}") == ("item", "size")
    assert grammar.labels_in("product") == ()
    assert grammar.fill("product/{item}/{size}", {"item": "i1", "size": "{item}"}) == "product/i1/{item}"
    assert grammar.fill("product/{item}/{size}", {"item": "i1"}) is None
    assert grammar.fill("product", {}) == "product"


@pytest.mark.parametrize(
    ("text", "valid"),
    [("advertiser", True), ("_a-1", True), ("größe", True), ("", False), ("1st", False), ("-a", False), ("a b", False)],
)
def test_label_kinds(text: str, *, valid: bool) -> None:
    """Letters, digits, - and _, not starting with a digit."""
    assert grammar.is_label_kind(text) is valid


@given(
    st.lists(st.sampled_from(["mon", "monday", "Tue", "tuesday", "wed", "SATURDAY", "sun"]), min_size=1, max_size=4),
    st.lists(
        st.sampled_from([",", ", ", " ", "  ", "-", " - ", ";", "/", " and ", "\t", "\n", "+", " to ", ""]), min_size=3
    ),
)
def test_no_day_is_ever_dropped(words: list[str], between: list[str]) -> None:
    """However days are strung together: all of them are read, or the text is refused."""
    text = "".join(word + gap for word, gap in zip(words, [*between[: len(words) - 1], ""], strict=False))
    try:
        days = grammar.parse_days(text).days
    except ValueError:
        return
    assert {grammar.parse_days(word).days for word in words} <= {frozenset({day}) for day in days}


# ---- any text --------------------------------------------------------------------------------------------------------

PARSERS = [
    grammar.parse_duration,
    grammar.parse_window,
    grammar.parse_cap,
    grammar.parse_condition,
    grammar.parse_hours,
    grammar.parse_days,
]


@given(st.text(alphabet='0123456789 :-,/{}"dayshourmontueperwithincalendarsince\n\ud800é'))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Whatever the text, a parser returns or raises ValueError."""
    for parse in PARSERS:
        with contextlib.suppress(ValueError):
            parse(text)
