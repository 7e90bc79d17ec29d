"""Replay: which impressions of a real log a policy would have suppressed, what that saves and what it risks.

Rules:
- Rows are taken in time order, rows of one second in the order of the log. An impression is served iff the policy lets
  it be shown at that moment; a suppressed one does not count. Every other event happened, and is remembered.
- An impression whose id was there before is the same impression: it is reported as repeated, neither served nor
  suppressed, and costs nothing.
- Visitors do not know of each other. So in memory they are taken one after the other, and the log's size is no matter;
  a server is asked in time order, as it would have been that day. Both give the same figures.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from retarget.errors import InputError, LogError
from retarget.events import Candidate, Subject
from retarget.grammar import labels_in
from retarget.logs import Log, LogOptions, LogRow
from retarget.policy import Policy, Rules, load_zone
from retarget.replay_figures import UNIT, Denial, Figures, Frequency, Replay, Tally
from retarget.replay_judges import InLists, Judge, OnStore, denial
from retarget.retargeter import open_store
from retarget.store import Store
from retarget.timeline import IMPRESSION, LAST_MOMENT

if TYPE_CHECKING:
    import redis

__all__ = ["Figures", "Frequency", "Progress", "Replay", "labels_of", "open_log", "replay"]

T = TypeVar("T")
Progress: TypeAlias = Callable[[int, int], None]
"""Told now and then: rows done, rows in all."""

_CACHED = 200_000
_PATIENCE = 1.0
_LONG_ID = 100


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
        count = _Count(in_force, InLists(in_force), log.label_names)
        count.run(log.rows_by_visitor(), log.count, progress)
        return count.result(policy, time.perf_counter() - begun)
    opened_store = open_store(store, _PATIENCE)
    judge = OnStore(in_force, opened_store, f"rt:replay-{secrets.token_hex(4)}:")
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
    return Log(replace(options, labels=labels_of(policy), optional_labels=True))


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


@dataclass(slots=True)
class _Seen:
    """One visitor's share of the log."""

    impressions: int = 0
    served: int = 0
    ids: set[str | tuple[str, str]] = field(default_factory=set)
    suppressed: set[str] = field(default_factory=set)
    """The campaigns whose last impression was suppressed: a click that follows was on one that was not there."""


class _Ad(NamedTuple):
    """A campaign with the labels of a row."""

    candidate: Candidate
    ready: Any
    tally: Tally
    cost: int


_Labels: TypeAlias = tuple[str | None, ...]


class _Count:
    """Goes through the rows, asks the judge, and counts."""

    def __init__(self, policy: Policy, judge: Judge, label_names: Sequence[str]) -> None:
        self.policy, self.judge, self.ads = policy, judge, judge.ads
        wanted = labels_of(policy)
        self.places = [(place, kind) for place, kind in enumerate(label_names) if kind in wanted]
        self.all_labels = len(self.places) == len(label_names)
        self.tallies: dict[str, Tally] = {}
        self.shown: dict[tuple[str | None, _Labels], _Ad] = {}
        self.others: dict[tuple[str, str | None, str | None, _Labels], Any] = {}
        self.zone = load_zone(policy.timezone)
        self.zones: dict[str, ZoneInfo] = {}
        self.before: Counter[int] = Counter()
        self.after: Counter[int] = Counter()
        self.nobody = _Seen()
        self.events = self.dropped = 0
        self.first, self.last = LAST_MOMENT, 0

    def run(self, batches: Iterable[list[LogRow]], count: int, progress: Progress | None) -> None:
        """Take all rows. Raises LogError for one that makes no sense."""
        judge, shown, others = self.judge, self.shown, self._other
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
                            if len(visitor) > _LONG_ID:
                                self.ads.export(visitor)  # raises what the library says to an id that is too long
                            judge.enter(visitor)
                            seen = _Seen() if judge.one_by_one else people.setdefault(visitor, _Seen())
                    labels = given if self.all_labels else tuple([given[place] for place, _ in self.places])
                    if event != IMPRESSION:
                        others(seen, event, campaign, subject, labels, id_, value, at)
                        continue
                    ad = shown.get((campaign, labels)) or self._ad(campaign, labels)
                    tally = ad.tally
                    tally.impressions += 1
                    if id_ is not None:
                        if id_ in seen.ids:
                            tally.repeated += 1
                            continue
                        seen.ids.add(id_)
                    paid = ad.cost if cost is None else round(cost * UNIT)
                    tally.cost += paid
                    seen.impressions += 1
                    zone = self.zone if timezone is None else self._zone_of(timezone)
                    why = self._unknown(ad, at, zone) if visitor is None else judge.show(ad.ready, at, zone)
                    if why is None:
                        tally.served += 1
                        seen.served += 1
                        if seen.suppressed:
                            seen.suppressed.discard(ad.candidate.campaign)
                    else:
                        tally.saved += paid
                        tally.rules[why] += 1
                        seen.suppressed.add(ad.candidate.campaign)
                    if click or conversion:
                        for reaction in ["click"] * click + ["conversion"] * conversion:
                            self._reaction(reaction, tally, value, on_suppressed=why is not None)
                            if why is None and visitor is not None:
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
            ready = _kept(self.others, key, self._prepare(event, about))
        self.judge.happened(ready, at)

    def _reaction(self, event: str, tally: Tally, value: float | None, *, on_suppressed: bool) -> None:
        counts = tally.clicks if event == "click" else tally.conversions
        counts[0] += 1
        counts[1] += on_suppressed
        if event == "conversion" and value is not None:
            tally.value += round(value * UNIT)
            tally.lost += round(value * UNIT) * on_suppressed

    def _unknown(self, ad: _Ad, at: int, zone: ZoneInfo) -> Denial | None:
        """What an impression without a visitor gets: the policy's answer and the clock's, without any history."""
        if self.policy.on_unknown_visitor == "block":  # as `decide` says, too, but nothing need be looked at for it
            return "unknown visitor", "unknown visitor"
        said = self.ads.decide(None, (ad.candidate,), now=at, timezone=zone)[ad.candidate]
        return None if said else denial(said)

    def _prepare(self, event: str, subject: Subject | None) -> Any:  # noqa: ANN401 - each judge has its own
        self.ads.record(None, event, subject)  # raises what the library says to a wrong name
        return self.judge.prepare(event, subject)

    def _ad(self, campaign: str | None, labels: _Labels) -> _Ad:
        if campaign is None:
            raise InputError("an impression without a campaign; map one, or name one for all rows")
        candidate = self._candidate(campaign, labels)
        rules = self.policy.rules(campaign)
        cost = round(rules.cost * UNIT) if rules is not None else 0
        ready = self._prepare(IMPRESSION, candidate)
        return _kept(self.shown, (campaign, labels), _Ad(candidate, ready, self._tally(campaign), cost))

    def _candidate(self, campaign: str, labels: _Labels) -> Candidate:
        pairs = zip(self.places, labels, strict=True)
        return Candidate(campaign, **{kind: label for (_, kind), label in pairs if label is not None})

    def _tally(self, campaign: str) -> Tally:
        tally = self.tallies.get(campaign)
        if tally is None:
            tally = self.tallies[campaign] = Tally()
        return tally

    def _zone_of(self, name: str) -> ZoneInfo:
        zone = self.zones.get(name)
        if zone is None:
            zone = self.zones[name] = _zone(name)
        return zone

    def result(self, policy: Policy, seconds: float, prefix: str | None = None) -> Replay:
        """What was counted. `policy` is the one that was asked about."""
        total = Tally()
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


def _utc(moment: int) -> datetime:
    return datetime.fromtimestamp(moment, UTC)
