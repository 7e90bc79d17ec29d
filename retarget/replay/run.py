"""Replay: which impressions of a real log a policy would have suppressed, what that saves and what it risks.

Rules:
- Rows are taken in time order, rows of one second in the order of the log. An impression is served iff the policy lets
  it be shown at that moment; a suppressed one does not count. Every other event happened, and is remembered.
- An impression whose id was there before is the same impression: it is reported as repeated, neither served nor
  suppressed, and costs nothing.
- DuckDB counts what the log holds; the replay finds what the policy takes from it. Both are sums.
- Visitors do not know of each other. So in memory they are taken one after the other, by several processes if wanted,
  and the log's size is no matter; a server is asked in time order, as it would have been that day. All give the same
  figures.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from retarget.errors import InputError, LogError
from retarget.logs import BATCH, UNIT, Log, LogOptions, Numbered
from retarget.policy import Policy, Rules, labels_in, load_zone
from retarget.replay.by_store import StoreJudge
from retarget.replay.figures import Denials, Figures, Followed, Frequency, Losses, Replay, Tally, denial
from retarget.replay.meanings import Meanings
from retarget.replay.workers import follow
from retarget.replay.workers import losses as share_losses
from retarget.retargeter import Retargeter, open_store
from retarget.timelines import IMPRESSION, Store

if TYPE_CHECKING:
    import redis

__all__ = ["Figures", "Frequency", "Progress", "Replay", "labels_of", "open_log", "replay"]

T = TypeVar("T")
R = TypeVar("R")
Progress: TypeAlias = Callable[[int, int], None]
"""Told now and then: rows done, rows in all."""

_PATIENCE = 1.0


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

    - `log`: an opened log, of whose labels those count that the policy asks about; or the options of one, which is then
      opened with just these labels.
    - `store`: in memory, or a real server. There the keys have a prefix of their own, and are deleted at the end unless
      `keep` is set.
    - `time_zone`: takes the place of the policy's. A row's own `timezone` goes before both.
    - `processes`: how many judge visitors at once, in memory; the figures are the same. Others begin by importing the
      script that runs, so with more than one, call this below `if __name__ == "__main__":`.

    Raises LogError for a row that makes no sense, InputError for a wrong argument, StoreError where the server fails.
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
    in_force = _in_force(policy, time_zone)
    begun = time.perf_counter()
    with log.tables() as tables:
        wanted = labels_of(policy)
        labels = [label for label in log.label_names if label in wanted]
        count = _Count(in_force, log, Numbered(log, tables, labels), labels, progress)
        if in_memory:
            count.in_memory(processes)
            return count.result(policy, time.perf_counter() - begun, None)
        opened_store = open_store(store, _PATIENCE)
        judge = StoreJudge(in_force, opened_store, f"rt:replay-{secrets.token_hex(4)}:")
        try:
            count.on_store(judge)
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


# -- counting ----------------------------------------------------------------------------------------------------------


class _Count:
    """Has every row judged, and adds up what the log holds and what the policy takes from it."""

    def __init__(
        self, policy: Policy, log: Log, rows: Numbered, labels: Sequence[str], progress: Progress | None
    ) -> None:
        """Raises LogError for a row that makes no sense."""
        self.policy, self.log, self.rows, self.labels, self.progress = policy, log, rows, labels, progress
        self.ads = Retargeter(policy, "memory://", clock=lambda: 0)
        self.losses = Losses()
        self.done = self.unknown = 0
        meanings = Meanings(policy, labels)
        self.meanings = [_of_row(kind.first, meanings.of, kind) for kind in rows.kinds]
        self.kinds = [kind._replace(price=self._price(kind.campaign)) for kind in rows.kinds]
        longest = rows.longest_id()
        if longest is not None:
            _of_row(longest[1], self.ads.export, longest[0])  # raises what the library says to an id that is too long

    def in_memory(self, processes: int) -> None:
        """Take one visitor after the other."""
        for losses, rows in share_losses(self.rows.by_visitor(), self.policy, self.kinds, self.labels, processes):
            self.losses.add(losses)
            self._tell(rows)
        self._nobody()

    def on_store(self, judge: StoreJudge) -> None:
        """Take the rows as they came."""
        people: defaultdict[str, Followed] = defaultdict(lambda: Followed(self.losses))
        for place, (visitor, at, number, cost, value) in enumerate(self.rows.by_time(), 1):
            why = judge.take(visitor, self.meanings[number], at)
            people[visitor].row(self.kinds[number], why, cost, value)
            if place % BATCH == 0:
                self._tell(BATCH)
        for one in people.values():
            one.leave()
        self.losses.dropped = judge.finish()
        self._nobody()

    def _nobody(self) -> None:
        """Take the rows without a visitor: the policy's answer and the clock's, without any history."""
        for share in self.rows.unknown():
            denials: Denials = {}
            for place, (at, number) in enumerate(zip(share.seconds, share.kinds, strict=True)):
                _, ad, zone = self.meanings[number]
                if ad is None:
                    continue
                if self.policy.on_unknown_visitor == "block":  # as `decide` says, too, but it would look at the clock
                    denials[place] = "unknown visitor", "unknown visitor"
                elif not (said := self.ads.decide(None, (ad,), now=at, timezone=zone)[ad]):
                    denials[place] = denial(said)
            self.unknown = follow(share, 0, len(share.seconds), denials, self.kinds, self.losses).impressions
        self._tell(self.log.count - self.done)

    def _tell(self, rows: int) -> None:
        self.done += rows
        if self.progress is not None:
            self.progress(self.done, self.log.count)

    def _price(self, campaign: str | None) -> int:
        rules = self.policy.rules(campaign) if campaign is not None else None
        return round(rules.cost * UNIT) if rules is not None else 0

    def result(self, policy: Policy, seconds: float, prefix: str | None) -> Replay:
        """What was counted. `policy` is the one that was asked about."""
        tallies: defaultdict[str, Tally] = defaultdict(Tally)
        for kind in self.kinds:
            if kind.campaign is not None and kind.event in (IMPRESSION, "click", "conversion"):
                tallies[kind.campaign].hold(kind)
        for campaign, tally in self.losses.tallies.items():
            tallies[campaign].add(tally)
        total = Tally()
        for tally in tallies.values():
            total.add(tally)
        in_order = sorted(tallies, key=lambda id_: (-tallies[id_].impressions, id_))
        before, after = self.rows.frequency, Counter(self.rows.frequency)
        for (was, will_be), visitors in self.losses.visitors.items():
            after[was] -= visitors
            after[will_be] += visitors
        unreached = after.pop(0, 0)
        moments = [_utc(kind.first) for kind in self.kinds]
        return Replay(
            total=total.figures(),
            campaigns={id_: tallies[id_].figures() for id_ in in_order},
            visitors=sum(before.values()),
            reached=sum(before.values()) - unreached,
            unknown_visitors=self.unknown,
            dropped=self.losses.dropped,
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
    """What is made of a row's part, or the error that says which row the library cannot take."""
    try:
        return make(of)
    except InputError as error:
        raise LogError(f"the row of {_utc(at).isoformat()}: {error}") from error


def _utc(moment: int) -> datetime:
    return datetime.fromtimestamp(moment, UTC)
