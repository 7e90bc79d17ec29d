"""What the log calls a kind of row, in the library's words: what is shown or happens, about what, where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from retarget.errors import InputError
from retarget.events import Candidate, Subject
from retarget.logs import Kind
from retarget.policy import Policy, load_zone
from retarget.retargeter import Retargeter
from retarget.stores import MemoryStore
from retarget.timelines import IMPRESSION


class Meaning(NamedTuple):
    """What a row of a kind is: an ad shown, with the click that came of it, or another event."""

    events: tuple[tuple[str, Subject | None], ...]
    """What is remembered if it happened: the event itself first."""
    ad: Candidate | None
    """What was shown, if it is an impression."""
    zone: ZoneInfo


class Meanings:
    """Puts kinds into words. `labels` are the kinds of labels that the rows carry."""

    def __init__(self, policy: Policy, labels: Sequence[str]) -> None:
        self._labels = labels
        self._zones: dict[str, ZoneInfo] = {}
        self._zone = load_zone(policy.timezone)
        self._ads = Retargeter(policy, MemoryStore(), clock=lambda: 0)

    def of(self, kind: Kind) -> Meaning:
        """Raises InputError for what the library cannot take."""
        if kind.event != IMPRESSION:
            subject: Subject | None = kind.campaign if kind.subject is None else kind.subject
            if kind.campaign is not None and subject == kind.campaign:
                subject = self._candidate(kind.campaign, kind.labels)
            events, ad = [(kind.event, subject)], None
        elif kind.campaign is None:
            raise InputError("an impression without a campaign; map one, or name one for all rows")
        else:
            ad = self._candidate(kind.campaign, kind.labels)
            happened = [IMPRESSION, *["click"] * kind.click, *["conversion"] * kind.conversion]
            events = [(event, ad) for event in happened]
        for event, about in events:
            self._ads.record(None, event, about)  # raises what the library says to a wrong name
        return Meaning(tuple(events), ad, self._zone_of(kind.timezone))

    def _candidate(self, campaign: str, labels: Sequence[str | None]) -> Candidate:
        pairs = zip(self._labels, labels, strict=True)
        return Candidate(campaign, **{kind: label for kind, label in pairs if label is not None})

    def _zone_of(self, name: str | None) -> ZoneInfo:
        if name is None:
            return self._zone
        zone = self._zones.get(name)
        if zone is None:
            try:
                zone = self._zones[name] = load_zone(name)
            except ValueError as error:
                raise InputError(f"time zone {error}") from error
        return zone
