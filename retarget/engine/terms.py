"""Terms: the atoms of the engine's formulas, facts whose subjects may still be templates.

Rules:
- A topic is what a timeline is about. Subjects, labels and what label caps count are three kinds of topics, whose
  timelines' names never meet.
- A template is filled from the labels of a candidate. What has a label missing cannot be named, so it has not happened.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from retarget import policy
from retarget.policy import fill
from retarget.timelines import ACTIVITY, POINTS, Anchor, Window, timeline

_LABEL = re.compile(r"[^\W\d][\w-]*:")


class Topic(NamedTuple):
    """What a timeline is about: how the names of its kind begin, and its subject, which may be a template.

    Without a subject it is about any.
    """

    begins: str
    subject: str | None = None

    @property
    def field(self) -> bytes:
        """The name of the timeline, the subject as it stands."""
        return (self.begins + (self.subject or "")).encode()

    def about(self, labels: dict[str, str]) -> bytes | None:
        """The name of the timeline about these labels; None if one is missing."""
        subject = "" if self.subject is None else fill(self.subject, labels)
        return None if subject is None else (self.begins + subject).encode()


class AnchorTerm(NamedTuple):
    """An anchor whose subject may still be a template: the n-th newest entry about this topic, and `after` seconds."""

    topic: Topic
    n: int
    after: int

    def about(self, labels: dict[str, str]) -> Anchor | None:
        """The anchor about these labels; None if one is missing: then it says nothing."""
        field = self.topic.about(labels)
        return None if field is None else Anchor(field, self.n, self.after)


class Term(NamedTuple):
    """A fact whose subject may still be a template; `keep` entries answer it, and say how many there were."""

    topic: Topic
    n: int
    window: Window
    keep: int
    anchor: AnchorTerm | None = None


Clause: TypeAlias = policy.Clause[Term]
Formula: TypeAlias = policy.Formula[Term]
"""A conjunction of clauses, each a disjunction of literals."""

THRESHOLD = Topic(POINTS.decode())
BEING_ACTIVE = Topic(ACTIVITY.decode())


def on_subject(event: str, subject: str | None = None) -> Topic:
    """`event` on this subject, or on any."""
    return Topic(timeline.name(event, None if subject is None else "").decode(), subject)


def under_label(event: str, label: str) -> Topic:
    """`event` under this label, written `kind:value`."""
    return Topic(timeline.label_name(event, "").decode(), label)


def capped_by(label: str) -> Topic:
    """The impressions that a cap on this label counts."""
    return Topic(timeline.capped_name("").decode(), label)


def is_label(subject: str) -> bool:
    """Whether a subject is written as a label is: `kind:value`."""
    return _LABEL.match(subject) is not None


def topic_of(field: bytes) -> Topic:
    """What the timeline of this name is about."""
    text = field.decode(errors="replace")
    if text[:1] in ("e", "f"):
        event, space, subject = text.partition(" ")
        return Topic(event + space, subject or None)
    return Topic(text[:1], text[1:] or None)
