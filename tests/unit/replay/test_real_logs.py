"""Real logs under one cap: the figures are those of a count by hand, in memory and on a server."""

from __future__ import annotations

import csv
import gzip
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
import redis

from retarget.demo.traffic import shop, write_csv
from retarget.logs import Log, LogOptions
from retarget.operate import EmbeddedServer
from retarget.policy import Policy
from retarget.replay.run import replay
from tests.support.replays import facts, row, run

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
DAY = 86_400
WINDOWS = {"60 seconds": 60, "10 minutes": 600, "hour": 3_600, "day": DAY, "7 days": 7 * DAY, "lifetime": 400 * DAY}
CAPS = ("1 per 60 seconds", "1 per 10 minutes", "3 per hour", "3 per day", "10 per 7 days", "3 per lifetime")
COUNTED_BY_HAND = {
    ("ipinyou", None): (406, 789, 18, 30, 0, 30),
    ("ipinyou", "creative"): (282, 598, 10, 14, 0, 14),
    ("bts_men", None): (358, 2_075, 1_796, 7_773, 8_502, 9_406),
    ("bts_men", "item"): (52, 452, 158, 3_060, 3_414, 5_926),
}
CALENDAR = {
    (None, "UTC"): 7_617,
    (None, "Asia/Shanghai"): 7_500,
    ("item", "UTC"): 2_636,
    ("item", "Asia/Shanghai"): 2_520,
}


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """A Valkey for the tests of this file."""
    with EmbeddedServer() as running:
        yield running


class Seen(NamedTuple):
    """An impression of a log, for counting by hand."""

    at: int
    visitor: str
    label: str


class RealLog(NamedTuple):
    """A log with its impressions, and whether it is the real one or stands in for it."""

    log: Log
    rows: list[Seen]
    real: bool


def stand_in(path: Path, label: str) -> tuple[LogOptions, list[Seen]]:
    """A synthetic shop's impressions, where the real log is missing."""
    rows = [one for one in shop(visitors=400, days=9) if one.event == "impression"]
    write_csv(rows, path)
    seen = [Seen(one.at, one.visitor, one.creative) for one in rows]
    return LogOptions((path,), {label: "creative", "id": "NULL"}, labels=(label,)), seen


def in_shanghai(digits: str) -> int:
    """The second of a time as iPinYou writes it."""
    local = datetime.strptime(digits[:14], "%Y%m%d%H%M%S").replace(tzinfo=ZoneInfo("Asia/Shanghai"))
    return int(local.timestamp())


@pytest.fixture(scope="module")
def real_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RealLog]]:
    """The impressions of iPinYou and of the Open Bandit, or what stands in for them; each opened once."""
    folder = tmp_path_factory.mktemp("logs")
    ipinyou, bandit = DATA / "ipinyou/imp.20131021.adv2821.limit1000.txt.gz", DATA / "open_bandit/bts_men.csv.gz"
    found: dict[str, RealLog] = {}
    if ipinyou.exists():
        with gzip.open(ipinyou, "rt", encoding="utf-8") as text:
            cells = [line.rstrip("\n").split("\t") for line in text]
        options = LogOptions(
            (ipinyou,),
            {
                "at": "strptime(column01[:14], '%Y%m%d%H%M%S')",
                "visitor": "column03",
                "creative": "column18",
                "bid": "column00",
            },
            time_zone="Asia/Shanghai",
            header=False,
            delimiter="\t",
            quote="",
            campaign="2821",
            labels=("creative", "bid"),
        )
        seen = [Seen(in_shanghai(cell[1]), cell[3], cell[18]) for cell in cells]
    else:
        options, seen = stand_in(folder / "ipinyou.csv", "creative")
    found["ipinyou"] = RealLog(Log(options), seen, ipinyou.exists())
    if bandit.exists():
        features = [f"user_feature_{number}" for number in range(4)]
        with gzip.open(bandit, "rt", encoding="utf-8") as text:
            lines = list(csv.DictReader(text))
        options = LogOptions(
            (bandit,),
            {"at": "timestamp", "visitor": " || ".join(features), "item": "item_id"},
            campaign="bts",
            labels=("item",),
        )
        seen = [
            Seen(
                int(datetime.fromisoformat(line["timestamp"]).timestamp() // 1),
                "".join(line[feature] for feature in features),
                line["item_id"],
            )
            for line in lines
        ]
    else:
        options, seen = stand_in(folder / "bandit.csv", "item")
    found["bts_men"] = RealLog(Log(options), seen, bandit.exists())
    yield found
    for one in found.values():
        one.log.close()


def policy_for(cap: str, label: str | None) -> Policy:
    """One cap: per visitor, or per visitor and label."""
    return Policy.from_text(f'[caps]\n{label} = ["{cap}"]' if label else f'[annoyance]\nthreshold = ["{cap}"]')


def counted_here(rows: list[Seen], limit: int, seconds: int | ZoneInfo, label: str | None) -> int:
    """How many impressions one cap suppresses, in a few lines that share nothing with the library."""
    served: dict[tuple[str, str], list[int]] = {}
    suppressed = 0
    for seen in sorted(rows, key=lambda one: one.at):
        shown = served.setdefault((seen.visitor, seen.label if label else ""), [])
        if isinstance(seconds, int):
            since = seen.at - seconds
        else:
            local = datetime.fromtimestamp(seen.at, seconds)
            since = int(local.replace(hour=0, minute=0, second=0).timestamp())
        if len(shown) - bisect_right(shown, since - 1) < limit:
            shown.append(seen.at)
        else:
            suppressed += 1
    return suppressed


def expected(one: RealLog, by_hand: int, cap: str, seconds: int | ZoneInfo, label: str | None) -> int:
    """The figure counted here, which for the real log must be the one counted by hand."""
    here = counted_here(one.rows, int(cap.split()[0]), seconds, label)
    assert not one.real or here == by_hand
    return here


@pytest.mark.parametrize(("name", "label"), COUNTED_BY_HAND)
def test_real_logs(real_logs: dict[str, RealLog], name: str, label: str | None) -> None:
    """Each cap suppresses exactly as many impressions as a count by hand, per visitor and per label."""
    one = real_logs[name]
    for cap, by_hand in zip(CAPS, COUNTED_BY_HAND[name, label], strict=True):
        seconds = WINDOWS[cap.partition(" per ")[2]]
        result = replay(one.log, policy_for(cap, label))
        assert result.suppressed == expected(one, by_hand, cap, seconds, label), cap
        assert result.impressions == result.events == len(one.rows)
        assert result.served == result.impressions - result.suppressed
        assert sum(result.suppressed_by.values()) == result.suppressed


@pytest.mark.parametrize(("label", "zone"), CALENDAR)
def test_real_logs_by_the_calendar(real_logs: dict[str, RealLog], label: str | None, zone: str) -> None:
    """A calendar day is that of the given time zone."""
    one = real_logs["bts_men"]
    result = replay(one.log, policy_for("3 per calendar day", label), time_zone=zone)
    cap = "3 per calendar day"
    assert result.suppressed == expected(one, CALENDAR[label, zone], cap, ZoneInfo(zone), label)


@pytest.mark.parametrize(
    ("name", "label", "number"),
    [("ipinyou", None, 0), ("ipinyou", "creative", 1), ("bts_men", None, 2), ("bts_men", "item", 3)],
)
def test_real_logs_on_a_server(
    real_logs: dict[str, RealLog], server: EmbeddedServer, name: str, label: str | None, number: int
) -> None:
    """A real server, asked in time order, gives the same figures as memory, and is left empty."""
    one, cap = real_logs[name], CAPS[number]
    result = replay(one.log, policy_for(cap, label), store=server.url)
    by_hand = COUNTED_BY_HAND[name, label][number]
    assert result.suppressed == expected(one, by_hand, cap, WINDOWS[cap.partition(" per ")[2]], label)
    assert facts(result) == facts(replay(one.log, policy_for(cap, label)))
    with redis.Redis.from_url(server.url) as client:
        assert client.dbsize() == 0


def test_double_fired_impressions(real_logs: dict[str, RealLog]) -> None:
    """An impression whose id was seen before is counted once and reported; iPinYou's log has 40."""
    one = real_logs["ipinyou"]
    if one.real:
        rows = [seen for batch in one.log.rows() for seen in batch]
        mapped = [seen._replace(id=seen.labels[1]) for seen in rows]
        repeats, share = 40, ("ipinyou", 1)
    else:
        made = [seen for seen in shop(visitors=600, days=9) if seen.event == "impression"]
        mapped = [row(seen.at, seen.visitor, seen.subject, seen.creative, "", id=seen.id) for seen in made]
        repeats, share = len(made) - len({seen.id for seen in made}), ("shop", 1)
    assert share[1] <= repeats
    result = run('[annoyance]\nthreshold = ["1 per 60 seconds"]', mapped, "creative", "bid")
    firsts = {seen.id: Seen(seen.at, seen.visitor or "", "") for seen in sorted(mapped, key=lambda seen: -seen.at)}
    assert result.repeated == repeats
    assert result.suppressed == counted_here(list(firsts.values()), 1, 60, None)
    assert result.impressions == len(mapped) == result.served + result.suppressed + result.repeated
