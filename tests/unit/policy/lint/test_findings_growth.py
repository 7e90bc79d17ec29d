"""The work of loading a policy and of finding what is unsound in it grows with the policy, not with its square."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from retarget.errors import PolicyError
from retarget.policy.load import Policy


def calls(work: Callable[[], object]) -> int:
    """How many functions of Python and of C are called, and generators resumed, while this runs."""
    count = 0

    def note(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def campaigns(count: int, rules: Callable[[int], dict[str, Any]], name: str = "campaign-{}") -> dict[str, Any]:
    """A policy of as many campaigns."""
    return {"campaign": {name.format(n): rules(n) for n in range(count)}}


SHAPES: dict[str, Callable[[int], dict[str, Any]]] = {
    "plain": lambda size: campaigns(size, lambda n: {"caps": ["3 per day", "9 per 30 days"], "labels": {"a": f"x{n}"}}),
    "flights": lambda size: campaigns(size, lambda n: {"start": f"2026-01-{n % 28 + 1:02}", "caps": ["6 per flight"]}),
    "unknown campaigns": lambda size: campaigns(
        size, lambda n: {"exclude": ["dismiss all-advertising", f"click promo{n}"]}, "summer-{}-shoes"
    ),
    "unknown events": lambda size: campaigns(size, lambda n: {"exclude": [f"event{n}x"]}),
    "chain": lambda size: campaigns(size, lambda n: {"audience": [f"click campaign-{n - 1}"] if n else []}),
    "nobody begins": lambda size: campaigns(size, lambda n: {"audience": [f"click campaign-{max(0, n - 1)}"]}),
    "circle": lambda size: campaigns(size, lambda n: {"audience": [f"click campaign-{(n + 1) % size}"]}),
    "label caps": lambda size: {
        **campaigns(size, lambda n: {"labels": {"advertiser": f"a{n}"}, "days": "mon"}),
        "caps": {f"advertiser:a{n}": ["3 per calendar day"] for n in range(size)},
    },
    "label caps that nothing carries": lambda size: {
        **campaigns(size, lambda n: {"labels": {"advertiser": f"a-{n:x}-q"}, "days": "mon"}),
        "caps": {f"advertiser:b{n}x": ["3 per calendar day"] for n in range(size)},
    },
    "exclusions": lambda size: {"campaign": {"a": {"exclude": [f"visit product/{n}" for n in range(size)]}}},
    "audience and exclusions": lambda size: {
        "campaign": {
            "a": {
                "audience": [{"any": [f"visit product/{n}" for n in range(size)]}],
                "exclude": [f"visit item/{n}" for n in range(size)],
            }
        }
    },
    "points": lambda size: {
        "annoyance": {"threshold": ["9 per day"], "points": {f"c{n}": 2 for n in range(size)}},
        **campaigns(size, lambda n: {"labels": {"channel": f"c{n}"}}),
    },
    "defaults": lambda size: {
        "defaults": {"caps": ["3 per calendar day"], "exclude": ["dismiss {campaign}"]},
        **campaigns(size, lambda _: {}),
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_grows_with_the_policy(shape: str) -> None:
    """Twice as large a policy takes about twice as many steps to load and to lint."""
    steps = []
    for size in (150, 300):
        data = SHAPES[shape](size)
        steps.append(calls(lambda data=data: Policy.model_validate(data).findings()))  # type: ignore[misc]
    assert steps[1] < 2.5 * steps[0]


def test_wrong_keys_are_found_in_time() -> None:
    """So it is where everything is wrong: each wrong value is left out, and the rest looked at."""

    def load(data: dict[str, Any]) -> None:
        with pytest.raises(PolicyError):
            Policy.model_validate(data)

    steps = []
    for size in (150, 300):
        data = campaigns(size, lambda _: {"caps": ["3 a day"], "start": "soon", "obeys": 5})
        steps.append(calls(lambda data=data: load(data)))  # type: ignore[misc]
    assert steps[1] < 2.5 * steps[0]
