"""The data: policies, histories, and visitors with these histories. The same for every contestant and every run.

Rules:
- The six rules of a campaign are defined once, here; retarget's policy and the rivals' queries derive from them.
- A history is (event, subject, seconds ago). Times are hours away from the end of any window, so that a long run does
  not change an answer.
- Most visitors are copies: a few are recorded through each library's own calls, and the server copies their keys (DUMP,
  RESTORE), which leaves the same bytes in memory.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import redis

from benchmarks.servers import client
from retarget import Event, Policy

HOUR, DAY = 3_600, 86_400
ADVERTISERS = 10
PRODUCTS = 6


class Cap(NamedTuple):
    """At most `limit` impressions of a subject (a campaign, a label, "*" for all) within `days`."""

    subject: str
    limit: int
    days: int


Happened = tuple[str, str, int]
"""Event, subject, seconds ago."""


# -- the six rules -----------------------------------------------------------------------------------------------------


def campaign(number: int) -> str:
    return f"campaign-{number}"


def number_of(name: str) -> int:
    return int(name.rpartition("-")[2])


def subjects(name: str) -> tuple[str, str, str]:
    """The subjects that an impression counts under: its campaign, its advertiser, everything."""
    return name, f"advertiser:advertiser-{number_of(name) % ADVERTISERS}", "*"


def caps(name: str) -> tuple[Cap, ...]:
    """The four rules of a campaign that count impressions."""
    own, advertiser, everything = subjects(name)
    return Cap(own, 3, 1), Cap(own, 10, 30), Cap(advertiser, 8, 1), Cap(everything, 30, 7)


def product(name: str, products: int = PRODUCTS) -> str:
    """The product that a visitor must have visited within 30 days to be shown a campaign; a purchase within 90 days
    forbids it.
    """
    return f"product-{number_of(name) % products}"


def policy(campaigns: int = 50, products: int = PRODUCTS) -> Policy:
    """Campaigns with six rules each: two caps, an advertiser's cap, the annoyance threshold, audience, exclusion."""
    return Policy.model_validate(
        {
            "annoyance": {"threshold": ["30 per 7 days"]},
            "caps": {"advertiser": ["8 per day"]},
            "campaign": {
                name: {
                    "labels": {"advertiser": f"advertiser-{number_of(name) % ADVERTISERS}"},
                    "audience": [f"visit {product(name, products)} within 30 days"],
                    "exclude": ["purchase within 90 days"],
                    "caps": ["3 per day", "10 per 30 days"],
                }
                for name in map(campaign, range(campaigns))
            },
        }
    )


# -- histories ---------------------------------------------------------------------------------------------------------


def visits(count: int = 5) -> list[Happened]:
    return [("visit", f"product-{number}", 2 * HOUR) for number in range(count)]


def today() -> list[Happened]:
    """The visitor of the first case: 20 timelines, five visits and 17 impressions of the last minutes.

    One campaign and one advertiser are at their caps: of fifty, six are blocked by a cap and eight by their audience.
    """
    shown = {0: 3, 10: 1, 20: 1, 1: 3, 11: 3, 21: 2, 2: 1, 12: 1, 3: 1, 13: 1}
    impressions = [number for number, times in shown.items() for _ in range(times)]
    return visits() + [("impression", campaign(number), 60 * (17 - at)) for at, number in enumerate(impressions)]


def with_timelines(count: int) -> list[Happened]:
    """A history of exactly 0, 5, 20 or 100 timelines under a policy of 500 campaigns."""
    visited, shown, advertisers = {0: (0, 0, 1), 5: (2, 1, 1), 20: (5, 10, 4), 100: (5, 84, 10)}[count]
    numbers = [number * ADVERTISERS + label for number in range(50) for label in range(advertisers)][:shown]
    # One impression per advertiser is today's, or the advertiser's timeline of one day would expire; the others are
    # 2 to 22 days old.
    recent = [HOUR + place * HOUR // 2 for place in range(advertisers)]
    older = [2 * DAY + (place * 7 * HOUR) % (20 * DAY) for place in range(shown)]
    ages = [*recent, *older][:shown]
    return visits(visited) + [("impression", campaign(number), age) for number, age in zip(numbers, ages, strict=True)]


def twenty_impressions() -> list[Happened]:
    """Five visits, and one impression of each of twenty campaigns, 25 hours apart."""
    return visits() + [("impression", campaign(number), 2 * HOUR + number * (DAY + HOUR)) for number in range(20)]


def first_three_capped() -> list[Happened]:
    """The same, with the first three candidates at their cap of three per day."""
    capped = [("impression", ranked()[place], 5 * HOUR - 60 * time) for place in range(3) for time in range(3)]
    return twenty_impressions() + capped


def ranked() -> list[str]:
    """Ten ranked candidates for a claim, whose audiences the visitors are in."""
    return [campaign(number) for number in range(50) if number % PRODUCTS != PRODUCTS - 1][:40:4]


def like_a_log(random: Random) -> int:
    """A number of impressions as in real logs of a day to a week: most visitors see one or two, few see dozens."""
    chance = random.random()
    for most, share in ((1, 0.62), (2, 0.79), (3, 0.87), (5, 0.94), (10, 0.98), (25, 0.997)):
        if chance < share:
            return most if most <= 3 else random.randint(most // 2 + 1, most)
    return random.randint(26, 120)


def events(visitor: str, history: Iterable[Happened], now: int) -> list[Event]:
    """A visitor's history as events, oldest first."""
    return [
        Event(visitor, event, subject, at=now - age) for event, subject, age in sorted(history, key=lambda h: -h[2])
    ]


# -- many visitors -----------------------------------------------------------------------------------------------------


def template(number: int) -> str:
    """A visitor who is recorded, then copied; the id is recognisable in a key, and as long as those of the copies."""
    return f"t{number:07d}"


def visitor(number: int) -> str:
    return f"v{number:07d}"


_TEMPLATE = re.compile(rb"t(\d{7})")
_TOGETHER = 500


def copy(url: str, prefix: str, count: int) -> None:
    """Copy the templates under this prefix to `count` visitors in turn, and delete the templates."""
    with client(url) as connected:
        found: dict[bytes, list[tuple[bytes, int, bytes]]] = {}
        for key in sorted(connected.scan_iter(match=f"{prefix}*", count=1_000)):
            match = _TEMPLATE.search(key)
            if match is not None:
                dumped, ttl = connected.dump(key), connected.pttl(key)
                found.setdefault(match[0], []).append((key, max(0, ttl), dumped))
        templates = list(found.items())
        for start in range(0, count, _TOGETHER):
            with connected.pipeline(transaction=False) as pipe:
                for number in range(start, min(count, start + _TOGETHER)):
                    name, entries = templates[number % len(templates)]
                    for key, ttl, dumped in entries:
                        pipe.restore(key.replace(name, visitor(number).encode()), ttl, dumped, replace=True)
                pipe.execute()
        old = [entry[0] for entries in found.values() for entry in entries]
        for start in range(0, len(old), _TOGETHER):
            connected.unlink(*old[start : start + _TOGETHER])


def pipelined(connected: redis.Redis, commands: Iterator[Sequence[object]]) -> list[object]:
    """The replies to commands sent together."""
    with connected.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)  # type: ignore[no-untyped-call]
        replies: list[object] = pipe.execute()
    return replies


def write_log(path: Path, rows: int, campaigns: int = 50, seed: int = 1) -> None:
    """Write a log of a week's impressions, in time order, with visitors as in `like_a_log`."""
    random = Random(seed)
    shown: list[tuple[int, str, str]] = []
    number = 0
    while len(shown) < rows:
        number += 1
        times = min(like_a_log(random), rows - len(shown))
        favourites = [campaign(random.randrange(campaigns)) for _ in range(1 + times // 4)]
        shown += [(1_793_577_600 + random.randrange(7 * DAY), visitor(number), random.choice(favourites))
                  for _ in range(times)]  # fmt: skip
    shown.sort()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("at", "visitor", "campaign"))
        writer.writerows(shown)
