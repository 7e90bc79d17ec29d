"""Replays: true logs counted by hand, the same figures from memory and a server, and what is reported besides."""

from __future__ import annotations

import csv
import gzip
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast
from zoneinfo import ZoneInfo

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retarget.demo.traffic import shop, write_csv
from retarget.errors import InputError, LogError, NotExecuted
from retarget.events import Candidate, Event
from retarget.logs import Log, LogOptions
from retarget.logs.log import LogRow
from retarget.operate import EmbeddedServer
from retarget.policy import Policy
from retarget.replay.figures import Frequency, Replay
from retarget.replay.run import labels_of, open_log, replay
from retarget.stores import MemoryStore
from tests.property.oracle import Oracle
from tests.support.strategies import events, policies, second_of

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
DAY = 86_400
MONDAY = 1_793_577_600  # 2026-11-02 00:00 UTC


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """A Valkey for the tests of this file."""
    with EmbeddedServer() as running:
        yield running


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


# ---- true logs ----


class Seen(NamedTuple):
    """An impression of a log, for counting by hand."""

    at: int
    visitor: str
    label: str


class TrueLog(NamedTuple):
    """A log with what is wanted of it, and whether it is the true one or stands in for it."""

    log: Log
    rows: list[Seen]
    true: bool


def stand_in(path: Path, label: str) -> tuple[LogOptions, list[Seen]]:
    """A made-up shop's impressions, where the true log is not at hand."""
    rows = [one for one in shop(visitors=400, days=9) if one.event == "impression"]
    write_csv(rows, path)
    seen = [Seen(one.at, one.visitor, one.creative) for one in rows]
    return LogOptions((path,), {label: "creative", "id": "NULL"}, labels=(label,)), seen


def in_shanghai(digits: str) -> int:
    """The second of a time as iPinYou writes it."""
    local = datetime.strptime(digits[:14], "%Y%m%d%H%M%S").replace(tzinfo=ZoneInfo("Asia/Shanghai"))
    return int(local.timestamp())


@pytest.fixture(scope="module")
def true_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TrueLog]]:
    """The impressions of iPinYou and of the Open Bandit, or what stands in for them; each opened once."""
    folder = tmp_path_factory.mktemp("logs")
    ipinyou, bandit = DATA / "ipinyou/imp.20131021.adv2821.limit1000.txt.gz", DATA / "open_bandit/bts_men.csv.gz"
    found: dict[str, TrueLog] = {}
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
    found["ipinyou"] = TrueLog(Log(options), seen, ipinyou.exists())
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
    found["bts_men"] = TrueLog(Log(options), seen, bandit.exists())
    yield found
    for one in found.values():
        one.log.close()


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


def expected(one: TrueLog, by_hand: int, cap: str, seconds: int | ZoneInfo, label: str | None) -> int:
    """The figure that was counted by hand for the true log, and for any log the one counted here."""
    here = counted_here(one.rows, int(cap.split()[0]), seconds, label)
    assert not one.true or here == by_hand
    return here


@pytest.mark.parametrize(("name", "label"), COUNTED_BY_HAND)
def test_true_logs(true_logs: dict[str, TrueLog], name: str, label: str | None) -> None:
    """Every cap suppresses exactly the impressions that a count by hand says, per visitor and per visitor and label."""
    one = true_logs[name]
    for cap, by_hand in zip(CAPS, COUNTED_BY_HAND[name, label], strict=True):
        seconds = WINDOWS[cap.partition(" per ")[2]]
        result = replay(one.log, policy_for(cap, label))
        assert result.suppressed == expected(one, by_hand, cap, seconds, label), cap
        assert result.impressions == result.events == len(one.rows)
        assert result.served == result.impressions - result.suppressed
        assert sum(result.suppressed_by.values()) == result.suppressed


@pytest.mark.parametrize(("label", "zone"), CALENDAR)
def test_true_logs_by_the_calendar(true_logs: dict[str, TrueLog], label: str | None, zone: str) -> None:
    """A calendar day is that of the time zone that is asked for."""
    one = true_logs["bts_men"]
    result = replay(one.log, policy_for("3 per calendar day", label), time_zone=zone)
    cap = "3 per calendar day"
    assert result.suppressed == expected(one, CALENDAR[label, zone], cap, ZoneInfo(zone), label)


@pytest.mark.parametrize(
    ("name", "label", "number"),
    [("ipinyou", None, 0), ("ipinyou", "creative", 1), ("bts_men", None, 2), ("bts_men", "item", 3)],
)
def test_true_logs_on_a_server(
    true_logs: dict[str, TrueLog], server: EmbeddedServer, name: str, label: str | None, number: int
) -> None:
    """A real server, asked in time order, comes to the same figures as lists in memory, and is left empty."""
    one, cap = true_logs[name], CAPS[number]
    result = replay(one.log, policy_for(cap, label), store=server.url)
    by_hand = COUNTED_BY_HAND[name, label][number]
    assert result.suppressed == expected(one, by_hand, cap, WINDOWS[cap.partition(" per ")[2]], label)
    assert facts(result) == facts(replay(one.log, policy_for(cap, label)))
    with redis.Redis.from_url(server.url) as client:
        assert client.dbsize() == 0


def test_double_fired_impressions(true_logs: dict[str, TrueLog]) -> None:
    """An impression whose id was there before is counted once, and reported; iPinYou's log has 40."""
    one = true_logs["ipinyou"]
    if one.true:
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


# ---- any log, any policy ----


def as_row(event: Event) -> LogRow:
    """The event as a log would have it."""
    target = event.subject
    labels = dict(target.labels) if isinstance(target, Candidate) else {}
    name = target.campaign if isinstance(target, Candidate) else target
    on_campaign = isinstance(target, Candidate) or event.event == "impression"
    return row(
        second_of(event),
        event.visitor,
        name if on_campaign else None,
        *(labels.get(kind) for kind in ("item", "channel", "advertiser")),
        event=event.event,
        subject=None if on_campaign else name,
        id=event.id,
    )


def by_scanning(policy: Policy, rows: Sequence[LogRow], kinds: tuple[str, ...]) -> Counter[str]:
    """How many impressions of each campaign are served, by an oracle that keeps everything and scans it."""
    oracle, served = Oracle(policy), Counter[str]()
    seen: set[tuple[str | None, str, str]] = set()
    for one in sorted(rows, key=lambda row: row.at):
        assert one.visitor is not None
        if one.id is not None:
            if (one.visitor, one.event, one.id) in seen:
                continue
            seen.add((one.visitor, one.event, one.id))
        labels = {kind: label for kind, label in zip(KINDS, one.labels, strict=True) if label and kind in kinds}
        target = Candidate(one.campaign, **labels) if one.campaign is not None else one.subject
        if one.event != "impression":
            oracle.record(one.visitor, one.event, target, one.at)
        elif oracle.claim(one.visitor, [cast("Candidate", target)], one.at) is not None:
            served[str(one.campaign)] += 1
    return served


KINDS = ("item", "channel", "advertiser")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_any_policy(data: st.DataObject) -> None:
    """Whatever the policy and the log: memory, a store, and an oracle that scans all serve the same impressions."""
    policy = Policy.model_validate(data.draw(policies()))
    rows = [as_row(one) for one in data.draw(st.lists(events(policy), max_size=25))]
    result = run(policy, rows, *KINDS)
    known = policy if policy.defaults is not None else Policy.model_validate(_with_defaults(policy))
    served = by_scanning(known, rows, labels_of(policy))
    assert {id_: one.served for id_, one in result.campaigns.items() if one.served} == dict(served)


def _with_defaults(policy: Policy) -> dict[str, Any]:
    return {**policy.model_dump(exclude_unset=True), "defaults": {}}


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


def test_shop_with_everything() -> None:
    """A shop's weeks through a policy of every kind of rule: memory and a store agree in every figure."""
    result = run(EVERYTHING, shop_rows(250), "channel", "advertiser", "creative", "item")
    reasons = {reason for reason, _ in result.total.rules}
    assert reasons == {"cap", "gap", "annoyance", "audience", "exclude", "hours", "days", "start", "end"}
    assert 0 < result.served < result.impressions


def test_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many processes judge the visitors, and in however many shares, the figures are the same."""
    monkeypatch.setattr("retarget.logs.kinds.CHUNK", 300)
    rows = [*shop_rows(80), row(MONDAY, None, "brand", *[None] * 4, click=True)]
    told: list[tuple[int, int]] = []
    with opened(rows, "channel", "advertiser", "creative", "item") as log:
        policy = Policy.from_text(EVERYTHING)
        alone = facts(replay(log, policy))
        for processes in (2, 3):
            result = replay(log, policy, processes=processes, progress=lambda done, count: told.append((done, count)))
            assert facts(result) == alone
    assert len(told) > 4
    assert told[-1] == (len(rows), len(rows))


def test_processes_out_of_range() -> None:
    """There is at least one process, and only one asks a store."""
    with opened([row(MONDAY)]) as log:
        with pytest.raises(InputError, match="processes=0: it must be at least 1"):
            replay(log, Policy(), processes=0)
        with pytest.raises(InputError, match="processes=2: it must be 1 with a store"):
            replay(log, Policy(), store=MemoryStore(), processes=2)


def test_a_bot_with_more_timelines_than_a_visitor_may_have() -> None:
    """A visitor who is full is treated alike in memory and in a store, and what found no room is told."""
    policy = '[caps]\nitem = ["1 per 7 days"]\n[campaign.c]\nexclude = ["visit {item} within 9 days"]'
    rows = [row(MONDAY + n, "bot", "c", f"item-{n % 640}") for n in range(700)]
    rows += [row(MONDAY + 3_000 + n, "bot", None, event="visit", subject=f"item-{n}") for n in range(20)]
    rows += [row(MONDAY + n, "her", "c", "item-1") for n in range(3)]
    rows = [one._replace(labels=one.labels or (None,)) for one in rows]
    result = run(policy, rows, "item")
    assert result.total.rules["full", "full"] > 0
    assert result.dropped == 20
    assert result.reached == 2


# ---- what is reported ----


def test_a_small_log_in_full() -> None:
    """What is served, suppressed, by which rule, for whom, what it cost: all told, and ready for JSON."""
    policy = """
        [annoyance]
        threshold = ["3 per day"]
        [campaign.c]
        caps = ["2 per hour"]
        cost = 0.25
    """
    rows = [row(MONDAY + 60 * n, "v1") for n in range(4)]
    rows += [row(MONDAY + 4_000 + 60 * n, "v1") for n in range(2)]
    rows += [row(MONDAY + 5, "v2", "c", cost=1.5, id="i"), row(MONDAY + 9, "v2", "c", cost=1.5, id="i")]
    rows += [row(MONDAY, "v3", None, event="visit", subject="home")]
    told: list[tuple[int, int]] = []
    result = run(policy, rows, progress=lambda done, count: told.append((done, count)))
    assert told[-1] == (9, 9)
    figures = json.loads(json.dumps(result.to_dict()))
    assert figures | {"seconds": 0, "events_per_second": 0} == {
        "impressions": 8,
        "served": 4,
        "suppressed": 3,
        "suppressed_by": {"2 per hour": 2, "annoyance: 3 per day": 1},
        "repeated": 1,
        "cost": 3.0,
        "cost_saved": 0.75,
        "clicks": 0,
        "clicks_on_suppressed": 0,
        "conversions": 0,
        "conversions_on_suppressed": 0,
        "value": 0.0,
        "value_on_suppressed": 0.0,
        "visitors": 2,
        "reached": 2,
        "unknown_visitors": 0,
        "dropped": 0,
        "events": 9,
        "first": "2026-11-02T00:00:00+00:00",
        "last": "2026-11-02T01:07:40+00:00",
        "frequency_before": {"mean": 3.5, "p99": 6, "max": 6, "histogram": {"1": 1, "6": 1}},
        "frequency_after": {"mean": 2.0, "p99": 3, "max": 3, "histogram": {"1": 1, "3": 1}},
        "unknown_campaigns": {"campaigns": [], "held": "only [annoyance] and [caps]"},
        "campaigns": {
            "c": {key: value for key, value in figures.items() if key in figures["campaigns"]["c"]},
        },
        "seconds": 0,
        "events_per_second": 0,
    }


def test_an_empty_log() -> None:
    """A log without rows gives zeros, and no time."""
    result = run('[defaults]\ncaps = ["1 per day"]', [])
    assert (result.impressions, result.visitors, result.first, result.last) == (0, 0, None, None)
    assert (result.frequency_before.mean, result.frequency_before.p99, result.frequency_before.max) == (0, 0, 0)
    assert result.campaigns == {}


def test_frequency() -> None:
    """The 99th percentile is what at least 99 of 100 visitors did not exceed."""
    assert Frequency({1: 99, 50: 1}).p99 == 1
    assert Frequency({1: 98, 50: 2}).p99 == 50
    assert Frequency({1: 9, 7: 1}).p99 == 7
    assert Frequency({2: 3, 4: 1}).mean == 2.5
    assert Frequency({2: 3, 4: 1}).visitors == 4


def test_clicks_in_the_impression_s_row() -> None:
    """A click told in its impression's row happened if the impression did; on a suppressed one it is a risk."""
    policy = """
        [campaign.c]
        caps = ["1 per hour"]
        [campaign.after]
        audience = ["click c"]
        [campaign.bought]
        exclude = ["conversion c"]
    """
    rows = [
        row(MONDAY, "v1", "c", click=True, conversion=True, value=10.0),
        row(MONDAY + 1, "v1", "after"),
        row(MONDAY + 1, "v1", "bought"),
        row(MONDAY, "v2", "c"),
        row(MONDAY + 2, "v2", "c", click=True, conversion=True, value=7.5),
        row(MONDAY + 3, "v2", "after"),
        row(MONDAY + 3, "v2", "bought"),
    ]
    result = run(policy, rows)
    total = result.total
    assert (total.clicks, total.clicks_on_suppressed) == (2, 1)
    assert (total.conversions, total.conversions_on_suppressed) == (2, 1)
    assert (total.value, total.value_on_suppressed) == (17.5, 7.5)
    assert total.rules == {("audience", "click c"): 1, ("cap", "1 per hour"): 1, ("exclude", "conversion c"): 1}


def test_clicks_in_rows_of_their_own() -> None:
    """A click's own row happened, and is a risk where the campaign's last impression before it was suppressed."""
    policy = '[campaign.c]\ncaps = ["1 per hour"]\n[campaign.after]\naudience = ["click c"]'
    rows = [
        row(MONDAY, "v1", "c"),
        row(MONDAY + 5, "v1", "c", event="click", subject="c"),
        row(MONDAY + 10, "v1", "c"),
        row(MONDAY + 15, "v1", "c", event="click", id="k"),
        row(MONDAY + 15, "v1", "c", event="click", id="k"),
        row(MONDAY + 20, "v1", "after"),
        row(MONDAY + 3_601, "v1", "c"),
        row(MONDAY + 3_605, "v1", "c", event="conversion", value=3.0),
        row(MONDAY + 3_605, None, "c", event="click"),
    ]
    total = run(policy, rows).total
    assert (total.clicks, total.clicks_on_suppressed) == (3, 1)
    assert (total.conversions, total.conversions_on_suppressed, total.value) == (1, 0, 3.0)
    assert total.suppressed_by == {"1 per hour": 1}


@pytest.mark.parametrize(("answer", "served"), [("block", 0), ("allow", 2)])
def test_unknown_visitors(answer: str, served: int) -> None:
    """Impressions without a visitor get what the policy says, uncounted; the clock still holds."""
    policy = f"""
        on_unknown_visitor = "{answer}"
        [campaign.c]
        caps = ["1 per day"]
        hours = "00:00-12:00"
    """
    rows = [row(MONDAY, None), row(MONDAY + 1, None, click=True), row(MONDAY + DAY // 2, None), row(MONDAY, "v1")]
    result = run(policy, rows)
    assert (result.unknown_visitors, result.visitors, result.reached) == (3, 1, 1)
    assert result.served == served + 1
    expected = {"hours 00:00-12:00": 1} if answer == "allow" else {"unknown visitor": 3}
    assert result.suppressed_by == expected


def test_unknown_campaigns() -> None:
    """Campaigns that the policy does not name are held to [defaults], or else to what concerns everyone."""
    rows = [row(MONDAY + n, "v1", campaign, "x") for n, campaign in enumerate(["c", "new", "new", "new"])]
    shared = run('[caps]\nadvertiser = ["3 per day"]\n[campaign.c]\nlabels = { advertiser = "x" }', rows, "advertiser")
    assert (shared.unknown_campaigns, shared.defaults) == (("new",), False)
    assert shared.suppressed_by == {"advertiser: 3 per day": 1}
    defaults = run('[defaults]\ncaps = ["1 per day"]\n[campaign.c]\ncaps = ["2 per day"]', rows, "advertiser")
    assert (defaults.unknown_campaigns, defaults.defaults) == (("new",), True)
    assert defaults.suppressed_by == {"1 per day": 2}


def test_time_zones() -> None:
    """A row's own zone goes before the one asked for, and that before the policy's."""
    policy = 'timezone = "UTC"\n[campaign.c]\nhours = "08:00-09:00"'
    rows = [row(MONDAY + hour * 3_600, f"v{hour}") for hour in range(24)]
    assert run(policy, rows).frequency_after.histogram == {1: 1}
    zurich = run(policy, rows, time_zone="Europe/Zurich")
    tokyo = run(policy, [one._replace(timezone="Asia/Tokyo") for one in rows], time_zone="Europe/Zurich")
    assert zurich.served == tokyo.served == 1
    late = [one for one in rows if one.visitor == "v23"]  # 08:00 of the next day in Tokyo
    assert run(policy, [one._replace(timezone="Asia/Tokyo") for one in late]).served == 1
    assert run(policy, late, time_zone="Europe/Zurich").served == 0


def test_money_does_not_depend_on_the_order() -> None:
    """Sums of money are exact to a billionth, in whatever order they are made."""
    rows = [row(MONDAY + n, f"v{n % 7}", "c", cost=0.1) for n in range(1_000)]
    assert run('[defaults]\ncaps = ["1 per lifetime"]', rows).total.cost == 100.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (row(MONDAY, "v", None), "an impression without a campaign"),
        (row(MONDAY, "v", "c", event="Add To Cart"), "event='Add To Cart' is not a valid event name"),
        (row(MONDAY, "v", "c\n"), "control characters"),
        (row(MONDAY, "v" * 600, "c"), "a visitor's id has 1 to"),
        (row(MONDAY, "v", "c", timezone="Mars/Olympus"), "'Mars/Olympus' is not a known time zone"),
    ],
)
@pytest.mark.parametrize("store", ["memory://", MemoryStore()])
def test_rows_that_make_no_sense(wrong: LogRow, message: str, store: str | MemoryStore) -> None:
    """A row that the library refuses is the log's fault: the error says which moment and why."""
    log = opened([row(MONDAY - 5), wrong])
    with log, pytest.raises(LogError, match=r"the row of 2026-11-02T00:00:00") as raised:
        replay(log, Policy.from_text('[defaults]\ncaps = ["1 per day"]'), store=store)
    assert message in str(raised.value)
    assert "v" * 600 not in str(raised.value)


def test_a_wrong_time_zone() -> None:
    """A time zone that nobody knows is refused before a row is read."""
    with opened([]) as log, pytest.raises(InputError, match="'Mars' is not a known time zone"):
        replay(log, Policy(), time_zone="Mars")


# ---- stores and logs ----


def test_what_is_kept_and_forgotten(server: EmbeddedServer) -> None:
    """A server is left as it was; with `keep` the visitors stay, under a prefix that is told."""
    policy = Policy.from_text('[campaign.c]\ncaps = ["1 per 60 seconds"]\nexclude = ["visit home"]')
    log = opened([row(MONDAY, "v1"), row(MONDAY, "v2", None, event="visit", subject="home")])
    with log, redis.Redis.from_url(server.url) as client:
        client.set("mine", "1")
        assert replay(log, policy, store=server.url).prefix is None
        assert client.keys() == [b"mine"]
        kept = replay(log, policy, store=server.url, keep=True)
        assert kept.prefix is not None
        keys = cast("list[bytes]", client.keys(kept.prefix + "*"))
        assert sorted(key.rpartition(b":")[2] for key in keys) == [b"v1", b"v2"]
        # The log's minute may take the replay longer than a minute: nothing goes before a day is over.
        assert all(cast("int", client.ttl(key)) > DAY - 60 for key in keys)
        client.flushall()


def test_a_store_that_fails_is_no_decision(server: EmbeddedServer) -> None:
    """Where the store fails the replay fails: nothing is suppressed or served for want of an answer."""
    policy = Policy.from_text('on_store_error = "allow"\n[campaign.c]\ncaps = ["1 per day"]')
    with opened([row(MONDAY)]) as log, pytest.raises(NotExecuted):
        replay(log, policy, store=server.url + ".not")


def test_labels_of_a_policy() -> None:
    """The labels that are read are those that a cap, a template, or the threshold's points can ask about."""
    policy = Policy.from_text("""
        [annoyance]
        threshold = ["9 per day"]
        points = { call = 3 }
        [caps]
        advertiser = ["5 per day"]
        "slot:top" = ["2 per day"]
        [defaults]
        exclude = ["dismiss {campaign}"]
        [campaign.c]
        labels = { format = "wide" }
        audience = [{ any = ["visit {item}", "visit home"] }]
        exclude = ["purchase {brand}/{item}"]
    """)
    assert set(labels_of(policy)) == {"advertiser", "slot", "channel", "item", "brand"}
    assert labels_of(Policy.from_text('[annoyance]\nthreshold = ["9 per day"]')) == ()


def test_only_labels_that_matter_are_read(tmp_path: Path) -> None:
    """Of a wide log only the columns are read that the policy asks about; one that the log lacks is no fault."""
    wide = ["at", "visitor", "campaign", "creative", *(f"feature{n}" for n in range(30))]
    path = tmp_path / "wide.csv"
    path.write_text(",".join(wide) + "\n" + ",".join([str(MONDAY), "v", "c", "still", *["0.0"] * 30]) + "\n")
    policy = Policy.from_text('[caps]\ncreative = ["1 per day"]\nitem = ["1 per day"]\nslot = ["1 per day"]')
    with open_log(LogOptions((path,)), policy) as log:
        assert log.label_names == ("creative",)
    assert replay(LogOptions((path,)), policy).served == 1
    with pytest.raises(LogError, match="no column nobody"):
        open_log(LogOptions((path,), {"visitor": "nobody"}), policy)


def test_a_log_with_labels_nobody_asks_about() -> None:
    """Labels of an opened log that the policy does not ask about make no difference."""
    rows = [row(MONDAY + n, "v", "c", str(n), "still", str(n)) for n in range(4)]
    result = run('[caps]\ncreative = ["3 per day"]', rows, "n", "creative", "m")
    assert result.suppressed_by == {"creative: 3 per day": 1}


def test_times() -> None:
    """The first and the last row's times are those of the log, whatever the order it is taken in."""
    rows = [row(MONDAY + n * 100, f"v{9 - n}") for n in range(10)]
    result = run('[defaults]\ncaps = ["1 per day"]', rows)
    assert result.first == datetime.fromtimestamp(MONDAY, UTC)
    assert result.last == datetime.fromtimestamp(MONDAY + 900, UTC)
    assert result.per_second > 0
