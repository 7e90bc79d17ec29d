"""Who says, in a replay, which impressions are served: plain lists in memory, or a store asked as the ad server would.

Rules:
- A judge is told all that happens to a visitor, in time order, and counts what it lets be shown. Both judges answer
  alike.
- In memory visitors come one after the other, and the plan's facts are looked up in plain lists, for speed.
- A visitor who comes near to being full goes on in a store, which has its ways with such.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias
from zoneinfo import ZoneInfo

from retarget import timeline, wire
from retarget.changes import MOST_TIMELINES, Alternative, Answer, Entry, Write
from retarget.decision import Moment, Verdict, View, compile_subject
from retarget.errors import StoreError
from retarget.events import Candidate, Event, Subject
from retarget.memory import MemoryStore
from retarget.plan import BoundClause, Fact, Plan, Rule
from retarget.policy import Policy
from retarget.replay_figures import Denial
from retarget.retargeter import Retargeter
from retarget.store import State, Store
from retarget.timeline import ACTIVITY, IMPRESSION, SESSIONS, SKEW
from retarget.windows import DAY, Calendar, Opening, Rolling, Window

_PENDING = 500
_ROOMY = MOST_TIMELINES - 12


class Judge(Protocol):
    """What lets impressions be shown, and remembers."""

    ads: Retargeter
    """The client that says what needs no history, and whether an id or a name can be one."""
    one_by_one: bool
    """Whether it wants visitor after visitor, and forgets each."""

    def prepare(self, event: str, subject: Subject | None) -> Any:  # noqa: ANN401 - each judge has its own
        """What to give to `show` and `happened` for this, as often as it comes."""

    def enter(self, visitor: str) -> None:
        """What follows is about this visitor."""

    def show(self, ready: Any, at: int, zone: ZoneInfo) -> Denial | None:  # noqa: ANN401
        """Count an impression if it may be shown, or say why not."""

    def happened(self, ready: Any, at: int) -> None:  # noqa: ANN401
        """Remember an event."""

    def finish(self) -> int:
        """Nothing follows. How many events found no room."""


def denial(said: Verdict) -> Denial:
    """What a verdict that forbids says of it."""
    assert not said  # noqa: S101 - it was denied
    return said.reason, said.rule or said.reason


# -- through a store: what the ad server would have done ---------------------------------------------------------------


class _Told(NamedTuple):
    """An event, or an ad."""

    event: str
    subject: Subject | None


class OnStore:
    """Claims and records through a retargeter. Events wait, and go together, until the visitor is to be shown an ad."""

    one_by_one = False

    def __init__(self, policy: Policy, store: Store, prefix: str) -> None:
        self.prefix = prefix
        self.now = self.begun = 0
        self.visitor = ""
        self.known: set[str] = set()
        self.pending: list[Event] = []
        self.waiting: set[str] = set()
        self.dropped = 0
        self.ads = Retargeter(policy, _Patient(store), clock=lambda: self.now, prefix=prefix)

    def prepare(self, event: str, subject: Subject | None) -> _Told:
        return _Told(event, subject)

    def enter(self, visitor: str) -> None:
        self.visitor = visitor
        self.known.add(visitor)

    def show(self, ready: _Told, at: int, zone: ZoneInfo) -> Denial | None:
        if self.visitor in self.waiting:
            self._send()
        self.now = at
        assert ready.subject is not None  # noqa: S101 - it is an ad
        if self.ads.claim(self.visitor, (ready.subject,), timezone=zone) is not None:
            return None
        return denial(self.ads.decide(self.visitor, (ready.subject,), timezone=zone)[ready.subject])

    def happened(self, ready: _Told, at: int) -> None:
        # They are all judged against the first one's moment, so none is late; and none may be far ahead of it.
        if self.pending and (len(self.pending) >= _PENDING or at > self.begun + SKEW):
            self._send()
        if not self.pending:
            self.begun = at
        self.pending.append(Event(self.visitor, ready.event, ready.subject, at))
        self.waiting.add(self.visitor)

    def _send(self) -> None:
        self.now = self.begun
        self.dropped += self.ads.record_many(self.pending).count(False)
        self.pending.clear()
        self.waiting.clear()

    def finish(self) -> int:
        if self.pending:
            self._send()
        return self.dropped

    def forget(self) -> None:
        """Leave nothing in the store."""
        for visitor in self.known:
            self.ads.forget(visitor)


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


# -- in lists: the same questions, asked of one visitor after the other ------------------------------------------------


class _Literal(NamedTuple):
    """A fact that must be true or must not be; `since` says when its window begins."""

    field: bytes
    n: int
    since: Callable[[int, ZoneInfo], int]
    anchored: bool
    wanted: bool


_Clauses: TypeAlias = tuple[tuple[_Literal, ...], ...]


@dataclass(slots=True)
class _Ready:
    """An event, or an ad with its rules."""

    told: _Told
    places: tuple[tuple[bytes, int], ...]
    candidate: Candidate | None = None
    bounds: tuple[tuple[bytes, int, int], ...] = ()
    """What most rules come to: the n-th newest must not be within so many seconds."""
    others: _Clauses = ()
    openings: tuple[Opening, ...] = ()
    rules: tuple[tuple[Rule, Sequence[BoundClause], _Clauses], ...] = ()
    """One by one, for telling; empty until it is denied."""
    asked: tuple[bytes, ...] = ()
    """The timelines that they ask about."""


class InLists:
    """One visitor's timelines as lists of all moments, by name: nothing is trimmed, she is soon forgotten."""

    one_by_one = True

    def __init__(self, policy: Policy) -> None:
        self.plan = Plan(policy)
        self.visitor = ""
        self.lines: dict[bytes, list[int]] = {}
        self.heads: dict[bytes, tuple[int, int]] = {}  # timeline -> entries kept, head
        self.periods: dict[Window, _Periods] = {}
        self.dropped = 0
        self.full: OnStore | None = None  # who judges instead, where a visitor comes near to being full
        self.ads = Retargeter(policy, MemoryStore(), clock=lambda: 0)
        for place in self.plan.session_places():
            self.heads[place.field] = (place.keep, place.head)

    def prepare(self, event: str, subject: Subject | None) -> _Ready:
        places = self.plan.places(event, subject)
        self.heads.update({place.field: (place.keep, place.head) for place in places})
        ready = _Ready(_Told(event, subject), tuple((place.field, place.weight) for place in places))
        if event == IMPRESSION and subject is not None:
            compiled = compile_subject(self.plan, subject)
            bounds, others = [], []
            for clause in compiled.guards:
                fact, wanted = clause[0] if len(clause) == 1 else (None, True)
                if fact is None or wanted or fact.n < 1 or type(fact.window) is not Rolling or fact.window.anchored:
                    others.append(self._clause(clause))
                else:
                    bounds.append((fact.field, fact.n, fact.window.seconds))
            ready.candidate, ready.openings = compiled.candidate, compiled.openings
            ready.bounds, ready.others = tuple(bounds), tuple(others)
        return ready

    def _clause(self, clause: BoundClause) -> tuple[_Literal, ...]:
        return tuple(
            _Literal(fact.field, fact.n, self._since(fact), fact.window.anchored, wanted) for fact, wanted in clause
        )

    def _since(self, fact: Fact) -> Callable[[int, ZoneInfo], int]:
        if not isinstance(fact.window, Calendar):
            return fact.window.since
        return self.periods.setdefault(fact.window, _Periods(fact.window)).since

    def enter(self, visitor: str) -> None:
        if self.full is not None:
            self.dropped += self.full.finish()
            self.full = None
        self.visitor = visitor
        self.lines = {}

    def show(self, ready: _Ready, at: int, zone: ZoneInfo) -> Denial | None:
        if self.full is not None:
            return self.full.show(ready.told, at, zone)
        lines = self.lines
        for name, n, seconds in ready.bounds:
            line = lines.get(name)
            if line is not None and len(line) >= n and line[-n] >= at - seconds:
                return self._why(ready, at, zone)
        if ready.others and not self._hold(ready.others, at, zone):
            return self._why(ready, at, zone)
        if ready.openings and any(opening.next_open(at, zone) != at for opening in ready.openings):
            return self._why(ready, at, zone)
        self._enter(ready, at)
        return None

    def happened(self, ready: _Ready, at: int) -> None:
        if self.full is not None:
            self.full.happened(ready.told, at)
        else:
            self._enter(ready, at)

    def finish(self) -> int:
        self.enter("")
        return self.dropped

    def _enter(self, ready: _Ready, at: int) -> None:
        lines = self.lines
        for name, weight in ready.places:
            line = lines.get(name)
            if line is None:
                lines[name] = [at] * weight
            elif weight == 1:
                line.append(at)
            else:
                line += [at] * weight
        if self.plan.has_sessions:
            active = lines.get(ACTIVITY)
            if active is None or active[-1] < at - self.plan.alive.window.horizon:
                lines[SESSIONS] = [at]
            lines[ACTIVITY] = [at]
        if len(lines) > _ROOMY:
            self._grow(at)

    def _hold(self, clauses: _Clauses, at: int, zone: ZoneInfo) -> bool:
        lines = self.lines
        for clause in clauses:
            for name, n, since, anchored, wanted in clause:
                line = lines.get(name)
                if n < 1:
                    true = True
                elif line is None or len(line) < n:
                    true = False
                else:
                    begins = since(at, zone)
                    if anchored and SESSIONS in lines:
                        begins = max(begins, lines[SESSIONS][-1])
                    true = line[-n] >= begins
                if true is wanted:
                    break
            else:
                return False
        return True

    def _why(self, ready: _Ready, at: int, zone: ZoneInfo) -> Denial:
        """The rule that denies it; of several the one that lets go last, which is the one that a verdict names."""
        if not ready.rules:
            assert ready.candidate is not None  # noqa: S101 - it is an ad
            rules = self.plan.bound_rules(ready.candidate)
            ready.rules = tuple((rule, clauses, tuple(map(self._clause, clauses))) for rule, clauses in rules)
            facts = (fact for _, clauses in rules for clause in clauses for fact, _ in clause)
            ready.asked = tuple({ACTIVITY, SESSIONS, *(fact.field for fact in facts)})
        denying = [
            (rule, clauses)
            for rule, clauses, in_lists in ready.rules
            if (rule.opening is not None and rule.opening.next_open(at, zone) != at)
            or not self._hold(in_lists, at, zone)
        ]
        last = denying[0][0]
        if len(denying) > 1:
            view = View(Moment(self.plan, at, zone), self._state(ready.asked))
            last = max(denying, key=lambda one: _lets_go(view, *one))[0]
        return last.reason, last.text

    def _state(self, names: Iterable[bytes]) -> State:
        """Those timelines as a store holds them."""
        state = {}
        for name in names:
            if line := self.lines.get(name):
                keep, head = self.heads[name]
                state[name] = struct.pack(f">H{min(keep, len(line))}I", head, *line[-keep:])
        return state

    def _grow(self, at: int) -> None:
        """A visitor of so many timelines may be full: go on in a store, which has its ways with such."""
        state = {name: raw for name, raw in self._state(self.lines).items() if timeline.is_live(raw, at)}
        if len(state) <= _ROOMY:
            self.lines = {name: self.lines[name] for name in state}
            return
        store = MemoryStore()
        entries = [Entry(name, at, 1, *self.heads[name]) for name, raw in state.items() for at in timeline.moments(raw)]
        store.write(Write(wire.key("", self.visitor), at, b"", (Alternative((), tuple(entries), DAY),)))
        self.full = OnStore(self.plan.policy, store, "")
        self.full.enter(self.visitor)


def _lets_go(view: View, rule: Rule, clauses: Sequence[BoundClause]) -> float:
    again = view.next_moment(clauses, [rule.opening] if rule.opening else [])
    return math.inf if again is None else again


class _Periods:
    """A calendar window that remembers the periods it has met: to find one costs more than all else about a row."""

    def __init__(self, window: Calendar) -> None:
        self.window = window
        self.met: dict[ZoneInfo, tuple[list[int], list[int]]] = {}

    def since(self, at: int, zone: ZoneInfo) -> int:
        begins, ends = self.met.setdefault(zone, ([], []))
        place = bisect_right(begins, at)
        if place and at < ends[place - 1]:
            return begins[place - 1]
        begun = self.window.since(at, zone)
        begins.insert(place, begun)
        ends.insert(place, self.window.leaves(at, zone))
        return begun
