"""The demo: a shop's traffic, an embedded Valkey, and what the shop's policy changes.

It treats the shop's log like anyone's own: a file is written, read, and replayed over a real server.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypeAlias

from retarget.demo.traffic import shop, write_csv
from retarget.errors import ConfigError
from retarget.logs import LogOptions
from retarget.operate import EmbeddedServer
from retarget.policy import Policy
from retarget.replay import Replay, open_log, replay

VISITORS = 10_000
DAYS = 21

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called now and then: what is being done, steps done, steps in all (0, 0 if unknown)."""


@dataclass(frozen=True, slots=True)
class ChannelMoney:
    """What a channel's impressions cost, and how much of it the policy saves."""

    channel: str
    impressions: int
    suppressed: int
    cost: float
    cost_saved: float


@dataclass(frozen=True, slots=True)
class Demo:
    """The result of a demo."""

    replay: Replay
    policy: Policy
    channels: tuple[ChannelMoney, ...]
    """The most expensive first."""
    sentences: tuple[str, ...]
    """What the policy changed, in plain words."""
    log: Path | None
    """With `keep`: the log that was left."""
    policy_file: Path | None
    """With `keep`: the policy that was left."""


def policy() -> Policy:
    """The shop's policy, as shipped."""
    with as_file(files("retarget.demo").joinpath("policy.toml")) as path:
        return Policy.from_toml(path)


def run(
    *,
    seed: int = 1,
    visitors: int = VISITORS,
    days: int = DAYS,
    keep: Path | None = None,
    progress: Progress | None = None,
) -> Demo:
    """Make a shop's traffic, replay it under the shop's policy over an embedded Valkey, and sum up what changes.

    The same seed, visitors and days give the same figures everywhere. `keep` is a folder, created if missing, in which
    the log and the policy are left. Raises InputError for a wrong argument, ConfigError for a missing extra.
    """
    report = progress or (lambda *_: None)
    rules = policy()
    kept = (keep / "shop.csv.gz", keep / "policy.toml") if keep is not None else (None, None)
    with EmbeddedServer() as server, tempfile.TemporaryDirectory(prefix="retarget-") as folder:
        report("making the shop's traffic", 0, 0)
        rows = shop(visitors=visitors, days=days, seed=seed)
        path = Path(folder) / "shop.csv"
        if keep is not None:
            path = _created(keep) / "shop.csv.gz"
            with as_file(files("retarget.demo").joinpath("policy.toml")) as shipped:
                shutil.copyfile(shipped, keep / "policy.toml")
        write_csv(rows, path)
        report("reading the log", 0, 0)
        with open_log(LogOptions((path,)), rules) as log:
            result = replay(
                log,
                rules,
                store=server.url,
                keep=True,  # the server ends here, with all its keys
                progress=lambda done, count: report("replaying the log", done, count),
            )
    result = replace(result, prefix=None)  # nothing is left under it
    channels = _channels(result, rules)
    return Demo(result, rules, channels, tuple(_sentences(result, channels)), *kept)


def _created(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder {folder} cannot be created: {error.strerror}") from error
    return folder


def _channels(result: Replay, rules: Policy) -> tuple[ChannelMoney, ...]:
    channels: dict[str, ChannelMoney] = {}
    for id_, figures in result.campaigns.items():
        channel = rules.campaign[id_].labels["channel"]
        so_far = channels.get(channel, ChannelMoney(channel, 0, 0, 0.0, 0.0))
        channels[channel] = ChannelMoney(
            channel,
            so_far.impressions + figures.impressions,
            so_far.suppressed + figures.suppressed,
            so_far.cost + figures.cost,
            so_far.cost_saved + figures.cost_saved,
        )
    return tuple(sorted(channels.values(), key=lambda money: (-money.cost, money.channel)))


def _sentences(result: Replay, channels: tuple[ChannelMoney, ...]) -> list[str]:
    total = result.total
    if not total.impressions:
        return ["No impressions were shown, so there is nothing to change."]
    shown = total.served + total.suppressed
    most_expensive = channels[0]
    return [
        f"The shop showed {shown:,} ads. The policy would have suppressed {total.suppressed:,} of them "
        f"({_share(total.suppressed, shown)}) and saved {_share(total.cost_saved, total.cost)} of the cost: "
        f"{total.cost_saved:,.2f} of {total.cost:,.2f}, "
        f"{most_expensive.cost_saved:,.2f} of it in the channel {most_expensive.channel}.",
        f"It still reaches {result.reached:,} of {result.visitors:,} visitors "
        f"({_share(result.reached, result.visitors)}). No visitor would have seen more than "
        f"{result.frequency_after.max} ads; in the log one saw {result.frequency_before.max}.",
        f"The risk: {total.clicks_on_suppressed:,} of {total.clicks:,} clicks and "
        f"{total.conversions_on_suppressed:,} of {total.conversions:,} conversions followed a suppressed ad. "
        "A log cannot say how many of them would have happened anyway.",
    ]


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "none"
