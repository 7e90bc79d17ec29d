"""Hypothesis strategies: policies, candidates, events and moments from so few words that they often coincide.

Policies are plain data for `Policy.model_validate`, which never refuses them. Moments lie in the days around the
end of summer time in 2026, close together and on the edges of the windows that the policies use.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

from retarget.events import Candidate, Event
from retarget.policy import Policy

Data = dict[str, Any]
"""A policy as `Policy.model_validate` takes it."""

BASE = int(datetime(2026, 10, 24, 20, tzinfo=UTC).timestamp())
"""Clocks go back soon after: in Zurich and Beirut that night, in Cairo on 30 October, in St John's on 1 November."""

ZONES = ["UTC", "Europe/Zurich", "America/St_Johns", "Africa/Cairo", "Asia/Beirut", "Asia/Kathmandu", "Pacific/Apia"]
CAMPAIGNS = ["a", "b", "a-teaser", "slot:top", "e"]
"""One is named as a template of another, one as a label of a candidate."""
STRANGER = "z"
"""A campaign that no policy names."""
VISITORS = ["v1", "v2"]
EVENTS = ["click", "visit", "buy"]
SUBJECTS = ["shop", "product/i1", "product/i2"]
ROLLING = {"5 seconds": 5, "1 minute": 60, "10 minutes": 600, "hour": 3_600, "day": 86_400, "3 days": 259_200}
"""Rolling windows with their seconds."""
NAMED = ["calendar hour", "calendar day", "calendar week", "calendar month", "flight", "session", "lifetime"]
SINCE = ["click", "buy", "visit shop", "click a", "impression b", "click channel:email", "click {campaign}"]
SINCE += ["visit product/{item}", "impression advertiser:{advertiser}"]
"""What a window may begin at."""
PLAIN_SINCE = [event for event in SINCE if "{" not in event]
"""The same where a rule is about no campaign: in thresholds and segments."""
SPREADABLE = [*ROLLING, "calendar hour", "calendar day", "calendar week", "calendar month"]

_STEPS = (-1, 0, 1)
_EDGES = [0, *(sign * seconds + step for seconds in ROLLING.values() for sign in (-1, 1) for step in _STEPS)]


def _within(windows: Iterable[str], since: list[str]) -> list[str]:
    return ["", *(f" within {window}" for window in windows), *(f" since {event}" for event in since)]


# Whole texts to draw from, the simplest first: one draw each is fast and shrinks well.
_COUNTS = ["", "2 ", "3 "]
_DONE = [*EVENTS, "impression"]
_ON = ["", " shop", " product/i1", " a", " b", " slot:top", " channel:email", " advertiser:ann", " item:i1"]
_ON_TEMPLATE = [" {campaign}", " {campaign}-teaser", " product/{item}", " item:{item}", " advertiser:{advertiser}"]


def _conditions(on: list[str], windows: list[str], since: list[str]) -> list[str]:
    parts = itertools.product(_within(windows, since), _COUNTS, on, _DONE)
    return [f"{count}{event}{subject}{within}" for within, count, subject, event in parts]


def _caps(windows: Iterable[str], since: list[str], limits: range) -> list[str]:
    every = [*(f"per {window}" for window in windows), *(f"since {event}" for event in since)]
    return [f"{limit} {window}" for window in every for limit in limits]


def _spread(windows: Iterable[str]) -> list[dict[str, object]]:
    return [{"cap": f"{limit} per {window}", "spread": True} for window in windows for limit in range(1, 5)]


class _Words:
    """The strategies of the parts that differ between policies of rolling windows only and others."""

    def __init__(self, windows: list[str], spreadable: list[str]) -> None:
        plain = [window for window in windows if window != "flight"]
        condition = st.sampled_from(_conditions(_ON + _ON_TEMPLATE, windows, SINCE))
        of_visitor = st.sampled_from(_conditions(_ON, plain, PLAIN_SINCE))
        cap = st.sampled_from(_caps(windows, SINCE, range(1, 4)))
        self.caps = st.lists(cap | cap | st.sampled_from(_spread(spreadable)), max_size=2)
        self.threshold = st.lists(st.sampled_from(_caps(plain, PLAIN_SINCE, range(3, 7))), min_size=1, max_size=2)
        self.exclude = st.lists(condition, min_size=1, max_size=2)
        self.audience = st.lists(_clause(condition), min_size=1, max_size=2)
        self.who = st.lists(_clause(of_visitor), min_size=1, max_size=2)


def _clause(condition: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    return condition | st.builds(lambda texts: {"any": texts}, st.lists(condition, min_size=2, max_size=3))


_ANY_WORDS = _Words([*ROLLING, *NAMED], SPREADABLE)
_ROLLING_WORDS = _Words([*ROLLING, "lifetime"], list(ROLLING))


_NEAR = st.builds(lambda a, b: BASE + 5 * a + b, st.integers(0, 24), st.sampled_from([0, -1, 1]))
_EDGE = st.builds(lambda a, b: BASE + a + b, st.sampled_from(_EDGES), st.sampled_from([0, 5, 10, 60]))
_FAR = st.builds(lambda a, b: BASE + 1_800 * a + b, st.integers(-48, 480), st.sampled_from([0, -1, 60]))
_MOMENTS = _NEAR | _NEAR | _NEAR | _EDGE | _FAR


def moments() -> st.SearchStrategy[int]:
    """A moment around BASE: near others, on or beside the edge of a window, or anywhere within some days."""
    return _MOMENTS


_TIME = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 1, 15, 30, 59]))
_HOURS = st.sampled_from(
    ["08:00-21:00", "22:00-06:00", "02:15-02:45", "00:00-24:00", "23:30-00:30, 12:00-13:00", "00:00-00:30, 23:45-23:50"]
) | st.tuples(_TIME, _TIME).filter(lambda ends: ends[0] != ends[1]).map("-".join)
_DAYS = st.sampled_from(["mon-fri", "sat, sun", "sun", "mon", "fri-mon", "mon-sun"])


@st.composite
def flights(draw: st.DrawFn) -> Data:
    """Start and end: none, either or both; dates or times, local or with an offset."""
    day, length = draw(st.integers(-3, 5)), draw(st.integers(0, 6))
    start, end = (date(2026, 10, 24) + timedelta(days=ahead) for ahead in (day, day + length))
    shape = draw(st.sampled_from(["start", "end", "both", "local", "exact"]))
    if shape == "local":
        return {"start": f"{start}T02:30:00", "end": f"{end + timedelta(days=1)}T00:00:30"}
    if shape == "exact":
        return {"start": f"{start}T08:00:00+01:00", "end": f"{end + timedelta(days=1)}T21:00:00Z"}
    return {key: str(at) for key, at in (("start", start), ("end", end)) if shape in (key, "both")}


_NOT = st.just(False)  # noqa: FBT003 - a value of the policy
_FLIGHTS = flights()
_GAPS = st.sampled_from(list(ROLLING))


def _rules(draw: st.DrawFn, words: _Words) -> Data:
    """Some keys of [defaults] or of a campaign: caps in most."""
    clock = {"hours": _HOURS, "days": _DAYS, "flight": _FLIGHTS} if words is _ANY_WORDS else {}
    keys: dict[str, st.SearchStrategy[Any]] = {
        "caps": words.caps,
        "gap": _GAPS,
        "exclude": words.exclude,
        "audience": words.audience,
        "counts": _NOT,
        "obeys": _NOT,
        **clock,
    }
    chosen = draw(st.lists(st.sampled_from(["caps", "caps", "gap", "exclude", *keys]), max_size=3, unique=True))
    rules: Data = {key: draw(keys[key]) for key in chosen}
    flight: Data = rules.pop("flight", {})
    return rules | flight


@st.composite
def policies(draw: st.DrawFn, *, rolling_only: bool = False) -> Data:
    """A policy. `rolling_only`: rolling and lifetime windows only, no hours, days, start or end; all of it in UTC."""
    words = _ROLLING_WORDS if rolling_only else _ANY_WORDS
    data: Data = {"retention": draw(st.sampled_from(["400 days", "2 days", "2 hours"]))}
    if not rolling_only:
        data["session"] = draw(st.sampled_from(["10 minutes", "10 seconds", "3 hours"]))
        data |= {"timezone": draw(st.sampled_from(ZONES)), "week_start": draw(st.sampled_from(["monday", "sunday"]))}
    if draw(st.booleans()):
        data["defaults"] = _obeying(_rules(draw, words), obeys=True)
        # A start from here and an end from a campaign could contradict each other.
        data["defaults"].pop("start", None)
    names = CAMPAIGNS[: draw(st.integers(3, 5))]
    data["campaign"] = {name: _campaign(draw, words, data.get("defaults", {})) for name in names}
    data["caps"] = _label_caps(draw, words)
    if draw(st.booleans()):
        data["annoyance"] = _annoyance(draw, words)
    return data


_CAPPED = st.lists(
    st.sampled_from(["advertiser", "channel", "channel:email", "item", "item:i1"]), max_size=3, unique=True
)


def _label_caps(draw: st.DrawFn, words: _Words) -> Data:
    return {key: draw(words.caps) for key in draw(_CAPPED)}


def _labels(draw: st.DrawFn) -> dict[str, str]:
    """No campaign is a call: only a candidate can be one."""
    labels = {"advertiser": draw(_ADVERTISERS), "channel": draw(_CHANNELS)}
    return {kind: value for kind, value in labels.items() if value}


_ADVERTISERS = st.sampled_from(["ann", "bob", None])
_CHANNELS = st.sampled_from(["email", None])


def _campaign(draw: st.DrawFn, words: _Words, defaults: Data) -> Data:
    rules = _rules(draw, words)
    if "end" in defaults and "start" in rules:
        rules.setdefault("end", "2027-01-01")
    return {**_obeying(rules, obeys=defaults.get("obeys", True)), "labels": _labels(draw)}


def _obeying(rules: Data, *, obeys: bool) -> Data:
    """The rules without caps that can never apply, which the loader refuses."""
    if rules.get("obeys", obeys):
        return rules
    return {key: value for key, value in rules.items() if key not in ("caps", "gap")}


def _annoyance(draw: st.DrawFn, words: _Words) -> Data:
    """A threshold with points, perhaps with segments; each allows what one impression costs."""
    data: Data = {"threshold": draw(words.threshold)}
    if draw(st.booleans()):
        data["points"] = draw(_POINTS)
    segments = ["s1", "s2"][: draw(st.sampled_from([0, 0, 1, 2]))]
    data["segment"] = {name: {"who": draw(words.who), "threshold": draw(words.threshold)} for name in segments}
    return data


_POINTS = st.sampled_from([{"email": email, "call": call} for email in (1, 2, 3) for call in (1, 2, 3)])

KEEPER = "keeper"
"""A campaign that asks about everything, for longer than anything else does."""
_KINDS = ["advertiser", "channel", "item"]
_ANYTHING = ["", " {any}", *(f" {kind}:{{{kind}}}" for kind in [*_KINDS, "slot"])]


def keeping(data: Data) -> Data:
    """The policy with rules that never bind and ask about everything, so that the next policy finds all of it."""
    kept = {**data, "caps": {kind: [] for kind in _KINDS} | data.get("caps", {})}
    for kind in _KINDS:
        kept["caps"] = {**kept["caps"], kind: [*kept["caps"][kind], "10000 per 400 days"]}
    annoyance = data.get("annoyance") or {"threshold": []}
    kept["annoyance"] = {**annoyance, "threshold": [*annoyance["threshold"], "10000 per 400 days"]}
    asks = [f"10000 {event}{subject} within 400 days" for event in _DONE for subject in _ANYTHING]
    keeper = {"obeys": True, "exclude": asks, "caps": ["10000 per session", "10000 per 400 days"]}
    kept["campaign"] = {**data["campaign"], KEEPER: keeper}
    return kept


@st.composite
def changed(draw: st.DrawFn, data: Data, *, rolling_only: bool = False) -> Data:
    """The policy with one change: a campaign's labels or rules, a campaign gone or back, points, thresholds, caps."""
    words = _ROLLING_WORDS if rolling_only else _ANY_WORDS
    what = draw(st.sampled_from(["labels", "points", "campaign", "rules", "caps", "threshold"]))
    new: Data = {**data, "campaign": dict(data["campaign"])}
    name = draw(st.sampled_from(CAMPAIGNS))
    if what == "points" and "annoyance" in data:
        new["annoyance"] = {**data["annoyance"], "points": draw(_POINTS)}
    elif what == "threshold":
        new["annoyance"] = _annoyance(draw, words)
    elif what == "caps":
        new["caps"] = _label_caps(draw, words)
    elif what == "campaign" and name in new["campaign"] and len(new["campaign"]) > 1:
        del new["campaign"][name]
    elif what == "labels" and name in new["campaign"]:
        new["campaign"][name] = {**new["campaign"][name], "labels": _labels(draw)}
    else:
        new["campaign"][name] = _campaign(draw, words, data.get("defaults", {}))
    return new


def campaigns(policy: Policy) -> list[str]:
    """The campaigns that may be decided on: those of the policy, and a stranger where the policy has defaults."""
    stranger = [STRANGER] if policy.defaults is not None else []
    return [*(name for name in policy.campaign if name != KEEPER), *stranger]


_EXTRA: list[dict[str, str]] = [
    {},
    {"item": "i1"},
    {"item": "i2"},
    {"channel": "call"},
    {"channel": "email"},
    {"advertiser": "bob", "item": "i1"},
    {"slot": "top"},
]


@lru_cache(maxsize=256)
def _targets(names: tuple[str, ...]) -> st.SearchStrategy[str | Candidate]:
    """One of the campaigns, as often without labels of its own as with some."""
    labelled = [Candidate(name, **extra) for name in names for extra in _EXTRA]
    return st.sampled_from([*names, *names, *names, *names, *names, *names, *labelled])


def candidates(policy: Policy) -> st.SearchStrategy[str | Candidate]:
    """A candidate that `policy` can decide on: a campaign's id, or with labels of this one opportunity."""
    return _targets(tuple(campaigns(policy)))


_LABELS = ["channel:email", "item:i1"]
"""What is a subject as well as a label."""
_IDS = [None, None, None, "x1", "x2", "x3"]


@lru_cache(maxsize=256)
def happenings(known: tuple[str, ...]) -> st.SearchStrategy[tuple[str, str | Candidate | None]]:
    """An event and its subject, an impression as often as anything else; on campaigns known to the policy or not."""
    names = (*(name for name in known if name != KEEPER), STRANGER)
    impressions = st.tuples(st.just("impression"), _targets(names))
    subjects = st.sampled_from([None, None, *SUBJECTS, *SUBJECTS, *_LABELS]) | _targets(names)
    return impressions | st.tuples(st.sampled_from(EVENTS), subjects)


@st.composite
def events(draw: st.DrawFn, policy: Policy, *, at: st.SearchStrategy[int] = _MOMENTS) -> Event:
    """An event; `at` in whole seconds; some with one of a few ids."""
    event, subject = draw(happenings(tuple(policy.campaign)))
    return Event(draw(_WHO), event, subject, draw(at), draw(_AN_ID))


_WHO = st.sampled_from(["v1", *VISITORS])
_AN_ID = st.sampled_from(_IDS)


def second_of(event: Event) -> int:
    """The moment of an event that `events` made."""
    assert event.at is not None
    assert not isinstance(event.at, datetime)
    return int(event.at)
