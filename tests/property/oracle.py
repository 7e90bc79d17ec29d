"""The oracle: a second implementation of what `retarget` promises, so naive that it is obviously right.

It keeps every event of every visitor for ever and answers by scanning them (`oracle_rules`). It shares the parsed
policy with the library (`policy`, `events`) and nothing else: no timelines, no facts, no windows; local time has its
own plain implementation in `local_time`. What it does is what `docs/` promises:

- *Events.* Each is placed at its own time. It has the labels and points that the policy gives it when it is recorded.
  The same id twice counts once per event name and visitor, among the 16 latest, for a day at least. More than 300
  seconds ahead is refused. What is older than everything the policy asks about is dropped; a dropped event uses no id.
- *Claims.* The first eligible candidate counts. Repeated with its id it is the same, and nothing counts. A denied one
  uses nothing up, its id included.
- *Holds.* A reserved impression counts at once, in every window, for at least as long as was asked: the second of its
  end is the claim's plus the hold's plus one. The clock says whether it is still open. Confirmed while it is, it takes
  the place of the reservation exactly where that was made, whatever the policy says by now, at the time it was shown;
  afterwards it is "late" and counts as an impression recorded now would; a second time it changes nothing. Released, it
  is gone from where it was reserved.
- *Merges.* History, activity and what is reserved move to the target; ids and tokens stay with the source: a token that
  is confirmed there counts there, and what moved goes on until its end, wherever else it moves. The source keeps having
  been active.
- *Forgetting* leaves nothing: not the ids, not the reservations. A token of before is late.

What a comparison with the library must leave out:
- `record` returns False for an event older than everything the policy asks about. What that is depends on how the
  library keeps things; `kept_for_sure` says where there is no doubt. Decisions agree on both sides of that edge. What
  no rule asks about at all counts as kept, however old it is.
- Ids last for a day at least, and longer where their entries matter: `in_doubt` says where the docs leave it open.
- A new policy (`oracle.policy = other`) asks all that ever happened. The library kept what the old policy asked about,
  so compare after a change only rules on timelines that both ask about, for equally long, with limits of at most 16.
- Where callers' clocks differ, a hold ends earlier for the one that is ahead: leave it alone in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from zoneinfo import ZoneInfo

from retarget.events import Candidate
from retarget.policy import Campaign, Policy
from retarget.policy.grammar import Cap, Span
from tests.property.local_time import DAY, HOUR
from tests.property.oracle_rules import LIFETIME, SESSION_AT_MOST, Broken, Entry, Question, spread_gap

__all__ = ["LONGEST", "SESSION_AT_MOST", "SKEW", "Broken", "Hold", "Oracle", "Target", "Visitor", "spread_gap"]

SKEW = 300
IDS_KEPT = 16
LONGEST = {"hour": 9 * HOUR, "day": 2 * DAY, "week": 8 * DAY, "month": 32 * DAY}
"""More than any calendar period lasts, whatever the clocks do (they went back by seven hours in Vostok in 1994)."""

Target = str | Candidate
Id = tuple[str, object]
"""An event's name and its id; a confirmation's is its hold's mark."""


@dataclass(eq=False)
class Hold:
    """A reserved impression. `is_open` until it is confirmed, released or forgotten; then its end does not matter."""

    visitor: str
    mark: object
    end: int
    entry: Entry
    target: Target
    is_open: bool = True
    has_moved: bool = False
    """Whether a merge has moved what was reserved: then that counts until its end."""


@dataclass
class Visitor:
    """Everything about one visitor."""

    entries: list[Entry] = field(default_factory=list)
    activity: list[int] = field(default_factory=list)
    """Every moment at which something happened, or was reserved."""
    reserved: list[Hold] = field(default_factory=list)
    """What counts here until its end; after a merge, it may be another visitor's to confirm."""
    marks: dict[object, Hold] = field(default_factory=dict)
    """What this visitor's tokens stand for."""
    ids: dict[Id, Target | None] = field(default_factory=dict)
    """The latest identified events, the oldest first."""
    sure_until: int = 0
    """Until when the ids are remembered in any case."""
    doubtful: set[Id] = field(default_factory=set)
    """Those that were not, for a while: they may be forgotten."""


@dataclass(frozen=True)
class OracleVerdict:
    """The oracle's answer, and all rules that forbid the candidate."""

    broken: list[Broken]

    @property
    def eligible(self) -> bool:
        """Whether it may be shown."""
        return not self.broken

    @property
    def violated(self) -> list[str]:
        """The rules' places in the policy."""
        return [rule.place for rule in self.broken]


class Oracle:
    """Counts by scanning. `policy` may be replaced at any time."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.visitors: dict[str, Visitor] = {}
        self.taken: dict[tuple[str, object], set[str]] = {}
        """The campaigns that a visitor was given in one call."""

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = policy
        self._rules: dict[str, Campaign | None] = {}
        self._spans: set[Span] | None = None

    def who(self, visitor: str) -> Visitor:
        """Everything about a visitor."""
        return self.visitors.setdefault(visitor, Visitor())

    def rules(self, target: Target) -> Campaign | None:
        """The rules of a campaign, defaults applied; None if the policy has none for it."""
        name = target.campaign if isinstance(target, Candidate) else target
        if name not in self._rules:
            self._rules[name] = self.policy.rules(name)
        return self._rules[name]

    # -- events

    def record(
        self,
        visitor: str,
        event: str,
        subject: Target | None,
        at: int,
        id: str | None = None,  # noqa: A002 - as the library calls it
        now: int | None = None,
        *,
        kept: bool | None = None,
    ) -> bool:
        """Count an event. False: its id was counted already, or it is older than everything the policy asks about.

        `kept`: whether the library kept it, where that is the library's choice.
        """
        now = at if now is None else now
        if at > now + SKEW:
            raise ValueError(f"{at} is {at - now} seconds in the future")
        if event == "impression" and subject is None:
            raise ValueError("an impression is of a campaign")
        if id is not None and (event, id) in self.who(visitor).ids:
            return False
        if kept is None:
            kept = at >= now - max(self.lengths())
        if not (kept or self.kept_for_sure(at, now)):
            return False
        if id is not None:
            self._remember(visitor, (event, id), subject, now)
        self._count(visitor, self._entry(event, subject, at))
        return True

    def _count(self, visitor: str, entry: Entry) -> None:
        who = self.who(visitor)
        who.entries.append(entry)
        who.activity.append(entry.at)

    def _entry(self, event: str, subject: Target | None, at: int) -> Entry:
        if subject is None:
            return Entry(at, event, None, frozenset(), capped=False, points=0)
        rules = self.rules(subject)
        counts = event == "impression" and (rules is None or rules.counts)
        labels = self._labels(subject)
        return Entry(
            at=at,
            event=event,
            subject=subject.campaign if isinstance(subject, Candidate) else subject,
            labels=frozenset(f"{kind}:{value}" for kind, value in labels.items()),
            capped=counts,
            points=self._points(labels) if counts else 0,
        )

    def _labels(self, target: Target) -> dict[str, str]:
        """The campaign's labels in the current policy; the candidate's take precedence."""
        name, own = (target.campaign, target.labels) if isinstance(target, Candidate) else (target, ())
        known = self.policy.campaign.get(name)
        return {**(known.labels if known else {}), **dict(own)}

    def _points(self, labels: dict[str, str]) -> int:
        if self.policy.annoyance is None:
            return 1
        return self.policy.annoyance.points.get(labels.get("channel", ""), 1)

    # -- ids

    def is_known(self, visitor: str, key: Id) -> bool:
        """Whether this was counted already."""
        return key in self.who(visitor).ids

    def in_doubt(self, visitor: str, key: Id, now: int) -> bool:
        """Whether it was counted so long ago that the docs leave open whether that is still known."""
        who = self.who(visitor)
        return key in who.ids and (key in who.doubtful or now > who.sure_until)

    def _remember(self, visitor: str, key: Id, target: Target | None, now: int) -> None:
        who = self.who(visitor)
        if now > who.sure_until:
            who.doubtful |= set(who.ids)
        who.sure_until = max(who.sure_until, now + DAY)
        who.ids[key] = target
        while len(who.ids) > IDS_KEPT:
            oldest = next(iter(who.ids))
            del who.ids[oldest]
            who.doubtful.discard(oldest)

    # -- decisions

    def asked(self, visitor: str, candidate: Target, now: int, zone: str | tzinfo | None = None) -> Question:
        """The question whether the candidate may be shown. KeyError where nothing applies to it."""
        rules, who = self.rules(candidate), self.visitors.get(visitor) or Visitor()
        campaign = candidate.campaign if isinstance(candidate, Candidate) else candidate
        if rules is None:
            raise KeyError(campaign)
        labels = self._labels(candidate)
        return Question(
            policy=self.policy,
            entries=who.entries,
            activity=who.activity,
            reserved=[(hold.end, hold.entry) for hold in who.reserved],
            campaign=campaign,
            rules=rules,
            labels=labels,
            points=self._points(labels),
            now=now,
            zone=zone if isinstance(zone, tzinfo) else ZoneInfo(zone or self.policy.timezone),
        )

    def decide(self, visitor: str, candidate: Target, now: int, zone: str | tzinfo | None = None) -> OracleVerdict:
        """Whether the candidate may be shown, and every rule that says no. KeyError where nothing applies to it."""
        return OracleVerdict([*self.asked(visitor, candidate, now, zone).broken()])

    def is_eligible(self, visitor: str, candidate: Target, now: int, zone: str | tzinfo | None = None) -> bool:
        """Whether the candidate may be shown."""
        return next(self.asked(visitor, candidate, now, zone).broken(), None) is None

    def claim(
        self,
        visitor: str,
        candidates: Sequence[Target],
        now: int,
        id: str | None = None,  # noqa: A002 - as the library calls it
        zone: str | tzinfo | None = None,
    ) -> Target | None:
        """The first eligible candidate, now counted; for a known id the same as the first time, without counting."""
        found, repeated = self._chosen(visitor, candidates, now, id, zone)
        if found is not None and not repeated:
            if id is not None:
                self._remember(visitor, ("impression", id), found, now)
            self._count(visitor, self._entry("impression", found, now))
        return found

    def claim_many(
        self, requests: Sequence[tuple[str, Sequence[Target], str | None]], now: int, *, distinct: bool
    ) -> list[Target | None]:
        """Claims in their order. `distinct`: what one of them was given is not offered to the visitor's others.

        Neither is it if the whole call is repeated with its ids.
        """
        call = tuple(id_ for _, _, id_ in requests if id_ is not None) or object()
        claimed: list[Target | None] = []
        for visitor, candidates, id_ in requests:
            taken = self.taken.setdefault((visitor, call), set()) if distinct else set()
            found = self.claim(visitor, [c for c in candidates if _campaign(c) not in taken], now, id_)
            if found is not None:
                taken.add(_campaign(found))
            claimed.append(found)
        return claimed

    def _chosen(
        self,
        visitor: str,
        candidates: Sequence[Target],
        now: int,
        id: str | None,  # noqa: A002 - as the library calls it
        zone: str | tzinfo | None,
    ) -> tuple[Target | None, bool]:
        """What a claim is given, and whether it was given before."""
        if id is not None and self.is_known(visitor, ("impression", id)):
            return self.who(visitor).ids["impression", id], True
        return next((c for c in candidates if self.is_eligible(visitor, c, now, zone)), None), False

    # -- holds

    def hold(
        self,
        visitor: str,
        candidates: Sequence[Target],
        now: int,
        seconds: int,
        id: str | None = None,  # noqa: A002 - as the library calls it
    ) -> Hold | None:
        """The first eligible candidate, now reserved; for a known id what was reserved the first time."""
        found, repeated = self._chosen(visitor, candidates, now, id, None)
        if found is None:
            return None
        who, mark = self.who(visitor), object() if id is None else id
        if repeated:
            return who.marks[mark]
        if id is not None:
            self._remember(visitor, ("impression", id), found, now)
        if mark in who.marks:  # its id was forgotten, and its mark is the new one's
            who.marks[mark].is_open = False
        held = Hold(visitor, mark, now + seconds + 1, self._entry("impression", found, now), found)
        who.marks[mark] = held
        who.reserved.append(held)
        who.activity.append(now)
        return held

    def confirm(self, hold: Hold, now: int, at: int | None = None, *, late_for: str | None = None) -> str:
        """Count a reserved impression, shown at `at`. `late_for`: the visitor's key by now, if it is another."""
        at = now if at is None else at
        late_for = late_for or hold.visitor
        key = "confirm", hold.mark
        if self.is_known(hold.visitor, key) or self.is_known(late_for, key):
            return "repeated"
        if reserved := self._close(hold, now):
            self._remember(hold.visitor, key, hold.target, now)
            self._count(hold.visitor, replace(reserved.entry, at=at))
            return "confirmed"
        self._remember(late_for, key, hold.target, now)
        self._count(late_for, self._entry("impression", hold.target, at))
        if late_for != hold.visitor:  # it was counted elsewhere: a caller who is behind finds nothing open
            self._close(hold, 0)
        return "late"

    def release(self, hold: Hold, now: int) -> bool:
        """Undo a reserved impression; whether it was still reserved."""
        return self._close(hold, now) is not None

    def _close(self, hold: Hold, now: int) -> Hold | None:
        """Take what a token stands for out of where it was reserved; None if nothing is any more.

        That is what was last reserved with the claim's id, where the id had been forgotten and was used again.
        """
        who = self.who(hold.visitor)
        found = who.marks.get(hold.mark, hold)
        if not found.is_open or found.end <= now:
            return None
        found.is_open = False
        who.reserved = [other for other in who.reserved if other is not found or found.has_moved]
        return found

    # -- visitors

    def merge(self, source: str, into: str) -> None:
        """One visitor's history becomes the other's, except ids and tokens."""
        one, other = self.who(source), self.who(into)
        other.entries += one.entries
        other.activity += one.activity
        other.reserved += one.reserved
        for hold in one.reserved:
            hold.has_moved = True
        one.entries, one.reserved = [], []

    def is_blank(self, visitor: str) -> bool:
        """Whether nothing of the visitor can be moved: nothing ever happened, or it is all gone."""
        who = self.who(visitor)
        return not (who.entries or who.activity or who.reserved)

    def forget(self, visitor: str) -> None:
        """Nothing of the visitor is left."""
        who = self.visitors.pop(visitor, Visitor())
        for hold in who.marks.values():
            hold.is_open = False

    # -- when again

    def eligible_at(self, visitor: str, candidate: Target, now: int, zone: str | tzinfo | None = None) -> int | None:
        """The first second from `now` on at which `decide` says yes if nothing else happens; None: never.

        All moments at which anything can change are tried in order: entries leaving a window, calendar periods, start
        and end, and after each of them every opening of hours and days until the next, for 16 days at most.
        """
        for probe in self.probes(visitor, candidate, now, zone):
            if self.is_eligible(visitor, candidate, probe, zone):
                return probe
        return None

    def probes(self, visitor: str, candidate: Target, now: int, zone: str | tzinfo | None = None) -> list[int]:
        """Now, and every later moment at which the answer can change."""
        asked = self.asked(visitor, candidate, now, zone)
        changes = [now, *sorted(asked.changes())]
        found: list[int] = []
        for at, following in zip(changes, [*changes[1:], changes[-1] + 16 * DAY], strict=True):
            found += [at, *asked.openings(at, min(following, at + 16 * DAY))]
        return found

    def lasts(self, visitor: str, candidate: Target, now: int, zone: str | None = None) -> dict[str, int | None]:
        """Until when each rule that forbids the candidate does so, by its place; None: it does not end by itself."""
        until: dict[str, int | None] = dict.fromkeys(self.decide(visitor, candidate, now, zone).violated)
        for probe in self.probes(visitor, candidate, now, zone):
            open_ = [place for place, end in until.items() if end is None]
            if not open_:
                break
            still = self.decide(visitor, candidate, probe, zone).violated
            until |= {place: probe for place in open_ if place not in still}
        return until

    # -- what the policy asks about

    def spans(self) -> set[Span]:
        """Every window that the policy names."""
        if self._spans is not None:
            return self._spans
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
        self._spans = _windows(caps) | {condition.window or LIFETIME for condition in conditions}
        self._spans |= {Span("rolling", model.gap.seconds) for model in models if model.gap}
        return self._spans

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

    def kept_for_sure(self, at: int, now: int) -> bool:
        """Whether an event of `at`, reported at `now`, is kept in any case: every window still looks back to it."""
        rolling = [span.seconds for span in self.spans() if span.period == "rolling"]
        return at >= now - min([self.policy.session.seconds, self.policy.retention.seconds, HOUR, *rolling])


def _windows(caps: Sequence[Cap]) -> set[Span]:
    gaps = (spread_gap(cap) for cap in caps)
    return {cap.window for cap in caps} | {Span("rolling", gap) for gap in gaps if gap is not None}


def _campaign(target: Target) -> str:
    return target.campaign if isinstance(target, Candidate) else target
