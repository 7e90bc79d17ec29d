"""Who says, in a replay, which impressions are served: a visitor's moments in lists.

Rules:
- In memory visitors come one after the other. Lists of all moments rule out, for most impressions, that any rule
  forbids them, and say which does where all rules are plain limits. Whatever lists cannot say is asked of `decision`.
- A visitor in memory who may be full is judged by a store, too, which has its ways.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import NamedTuple
from zoneinfo import ZoneInfo

from retarget.engine import BoundClause, Fact, Plan, PlanAt, Rule, View, compile_subject, denying_rule
from retarget.logs import Kind
from retarget.policy import Policy
from retarget.replay.by_store import OnStore
from retarget.replay.figures import Denial, Denials
from retarget.replay.meanings import Meaning, Meanings
from retarget.stores import MemoryStore
from retarget.timelines import ACTIVITY, MOST_TIMELINES, SESSIONS, Opening, Rolling, Window

_ROOMY = MOST_TIMELINES - 12


class _Limit(NamedTuple):
    """What most rules come to: the n-th newest moment must not be within so many seconds."""

    n: int
    seconds: int


class _Limits(NamedTuple):
    """All limits on one timeline."""

    timeline: bytes
    least: int
    """With fewer moments than this none is reached: for most impressions there is nothing more to look at."""
    limits: tuple[_Limit, ...]


class _Look(NamedTuple):
    """Is the n-th newest moment within so many seconds? Where the answer is as wanted, the clause holds for sure."""

    timeline: bytes
    n: int
    seconds: int
    wanted: bool


@dataclass(slots=True)
class _Ready:
    """A kind as it is judged."""

    meaning: Meaning
    enters: tuple[bytes, ...]
    """The timelines on which it is remembered; one stands there as often as the event weighs."""
    limits: tuple[_Limits, ...] = ()
    rules: tuple[tuple[bytes, _Limit, Denial], ...] = ()
    """Where limits are all there is: the rules, in their order."""
    ad: _Ad | None = None
    """Where they are not."""


class _Rule(NamedTuple):
    """A rule of an ad that takes more than limits to judge."""

    rule: Rule
    clauses: Sequence[BoundClause]
    looks: tuple[tuple[_Look, ...], ...]
    """For each clause. Where no look answers as wanted, the clause may hold or not."""
    asked: tuple[tuple[bytes, int], ...]
    """The timelines that it asks about, and how many moments of each."""


class _Ad(NamedTuple):
    """An ad that takes more than limits to judge."""

    others: tuple[tuple[_Look, ...], ...]
    """The looks of all clauses that are no limits."""
    openings: tuple[Opening, ...]
    zone: ZoneInfo
    rules: tuple[_Rule, ...]


class InLists:
    """Judges visitors by lists of all their moments: nothing is trimmed, each is soon forgotten."""

    def __init__(self, policy: Policy, kinds: Sequence[Kind], labels: Sequence[str]) -> None:
        self.kinds = kinds
        self.dropped = 0
        self._policy = policy
        self._plan = Plan(policy)
        self._meanings = Meanings(policy, labels)
        self._ready = [self._prepared(kind) for kind in kinds]
        self.harmless = self._harmless()
        """A visitor of no more rows is denied nothing, whatever they are."""

    def denials(self, seconds: Sequence[int], kinds: Sequence[int]) -> Denials:
        """Which of a visitor's rows are suppressed."""
        known, has_sessions = self._ready, self._plan.has_sessions
        lines: defaultdict[bytes, list[int]] = defaultdict(list)
        denials: Denials = {}
        for place, (at, number) in enumerate(zip(seconds, kinds, strict=True)):
            ready = known[number]
            for name, least, limits in ready.limits:
                line = lines[name]
                if len(line) >= least:
                    for n, window in limits:
                        if len(line) >= n and line[-n] >= at - window:
                            denials[place] = self._why(ready, at, lines)
                            break
            if ready.ad is not None and place not in denials and (why := self._doubt(ready.ad, at, lines)):
                denials[place] = why
            if denials and place in denials:
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

    def _why(self, ready: _Ready, at: int, lines: Mapping[bytes, list[int]]) -> Denial:
        """The rule that denies it; of several the one that lets go last, and of such the first."""
        if ready.ad is not None:
            why = self._decide(ready.ad, at, lines)
            assert why is not None  # noqa: S101 - a limit is reached
            return why
        return max(
            ((line[-n] + seconds, rule) for name, (n, seconds), rule in ready.rules if len(line := lines[name]) >= n),
            key=itemgetter(0),
        )[1]

    def _doubt(self, ad: _Ad, at: int, lines: Mapping[bytes, list[int]]) -> Denial | None:
        """What is asked where limits have nothing against it."""
        if _are_sure(ad.others, at, lines) and all(opening.next_open(at, ad.zone) == at for opening in ad.openings):
            return None
        return self._decide(ad, at, lines)

    def _decide(self, ad: _Ad, at: int, lines: Mapping[bytes, list[int]]) -> Denial | None:
        """What `decision` says of the rules that may not hold, of her timelines packed as a store holds them."""
        doubtful = [one for one in ad.rules if one.rule.opening or not _are_sure(one.looks, at, lines)]
        state = {}
        for name, most in chain.from_iterable(one.asked for one in doubtful):
            if line := lines.get(name):
                state[name] = struct.pack(f">2x{min(most, len(line))}I", *line[-most:])
        view = View(PlanAt(self._plan, at, ad.zone), state)
        rule = denying_rule(view, ((one.rule, one.clauses) for one in doubtful))
        return None if rule is None else (rule.reason, rule.text)

    def _in_store(self, seconds: Sequence[int], kinds: Sequence[int]) -> Denials:
        """A visitor of so many timelines may be full, so a store judges her, which has its ways with such."""
        judge = OnStore(self._policy, MemoryStore(), "")
        taken = enumerate(zip(seconds, kinds, strict=True))
        answers = {place: judge.take("visitor", self._ready[kind].meaning, at) for place, (at, kind) in taken}
        self.dropped += judge.finish()
        return {place: why for place, why in answers.items() if why is not None}

    # -- what a kind comes to

    def _prepared(self, kind: Kind) -> _Ready:
        meaning = self._meanings.of(kind)
        places = [place for event, subject in meaning.events for place in self._plan.places(event, subject)]
        enters = tuple(place.field for place in places for _ in range(place.weight))
        if meaning.ad is None:
            return _Ready(meaning, enters)
        compiled = compile_subject(self._plan, meaning.ad)
        rules = self._plan.bound_rules(compiled.candidate)
        plain = {clause: found for clause in compiled.guards if (found := _limit(clause)) is not None}
        by_timeline: dict[bytes, list[_Limit]] = {}
        for name, limit in plain.values():
            by_timeline.setdefault(name, []).append(limit)
        limits = tuple(_Limits(name, min(on)[0], tuple(on)) for name, on in by_timeline.items())
        others = tuple(clause for clause in compiled.guards if clause not in plain and not _is_sure(clause))
        if not others and not compiled.openings:
            told = ((clause, (rule.reason, rule.text)) for rule, clauses in rules for clause in clauses)
            named = tuple((*plain[clause], why) for clause, why in told if clause in plain)
            return _Ready(meaning, enters, limits, named)
        most = dict.fromkeys((ACTIVITY, SESSIONS), 1)
        for fact in _facts(compiled.guards):
            most[fact.field] = max(fact.n, most.get(fact.field, 1))
        asking = []
        for rule, clauses in rules:
            asked = {ACTIVITY, SESSIONS, *(fact.field for fact in _facts(clauses))}
            looks = tuple(_looks(clause) for clause in clauses if not _is_sure(clause))
            asking.append(_Rule(rule, clauses, looks, tuple((name, most[name]) for name in asked)))
        ad = _Ad(tuple(map(_looks, others)), compiled.openings, meaning.zone, tuple(asking))
        return _Ready(meaning, enters, limits, ad=ad)

    def _harmless(self) -> int:
        """Whatever rows came before the last of so many, they are too few moments for any limit."""
        most = max((ready.enters.count(name) for ready in self._ready for name in ready.enters), default=1)
        least = min((limits.least for ready in self._ready for limits in ready.limits), default=1 << 31)
        return 0 if any(ready.ad for ready in self._ready) else -(-least // most)


def _limit(clause: BoundClause) -> tuple[bytes, _Limit] | None:
    """The clause as a limit, if it is one."""
    fact, wanted = clause[0] if len(clause) == 1 else (None, True)
    if fact is None or wanted or fact.n < 1 or not _is_plain(fact.window):
        return None
    return fact.field, _Limit(fact.n, fact.window.horizon)


def _looks(clause: BoundClause) -> tuple[_Look, ...]:
    return tuple(
        _Look(fact.field, fact.n, fact.window.horizon, wanted)
        for fact, wanted in clause
        if fact.n >= 1 and (not wanted or _is_plain(fact.window))  # no window reaches back beyond its horizon
    )


def _are_sure(clauses: Iterable[Iterable[_Look]], at: int, lines: Mapping[bytes, list[int]]) -> bool:
    """Whether they all hold, as far as looks can say."""
    for clause in clauses:
        for name, n, seconds, wanted in clause:
            line = lines.get(name, ())
            if (len(line) >= n and line[-n] >= at - seconds) is wanted:
                break
        else:
            return False
    return True


def _facts(clauses: Iterable[BoundClause]) -> Iterator[Fact]:
    return (fact for clause in clauses for fact, _ in clause)


def _is_sure(clause: BoundClause) -> bool:
    """Whether it always holds: a fact that asks for less than one entry is true."""
    return any(fact.n < 1 and wanted for fact, wanted in clause)


def _is_plain(window: Window) -> bool:
    """Whether it begins its horizon ago, whatever the calendar and the session say."""
    return type(window) is Rolling and not window.anchored
