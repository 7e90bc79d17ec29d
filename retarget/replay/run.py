"""Replay: which impressions of a real log a policy would have suppressed, what that saves and what it risks.

Rules:
- Rows are taken in time order, rows of one second in the order of the log. An impression is served iff the policy
  allows it at that moment; a suppressed one does not count. Every other event happened, and is recorded.
- An impression whose id was seen before is a duplicate: it is reported as repeated, neither served nor suppressed, and
  costs nothing.
- DuckDB counts what the log has; the replay finds what the policy suppresses. Both are sums.
- Visitors are independent. So in memory they are judged one after the other, by several processes if asked, whatever
  the size of the log; a server is asked in time order, as it would have been that day. The figures are the same.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from retarget.engine import Plan
from retarget.errors import InputError, LogError
from retarget.logs import BATCH, UNIT, Log, LogKinds, LogOptions
from retarget.policy import Policy, Rules
from retarget.replay.by_store import StoreJudge
from retarget.replay.figures import Denials, Frequency, Losses, Replay, Tally, VisitorLosses, denial
from retarget.replay.full import FullRules
from retarget.replay.meanings import Meanings, labels_of, zone_named
from retarget.replay.workers import losses as chunk_losses
from retarget.replay.workers import visitor_losses
from retarget.retargeter import Retargeter
from retarget.stores import open_store
from retarget.timelines import IMPRESSION, Store

if TYPE_CHECKING:
    import redis

T = TypeVar("T")
R = TypeVar("R")
Progress: TypeAlias = Callable[[int, int], None]
"""Called now and then: rows done, rows in all."""

_TIMEOUT = 1.0
"""Seconds that a call to a server may take."""


def replay(
    log: Log | LogOptions,
    policy: Policy,
    *,
    store: str | redis.Redis | Store = "memory://",
    time_zone: str | None = None,
    keep: bool = False,
    processes: int = 1,
    progress: Progress | None = None,
) -> Replay:
    """Run a log through a policy.

    - `log`: an opened log; of its labels, those count that the policy asks about. Or the options of one, which is then
      opened with just these labels.
    - `store`: in memory, or a real server. There the keys have a prefix of their own, and are deleted at the end unless
      `keep` is set.
    - `time_zone`: replaces the policy's. A row's own `timezone` takes precedence over both.
    - `processes`: how many judge visitors at once, in memory; the figures are the same. Each imports the script that
      runs, so with more than one, call this below `if __name__ == "__main__":`.
    - `progress`: called now and then with the rows done and the rows in all.

    Raises LogError for a row that the library refuses, InputError for a wrong argument, StoreError if the server fails,
    ConfigError if a process dies.
    """
    if isinstance(log, LogOptions):
        with open_log(log, policy) as opened:
            return replay(
                opened, policy, store=store, time_zone=time_zone, keep=keep, processes=processes, progress=progress
            )
    in_memory = isinstance(store, str) and store == "memory://"
    if processes < 1 or (processes > 1 and not in_memory):
        right = "at least 1" if in_memory else "1 with a store, which is asked in time order"
        raise InputError(f"processes={processes}: it must be {right}")
    replayed = _replayed(policy, time_zone)
    began = time.perf_counter()
    with log.tables() as tables:
        wanted = labels_of(policy)
        labels = [label for label in log.label_names if label in wanted]
        count = _Count(replayed, log, LogKinds(log, tables, labels), labels, progress)
        if in_memory:
            count.in_memory(processes)
            return count.result(policy, time.perf_counter() - began, None)
        opened_store = open_store(store, _TIMEOUT)
        rules = FullRules(Plan(replayed), labels_of(policy))
        judge = StoreJudge(replayed, opened_store, f"rt:replay-{secrets.token_hex(4)}:", rules)
        try:
            count.on_store(judge)
            seconds = time.perf_counter() - began
        finally:
            if not keep:
                judge.forget()
            if opened_store is not store:
                opened_store.close()
        return count.result(policy, seconds, judge.prefix if keep else None)


def open_log(options: LogOptions, policy: Policy) -> Log:
    """Open a log with only the labels that the policy asks about, as far as the log has them. Raises as `Log` does."""
    return Log(replace(options, labels=labels_of(policy), optional_labels=True))


def _replayed(policy: Policy, time_zone: str | None) -> Policy:
    """The policy as it is replayed: it decides on every campaign, and a store that fails raises."""
    update: dict[str, object] = {"on_store_error": "raise"}
    if policy.defaults is None:
        update["defaults"] = Rules()
    if time_zone is not None:
        update["timezone"] = zone_named(time_zone).key
    return policy.model_copy(update=update)


# -- counting ----------------------------------------------------------------------------------------------------------


class _Count:
    """Has every row judged, and adds up what the log has and what the policy suppresses."""

    def __init__(
        self, policy: Policy, log: Log, rows: LogKinds, labels: Sequence[str], progress: Progress | None
    ) -> None:
        """Raises LogError for a row that the library refuses."""
        self.policy, self.log, self.rows, self.labels, self.progress = policy, log, rows, labels, progress
        self.ads = Retargeter(policy, "memory://", clock=lambda: 0)
        self.losses = Losses()
        self.done = self.unknown = 0
        meanings = Meanings(policy, labels)
        self.meanings = [_of_row(kind.first, meanings.of, kind) for kind in rows.kinds]
        self.kinds = [kind._replace(price=self._price(kind.campaign)) for kind in rows.kinds]
        longest = rows.longest_id()
        if longest is not None:
            _of_row(longest[1], self.ads.export, longest[0])  # raises if the id is too long

    def in_memory(self, processes: int) -> None:
        """Judge one visitor after the other."""
        for losses, rows in chunk_losses(self.rows.by_visitor(), self.policy, self.kinds, self.labels, processes):
            self.losses.add(losses)
            self._progressed(rows)
        self._without_visitor()

    def on_store(self, judge: StoreJudge) -> None:
        """Judge the rows in time order."""
        visitors: defaultdict[str, VisitorLosses] = defaultdict(lambda: VisitorLosses(self.losses))
        for place, (visitor, at, number, cost, value) in enumerate(self.rows.by_time(), 1):
            why = judge.take(visitor, self.meanings[number], at)
            visitors[visitor].add(self.kinds[number], why, cost, value)
            if place % BATCH == 0:
                self._progressed(BATCH)
        for one in visitors.values():
            one.finish()
        judge.finish()
        self.losses.dropped, self.losses.full = judge.dropped, judge.full
        self._without_visitor()

    def _without_visitor(self) -> None:
        """Judge the rows without a visitor: by `on_unknown_visitor` and the clock, without any history."""
        for chunk in self.rows.unknown():
            denials: Denials = {}
            for place, (at, number) in enumerate(zip(chunk.seconds, chunk.kinds, strict=True)):
                _, ad, zone = self.meanings[number]
                if ad is None:
                    continue
                if self.policy.on_unknown_visitor == "block":  # `decide` says so too, but looks at the clock first
                    denials[place] = "unknown visitor", "unknown visitor"
                elif not (verdict := self.ads.decide(None, (ad,), now=at, timezone=zone)[ad]):
                    denials[place] = denial(verdict)
            losses = visitor_losses(chunk, 0, len(chunk.seconds), denials, self.kinds, self.losses)
            self.unknown = losses.impressions
        self._progressed(self.log.count - self.done)

    def _progressed(self, rows: int) -> None:
        self.done += rows
        if self.progress is not None:
            self.progress(self.done, self.log.count)

    def _price(self, campaign: str | None) -> int:
        rules = self.policy.rules(campaign) if campaign is not None else None
        return round(rules.cost * UNIT) if rules is not None else 0

    def result(self, policy: Policy, seconds: float, prefix: str | None) -> Replay:
        """The figures. `policy` is the caller's own."""
        tallies: defaultdict[str, Tally] = defaultdict(Tally)
        for kind in self.kinds:
            if kind.campaign is not None and kind.event in (IMPRESSION, "click", "conversion"):
                tallies[kind.campaign].add_kind(kind)
        for campaign, tally in self.losses.tallies.items():
            tallies[campaign].add(tally)
        total = Tally()
        for tally in tallies.values():
            total.add(tally)
        in_order = sorted(tallies, key=lambda id_: (-tallies[id_].impressions, id_))
        before, after = self.rows.frequency, Counter(self.rows.frequency)
        for (logged, served), visitors in self.losses.visitors.items():
            after[logged] -= visitors
            after[served] += visitors
        unreached = after.pop(0, 0)
        moments = [_utc(kind.first) for kind in self.kinds]
        return Replay(
            total=total.figures(),
            campaigns={id_: tallies[id_].figures() for id_ in in_order},
            visitors=sum(before.values()),
            reached=sum(before.values()) - unreached,
            unknown_visitors=self.unknown,
            dropped=self.losses.dropped,
            full=self.losses.full.figures(),
            events=self.log.count,
            first=min(moments, default=None),
            last=None if self.rows.last is None else _utc(self.rows.last),
            frequency_before=Frequency(dict(sorted(before.items()))),
            frequency_after=Frequency(dict(sorted((+after).items()))),
            unknown_campaigns=tuple(id_ for id_ in in_order if id_ not in policy.campaign),
            defaults=policy.defaults is not None,
            seconds=seconds,
            prefix=prefix,
        )


def _of_row(at: int, make: Callable[[T], R], of: T) -> R:
    """`make(of)`, with an InputError turned into a LogError that names the row's time."""
    try:
        return make(of)
    except InputError as error:
        raise LogError(f"the row of {_utc(at).isoformat()}: {error}") from error


def _utc(moment: int) -> datetime:
    return datetime.fromtimestamp(moment, UTC)
