"""The oracle: a second implementation of what `retarget` promises, so naive that it is obviously right.

It keeps every event of every visitor for ever and answers by scanning them. It shares the parsed policy with the
library (`policy`, `events`) and nothing else: no timelines, no facts, no windows; local time has its own plain
implementation in `local_time`.

What a comparison with the library must leave out:
- `record` returns False for an event older than everything the policy asks about. What that is depends on how the
  library keeps things; `kept_for_sure` says where there is no doubt. Decisions agree on both sides of that edge.
- The oracle remembers every id. The library promises the last 12 identified events of a visitor.
- A new policy (`oracle.policy = other`) asks all that ever happened. The library kept what the old policy asked about,
  so compare after a change only rules that both have on the same timelines, with limits of at most 16. Labels and
  points of an event are those of the policy at the time it was recorded, in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from zoneinfo import ZoneInfo

from retarget.events import Candidate
from retarget.policy import Campaign, Policy
from retarget.policy.grammar import Cap, Condition, Span, fill
from tests.property.local_time import DAY, HOUR, end_moment, moment, openings, period, wall, weekday, within_hours

SKEW = 300
SESSION_AT_MOST = DAY
NOMINAL = {"hour": HOUR, "day": DAY, "week": 7 * DAY, "month": 30 * DAY}
LONGEST = {"hour": 9 * HOUR, "day": 2 * DAY, "week": 8 * DAY, "month": 32 * DAY}
"""More than any calendar period lasts, whatever the clocks do (they went back by seven hours in Vostok in 1994)."""

Target = str | Candidate


@dataclass(frozen=True)
class Entry:
    """One event as it was recorded."""

    at: int
    event: str
    subjects: frozenset[str]
    """What it is counted under: its subject, and `kind:value` for each label."""
    points: int
    """Points against the threshold; 0 for anything but an impression, and for what is not counted."""


@dataclass
class Visitor:
    """Everything about one visitor."""

    entries: list[Entry] = field(default_factory=list)
    session_starts: list[int] = field(default_factory=list)
    ids: dict[tuple[str, str], Target | None] = field(default_factory=dict)
    activity: list[int] = field(default_factory=list)
    """Every moment at which something happened, or was reserved."""
    holds: list[tuple[int, Entry]] = field(default_factory=list)
    """Reserved impressions with the second at which they expire."""


@dataclass(frozen=True)
class OracleVerdict:
    """The oracle's answer, and the texts of all rules that forbid the candidate, as the policy has them."""

    eligible: bool
    violated: list[str]


class Oracle:
    """Counts by scanning. `policy` may be replaced at any time."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.visitors: dict[str, Visitor] = {}

    # -- events

    def record(
        self,
        visitor: str,
        event: str,
        subject: Target | None,
        at: int,
        id: str | None = None,  # noqa: A002 - as the library calls it
        now: int | None = None,
    ) -> bool:
        """Count an event. False: its id was counted already, or it is older than everything the policy asks about."""
        now = at if now is None else now
        if at > now + SKEW:
            raise ValueError(f"{at} is {at - now} seconds in the future")
        if event == "impression" and subject is None:
            raise ValueError("an impression is of a campaign")
        who = self.visitors.setdefault(visitor, Visitor())
        if id is not None and (event, id) in who.ids:
            return False
        if at < now - max(self.lengths()):
            return False
        if id is not None:
            who.ids[event, id] = subject
        self._touch(who, at, now)
        who.entries.append(self._entry(event, subject, at))
        return True

    def _touch(self, who: Visitor, at: int, now: int) -> None:
        """Something happens at `at`: the visitor's session continues, or begins. Reservations keep it going."""
        recent = any(moment >= at - self.policy.session.seconds for moment in who.activity)
        if not recent and not any(lapses > now for lapses, _ in who.holds):
            who.session_starts.append(at)
        who.activity.append(at)

    def _entry(self, event: str, subject: Target | None, at: int) -> Entry:
        if subject is None:
            return Entry(at, event, frozenset(), 0)
        campaign = subject.campaign if isinstance(subject, Candidate) else subject
        rules = self.policy.rules(campaign)
        if campaign not in self.policy.campaign and isinstance(subject, str) and event != "impression":
            return Entry(at, event, frozenset([campaign]), 0)  # not a campaign, such as product/notebook
        if rules is not None and not rules.counts:
            return Entry(at, event, frozenset([campaign]), 0)
        labels = self._labels(subject)
        subjects = frozenset([campaign, *(f"{kind}:{value}" for kind, value in labels.items())])
        return Entry(at, event, subjects, self._points(labels) if event == "impression" else 0)

    def _labels(self, target: Target) -> dict[str, str]:
        """The campaign's labels in the current policy; the candidate's take precedence."""
        name, own = (target.campaign, target.labels) if isinstance(target, Candidate) else (target, ())
        known = self.policy.campaign.get(name)
        return {**(known.labels if known else {}), **dict(own)}

    def _points(self, labels: dict[str, str]) -> int:
        if self.policy.annoyance is None:
            return 1
        return self.policy.annoyance.points.get(labels.get("channel", ""), 1)

    # -- decisions

    def decide(self, visitor: str, candidate: Target, now: int, zone: str | None = None) -> OracleVerdict:
        """Whether the candidate may be shown, and every rule that says no. KeyError where nothing applies to it."""
        campaign = candidate.campaign if isinstance(candidate, Candidate) else candidate
        rules = self.policy.rules(campaign)
        if rules is None:
            raise KeyError(campaign)
        asked = _Asked(
            policy=self.policy,
            visitor=self.visitors.get(visitor, Visitor()),
            campaign=campaign,
            rules=rules,
            labels=self._labels(candidate),
            points=self._points(self._labels(candidate)),
            now=now,
            zone=ZoneInfo(zone or self.policy.timezone),
        )
        violated = [*asked.clock(), *asked.audience(), *asked.exclude()]
        if rules.obeys:
            violated += [*asked.own_caps(), *asked.label_caps(), *asked.threshold()]
        return OracleVerdict(not violated, violated)

    def claim(
        self,
        visitor: str,
        candidates: Sequence[Target],
        now: int,
        id: str | None = None,  # noqa: A002 - as the library calls it
        zone: str | None = None,
    ) -> Target | None:
        """The first eligible candidate, now counted; for a known id the same as the first time, without counting."""
        who = self.visitors.setdefault(visitor, Visitor())
        if id is not None and ("impression", id) in who.ids:
            return who.ids["impression", id]
        for candidate in candidates:
            if self.decide(visitor, candidate, now, zone).eligible:
                assert self.record(visitor, "impression", candidate, now, id)
                return candidate
        return None

    def hold(self, visitor: str, candidates: Sequence[Target], now: int, seconds: int) -> tuple[Target, object] | None:
        """The first eligible candidate, now reserved, and what to confirm or release it by."""
        who = self.visitors.setdefault(visitor, Visitor())
        for candidate in candidates:
            if self.decide(visitor, candidate, now).eligible:
                held = (now + seconds, self._entry("impression", candidate, now))
                self._touch(who, now, now)
                who.holds.append(held)
                return candidate, held
        return None

    def release(self, visitor: str, held: object, now: int) -> bool:
        """Undo a reserved impression; whether it was still reserved."""
        for index, one in enumerate(self.visitors[visitor].holds):
            if one is held:
                del self.visitors[visitor].holds[index]
                return one[0] > now
        return False

    def merge(self, source: str, into: str, now: int) -> None:
        """One visitor's history becomes the other's, except ids. If both are in a session, the earlier start counts."""
        one, other = (self.visitors.setdefault(visitor, Visitor()) for visitor in (source, into))
        starts = [*one.session_starts, *other.session_starts]
        if self._in_session(one, now) and self._in_session(other, now):
            starts = [min(max(one.session_starts), max(other.session_starts))]
        other.entries += one.entries
        other.activity += one.activity
        other.holds += one.holds
        other.session_starts = starts
        self.visitors[source] = Visitor(ids=one.ids)

    def _in_session(self, who: Visitor, now: int) -> bool:
        recent = max(who.activity, default=-1) >= now - self.policy.session.seconds
        return recent or any(lapses > now for lapses, _ in who.holds)

    def eligible_at(self, visitor: str, candidate: Target, now: int, zone: str | None = None) -> int | None:
        """The first second from `now` on at which `decide` says yes if nothing else happens; None: never.

        All moments at which anything can change are tried in order: entries leaving a window, calendar periods, start
        and end, and after each of them every opening of hours and days until the next, for 16 days at most.
        """
        changes = sorted({now, *(at for at in self._changes(visitor, candidate, now, zone) if at > now)})
        for at, following in zip(changes, [*changes[1:], changes[-1] + 16 * DAY], strict=True):
            for probe in self._probes(candidate, at, min(following, at + 16 * DAY), zone):
                if self.decide(visitor, candidate, probe, zone).eligible:
                    return probe
        return None

    def _changes(self, visitor: str, candidate: Target, now: int, zone: str | None) -> Iterator[int]:
        rules = self.policy.rules(candidate.campaign if isinstance(candidate, Candidate) else candidate)
        local = ZoneInfo(zone or self.policy.timezone)
        if rules and rules.start:
            yield moment(rules.start, local)
        if rules and rules.end:
            yield end_moment(rules.end, local)
        units = {span.period for span in self.spans() if span.period in NOMINAL}
        sunday_first = self.policy.week_start == "sunday"
        yield from (lapses for lapses, _ in self.visitors.get(visitor, Visitor()).holds)
        happened = self.visitors.get(visitor, Visitor())
        for at in {*(entry.at for entry in happened.entries), *happened.activity}:
            yield from (at + length + 1 for length in self.lengths())
            yield from (period(at, unit, local, sunday_first=sunday_first)[1] for unit in units)

    def _probes(self, candidate: Target, begin: int, end: int, zone: str | None) -> Iterator[int]:
        yield begin
        rules = self.policy.rules(candidate.campaign if isinstance(candidate, Candidate) else candidate)
        if rules is None or (rules.hours is None and rules.days is None):
            return
        spans = rules.hours.spans if rules.hours else None
        days = rules.days.days if rules.days else None
        local = ZoneInfo(zone or self.policy.timezone)
        for day in range(begin // DAY, end // DAY + 1):
            yield from (at for at in openings(day, spans, days, local) if begin < at < end)

    # -- what the policy asks about

    def spans(self) -> set[Span]:
        """Every window that the policy names."""
        models = [*self.policy.campaign.values(), *([self.policy.defaults] if self.policy.defaults else [])]
        caps = [cap for model in models for cap in model.caps]
        caps += [cap for same in self.policy.caps.values() for cap in same]
        conditions = [condition for model in models for condition in model.exclude]
        conditions += [condition for model in models for clause in model.audience for condition in clause]
        if self.policy.annoyance:
            caps += self.policy.annoyance.threshold
            for segment in self.policy.annoyance.segment.values():
                caps += segment.threshold
                conditions += [condition for clause in segment.who for condition in clause]
        named = {cap.window for cap in caps} | {condition.window or Span("lifetime") for condition in conditions}
        gaps = {Span("rolling", model.gap.seconds) for model in models if model.gap}
        return named | gaps | {Span("rolling", gap) for gap in map(spread_gap, caps) if gap is not None}

    def lengths(self) -> set[int]:
        """How far the policy looks back in each of its windows, in seconds; calendar periods at their longest."""
        spans = self.spans()
        return {
            self.policy.retention.seconds,
            self.policy.session.seconds,
            SESSION_AT_MOST,
            *(span.seconds for span in spans if span.period == "rolling"),
            *(LONGEST[span.period] for span in spans if span.period in LONGEST),
        }

    def kept_for_sure(self, at: int, now: int) -> bool | None:
        """Whether an event of `at`, reported at `now`, is kept: True, False, or None where it depends on the library.

        True: every window of the policy still looks back to it. False: none does, not even the longest.
        """
        rolling = [span.seconds for span in self.spans() if span.period == "rolling"]
        if at >= now - min([self.policy.session.seconds, HOUR, *rolling]):
            return True
        zone = ZoneInfo(self.policy.timezone)
        rules = [self.policy.rules(campaign) for campaign in self.policy.campaign]
        flights = [end_moment(r.end, zone) - moment(r.start, zone) for r in rules if r and r.start and r.end]
        longest = max([*self.lengths(), *flights])
        return False if at < now - longest - longest // 100 - 3 * DAY else None


def spread_gap(cap: Cap) -> int | None:
    """Seconds between two impressions under a spread cap; None for other caps, and for less than a second."""
    if not cap.spread:
        return None
    return (cap.window.seconds or NOMINAL[cap.window.period]) // cap.limit or None


@dataclass(frozen=True)
class _Asked:
    """One question: one visitor, one candidate, one moment."""

    policy: Policy
    visitor: Visitor
    campaign: str
    rules: Campaign
    labels: dict[str, str]
    points: int
    now: int
    zone: ZoneInfo

    def clock(self) -> Iterator[str]:
        if self.rules.start and self.now < moment(self.rules.start, self.zone):
            yield f"start {self.rules.start.isoformat()}"
        if self.rules.end and self.now >= end_moment(self.rules.end, self.zone):
            yield f"end {self.rules.end.isoformat()}"
        if self.rules.hours and not within_hours(wall(self.now, self.zone), self.rules.hours.spans):
            yield f"hours {self.rules.hours.text}"
        if self.rules.days and weekday(wall(self.now, self.zone)) not in self.rules.days.days:
            yield f"days {self.rules.days.text}"

    def audience(self) -> Iterator[str]:
        for clause in self.rules.audience:
            if not any(self._holds(condition) for condition in clause):
                yield "audience " + " or ".join(condition.text for condition in clause)

    def exclude(self) -> Iterator[str]:
        for condition in self.rules.exclude:
            if self._holds(condition):
                yield f"exclude {condition.text}"

    def own_caps(self) -> Iterator[str]:
        mine = [entry for entry in self._impressions() if self.campaign in entry.subjects]
        yield from (f"caps {text}" for text in self._broken(self.rules.caps, mine))
        if self.rules.gap and any(entry.at >= self.now - self.rules.gap.seconds for entry in mine):
            yield f"gap {self.rules.gap.text}"

    def label_caps(self) -> Iterator[str]:
        for key, caps in self.policy.caps.items():
            kind, _, value = key.partition(":")
            if kind not in self.labels or value not in ("", self.labels[kind]):
                continue
            subject = f"{kind}:{self.labels[kind]}"
            same = [entry for entry in self._impressions() if subject in entry.subjects]
            yield from (f"caps.{key} {text}" for text in self._broken(caps, same))

    def threshold(self) -> Iterator[str]:
        annoyance = self.policy.annoyance
        if annoyance is None:
            return
        name, threshold = "annoyance.threshold", annoyance.threshold
        for key, segment in annoyance.segment.items():
            if all(any(self._holds(condition) for condition in clause) for clause in segment.who):
                name, threshold = f"annoyance.segment.{key}.threshold", segment.threshold
                break
        for cap in threshold:
            spent = sum(entry.points for entry in self._counted(cap.window, self._impressions()))
            gap = spread_gap(cap)
            near = gap is not None and any(e.points and e.at >= self.now - gap for e in self._impressions())
            if spent + self.points > cap.limit or near:
                yield f"{name} {cap.text}"

    def _entries(self) -> list[Entry]:
        """All that happened, and what is still reserved: a reservation is inside every window."""
        reserved = [replace(entry, at=self.now + SKEW) for lapses, entry in self.visitor.holds if lapses > self.now]
        return [*self.visitor.entries, *reserved]

    def _impressions(self) -> list[Entry]:
        return [entry for entry in self._entries() if entry.event == "impression"]

    def _broken(self, caps: Iterable[Cap], entries: list[Entry]) -> Iterator[str]:
        for cap in caps:
            gap = spread_gap(cap)
            near = gap is not None and any(entry.at >= self.now - gap for entry in entries)
            if len(self._counted(cap.window, entries)) + 1 > cap.limit or near:
                yield cap.text

    def _holds(self, condition: Condition) -> bool:
        """Whether it happened often enough; never if a label that the subject needs is missing."""
        entries = [entry for entry in self._entries() if entry.event == condition.event]
        if condition.subject is not None:
            subject = fill(condition.subject, {**self.labels, "campaign": self.campaign})
            entries = [entry for entry in entries if subject in entry.subjects]
        return len(self._counted(condition.window or Span("lifetime"), entries)) >= condition.count

    def _counted(self, window: Span, entries: list[Entry]) -> list[Entry]:
        """The entries in the window."""
        since = self._since(window)
        return [] if since is None else [entry for entry in entries if entry.at >= since]

    def _since(self, window: Span) -> int | None:
        """The first second that counts; None: nothing does."""
        remembered = self.now - self.policy.retention.seconds
        if window.period == "rolling":
            return self.now - window.seconds
        if window.period == "lifetime":
            return remembered
        if window.period == "flight":
            return max(moment(self.rules.start, self.zone), remembered) if self.rules.start else remembered
        if window.period == "session":
            reserved = any(lapses > self.now for lapses, _ in self.visitor.holds)
            if not reserved and max(self.visitor.activity, default=-1) < self.now - self.policy.session.seconds:
                return None
            return max(max(self.visitor.session_starts), self.now - SESSION_AT_MOST)
        return period(self.now, window.period, self.zone, sunday_first=self.policy.week_start == "sunday")[0]
