"""contradictions.py: what does not fit together is refused, what nearly does not is accepted; what is too large."""

from __future__ import annotations

from typing import Any

import pytest

from retarget.engine import Plan
from retarget.errors import PolicyError
from retarget.policy import contradictions
from retarget.policy.load import Policy

CONTRADICTIONS = [
    (
        '[annoyance]\nthreshold = ["5 per day", "9 per day"]\npoints = { call = 6 }\n'
        '[campaign.x]\nlabels = { channel = "call" }',
        "annoyance.points.call: one impression costs 6 points, more than annoyance.threshold '5 per day' ever allows; "
        "raise the threshold, lower the points, or set obeys = false in the campaigns of this channel",
    ),
    (
        '[annoyance]\nthreshold = ["5 per day"]\n'
        '[annoyance.segment.s]\nwho = ["visit {item}"]\nthreshold = ["5 per day"]',
        "annoyance.segment.s.who: 'visit {item}': a segment depends on the visitor alone; remove the template",
    ),
    (
        '[annoyance]\nthreshold = ["5 per flight"]',
        "annoyance.threshold: '5 per flight': a threshold covers all campaigns, so it has no flight; "
        "use another window",
    ),
    ('[campaign."a{b}"]', "campaign.a{b}: 'a{b}' contains braces, which mark templates; rename it"),
    (
        '[campaign."k:x"]\n[campaign.y]\nlabels = { k = "z" }',
        "campaign.k:x: 'k:x' could be a label of the kind 'k'; rename one of them",
    ),
    (
        '[campaign.x]\nobeys = false\ngap = "day"',
        "campaign.x: obeys = false means never capped, but caps or a gap are given; remove one of the two",
    ),
    (
        "[campaign.x]\nstart = 2026-11-02\nend = 2026-11-01",
        "campaign.x: the flight ends (2026-11-01) before it starts (2026-11-02); change one of them",
    ),
    (
        "[defaults]\nstart = 2026-11-02\nend = 2026-11-01\n[campaign.x]\n[campaign.y]",
        "defaults: the flight ends (2026-11-01) before it starts (2026-11-02); change one of them",
    ),
    (
        "[defaults]\nstart = 2026-11-02\n[campaign.x]\nend = 2026-11-01\n[campaign.y]",
        "campaign.x: the flight ends (2026-11-01) before it starts (2026-11-02); change one of them",
    ),
    (
        '[defaults]\nobeys = false\ncaps = ["1 per day"]',
        "defaults: obeys = false means never capped, but caps or a gap are given; remove one of the two",
    ),
    (
        '[defaults]\nobeys = false\n[campaign.x]\ngap = "day"',
        "campaign.x: obeys = false means never capped, but caps or a gap are given; remove one of the two",
    ),
    (
        '[caps]\n"1st" = ["3 per day"]',
        "caps.1st: '1st' is not a valid label: write a kind such as advertiser, or \"channel:email\"",
    ),
    (
        '[caps]\n"campaign:x" = ["3 per day"]',
        "caps.campaign:x: a campaign is not a label: write its caps under [campaign.ID] or [defaults]",
    ),
    (
        '[campaign.x]\nlabels = { campaign = "y" }',
        "campaign.x.labels.campaign: 'campaign' cannot name a label; use letters, digits, - and _",
    ),
]


@pytest.mark.parametrize(("text", "problem"), CONTRADICTIONS, ids=[text for text, _ in CONTRADICTIONS])
def test_contradictions(text: str, problem: str) -> None:
    """What no key shows by itself is refused too."""
    with pytest.raises(PolicyError) as raised:
        Policy.from_text(text)
    assert raised.value.problems == [problem]


CALL = "points = { call = 6 }\n"
TOO_HEAVY = [
    # carried by no campaign: it comes with a candidate, which may be of any campaign
    '[annoyance]\nthreshold = ["5 per day"]\n' + CALL,
    '[annoyance]\nthreshold = ["5 per day"]\n' + CALL + "[defaults]\n[campaign.x]\nobeys = false",
    # a campaign of it obeys, another does not
    '[annoyance]\nthreshold = ["5 per day"]\n' + CALL + '[campaign.x]\nlabels = { channel = "call" }\nobeys = false\n'
    '[campaign.y]\nlabels = { channel = "call" }',
    '[annoyance]\nthreshold = ["9 per day"]\n'
    + CALL
    + '[annoyance.segment.s]\nwho = ["visit"]\nthreshold = ["7 per day", "5 per hour"]',
]


@pytest.mark.parametrize("text", TOO_HEAVY)
def test_points_above_a_threshold_are_refused(text: str) -> None:
    """Whoever carries the channel; a threshold of a segment counts, too."""
    with pytest.raises(
        PolicyError, match=r"^annoyance\.points\.call: one impression costs 6 points, more than annoyance\."
    ):
        Policy.from_text(text)


SOUND = [
    '[annoyance]\nthreshold = ["5 per day"]\npoints = { call = 6 }\n[defaults]\nobeys = false',
    "[defaults]\nstart = 2026-11-02\n[campaign.x]\nstart = 2026-11-01\nend = 2026-11-01",
    '[annoyance]\nthreshold = ["5 per day"]\npoints = { call = 6 }\n'
    '[campaign.x]\nlabels = { channel = "call" }\nobeys = false',
    '[annoyance]\nthreshold = ["6 per day"]\npoints = { call = 6 }\n[campaign.x]\nlabels = { channel = "call" }',
    '[defaults]\ncaps = ["1 per day"]\n[campaign.x]\nobeys = false',
    '[campaign."k:x"]',
    "[campaign.x]\nstart = 2026-11-01\nend = 2026-11-01",
]


@pytest.mark.parametrize("text", SOUND)
def test_near_contradictions_load(text: str) -> None:
    """The nearest thing that makes sense is accepted."""
    assert Policy.from_text(text)


# ---- what is too large -----------------------------------------------------------------------------------------------


def problems_of(data: dict[str, Any]) -> list[str]:
    """Why the policy is refused; nothing if it is not. Then it can be compiled, too."""
    try:
        Plan(Policy.model_validate(data))
    except PolicyError as error:
        return error.problems
    return []


def segments(*whos: list[object]) -> dict[str, Any]:
    """A policy with these segments, and a campaign."""
    parts = {f"s{n}": {"who": who, "threshold": ["5 per day"]} for n, who in enumerate(whos)}
    return {"annoyance": {"threshold": ["3 per day"], "segment": parts}, "campaign": {"a": {}}}


def pairs(count: int) -> list[list[object]]:
    """Conditions of segments: two each, all different."""
    return [[f"visit x{n}", f"buy y{n}"] for n in range(count)]


@pytest.mark.parametrize(("count", "clauses"), [(9, "512"), (12, "4,096")])
def test_segments_that_multiply_are_refused_when_loaded(count: int, clauses: str) -> None:
    """With the number that they come to, the place, and what would be right."""
    [problem] = problems_of(segments(*pairs(count)))
    assert problem == (
        f"annoyance.segment: {count} segments have several conditions in who, which multiply to {clauses} clauses, at "
        "most 256 are allowed; use fewer such segments: one condition, or one { any = [...] }, does not multiply"
    )


@pytest.mark.parametrize(
    "whos",
    [
        pairs(8),
        [[f"visit x{n}"] for n in range(100)],
        [[{"any": [f"visit x{n}", f"buy y{n}"]}] for n in range(50)],
        [*pairs(5), *([f"visit z{n}"] for n in range(20))],
        [["visit x within session"]] * 9,
        [["visit", f"buy y{n}"] for n in range(200)],
    ],
    ids=["pairs", "single", "any", "both", "sessions", "in common"],
)
def test_segments_that_do_not_multiply_load(whos: list[list[object]]) -> None:
    """Eight segments of two conditions; any number of one condition, or of one any; and what they have in common."""
    assert problems_of(segments(*whos)) == []


def test_segments_of_any_lists_are_not_multiplied_in_between() -> None:
    """What loads compiles: four segments of three lists each come to 216 clauses."""
    lists: list[list[object]] = [
        [{"any": [f"visit {n}-{m}-{k}" for k in range(2)]} for m in range(3)] for n in range(4)
    ]
    assert problems_of(segments(*lists)) == []


def test_any_lists_of_a_segment_that_multiply_are_refused() -> None:
    """17 times 17 ways in which a visitor is not in the segment."""
    lists: list[object] = [{"any": [f"visit {name}{n}" for n in range(17)]} for name in "ab"]
    [problem] = problems_of(segments(["visit"], lists))
    assert problem == (
        "annoyance.segment.s1.who: its { any = [...] } lists multiply to 289 clauses, at most 256 are allowed; "
        "use fewer or shorter ones"
    )


def exclusions(count: int) -> list[str]:
    """As many different exclusions."""
    return [f"visit product/{n}" for n in range(count)]


@pytest.mark.parametrize("place", ["campaign.a", "defaults"])
def test_more_facts_than_a_claim_can_ask_are_refused(place: str) -> None:
    """Own conditions, caps that come with labels, and thresholds are all counted."""
    most = contradictions.MOST_FACTS
    table = {"a": {"exclude": exclusions(most + 1)}}
    data = {"campaign": table} if place == "campaign.a" else {"defaults": table["a"]}
    [problem] = problems_of(data)
    assert problem.startswith(
        f"{place}: 65,001 conditions and caps decide on it, at most 65,000 are allowed; use fewer: "
    )


def test_as_many_facts_as_a_claim_can_ask_load() -> None:
    """65,000, and not one more; a campaign that obeys nothing does not ask what is shared."""
    shared = {
        "caps": {"item": ["3 per session"], "item:x": ["1 per day", "2 per day"], "item:y": ["1 per day"]},
        "annoyance": {
            "threshold": [{"cap": "3 per day", "spread": True}],
            "segment": {"s": {"who": ["visit x", "visit y"], "threshold": ["5 per day"]}},
        },
    }
    # 2 and 2 for the item; 3 in a segment's clause; two clauses of 2, twice, for the general threshold
    own = contradictions.MOST_FACTS - 2 - 2 - 3 - 8
    assert not problems_of({**shared, "campaign": {"a": {"exclude": exclusions(own)}}})
    assert problems_of({**shared, "campaign": {"a": {"exclude": exclusions(own + 1)}}})
    assert not problems_of({**shared, "campaign": {"a": {"exclude": exclusions(own + 1), "obeys": False}}})


def test_very_many_segments_are_refused_at_once() -> None:
    """Each threshold asks about all earlier segments: 2,000 of them come to millions of facts."""
    whos: list[list[object]] = [[f"visit x{n}"] for n in range(2_000)]
    assert problems_of(segments(*whos)) == [
        "annoyance.segment: the thresholds of 2,000 segments ask more than 65,000 facts of each campaign; "
        "use fewer segments"
    ]


# ---- what could not be read ------------------------------------------------------------------------------------------

BAD_CAP = 'caps = ["3 a day"]\n'
HIDDEN = [
    (f"[campaign.x]\n{BAD_CAP}start = 2026-11-02\nend = 2026-11-01", "campaign.x: the flight ends"),
    (f"[campaign.y]\n{BAD_CAP}[campaign.x]\nobeys = false\ngap = '1 day'", "campaign.x: obeys = false"),
    (f"[campaign.x]\n{BAD_CAP}[caps]\ncampaign = ['1 per day']", "caps.campaign: a campaign is not a label"),
    (f"timezone = 'Mars'\n[campaign.x]\n{BAD_CAP}start = 2026-11-05\nend = 2026-11-01", "campaign.x: the flight ends"),
    (
        f"[annoyance]\nthreshold = ['3 per day', 'x']\npoints = {{ call = 4 }}\n[campaign.x]\n{BAD_CAP}",
        "annoyance.points.call: one impression costs 4 points",
    ),
    (
        f"[annoyance]\nthreshold = ['3 per flight']\n[annoyance.segment.s]\nthreshold = ['1 per day']\n"
        f"[campaign.x]\n{BAD_CAP}",
        "annoyance.threshold: '3 per flight'",
    ),
]


@pytest.mark.parametrize(("text", "problem"), HIDDEN)
def test_what_cannot_be_read_hides_no_contradiction(text: str, problem: str) -> None:
    """All problems are found at once: those of one key, and those among the keys that can be read."""
    with pytest.raises(PolicyError) as raised:
        Policy.from_text(text)
    assert any("'3 a day' is not a valid cap" in found for found in raised.value.problems)
    assert any(found.startswith(problem) for found in raised.value.problems)


NOT_INVENTED = [
    # a contradiction that may be gone once the wrong key is mended
    "[defaults]\nstart = 2026-12-01\n[campaign.x]\nstart = 'soon'\nend = 2026-11-01",
    "[defaults]\nstart = 'soon'\nend = 2026-12-01\n[campaign.x]\nstart = 2026-11-01",
    "timezone = 'Mars'\n[campaign.x]\nstart = 2026-11-02\nend = 2026-11-01T12:00:00Z",
    "[defaults]\nobeys = false\n[campaign.x]\nobeys = 'yes'\ngap = '1 day'",
    "[annoyance]\nthreshold = ['3 per day']\npoints = { call = 4 }\n[campaign.x]\nlabels = { channel = 'call' }\n"
    "obeys = 'no'",
    "[annoyance]\nthreshold = ['3 per day']\npoints = { call = 4 }\n[campaign.x]\nlabels = { channel = 5 }\n"
    "obeys = false",
    "[annoyance]\nthreshold = ['3 per day']\npoints = { call = 4 }\n[defaults]\nobeys = 'no'",
    "[annoyance]\npoints = { call = 4 }",
]


@pytest.mark.parametrize("text", NOT_INVENTED)
def test_no_contradiction_is_invented(text: str) -> None:
    """What a key that cannot be read could explain is not reported."""
    with pytest.raises(PolicyError) as raised:
        Policy.from_text(text)
    assert len(raised.value.problems) == 1


def test_a_policy_is_not_changed_by_being_refused() -> None:
    """The mapping that was passed is as it was."""
    data = {"campaign": {"x": {"caps": ["3 a day", "1 per day"], "obeys": False}}}
    with pytest.raises(PolicyError) as raised:
        Policy.model_validate(data)
    assert len(raised.value.problems) == 2
    assert data == {"campaign": {"x": {"caps": ["3 a day", "1 per day"], "obeys": False}}}
