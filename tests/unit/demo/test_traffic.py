"""The synthetic shop: the same on every machine, shaped like real logs, and covered by the demo's own policy."""

from __future__ import annotations

import csv
import gzip
import hashlib
import tomllib
from collections import Counter, defaultdict
from dataclasses import fields
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from retarget.demo.traffic import MONDAY, Row, shop, write_csv
from retarget.errors import InputError

DAY = 86_400
ON_A_CAMPAIGN = {"impression", "click", "conversion", "dismiss"}
ON_SCREEN = {"display", "video"}
COLUMNS = "at,visitor,event,subject,campaign,id,channel,advertiser,creative,item,cost,value"
SMALL_DIGEST = "430b459e116d7a68b7db34279b6f723496d030a028fe43219149c9f395cd4656"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return shop()


@pytest.fixture(scope="module")
def impressions(rows: list[Row]) -> list[Row]:
    """Each impression once, however often its pixel fired."""
    return list({row.id: row for row in reversed(rows) if row.event == "impression"}.values())[::-1]


@pytest.fixture(scope="module")
def policy() -> dict[str, Any]:
    return tomllib.loads(files("retarget.demo").joinpath("policy.toml").read_text(encoding="utf-8"))


def share(part: int, whole: int) -> float:
    return part / whole


# -- the same for everyone


def test_a_small_run_is_the_same_on_every_machine(tmp_path: Path) -> None:
    """The bytes of a small run are pinned: they were the same on Python 3.11, 3.12 and 3.13."""
    write_csv(shop(visitors=300, days=7, seed=7), tmp_path / "small.csv")
    assert hashlib.sha256((tmp_path / "small.csv").read_bytes()).hexdigest() == SMALL_DIGEST


def test_equal_arguments_make_equal_rows_and_another_seed_others() -> None:
    """Nothing is kept between two runs, and chance depends on the seed alone."""
    once, again, other = (shop(visitors=50, days=5, seed=seed) for seed in (3, 3, 4))
    assert once == again
    assert once != other


def test_moving_the_start_by_weeks_moves_every_row_and_changes_nothing_else() -> None:
    """The start is an origin, not a source of chance: starting four weeks later moves all rows by four weeks."""
    here, there = shop(visitors=50, days=5), shop(visitors=50, days=5, start=MONDAY + 28 * DAY)
    assert [row.at + 28 * DAY for row in here] == [row.at for row in there]
    assert [(row.visitor, row.event, row.id) for row in here] == [(row.visitor, row.event, row.id) for row in there]


# -- rows


def test_rows_are_sorted_and_inside_the_time_asked_for(rows: list[Row]) -> None:
    """Rows come in time order, from the first midnight up to but excluding the last."""
    assert all(a.at <= b.at for a, b in pairwise(rows))
    assert rows[0].at >= MONDAY
    assert rows[-1].at < MONDAY + 21 * DAY


@pytest.mark.parametrize("days", [1, 2, 60])
@pytest.mark.parametrize("visitors", [1, 2, 40])
def test_every_visitor_leaves_a_row(visitors: int, days: int) -> None:
    """For any size there are exactly as many visitors as asked for, and no row outside the time."""
    rows = shop(visitors=visitors, days=days)
    assert {row.visitor for row in rows} == {f"v{number}" for number in range(1, visitors + 1)}
    assert all(MONDAY <= row.at < MONDAY + days * DAY for row in rows)


def test_fields_are_filled_where_they_apply_and_only_there(rows: list[Row]) -> None:
    """Ids and costs belong to impressions, labels to events on a campaign, values to purchases and conversions."""
    events = {"visit", "impression", "click", "conversion", "dismiss", "purchase", "signup"}
    assert {row.event for row in rows} == events
    for row in rows:
        assert row.subject
        assert bool(row.id) == (row.cost > 0) == (row.event == "impression")
        assert bool(row.channel and row.advertiser and row.creative) == (row.event in ON_A_CAMPAIGN)
        assert not row.item or row.event in ON_A_CAMPAIGN
        assert (row.value > 0) == (row.event in {"purchase", "conversion"})


def test_a_double_fired_pixel_leaves_its_id_twice(rows: list[Row]) -> None:
    """A few impressions (0.2 to 0.6 %) is logged twice, 1 to 45 seconds apart; all other ids are unique."""
    by_id = defaultdict(list)
    for row in rows:
        if row.id:
            by_id[row.id].append(row)
    twice = [pair for pair in by_id.values() if len(pair) > 1]
    assert 0.002 < share(len(twice), len(by_id)) < 0.006
    for first, second in twice:  # never more than two
        assert 1 <= second.at - first.at <= 45
        assert all(getattr(first, f.name) == getattr(second, f.name) for f in fields(Row) if f.name != "at")
        assert first.channel in ON_SCREEN


def test_a_reaction_follows_its_impression(rows: list[Row]) -> None:
    """No visitor clicks or hides what they have not seen, nor is converted without a click and a purchase."""
    happened: set[tuple[str, str, str]] = set()
    buyers: set[str] = set()
    for row in rows:
        if row.event in {"click", "dismiss"}:
            assert (row.visitor, "impression", row.subject) in happened
        if row.event == "conversion":
            assert (row.visitor, "click", row.subject) in happened
            assert row.visitor in buyers
        if row.event == "purchase":
            buyers.add(row.visitor)
        happened.add((row.visitor, row.event, row.subject))


# -- shaped like real logs


def test_most_see_few_ads_and_a_few_see_hundreds(impressions: list[Row]) -> None:
    """At least two thirds see 1 to 3 ads; the heaviest 1 % get at least a fifth of all; the bound holds."""
    counts = sorted(Counter(row.visitor for row in impressions).values())
    assert 0.66 < share(sum(count <= 3 for count in counts), len(counts)) < 0.85
    assert 10 <= sum(count >= 100 for count in counts) <= 60
    assert 200 < counts[-1] < 21 * 20 + 40  # 20 a day, and some mails and calls
    assert share(sum(counts[-len(counts) // 100 :]), sum(counts)) > 0.2


def test_ads_come_in_bursts(impressions: list[Row]) -> None:
    """Half of all ads follow the last one within a quarter of an hour; evenly spaced, it would be hours."""
    last: dict[str, int] = {}
    gaps = []
    for row in impressions:
        if row.visitor in last:
            gaps.append(row.at - last[row.visitor])
        last[row.visitor] = row.at
    assert share(sum(gap <= 900 for gap in gaps), len(gaps)) > 0.5


def test_evenings_and_weekends_are_busy_and_nights_are_quiet(rows: list[Row]) -> None:
    """Days and weeks have their rhythm, counted from the start."""
    hours = Counter((row.at - MONDAY) % DAY // 3600 for row in rows)
    weekdays = Counter((row.at - MONDAY) // DAY % 7 for row in rows)
    assert hours.most_common(1)[0][0] in {19, 20, 21}
    assert hours[3] * 10 < hours[20]
    assert min(weekdays[5], weekdays[6]) > max(weekdays[day] for day in range(5))


def test_a_campaign_wears_out(rows: list[Row]) -> None:
    """On screens, the first exposure to a campaign is clicked most, and after the seventh hardly any is."""
    exposures: Counter[tuple[str, str]] = Counter()
    shown: Counter[str] = Counter()
    clicked: Counter[str] = Counter()
    for row in rows:
        if row.channel in ON_SCREEN and row.event in {"impression", "click"}:
            key = (row.visitor, row.subject)
            exposures[key] += row.event == "impression"
            bucket = "first" if exposures[key] == 1 else "2 to 3" if exposures[key] <= 3 else "4 to 7"
            bucket = bucket if exposures[key] <= 7 else "later"
            (shown if row.event == "impression" else clicked)[bucket] += 1
    first, second, third, later = (share(clicked[b], shown[b]) for b in ("first", "2 to 3", "4 to 7", "later"))
    assert first > second > third > later
    assert first > 5 * later


# -- what is refused


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("visitors", 0, "an integer of at least 1"),
        ("visitors", -5, "an integer of at least 1"),
        ("visitors", 1.5, "an integer of at least 1"),
        ("visitors", True, "an integer of at least 1"),
        ("days", 0, "an integer from 1 to 3660"),
        ("days", 3661, "an integer from 1 to 3660"),
        ("seed", -1, "an integer of at least 0"),
        ("seed", "1", "an integer of at least 0"),
        ("start", -1, "an integer from 0 to"),
        ("start", 2**32 - 21 * DAY, "an integer from 0 to 4293152895"),
        ("start", float("nan"), "an integer from 0 to"),
    ],
)
def test_bad_arguments_are_named(name: str, value: object, right: str) -> None:
    """The message has the parameter, its value, and what it may be."""
    with pytest.raises(InputError) as caught:
        shop(**{"visitors": 1, name: value})  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{name} must be {right}")
    assert str(caught.value).endswith(f", got {value!r}")


@pytest.mark.parametrize(
    ("name", "value"), [("days", 3660), ("start", 0), ("start", 2**32 - 1 - 21 * DAY), ("seed", 0)]
)
def test_the_bounds_themselves_are_fine(name: str, value: int) -> None:
    """The bounds in the messages are themselves allowed."""
    assert shop(**{"visitors": 3, name: value})


# -- files


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_a_file_gives_the_rows_back(tmp_path: Path, name: str) -> None:
    """What was written reads as it was, `campaign` is the subject of events on a campaign, and `.gz` is gzip."""
    rows = [*shop(visitors=200, days=7), Row(1, 'a "quoted", id', "visit", "page,\nwith a line end")]
    path = tmp_path / name
    write_csv(rows, path)
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if name.endswith(".gz") else packed).decode()
    assert text.startswith(COLUMNS + "\n")
    assert "\r" not in text
    back = []
    for cells in csv.DictReader(text.splitlines(keepends=True)):
        assert cells.pop("campaign") == (cells["subject"] if cells["event"] in ON_A_CAMPAIGN else "")
        at, cost, value = int(cells.pop("at")), float(cells.pop("cost")), float(cells.pop("value"))
        back.append(Row(at=at, cost=cost, value=value, **cells))
    assert back == rows


def test_equal_rows_make_equal_gzip_files(tmp_path: Path) -> None:
    """A gzip file holds neither the time nor its own name; a path may be a plain string."""
    rows = shop(visitors=20, days=3)
    write_csv(rows, tmp_path / "one.csv.gz")
    write_csv(iter(rows), str(tmp_path / "two.csv.gz"))
    one = (tmp_path / "one.csv.gz").read_bytes()
    assert one == (tmp_path / "two.csv.gz").read_bytes()
    assert one[4:8] == bytes(4)  # the header's time


# -- the demo's policy


def test_traffic_and_policy_know_the_same_campaigns(impressions: list[Row], policy: dict[str, Any]) -> None:
    """The traffic and the policy file have the same campaigns."""
    assert {row.subject for row in impressions} == set(policy["campaign"])


def test_traffic_and_policy_agree_on_labels_and_costs(impressions: list[Row], policy: dict[str, Any]) -> None:
    """A campaign has in the policy the labels and the cost that its impressions have in the log."""
    for row in impressions:
        campaign = policy["campaign"][row.subject]
        assert campaign["labels"] == {"advertiser": row.advertiser, "channel": row.channel}
        assert campaign["cost"] == row.cost
    assert {row.channel for row in impressions} == set(policy["annoyance"]["points"])


def test_the_policy_asks_only_about_what_can_happen(rows: list[Row], policy: dict[str, Any]) -> None:
    """Every audience and exclusion names what the traffic has; any ad on a screen can be hidden, if perhaps none is."""
    happens = {f"{row.event} {row.subject}" for row in rows} | {row.event for row in rows}
    happens |= {f"dismiss {row.subject}" for row in rows if row.channel in ON_SCREEN}
    for campaign in policy["campaign"].values():
        for condition in [*campaign.get("audience", []), *campaign.get("exclude", [])]:
            assert condition.partition(" within ")[0].lstrip("0123456789 ") in happens


def test_the_policy_has_work_to_do_in_the_head(impressions: list[Row], rows: list[Row]) -> None:
    """The traffic has what a policy is for: ads beyond any threshold, after the purchase, after "hide this ad"."""
    bought: set[str] = set()
    hidden: set[tuple[str, str]] = set()
    wasted: Counter[str] = Counter()
    for row in rows:
        if row.event == "purchase":
            bought.add(row.visitor)
        elif row.event == "dismiss":
            hidden.add((row.visitor, row.subject))
        elif row.event == "impression":
            wasted["bought"] += row.visitor in bought
            wasted["hidden"] += (row.visitor, row.subject) in hidden
    counts = Counter(row.visitor for row in impressions)
    beyond = sum(max(0, count - 30) for count in counts.values())
    assert share(wasted["bought"], len(impressions)) > 0.05
    assert share(wasted["hidden"], len(impressions)) > 0.01
    assert 0.1 < share(beyond, len(impressions)) < 0.5
