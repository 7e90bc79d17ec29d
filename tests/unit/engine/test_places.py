"""places.py: what is asked of a timeline, and which templates fit a subject."""

from __future__ import annotations

from retarget.engine.places import Asked, Patterns
from retarget.timelines import MIN_KEEP


def test_the_most_demanding_rule_decides() -> None:
    """The largest number of entries and the longest horizon; a shield once a blocking rule asks."""
    asked = Asked()
    assert (asked.keep, asked.horizon, asked.shield) == (MIN_KEEP, 0, False)
    asked.add(3, 500, shield=False)
    assert (asked.keep, asked.horizon, asked.shield) == (MIN_KEEP, 500, False)
    asked.add(40, 100, shield=True)
    asked.add(1, 1, shield=False)
    assert (asked.keep, asked.horizon, asked.shield) == (40, 500, True)


def test_a_template_is_noted_once() -> None:
    """Asking about it again adds to the same."""
    patterns = Patterns()
    patterns.asked("visit", "product/{item}").add(20, 60, shield=False)
    patterns.asked("visit", "product/{item}").add(1, 90, shield=True)
    asked = patterns.asked("visit", "product/{item}")
    assert (asked.keep, asked.horizon, asked.shield) == (20, 90, True)


def matches(template: str, subject: str, kind: str = "", *, known: bool = False, event: str = "visit") -> bool:
    """Whether the template of a visit fits the subject of an event."""
    patterns = Patterns()
    patterns.asked("visit", template)
    return bool([*patterns.matching(event, subject, kind, known=known)])


def test_a_template_fits_what_fills_it() -> None:
    """Each label stands for at least one character; all other characters are taken literally."""
    assert matches("product/{item}", "product/sku-1")
    assert matches("{a}/{b}", "x/y/z")
    assert matches("product/{item}", "product/two\nlines")
    assert not matches("product/{item}", "product/")
    assert not matches("product.{item}", "product/sku-1")
    assert not matches("product/{item}", "my product/sku-1")


def test_a_template_is_of_one_event() -> None:
    """A template for visits says nothing of clicks."""
    assert not matches("product/{item}", "product/sku-1", event="click")


def test_a_labels_subject_fits_only_templates_of_its_kind() -> None:
    """`{campaign}` would fit `item:sku-1`, but does not mean it."""
    assert matches("item:{item}", "item:sku-1", "item:")
    assert not matches("{campaign}", "item:sku-1", "item:")


def test_a_campaign_of_the_policy_has_been_filled_in() -> None:
    """For a campaign that the policy names, its own timeline is asked about, not the template."""
    assert matches("{campaign}", "brand")
    assert not matches("{campaign}", "brand", known=True)
    assert matches("product/{item}", "product/x", known=True)
