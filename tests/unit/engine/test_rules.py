"""rules.py: a policy's rules as formulas: their order, their windows, and what they ask about."""

from __future__ import annotations

from datetime import date

import pytest

from retarget.engine.rules import SESSION_START, Rule, Rulebook
from retarget.engine.terms import AnchorTerm, Term, Topic
from retarget.events import Candidate
from retarget.policy import TRUE, Policy, literal
from retarget.timelines import DAY, SESSION_AT_MOST, Calendar, Flight, Rolling, Window

RETENTION = 400 * DAY

EVERYTHING = """
    retention = "400 days"
    [annoyance]
    threshold = [{ cap = "12 per day", spread = true }]
    points = { email = 3 }
    [annoyance.segment.customers]
    who = ["purchase within 365 days"]
    threshold = ["50 per 7 days"]
    [caps]
    advertiser = ["5 per day"]
    "channel:email" = ["2 per week"]
    "channel:display" = ["9 per week"]
    [campaign.ad]
    labels = { advertiser = "oyashop", channel = "email" }
    audience = ["visit pricing within 30 days", { any = ["2 click ad", "login"] }]
    exclude = ["dismiss {campaign}"]
    caps = [{ cap = "4 per day", spread = true }]
    gap = "2 hours"
    hours = "08:00-21:00"
    days = "mon-sat"
    start = 2026-11-01
    end = 2026-12-24
"""


def book_of(toml: str) -> Rulebook:
    """The rules of a policy's text."""
    return Rulebook(Policy.from_text(toml))


def rules_of(toml: str, candidate: Candidate | str = "ad") -> list[Rule]:
    """The rules on a candidate."""
    return book_of(toml).rules(candidate if isinstance(candidate, Candidate) else Candidate(candidate))


def named(toml: str, candidate: Candidate | str = "ad") -> list[tuple[str, str, int | None]]:
    """The rules on a candidate: reason, text, limit."""
    return [(rule.reason, rule.text, rule.limit) for rule in rules_of(toml, candidate)]


def counted(toml: str) -> Term:
    """What the campaign's first rule counts."""
    return next(rule.counted for rule in rules_of(toml) if rule.counted is not None)


def test_every_rule_in_the_order_of_the_file() -> None:
    """The clock, then audience and exclusions, caps and gap, caps per label, the threshold of each segment."""
    assert named(EVERYTHING) == [
        ("start", "start 2026-11-01", None),
        ("end", "end 2026-12-24", None),
        ("days", "days mon-sat", None),
        ("hours", "hours 08:00-21:00", None),
        ("audience", "visit pricing within 30 days", 1),
        ("audience", "2 click ad or login", None),
        ("exclude", "dismiss {campaign}", 1),
        ("cap", "4 per day", 4),
        ("gap", "4 per day, spread", 1),
        ("gap", "gap 2 hours", 1),
        ("cap", "advertiser: 5 per day", 5),
        ("cap", "channel:email: 2 per week", 2),
        ("annoyance", "segment customers: 50 per 7 days", 50),
        ("annoyance", "annoyance: 12 per day", 12),
        ("annoyance", "annoyance: 12 per day, spread", 1),
    ]


def test_obeys_false_sets_caps_aside() -> None:
    """Neither its own caps, nor those of labels, nor the threshold; audience and exclusions stay."""
    own = EVERYTHING.replace('gap = "2 hours"', "obeys = false").replace(
        'caps = [{ cap = "4 per day", spread = true }]', ""
    )
    rules = named(own)
    assert [reason for reason, *_ in rules] == ["start", "end", "days", "hours", "audience", "audience", "exclude"]


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("3 per day", Rolling(DAY)),
        ("3 per lifetime", Rolling(RETENTION)),
        ("3 per session", Rolling(SESSION_AT_MOST)),
        ("3 per calendar week", Calendar("week")),
        ("3 per flight", Rolling(RETENTION)),
    ],
)
def test_windows_of_caps(text: str, window: Window) -> None:
    """A flight without a start, like lifetime, is as long as anything is remembered."""
    term = counted(f"[campaign.ad]\ncaps = ['{text}']")
    assert term[:4] == (Topic("i", "{campaign}"), 3, window, 3)
    assert term.anchor == (SESSION_START if "session" in text else None)


def test_weeks_begin_on_sunday_if_the_policy_says_so() -> None:
    """`week_start = "sunday"` is in the window."""
    term = counted('week_start = "sunday"\n[campaign.ad]\ncaps = ["3 per calendar week"]')
    assert term.window == Calendar("week", sunday_first=True)


@pytest.mark.parametrize(
    ("dates", "seconds"),
    [
        ("start = 2026-11-01", RETENTION),
        ("start = 2026-11-01\nend = 2026-11-10", 12 * DAY),
        ("start = 2026-11-01\nend = 2036-11-01", RETENTION),
    ],
)
def test_a_flight_is_kept_two_days_longer_than_it_lasts(dates: str, seconds: int) -> None:
    """It may begin and end in other zones than the policy's; never longer than the retention."""
    term = counted(f"[campaign.ad]\ncaps = ['3 per flight']\n{dates}")
    assert term.window == Flight(date(2026, 11, 1), seconds)


@pytest.mark.parametrize(
    ("rule", "topic"),
    [
        ('caps = ["3 since click {campaign}"]', Topic("eclick ", "{campaign}")),
        ('caps = ["3 since purchase"]', Topic("epurchase")),
        ('exclude = ["3 visit since impression ad"]', Topic("i", "ad")),
        ('audience = ["3 visit since click slot:top"]', Topic("fclick ", "slot:top")),
        ('exclude = ["3 visit since impression slot:{slot}"]', Topic("l", "slot:{slot}")),
    ],
)
def test_since_is_a_lifetime_with_an_anchor(rule: str, topic: Topic) -> None:
    """Strictly after the newest such event: one second later; what the anchor is about is named as in a condition."""
    term = counted(f"[campaign.ad]\n{rule}")
    assert (term.n, term.window, term.keep) == (3, Rolling(RETENTION), 3)
    assert term.anchor == AnchorTerm(topic, n=1, after=1)
    assert book_of("[campaign.ad]").provided(term) == TRUE


def test_thresholds_segments_and_label_caps_since() -> None:
    """Each has the anchor that it names; a segment's formula, too."""
    book = book_of(
        '[annoyance]\nthreshold = ["9 since purchase"]\n[annoyance.segment.back]\nwho = ["visit since purchase"]\n'
        'threshold = ["5 since login"]\n[caps]\nslot = ["2 since click slot:{slot}"]'
    )
    bought, login = AnchorTerm(Topic("epurchase"), 1, 1), AnchorTerm(Topic("elogin"), 1, 1)
    assert [book.used_up(segment.threshold[0]).anchor for segment in book.segments] == [login, bought]
    assert book.segments[0].who == literal(Term(Topic("evisit"), 1, Rolling(RETENTION), 1, bought))
    (cap,) = (rule for rule in book.shared() if rule.reason == "cap")
    assert cap.counted is not None
    assert cap.counted.anchor == AnchorTerm(Topic("fclick ", "slot:{slot}"), 1, 1)


def test_a_label_cap_per_flight_is_as_lifetime() -> None:
    """It belongs to no campaign, so no campaign's flight begins it."""
    (cap,) = (
        rule
        for rule in rules_of(
            '[caps]\nchannel = ["3 per flight"]\n[campaign.ad]\nlabels = { channel = "email" }\nstart = 2026-11-01'
        )
        if rule.reason == "cap"
    )
    assert cap.counted == Term(Topic("c", "channel:{channel}"), 3, Rolling(RETENTION), 3)


def test_label_caps_apply_in_the_order_of_the_file() -> None:
    """Those on a kind and on one label alike, whatever the order of the candidate's labels."""
    toml = '[defaults]\n[caps]\nitem = ["1 per day"]\n"channel:call" = ["2 per day"]\nchannel = ["3 per day"]\n'
    candidate = Candidate("ad", channel="call", item="sku", slot="top")
    assert [text for _, text, _ in named(toml, candidate)] == [
        "item: 1 per day",
        "channel:call: 2 per day",
        "channel: 3 per day",
    ]
    assert [text for _, text, _ in named(toml, Candidate("ad", channel="email"))] == ["channel: 3 per day"]


@pytest.mark.parametrize(
    ("condition", "topic"),
    [
        ("visit", Topic("evisit")),
        ("impression", Topic("i")),
        ("visit pricing", Topic("evisit ", "pricing")),
        ("impression ad", Topic("i", "ad")),
        ("visit product/{item}", Topic("evisit ", "product/{item}")),
        ("visit {item}:x", Topic("evisit ", "{item}:x")),
        ("visit 9:x", Topic("evisit ", "9:x")),
        ("visit :x", Topic("evisit ", ":x")),
        ("click channel:email", Topic("fclick ", "channel:email")),
        ("click channel:{channel}", Topic("fclick ", "channel:{channel}")),
        ("impression channel:email", Topic("l", "channel:email")),
        ("impression größe:xl", Topic("l", "größe:xl")),
        ("impression slot:top", Topic("i", "slot:top")),
        ("impression slot:bottom", Topic("l", "slot:bottom")),
    ],
)
def test_what_a_condition_asks_about(condition: str, topic: Topic) -> None:
    """A subject written `kind:value` is a label, unless a campaign has that id."""
    toml = f"[campaign.ad]\nexclude = ['{condition}']\n[campaign.'slot:top']"
    assert counted(toml).topic == topic


def test_segments_are_tried_in_order_the_general_threshold_last() -> None:
    """Each has the formula of its being in force."""
    book = book_of(EVERYTHING)
    bought = Term(Topic("epurchase"), 1, Rolling(365 * DAY), 1)
    assert [(segment.name, segment.who) for segment in book.segments] == [
        ("segment customers", literal(bought)),
        ("annoyance", literal(bought, wanted=False)),
    ]
    assert book.used_up(book.segments[1].threshold[0]) == Term(Topic("*"), 12, Rolling(DAY), 12)
    assert book_of("[campaign.ad]").segments == []


def test_rules_of_the_threshold_are_compiled_once_per_weight() -> None:
    """Campaigns of the same channel share them."""
    book = book_of('[annoyance]\nthreshold = ["12 per day"]\npoints = { email = 3 }')
    assert book.annoyance(3) is book.annoyance(3)
    assert [rule.counted and rule.counted.n for rule in (*book.annoyance(1), *book.annoyance(3))] == [12, 10]


def test_a_session_counts_only_while_it_is_going_on() -> None:
    """The term and the visitor's being active; what costs more than the whole limit is too much in any session."""
    book = book_of(
        '[annoyance]\nthreshold = ["2 per session"]\npoints = { call = 3 }\n'
        '[campaign.service]\nlabels = { channel = "call" }\nobeys = false'
    )
    (light,), (heavy,) = book.annoyance(1), book.annoyance(3)
    assert light.counted is not None
    assert light.formula == frozenset([frozenset([(light.counted, False), (book.alive, False)])])
    assert heavy.counted is not None
    assert heavy.formula == literal(heavy.counted, wanted=False)


def test_rules_that_belong_to_no_campaign() -> None:
    """Label caps and thresholds are over all; the defaults are for whoever is not named."""
    book = book_of(
        '[caps]\n"channel:email" = ["2 per day"]\n[annoyance]\nthreshold = ["9 per day"]\n'
        '[defaults]\ngap = "1 hour"\nhours = "08:00-09:00"\n[campaign.ad]\ncaps = ["1 per day"]'
    )
    assert [rule.text for rule in book.shared()] == ["channel:email: 2 per day", "annoyance: 9 per day"]
    assert [rule.text for rule in book.defaults()] == ["gap 1 hour", "annoyance: 9 per day"]
    assert [*book_of("[campaign.ad]\ncaps = ['1 per day']").defaults()] == []
