"""The demo: the shop's log over an embedded server, and what it says of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from retarget import demo
from retarget.errors import ConfigError, InputError
from retarget.logs import LogOptions
from retarget.policy import Policy
from retarget.replay import replay


def test_a_small_town(tmp_path: Path) -> None:
    """What the demo says over a real server is what anybody finds in the log and policy that it leaves."""
    told: list[tuple[str, int, int]] = []
    made = demo.run(visitors=200, days=7, keep=tmp_path / "a" / "b", progress=lambda *what: told.append(what))
    assert made.log is not None
    assert made.policy_file is not None
    again = replay(LogOptions((made.log,)), Policy.from_toml(made.policy_file))
    over_server = made.replay.to_dict()
    for key in ("seconds", "events_per_second"):
        over_server[key] = again.to_dict()[key]
    assert over_server == again.to_dict()
    assert 0 < made.replay.suppressed < made.replay.impressions
    assert [what for what, *_ in told][:2] == ["making the shop's traffic", "reading the log"]
    assert told[-1] == ("replaying it", made.replay.events, made.replay.events)


def test_what_it_says() -> None:
    """The sentences and the channels' money say what the figures say."""
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


def test_nobody_was_shown_anything() -> None:
    """A town so small that there are no ads is no error."""
    seed = next(seed for seed in range(100) if _is_without_ads(seed))
    made = demo.run(visitors=1, days=1, seed=seed)
    assert made.replay.impressions == 0
    assert made.sentences == ("Nobody was shown anything: there is nothing to change.",)
    assert made.channels == ()


def _is_without_ads(seed: int) -> bool:
    from retarget.demo.traffic import shop

    return all(row.event != "impression" for row in shop(visitors=1, days=1, seed=seed))


def test_wrong_arguments(tmp_path: Path) -> None:
    """A town of nobody, and a folder that cannot be, are errors of their own."""
    with pytest.raises(InputError, match="visitors=0"):
        demo.run(visitors=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        demo.run(visitors=1, days=1, keep=tmp_path / "file")


def test_its_policy() -> None:
    """The policy that ships knows every campaign of the shop, each with its channel and its cost."""
    policy = demo.policy()
    assert len(policy.campaign) == 9
    assert all(campaign.labels["channel"] and campaign.cost for campaign in policy.campaign.values())
