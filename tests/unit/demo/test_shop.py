"""The demo: the shop's log over an embedded server, and the summary of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from retarget import demo
from retarget.errors import ConfigError, InputError
from retarget.logs import LogOptions
from retarget.policy import Policy
from retarget.replay import replay


def test_a_small_shop(tmp_path: Path) -> None:
    """The demo's figures are those of replaying the log and the policy that it leaves."""
    reported: list[tuple[str, int, int]] = []
    made = demo.run(visitors=200, days=7, keep=tmp_path / "a" / "b", progress=lambda *what: reported.append(what))
    assert made.log is not None
    assert made.policy_file is not None
    again = replay(LogOptions((made.log,)), Policy.from_toml(made.policy_file))
    over_server = made.replay.to_dict()
    for key in ("seconds", "events_per_second"):
        over_server[key] = again.to_dict()[key]
    assert over_server == again.to_dict()
    assert 0 < made.replay.suppressed < made.replay.impressions
    assert [what for what, *_ in reported][:2] == ["making the shop's traffic", "reading the log"]
    assert reported[-1] == ("replaying the log", made.replay.events, made.replay.events)


def test_the_summary() -> None:
    """The sentences and the cost by channel agree with the figures."""
    made = demo.run(visitors=250, days=10, seed=3)
    total = made.replay.total
    assert made.log is made.policy_file is None
    assert sum(channel.impressions for channel in made.channels) == total.impressions
    assert sum(channel.suppressed for channel in made.channels) == total.suppressed
    assert sum(channel.cost for channel in made.channels) == pytest.approx(total.cost)
    assert sum(channel.cost_saved for channel in made.channels) == pytest.approx(total.cost_saved)
    assert made.channels[0].channel == "call"
    text = " ".join(made.sentences)
    assert f"{total.suppressed:,} of them" in text
    assert f"{made.replay.reached:,} of {made.replay.visitors:,} visitors" in text
    assert f"{total.clicks_on_suppressed:,} of {total.clicks:,} clicks" in text
    assert re.search(r"the channel call\.", text)


def test_no_impressions() -> None:
    """A shop so small that it shows no ads is fine."""
    seed = next(seed for seed in range(100) if _is_without_ads(seed))
    made = demo.run(visitors=1, days=1, seed=seed)
    assert made.replay.impressions == 0
    assert made.sentences == ("No impressions were shown, so there is nothing to change.",)
    assert made.channels == ()


def _is_without_ads(seed: int) -> bool:
    from retarget.demo.traffic import shop

    return all(row.event != "impression" for row in shop(visitors=1, days=1, seed=seed))


def test_wrong_arguments(tmp_path: Path) -> None:
    """No visitors, or a folder that cannot be created, is an error."""
    with pytest.raises(InputError, match="visitors must be an integer of at least 1, got 0"):
        demo.run(visitors=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be created"):
        demo.run(visitors=1, days=1, keep=tmp_path / "file")


def test_its_policy() -> None:
    """The shipped policy knows every campaign of the shop, each with its channel and its cost."""
    policy = demo.policy()
    assert len(policy.campaign) == 9
    assert all(campaign.labels["channel"] and campaign.cost for campaign in policy.campaign.values())
