"""Audiences and exclusions by example: conditions and templates.

Each example: a policy, what happened, a second, and the verdict then (tests/support/world.py).
"""

from __future__ import annotations

import pytest

from tests.support.world import line_of


@pytest.mark.parametrize(
    ("condition", "history", "now", "expected"),
    [
        ("visit shop", [], "12:00", "0 of 1"),
        ("visit shop", ["12:00 visit shop"], "12:00", "yes"),
        ("visit shop", ["12:00 visit"], "12:00", "0 of 1"),
        ("visit shop", ["12:00 visit shops"], "12:00", "0 of 1"),
        ("visit", ["12:00 visit shop"], "12:00", "yes"),
        ("visit", ["12:00 Visit shop"], "12:00", "0 of 1"),
        ("2 visit", ["12:00 visit shop", "12:00 visit pricing"], "12:00", "yes"),
        ("2 visit shop", ["12:00 visit shop", "12:00 visit pricing"], "12:00", "1 of 2"),
        ("visit shop within 1 hour", ["12:00 visit shop"], "13:00", "yes"),
        ("visit shop within 1 hour", ["12:00 visit shop"], "13:00:01", "0 of 1"),
        ("3 visit shop within 1 hour", ["12:00 visit shop"] * 2 + ["12:30 visit shop"], "13:00:01", "1 of 3"),
        ("visit within calendar day", ["00:00 visit"], "23:59:59", "yes"),
        ("visit within calendar day", ["23:59:59 visit"], "2026-03-05T00:00", "0 of 1"),
        ('visit "red shoes"', ["12:00 visit red"], "12:00", "0 of 1"),
        ("click other", ["12:00 click other"], "12:00", "yes"),
        ("click other", ["12:00 click ad"], "12:00", "0 of 1"),
        ("2 impression other within 1 day", ["12:00 impression other"] * 2, "12:00", "yes"),
        ("2 impression other within 1 day", ["12:00 impression other"] * 2, "2026-03-05T12:00:01", "0 of 2"),
        ("impression", ["12:00 impression stranger"], "12:00", "yes"),
        ("click channel:email", ["12:00 click other"], "12:00", "yes"),
        ("click channel:email", ["12:00 impression other"], "12:00", "0 of 1"),
        ("click channel:email", ["12:00 click stranger channel=email"], "12:00", "yes"),
        ("click channel:email", ["12:00 click other channel=call"], "12:00", "0 of 1"),
        ("2 impression advertiser:pico", ["12:00 impression ad", "12:00 impression other"], "12:00", "yes"),
    ],
)
def test_conditions(condition: str, history: list[str], now: str, expected: str) -> None:
    """A condition counts events of a name, on a subject, campaign or label, in a window; required or excluded."""
    labels = (
        "labels = { advertiser = 'pico', channel = 'display' }",
        "labels = { advertiser = 'pico', channel = 'email' }",
    )
    audience = f"[campaign.ad]\naudience = ['{condition}']\n{labels[0]}\n[campaign.other]\n{labels[1]}"
    line = line_of(audience, now, *history)
    assert line == (expected if expected == "yes" else f"audience: {condition} ({expected}), never")
    line = line_of(audience.replace("audience", "exclude"), now, *history)
    assert line.startswith(f"exclude: {condition} (" if expected == "yes" else "yes")


@pytest.mark.parametrize(
    ("exclude", "history", "expected"),
    [
        ("purchase within 2 days", "12:00 purchase tea", "(1 of 1), again 2026-03-06 12:00:01"),
        ("purchase", "12:00 purchase tea", "(1 of 1), again 2027-04-08 12:00:01"),  # 400 days
        ("purchase within calendar month", "12:00 purchase tea", "(1 of 1), again 2026-04-01 00:00:00"),
        ("impression other within 1 hour", "12:00 impression other", "(1 of 1), again 2026-03-04 13:00:01"),
        ("visit within session", "12:00 visit", "(1 of 1), again 2026-03-04 12:30:01"),
    ],
)
def test_exclude_lets_go(exclude: str, history: str, expected: str) -> None:
    """An exclusion ends when the event has left its window."""
    policy = f'[campaign.ad]\nexclude = ["{exclude}"]\n[campaign.other]'
    assert line_of(policy, "12:00", history) == f"exclude: {exclude} {expected}"


def test_any_one_excludes_and_all_are_required() -> None:
    """Of the audience all must hold, of the exclusions none; the one that ends last is named."""
    policy = (
        '[campaign.ad]\naudience = ["visit", "click"]\nexclude = ["purchase within 1 day", "dismiss within 2 days"]'
    )
    reached = ["12:00 visit", "12:00 click"]
    assert line_of(policy, "12:00", reached[0]) == "audience: click (0 of 1), never"
    assert line_of(policy, "12:00", reached[1]) == "audience: visit (0 of 1), never"
    assert line_of(policy, "12:00", *reached) == "yes"
    line = line_of(policy, "12:00", *reached, "12:00 purchase")
    assert line == "exclude: purchase within 1 day (1 of 1), again 2026-03-05 12:00:01"
    line = line_of(policy, "12:00", *reached, "12:00 purchase", "12:00 dismiss")
    assert line == "exclude: dismiss within 2 days (1 of 1), again 2026-03-06 12:00:01"


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], "audience: click ad2 or 2 visit within 1 day, never"),
        (["12:00 visit"], "audience: click ad2 or 2 visit within 1 day, never"),
        (["12:00 visit", "12:00 visit"], "yes"),
        (["12:00 click ad2"], "yes"),
    ],
)
def test_any(history: list[str], expected: str) -> None:
    """One of several conditions is enough."""
    policy = '[campaign.ad]\naudience = [{ any = ["click ad2", "2 visit within 1 day"] }]\n[campaign.ad2]'
    assert line_of(policy, "12:00", *history) == expected


TEMPLATES = """
[campaign.ad]
labels = { advertiser = "oyashop" }
audience = ["visit {advertiser}/{item} within 1 day"]
exclude = ["purchase item:{item}", "dismiss {campaign}"]
[campaign.other]
exclude = ["dismiss {campaign}"]
"""
UNSEEN = "audience: visit {advertiser}/{item} within 1 day (0 of 1), never"
BOUGHT = "exclude: purchase item:{item} (1 of 1), never"
HIDDEN = "exclude: dismiss {campaign} (1 of 1), never"


@pytest.mark.parametrize(
    ("what", "history", "expected"),
    [
        ("ad item=tea", ["12:00 visit oyashop/tea"], "yes"),
        ("ad item=tea", ["12:00 visit oyashop/coffee"], UNSEEN),
        ("ad item=tea advertiser=pico", ["12:00 visit oyashop/tea"], UNSEEN),
        ("ad item=tea advertiser=pico", ["12:00 visit pico/tea"], "yes"),  # the candidate's label before the campaign's
        ("ad", ["12:00 visit oyashop/tea"], UNSEEN),  # no item: it cannot have been
        ("ad item=tea", ["12:00 visit oyashop/tea", "12:00 purchase shop item=tea"], BOUGHT),
        ("ad item=tea", ["12:00 visit oyashop/tea", "12:00 purchase shop item=coffee"], "yes"),
        ("ad item=tea", ["12:00 visit oyashop/tea", "12:00 dismiss ad item=coffee"], HIDDEN),
        ("ad item=tea", ["12:00 visit oyashop/tea", "12:00 dismiss other"], "yes"),
        ("other item=tea", ["12:00 dismiss other"], "exclude: dismiss {campaign} (1 of 1), again 2027-04-08 12:00:01"),
        ("other", ["12:00 dismiss ad"], "yes"),
    ],
)
def test_templates(what: str, history: list[str], expected: str) -> None:
    """`{item}`, `{advertiser}`, `{campaign}` are the candidate's labels; what cannot be named has not happened."""
    assert line_of(TEMPLATES, "12:00", *history, what=what) == expected


def test_an_exclusion_that_cannot_be_named_excludes_nobody() -> None:
    """A candidate without the label that an exclusion asks for is not excluded by it."""
    policy = '[campaign.ad]\nexclude = ["purchase product/{item}"]'
    assert line_of(policy, "12:00", "12:00 purchase product/tea") == "yes"
    assert line_of(policy, "12:00", "12:00 purchase product/tea", what="ad item=tea").startswith("exclude")
