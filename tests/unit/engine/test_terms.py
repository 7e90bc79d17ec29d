"""terms.py: topics and the names of their timelines, filled from labels; anchors."""

from __future__ import annotations

import pytest

from retarget.engine.terms import (
    BEING_ACTIVE,
    THRESHOLD,
    AnchorTerm,
    Topic,
    capped_by,
    is_label,
    on_subject,
    topic_of,
    under_label,
)
from retarget.timelines import ACTIVITY, IMPRESSION, POINTS, Anchor, timeline

TOPICS = [
    (on_subject(IMPRESSION), timeline.name(IMPRESSION)),
    (on_subject(IMPRESSION, "ad"), timeline.name(IMPRESSION, "ad")),
    (on_subject("visit"), timeline.name("visit")),
    (on_subject("visit", "two words"), timeline.name("visit", "two words")),
    (under_label(IMPRESSION, "slot:top"), timeline.label_name(IMPRESSION, "slot:top")),
    (under_label("visit", "slot:top"), timeline.label_name("visit", "slot:top")),
    (capped_by("slot:top"), timeline.capped_name("slot:top")),
    (THRESHOLD, POINTS),
    (BEING_ACTIVE, ACTIVITY),
]


@pytest.mark.parametrize(("topic", "field"), TOPICS)
def test_a_topic_has_the_name_of_its_timeline(topic: Topic, field: bytes) -> None:
    """And is found by it."""
    assert topic.field == topic.about({}) == field
    assert topic_of(field) == topic


def test_names_of_different_topics_never_meet() -> None:
    """Subjects, labels and what label caps count, of one event or of two."""
    topics = [on_subject(IMPRESSION, "item:a"), under_label(IMPRESSION, "item:a"), capped_by("item:a")]
    topics += [on_subject("item", "a"), under_label("item", "a"), on_subject("item:a")]
    assert len({topic.field for topic in topics}) == len(topics)


def test_a_template_is_filled_from_labels() -> None:
    """One that is missing leaves no name; what a label contains is not filled in turn."""
    topic = on_subject("visit", "{a}/{b}")
    assert topic.about({"a": "1", "b": "{a}"}) == b"evisit 1/{a}"
    assert topic.about({"a": "1"}) is None
    assert topic.field == b"evisit {a}/{b}"


def test_an_anchor_is_filled_from_labels() -> None:
    """Its entry and its delay stay; with a label missing there is none."""
    anchor = AnchorTerm(on_subject("click", "{campaign}"), 1, 1)
    assert anchor.about({"campaign": "ad"}) == Anchor(b"eclick ad", 1, 1)
    assert anchor.about({}) is None


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("channel:email", True),
        ("channel:{channel}", True),
        ("http://shop/x", True),
        ("my-kind_2:", True),
        ("größe:xl", True),
        ("channel", False),
        ("channel/email:x", False),
        ("{kind}:x", False),
        ("2nd:x", False),
        (":x", False),
        ("two words:x", False),
    ],
)
def test_what_is_written_as_a_label(subject: str, *, expected: bool) -> None:
    """A kind and a colon at the beginning."""
    assert is_label(subject) is expected


@pytest.mark.parametrize("field", [b"", b"\xff\xfe", b"e", b"#h12345\0", b"i\xc3"])
def test_any_bytes_have_a_topic(field: bytes) -> None:
    """Names of other formats or policies, and rubbish: none is an error."""
    topic_of(field)
