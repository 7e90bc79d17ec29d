"""Replay: which impressions of a real log a policy would have suppressed, what that saves and what it risks.

Rules:
- Rows are taken in time order, rows of one second in the order of the log. An impression is served iff the policy lets
  it be shown at that moment; a suppressed one does not count. Every other event happened, and is remembered.
- An impression whose id was there before is the same impression: it is reported as repeated, neither served nor
  suppressed, and costs nothing.
- Visitors do not know of each other. So in memory they are taken one after the other, and the log's size is no matter;
  a server is asked in time order, as it would have been that day. Both give the same figures.
- In memory the plan's facts are looked up in plain lists, for speed. A visitor who comes near to being full goes on in
  a store, which has its ways with such.
"""

from __future__ import annotations

import secrets
import struct
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from retarget import timeline, wire
from retarget.changes import MOST_TIMELINES, Alternative, Answer, Entry, Write
from retarget.decision import Moment, View, as_candidate, compile_subject, is_full
from retarget.errors import InputError, LogError, StoreError
from retarget.events import Candidate, Event, Subject
from retarget.grammar import labels_in
from retarget.logs import Log, LogOptions, LogRow
from retarget.memory import MemoryStore
from retarget.plan import BoundClause, Compiled, Fact, Place, Plan, Reason, Rule
from retarget.policy import Policy, Rules, load_zone
from retarget.retargeter import Retargeter, open_store
from retarget.store import State, Store
from retarget.timeline import ACTIVITY, IMPRESSION, SESSIONS, SKEW
from retarget.windows import DAY, Calendar, Rolling, Window

if TYPE_CHECKING:
    import redis

T = TypeVar("T")
Progress: TypeAlias = Callable[[int, int], None]
"""Told now and then: rows done, rows in all."""

_UNIT = 1_000_000_000
"""Money is added up in whole billionths: so the sum does not depend on the order."""

_NEVER = 2**63
_CACHED = 200_000
_PATIENCE = 1.0
_PENDING = 500
_LONG_ID = 100
_ROOMY = MOST_TIMELINES - 12


# -- what comes out ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the impressions of a campaign, or of all. `impressions` = `served` + `suppressed` + `repeated`."""

    impressions: int
    served: int
    suppressed: int
    repeated: int
    """Those whose id was there before: the same impression once more. It costs nothing."""
    cost: float
    """What the impressions of the log cost: as the row says, or else the policy's campaign."""
    cost_saved: float
    """What the suppressed ones of them cost."""
    clicks: int
    clicks_on_suppressed: int
    """Clicks on impressions that would not have been there: the policy's risk."""
    conversions: int
    conversions_on_suppressed: int
    value: float
    """What the conversions were worth."""
    value_on_suppressed: float
    rules: Mapping[tuple[Reason, str], int] = field(repr=False)
    """How many impressions each rule suppressed: by its kind, and by its text. Most first."""

    @property
    def suppressed_by(self) -> dict[str, int]:
        """How many impressions each rule suppressed, by its text; of several, the one that lets go last."""
        by_text: Counter[str] = Counter()
        for (_, rule), n in self.rules.items():
            by_text[rule] += n
        return dict(by_text.most_common())

    def to_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rules"}
        return {**plain, "suppressed_by": self.suppressed_by}


@dataclass(frozen=True, slots=True)
class Frequency:
    """How many impressions visitors got: `histogram[n]` visitors got n, for n of 1 and more."""

    histogram: Mapping[int, int]

    @property
    def visitors(self) -> int:
        """How many visitors got any."""
        return sum(self.histogram.values())

    @property
    def mean(self) -> float:
        """Impressions for each visitor who got any; 0 without visitors."""
        return sum(n * visitors for n, visitors in self.histogram.items()) / max(1, self.visitors)

    @property
    def max(self) -> int:
        """The most that any visitor got."""
        return max(self.histogram, default=0)

    @property
    def p99(self) -> int:
        """What at least 99 of 100 visitors did not exceed."""
        more = self.visitors // 100
        for n in sorted(self.histogram, reverse=True):
            more -= self.histogram[n]
            if more < 0:
                return n
        return 0

    def to_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        histogram = {str(n): self.histogram[n] for n in sorted(self.histogram)}
        return {"mean": self.mean, "p99": self.p99, "max": self.max, "histogram": histogram}


@dataclass(frozen=True, slots=True)
class Replay:
    """What a policy would have made of a log."""

    total: Figures
    """All campaigns together; its main figures are here under the same names, too."""
    campaigns: Mapping[str, Figures]
    """Each campaign's figures, those of most impressions first."""
    visitors: int
    """Known visitors with an impression in the log."""
    reached: int
    """Those of them with one that was served."""
    unknown_visitors: int
    """Impressions without a visitor: served or suppressed as the policy's `on_unknown_visitor` says."""
    dropped: int
    """Other events for which there was no room: that visitor's timelines were full."""
    events: int
    """Rows of the log."""
    first: datetime | None
    """The time of the first row; None for a log without rows."""
    last: datetime | None
    frequency_before: Frequency
    frequency_after: Frequency
    unknown_campaigns: tuple[str, ...]
    """The campaigns that the policy does not name."""
    defaults: bool
    """Whether the policy has [defaults], which are what those campaigns got. If not, only what concerns everyone
    ([annoyance], [caps] on labels) held for them."""
    seconds: float
    """How long the replay took, the reading of the log left out."""
    prefix: str | None = None
    """With `keep`: what the keys that are left in the store begin with."""

    @property
    def impressions(self) -> int:
        """Impressions in the log."""
        return self.total.impressions

    @property
    def served(self) -> int:
        """Those that the policy lets be shown."""
        return self.total.served

    @property
    def suppressed(self) -> int:
        """Those that it does not."""
        return self.total.suppressed

    @property
    def suppressed_by(self) -> dict[str, int]:
        """How many impressions each rule suppressed, by its text; of several, the one that lets go last."""
        return self.total.suppressed_by

    @property
    def repeated(self) -> int:
        """Impressions whose id was there before."""
        return self.total.repeated

    @property
    def cost_saved(self) -> float:
        """What the suppressed impressions cost."""
        return self.total.cost_saved

    @property
    def clicks_on_suppressed(self) -> int:
        """Clicks on impressions that would not have been there."""
        return self.total.clicks_on_suppressed

    @property
    def per_second(self) -> float:
        """Rows replayed in a second."""
        return self.events / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: what `retarget replay --json` writes."""
        held = "[defaults]" if self.defaults else "only [annoyance] and [caps]"
        return {
            **self.total.to_dict(),
            "visitors": self.visitors,
            "reached": self.reached,
            "unknown_visitors": self.unknown_visitors,
            "dropped": self.dropped,
            "events": self.events,
            "first": self.first.isoformat() if self.first else None,
            "last": self.last.isoformat() if self.last else None,
            "frequency_before": self.frequency_before.to_dict(),
            "frequency_after": self.frequency_after.to_dict(),
            "unknown_campaigns": {"campaigns": list(self.unknown_campaigns), "held": held},
            "campaigns": {id_: figures.to_dict() for id_, figures in self.campaigns.items()},
            "seconds": self.seconds,
            "events_per_second": self.per_second,
        }


# -- what goes in ------------------------------------------------------------------------------------------------------


def replay(
    log: Log | LogOptions,
    policy: Policy,
    *,
    store: str | redis.Redis | Store = "memory://",
    time_zone: str | None = None,
    keep: bool = False,
    progress: Progress | None = None,
) -> Replay:
    """Run a log through a policy.

    - `log`: an opened log, of whose labels those count that the policy asks about; or the options of one, which is then
      opened with just these labels.
    - `store`: in memory, or a real server. There the keys have a prefix of their own, and are deleted at the end unless
      `keep` is set.
    - `time_zone`: takes the place of the policy's. A row's own `timezone` goes before both.

    Raises LogError for a row that makes no sense, InputError for a wrong argument, StoreError where the server fails.
    """
    if isinstance(log, LogOptions):
        with open_log(log, policy) as opened:
            return replay(opened, policy, store=store, time_zone=time_zone, keep=keep, progress=progress)
    in_force = _in_force(policy, time_zone)
    begun = time.perf_counter()
    if isinstance(store, str) and store == "memory://":
        count = _Count(in_force, _InLists(in_force), log.label_names)
        count.run(log.rows_by_visitor(), log.count, progress)
        return count.result(policy, time.perf_counter() - begun)
    opened_store = open_store(store, _PATIENCE)
    judge = _OnStore(in_force, opened_store, f"rt:replay-{secrets.token_hex(4)}:")
    try:
        count = _Count(in_force, judge, log.label_names)
        count.run(log.rows(), log.count, progress)
        seconds = time.perf_counter() - begun
    finally:
        if not keep:
            judge.forget()
        if opened_store is not store:
            opened_store.close()
    return count.result(policy, seconds, judge.prefix if keep else None)


def open_log(options: LogOptions, policy: Policy) -> Log:
    """Open a log with just those labels that the policy asks about and the log has. Raises as `Log` does."""
    labels = labels_of(policy)
    while True:
        try:
            return Log(replace(options, labels=labels))
        except LogError as error:
            missing = [kind for kind in labels if f"no column {kind} to take as a label" in str(error)]
            if not missing:
                raise
            labels = tuple(kind for kind in labels if kind not in missing)


def labels_of(policy: Policy) -> tuple[str, ...]:
    """The kinds of labels by which the policy can tell two impressions of one campaign apart."""
    kinds = {key.partition(":")[0]: None for key in policy.caps}
    conditions = []
    for rules in (*policy.campaign.values(), *([policy.defaults] if policy.defaults else [])):
        conditions += [*chain.from_iterable(rules.audience), *rules.exclude]
    if policy.annoyance and policy.annoyance.points:
        kinds["channel"] = None
    for condition in conditions:
        kinds |= dict.fromkeys(labels_in(condition.subject or ""))
    return tuple(kind for kind in kinds if kind != "campaign")


def _in_force(policy: Policy, time_zone: str | None) -> Policy:
    """The policy as it is replayed: it can decide on every campaign, and a store that fails is no decision."""
    update: dict[str, object] = {"on_store_error": "raise"}
    if policy.defaults is None:
        update["defaults"] = Rules()
    if time_zone is not None:
        update["timezone"] = _zone(time_zone).key
    return policy.model_copy(update=update)


def _zone(name: str) -> ZoneInfo:
    try:
        return load_zone(name)
    except ValueError as error:
        raise InputError(f"time zone {error}") from error


# -- the rows, one after the other -------------------------------------------------------------------------------------


Denial: TypeAlias = tuple[Reason, str]
"""Why an impression was suppressed: the kind of the rule, and the rule as written."""


class _Judge(Protocol):
    """What lets impressions be shown, and remembers."""

    one_by_one: bool
    """Whether it wants visitor after visitor, and forgets each."""

    def prepare(self, event: str, subject: Subject | None) -> Any:  # noqa: ANN401 - each judge has its own
        """What to give to `show` and `happened` for this, as often as it comes. Raises InputError."""

    def enter(self, visitor: str) -> None:
        """What follows is about this visitor. Raises InputError."""

    def show(self, ready: Any, at: int, zone: ZoneInfo) -> Denial | None:  # noqa: ANN401
        """Count an impression if it may be shown, or say why not."""

    def happened(self, ready: Any, at: int) -> None:  # noqa: ANN401
        """Remember an event."""

    def finish(self) -> int:
        """Nothing follows. How many events found no room."""


@dataclass(slots=True)
class _Seen:
    """One visitor's share of the log."""

    impressions: int = 0
    served: int = 0
    ids: set[str | tuple[str, str]] = field(default_factory=set)
    suppressed: set[str] = field(default_factory=set)
    """The campaigns whose last impression was suppressed: a click that follows was on one that was not there."""


class _Tally:
    """`Figures` in the making; money in whole units."""

    def __init__(self) -> None:
        self.impressions = self.served = self.repeated = self.cost = self.saved = self.value = 0
        self.clicks, self.conversions = [0, 0], [0, 0]  # in all, and on suppressed impressions
        self.lost = 0
        self.rules: Counter[Denial] = Counter()

    def add(self, other: _Tally) -> None:
        for name in ("impressions", "served", "repeated", "cost", "saved", "value", "lost"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.clicks = [mine + its for mine, its in zip(self.clicks, other.clicks, strict=True)]
        self.conversions = [mine + its for mine, its in zip(self.conversions, other.conversions, strict=True)]
        self.rules.update(other.rules)

    def figures(self) -> Figures:
        return Figures(
            impressions=self.impressions,
            served=self.served,
            suppressed=self.impressions - self.served - self.repeated,
            repeated=self.repeated,
            cost=self.cost / _UNIT,
            cost_saved=self.saved / _UNIT,
            clicks=self.clicks[0],
            clicks_on_suppressed=self.clicks[1],
            conversions=self.conversions[0],
            conversions_on_suppressed=self.conversions[1],
            value=self.value / _UNIT,
            value_on_suppressed=self.lost / _UNIT,
            rules=dict(sorted(self.rules.items(), key=lambda item: (-item[1], item[0]))),
        )


class _Ad(NamedTuple):
    """A campaign with the labels of a row."""

    candidate: Candidate
    ready: Any
    tally: _Tally
    cost: int


_Labels: TypeAlias = tuple[str | None, ...]


class _Count:
    """Goes through the rows, asks the judge, and counts."""

    def __init__(self, policy: Policy, judge: _Judge, label_names: Sequence[str]) -> None:
        self.plan, self.judge = Plan(policy), judge
        wanted = labels_of(policy)
        self.places = [(place, kind) for place, kind in enumerate(label_names) if kind in wanted]
        self.all_labels = len(self.places) == len(label_names)
        self.tallies: dict[str, _Tally] = {}
        self.ads: dict[tuple[str | None, _Labels], _Ad] = {}
        self.others: dict[tuple[str, str | None, str | None, _Labels], Any] = {}
        self.zones: dict[str, ZoneInfo] = {}
        self.before: Counter[int] = Counter()
        self.after: Counter[int] = Counter()
        self.nobody = _Seen()
        self.events = self.dropped = 0
        self.first, self.last = timeline.LAST_MOMENT, 0

    def run(self, batches: Iterable[list[LogRow]], count: int, progress: Progress | None) -> None:
        """Take all rows. Raises LogError for one that makes no sense."""
        judge, ads, others = self.judge, self.ads, self._other
        people: dict[str, _Seen] = {}
        current: object = self  # no visitor yet
        seen, at = self.nobody, 0
        for rows in batches:
            try:
                for at, visitor, event, campaign, subject, id_, cost, value, click, conversion, timezone, given in rows:
                    if visitor != current:
                        current = visitor
                        if judge.one_by_one:
                            self._leave(seen)
                        if visitor is None:
                            seen = self.nobody
                        else:
                            judge.enter(visitor)
                            seen = _Seen() if judge.one_by_one else people.setdefault(visitor, _Seen())
                    labels = given if self.all_labels else tuple([given[place] for place, _ in self.places])
                    if event != IMPRESSION:
                        others(seen, event, campaign, subject, labels, id_, value, at)
                        continue
                    ad = ads.get((campaign, labels)) or self._ad(campaign, labels)
                    tally = ad.tally
                    tally.impressions += 1
                    if id_ is not None:
                        if id_ in seen.ids:
                            tally.repeated += 1
                            continue
                        seen.ids.add(id_)
                    paid = ad.cost if cost is None else round(cost * _UNIT)
                    tally.cost += paid
                    seen.impressions += 1
                    zone = self.plan.zone if timezone is None else self._zone_of(timezone)
                    denial = self._unknown(ad, at, zone) if visitor is None else judge.show(ad.ready, at, zone)
                    if denial is None:
                        tally.served += 1
                        seen.served += 1
                        if seen.suppressed:
                            seen.suppressed.discard(ad.candidate.campaign)
                    else:
                        tally.saved += paid
                        tally.rules[denial] += 1
                        seen.suppressed.add(ad.candidate.campaign)
                    if click or conversion:
                        for reaction in ["click"] * click + ["conversion"] * conversion:
                            self._reaction(reaction, tally, value, on_suppressed=denial is not None)
                            if denial is None and visitor is not None:
                                self._record(reaction, ad.candidate.campaign, campaign, labels, at)
            except InputError as error:
                raise LogError(f"the row of {_utc(at).isoformat()}: {error}") from error
            if rows:
                moments = list(map(itemgetter(0), rows))
                self.first, self.last = min(self.first, *moments), max(self.last, *moments)
            self.events += len(rows)
            if progress is not None:
                progress(self.events, count)
        self.dropped = judge.finish()
        for one in [seen] if judge.one_by_one else people.values():
            self._leave(one)

    def _leave(self, seen: _Seen) -> None:
        """A visitor has been seen to the end."""
        if seen is not self.nobody and seen.impressions:
            self.before[seen.impressions] += 1
            self.after[seen.served] += 1

    def _other(
        self,
        seen: _Seen,
        event: str,
        campaign: str | None,
        subject: str | None,
        labels: _Labels,
        id_: str | None,
        value: float | None,
        at: int,
    ) -> None:
        """Any event but an impression. It is about what the log calls its subject, or else about the campaign.

        Which impression was clicked, such a row does not say; it may have been an earlier one that was served. So the
        click is remembered, and is counted as a risk if the campaign's last impression was suppressed.
        """
        if id_ is not None:
            if (event, id_) in seen.ids:
                return
            seen.ids.add((event, id_))
        if campaign is not None and event in ("click", "conversion"):
            self._reaction(event, self._tally(campaign), value, on_suppressed=campaign in seen.suppressed)
        if seen is not self.nobody:
            self._record(event, campaign if subject is None else subject, campaign, labels, at)

    def _record(self, event: str, subject: str | None, campaign: str | None, labels: _Labels, at: int) -> None:
        key = (event, subject, campaign, labels)
        ready = self.others.get(key)
        if ready is None:
            about = self._candidate(subject, labels) if subject is not None and subject == campaign else subject
            ready = _kept(self.others, key, self.judge.prepare(event, about))
        self.judge.happened(ready, at)

    def _reaction(self, event: str, tally: _Tally, value: float | None, *, on_suppressed: bool) -> None:
        counts = tally.clicks if event == "click" else tally.conversions
        counts[0] += 1
        counts[1] += on_suppressed
        if event == "conversion" and value is not None:
            tally.value += round(value * _UNIT)
            tally.lost += round(value * _UNIT) * on_suppressed

    def _unknown(self, ad: _Ad, at: int, zone: ZoneInfo) -> Denial | None:
        """What an impression without a visitor gets: the policy's answer and the clock's, without any history."""
        if self.plan.policy.on_unknown_visitor == "block":
            return "unknown visitor", "unknown visitor"
        for rule in self.plan.rules(ad.candidate):
            never = () in self.plan.bind_formula(rule.formula, self.plan.labels(ad.candidate))
            if never or (rule.opening is not None and rule.opening.next_open(at, zone) != at):
                return rule.reason, rule.text
        return None

    def _ad(self, campaign: str | None, labels: _Labels) -> _Ad:
        if campaign is None:
            raise InputError("an impression without a campaign; map one, or name one for all rows")
        candidate = self._candidate(campaign, labels)
        rules = self.plan.policy.rules(campaign)
        cost = round(rules.cost * _UNIT) if rules is not None else 0
        ready = self.judge.prepare(IMPRESSION, candidate)
        return _kept(self.ads, (campaign, labels), _Ad(candidate, ready, self._tally(campaign), cost))

    def _candidate(self, campaign: str, labels: _Labels) -> Candidate:
        pairs = zip(self.places, labels, strict=True)
        return Candidate(campaign, **{kind: label for (_, kind), label in pairs if label is not None})

    def _tally(self, campaign: str) -> _Tally:
        tally = self.tallies.get(campaign)
        if tally is None:
            tally = self.tallies[campaign] = _Tally()
        return tally

    def _zone_of(self, name: str) -> ZoneInfo:
        zone = self.zones.get(name)
        if zone is None:
            zone = self.zones[name] = _zone(name)
        return zone

    def result(self, policy: Policy, seconds: float, prefix: str | None = None) -> Replay:
        """What was counted. `policy` is the one that was asked about."""
        total = _Tally()
        for tally in self.tallies.values():
            total.add(tally)
        in_order = sorted(self.tallies, key=lambda id_: (-self.tallies[id_].impressions, id_))
        visitors, unreached = sum(self.before.values()), self.after.pop(0, 0)
        return Replay(
            total.figures(),
            {id_: self.tallies[id_].figures() for id_ in in_order},
            visitors,
            visitors - unreached,
            self.nobody.impressions,
            self.dropped,
            self.events,
            _utc(self.first) if self.events else None,
            _utc(self.last) if self.events else None,
            Frequency(dict(sorted(self.before.items()))),
            Frequency(dict(sorted(self.after.items()))),
            tuple(id_ for id_ in in_order if id_ not in policy.campaign),
            policy.defaults is not None,
            seconds,
            prefix,
        )


def _kept(cache: dict[Any, T], key: object, value: T) -> T:
    """Keep the value; a log may have more of them than memory, so begin anew when there are many."""
    if len(cache) >= _CACHED:
        cache.clear()
    cache[key] = value
    return value


class _Rules:
    """The rules of one ad, to tell which of them denies it."""

    __slots__ = ("bound", "plan")

    def __init__(self, plan: Plan, candidate: Candidate) -> None:
        labels = plan.labels(candidate)
        self.plan = plan
        self.bound = [(rule, plan.bind_formula(rule.formula, labels)) for rule in plan.rules(candidate)]

    def why(self, state: State, at: int, zone: ZoneInfo) -> Denial:
        """Of the rules that deny it, the one that lets go last: the one that a verdict names."""
        if is_full(state, at):
            return "full", "full"
        view = View(Moment(self.plan, at, zone), state)
        last: tuple[int, Rule] | None = None
        for rule, clauses in self.bound:
            lets_go = view.next_moment(clauses, [rule.opening] if rule.opening else [])
            later = _NEVER if lets_go is None else lets_go
            if later != at and (last is None or later > last[0]):
                last = later, rule
        assert last is not None  # noqa: S101 - it was denied
        return last[1].reason, last[1].text


# -- judging through a store: what the ad server would have done -------------------------------------------------------


class _Asked(NamedTuple):
    """An event, or an ad with its rules."""

    event: str
    subject: Subject | None
    rules: _Rules | None


class _OnStore:
    """Claims and records through a retargeter. Events wait, and go together, until the visitor is to be shown an ad."""

    one_by_one = False

    def __init__(self, policy: Policy, store: Store, prefix: str) -> None:
        self.plan, self.store, self.prefix = Plan(policy), store, prefix
        self.now = self.begun = 0
        self.visitor = ""
        self.known: set[str] = set()
        self.pending: list[Event] = []
        self.waiting: set[str] = set()
        self.dropped = 0
        self.ads = Retargeter(policy, _Patient(store), clock=lambda: self.now, prefix=prefix)

    def prepare(self, event: str, subject: Subject | None) -> _Asked:
        self.ads.record(None, event, subject)  # raises what the library says to a wrong name
        rules = _Rules(self.plan, as_candidate(subject)) if event == IMPRESSION else None
        return _Asked(event, subject, rules)

    def enter(self, visitor: str) -> None:
        if len(visitor) > _LONG_ID:
            self.ads.decide(visitor, ())  # raises what the library says to an id that is too long
        self.visitor = visitor
        self.known.add(visitor)

    def show(self, ready: _Asked, at: int, zone: ZoneInfo) -> Denial | None:
        if self.visitor in self.waiting:
            self._send()
        self.now = at
        assert ready.subject is not None  # noqa: S101 - the two of an ad
        assert ready.rules is not None  # noqa: S101
        if self.ads.claim(self.visitor, (ready.subject,), timezone=zone) is not None:
            return None
        return ready.rules.why(self.store.read(wire.key(self.prefix, self.visitor)), at, zone)

    def happened(self, ready: _Asked, at: int) -> None:
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

    def write(self, write: Write) -> Answer:
        return self._store.write(_longer(write))

    def write_many(self, writes: Sequence[Write]) -> list[Answer | StoreError]:
        return self._store.write_many([_longer(write) for write in writes])


def _longer(write: Write) -> Write:
    for alternative in write.alternatives:
        alternative.ttl = max(alternative.ttl, DAY)
    return write


# -- judging in lists: the same questions, asked of one visitor after the other ----------------------------------------


_Since: TypeAlias = Callable[[int, ZoneInfo], int]


class _Literal(NamedTuple):
    """A fact that must be true or must not be; `since` says when its window begins."""

    field: bytes
    n: int
    since: _Since
    anchored: bool
    wanted: bool


_Clauses: TypeAlias = tuple[tuple[_Literal, ...], ...]


class _Ready:
    """An event, or an ad with its rules."""

    __slots__ = ("asked", "bounds", "compiled", "event", "others", "places", "rules", "subject")

    def __init__(self, event: str, subject: Subject | None, places: tuple[Place, ...]) -> None:
        self.event, self.subject = event, subject
        self.places = tuple((place.field, place.weight) for place in places)
        self.compiled: Compiled | None = None
        self.bounds: tuple[tuple[bytes, int, int], ...] = ()
        """What most rules come to: the n-th newest must not be within so many seconds."""
        self.others: _Clauses = ()
        self.rules: tuple[_Rules, list[_Clauses]] | None = None
        self.asked: _Asked | None = None


class _InLists:
    """One visitor's timelines as lists of all moments, by name: nothing is trimmed, she is soon forgotten."""

    one_by_one = True

    def __init__(self, policy: Policy) -> None:
        self.plan = Plan(policy)
        self.visitor = ""
        self.lines: dict[bytes, list[int]] = {}
        self.heads: dict[bytes, tuple[int, int]] = {}  # timeline -> entries kept, head
        self.periods: dict[Window, _Periods] = {}
        self.dropped = 0
        self.full: _OnStore | None = None  # who judges instead, where a visitor comes near to being full
        self.checks = Retargeter(policy, MemoryStore(), clock=lambda: 0)
        for place in self.plan.session_places():
            self.heads[place.field] = (place.keep, place.head)

    def prepare(self, event: str, subject: Subject | None) -> _Ready:
        self.checks.record(None, event, subject)  # raises what the library says to a wrong name
        places = self.plan.places(event, subject)
        self.heads.update({place.field: (place.keep, place.head) for place in places})
        ready = _Ready(event, subject, places)
        if event == IMPRESSION and subject is not None:
            ready.compiled = compiled = compile_subject(self.plan, subject)
            bounds, others = [], []
            for clause in compiled.guards:
                fact, wanted = clause[0] if len(clause) == 1 else (None, True)
                if fact is None or wanted or fact.n < 1 or type(fact.window) is not Rolling or fact.window.anchored:
                    others.append(self._clause(clause))
                else:
                    bounds.append((fact.field, fact.n, fact.window.seconds))
            ready.bounds, ready.others = tuple(bounds), tuple(others)
        return ready

    def _clause(self, clause: BoundClause) -> tuple[_Literal, ...]:
        return tuple(
            _Literal(fact.field, fact.n, self._since(fact), fact.window.anchored, wanted) for fact, wanted in clause
        )

    def _since(self, fact: Fact) -> _Since:
        if not isinstance(fact.window, Calendar):
            return fact.window.since
        return self.periods.setdefault(fact.window, _Periods(fact.window)).since

    def enter(self, visitor: str) -> None:
        if len(visitor) > _LONG_ID:
            self.checks.export(visitor)  # raises what the library says to an id that is too long
        if self.full is not None:
            self.dropped += self.full.finish()
            self.full = None
        self.visitor = visitor
        self.lines = {}

    def show(self, ready: _Ready, at: int, zone: ZoneInfo) -> Denial | None:
        if self.full is not None:
            return self.full.show(self._asked(self.full, ready), at, zone)
        lines = self.lines
        for name, n, seconds in ready.bounds:
            line = lines.get(name)
            if line is not None and len(line) >= n and line[-n] >= at - seconds:
                return self._why(ready, at, zone)
        if ready.others and not self._hold(ready.others, at, zone):
            return self._why(ready, at, zone)
        openings = ready.compiled.openings if ready.compiled is not None else ()
        if openings and any(opening.next_open(at, zone) != at for opening in openings):
            return self._why(ready, at, zone)
        self._enter(ready, at)
        return None

    def happened(self, ready: _Ready, at: int) -> None:
        if self.full is not None:
            self.full.happened(self._asked(self.full, ready), at)
        else:
            self._enter(ready, at)

    def _asked(self, full: _OnStore, ready: _Ready) -> _Asked:
        if ready.asked is None:
            ready.asked = full.prepare(ready.event, ready.subject)
        return ready.asked

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
        """The rule that denies it; of several, the one that lets go last, as a verdict says."""
        compiled = ready.compiled
        assert compiled is not None  # noqa: S101 - it is an ad
        if ready.rules is None:
            rules = _Rules(self.plan, compiled.candidate)
            ready.rules = rules, [tuple(map(self._clause, clauses)) for _, clauses in rules.bound]
        rules, in_lists = ready.rules
        denying = [
            rule
            for (rule, _), clauses in zip(rules.bound, in_lists, strict=True)
            if (rule.opening is not None and rule.opening.next_open(at, zone) != at)
            or not self._hold(clauses, at, zone)
        ]
        if len(denying) == 1:
            return denying[0].reason, denying[0].text
        return rules.why(self._state(), at, zone)

    def _state(self) -> State:
        """The timelines as a store holds them."""
        state = {}
        for name, line in self.lines.items():
            keep, head = self.heads[name]
            state[name] = struct.pack(f">H{min(keep, len(line))}I", head, *line[-keep:])
        return state

    def _grow(self, at: int) -> None:
        """A visitor of so many timelines may be full: go on in a store, which has its ways with such."""
        state = {name: raw for name, raw in self._state().items() if timeline.is_live(raw, at)}
        if len(state) <= _ROOMY:
            self.lines = {name: self.lines[name] for name in state}
            return
        store = MemoryStore()
        entries = [Entry(name, at, 1, *self.heads[name]) for name, raw in state.items() for at in timeline.moments(raw)]
        store.write(Write(wire.key("", self.visitor), at, b"", (Alternative((), tuple(entries), DAY),)))
        self.full = _OnStore(self.plan.policy, store, "")
        self.full.enter(self.visitor)


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


def _utc(moment: int) -> datetime:
    return datetime.fromtimestamp(moment, UTC)
