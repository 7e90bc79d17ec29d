"""Logs made of rows, and replays of them: in memory and through a store, which must agree."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from retarget.demo.traffic import shop
from retarget.logs import Log, LogOptions
from retarget.logs.log import LogRow
from retarget.policy import Policy
from retarget.replay import Replay, replay
from retarget.stores import MemoryStore

MONDAY = 1_793_577_600  # 2026-11-02 00:00 UTC
EVERYTHING = """
        timezone = "Europe/Zurich"
        session = "20 minutes"
        [annoyance]
        threshold = ["9 per calendar day", "20 per 7 days"]
        points = { video = 2, email = 3 }
        [annoyance.segment.buyers]
        who = [{ any = ["purchase within 30 days", "signup newsletter"] }]
        threshold = ["4 per calendar week"]
        [caps]
        creative = ["4 per day"]
        item = [{ cap = "6 per 2 days", spread = true }]
        "channel:email" = ["2 per calendar month"]
        [defaults]
        caps = ["6 per session", "3 per calendar hour"]
        exclude = ["dismiss {campaign}", "2 click advertiser:{advertiser} within 3 days"]
        [campaign.brand]
        hours = "07:00-22:00"
        start = 2026-11-04
        end = 2026-11-12
        caps = ["5 per flight"]
        [campaign.phone-comeback]
        audience = [{ any = ["visit product/phone within 6 hours", "visit category/phones within 4 hours"] }]
        gap = "90 seconds"
        days = "mon-sat"
        [campaign.cart-reminder]
        counts = false
        [campaign.laptop-week]
        obeys = false
    """


def row(
    at: int,
    visitor: str | None = "v",
    campaign: str | None = "c",
    *labels: str | None,
    event: str = "impression",
    subject: str | None = None,
    id: str | None = None,  # noqa: A002 - the field's word
    cost: float | None = None,
    value: float | None = None,
    click: bool = False,
    conversion: bool = False,
    timezone: str | None = None,
) -> LogRow:
    """A row of a log."""
    return LogRow(at, visitor, event, campaign, subject, id, cost, value, click, conversion, timezone, labels)


def opened(rows: Iterable[LogRow], *label_names: str) -> Log:
    """The rows as an opened log."""
    names = (*LogRow._fields[:-1], *label_names)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            write = csv.writer(file).writerow
            write(names)
            for one in rows:
                write([*one[:-1], *one.labels])
        return Log(LogOptions((path,), columns=names, header=True, delimiter=",", labels=label_names))


def run(policy: str | Policy, rows: Iterable[LogRow], *label_names: str, **options: Any) -> Replay:
    """Replay rows; in memory and through a store, which must agree in everything but the time it took."""
    rules = Policy.from_text(policy) if isinstance(policy, str) else policy
    with opened(rows, *label_names) as log:
        result = replay(log, rules, **options)
        assert facts(result) == facts(replay(log, rules, **{"store": MemoryStore(), **options}))
    return result


def facts(result: Replay) -> dict[str, Any]:
    """All figures but how long it took; rules with their kinds, too."""
    timeless = {key: value for key, value in result.to_dict().items() if key not in ("seconds", "events_per_second")}
    return timeless | {"rules": result.total.rules}


def shop_rows(visitors: int) -> list[LogRow]:
    """A shop's weeks, with visitors in three time zones."""
    return [
        row(
            one.at,
            one.visitor,
            one.subject if one.event in ("impression", "click", "conversion", "dismiss") else None,
            *(label or None for label in (one.channel, one.advertiser, one.creative, one.item)),
            event=one.event,
            subject=one.subject,
            id=one.id or None,
            cost=one.cost or None,
            value=one.value or None,
            timezone=("Asia/Tokyo", None, "America/New_York")[number % 3],
        )
        for number, one in enumerate(shop(visitors=visitors, days=14, seed=5))
    ]
