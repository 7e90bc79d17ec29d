"""Lookbacks, what one bound allows of another, which bounds are redundant, and which conditions imply which."""

from __future__ import annotations

from datetime import date

import pytest

from retarget.policy.grammar import Cap, Span, parse_cap, parse_condition, parse_since, parse_window
from retarget.policy.lint.bounds import (
    Bound,
    Clauses,
    Dominance,
    Lookback,
    allowed_within,
    allows_twice,
    bounds_of,
    clause_implies,
    counts_nothing,
    implies,
    lookbacks,
    redundant_places,
)
from retarget.timelines import SESSION_AT_MOST

HOUR, DAY = 3_600, 86_400
RETENTION = 400 * DAY
FLIGHT = Lookback("flight", 10 * DAY, date(2026, 11, 1), whole=True)
LONG_FLIGHT = Lookback("flight", 10 * DAY, date(2026, 11, 1), whole=False)
LOOKBACK = lookbacks(RETENTION)


def bound(text: str, place: str = "x", *, points: bool = False, flight: Lookback | None = None) -> Bound:
    """The bound of a cap."""
    cap = parse_cap(text)
    return Bound(place, text, cap.limit, lookbacks(RETENTION, flight)(cap.window), points)


def group(*texts: str) -> list[Bound]:
    """The bounds of a list of caps."""
    return bounds_of("a", [parse_cap(text) for text in texts], LOOKBACK)


# ---- lookbacks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (None, Lookback("rolling", RETENTION)),
        ("lifetime", Lookback("rolling", RETENTION)),
        ("2 hours", Lookback("rolling", 2 * HOUR)),
        ("session", Lookback("session", SESSION_AT_MOST)),
        ("flight", Lookback("rolling", RETENTION)),
    ],
)
def test_lookbacks(window: str | None, expected: Lookback) -> None:
    """No window, a lifetime and a flight without a start look back as far as the retention."""
    assert LOOKBACK(parse_window(window) if window else None) == expected


def test_lookback_of_a_flight_and_of_calendar_periods() -> None:
    """A flight has the lookback given for it; a calendar period looks back over its longest possible length."""
    assert lookbacks(RETENTION, FLIGHT)(Span("flight")) == FLIGHT
    for period, nominal in (("hour", HOUR), ("day", DAY), ("week", 7 * DAY), ("month", 31 * DAY)):
        lookback = LOOKBACK(parse_window(f"calendar {period}"))
        assert lookback.kind == period
        assert nominal < lookback.seconds < nominal + 2 * DAY


# ---- what a bound allows within a window -----------------------------------------------------------------------------

ALLOWED = [
    # a window that covers the other: the limit, always
    ("3 per day", "day", (3, True)),
    ("3 per day", "1 hour", (3, True)),
    ("3 per 2 days", "calendar day", (3, True)),
    ("3 per day", "session", (3, True)),
    ("3 per calendar day", "calendar day", (3, True)),
    ("3 per calendar day", "calendar hour", (3, True)),
    ("3 per calendar week", "calendar day", (3, True)),
    ("3 per session", "session", (3, True)),
    # rolling windows: as many as fit, counting both ends
    ("3 per day", "2 days", (6, False)),
    ("3 per day", f"{DAY + 1} seconds", (6, False)),
    ("1 per 2 hours", "day", (12, False)),
    # calendar periods: those that fit, and parts of two more
    ("3 per calendar day", "20 hours", (6, False)),
    ("3 per calendar day", "22 hours", (9, False)),
    ("3 per calendar week", "calendar month", (18, False)),
    # no limit within the window
    ("3 per session", "day", None),
    ("3 per calendar hour", "day", None),
]


@pytest.mark.parametrize(("cap", "window", "expected"), ALLOWED)
def test_allowed_within(cap: str, window: str, expected: tuple[int, bool] | None) -> None:
    """The number, and whether it holds whatever has happened before."""
    assert allowed_within(bound(cap), LOOKBACK(parse_window(window))) == expected


def test_allowed_by_a_cap_per_flight() -> None:
    """A cap per flight bounds any window if it reaches back to the flight's start, else only windows of that length."""
    week, month = Lookback("rolling", 7 * DAY), Lookback("rolling", 30 * DAY)
    whole, part = bound("3 per flight", flight=FLIGHT), bound("3 per flight", flight=LONG_FLIGHT)
    assert allowed_within(whole, week) == allowed_within(whole, month) == (3, False)
    assert allowed_within(part, week) == (3, False)
    assert allowed_within(part, month) is None
    assert allowed_within(whole, FLIGHT) == (3, True)


# ---- bounds of caps --------------------------------------------------------------------------------------------------


def test_a_spread_cap_has_two_bounds() -> None:
    """Its limit, and one impression per spacing; points apply to the first alone."""
    cap = Cap("4 per day", 4, Span("rolling", DAY), spread=True)
    assert bounds_of("a", [cap], LOOKBACK, points=True, note=" for x") == [
        Bound("a[0]", "4 per day", 4, Lookback("rolling", DAY), points=True, note=" for x"),
        Bound("a[0]", "4 per day, spread", 1, Lookback("rolling", 6 * HOUR), points=False, note=" for x"),
    ]


# ---- redundant bounds ------------------------------------------------------------------------------------------------

REDUNDANT = [
    (["3 per day", "3 per 2 hours"], {"a[1]": ("3 per day", 3, True)}),
    (["3 per 2 hours", "3 per day"], {"a[0]": ("3 per day", 3, True)}),
    (["3 per day", "2 per 2 hours"], {}),
    (["3 per day", "20 per 7 days"], {}),
    (["3 per day", "30 per 7 days"], {"a[1]": ("3 per day", 21, False)}),
    # each makes the other redundant and is as certain: the first stays
    (["3 per day", "3 per day"], {"a[1]": ("3 per day", 3, True)}),
    (
        ["3 per day", "3 per 24 hours", "3 per 86400 seconds"],
        {"a[1]": ("3 per day", 3, True), "a[2]": ("3 per day", 3, True)},
    ),
    # the other allows no more than the limit, if nothing else is shown
    (["1 per 2 days", "2 per 4 days"], {"a[1]": ("1 per 2 days", 2, False)}),
    (["2 per calendar day", "4 per 20 hours"], {"a[1]": ("2 per calendar day", 4, False)}),
    # of several that dominate, one that always does, then the one that allows fewest
    (
        ["9 per hour", "5 per day", "3 per 2 days"],
        {"a[0]": ("3 per 2 days", 3, True), "a[1]": ("3 per 2 days", 3, True)},
    ),
]


@pytest.mark.parametrize(("caps", "expected"), REDUNDANT)
def test_redundant_caps_of_a_list(caps: list[str], expected: dict[str, tuple[str, int, bool]]) -> None:
    """The caps of a list that others of the list make redundant, each with the one that dominates it."""
    found = redundant_places(group(*caps), [], [])
    assert {place: (why.by.text, why.allowed, why.always) for place, (_, why) in found.items()} == expected


def test_of_two_the_one_that_always_dominates_stays() -> None:
    """Two bounds that make each other redundant, only one of them always: that one stays, in either order."""
    flight, lifetime = bound("3 per flight", "flight", flight=FLIGHT), bound("3 per lifetime", "lifetime")
    assert allowed_within(lifetime, flight.window) == (3, True)
    assert allowed_within(flight, lifetime.window) == (3, False)
    expected = {"flight": (flight, Dominance(lifetime, 3, always=True))}
    assert redundant_places([flight, lifetime], [], []) == expected
    assert redundant_places([lifetime, flight], [], []) == expected


def test_redundant_because_of_bounds_above() -> None:
    """The bounds above a group make its bounds redundant and are never redundant themselves."""
    above = [bound("3 per day", "label")]
    assert redundant_places(group("5 per day"), above, []) == {
        "a[0]": (group("5 per day")[0], Dominance(above[0], 3, always=True))
    }
    assert redundant_places(group("2 per day"), above, []) == {}


def test_redundant_because_of_every_threshold() -> None:
    """A cap is redundant only if each threshold makes it so; with several, only if they always do."""
    five, nine = [bound("5 per day", "general")], [bound("9 per day", "segment")]
    assert set(redundant_places(group("9 per day"), [], [nine, five])) == {"a[0]"}
    assert redundant_places(group("9 per day"), [], [nine, five])["a[0]"][1].by.place == "general"
    assert redundant_places(group("8 per day"), [], [nine, five]) == {}
    assert set(redundant_places(group("35 per 7 days"), [], [five])) == {"a[0]"}
    assert redundant_places(group("35 per 7 days"), [], [five, five]) == {}


def test_only_what_always_dominates() -> None:
    """With `always`, a bound that dominates only what the rules allow does not count."""
    caps = group("3 per day", "30 per 7 days", "4 per 2 hours")
    assert set(redundant_places(caps, [], [])) == {"a[1]", "a[2]"}
    assert set(redundant_places(caps, [], [], always=True)) == {"a[2]"}


def test_points_and_impressions() -> None:
    """A bound on impressions says nothing about points; one on points bounds impressions, which cost 1 or more."""
    impressions, points = bound("3 per day", "i"), bound("5 per day", "p", points=True)
    assert redundant_places([points], [impressions], []) == {}
    assert set(redundant_places([bound("9 per day", "i")], [points], [])) == {"i"}


def test_a_place_with_two_bounds() -> None:
    """A spread cap is redundant only if its limit and its spacing are."""
    spread = Cap("4 per day", 4, Span("rolling", DAY), spread=True)
    caps = bounds_of("a", [spread, parse_cap("3 per day")], LOOKBACK)
    assert redundant_places(caps, [], []) == {}
    caps = bounds_of("a", [spread, parse_cap("1 per day")], LOOKBACK)
    assert set(redundant_places(caps, [], [])) == {"a[0]"}


# ---- calendar caps used up twice -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cap", "others", "twice"),
    [
        ("3 per calendar day", [], True),
        ("3 per calendar day", ["6 per 12 hours"], True),
        ("3 per calendar day", ["5 per 12 hours"], False),
        ("3 per calendar day", ["1 per 10 minutes"], False),
        ("3 per calendar day", ["3 per calendar hour"], True),
        ("3 per calendar day", ["2 per calendar hour"], False),
        ("3 per calendar hour", ["5 per calendar day"], False),
        ("3 per calendar week", ["3 per calendar day"], True),
    ],
)
def test_allows_twice(cap: str, others: list[str], *, twice: bool) -> None:
    """Others prevent it, unless their own period ends at the same moment and leaves room again."""
    assert allows_twice(bound(cap), [bound(other) for other in others]) is twice


# ---- conditions ------------------------------------------------------------------------------------------------------

IMPLIES = [
    ("visit x", "visit x", True),
    ("visit x", "visit", True),
    ("visit", "visit x", False),
    ("visit x", "visit y", False),
    ("visit x", "click x", False),
    ("3 visit x", "2 visit x", True),
    ("2 visit x", "3 visit x", False),
    ("visit x within 7 days", "visit x within 8 days", True),
    ("visit x within 8 days", "visit x within 7 days", False),
    ("visit x within 7 days", "visit x", True),
    ("visit x within session", "visit x within day", True),
    ("visit x within calendar day", "visit x within 36 hours", True),
    ("visit x within calendar day", "visit x within day", False),
    ("visit x within 1 minute", "visit x within calendar day", False),
]


@pytest.mark.parametrize(("one", "other", "expected"), IMPLIES)
def test_implies(one: str, other: str, *, expected: bool) -> None:
    """The same event, at least as often, on that subject or any, in a window that is covered."""
    assert implies(parse_condition(one), parse_condition(other), LOOKBACK) is expected


def test_clause_implies() -> None:
    """Each alternative of the one must imply an alternative of the other."""
    x, y, any_visit = (parse_condition(text) for text in ("visit x", "visit y", "visit"))
    assert clause_implies([x, y], [any_visit], LOOKBACK)
    assert clause_implies([x], [y, x], LOOKBACK)
    assert not clause_implies([x, y], [x], LOOKBACK)


# ---- since -----------------------------------------------------------------------------------------------------------


def test_lookback_since_an_event() -> None:
    """As far as the retention, from that event on; `{campaign}` is the campaign."""
    span = parse_since("click {campaign}")
    assert LOOKBACK(span) == Lookback("since", RETENTION, anchor=("click", "{campaign}"))
    assert lookbacks(RETENTION, None, "a")(span) == Lookback("since", RETENTION, anchor=("click", "a"))
    assert lookbacks(RETENTION, None, "a")(parse_since("click")) == Lookback("since", RETENTION, anchor=("click", None))


@pytest.mark.parametrize(
    ("cap", "window", "expected"),
    [
        ("3 since click", "since click", (3, True)),
        ("3 since click", "since click a", None),
        ("3 since click a", "since click", None),
        ("3 since click", "lifetime", None),
        ("3 since click", "2 hours", None),
        ("3 per lifetime", "since click", (3, True)),
        ("3 per 400 days", "since click", (3, True)),
        ("3 per 200 days", "since click", (6, False)),
        ("3 per session", "since click", None),
    ],
)
def test_allowed_since_an_event(cap: str, window: str, expected: tuple[int, bool] | None) -> None:
    """A lifetime covers it, and the same window does; nothing shorter always does."""
    since, _, event = window.partition(" ") if window.startswith("since") else ("", "", "")
    assert allowed_within(bound(cap), LOOKBACK(parse_since(event) if since else parse_window(window))) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("visit x since order", "visit x", True),
        ("visit x since order", "visit", True),
        ("2 visit x since order", "visit x since order", True),
        ("visit x since order", "visit x since order y", False),
        ("visit x since order y", "visit x since order", False),
        ("visit x", "visit x since order", False),
        ("visit x within 1 hour", "visit x since order", False),
        ("visit x since order", "visit x within 399 days", False),
        ("visit x since order", "visit x within 400 days", True),
    ],
)
def test_implies_since_an_event(one: str, other: str, *, expected: bool) -> None:
    """What happened since an event happened in a lifetime; nothing else is certain."""
    assert implies(parse_condition(one), parse_condition(other), LOOKBACK) is expected


@pytest.mark.parametrize(
    ("counted", "since", "expected"),
    [
        (("visit", None), "visit", True),
        (("visit", "x"), "visit", True),
        (("visit", "x"), "visit x", True),
        (("visit", "{item}"), "visit {item}", True),
        (("visit", None), "visit x", False),
        (("visit", "x"), "visit {item}", False),
        (("visit", "x"), "order", False),
    ],
)
def test_counts_nothing(counted: tuple[str, str | None], since: str, *, expected: bool) -> None:
    """Where the window begins at the newest of what is counted, or of more."""
    assert counts_nothing(counted, LOOKBACK(parse_since(since))) is expected
    assert not counts_nothing(counted, LOOKBACK(parse_window("lifetime")))


def test_clauses_are_looked_up_by_what_they_ask() -> None:
    """Only those that may imply each other: the same event, on the same subject or on any."""
    texts = [["visit x"], ["visit"], ["visit y", "visit x"], ["order x"], ["visit x within day"]]
    clauses = [tuple(map(parse_condition, clause)) for clause in texts]
    listed = Clauses(clauses)
    assert listed.implied_by(clauses[0]) == [0, 1, 2, 4]
    assert listed.implying(clauses[0]) == [0, 4]
    assert listed.implying(clauses[1]) == [0, 1, 2, 4]
    assert listed.implied_by(clauses[3]) == listed.implying(clauses[3]) == [3]
    for one, clause in enumerate(clauses):
        certain = [other for other in range(5) if clause_implies(clause, clauses[other], LOOKBACK)]
        assert set(certain) <= set(listed.implied_by(clause))
        assert all(one in listed.implying(clauses[other]) for other in certain)
