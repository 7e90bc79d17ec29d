"""Memory of a visitor: the difference of `used_memory`, divided by the number of added visitors.

Rules:
- The server is started here, with jemalloc, and empty before each row; clients and scripts are counted before.
- A few visitors are recorded through each library's own calls; the server copies their keys for the others, which
  leaves the same bytes (a test compares them).
- No contestant's prefix is longer than retarget's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

import redis

from benchmarks import data, rivals
from benchmarks.data import DAY, HOUR, Cap
from benchmarks.runner import Say, installed
from benchmarks.servers import client
from retarget import Policy, Retargeter

PREFIX = "rt:"
OURS, SET = "retarget", "SET key 8-bytes EX"
TARGET = 1.7
"""The ratio to a bare SET, for eight impressions over four campaigns with short ids."""

_LONG = "-0000-4000-8000-000000000000"
_TEMPLATES = 1_000


class Layout(NamedTuple):
    """Histories and ids: each template's impressions, as (number of the campaign, seconds ago)."""

    name: str
    ids: str
    histories: list[list[tuple[int, int]]]

    @property
    def impressions(self) -> float:
        return sum(map(len, self.histories)) / len(self.histories)

    def campaign(self, number: int) -> str:
        return f"c{number + 1:07d}{_LONG}" if self.ids == "long" else f"c{number + 1}"

    def template(self, number: int) -> str:
        return data.template(number) + (_LONG if self.ids == "long" else "")


def layouts(seed: int = 1) -> Iterator[Layout]:
    """Eight impressions over four campaigns; and as many as in real logs, over twenty campaigns."""
    eight = [(number % 4, HOUR + number * 18 * HOUR) for number in range(8)]
    for ids in ("short", "long"):
        yield Layout("8 impressions over 4 campaigns", ids, [eight])
    random = Random(seed)
    like_logs = []
    for _ in range(_TEMPLATES):
        shown = data.like_a_log(random)
        favourites = [random.randrange(20) for _ in range(1 + shown // 4)]
        like_logs.append([(random.choice(favourites), random.randrange(HOUR, 6 * DAY)) for _ in range(shown)])
    for ids in ("short", "long"):
        yield Layout("as in real logs", ids, like_logs)


def rules(campaign: str) -> tuple[Cap, ...]:
    """One cap, over seven days."""
    return (Cap(campaign, 10, 7),)


def policy(layout: Layout, campaigns: int = 20) -> Policy:
    named = map(layout.campaign, range(campaigns))
    return Policy.model_validate({"campaign": {name: {"caps": ["10 per 7 days"]} for name in named}})


def measured(url: str, *, visitors: int, names: Sequence[str], chosen: Sequence[Layout], say: Say) -> list[Any]:
    """A row for each layout and contestant. Empties the server before each."""
    rows: list[dict[str, Any]] = []
    for layout in chosen:
        least: float | None = None
        for name in (SET, OURS, *names):
            role = {SET: "floor", OURS: "retarget"}.get(name, "rival")
            row = {"history": layout.name, "ids": layout.ids, "impressions": layout.impressions, "name": name}
            row |= {"role": role, "visitors": visitors, "note": ""}
            package = rivals.RIVALS[name][0] if role == "rival" else None
            if not installed(package):
                rows.append(row | {"status": "missing", "note": f"{package} is not installed"})
                continue
            size = bytes_per_visitor(url, visitors, _loader(name, layout))
            least = size if name == SET else least
            beside = None if least is None else size / least
            rows.append(row | {"status": "measured", "bytes": size, "beside_set": beside})
            say(f"memory: {layout.name}, {layout.ids} ids, {name}: {size:.0f} bytes")
    return rows


def bytes_per_visitor(url: str, visitors: int, load: Callable[[str, int], None]) -> float:
    """Load visitors into the emptied server: bytes per visitor."""
    with client(url) as connected:
        load(url, 1)  # scripts and connections are then counted already
        connected.flushall()
        before = settled(connected)
        load(url, visitors)
        return (settled(connected) - before) / visitors


def settled(connected: redis.Redis) -> int:
    """`used_memory` once it no longer changes (a server rehashes gradually)."""
    used, patience = -1, 200
    while patience:
        now = int(connected.info("memory")["used_memory"])
        if now == used:
            break
        used, patience = now, patience - 1
        time.sleep(0.15)
    return used


def _loader(name: str, layout: Layout) -> Callable[[str, int], None]:
    if name == SET:
        return lambda url, visitors: _set(url, visitors, layout)
    if name == OURS:
        return lambda url, visitors: load(url, visitors, layout, policy(layout))

    def rival(url: str, visitors: int) -> None:
        own = rivals.make(name, url, PREFIX, rules)
        for number, history in enumerate(layout.histories):
            for shown, _ in history:
                own.record(layout.template(number), layout.campaign(shown))
        own.close()
        data.copy(url, PREFIX, visitors)

    return rival


def load(url: str, visitors: int, layout: Layout, policy: Policy) -> None:
    """Load visitors with the histories of a layout, as retarget stores them."""
    now = int(time.time())
    with Retargeter(policy, url, timeout=1, prefix=PREFIX) as ads:
        for number, history in enumerate(layout.histories):
            happened = [("impression", layout.campaign(shown), age) for shown, age in history]
            ads.record_many(data.events(layout.template(number), happened, now))
    data.copy(url, PREFIX, visitors)


def _set(url: str, visitors: int, layout: Layout) -> None:
    tail = _LONG if layout.ids == "long" else ""
    with client(url) as connected:
        for start in range(0, visitors, 1_000):
            numbers = range(start, min(visitors, start + 1_000))
            keys = [f"{PREFIX}1:{data.visitor(number)}{tail}" for number in numbers]
            data.pipelined(connected, (("SET", key, b"8 bytes.", "EX", 7 * DAY) for key in keys))
