"""A policy over memory, a clock that is set, and the oracle beside it: what the verdict on one visitor is.

A verdict is written as `cap: 2 per day (2 of 2), again 2026-03-05 12:00:01`. Each is also compared with the oracle's,
and "when again" is tried: eligible then, and not one second before. `12:00` is on Wednesday 4 March 2026.
"""

from __future__ import annotations

from datetime import datetime
from typing import get_args
from zoneinfo import ZoneInfo

from retarget import AnnoyanceLevel, Candidate, Policy, Retargeter, Verdict
from retarget.engine import Reason
from retarget.events import Subject
from tests.property.oracle import Oracle

DAY = "2026-03-04T"


class World:
    """A policy over memory, a clock that is set, and the oracle beside it; one visitor."""

    def __init__(self, policy: str, *history: str, zone: str | None = None) -> None:
        self.policy = Policy.from_text(policy)
        self.zone = zone
        self.home = ZoneInfo(zone or self.policy.timezone)
        self.now = 0
        self.oracle = Oracle(self.policy)
        self.ads = Retargeter(self.policy, "memory://", clock=lambda: self.now)
        for line in history:
            self.happens(line)

    def happens(self, line: str) -> None:
        """`12:00 visit shop`; what is earlier than the line before is reported late, at the time of that one."""
        when, event, *rest = line.split(maxsplit=2)
        at = self.second(when)
        self.now = max(self.now, at)
        what = subject(rest[0]) if rest else None
        assert self.ads.record("v", event, what, at=at)
        assert self.oracle.record("v", event, what, at, now=self.now)

    def verdict(self, when: str, what: str = "ad") -> Verdict:
        """The verdict, which is the oracle's too."""
        now, candidate = self.second(when), subject(what)
        assert now >= self.now
        verdict = self.ads.decide("v", [candidate], now=now, timezone=self.zone)[candidate]
        expected = self.oracle.decide("v", candidate, now, self.zone)
        assert verdict.eligible is expected.eligible, (verdict, expected)
        assert verdict.reason in get_args(Reason)
        assert (verdict.reason == "eligible") is verdict.eligible
        if verdict.eligible_at is None:
            assert not verdict
        elif not verdict:
            again = int(verdict.eligible_at.timestamp())
            assert again > now
            for at, eligible in ((again, (candidate,)), (again - 1, ())):
                assert self.ads.decide("v", [candidate], now=at, timezone=self.zone).eligible == eligible
                assert self.oracle.decide("v", candidate, at, self.zone).eligible is bool(eligible)
        rules = self.policy.rules(candidate.campaign if isinstance(candidate, Candidate) else candidate)
        if (
            rules and not rules.hours and not rules.days
        ):  # these the oracle tries minute by minute: half of all the time
            at_all = verdict.eligible_at and int(verdict.eligible_at.timestamp())
            assert at_all == self.oracle.eligible_at("v", candidate, now, self.zone)
        return verdict

    def line(self, when: str, what: str = "ad") -> str:
        """The verdict as a line."""
        verdict = self.verdict(when, what)
        if verdict:
            assert (verdict.rule, verdict.seen, verdict.limit) == (None, None, None)
            return "yes"
        counted = f" ({verdict.seen} of {verdict.limit})" if verdict.limit is not None else ""
        again = "never"
        if verdict.eligible_at is not None:
            again = f"again {verdict.eligible_at.astimezone(self.home):%Y-%m-%d %H:%M:%S}"
        return f"{verdict.reason}: {verdict.rule}{counted}, {again}"

    def annoyance(self, when: str) -> AnnoyanceLevel | None:
        """How much of the threshold in force is used."""
        return self.ads.decide("v", [], now=self.second(when), timezone=self.zone).annoyance

    def second(self, when: str) -> int:
        """The epoch second of a local time, or of one with an offset."""
        local = datetime.fromisoformat(when if "-" in when[:5] else DAY + when)
        return int((local if local.tzinfo else local.replace(tzinfo=self.home)).timestamp())


def subject(text: str) -> Subject:
    """`ad`, or a candidate with labels: `ad item=sku-1`."""
    name, *labels = text.split()
    return Candidate(name, **dict(label.split("=") for label in labels)) if labels else name


def line_of(policy: str, when: str, *history: str, what: str = "ad", zone: str | None = None) -> str:
    """The verdict as a line, after what happened."""
    return World(policy, *history, zone=zone).line(when, what)


def capped(*caps: str, first: str = "") -> str:
    """A policy of one campaign `ad` with these caps."""
    return f"{first}\n[campaign.ad]\ncaps = [{', '.join(cap if cap[0] == '{' else repr(cap) for cap in caps)}]"
