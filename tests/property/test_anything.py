"""Any input from callers, made up by Hypothesis: a right answer or one of our errors, short, without a visitor's id."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retarget import Candidate, MemoryStore, Policy, Retargeter
from retarget.errors import InputError, PolicyError, RetargetError
from tests.property.mutation import check_error

NOW = 1_794_312_000
EVERYTHING = Policy.from_text('[defaults]\ncaps = ["1 per day"]\nexclude = ["dismiss {campaign}"]')


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep warnings out of the test's log."""
    caplog.set_level(logging.CRITICAL, "retarget")


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | st.binary(max_size=20)
WEIRD = st.recursive(
    ANYTHING | st.datetimes() | st.dates() | st.decimals() | st.timedeltas(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)
_HYPOTHESIS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(st.lists(WEIRD, min_size=9, max_size=9))
@settings(_HYPOTHESIS, max_examples=100)
def test_whatever_a_caller_gives_is_taken_or_refused(given_: list[Any]) -> None:
    """Values of every type in every argument: an answer, or an error that leaves the store unchanged."""
    ads = Retargeter(EVERYTHING, store := MemoryStore(), clock=lambda: NOW)
    a, b, c, d, e, f, g, h, i = given_
    calls: list[Callable[[], object]] = [
        lambda: ads.decide(a, [b], now=c, timezone=d),
        lambda: ads.decide(a, b, consent=c),
        lambda: list(ads.decide_many([a, b], c, now=d)),
        lambda: list(ads.decide_many(a)),
        lambda: ads.claim(a, [b], now=c, id=d, hold=e, timezone=f),
        lambda: ads.claim("v", [b], hold=e),
        lambda: ads.claim_many([("v", ["c"]), (a, [b], c)], now=d, hold=e, timezone=f, distinct=True),
        lambda: ads.claim_many(g),
        lambda: ads.claim_many([h]),
        lambda: ads.decide("v", ["c"], timezone=i),
        lambda: ads.record(a, b, c, at=d, id=e),
        lambda: ads.record("v", "click", "c", at=d),
        lambda: ads.record("v", "click", Candidate(b, item=c)),
        lambda: ads.record_many([(a, b, c, d, e)]),
        lambda: ads.record_many(f),
        lambda: ads.record_many([g]),
        lambda: ads.claim_many([(a, [b], c), (d, e, f)], now=g, timezone=h),
        lambda: ads.claim_many([("v", ["c"], c)], distinct=d, hold=e),
        lambda: ads.claim_many(i),
        lambda: ads.merge(a, into=b, now=c),
        lambda: ads.merge("v", into="w", now=c),
        lambda: ads.rotate("v", now=c),
        lambda: ads.confirm(h),
        lambda: ads.confirm(h, at=i),
        lambda: ads.release(h, now=i),
        lambda: ads.export(a),
        lambda: ads.forget(a),
        lambda: ads.decide("v", [Candidate(a, item=b)]).eligible,
    ]
    for call in calls:
        before = len(store)
        try:
            call()
        except RetargetError as error:
            check_error(error)
            assert len(store) == before


@given(WEIRD)
@settings(_HYPOTHESIS, max_examples=150)
def test_whatever_is_given_as_a_policy_loads_or_is_refused(data: Any) -> None:
    """Data of every shape, whole or as one key of a policy."""
    campaigns = [data, {"caps": data}, {"audience": [{"any": data}], "start": data, "cost": data, "labels": data}]
    shapes = [data, *({"campaign": {"a": campaign}} for campaign in campaigns), {"caps": {"item": data}}]
    for shape in [*shapes, {"annoyance": data}, {"annoyance": {"threshold": data}}, {"retention": data}]:
        try:
            Retargeter(Policy.model_validate(shape), "memory://")
        except PolicyError as error:
            check_error(error)


BLANKS = " " * 200_000


@pytest.mark.parametrize(
    "rule",
    [
        {"caps": [f"3 per day{BLANKS}x"]},
        {"caps": [f"3{BLANKS}x"]},
        {"exclude": [f'visit{BLANKS}"']},
        {"exclude": [f"visit a within{BLANKS}x"]},
        {"exclude": ["visit " + "{a}" * 100_000]},
        {"exclude": ["visit " + "a" * 70_000]},
        {"exclude": ["visit" * 20_000]},
        {"exclude": ["visit shop" + " within" * 50_000]},
        {"gap": f"1{BLANKS}x"},
        {"gap": "9" * 4_000 + " days"},
        {"hours": "," * 200_000},
        {"days": "-" * 200_000},
    ],
    ids=map(str, range(12)),
)
def test_endless_texts_are_refused_at_once_and_briefly(rule: dict[str, Any]) -> None:
    """Parsing is linear in the text: anything else would take minutes."""
    with pytest.raises(PolicyError) as raised:
        Retargeter(Policy.model_validate({"campaign": {"a": rule}}), "memory://").decide("v")
    check_error(raised.value)


@pytest.mark.parametrize("text", ["\ud800", "shop/\udfff"])
def test_a_lone_surrogate_is_not_a_subject(text: str) -> None:
    """A lone surrogate in a rule: refused when it is loaded, in a message that can be printed."""
    for rule in ({"exclude": [f"visit {text}"]}, {"audience": [{"any": [f'visit "{text}"', "visit"]}]}):
        with pytest.raises(PolicyError) as raised:
            Policy.model_validate({"campaign": {"a": rule}, "defaults": rule})
        check_error(raised.value)


@pytest.mark.parametrize(
    "text", ["[campaign.a]\ncost = " + "9" * 5_000, "a = " + "[" * 10_000, "[campaign.a]\n\ud800 = 1"]
)
def test_toml_that_cannot_be_read_is_refused(text: str) -> None:
    """A number of thousands of digits, endless brackets, invalid Unicode."""
    with pytest.raises(PolicyError) as raised:
        Policy.from_text(text)
    check_error(raised.value)


FIRST, LAST = datetime(1970, 1, 2), datetime(2106, 1, 1)  # noqa: DTZ001 - Hypothesis wants them like this


@given(st.integers(0, 2**32 - 301) | st.floats(0, 2**32 - 301) | st.datetimes(FIRST, LAST))
@settings(_HYPOTHESIS, max_examples=200)
def test_a_moment_is_the_same_in_every_form(moment: float | datetime) -> None:
    """A number or an aware datetime: floored to its second, exported as that second, and claimed once in it."""
    moment = moment.replace(tzinfo=UTC) if isinstance(moment, datetime) else moment
    second = int(moment.timestamp() if isinstance(moment, datetime) else moment)
    ads = Retargeter(EVERYTHING, MemoryStore(), clock=lambda: NOW)
    claim = ads.claim("v", ["c"], now=moment)
    assert claim is not None
    assert claim.second == second
    assert ads.export("v")["timelines"]["impression c"]["at"] == [datetime.fromtimestamp(second, UTC).isoformat()]
    again = ads.decide("v", ["c"], now=moment)["c"].eligible_at
    assert again == datetime.fromtimestamp(second, UTC) + timedelta(seconds=86_401)


@given(st.integers(1, 10**9), st.sampled_from(["second", "minute", "hour", "day", "week"]), st.booleans())
@settings(_HYPOTHESIS, max_examples=200)
def test_a_duration_lasts_as_long_as_it_says(count: int, unit: str, capital: bool) -> None:  # noqa: FBT001
    """As a gap and as a hold: exactly that many seconds, or refused where that is too many."""
    seconds = count * {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}[unit]
    text = f"{count} {unit}s".upper() if capital else f"{count} {unit}"
    try:
        ads = Retargeter(Policy.model_validate({"campaign": {"a": {"gap": text}}}), MemoryStore(), clock=lambda: 10**9)
        ads.record("v", "impression", "a")
        free = ads.decide("v")["a"].eligible_at
        assert free is not None
        assert int(free.timestamp()) == 10**9 + seconds + 1
    except PolicyError as error:
        check_error(error)
        assert seconds > 20 * 366 * 86_400
    try:
        claim = Retargeter(EVERYTHING, MemoryStore(), clock=lambda: NOW).claim("w", ["b"], hold=text)
        assert claim is not None
        assert claim.held_for == seconds
    except InputError as error:
        check_error(error)
        assert seconds > 86_400
