"""retarget as a contestant, used as its docs say: built for a setting, ready to be called."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import count, islice
from pathlib import Path

from benchmarks import data
from benchmarks.contest import Running, Setting
from benchmarks.floors import PIPELINE, in_waves, many
from retarget import AsyncRetargeter, Event, Policy, Retargeter
from retarget.logs import Log, LogOptions
from retarget.replay import open_log, replay

TIMEOUT = 1.0
"""Timeout of a call in seconds: longer than in production, so that a measurement does not fail on a busy machine."""


def connect(setting: Setting, policy: Policy) -> Retargeter:
    """A retargeter over the setting's store, with its prefix and the system's clock."""
    return Retargeter(policy, setting.url, timeout=TIMEOUT, prefix=setting.prefix)


def known(ads: Retargeter, visitor: str, history: list[data.Happened]) -> None:
    ads.record_many(data.events(visitor, history, int(time.time())))


def decide(setting: Setting, candidates: int = 50, campaigns: int = 50) -> Running:
    """One decision for the first case's visitor."""
    ads = connect(setting, data.policy(campaigns))
    known(ads, "v-1", data.today())
    wanted = [data.campaign(number) for number in range(candidates)]
    return Running(lambda: ads.decide("v-1", wanted), close=ads.close)


def decide_history(setting: Setting, timelines: int) -> Running:
    """Fifty candidates of 500 campaigns, for a visitor with this many timelines."""
    ads = connect(setting, data.policy(500))
    known(ads, "v-1", data.with_timelines(timelines))
    wanted = [data.campaign(number) for number in range(50)]
    return Running(lambda: ads.decide("v-1", wanted), close=ads.close)


def decide_all(setting: Setting, campaigns: int) -> Running:
    """Decide over every campaign of the policy; each product is in the audience of five."""
    ads = connect(setting, data.policy(campaigns, products=campaigns // 5))
    known(ads, "v-1", data.today())
    return Running(lambda: ads.decide("v-1"), close=ads.close)


def claim_new(setting: Setting) -> Running:
    """New visitors, and a policy without audiences, which none of them would be in."""
    policy = data.policy()
    campaigns = {name: rules.model_copy(update={"audience": ()}) for name, rules in policy.campaign.items()}
    ads = connect(setting, policy.model_copy(update={"campaign": campaigns}))
    numbers, wanted = count(), data.ranked()
    return Running(lambda: ads.claim(f"n{next(numbers)}", wanted), close=ads.close)


def claim(setting: Setting, *, capped: bool = False) -> Running:
    """Visitors of twenty impressions, one after the other."""
    ads = crowd(setting, data.first_three_capped() if capped else data.twenty_impressions())
    numbers, wanted = count(), data.ranked()
    return Running(lambda: ads.claim(data.visitor(next(numbers) % setting.visitors), wanted), close=ads.close)


def hold(setting: Setting) -> Running:
    """A reserved impression, confirmed by its token: two round trips."""
    ads = crowd(setting, data.twenty_impressions())
    numbers, wanted = count(), data.ranked()

    def call() -> object:
        claimed = ads.claim(data.visitor(next(numbers) % setting.visitors), wanted, hold="15 minutes")
        return claimed and ads.confirm(claimed.token)

    return Running(call, close=ads.close)


def record(setting: Setting, *, new: bool = False) -> Running:
    """One impression more, for visitors of twenty: of a campaign they saw today, or of a new one."""
    ads = crowd(setting, data.twenty_impressions())
    numbers = count()

    def call() -> bool:
        turn, number = divmod(next(numbers), setting.visitors)
        campaign = data.campaign(20 + turn % 30 if new else 0)
        return ads.record(data.visitor(number), "impression", campaign)

    return Running(call, close=ads.close)


def crowd(setting: Setting, history: list[data.Happened]) -> Retargeter:
    """A retargeter whose visitors all have this history: recorded in memory, recorded once and copied on a server."""
    ads = connect(setting, data.policy())
    if setting.url == "memory://":
        for number in range(setting.visitors):
            known(ads, data.visitor(number), history)
    else:
        known(ads, data.template(0), history)
        data.copy(setting.url, setting.prefix, setting.visitors)
    return ads


def decide_many(setting: Setting) -> Running:
    """A thousand visitors of twenty timelines per batch, fifty candidates each."""
    keys = many(setting)
    ads = connect(setting, data.policy(500))
    wanted = [data.campaign(number) for number in range(50)]
    numbers = count()

    def call() -> list[object]:
        start = next(numbers) * PIPELINE % len(keys)
        visitors = [data.visitor(number) for number in range(start, start + PIPELINE)]
        return list(ads.decide_many(visitors, wanted))

    return Running(call, units=PIPELINE, close=ads.close)


def record_many(setting: Setting) -> Running:
    """A thousand impressions per batch, for visitors with twenty, of a campaign that each saw today."""
    ads = crowd(setting, data.twenty_impressions())
    numbers = count()

    def call() -> list[bool]:
        chosen = list(islice(numbers, PIPELINE))
        return ads.record_many(
            [Event(data.visitor(n % setting.visitors), "impression", data.campaign(0)) for n in chosen]
        )

    return Running(call, units=PIPELINE, close=ads.close)


def in_memory(setting: Setting, build: Callable[[Setting], Running]) -> Running:
    """The same over the store in memory."""
    return build(Setting("memory://", setting.prefix, min(setting.visitors, 200)))


def decide_async(setting: Setting, in_flight: int, *, uvloop: bool = False) -> Running:
    """The first case's decision, `in_flight` at a time. A degraded decision raises its error."""
    with connect(setting, data.policy()) as ads:
        known(ads, "v-1", data.today())
    wanted = [data.campaign(number) for number in range(50)]

    def open_client() -> tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]:
        ads = AsyncRetargeter(data.policy(), setting.url, timeout=TIMEOUT, prefix=setting.prefix)

        async def once() -> None:
            decision = await ads.decide("v-1", wanted)
            if decision.degraded:
                raise decision.degraded

        return once, ads.close

    return in_waves(open_client, in_flight, uvloop=uvloop)


# -- replay ------------------------------------------------------------------------------------------------------------


def _log(setting: Setting, folder: str) -> LogOptions:
    path = Path(folder) / "log.csv"
    data.write_log(path, setting.events)
    return LogOptions([path])


def replay_log(setting: Setting) -> Running:
    """Replay a log of impressions under the first case's policy without its audiences, which would block everything."""
    policy = _caps_only()
    folder = tempfile.TemporaryDirectory(prefix="bench-")
    log = open_log(_log(setting, folder.name), policy)
    return Running(lambda: replay(log, policy), log.count, lambda: _close(log, folder))


def read_log(setting: Setting) -> Running:
    """The same log, opened, sorted by time and fetched into Python row by row."""
    folder = tempfile.TemporaryDirectory(prefix="bench-")
    options = _log(setting, folder.name)

    def call() -> int:
        with Log(options) as log:
            return sum(map(len, log.rows()))

    return Running(call, setting.events, folder.cleanup)


def fetch_log(setting: Setting) -> Running:
    """The same from an open log: sorted and fetched, without decisions."""
    folder = tempfile.TemporaryDirectory(prefix="bench-")
    log = open_log(_log(setting, folder.name), _caps_only())
    return Running(lambda: sum(map(len, log.rows())), log.count, lambda: _close(log, folder))


def _close(log: Log, folder: tempfile.TemporaryDirectory[str]) -> None:
    log.close()
    folder.cleanup()


def _caps_only() -> Policy:
    policy = data.policy()
    campaigns = {
        name: rules.model_copy(update={"audience": (), "exclude": ()}) for name, rules in policy.campaign.items()
    }
    return policy.model_copy(update={"campaign": campaigns})
