"""Rows in the library's words: which events happened, on what, which ad was shown, and which labels matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from retarget.engine import is_label
from retarget.errors import InputError
from retarget.events import Candidate, Subject
from retarget.logs import FIELDS, Kind
from retarget.policy import Policy, events_named, labels_in, load_zone
from retarget.retargeter import Retargeter
from retarget.stores import MemoryStore
from retarget.timelines import IMPRESSION


class Meaning(NamedTuple):
    """What a row of a kind reports: an ad shown, with its click and conversion, or another event."""

    events: tuple[tuple[str, Subject | None], ...]
    """What is recorded if it happened, an impression first."""
    ad: Candidate | None
    """What was shown, if it is an impression."""
    zone: ZoneInfo


class Meanings:
    """Translates kinds. `labels` are the names of the labels that the kinds carry."""

    def __init__(self, policy: Policy, labels: Sequence[str]) -> None:
        self._labels = labels
        self._timezone = policy.timezone
        self._ads = Retargeter(policy, MemoryStore(), clock=lambda: 0)

    def of(self, kind: Kind) -> Meaning:
        """Raises InputError for an event, a campaign, a label or a time zone that the library refuses."""
        if kind.event != IMPRESSION:
            subject: Subject | None = kind.campaign if kind.subject is None else kind.subject
            if kind.campaign is not None and subject == kind.campaign:
                subject = self._candidate(kind.campaign, kind.labels)
            events, ad = [(kind.event, subject)], None
        elif kind.campaign is None:
            raise InputError("an impression without a campaign; map a column to campaign, or give one for all rows")
        else:
            ad = self._candidate(kind.campaign, kind.labels)
            happened = [IMPRESSION, *["click"] * kind.click, *["conversion"] * kind.conversion]
            events = [(event, ad) for event in happened]
        for event, about in events:
            self._ads.record(None, event, about)  # validates names and labels as a live call would
        return Meaning(tuple(events), ad, zone_named(kind.timezone or self._timezone))

    def _candidate(self, campaign: str, labels: Sequence[str | None]) -> Candidate:
        pairs = zip(self._labels, labels, strict=True)
        return Candidate(campaign, **{name: label for name, label in pairs if label is not None})


def zone_named(name: str) -> ZoneInfo:
    """The time zone of that IANA name. Raises InputError."""
    try:
        return load_zone(name)
    except ValueError as error:
        raise InputError(f"time zone {error}") from error


def labels_of(policy: Policy) -> tuple[str, ...]:
    """The names of the labels by which the policy can tell two impressions of one campaign apart.

    A condition asks about labels if its subject begins as one, `kind:`, unless that is a campaign's id, or `kind` is a
    field of the log (`visit id:5`). A template asks about those that fill it.
    """
    kinds = {key.partition(":")[0]: None for key in policy.caps}
    if policy.annoyance and policy.annoyance.points:
        kinds["channel"] = None
    for _, subject in events_named(policy):
        kinds |= dict.fromkeys(labels_in(subject or ""))
        kind = (subject or "").partition(":")[0]
        if subject is not None and is_label(subject) and subject not in policy.campaign and kind not in FIELDS:
            kinds[kind] = None
    return tuple(kind for kind in kinds if kind != "campaign")
