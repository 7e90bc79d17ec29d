"""What people write themselves over Redis: sorted sets, and counters per day, both pipelined and as good as they get.

Neither is atomic: between the check and the write, another server may use up the cap.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol

from benchmarks import data
from benchmarks.data import DAY, Cap
from benchmarks.servers import client

Rules = Callable[[str], Sequence[Cap]]
Audience = Callable[[str], str | None]


class Rival(Protocol):
    """What a rival can do of the job."""

    def decide(self, visitor: str, candidates: Sequence[str]) -> list[str]:
        """The candidates that the rules allow, in order. Raises NotImplementedError if asking would count."""

    def claim(self, visitor: str, ranked: Sequence[str]) -> str | None:
        """Count an impression of the first candidate that the rules allow, and return it."""

    def record(self, visitor: str, campaign: str) -> None:
        """Count an impression."""

    def close(self) -> None:
        """Close connections."""


class SortedSets:
    """A sorted set per visitor and subject, scored by time: one ZCOUNT answers one rule, exactly.

    With `once`, candidates share the ZCOUNT of a rule they have in common; without, one ZCOUNT per rule and candidate.
    """

    def __init__(
        self, url: str, prefix: str, rules: Rules = data.caps, audience: Audience = data.product, *, once: bool = True
    ) -> None:
        self._redis, self._prefix, self._rules, self._audience, self._once = client(url), prefix, rules, audience, once

    def visit(self, visitor: str, product: str) -> None:
        self._add(visitor, [(f"visit {product}", 30 * DAY)])

    def record(self, visitor: str, campaign: str) -> None:
        longest: dict[str, int] = {}
        for cap in self._rules(campaign):
            longest[cap.subject] = max(longest.get(cap.subject, 0), cap.days * DAY)
        self._add(visitor, longest.items())

    def _add(self, visitor: str, subjects: Iterable[tuple[str, int]]) -> None:
        now = time.time()
        with self._redis.pipeline(transaction=False) as pipe:
            for subject, seconds in subjects:
                key = self._key(visitor, subject)
                pipe.zadd(key, {secrets.token_bytes(5): now})
                pipe.zremrangebyscore(key, "-inf", now - seconds)
                pipe.expire(key, seconds)
            pipe.execute()

    def decide(self, visitor: str, candidates: Sequence[str]) -> list[str]:
        return self.decide_many([visitor], candidates)[0]

    def decide_many(self, visitors: Sequence[str], candidates: Sequence[str]) -> list[list[str]]:
        wanted = [(candidate, self._rules(candidate), self._audience(candidate)) for candidate in candidates]
        asked: list[tuple[str, int]] = []
        for _, rules, product in wanted:
            asked += [(cap.subject, cap.days) for cap in rules]
            if product is not None:
                asked += [(f"visit {product}", 30), ("purchase", 90)]
        questions = list(dict.fromkeys(asked)) if self._once else asked
        now = time.time()
        with self._redis.pipeline(transaction=False) as pipe:
            for visitor in visitors:
                for subject, days in questions:
                    pipe.zcount(self._key(visitor, subject), now - days * DAY, "+inf")
            replies = iter(pipe.execute())
        answers = []
        for _ in visitors:
            counts = dict(zip(questions, islice(replies, len(questions)), strict=True))
            answers.append([candidate for candidate, rules, product in wanted if _fits(counts, rules, product)])
        return answers

    def claim(self, visitor: str, ranked: Sequence[str]) -> str | None:
        allowed = self.decide(visitor, ranked)
        if not allowed:
            return None
        self.record(visitor, allowed[0])
        return allowed[0]

    def _key(self, visitor: str, subject: str) -> str:
        return f"{self._prefix}{visitor}:{subject}"

    def close(self) -> None:
        self._redis.close()


class DayCounters:
    """A hash of counters per visitor and day. A window is a number of calendar days, so twice a day's cap may be shown
    around midnight, and a rolling window is only approximate.
    """

    def __init__(self, url: str, prefix: str, rules: Rules = data.caps, audience: Audience = data.product) -> None:
        self._redis, self._prefix, self._rules, self._audience = client(url), prefix, rules, audience

    def visit(self, visitor: str, product: str) -> None:
        self._redis.set(f"{self._prefix}{visitor}:visit {product}", 1, ex=30 * DAY)

    def record(self, visitor: str, campaign: str) -> None:
        rules = self._rules(campaign)
        key = self._days(visitor, 1)[0]
        with self._redis.pipeline(transaction=False) as pipe:
            for subject in {cap.subject: None for cap in rules}:
                pipe.hincrby(key, subject, 1)
            pipe.expire(key, (max(cap.days for cap in rules) + 1) * DAY)
            pipe.execute()

    def decide(self, visitor: str, candidates: Sequence[str]) -> list[str]:
        return self.decide_many([visitor], candidates)[0]

    def decide_many(self, visitors: Sequence[str], candidates: Sequence[str]) -> list[list[str]]:
        wanted = [(candidate, self._rules(candidate), self._audience(candidate)) for candidate in candidates]
        products = list({product: None for _, _, product in wanted if product is not None})
        about = [*(f"visit {product}" for product in products), "purchase"]
        longest = max(cap.days for _, rules, _ in wanted for cap in rules)
        with self._redis.pipeline(transaction=False) as pipe:
            for visitor in visitors:
                for key in self._days(visitor, longest):
                    pipe.hgetall(key)
                pipe.mget([f"{self._prefix}{visitor}:{what}" for what in about])
            replies = iter(pipe.execute())
        answers = []
        for _ in visitors:
            *days, last = islice(replies, longest + 1)
            counted = [{name.decode(): int(count) for name, count in day.items()} for day in days]
            windows = {(cap.subject, cap.days) for _, rules, _ in wanted for cap in rules}
            counts = {(subject, n): sum(day.get(subject, 0) for day in counted[:n] if day) for subject, n in windows}
            counts |= {(what, 30): int(seen is not None) for what, seen in zip(about[:-1], last, strict=False)}
            counts["purchase", 90] = int(last[-1] is not None)
            answers.append([candidate for candidate, rules, product in wanted if _fits(counts, rules, product)])
        return answers

    def claim(self, visitor: str, ranked: Sequence[str]) -> str | None:
        allowed = self.decide(visitor, ranked)
        if not allowed:
            return None
        self.record(visitor, allowed[0])
        return allowed[0]

    def _days(self, visitor: str, count: int) -> list[str]:
        today = datetime.now(UTC).date()
        return [f"{self._prefix}{visitor}:{today - timedelta(days=ago):%Y%m%d}" for ago in range(count)]

    def close(self) -> None:
        self._redis.close()


def _fits(counts: Mapping[tuple[str, int], int], rules: Sequence[Cap], product: str | None) -> bool:
    """Whether a candidate's rules hold, given the counts by (subject, days)."""
    return all(counts[cap.subject, cap.days] < cap.limit for cap in rules) and (
        product is None or (counts[f"visit {product}", 30] > 0 and not counts["purchase", 90])
    )
