"""Loading a policy: what is refused, and what each error says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retarget.errors import PolicyError
from retarget.policy.load import Policy

WRONG_POLICIES = [
    ('caps = ["1 per month"]', ["campaign.x.caps[0]", "1 per month", '"30 days" (rolling)', '"calendar month"']),
    ('caps = ["2 per year"]', ["campaign.x.caps[0]", "2 per year", '"365 days" (rolling)']),
    ('caps = ["3 per day", "three per day"]', ["campaign.x.caps[1]", "three per day", "LIMIT per WINDOW"]),
    ('caps = ["0 per day"]', ["campaign.x.caps[0]", "0 per day", "from 1 to 10,000", "end"]),
    ('caps = ["-3 per day"]', ["campaign.x.caps[0]", "-3 per day", "from 1 to 10,000"]),
    ('caps = ["10001 per day"]', ["campaign.x.caps[0]", "10001 per day", "never binds"]),
    ('caps = "3 per day"', ["campaign.x.caps", "list"]),
    ("caps = [3]", ["campaign.x.caps[0]", "3", "per day"]),
    ('caps = ["3 per calendar fortnight"]', ["campaign.x.caps[0]", "calendar fortnight", "calendar week"]),
    ('caps = [{ cap = "3 per day", sprad = true }]', ["campaign.x.caps[0]", "sprad", "spread"]),
    ('caps = [{ cap = "3 per session", spread = true }]', ["campaign.x.caps[0]", "3 per session", "gap"]),
    ('caps = ["3 per 10000 days"]', ["campaign.x.caps[0]", "10000 days", "7,320 days"]),
    ('gap = "2"', ["campaign.x.gap", "'2'", "90 minutes"]),
    ("gap = 7200", ["campaign.x.gap", "7200", "quotes"]),
    ('gap = "1 month"', ["campaign.x.gap", "1 month", "30 days"]),
    ('audience = ["visit within soon"]', ["campaign.x.audience[0]", "soon", "30 days"]),
    ('audience = ["2nd visit"]', ["campaign.x.audience[0]", "2nd visit", "[N] EVENT [SUBJECT]"]),
    ('audience = ["0 visit"]', ["campaign.x.audience[0]", "0 visit", "exclude"]),
    ('audience = ["visit red shoes"]', ["campaign.x.audience[0]", "visit red shoes", "double quotes"]),
    ("audience = [{ any = [] }]", ["campaign.x.audience[0]", "any"]),
    ('audience = ["visit product/{the item}"]', ["campaign.x.audience[0]", "double quotes"]),
    ('exclude = "purchase"', ["campaign.x.exclude", "list"]),
    ('hours = "8-21"', ["campaign.x.hours", "8-21", "08:00-21:00"]),
    ('hours = "08:00-08:00"', ["campaign.x.hours", "08:00-08:00"]),
    ('hours = "08:00-25:00"', ["campaign.x.hours", "08:00-25:00"]),
    ('days = "mon-someday"', ["campaign.x.days", "mon-someday", "mon-sat"]),
    ('start = "soon"', ["campaign.x.start", "soon", "2026-11-01"]),
    ("start = 2026-12-24\nend = 2026-11-01", ["campaign.x", "ends (2026-11-01)", "starts (2026-12-24)"]),
    ("cost = -1", ["campaign.x.cost", "-1", "0"]),
    ("cost = nan", ["campaign.x.cost", "nan"]),
    ('cost = "cheap"', ["campaign.x.cost", "cheap", "number"]),
    ('obeys = "no"', ["campaign.x.obeys", "no", "bool"]),
    ('obeys = false\ncaps = ["1 per day"]', ["campaign.x", "obeys = false", "remove one"]),
    ('cap = ["3 per day"]', ["campaign.x.cap", "unknown key", "'caps'"]),
    ("labels = { advertiser = 5 }", ["campaign.x.labels.advertiser", "5"]),
    ('labels = { "an advertiser" = "a" }', ["campaign.x.labels", "an advertiser", "letters, digits"]),
    ('labels = { advertiser = "" }', ["campaign.x.labels.advertiser", "1 to 256"]),
]


@pytest.mark.parametrize(("rule", "parts"), WRONG_POLICIES, ids=[rule for rule, _ in WRONG_POLICIES])
def test_a_wrong_rule_is_reported_with_campaign_key_text_and_cure(rule: str, parts: list[str]) -> None:
    """One problem on one line, which names the place, what was read there and what would be right."""
    with pytest.raises(PolicyError) as raised:
        Policy.from_text(f"[campaign.fine]\n[campaign.x]\n{rule}")
    assert len(raised.value.problems) == 1
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[campaign", ["not valid TOML"]),
        ('timezone = "Mars"', ["timezone", "Mars", "Europe/Zurich"]),
        ('retention = "for ever"', ["retention", "for ever", "30 days"]),
        ('on_store_error = "ignore"', ["on_store_error", "ignore", "block", "allow", "raise"]),
        ('on_no_consent = "raise"', ["on_no_consent", "raise", "block", "allow"]),
        ("campaigns = {}", ["campaigns", "unknown key", "'campaign'"]),
        ("[annoyance]\nthreshold = []", ["annoyance.threshold", "1 item"]),
        ('[annoyance]\nthreshold = ["3 per flight"]', ["annoyance.threshold", "3 per flight", "another window"]),
        ('[annoyance]\nthreshold = ["3 per day"]\npoints = { call = 0 }', ["annoyance.points.call", "0", "1"]),
        ('[annoyance]\nthreshold = ["3 per day"]\npoints = { call = 1.5 }', ["annoyance.points.call", "1.5"]),
        (
            '[annoyance]\nthreshold = ["3 per day"]\n[annoyance.segment.s]\nthreshold = ["1 per day"]',
            ["annoyance.segment.s.who"],
        ),
        ('[caps]\ncampaign = ["3 per day"]', ["caps.campaign", "[defaults]"]),
        ('[caps]\n"channel:" = ["3 per day"]', ["caps.channel:", "channel:email"]),
        ('[caps]\nitem = ["3 per fortnight"]', ["caps.item[0]", "3 per fortnight"]),
        ('[defaults]\nlabels = { a = "b" }', ["defaults.labels", "unknown key"]),
        ('[campaign."item:x"]\n[caps]\nitem = ["3 per day"]', ["campaign.item:x", "rename"]),
        ('[campaign."a\\nb"]', ["campaign", "control characters"]),
        ('[campaign.""]', ["campaign", "1 to 256"]),
    ],
)
def test_a_wrong_policy_is_reported_with_place_text_and_cure(text: str, parts: list[str]) -> None:
    """Problems outside of campaigns are reported the same way."""
    with pytest.raises(PolicyError) as raised:
        Policy.from_text(text)
    for part in parts:
        assert part in str(raised.value)


def test_all_problems_are_reported_at_once() -> None:
    """One per line, each with its place; the error lists them."""
    text = '[campaign.a]\ncaps = ["1 per month", "0 per day"]\n[campaign.b]\ngap = 5\nhour = "1"'
    with pytest.raises(PolicyError) as raised:
        Policy.from_text(text)
    assert len(raised.value.problems) == 4
    assert str(raised.value).splitlines() == raised.value.problems


def test_a_policy_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a folder, not UTF-8, invalid: the message starts with the path."""
    binary, wrong = tmp_path / "binary.toml", tmp_path / "wrong.toml"
    binary.write_bytes(b"\xff\xfe")
    wrong.write_text('[campaign.a]\ncaps = ["1 per month"]')
    for path in (tmp_path / "missing.toml", tmp_path, binary, wrong):
        with pytest.raises(PolicyError) as raised:
            Policy.from_toml(path)
        assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize("data", [5, None, "text", ["campaign"], {"campaign": []}, {"campaign": {"a": 5}}, {1: 2}])
def test_data_of_the_wrong_shape_is_a_policy_error(data: Any) -> None:
    """`model_validate` of any value."""
    with pytest.raises(PolicyError):
        Policy.model_validate(data)


def test_a_policy_is_frozen() -> None:
    """It cannot be changed after a plan was made of it: another policy is set instead."""
    policy = Policy.from_text("[campaign.a]")
    with pytest.raises(Exception, match="frozen"):
        policy.timezone = "Europe/Zurich"  # type: ignore[misc]


def test_a_policy_file_is_loaded(tmp_path: Path) -> None:
    """A file, its text and the same mapping give the same policy."""
    text = '[campaign.a]\ncaps = ["3 per day"]'
    path = tmp_path / "policy.toml"
    path.write_text(text)
    mapping = {"campaign": {"a": {"caps": ["3 per day"]}}}
    policy = Policy.from_toml(path)
    assert policy == Policy.from_toml(str(path)) == Policy.from_text(text) == Policy.model_validate(mapping)
    assert type(policy) is Policy


def test_findings_of_a_policy() -> None:
    """`findings` lints the policy, with the names of a log if given."""
    policy = Policy.from_text('[campaign.a]\nexclude = ["buy"]')
    assert policy.findings() == []
    assert [finding.rule for finding in policy.findings(events=["visit"])] == ["unknown-event"]


@pytest.mark.parametrize(
    ("data", "known"),
    [
        ({"cap": {}}, "cap: unknown key; did you mean 'caps'? known here: timezone, retention, "),
        (
            {"campaign": {"a": {"gab": "day"}}},
            "campaign.a.gab: unknown key; did you mean 'gap'? known here: audience, ",
        ),
        (
            {"defaults": {"xyz": 1}},
            "defaults.xyz: unknown key; known here: audience, exclude, caps, gap, hours, days, ",
        ),
        (
            {"annoyance": {"threshold": ["1 per day"], "point": 1}},
            "annoyance.point: unknown key; did you mean 'points'? ",
        ),
        (
            {"annoyance": {"threshold": ["1 per day"], "segment": {"s": {"xyz": 1}}}},
            "annoyance.segment.s.xyz: unknown key; known here: who, threshold",
        ),
    ],
)
def test_unknown_keys(data: dict[str, Any], known: str) -> None:
    """The error lists the keys known at that place, and the one that was probably meant."""
    with pytest.raises(PolicyError) as raised:
        Policy.model_validate(data)
    assert any(problem.startswith(known) for problem in raised.value.problems)


def test_a_problem_names_what_was_read() -> None:
    """If the message does not quote the value, it is added; a table or a list is not."""
    with pytest.raises(PolicyError) as raised:
        Policy.model_validate({"week_start": "tuesday", "campaign": {"a": {"caps": {"x": 1}, "cost": -1}}})
    assert raised.value.problems == [
        "week_start: Input should be 'monday' or 'sunday' (got 'tuesday')",
        "campaign.a.caps: Input should be a valid list",
        "campaign.a.cost: Input should be greater than or equal to 0 (got -1)",
    ]


def test_problems_are_printable_and_of_limited_length() -> None:
    """A problem is cut off after 1,000 characters, and what is not Unicode is escaped."""
    with pytest.raises(PolicyError) as raised:
        Policy.model_validate({"campaign": {"x" * 5_000: {"caps": ["\ud800"]}}})
    for problem in raised.value.problems:
        assert len(problem) == 1_004
        assert problem.endswith(" ...")
    with pytest.raises(PolicyError, match=r"\\ud800"):
        Policy.model_validate({"campaign": {"x": {"caps": ["\ud800"]}}})


@pytest.mark.parametrize("text", ["[campaign", "x = " + "1" * 5_000, "x = " + "[" * 100_000])
def test_what_is_not_toml(text: str) -> None:
    """A syntax error, a very long number and very deep nesting are a PolicyError."""
    with pytest.raises(PolicyError, match=r"^not valid TOML: "):
        Policy.from_text(text)
