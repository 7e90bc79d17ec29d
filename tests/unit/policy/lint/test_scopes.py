"""Campaigns with defaults applied: their bounds, when they are open, whom they can be shown to."""

from __future__ import annotations

import pytest

from retarget.policy.grammar import parse_condition
from retarget.policy.lint import scopes
from retarget.policy.lint.bounds import Lookback, lookbacks
from retarget.policy.lint.scopes import Scope
from retarget.policy.load import Policy

DAY = 86_400


def scopes_of(toml: str) -> dict[str, Scope]:
    """The scopes of a policy by id."""
    return {scope.id: scope for scope in scopes.scopes_of(Policy.from_text(toml))}


def a(rules: str) -> Scope:
    """The scope of a campaign with these rules."""
    return scopes_of(f"[campaign.a]\n{rules}")["a"]


def showable(toml: str) -> set[str]:
    """The campaigns of a policy that can be shown."""
    return scopes.showable(scopes_of(toml), Policy.from_text(toml))


# ---- scopes ----------------------------------------------------------------------------------------------------------


def test_scopes_of_a_policy() -> None:
    """One per campaign; with [defaults], one for the campaigns that the policy does not name comes first."""
    assert list(scopes_of("[campaign.b]\n[campaign.a]")) == ["b", "a"]
    assert list(scopes_of("[defaults]\n[campaign.a]")) == ["{campaign}", "a"]


def test_places_of_inherited_and_own_keys() -> None:
    """An inherited key is in [defaults], its own in the campaign, also where it overrides a default."""
    found = scopes_of('[defaults]\ncaps = ["1 per day"]\ngap = "day"\n[campaign.a]\ngap = "hour"\ndays = "mon"')["a"]
    assert (found.inherits, found.overrides) == (frozenset({"caps"}), frozenset({"gap"}))
    assert [found.place(key) for key in ("caps", "gap", "days")] == [
        "defaults.caps",
        "campaign.a.gap",
        "campaign.a.days",
    ]


def test_the_campaigns_own_name_is_filled_in() -> None:
    """`{campaign}` becomes the id in every condition; other templates stay."""
    found = a('audience = ["click {campaign}", "visit"]\nexclude = ["dismiss {campaign}-{item}"]')
    assert [clause[0].subject for clause in found.audience] == ["a", None]
    assert [condition.subject for condition in found.exclude] == ["a-{item}"]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("", Lookback("rolling", 400 * DAY)),
        ("end = 2026-11-30", Lookback("rolling", 400 * DAY)),
        ("start = 2026-11-01", ("flight", 400 * DAY, False)),
        ("start = 2026-11-01\nend = 2026-11-30", ("flight", 33 * DAY, True)),
        ("start = 2026-01-01\nend = 2027-12-31", ("flight", 400 * DAY, False)),
    ],
)
def test_lookback_of_the_flight(rules: str, expected: Lookback | tuple[str, int, bool]) -> None:
    """From its start, three days longer than its length, at most the retention; without a start, the retention."""
    found = a(rules)
    lookback = found.lookback(parse_condition("visit within flight").window)
    if isinstance(expected, Lookback):
        assert lookback == expected
    else:
        assert (lookback.kind, lookback.seconds, lookback.whole) == expected
        assert lookback.start == found.rules.start


# ---- caps ------------------------------------------------------------------------------------------------------------


def test_bounds_of_caps_and_gap() -> None:
    """Its caps, then its gap; none if it does not obey."""
    found = a('caps = ["3 per day"]\ngap = "2 hours"').bounds()
    assert [(bound.place, bound.text, bound.limit, bound.window.seconds) for bound in found] == [
        ("campaign.a.caps[0]", "3 per day", 3, DAY),
        ("campaign.a.gap", "2 hours", 1, 7_200),
    ]
    assert len(a('caps = ["3 per day"]').bounds()) == 1
    assert scopes_of('[defaults]\ncaps = ["3 per day"]\n[campaign.a]\nobeys = false')["a"].bounds() == []


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ('labels = { k = "x" }', [("caps.k[0]", " for k 'x'"), ("caps.k:x[0]", " for k 'x'")]),
        ('labels = { k = "y" }', [("caps.k[0]", " for k 'y'")]),
        ('labels = { l = "x" }', []),
        ('labels = { k = "x" }\ncounts = false', []),
    ],
)
def test_label_bounds(rules: str, expected: list[tuple[str, str]]) -> None:
    """The caps of the kind and of the value of each of its labels, if it counts."""
    toml = f'[caps]\nk = ["3 per day"]\n"k:x" = ["2 per day"]\n[campaign.a]\n{rules}'
    found = scopes.label_bounds(Policy.from_text(toml), scopes_of(toml)["a"])
    assert [(bound.place, bound.note) for bound in found] == expected


def test_thresholds() -> None:
    """Divided by the points of an impression; the spacing of a spread threshold is not."""
    toml = """
        [annoyance]
        threshold = [{ cap = "8 per day", spread = true }]
        [annoyance.segment.s]
        who = ["visit"]
        threshold = ["9 per day"]
    """
    lookback = lookbacks(400 * DAY)
    segment, general = scopes.thresholds_of(Policy.from_text(toml), lookback, 3)
    assert [(bound.place, bound.limit, bound.note) for bound in segment] == [
        ("annoyance.segment.s.threshold[0]", 3, " at 3 points each")
    ]
    assert [(bound.limit, bound.window.seconds) for bound in general] == [(2, DAY), (1, DAY // 8)]
    assert scopes.thresholds_of(Policy.from_text(toml), lookback, 1)[1][0].note == ""
    assert scopes.thresholds_of(Policy(), lookback, 1) == []


# ---- schedule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "unit", "expected"),
    [
        ("", "day", True),
        ('hours = "08:00-21:00"', "day", False),
        ('hours = "08:00-21:00"', "hour", True),
        ('hours = "08:00-09:00"', "hour", False),
        ('hours = "18:00-02:00"', "day", True),
        ('hours = ["18:00-24:00", "00:00-02:00"]', "day", True),
        ('days = "mon-fri"', "week", False),
        ('days = "sun-mon"', "week", True),
        ('days = "sat-sun"', "week", False),
        ('days = "mon, wed"', "day", False),
        ('days = "mon, wed"', "hour", True),
        ('days = "mon, wed"', "month", False),
        ('days = "mon-tue"', "month", True),
        ("start = 2026-11-01\nend = 2026-11-01", "day", False),
        ("start = 2026-11-01\nend = 2026-11-02", "day", True),
        ('exclude = ["2 impression a within hour"]', "day", False),
        ('exclude = ["2 click a within hour"]', "day", True),
    ],
)
def test_open_across_the_end_of_a_period(rules: str, unit: str, *, expected: bool) -> None:
    """Hours, days and flight must be open on both sides; an exclusion by impressions may act as a cap."""
    assert a(rules).is_open_across(unit, "monday") is expected


def test_open_across_the_end_of_a_week() -> None:
    """The week ends where the policy says."""
    assert a('days = "sat-sun"').is_open_across("week", "sunday")
    assert not a('days = "sun-mon"').is_open_across("week", "sunday")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("", False),
        ('days = "mon-fri"', False),
        ('end = 2026-11-08\ndays = "mon-fri"', False),
        ("start = 2026-11-07\nend = 2026-11-08", False),
        ('start = 2026-11-07\nend = 2026-11-08\ndays = "mon-fri"', True),
        ('start = 2026-11-07\nend = 2026-11-09\ndays = "mon-fri"', False),
        ('start = 2026-11-07T08:00:00\nend = 2026-11-07T10:00:00\nhours = "10:00-21:00"', True),
        ('start = 2026-11-07T08:00:00\nend = 2026-11-07T10:00:01\nhours = "10:00-21:00"', False),
        ('start = 2026-11-07T12:00:00\nend = 2026-11-08T08:00:00\ndays = "sat"\nhours = "08:00-12:00"', True),
        ('start = 2026-11-01\nend = 2027-02-28\ndays = "sat"\nhours = "08:00-12:00"', False),
    ],
)
def test_never_opens(rules: str, *, expected: bool) -> None:
    """Hours and days together, from the start of the flight to its end."""
    toml = f"[campaign.a]\n{rules}"
    assert scopes.never_opens(Policy.from_text(toml), scopes_of(toml)["a"]) is expected


def test_exact_flights_are_judged_in_the_policys_zone() -> None:
    """08:00 to 10:00 UTC is 09:00 to 11:00 in Zurich, where the campaign opens at 10:00."""
    rules = 'start = 2026-11-07T08:00:00Z\nend = 2026-11-07T10:00:00Z\nhours = "10:00-21:00"'
    for zone, never in (("UTC", True), ("Europe/Zurich", False)):
        toml = f'timezone = "{zone}"\n[campaign.a]\n{rules}'
        scope = scopes_of(toml)["a"]
        assert scopes.is_exact(scope.rules)
        assert scopes.never_opens(Policy.from_text(toml), scope) is never


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("start = 2026-11-07\nend = 2026-11-08", False),
        ("start = 2026-11-07T08:00:00", False),
        ("start = 2026-11-07T08:00:00Z", True),
        ("end = 2026-11-07T08:00:00+01:00", True),
        ("", False),
    ],
)
def test_exact_flights(rules: str, *, expected: bool) -> None:
    """A flight is exact if its start or its end has an offset."""
    assert scopes.is_exact(a(rules).rules) is expected


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ('"00:00-24:00"', True),
        ('["18:00-06:00", "06:00-18:00"]', True),
        ('["00:00-12:00", "11:00-24:00"]', True),
        ('"00:00-23:59"', False),
        ('["00:00-12:00", "13:00-24:00"]', False),
    ],
)
def test_whole_days(hours: str, *, expected: bool) -> None:
    """Spans that leave no gap, in any order, overlapping or not."""
    spans = a(f"hours = {hours}").rules.hours
    assert spans is not None
    assert scopes.is_whole_day(spans.spans) is expected


# ---- audience and reachability ---------------------------------------------------------------------------------------

BRAND = '[campaign.brand]\ncaps = ["3 per 7 days", "9 per calendar month"]\n'


@pytest.mark.parametrize(
    ("condition", "cap"),
    [
        ("4 impression brand within 7 days", "3 per 7 days"),
        ("3 impression brand within 7 days", None),
        ("7 impression brand within 8 days", "3 per 7 days"),
        ("19 impression brand within calendar month", "3 per 7 days"),
        ("4 click brand within 7 days", None),
        ("4 impression other within 7 days", None),
        ("4 impression within 7 days", None),
    ],
)
def test_more_impressions_than_allowed(condition: str, cap: str | None) -> None:
    """The reason names the cap and what it allows; there is none if the campaign is unknown or the count possible."""
    found = scopes_of(BRAND)
    reason = scopes.why_too_many(parse_condition(condition), found["brand"].lookback, found)
    if cap is None:
        assert reason is None
    else:
        assert reason is not None
        assert reason.startswith(f"{condition!r} is more than campaign.brand.caps[0] {cap!r} allows (at most ")


def test_calendar_caps_bound_only_visitors_of_one_zone() -> None:
    """Travelling, a visitor may see more than a calendar cap allows at home, unless the windows are the same."""
    found = scopes_of('[campaign.a]\ncaps = ["1 per calendar day"]\n[campaign.b]\ncaps = ["1 per session"]')
    lookback = found["a"].lookback
    assert scopes.why_too_many(parse_condition("9 impression a within 2 days"), lookback, found) is None
    assert scopes.why_too_many(parse_condition("9 impression b within 2 days"), lookback, found) is None
    assert scopes.why_too_many(parse_condition("2 impression a within calendar day"), lookback, found) is not None


def test_why_impossible() -> None:
    """Blocked by an exclusion, in need of a campaign that cannot be shown, or more than allowed; in this order."""
    found = scopes_of(BRAND)
    lookback = found["brand"].lookback
    blocks: scopes.Blocks = {("visit", None): [("x.exclude[0]", parse_condition("visit"))]}

    def why(condition: str, *shown: str) -> str | None:
        return scopes.why_impossible(parse_condition(condition), lookback, found, shown, blocks)

    assert why("visit x") == "every visitor who meets 'visit x' is blocked by x.exclude[0] 'visit'"
    assert why("click brand") == "'click brand' needs 'brand', which can never be shown"
    assert why("click brand", "brand") is None
    assert (why("4 impression brand within day", "brand") or "").startswith("'4 impression brand within day' is more")
    assert why("purchase") is None


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("[campaign.a]\n[campaign.b]", {"a", "b"}),
        ('[campaign.a]\naudience = ["click b"]\n[campaign.b]', {"a", "b"}),
        ('[campaign.a]\naudience = ["click b"]\n[campaign.b]\naudience = ["click a"]', set()),
        ('[campaign.a]\naudience = ["conversion a"]', {"a"}),
        ('[campaign.a]\naudience = [{ any = ["click a", "click b"] }]\n[campaign.b]', {"a", "b"}),
        ('[campaign.a]\naudience = ["click b"]\n[campaign.b]\naudience = ["click c"]\n[campaign.c]', {"a", "b", "c"}),
        ('[campaign.a]\nstart = 2026-11-07\nend = 2026-11-08\ndays = "mon"', set()),
        ('[campaign.a]\nstart = 2026-11-07T00:00:00Z\nend = 2026-11-07T08:00:00Z\ndays = "mon"', {"a"}),
        ('[campaign.a]\naudience = ["visit x"]\nexclude = ["visit"]\n[campaign.b]', {"b"}),
        ('[defaults]\naudience = ["click {campaign}"]', set()),
        ("[defaults]", {"{campaign}"}),
    ],
)
def test_showable(toml: str, expected: set[str]) -> None:
    """The campaigns that need no other, then those that need only these; an exact flight is open in some zone."""
    assert showable(toml) == expected


def test_closed_clauses() -> None:
    """A reason for each clause: of all its alternatives, each once; empty if one alternative is possible."""
    found = scopes_of("""
        [campaign.a]
        audience = [{ any = ["visit x", "visit x", "visit y"] }, "purchase", { any = ["visit x", "purchase"] }]
        exclude = ["visit"]
    """)
    blocked = "is blocked by campaign.a.exclude[0] 'visit'"
    assert list(scopes.closed_clauses(found["a"], found, {"a"})) == [
        f"every visitor who meets 'visit x' {blocked}; every visitor who meets 'visit y' {blocked}",
        "",
        "",
    ]


def test_circles() -> None:
    """The shortest path back; none from a campaign that only leads into a circle."""
    found = scopes_of("""
        [campaign.a]
        audience = [{ any = ["click b", "click c"] }]
        [campaign.b]
        audience = ["click c", "click b2"]
        [campaign.b2]
        [campaign.c]
        audience = ["impression a", "click b"]
        [campaign.d]
        audience = ["click a"]
    """)
    assert scopes.circles_of(found, {"b2"}) == {"a": ["a", "c", "a"], "b": ["b", "c", "b"], "c": ["c", "a", "c"]}


def test_a_campaign_may_need_itself() -> None:
    """The shortest circle of all."""
    found = scopes_of('[campaign.a]\naudience = ["click a"]\n[campaign.b]\naudience = ["click a"]')
    assert scopes.circles_of(found, set()) == {"a": ["a", "a"]}


@pytest.mark.parametrize("length", [2, 20, 21, 3_000])
def test_long_circles_are_cut_short(length: int) -> None:
    """A circle of thousands is found without recursion, and not listed for each of its campaigns."""
    rules = {f"c{n}": {"audience": [f"click c{(n + 1) % length}"]} for n in range(length)}
    policy = Policy.model_validate({"campaign": rules})
    circles = scopes.circles_of({scope.id: scope for scope in scopes.scopes_of(policy)}, set())
    assert circles.keys() == rules.keys()
    whole = [f"c{n}" for n in range(length)] + ["c0"]
    assert circles["c0"] == (whole if length <= 20 else ["c0", "c1", "...", "c0"])
