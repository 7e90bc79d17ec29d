"""Rate limiters from PyPI on the same job, used as their docs say, and the construction of all rivals as contestants.

Rules:
- One key per visitor and subject; one query per rule and candidate, stopping at the first that blocks, as their docs
  show: they know no candidates.
- `CANNOT` lists what each does not offer, `BETTER` what it does better; both are printed.
- Packages are imported where they are used: a missing one is reported, and the others run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

from benchmarks import data
from benchmarks.contest import Contestant, Running, Setting
from benchmarks.data import DAY
from benchmarks.floors import PIPELINE
from benchmarks.recipes import DayCounters, Rival, Rules, SortedSets
from benchmarks.servers import client

CAPS_ONLY = "asks the four caps of a candidate, one round trip each; knows no audience and no exclusion"


class Limits:
    """`limits`: a strategy's `test` to check and `hit` to count, over a storage from a URL."""

    def __init__(self, url: str, prefix: str, rules: Rules, strategy: str) -> None:
        from limits import parse, storage, strategies

        self._storage = storage.storage_from_string(url, key_prefix=prefix.rstrip(":"))
        self._limiter = strategies.STRATEGIES[strategy](self._storage)
        self._parse, self._rules = parse, rules
        self._items: dict[str, list[tuple[Any, str]]] = {}

    def _asked(self, campaign: str) -> list[tuple[Any, str]]:
        if campaign not in self._items:
            self._items[campaign] = [
                (self._parse(f"{cap.limit} per {cap.days} day"), cap.subject) for cap in self._rules(campaign)
            ]
        return self._items[campaign]

    def _allowed(self, visitor: str, campaign: str) -> bool:
        return all(self._limiter.test(item, visitor, subject) for item, subject in self._asked(campaign))

    def decide(self, visitor: str, candidates: Sequence[str]) -> list[str]:
        return [candidate for candidate in candidates if self._allowed(visitor, candidate)]

    def claim(self, visitor: str, ranked: Sequence[str]) -> str | None:
        for candidate in ranked:
            if self._allowed(visitor, candidate):
                self.record(visitor, candidate)
                return candidate
        return None

    def record(self, visitor: str, campaign: str) -> None:
        for item, subject in self._asked(campaign):
            self._limiter.hit(item, visitor, subject)

    def close(self) -> None:
        self._storage.get_connection().close()  # type: ignore[union-attr]


class ThrottledPy:
    """`throttled-py`: a `Throttled` per rule, `peek` to check and `limit` to count."""

    def __init__(self, url: str, prefix: str, rules: Rules, using: str) -> None:
        from throttled import Throttled, rate_limiter, store

        self._store = store.RedisStore(server=url)
        self._rules = rules
        self._throttles: dict[tuple[int, int], Any] = {}

        def throttle(limit: int, days: int) -> Any:  # noqa: ANN401 - the package's type
            if (limit, days) not in self._throttles:
                quota = rate_limiter.per_duration(timedelta(days=days), limit)
                self._throttles[limit, days] = Throttled(
                    using=using, quota=quota, store=self._store, key_prefix=f"{prefix}{limit}-{days}"
                )
            return self._throttles[limit, days]

        self._throttle = throttle

    def _allowed(self, visitor: str, campaign: str) -> bool:
        return all(
            self._throttle(cap.limit, cap.days).peek(f"{visitor}:{cap.subject}").remaining > 0
            for cap in self._rules(campaign)
        )

    def decide(self, visitor: str, candidates: Sequence[str]) -> list[str]:
        return [candidate for candidate in candidates if self._allowed(visitor, candidate)]

    def claim(self, visitor: str, ranked: Sequence[str]) -> str | None:
        for candidate in ranked:
            if self._allowed(visitor, candidate):
                self.record(visitor, candidate)
                return candidate
        return None

    def record(self, visitor: str, campaign: str) -> None:
        for cap in self._rules(campaign):
            self._throttle(cap.limit, cap.days).limit(f"{visitor}:{cap.subject}")

    def close(self) -> None:
        """Its client cannot be closed."""


class PyrateLimiter:
    """`pyrate-limiter`: a bucket in Redis per visitor and subject, with several rates each, from a factory."""

    def __init__(self, url: str, prefix: str, rules: Rules) -> None:
        from pyrate_limiter import BucketFactory, Limiter, Rate, RateItem, RedisBucket

        connection = client(url)

        class Buckets(BucketFactory):
            """A bucket per key, made on first use. Old entries are not removed: no run is that long."""

            def __init__(self) -> None:
                self.rates: dict[str, list[Rate]] = {}
                self.buckets: dict[str, RedisBucket] = {}

            def wrap_item(self, name: str, weight: int = 1) -> RateItem:
                return RateItem(name, time.time_ns() // 1_000_000, weight=weight)

            def get(self, item: RateItem) -> RedisBucket:
                if item.name not in self.buckets:
                    rates = self.rates[item.name.partition(" ")[2]]
                    self.buckets[item.name] = RedisBucket.init(rates, connection, f"{prefix}{item.name}")
                return self.buckets[item.name]

        self._connection, self._rules, self._factory, self._rate = connection, rules, Buckets(), Rate
        self._limiter = Limiter(self._factory)

    def _subjects(self, campaign: str) -> list[str]:
        caps = self._rules(campaign)
        subjects = list(dict.fromkeys(cap.subject for cap in caps))
        for subject in subjects:
            if subject not in self._factory.rates:
                own = [self._rate(cap.limit, cap.days * DAY * 1_000) for cap in caps if cap.subject == subject]
                self._factory.rates[subject] = own
        return subjects

    def _acquire(self, visitor: str, subject: str) -> bool:
        return bool(self._limiter.try_acquire(f"{visitor} {subject}", blocking=False))

    def decide(self, visitor: str, candidates: Sequence[str]) -> list[str]:
        raise NotImplementedError("it has no question that does not count")

    def claim(self, visitor: str, ranked: Sequence[str]) -> str | None:
        for candidate in ranked:
            if all(self._acquire(visitor, subject) for subject in self._subjects(candidate)):
                return candidate
        return None

    def record(self, visitor: str, campaign: str) -> None:
        for subject in self._subjects(campaign):
            self._acquire(visitor, subject)

    def close(self) -> None:
        self._limiter.close()
        self._connection.close()


Make = Callable[..., Rival]
"""From url, prefix and rules."""

RIVALS: dict[str, tuple[str | None, Make]] = {
    "limits, moving window": ("limits", lambda u, p, r: Limits(u, p, r, "moving-window")),
    "limits, sliding counter": ("limits", lambda u, p, r: Limits(u, p, r, "sliding-window-counter")),
    "limits, fixed window": ("limits", lambda u, p, r: Limits(u, p, r, "fixed-window")),
    "throttled-py, sliding window": ("throttled-py", lambda u, p, r: ThrottledPy(u, p, r, "sliding_window")),
    "throttled-py, fixed window": ("throttled-py", lambda u, p, r: ThrottledPy(u, p, r, "fixed_window")),
    "pyrate-limiter": ("pyrate-limiter", lambda u, p, r: PyrateLimiter(u, p, r)),
    "sorted sets": (None, lambda u, p, r: SortedSets(u, p, r, _audience(r))),
    "sorted sets, one ZCOUNT per rule": (None, lambda u, p, r: SortedSets(u, p, r, _audience(r), once=False)),
    "counters per day": (None, lambda u, p, r: DayCounters(u, p, r, _audience(r))),
}
"""Each rival: the package it needs, and its constructor."""

MAIN = [name for name in RIVALS if name != "sorted sets, one ZCOUNT per rule"]

NOTES = {
    "limits, moving window": CAPS_ONLY,
    "limits, sliding counter": f"{CAPS_ONLY}; approximate",
    "limits, fixed window": f"{CAPS_ONLY}; up to twice the cap around a window's end",
    "throttled-py, sliding window": f"{CAPS_ONLY}; approximate",
    "throttled-py, fixed window": f"{CAPS_ONLY}; up to twice the cap around a window's end",
    "pyrate-limiter": "one round trip per subject",
    "sorted sets": "all six rules, each question once, pipelined",
    "sorted sets, one ZCOUNT per rule": "all six rules, pipelined",
    "counters per day": "all six rules, a hash per day, pipelined; calendar days: up to twice the cap around midnight",
}

_NO_QUESTION = "cannot: it has no question that does not count"
_ONE_BY_ONE = "cannot: one visitor at a time"
CANNOT: dict[str, dict[str, str]] = {
    "decide": {"pyrate-limiter": _NO_QUESTION},
    "candidates": {"pyrate-limiter": _NO_QUESTION},
    "campaigns": dict.fromkeys(RIVALS, "cannot: the candidates must be named"),
    "hold": dict.fromkeys(RIVALS, "cannot: what is counted stays counted"),
    "decide-many": {name: _ONE_BY_ONE for name, (package, _) in RIVALS.items() if package is not None},
    "record-many": {name: _ONE_BY_ONE for name, (package, _) in RIVALS.items() if package is not None},
}
"""By case: the rivals that cannot do it, and why."""

BETTER = [
    "`limits`: also keeps its counts in Memcached and MongoDB; needs no policy, a limit is made where it is used",
    "`throttled-py`: can wait until there is room; limits of requests per second, with bursts (token bucket, GCRA)",
    "`pyrate-limiter`: can wait until there is room; SQLite and Postgres; judges several rates of a key in one script",
    "Counters per day: plain INCR, in any store and any language; the least to write and to explain",
    "Sorted sets: keep every event, not only the newest, so rules may be added later that look further back",
]
"""What rivals do better."""


def _audience(rules: Rules) -> Callable[[str], str | None]:
    """The six rules include an audience; other rules have none."""
    return data.product if rules is data.caps else lambda _: None


def make(name: str, url: str, prefix: str, rules: Rules = data.caps) -> Rival:
    """A rival that stores its counts under a prefix. Raises ImportError if its package is missing."""
    return RIVALS[name][1](url, prefix, rules)


def build(setting: Setting, name: str, job: str, candidates: int = 50) -> Running:
    """A rival ready for a job: decide, decide-many, claim or record."""
    rival = make(name, setting.url, setting.prefix)
    wanted = [data.campaign(number) for number in range(candidates)]
    if job in ("decide", "candidates"):
        remember(rival, "v-1", data.today())
        return Running(lambda: rival.decide("v-1", wanted), close=rival.close)
    visitors = setting.visitors if job == "decide-many" else max(1, setting.visitors // 3)
    remember(rival, data.template(0), data.twenty_impressions())
    data.copy(setting.url, setting.prefix, visitors)
    if job == "decide-many":
        many = getattr(rival, "decide_many")  # noqa: B009 - only the recipes have it
        chosen = [data.visitor(number) for number in range(min(visitors, PIPELINE // 10))]
        return Running(lambda: many(chosen, wanted), units=len(chosen), close=rival.close)
    numbers, ranked = count(), data.ranked()
    if job == "claim":
        return Running(lambda: rival.claim(data.visitor(next(numbers) % visitors), ranked), close=rival.close)

    def record() -> None:
        rival.record(data.visitor(next(numbers) % visitors), data.campaign(0))

    return Running(record, close=rival.close)


def remember(rival: Rival, visitor: str, history: Sequence[data.Happened]) -> None:
    """Record a history with a rival, as far as it supports the events; everything happens now."""
    for event, subject, _ in history:
        if event == "impression":
            rival.record(visitor, subject)
        elif hasattr(rival, "visit"):
            rival.visit(visitor, subject)


def contestants(job: str, names: Sequence[str]) -> list[Contestant]:
    """These rivals as contestants for a job; those that cannot do it carry the reason."""
    chosen = []
    for name in names:
        why = CANNOT.get(job, {}).get(name)
        ready = None if why else partial(build, name=name, job=job)
        chosen.append(Contestant(name, "rival", ready, RIVALS[name][0], why or NOTES[name]))
    return chosen
