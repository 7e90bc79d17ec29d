"""The demo: a shop's traffic, an embedded Valkey, and what the shop's policy makes of it.

It goes the way that anybody's own log would: a file is written, read, and replayed over a real server.
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
"""Told now and then: what is being done, and how much of how much (0 of 0 where nobody knows)."""


@dataclass(frozen=True, slots=True)
class ChannelMoney:
    """What a channel's impressions cost, and what of it the policy saves."""

    channel: str
    impressions: int
    suppressed: int
    cost: float
    cost_saved: float


@dataclass(frozen=True, slots=True)
class Demo:
    """What a demo came to."""

    replay: Replay
    policy: Policy
    channels: tuple[ChannelMoney, ...]
    """The dearest first."""
    sentences: tuple[str, ...]
    """What the policy changed, in plain words."""
    log: Path | None
    """With `keep`: where the log is."""
    policy_file: Path | None


def policy() -> Policy:
    """The shop's policy, as it ships."""
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
    """Make a shop's traffic, replay it through the shop's policy over an embedded Valkey, say what changed.

    The same seed, visitors and days give the same figures everywhere. `keep` is a folder, made where it is missing, in
    which the log and the policy are left. Raises InputError for a wrong argument, ConfigError for a missing extra.
    """
    told = progress or (lambda *_: None)
    rules = policy()
    kept = (keep / "shop.csv.gz", keep / "policy.toml") if keep is not None else (None, None)
    with EmbeddedServer() as server, tempfile.TemporaryDirectory(prefix="retarget-") as folder:
        told("making the shop's traffic", 0, 0)
        rows = shop(visitors=visitors, days=days, seed=seed)
        path = Path(folder) / "shop.csv"
        if keep is not None:
            path = _made(keep) / "shop.csv.gz"
            with as_file(files("retarget.demo").joinpath("policy.toml")) as shipped:
                shutil.copyfile(shipped, keep / "policy.toml")
        write_csv(rows, path)
        told("reading the log", 0, 0)
        with open_log(LogOptions((path,)), rules) as log:
            result = replay(
                log,
                rules,
                store=server.url,
                keep=True,  # the server goes, with all it knows
                progress=lambda done, count: told("replaying it", done, count),
            )
    result = replace(result, prefix=None)  # nothing of it is left
    channels = _channels(result, rules)
    return Demo(result, rules, channels, tuple(_sentences(result, channels)), *kept)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder {folder} cannot be made: {error.strerror}") from error
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
        return ["Nobody was shown anything: there is nothing to change."]
    shown = total.served + total.suppressed
    dearest = channels[0]
    return [
        f"The shop showed {shown:,} ads. The policy would have kept back {total.suppressed:,} of them "
        f"({_share(total.suppressed, shown)}) and {_share(total.cost_saved, total.cost)} of the money: "
        f"{total.cost_saved:,.2f} of {total.cost:,.2f}, "
        f"{dearest.cost_saved:,.2f} of it in the channel {dearest.channel}.",
        f"It still reaches {result.reached:,} of {result.visitors:,} visitors "
        f"({_share(result.reached, result.visitors)}). The one who was shown most saw "
        f"{result.frequency_before.max} ads and would have seen {result.frequency_after.max} at most.",
        f"The risk: {total.clicks_on_suppressed:,} of {total.clicks:,} clicks and "
        f"{total.conversions_on_suppressed:,} of {total.conversions:,} conversions came after an ad that it keeps "
        "back. No log can say how many of them would have come all the same.",
    ]


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "none"
