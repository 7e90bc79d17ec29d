"""Each rule of the findings: a policy that it finds, and the nearest policy that is sound."""

from __future__ import annotations

from pathlib import Path

import pytest

import retarget
from retarget.policy.lint.finding import RULES
from retarget.policy.lint.findings import findings
from retarget.policy.load import Policy

DEMO = Path(retarget.__file__).parent / "demo" / "policy.toml"

EXAMPLE = """
timezone = "Europe/Zurich"
[annoyance]
threshold = ["12 per day", "30 per 7 days"]
points = { display = 1, email = 3, call = 10 }
[annoyance.segment.customers]
who = ["purchase within 365 days"]
threshold = ["50 per 7 days"]
[caps]
advertiser = ["5 per day"]
"channel:email" = ["2 per week"]
item = ["3 per 7 days"]
[defaults]
caps = ["5 per day"]
[campaign.notebook-comeback]
labels = { advertiser = "oyashop", channel = "display" }
audience = ["visit product/notebook within 30 days",
            { any = ["click notebook-brand", "3 visit pricing within 7 days"] }]
exclude = ["purchase within 90 days", "dismiss notebook-comeback"]
caps = ["3 per day", "10 per 30 days"]
gap = "2 hours"
hours = "08:00-21:00"
days = "mon-sat"
start = 2026-11-01
end = 2026-12-24
[campaign.webinar-video]
audience = ["click webinar-invite within 14 days"]
exclude = ["signup webinar"]
caps = ["2 per day", "6 per flight"]
"""
"""A sound policy that uses most kinds of rules."""


def of(toml: str, **known: list[str]) -> list[tuple[str, str]]:
    """The rule and place of every finding."""
    return [(finding.rule, finding.place) for finding in findings(Policy.from_text(toml), **known)]


def a(rules: str) -> str:
    """A policy with these rules for campaign `a`, and a campaign `b` without rules."""
    return f"[campaign.b]\n[campaign.a]\n{rules}"


# ---- one campaign: what a rule finds, and the nearest sound rules ----------------------------------------------------

CAPS = [
    # a rule that another implies
    ('caps = ["3 per day", "3 per 2 hours"]', "never-binds", "campaign.a.caps[1]"),
    ('caps = ["3 per day", "4 per 2 days"]', None, ""),
    ('caps = ["5 per 7 days", "9 per day"]', "never-binds", "campaign.a.caps[1]"),
    ('caps = ["5 per 7 days", "4 per day"]', None, ""),
    ('caps = ["9 per day", "3 per lifetime"]', "never-binds", "campaign.a.caps[0]"),
    ('caps = ["3 per lifetime", "3 per 500 days"]', "beyond-retention", "campaign.a.caps[1]"),
    # in some zones a local day is now and then much longer than 24 hours
    ('caps = ["3 per 36 hours", "3 per calendar day"]', "never-binds", "campaign.a.caps[1]"),
    ('caps = ["3 per 25 hours", "3 per calendar day"]', None, ""),
    ('caps = ["3 per calendar day", "3 per 20 hours"]', None, ""),
    ('gap = "1 hour"\ncaps = ["5 per calendar week", "6 per calendar day"]', "never-binds", "campaign.a.caps[1]"),
    ('gap = "1 hour"\ncaps = ["5 per calendar month", "4 per calendar week"]', None, ""),
    ('caps = ["5 per session", "6 per day"]', None, ""),
    ('caps = ["5 per day", "6 per session"]', "never-binds", "campaign.a.caps[1]"),
    ('start = 2026-11-01\ncaps = ["3 per flight", "3 per lifetime"]', "never-binds", "campaign.a.caps[0]"),
    (
        'start = 2026-11-01\nend = 2026-11-30\ncaps = ["3 per flight", "5 per day"]',
        "never-reached",
        "campaign.a.caps[1]",
    ),
    ('start = 2026-11-01\nend = 2026-11-30\ncaps = ["3 per flight", "2 per day"]', None, ""),
    # the gap
    ('gap = "2 days"\ncaps = ["3 per day"]', "never-binds", "campaign.a.caps[0]"),
    ('gap = "2 hours"\ncaps = ["20 per day"]', "never-reached", "campaign.a.caps[0]"),
    ('gap = "2 hours"\ncaps = ["12 per day"]', "never-reached", "campaign.a.caps[0]"),
    ('gap = "2 hours"\ncaps = ["11 per day"]', None, ""),
    ('gap = "2 hours"\ncaps = ["1 per day"]', "never-binds", "campaign.a.gap"),
    ('gap = "2 hours"\ncaps = ["1 per calendar day"]', None, ""),
    ('caps = ["3 per day", "21 per 7 days"]', "never-reached", "campaign.a.caps[1]"),
    ('caps = ["3 per day", "20 per 7 days"]', None, ""),
    ('caps = ["3 per calendar day", "30 per 7 days"]\ngap="1 minute"', "never-reached", "campaign.a.caps[1]"),
    ('caps = ["3 per calendar day", "20 per 7 days"]\ngap="1 minute"', None, ""),
    # spread
    ('caps = [{ cap = "4 per day", spread = true }]', None, ""),
    ('caps = [{ cap = "4 per day", spread = true }, "4 per day"]', "twice", "campaign.a.caps[1]"),
    ('caps = [{ cap = "4 per day", spread = true }, "3 per day"]', None, ""),
    ('caps = [{ cap = "4 per day", spread = true }, "1 per 7 days"]', "never-binds", "campaign.a.caps[0]"),
    # the same twice
    ('caps = ["3 per day", "3/24 hours"]', "twice", "campaign.a.caps[1]"),
    ('caps = ["3 per day", "3 per calendar day"]\ngap = "1 minute"', None, ""),
    # retention
    ('caps = ["3 per 401 days"]', "beyond-retention", "campaign.a.caps[0]"),
    ('caps = ["3 per 400 days"]', None, ""),
    ('gap = "401 days"', "beyond-retention", "campaign.a.gap"),
    ('exclude = ["purchase within 500 days"]', "beyond-retention", "campaign.a.exclude[0]"),
    ('start = 2026-01-01\nend = 2027-12-31\ncaps = ["3 per flight"]', "beyond-retention", "campaign.a.caps[0]"),
    ('start = 2026-01-01\nend = 2026-12-31\ncaps = ["3 per flight"]', None, ""),
    # calendar caps
    ('caps = ["3 per calendar day"]', "back-to-back", "campaign.a.caps[0]"),
    ('caps = ["3 per calendar day"]\ngap = "10 minutes"', None, ""),
    ('caps = ["3 per calendar day", "5 per 12 hours"]', None, ""),
    ('caps = ["3 per calendar day", "6 per 12 hours"]', "back-to-back", "campaign.a.caps[0]"),
    ('caps = ["3 per calendar day"]\nhours = "08:00-21:00"', None, ""),
    ('caps = ["3 per calendar day"]\nhours = "18:00-02:00"', "back-to-back", "campaign.a.caps[0]"),
    ('caps = ["3 per calendar week"]\ndays = "mon-fri"', None, ""),
    ('caps = ["3 per calendar week"]\ndays = "sun-mon"', "back-to-back", "campaign.a.caps[0]"),
    ('caps = ["3 per calendar day"]\ndays = "mon, wed"', None, ""),
    ('caps = ["6 per calendar week", "2 per calendar day"]\nhours="08:00-20:00"', None, ""),
    ('caps = ["3 per calendar day"]\nexclude = ["4 impression a within 2 hours"]', None, ""),
    ('caps = ["3 per calendar hour"]\nhours = "08:00-09:00"', None, ""),
    ('caps = ["3 per calendar hour"]\nhours = "08:00-10:00"', "back-to-back", "campaign.a.caps[0]"),
    ('caps = ["3 per calendar day"]\nstart = 2026-11-01\nend = 2026-11-01', None, ""),
]
CLOCK = [
    ('start = 2026-11-07\nend = 2026-11-08\ndays = "mon-fri"', "never-open", "campaign.a.days"),
    ('start = 2026-11-07\nend = 2026-11-09\ndays = "mon-fri"', None, ""),
    ('start = 2026-11-07T08:00:00\nend = 2026-11-07T10:00:00\nhours = "10:00-21:00"', "never-open", "campaign.a.hours"),
    ('start = 2026-11-07T08:00:00\nend = 2026-11-07T10:00:01\nhours = "10:00-21:00"', None, ""),
    (
        'start = 2026-11-07T12:00:00\nend = 2026-11-08T08:00:00\ndays = "sat"\nhours = "08:00-12:00"',
        "never-open",
        "campaign.a.hours",
    ),
    (
        'start = 2026-11-07T08:00:00Z\nend = 2026-11-07T10:00:00Z\nhours = "10:00-21:00"',
        "closed-at-home",
        "campaign.a.hours",
    ),
    ('start = 2026-11-07T08:00:00Z\nend = 2026-11-07T12:00:00Z\nhours = "10:00-21:00"', None, ""),
    ('end = 2026-11-08\ndays = "mon-fri"', None, ""),
    ('hours = "00:00-24:00"', "always-open", "campaign.a.hours"),
    ('hours = ["18:00-06:00", "06:00-18:00"]', "always-open", "campaign.a.hours"),
    ('hours = "00:00-23:59"', None, ""),
    ('hours = ["18:00-06:00", "06:00-17:59"]', None, ""),
    ('days = "mon-sun"', "always-open", "campaign.a.days"),
    ('days = "mon-sat"', None, ""),
]
AUDIENCES = [
    # required means excluded
    ('audience = ["visit x within 7 days"]\nexclude = ["visit x within 30 days"]', "nobody", "campaign.a.audience[0]"),
    ('audience = ["visit x within 7 days"]\nexclude = ["visit x"]', "nobody", "campaign.a.audience[0]"),
    ('audience = ["visit x within 7 days"]\nexclude = ["visit within 7 days"]', "nobody", "campaign.a.audience[0]"),
    ('audience = ["visit within 7 days"]\nexclude = ["visit x within 7 days"]', None, ""),
    ('audience = ["visit x within 7 days"]\nexclude = ["visit y within 7 days"]', None, ""),
    ('audience = ["visit x within 7 days"]\nexclude = ["2 visit x within 30 days"]', None, ""),
    (
        'audience = ["3 visit x within 7 days"]\nexclude = ["2 visit x within 30 days"]',
        "nobody",
        "campaign.a.audience[0]",
    ),
    ('audience = ["visit x within 30 days"]\nexclude = ["visit x within 7 days"]', None, ""),
    ('audience = ["visit x within session"]\nexclude = ["visit x within day"]', "nobody", "campaign.a.audience[0]"),
    ('audience = ["visit x within day"]\nexclude = ["visit x within session"]', None, ""),
    (
        'audience = ["visit x within calendar day"]\nexclude = ["visit x within 36 hours"]',
        "nobody",
        "campaign.a.audience[0]",
    ),
    ('audience = ["visit x within calendar day"]\nexclude = ["visit x within day"]', None, ""),
    ('audience = ["visit x within 7 days"]\nexclude = ["visit x within calendar week"]', None, ""),
    (
        'audience = ["visit x within flight"]\nexclude = ["visit x"]\nstart = 2026-11-01',
        "nobody",
        "campaign.a.audience[0]",
    ),
    ('audience = ["visit x"]\nexclude = ["visit x within flight"]\nstart = 2026-11-01', None, ""),
    ('audience = [{ any = ["visit x", "visit y"] }]\nexclude = ["visit"]', "nobody", "campaign.a.audience[0]"),
    ('audience = [{ any = ["visit x", "visit y"] }]\nexclude = ["visit x"]', None, ""),
    ('audience = ["click {campaign}"]\nexclude = ["click"]', "circle", "campaign.a.audience[0]"),
    # journeys
    ('audience = ["click a"]', "circle", "campaign.a.audience[0]"),
    ('audience = ["impression {campaign}"]', "circle", "campaign.a.audience[0]"),
    ('audience = ["visit a"]', None, ""),
    ('audience = ["click b"]', None, ""),
    ('audience = [{ any = ["click a", "click b"] }]', None, ""),
    ('audience = ["click c"]\n[campaign.c]\naudience = [{ any = ["click a", "click b"] }]', None, ""),
    # one condition beside another
    ('audience = ["visit x within 30 days", "3 visit x within 7 days"]', "never-binds", "campaign.a.audience[0]"),
    ('audience = ["3 visit x within 30 days", "visit x within 7 days"]', None, ""),
    ('audience = ["visit x", { any = ["visit x", "visit y"] }]', "never-binds", "campaign.a.audience[1]"),
    (
        'audience = [{ any = ["visit x within 7 days", "visit within 8 days"] }]',
        "never-binds",
        "campaign.a.audience[0]",
    ),
    ('exclude = ["2 visit x within 7 days", "visit x within 30 days"]', "never-binds", "campaign.a.exclude[0]"),
    ('exclude = ["visit x within 7 days", "2 visit x within 30 days"]', None, ""),
    ('exclude = ["visit x within 7 days", "visit x within week"]', "twice", "campaign.a.exclude[1]"),
    ('audience = ["visit x", "visit x within 400 days"]', "twice", "campaign.a.audience[1]"),
    # names
    ('exclude = ["purchse"]', "unknown-event", "campaign.a.exclude[0]"),
    ('exclude = ["Purchase"]', "unknown-event", "campaign.a.exclude[0]"),
    ('exclude = ["purchase", "order", "rated"]', None, ""),
    ('exclude = ["wishlist x", "wishlists y"]', "unknown-event", "campaign.a.exclude[0]"),
    ('audience = ["visit product/{item}"]', "from-candidate", "campaign.a.audience[0]"),
    ('exclude = ["visit {item}"]\nlabels = { item = "x" }', None, ""),
    ('exclude = ["visit {campaign}"]', None, ""),
]


@pytest.mark.parametrize(("rules", "rule", "place"), CAPS + CLOCK + AUDIENCES)
def test_one_campaign(rules: str, rule: str | None, place: str) -> None:
    """An unsound rule has its finding; the nearest sound one has none at all."""
    found = of(a(rules))
    if rule is None:
        assert found == []
    else:
        assert (rule, place) in found


BRAND = '[campaign.brand]\ncaps = ["3 per 7 days"]\n[campaign.a]\n'
NINE = '[annoyance]\nthreshold = ["9 per day"]\n'
EIGHT = '[annoyance]\nthreshold = ["8 per day"]\n'
FIVE = '[annoyance]\nthreshold = ["5 per day"]\n'
TWELVE = '[annoyance]\nthreshold = ["12 per day"]'
SEGMENT = '[annoyance.segment.s]\nwho = ["visit"]\nthreshold = '
EMAIL = '\n[campaign.a]\nlabels = { channel = "email" }'
K = '\n[campaign.a]\nlabels = { k = "x" }\n'
POLICIES = [
    # a cap and its label's cap, a cap and the threshold
    ('[caps]\nk = ["3 per day"]' + K + 'caps = ["5 per day"]', "never-binds", "campaign.a.caps[0]"),
    ('[caps]\nk = ["3 per day"]' + K + 'caps = ["2 per day"]', None, ""),
    ('[caps]\nk = ["3 per day"]\n[campaign.a]\nlabels = { l = "x" }\ncaps = ["5 per day"]', None, ""),
    ('[caps]\n"k:y" = ["3 per day"]' + K + 'caps = ["5 per day"]', None, ""),
    ('[caps]\nk = ["3 per day"]\n[campaign.a]\ncounts = false\nlabels = { k = "x" }\ncaps = ["5 per day"]', None, ""),
    (
        '[caps]\nk = ["3 per day"]\n"k:x" = ["4 per day"]\n[campaign.a]\nlabels = { k = "x" }',
        "never-binds",
        "caps.k:x[0]",
    ),
    ('[caps]\nk = ["4 per day"]\n"k:x" = ["3 per day"]\n[campaign.a]\nlabels = { k = "x" }', None, ""),
    ('[caps]\nk = ["4 per day", "5 per day"]', "never-binds", "caps.k[1]"),
    ('[caps]\nk = ["3 per day", "21 per 7 days"]', "never-reached", "caps.k[1]"),
    ('[caps]\nk = ["3 per day", "21 per 7 days"]\n[campaign.a]\nobeys = false', None, ""),
    ('[caps]\nk = ["30 per day"]\n' + TWELVE, "never-binds", "caps.k[0]"),
    ('[caps]\nk = ["11 per day"]\n' + TWELVE, None, ""),
    ('[caps]\n"channel:x" = ["4 per day"]\n' + TWELVE + "\npoints = { x = 3 }", "never-binds", "caps.channel:x[0]"),
    ('[caps]\n"channel:x" = ["3 per day"]\n' + TWELVE + "\npoints = { x = 3 }", None, ""),
    ('[caps]\nk = ["2 per calendar day"]\n[campaign.a]', "back-to-back", "caps.k[0]"),
    ('[caps]\nk = ["2 per calendar day"]\n[campaign.a]\nhours = "08:00-20:00"', None, ""),
    (
        FIVE + 'points = { x = 2 }\n[campaign.a]\nlabels = { channel = "x" }\ncaps = ["2 per day"]',
        "never-binds",
        "campaign.a.caps[0]",
    ),
    (
        '[annoyance]\nthreshold = ["6 per day"]\npoints = { x = 2 }\n'
        + '[campaign.a]\nlabels = { channel = "x" }\ncaps = ["2 per day"]',
        None,
        "",
    ),
    (FIVE + SEGMENT + '["9 per day"]\n[campaign.a]\ncaps = ["6 per day"]', None, ""),
    (FIVE + SEGMENT + '["6 per day"]\n[campaign.a]\ncaps = ["6 per day"]', "never-binds", "campaign.a.caps[0]"),
    ('[annoyance]\nthreshold = ["5 per day", "35 per 7 days"]', "never-reached", "annoyance.threshold[1]"),
    ('[annoyance]\nthreshold = ["5 per day", "35 per 7 days"]\n' + SEGMENT + '["9 per day"]', None, ""),
    ('[annoyance]\nthreshold = [{ cap = "6 per day", spread = true }, "3 per hour"]', None, ""),
    # points
    (NINE + "points = { call = 9 }", None, ""),
    (EIGHT + 'points = { call = 9 }\n[campaign.a]\nlabels = { channel = "call" }\nobeys = false', None, ""),
    # more timelines than there is room for
    ('[caps]\nitem = ["30 per lifetime"]', "many-timelines", "caps.item[0]"),
    # since an event
    ('[campaign.a]\ncaps = ["3 since click {campaign}", "5 per lifetime"]', None, ""),
    ('[campaign.a]\ncaps = ["5 since click {campaign}", "5 per lifetime"]', "never-binds", "campaign.a.caps[0]"),
    ('[campaign.a]\ncaps = ["5 since click", "3 since click"]', "never-binds", "campaign.a.caps[0]"),
    ('[campaign.a]\ncaps = ["3 since click a", "3 since click {campaign}"]', "twice", "campaign.a.caps[1]"),
    ('[campaign.a]\ncaps = ["3 since click a", "3 since click"]', None, ""),
    ('[campaign.a]\nexclude = ["visit since purchase", "visit"]', "never-binds", "campaign.a.exclude[0]"),
    (
        '[campaign.a]\ncaps = ["2 since click a"]\nexclude = ["3 impression {campaign} since click {campaign}"]',
        "never-reached",
        "campaign.a.exclude[0]",
    ),
    ('[campaign.a]\ncaps = ["2 since click a"]\nexclude = ["3 impression a"]', None, ""),
    ('[campaign.a]\naudience = ["visit since purchase"]\nexclude = ["visit"]', "nobody", "campaign.a.audience[0]"),
    ('[campaign.a]\naudience = ["visit"]\nexclude = ["visit since purchase"]', None, ""),
    ('[campaign.a]\naudience = ["visit since visit"]', "nobody", "campaign.a.audience[0]"),
    ('[campaign.a]\ncaps = ["3 since impression a"]', "counts-nothing", "campaign.a.caps[0]"),
    (
        '[campaign.b]\naudience = ["click b"]\n[campaign.a]\ncaps = ["3 since click b"]',
        "never-anew",
        "campaign.a.caps[0]",
    ),
    # segments
    (
        NINE
        + SEGMENT
        + '["8 per day"]\n[annoyance.segment.t]\nwho = ["2 visit x", "click"]\nthreshold = ["8 per day"]',
        "hidden-segment",
        "annoyance.segment.t",
    ),
    (
        NINE
        + '[annoyance.segment.s]\nwho = ["2 visit x", "click"]\nthreshold = ["8 per day"]\n'
        + '[annoyance.segment.t]\nwho = ["visit"]\nthreshold = ["8 per day"]',
        None,
        "",
    ),
    (
        NINE
        + '[annoyance.segment.s]\nwho = ["click a"]\nthreshold = ["8 per day"]\n[campaign.a]\naudience = ["click a"]',
        "nobody",
        "annoyance.segment.s.who[0]",
    ),
    (
        NINE
        + '[annoyance.segment.s]\nwho = ["3 impression a within day"]\nthreshold = ["8 per day"]\n'
        + '[campaign.a]\ncaps = ["2 per day"]',
        "nobody",
        "annoyance.segment.s.who[0]",
    ),
    (
        NINE
        + '[annoyance.segment.s]\nwho = ["2 impression a within day"]\nthreshold = ["8 per day"]\n'
        + '[campaign.a]\ncaps = ["2 per day"]',
        None,
        "",
    ),
    # more than another cap allows
    (BRAND + 'audience = ["5 impression brand within 7 days"]', "nobody", "campaign.a.audience[0]"),
    (BRAND + 'audience = ["3 impression brand within 7 days"]', None, ""),
    (BRAND + 'audience = ["5 impression brand within 8 days"]', None, ""),
    (BRAND + 'audience = ["7 impression brand within 8 days"]', "nobody", "campaign.a.audience[0]"),
    (BRAND + 'audience = ["5 click brand within 7 days"]', None, ""),
    (BRAND + 'exclude = ["4 impression brand within 7 days"]', "never-reached", "campaign.a.exclude[0]"),
    (BRAND + 'exclude = ["3 impression brand within 7 days"]', None, ""),
    # journeys
    (
        '[campaign.a]\naudience = ["click b"]\n[campaign.b]\naudience = ["click c"]\n'
        + '[campaign.c]\naudience = ["impression a"]',
        "circle",
        "campaign.b.audience[0]",
    ),
    ('[campaign.a]\naudience = ["click b"]\n[campaign.b]\naudience = ["click b"]', "nobody", "campaign.a.audience[0]"),
    (
        '[campaign.a]\naudience = ["click b"]\n[campaign.b]\nstart = 2026-11-07\nend = 2026-11-08\ndays = "mon"',
        "nobody",
        "campaign.a.audience[0]",
    ),
    ('[campaign.a]\naudience = ["click b"]\n[campaign.b]\naudience = ["click c"]\n[campaign.c]', None, ""),
    # defaults: reported once, and only if every campaign that inherits the rule has the fault
    ('[defaults]\ncaps = ["2 per day", "3 per day"]\n[campaign.a]\n[campaign.b]', "never-binds", "defaults.caps[1]"),
    ('[defaults]\ngap = "2 days"\ncaps = ["3 per day"]\n[campaign.a]', "never-binds", "defaults.caps[0]"),
    ('[defaults]\ngap = "2 days"\ncaps = ["3 per day"]\n[campaign.a]\ngap = "2 hours"', None, ""),
    (
        '[defaults]\ngap = "2 days"\ncaps = ["3 per day"]\n[campaign.a]\nobeys = false',
        "never-binds",
        "defaults.caps[0]",
    ),
    ('[defaults]\ngap = "2 days"\n[campaign.a]\ngap = "2 hours"\ncaps = ["1 per day"]', None, ""),
    ('[defaults]\naudience = ["visit x"]\n[campaign.a]\nexclude = ["visit"]', "nobody", "campaign.a"),
    ('[defaults]\naudience = ["visit x"]\nexclude = ["visit"]\n[campaign.a]', "nobody", "defaults.audience[0]"),
    ('[defaults]\nhours = "08:00-20:00"\n[campaign.a]\nhours = "00:00-24:00"', None, ""),
    ('[defaults]\nhours = "00:00-24:00"\n[campaign.a]', "always-open", "defaults.hours"),
    # labels: a candidate may carry any, so only likely misspellings
    (
        '[caps]\nadvertisor = ["3 per day"]\n[campaign.a]\nlabels = { advertiser = "x" }',
        "unknown-label",
        "caps.advertisor",
    ),
    ('[caps]\nitem = ["3 per day"]\n[campaign.a]\nlabels = { advertiser = "x" }', None, ""),
    ('[caps]\n"channel:emial" = ["3 per day"]' + EMAIL, None, ""),
    ('[caps]\n"channel:e-mail" = ["3 per day"]' + EMAIL, "unknown-label", "caps.channel:e-mail"),
    ('[caps]\n"channel:call" = ["3 per day"]' + EMAIL, None, ""),
    (NINE + "points = { emails = 3 }" + EMAIL, "unknown-label", "annoyance.points.emails"),
    (NINE + "points = { email = 2, emails = 3 }" + EMAIL, None, ""),
    # campaigns
    ('[campaign.notebook]\n[campaign.a]\nexclude = ["click notebok"]', "unknown-campaign", "campaign.a.exclude[0]"),
    ('[campaign.notebook]\n[campaign.a]\nexclude = ["visit notebok"]', None, ""),
    ('[campaign.spring-2]\n[campaign.a]\nexclude = ["click spring-1"]', None, ""),
]


@pytest.mark.parametrize(("toml", "rule", "place"), POLICIES)
def test_one_policy(toml: str, rule: str | None, place: str) -> None:
    """The same across campaigns, labels, thresholds, segments and defaults."""
    found = of(toml)
    if rule is None:
        assert found == []
    else:
        assert (rule, place) in found


@pytest.mark.parametrize("policy", [Policy.from_toml(DEMO), Policy.from_text(EXAMPLE), Policy()])
def test_sound_policies_have_no_findings(policy: Policy) -> None:
    """The demo's policy, the example above and the empty policy are sound."""
    assert findings(policy) == []


def test_every_rule_has_a_case() -> None:
    """Each rule of the table has a case here, and each finding the severity of the table."""
    cases = [a(rules) for rules, _, _ in CAPS + CLOCK + AUDIENCES] + [toml for toml, _, _ in POLICIES]
    found = [finding for toml in cases for finding in findings(Policy.from_text(toml))]
    assert {finding.rule for finding in found} == RULES.keys()
    assert all(finding.severity == RULES[finding.rule][0] for finding in found)
    assert all(finding.text and finding.cure and finding.place for finding in found)


def test_names_of_a_log() -> None:
    """With a log's events and labels, only the names that it does not contain are reported."""
    toml = '[caps]\nitem = ["3 per day"]\n[campaign.a]\nexclude = ["buy", "purchase", "visit {slot}"]'
    assert of(toml) == [("from-candidate", "campaign.a.exclude[2]")]
    assert of(toml, events=["purchase", "buy", "visit"], labels=["item", "slot"]) == []
    assert of(toml, events=["purchase", "visit"], labels=["slot"]) == [
        ("unknown-event", "campaign.a.exclude[0]"),
        ("unknown-label", "caps.item"),
    ]


def test_texts_quote_the_policy() -> None:
    """A finding quotes the rule and the one it conflicts with, and says what would be right."""
    policy = Policy.from_text(a('gap = "2 hours"\ncaps = ["20/day"]\nhours = "00:00-24:00"'))
    assert [str(finding) for finding in findings(policy)] == [
        "warning campaign.a.caps[0]: '20/day' is never reached: campaign.a.gap '2 hours' allows at most 12 in "
        "that time; remove it, or make it the stricter one",
        "remark campaign.a.hours: '00:00-24:00' excludes nothing; remove it",
    ]
    circle = findings(Policy.from_text('[campaign.a]\naudience = ["click b"]\n[campaign.b]\naudience = ["click a"]'))
    assert [finding.text for finding in circle] == [
        "nobody can enter: a needs b needs a to be shown first",
        "nobody can enter: b needs a needs b to be shown first",
    ]
