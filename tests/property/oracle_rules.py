"""What the rules of a policy say of one candidate, found by scanning everything that happened to the visitor.

Each rule is written from its sentence in `docs/reference/policy.md` (and `verdicts.md`), as naively as can be:

- A cap of N forbids while N impressions are in its window; an entry exactly as old as a rolling window still counts.
- A gap, and the spacing of a cap that is spread, forbids while any impression is that recent.
- A label cap counts the impressions of all campaigns that carry the label, except those with `counts = false`; `flight`
  is as long as `retention` there. `counts = false` hides nothing else but the points of the threshold.
- A threshold of N points forbids an impression of w points while more than N - w are used; the first segment that the
  visitor is in replaces the threshold.
- A condition holds if its event happened N times on its subject within its window; a subject that needs a label that is
  missing makes it false. A subject that begins like a label (`channel:email`) means whatever carries that label, and
  what is itself called so; any other means what is called so. A label never counts for a campaign of that name.
- `since EVENT [SUBJECT]` counts what is strictly after the newest such event, and like `lifetime` where there is none.
  A subject that needs a label that is missing never happened.
- A session is what belongs together without a pause of more than `session`, whatever the order in which it was
  reported; it lasts while no longer than that has passed, or while something is reserved; it reaches back 24 hours at
  most. After it, nothing counts.
- `lifetime`, `flight` and conditions without a window reach back as far as `retention`.
- What is reserved counts in every window until its end, and is no anchor of `since`: it may yet be released.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import cached_property

from retarget.policy import Campaign, Policy
from retarget.policy.grammar import Cap, Condition, Span, fill
from tests.property.local_time import DAY, HOUR, end_moment, moment, openings, period, wall, weekday, within_hours

SESSION_AT_MOST = DAY
NOMINAL = {"hour": HOUR, "day": DAY, "week": 7 * DAY, "month": 30 * DAY}
LIFETIME = Span("lifetime")
_LABEL = re.compile(r"[^\W\d][\w-]*:")
RESERVED = 2**40
"""When what is reserved happens: after the beginning of every window."""


@dataclass(frozen=True)
class Entry:
    """One event as it was recorded."""

    at: int
    event: str
    subject: str | None
    labels: frozenset[str]
    """The labels of the campaign it happened on, as `kind:value`."""
    capped: bool
    """Whether label caps count it."""
    points: int
    """Points against the threshold; 0 for anything but an impression, and for what is not counted."""


@dataclass(frozen=True)
class Broken:
    """A rule that forbids the candidate: its place in the policy, and what a verdict says of it."""

    place: str
    reason: str
    rule: str
    seen: int | None = None
    limit: int | None = None


def spread_gap(cap: Cap) -> int | None:
    """Seconds between two impressions under a spread cap; None for other caps, and for less than a second."""
    if not cap.spread:
        return None
    return (cap.window.seconds or NOMINAL[cap.window.period]) // cap.limit or None


def anchor_of(window: Span) -> tuple[str, str | None] | None:
    """The event and the subject that a `since` window begins at."""
    return None if window.event is None else (window.event, window.subject)


@dataclass(frozen=True)
class Question:
    """One question: one visitor, one candidate, one moment."""

    policy: Policy
    entries: list[Entry]
    """All that happened to the visitor."""
    activity: list[int]
    """Every moment at which they were active."""
    reserved: list[tuple[int, Entry]]
    """What is reserved for them, with its end."""
    campaign: str
    rules: Campaign
    labels: dict[str, str]
    points: int
    now: int
    zone: tzinfo

    def broken(self) -> Iterator[Broken]:
        """Every rule that forbids the candidate."""
        yield from self._clock()
        yield from self._audience()
        yield from self._exclude()
        if self.rules.obeys:
            yield from self._own_caps()
            yield from self._label_caps()
            yield from self._threshold()

    # -- rules

    def _clock(self) -> Iterator[Broken]:
        rules, shown = self.rules, wall(self.now, self.zone)
        if rules.start and self.now < moment(rules.start, self.zone):
            yield _plain("start", rules.start.isoformat())
        if rules.end and self.now >= end_moment(rules.end, self.zone):
            yield _plain("end", rules.end.isoformat())
        if rules.hours and not within_hours(shown, rules.hours.spans):
            yield _plain("hours", rules.hours.text)
        if rules.days and weekday(shown) not in rules.days.days:
            yield _plain("days", rules.days.text)

    def _audience(self) -> Iterator[Broken]:
        for clause in self.rules.audience:
            happened = [self._happened(condition) for condition in clause]
            if all(seen < condition.count for seen, condition in zip(happened, clause, strict=True)):
                text = " or ".join(condition.text for condition in clause)
                counted = (happened[0], clause[0].count) if len(clause) == 1 else (None, None)
                yield Broken(f"audience {text}", "audience", text, *counted)

    def _exclude(self) -> Iterator[Broken]:
        for condition in self.rules.exclude:
            seen = self._happened(condition)
            if seen >= condition.count:
                yield Broken(f"exclude {condition.text}", "exclude", condition.text, seen, condition.count)

    def _own_caps(self) -> Iterator[Broken]:
        mine = [entry for entry in self._impressions if entry.subject == self.campaign]
        yield from self._caps("caps", "", self.rules.caps, mine)
        if self.rules.gap and (seen := self._recent(mine, self.rules.gap.seconds)):
            text = f"gap {self.rules.gap.text}"
            yield Broken(text, "gap", text, seen, 1)

    def _label_caps(self) -> Iterator[Broken]:
        for key, caps in self.policy.caps.items():
            kind, _, value = key.partition(":")
            if kind in self.labels and value in ("", self.labels[kind]):
                label = f"{kind}:{self.labels[kind]}"
                same = [entry for entry in self._impressions if entry.capped and label in entry.labels]
                yield from self._caps(f"caps.{key}", f"{key}: ", caps, same)

    def _caps(self, place: str, prefix: str, caps: Iterable[Cap], entries: list[Entry]) -> Iterator[Broken]:
        for cap in caps:
            label_flight = cap.window.period == "flight" and place != "caps"
            seen = len(self._counted(LIFETIME if label_flight else cap.window, entries))
            if seen + 1 > cap.limit:
                yield Broken(f"{place} {cap.text}", "cap", prefix + cap.text, seen, cap.limit)
            gap = spread_gap(cap)
            if gap is not None and (seen := self._recent(entries, gap)):
                yield Broken(f"{place} {cap.text}, spread", "gap", f"{prefix}{cap.text}, spread", seen, 1)

    def threshold_in_force(self) -> tuple[str, str, list[Cap]]:
        """The place, the name and the caps of the threshold that applies to the visitor."""
        annoyance = self.policy.annoyance
        assert annoyance is not None
        for key, segment in annoyance.segment.items():
            if all(any(self._happened(c) >= c.count for c in clause) for clause in segment.who):
                return f"annoyance.segment.{key}.threshold", f"segment {key}", segment.threshold
        return "annoyance.threshold", "annoyance", annoyance.threshold

    def spent(self, cap: Cap) -> int:
        """The points used of a threshold."""
        return sum(entry.points for entry in self._counted(cap.window, self._impressions))

    def _threshold(self) -> Iterator[Broken]:
        if self.policy.annoyance is None:
            return
        place, name, threshold = self.threshold_in_force()
        for cap in threshold:
            spent = self.spent(cap)
            if spent + self.points > cap.limit:
                yield Broken(f"{place} {cap.text}", "annoyance", f"{name}: {cap.text}", spent, cap.limit)
            gap = spread_gap(cap)
            if gap is None:
                continue
            near = sum(entry.points for entry in self._impressions if entry.at >= self.now - gap)
            if near:
                yield Broken(f"{place} {cap.text}, spread", "annoyance", f"{name}: {cap.text}, spread", near, 1)

    # -- counting

    @cached_property
    def _all(self) -> list[Entry]:
        """All that happened, and what is still reserved: that is inside every window."""
        reserved = [replace(entry, at=RESERVED) for end, entry in self.reserved if end > self.now]
        return [*self.entries, *reserved] if reserved else self.entries

    @cached_property
    def _impressions(self) -> list[Entry]:
        return [entry for entry in self._all if entry.event == "impression"]

    def _recent(self, entries: list[Entry], seconds: int) -> int:
        return sum(entry.at >= self.now - seconds for entry in entries)

    def _happened(self, condition: Condition) -> int:
        """How often it happened."""
        entries = self._of(self._all, condition.event, condition.subject)
        return len(self._counted(condition.window or LIFETIME, entries))

    def _of(self, entries: list[Entry], event: str, template: str | None) -> list[Entry]:
        """The entries of an event on a subject as a policy writes it; none if it needs a label that is missing."""
        entries = [entry for entry in entries if entry.event == event]
        if template is None:
            return entries
        subject = fill(template, {**self.labels, **({"campaign": self.campaign} if self.campaign else {})})
        if subject is None:
            return []
        by_label = template not in self.policy.campaign and _LABEL.match(template) is not None
        return [entry for entry in entries if entry.subject == subject or (by_label and subject in entry.labels)]

    def _counted(self, window: Span, entries: list[Entry]) -> list[Entry]:
        """The entries in the window."""
        if not entries:
            return entries
        since = self._since(window)
        return [] if since is None else [entry for entry in entries if entry.at >= since]

    def _since(self, window: Span) -> int | None:
        """The first second that counts; None: nothing does."""
        remembered = self.now - self.policy.retention.seconds
        anchor = anchor_of(window)
        if anchor is not None:
            newest = max((entry.at for entry in self._of(self.entries, *anchor)), default=-1)
            return max(remembered, newest + 1)
        if window.period == "rolling":
            return self.now - window.seconds
        if window.period == "lifetime":
            return remembered
        if window.period == "flight":
            return max(moment(self.rules.start, self.zone), remembered) if self.rules.start else remembered
        if window.period == "session":
            return self._session
        return period(self.now, window.period, self.zone, sunday_first=self.policy.week_start == "sunday")[0]

    @cached_property
    def _session(self) -> int | None:
        """When the session began, 24 hours ago at most; None if it is over."""
        pause = self.policy.session.seconds
        moments = sorted(self.activity, reverse=True)
        reserved = any(end > self.now for end, _ in self.reserved)
        if not reserved and (not moments or moments[0] < self.now - pause):
            return None
        begin = moments[0] if moments else self.now
        for earlier in moments:
            if begin - earlier > pause:
                break
            begin = earlier
        return max(begin, self.now - SESSION_AT_MOST)

    # -- when anything can change

    def changes(self) -> set[int]:
        """Every moment after now at which a rule can begin or cease to forbid, but for hours and days."""
        found = {end for end, _ in self.reserved}
        if self.rules.start:
            found.add(moment(self.rules.start, self.zone))
        if self.rules.end:
            found.add(end_moment(self.rules.end, self.zone))
        lengths: set[int] = set()
        units: set[str] = set()
        for window in self._windows():
            if window.period == "rolling":
                lengths.add(window.seconds)
            elif window.period == "session":
                lengths |= {self.policy.session.seconds, SESSION_AT_MOST}
            elif window.period in NOMINAL:
                units.add(window.period)
            else:
                lengths.add(self.policy.retention.seconds)
        sunday_first = self.policy.week_start == "sunday"
        for at in {*(entry.at for entry in self.entries), *self.activity}:
            found.update(at + length + 1 for length in lengths)
            found.update(period(at, unit, self.zone, sunday_first=sunday_first)[1] for unit in units)
        return {at for at in found if at > self.now}

    def _windows(self) -> Iterator[Span]:
        """Every window that the candidate's rules look back through."""
        conditions = [*self.rules.exclude, *(condition for clause in self.rules.audience for condition in clause)]
        caps: list[Cap] = []
        if self.rules.obeys:
            caps += self.rules.caps
            caps += [
                cap for key, own in self.policy.caps.items() if key.partition(":")[0] in self.labels for cap in own
            ]
            if self.rules.gap:
                yield Span("rolling", self.rules.gap.seconds)
            if annoyance := self.policy.annoyance:
                caps += annoyance.threshold
                for segment in annoyance.segment.values():
                    caps += segment.threshold
                    conditions += [condition for clause in segment.who for condition in clause]
        for cap in caps:
            yield cap.window
            if (gap := spread_gap(cap)) is not None:
                yield Span("rolling", gap)
        yield from (condition.window or LIFETIME for condition in conditions)

    def openings(self, begin: int, end: int) -> Iterator[int]:
        """The moments between these two at which hours and days let the campaign run again."""
        rules = self.rules
        if rules.hours is None and rules.days is None:
            return
        spans = rules.hours.spans if rules.hours else None
        days = rules.days.days if rules.days else None
        for day in range(begin // DAY, end // DAY + 1):
            yield from (at for at in openings(day, spans, days, self.zone) if begin < at < end)


def _plain(reason: str, text: str) -> Broken:
    return Broken(f"{reason} {text}", reason, f"{reason} {text}")
