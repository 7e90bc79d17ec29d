"""Labels in a replay: every column that a rule can ask about is read, and the figures are those of live calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.events import Candidate
from retarget.logs.log import LogRow
from retarget.policy import Policy
from retarget.replay.meanings import labels_of
from retarget.replay.run import replay
from retarget.retargeter import Retargeter
from retarget.stores import MemoryStore
from tests.support.replays import MONDAY, opened, row, run

CONDITIONS = {
    "a literal label of an exclusion": '[campaign.a]\n[campaign.d]\nexclude = ["impression channel:email"]',
    "a literal label of an audience": '[campaign.a]\n[campaign.d]\naudience = ["impression channel:email"]',
    "a literal label of the defaults": '[defaults]\nexclude = ["impression channel:email"]\n[campaign.a]\n[campaign.d]',
    "a label that begins a template": '[campaign.a]\n[campaign.d]\nexclude = ["impression channel:{kind}"]',
    "a segment's literal label": """
        [annoyance]
        threshold = ["1 per day"]
        [annoyance.segment.s]
        who = ["impression channel:email"]
        threshold = ["9 per day"]
        [campaign.a]
        [campaign.d]
        """,
}


@pytest.mark.parametrize("policy", CONDITIONS.values(), ids=CONDITIONS)
def test_labels_that_only_a_condition_names(policy: str) -> None:
    """The column is read, and counts as in live calls: in memory, through a store and with processes."""
    rows = [row(MONDAY, "ann", "a", "email", None), row(MONDAY + 60, "ann", "d", None, "email")]
    names = ("channel", "kind")
    rules = Policy.from_text(policy)
    result = run(rules, rows, *names)
    assert (result.served, result.suppressed_by) == live(rules, rows, names)


def test_labels_with_processes() -> None:
    """Other processes read the same labels."""
    policy = Policy.from_text(CONDITIONS["a literal label of an exclusion"])
    rows = [row(MONDAY, "ann", "a", "email"), row(MONDAY + 60, "ann", "d", None)]
    with opened(rows, "channel") as log:
        assert replay(log, policy, processes=2).suppressed_by == {"impression channel:email": 1}


@pytest.mark.parametrize(
    ("condition", "labels"),
    [
        ("click channel:email", {"channel"}),
        ("click channel:{item}", {"channel", "item"}),
        ("click my-kind:x", {"my-kind"}),
        ('click "my kind:a:b"', set()),
        ("click my-kind:a:b", {"my-kind"}),
        ("click 2nd:x", set()),
        ("2 click home since visit my-kind:{item}", {"my-kind", "item"}),
        ("click {item}:x", {"item"}),
        ("click home", set()),
        ("click", set()),
        ("click id:5", set()),
        ("click campaign:5", set()),
    ],
)
def test_labels_of_a_condition(condition: str, labels: set[str]) -> None:
    """A subject that begins as a label names one, and so does a template; a field of the log does not."""
    policy = Policy.model_validate({"defaults": {"exclude": [condition]}})
    assert set(labels_of(policy)) == labels


def test_labels_of_campaigns_and_segments() -> None:
    """What is a campaign's id is no label; a segment's conditions name labels, and so do windows of caps."""
    assert labels_of(Policy.from_text('[campaign."slot:top"]\nexclude = ["click slot:top"]')) == ()
    assert labels_of(Policy.from_text('[defaults]\ncaps = ["1 since click slot:top"]')) == ("slot",)
    assert labels_of(Policy.from_text(CONDITIONS["a segment's literal label"])) == ("channel",)


# -- the figures are those of live calls -------------------------------------------------------------------------------

_KINDS = ("channel", "slot", "item")
_SUBJECTS = (
    "",
    *(f" {kind}:{value}" for kind, value in product(_KINDS, ("x", "y", "{item}"))),
    " {slot}",
    " {campaign}",
)
_SINCE = (
    " since click",
    " since visit slot:x",
    " since visit {item}",
    " since visit {campaign}",
    " since impression channel:x",
    " since click slot:{slot}",
)
_conditions = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "2 "]),
    st.sampled_from(["impression", "click", "visit"]),
    st.sampled_from([*_SUBJECTS, " x"]),
    st.sampled_from(["", " within 2 minutes", " within 1 hours", *_SINCE]),
)
_whose = _conditions.filter(lambda text: "{" not in text)
_caps = st.sampled_from(
    [
        "1 per 3 minutes",
        "2 per hour",
        "3 per lifetime",
        "2 per session",
        "1 since click {slot}",
        "1 since visit channel:x",
        "2 since visit {campaign}",
        "3 since impression channel:y",
    ]
)
_rules = st.fixed_dictionaries(
    {},
    optional={
        "audience": st.lists(_conditions, max_size=1),
        "exclude": st.lists(_conditions, max_size=2),
        "caps": st.lists(_caps, max_size=1),
    },
)
_labels = st.dictionaries(st.sampled_from(_KINDS), st.sampled_from("xy"), max_size=2)
_policies = st.fixed_dictionaries(
    {
        "session": st.sampled_from(["1 minutes", "30 minutes"]),
        "campaign": st.fixed_dictionaries(
            {
                "a": st.builds(
                    lambda rules, labels, counts: {**rules, "labels": labels, "counts": counts},
                    _rules,
                    _labels,
                    st.booleans(),
                )
            }
        ),
    },
    optional={
        "defaults": _rules,
        "caps": st.dictionaries(st.sampled_from([*_KINDS, "channel:x", "slot:y"]), st.lists(_caps, max_size=1)),
        "annoyance": st.fixed_dictionaries(
            {"threshold": st.lists(st.sampled_from(["2 per hour", "4 per day"]), min_size=1, max_size=1)},
            optional={
                "points": st.just({"x": 2}),
                "segment": st.dictionaries(
                    st.just("s"),
                    st.fixed_dictionaries(
                        {"who": st.lists(_whose, min_size=1, max_size=2), "threshold": st.just(["3 per hour"])}
                    ),
                ),
            },
        ),
    },
)
_value = st.sampled_from(["x", "y", None])
_rows = st.lists(
    st.builds(
        lambda step, visitor, campaign, event, values: (step, visitor, campaign, event, values),
        st.integers(0, 90),
        st.sampled_from(["ann", "ben"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["impression"] * 4 + ["click", "visit"]),
        st.tuples(_value, _value, _value),
    ),
    max_size=14,
)


@settings(max_examples=100)
@given(_policies, _rows)
def test_a_replay_is_what_live_calls_would_have_been(
    written: dict[str, object], steps: list[tuple[int, str, str, str, tuple[str | None, ...]]]
) -> None:
    """Random policies over labels, random logs: a decision and a record for each row give the same figures."""
    policy = Policy.model_validate(written)
    at, rows = MONDAY, []
    for step, visitor, campaign, event, values in steps:
        at += step
        rows.append(row(at, visitor, campaign, *values, event=event))
    result = run(policy, rows, *_KINDS)
    assert (result.served, result.suppressed_by) == live(policy, rows, _KINDS)


def live(policy: Policy, rows: list[LogRow], names: tuple[str, ...]) -> tuple[int, dict[str, int]]:
    """The impressions served by calls of `decide` and `record`, and how many each rule suppressed."""
    served, suppressed = 0, Counter[str]()
    now = [0]
    known = policy if policy.defaults is not None else policy.model_copy(update={"defaults": _no_rules()})
    ads = Retargeter(known, MemoryStore(), clock=_clock(now))
    for one in rows:
        now[0] = one.at
        assert one.campaign is not None
        labels = zip(names, one.labels, strict=True)
        ad = Candidate(one.campaign, **{name: value for name, value in labels if value is not None})
        if one.event == "impression":
            verdict = ads.decide(one.visitor, [ad])[ad]
            if not verdict:
                suppressed[verdict.rule or verdict.reason] += 1
                continue
            served += 1
        ads.record(one.visitor, one.event, ad)
    return served, dict(suppressed)


def _no_rules() -> object:
    return Policy.from_text("[defaults]").defaults


def _clock(now: list[int]) -> Callable[[], int]:
    return lambda: now[0]
