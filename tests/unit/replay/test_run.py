"""Replays as a whole: visitors, campaigns, zones, labels, and the arguments of `replay`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from retarget.errors import InputError, LogError
from retarget.logs import LogOptions
from retarget.policy import Policy
from retarget.replay.meanings import labels_of
from retarget.replay.run import open_log, replay
from retarget.stores import MemoryStore
from tests.support.replays import MONDAY, opened, row, run

DAY = 86_400


def test_processes_out_of_range() -> None:
    """There is at least one process, and exactly one with a store."""
    with opened([row(MONDAY)]) as log:
        with pytest.raises(InputError, match="processes=0: it must be at least 1"):
            replay(log, Policy(), processes=0)
        with pytest.raises(InputError, match="processes=2: it must be 1 with a store"):
            replay(log, Policy(), store=MemoryStore(), processes=2)


def test_an_empty_log() -> None:
    """A log without rows gives zeros, and no time."""
    result = run('[defaults]\ncaps = ["1 per day"]', [])
    assert (result.impressions, result.visitors, result.first, result.last) == (0, 0, None, None)
    assert (result.frequency_before.mean, result.frequency_before.p99, result.frequency_before.max) == (0, 0, 0)
    assert result.campaigns == {}


@pytest.mark.parametrize(("answer", "served"), [("block", 0), ("allow", 2)])
def test_unknown_visitors(answer: str, served: int) -> None:
    """Impressions without a visitor get the policy's answer, uncounted; the clock still applies."""
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
    """Campaigns that the policy does not name get [defaults], or else only the rules for everyone."""
    rows = [row(MONDAY + n, "v1", campaign, "x") for n, campaign in enumerate(["c", "new", "new", "new"])]
    shared = run('[caps]\nadvertiser = ["3 per day"]\n[campaign.c]\nlabels = { advertiser = "x" }', rows, "advertiser")
    assert (shared.unknown_campaigns, shared.defaults) == (("new",), False)
    assert shared.suppressed_by == {"advertiser: 3 per day": 1}
    defaults = run('[defaults]\ncaps = ["1 per day"]\n[campaign.c]\ncaps = ["2 per day"]', rows, "advertiser")
    assert (defaults.unknown_campaigns, defaults.defaults) == (("new",), True)
    assert defaults.suppressed_by == {"1 per day": 2}


def test_time_zones() -> None:
    """A row's own zone takes precedence over the one given, and that over the policy's."""
    policy = 'timezone = "UTC"\n[campaign.c]\nhours = "08:00-09:00"'
    rows = [row(MONDAY + hour * 3_600, f"v{hour}") for hour in range(24)]
    assert run(policy, rows).frequency_after.histogram == {1: 1}
    zurich = run(policy, rows, time_zone="Europe/Zurich")
    tokyo = run(policy, [one._replace(timezone="Asia/Tokyo") for one in rows], time_zone="Europe/Zurich")
    assert zurich.served == tokyo.served == 1
    late = [one for one in rows if one.visitor == "v23"]  # 08:00 of the next day in Tokyo
    assert run(policy, [one._replace(timezone="Asia/Tokyo") for one in late]).served == 1
    assert run(policy, late, time_zone="Europe/Zurich").served == 0


def test_a_wrong_time_zone() -> None:
    """An unknown time zone is refused before a row is read."""
    with opened([]) as log, pytest.raises(InputError, match="'Mars' is not a known time zone"):
        replay(log, Policy(), time_zone="Mars")


def test_labels_of_a_policy() -> None:
    """The labels that are read are those of caps, of templates, and of the threshold's points."""
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
    """Of a wide log only the columns that the policy asks about are read; the log may lack one."""
    wide = ["at", "visitor", "campaign", "creative", *(f"feature{n}" for n in range(30))]
    path = tmp_path / "wide.csv"
    path.write_text(",".join(wide) + "\n" + ",".join([str(MONDAY), "v", "c", "still", *["0.0"] * 30]) + "\n")
    policy = Policy.from_text('[caps]\ncreative = ["1 per day"]\nitem = ["1 per day"]\nslot = ["1 per day"]')
    with open_log(LogOptions((path,)), policy) as log:
        assert log.label_names == ("creative",)
    assert replay(LogOptions((path,)), policy).served == 1
    with pytest.raises(LogError, match="no column nobody"):
        open_log(LogOptions((path,), {"visitor": "nobody"}), policy)


def test_a_log_with_other_labels() -> None:
    """Labels of an opened log that the policy does not ask about make no difference."""
    rows = [row(MONDAY + n, "v", "c", str(n), "still", str(n)) for n in range(4)]
    result = run('[caps]\ncreative = ["3 per day"]', rows, "n", "creative", "m")
    assert result.suppressed_by == {"creative: 3 per day": 1}


def test_times() -> None:
    """The first and the last row's times are those of the log, in whatever order it is read."""
    rows = [row(MONDAY + n * 100, f"v{9 - n}") for n in range(10)]
    result = run('[defaults]\ncaps = ["1 per day"]', rows)
    assert result.first == datetime.fromtimestamp(MONDAY, UTC)
    assert result.last == datetime.fromtimestamp(MONDAY + 900, UTC)
    assert result.per_second > 0
