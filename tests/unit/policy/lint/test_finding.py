"""finding.py: a finding reads as one line, and has the severity of its rule."""

from __future__ import annotations

import pytest

from retarget.policy.lint.finding import RULES, Finding, make


@pytest.mark.parametrize("rule", RULES)
def test_a_finding_has_the_severity_of_its_rule(rule: str) -> None:
    """Each rule has one."""
    found = make(rule, "campaign.a", "'x' is wrong", "remove it")
    assert found == Finding(RULES[rule][0], "campaign.a", "'x' is wrong", "remove it", rule)
    assert str(found) == f"{RULES[rule][0]} campaign.a: 'x' is wrong; remove it"


def test_findings_are_values() -> None:
    """Equal ones are one."""
    assert len({make("twice", "a", "b", "c"), make("twice", "a", "b", "c"), make("nobody", "a", "b", "c")}) == 2
