"""Who says, in a replay, which impressions are served: a visitor's moments in lists, or a store as the ad server would.

Rules:
- What the log calls a kind of row is first put into the library's words: what is shown or happens, about what, where.
- In memory visitors come one after the other. Lists of all moments rule out, for most impressions, that any rule
  forbids them, and say which does where all rules are plain limits. Whatever lists cannot say is asked of `decision`.
- A store is asked in time order. A visitor in memory who may be full is judged by a store, too, which has its ways.
- Both answer alike.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from retarget.changes import MOST_TIMELINES, Answer, Write
from retarget.decision import Moment, Verdict, View, compile_subject, denying_rule
from retarget.errors import InputError, StoreError
from retarget.events import Candidate, Event, Subject
from retarget.memory import MemoryStore
from retarget.numbered import Kind
from retarget.plan import BoundClause, Compiled, Plan, Rule
from retarget.policy import Policy, load_zone
from retarget.replay_figures import Denial
from retarget.retargeter import Retargeter
from retarget.store import Store
from retarget.timeline import ACTIVITY, IMPRESSION, SESSIONS, SKEW
from retarget.windows import DAY, Rolling, Window

Denials: TypeAlias = dict[int, Denial]
"""Which of a visitor's rows are suppressed, by their place, and why."""

_PENDING = 500
_ROOMY = MOST_TIMELINES - 12


def denial(said: Verdict) -> Denial:
    """What a verdict that forbids says of it."""
    assert not said  # noqa: S101 - it was denied
    return said.reason, said.rule or said.reason


# -- kinds, in the library's words -------------------------------------------------------------------------------------


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


# -- in lists: one visitor after the other -----------------------------------------------------------------------------


class _Look(NamedTuple):
    """A look at a list: is the n-th newest moment within so many seconds?"""

    timeline: bytes
    n: int
    seconds: int
    wanted: bool = False
    """What the answer must be for the rule to hold for sure."""


@dataclass(slots=True)
class _Ready:
    """A kind as it is judged."""

    meaning: Meaning
    enters: tuple[bytes, ...]
    """The timelines on which it is remembered; one stands there as often as the event weighs."""
    limits: tuple[_Look, ...] = ()
    """What most rules come to. An ad is denied as soon as one look finds what it must not."""
    rules: tuple[tuple[_Look, Denial], ...] | None = None
    """All rules in their order, if all are such limits."""
    others: tuple[tuple[_Look, ...], ...] = ()
    """The other rules: each holds for sure if one of its looks finds what it wants. If none does, it may hold still."""
    compiled: Compiled | None = None
    asked: Mapping[bytes, int] = field(default_factory=dict)
    """The timelines that the rules ask about, and how many moments."""


class InLists:
    """Judges visitors by lists of all their moments: nothing is trimmed, each is soon forgotten."""

    def __init__(self, policy: Policy, kinds: Sequence[Kind], labels: Sequence[str]) -> None:
        self.dropped = 0
        self._policy, self.kinds = policy, kinds
        self._plan = Plan(policy)
        self._meanings = Meanings(policy, labels)
        self._ready: list[_Ready | None] = [None] * len(kinds)

    def denials(self, seconds: Sequence[int], kinds: Sequence[int]) -> Denials:
        """Which of a visitor's rows are suppressed."""
        known, has_sessions = self._ready, self._plan.has_sessions
        lines: defaultdict[bytes, list[int]] = defaultdict(list)
        denials: Denials = {}
        for place, (at, number) in enumerate(zip(seconds, kinds, strict=True)):
            ready = known[number] or self._prepare(number)
            for name, n, window, _ in ready.limits:
                line = lines[name]
                if len(line) >= n and line[-n] >= at - window:
                    why = self._why(ready, at, lines)
                    break
            else:
                why = None if ready.rules is not None else self._doubt(ready, at, lines)
            if why is not None:
                denials[place] = why
                continue
            for name in ready.enters:
                lines[name].append(at)
            if has_sessions:
                self._stay(lines, at)
        return denials if len(lines) <= _ROOMY else self._in_store(seconds, kinds)

    def _stay(self, lines: dict[bytes, list[int]], at: int) -> None:
        """She is active: her session goes on, or begins."""
        active = lines.get(ACTIVITY)
        if not active or active[0] < at - self._plan.alive.window.horizon:
            lines[SESSIONS] = [at]
        lines[ACTIVITY] = [at]

    def _why(self, ready: _Ready, at: int, lines: Mapping[bytes, list[int]]) -> Denial | None:
        """The rule that denies it; of several the one that lets go last, and of such the first."""
        if ready.rules is None:
            return self._decide(ready, at, lines)
        latest, why = -1, None
        for (name, n, seconds, _), rule in ready.rules:
            line = lines[name]
            if len(line) >= n and latest < line[-n] + seconds >= at:
                latest, why = line[-n] + seconds, rule
        return why

    def _doubt(self, ready: _Ready, at: int, lines: Mapping[bytes, list[int]]) -> Denial | None:
        """What is asked where limits have nothing against it."""
        for clause in ready.others:
            for name, n, seconds, wanted in clause:
                line = lines.get(name, ())
                if (len(line) >= n and line[-n] >= at - seconds) is wanted:
                    break
            else:
                return self._decide(ready, at, lines)
        openings = ready.compiled.openings if ready.compiled else ()
        if all(opening.next_open(at, ready.meaning.zone) == at for opening in openings):
            return None
        return self._decide(ready, at, lines)

    def _decide(self, ready: _Ready, at: int, lines: Mapping[bytes, list[int]]) -> Denial | None:
        """What `decision` says, of the visitor's timelines packed as a store holds them."""
        assert ready.compiled is not None  # noqa: S101 - it is an ad
        state = {}
        for name, most in ready.asked.items():
            if line := lines.get(name):
                state[name] = struct.pack(f">2x{min(most, len(line))}I", *line[-most:])
        view = View(Moment(self._plan, at, ready.meaning.zone), state)
        rule = denying_rule(self._plan, view, ready.compiled)
        return None if rule is None else (rule.reason, rule.text)

    def _in_store(self, seconds: Sequence[int], kinds: Sequence[int]) -> Denials:
        """A visitor of so many timelines may be full, so a store judges her, which has its ways with such."""
        judge = OnStore(self._policy, MemoryStore(), "")
        denials = {}
        for place, (at, number) in enumerate(zip(seconds, kinds, strict=True)):
            ready = self._ready[number] or self._prepare(number)
            why = judge.take("visitor", ready.meaning, at)
            if why is not None:
                denials[place] = why
        self.dropped += judge.finish()
        return denials

    def _prepare(self, number: int) -> _Ready:
        meaning = self._meanings.of(self.kinds[number])
        enters = tuple(
            place.field
            for event, subject in meaning.events
            for place in self._plan.places(event, subject)
            for _ in range(place.weight)
        )
        ready = self._ready[number] = _Ready(meaning, enters, rules=())
        if meaning.ad is not None:
            compiled = compile_subject(self._plan, meaning.ad)
            rules = self._plan.bound_rules(compiled.candidate)
            limits = {clause: look for clause in compiled.guards if (look := _limit(clause)) is not None}
            plain = len(limits) == len(compiled.guards) and not compiled.openings
            ready.limits = tuple(limits.values())
            ready.rules = _told(rules, limits) if plain else None
            ready.others = tuple(
                _looks(clause) for clause in compiled.guards if not (clause in limits or _is_sure(clause))
            )
            ready.compiled = compiled
            ready.asked = dict.fromkeys((ACTIVITY, SESSIONS), 1)
            for fact, _ in chain.from_iterable(chain.from_iterable(clauses for _, clauses in rules)):
                ready.asked[fact.field] = max(fact.n, ready.asked.get(fact.field, 1))
        return ready


def _limit(clause: BoundClause) -> _Look | None:
    """The clause as a limit, if it is one."""
    fact, wanted = clause[0] if len(clause) == 1 else (None, True)
    if fact is None or wanted or fact.n < 1 or not _is_plain(fact.window):
        return None
    return _Look(fact.field, fact.n, fact.window.horizon)


def _told(
    rules: Iterable[tuple[Rule, Sequence[BoundClause]]], limits: Mapping[BoundClause, _Look]
) -> tuple[tuple[_Look, Denial], ...]:
    return tuple((limits[clause], (rule.reason, rule.text)) for rule, clauses in rules for clause in clauses)


def _looks(clause: BoundClause) -> tuple[_Look, ...]:
    """Looks of which one that finds what it wants says for sure that the clause holds."""
    return tuple(
        _Look(fact.field, fact.n, fact.window.horizon, wanted)
        for fact, wanted in clause
        if fact.n >= 1 and (not wanted or _is_plain(fact.window))  # no window reaches back beyond its horizon
    )


def _is_sure(clause: BoundClause) -> bool:
    """Whether it always holds: a fact that asks for less than one entry is true."""
    return any(fact.n < 1 and wanted for fact, wanted in clause)


def _is_plain(window: Window) -> bool:
    """Whether it begins its horizon ago, whatever the calendar and the session say."""
    return type(window) is Rolling and not window.anchored


# -- through a store: what the ad server would have done ---------------------------------------------------------------


class OnStore:
    """Claims and records through a retargeter. Events wait, and go together, until the visitor is to be shown an ad."""

    def __init__(self, policy: Policy, store: Store, prefix: str) -> None:
        self.prefix = prefix
        self._now = self._begun = 0
        self._known: set[str] = set()
        self._pending: list[Event] = []
        self._waiting: set[str] = set()
        self._dropped = 0
        self._ads = Retargeter(policy, _Patient(store), clock=lambda: self._now, prefix=prefix)

    def take(self, visitor: str, meaning: Meaning, at: int) -> Denial | None:
        """Remember an event; or count an impression if it may be shown, or say why not."""
        self._known.add(visitor)
        events = meaning.events
        if meaning.ad is not None:
            why = self._show(visitor, meaning.ad, at, meaning.zone)
            if why is not None:
                return why
            events = events[1:]
        for event, subject in events:
            self._happened(visitor, event, subject, at)
        return None

    def _show(self, visitor: str, ad: Candidate, at: int, zone: ZoneInfo) -> Denial | None:
        if visitor in self._waiting:
            self._send()
        self._now = at
        if self._ads.claim(visitor, (ad,), timezone=zone) is not None:
            return None
        return denial(self._ads.decide(visitor, (ad,), timezone=zone)[ad])

    def _happened(self, visitor: str, event: str, subject: Subject | None, at: int) -> None:
        # They are all judged against the first one's moment, so none is late; and none may be far ahead of it.
        if self._pending and (len(self._pending) >= _PENDING or at > self._begun + SKEW):
            self._send()
        if not self._pending:
            self._begun = at
        self._pending.append(Event(visitor, event, subject, at))
        self._waiting.add(visitor)

    def _send(self) -> None:
        self._now = self._begun
        self._dropped += self._ads.record_many(self._pending).count(False)
        self._pending.clear()
        self._waiting.clear()

    def finish(self) -> int:
        """Nothing follows. How many events found no room."""
        if self._pending:
            self._send()
        return self._dropped

    def forget(self) -> None:
        """Leave nothing in the store."""
        for visitor in self._known:
            self._ads.forget(visitor)


class _Patient:
    """A store that keeps a visitor for a day of its own time at least: a log may be denser than its replay is fast."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.read, self.read_many, self.delete, self.close = store.read, store.read_many, store.delete, store.close
        self.health = store.health

    def write(self, write: Write) -> Answer:
        return self._store.write(_longer(write))

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        return self._store.write_many([_longer(write) for write in writes])


def _longer(write: Write) -> Write:
    for alternative in write.alternatives:
        alternative.ttl = max(alternative.ttl, DAY)
    return write
