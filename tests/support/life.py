"""One visitor under one of the policies of docs/policies, for weeks: what they may be shown, when, and why not.

Times are local, with their weekday. At each step the library's answer on every candidate is compared with the oracle's
(may it be shown, and when again), and "when again" is tried: eligible then, and not one second before.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import get_args
from zoneinfo import ZoneInfo

from retarget import Candidate, Policy, Retargeter
from retarget.engine import Reason
from retarget.events import Subject
from tests.property.local_time import HOUR, wall, weekday, within_hours
from tests.property.oracle import Oracle, Target

POLICIES = Path(__file__).parents[2] / "docs" / "policies"


class HalfHourOracle(Oracle):
    """The oracle, for policies whose hours begin on the half hour: it need not try every minute of a year."""

    def _probes(self, candidate: Target, begin: int, end: int, zone: str | None) -> Iterator[int]:
        yield begin
        rules = self.policy.rules(candidate.campaign if isinstance(candidate, Candidate) else candidate)
        local = ZoneInfo(zone or self.policy.timezone)
        if rules and (rules.hours or rules.days):
            spans = rules.hours.spans if rules.hours else None
            days = rules.days.days if rules.days else None
            half = HOUR // 2
            yield from (at for at in range(begin // half * half + half, end, half) if _opens(at, spans, days, local))


@cache
def _opens(at: int, spans: tuple[tuple[int, int], ...] | None, days: frozenset[int] | None, zone: ZoneInfo) -> bool:
    before, after = [
        (spans is None or within_hours(shown, spans)) and (days is None or weekday(shown) in days)
        for shown in (wall(at - 1, zone), wall(at, zone))
    ]
    return after and not before


class Life:
    """One visitor under one policy: a clock that is set, the library over memory, and the oracle beside it."""

    def __init__(self, policy: str, *more: Subject, zone: str | None = None) -> None:
        self.policy = Policy.from_toml(POLICIES / policy)
        self.home = ZoneInfo(zone or self.policy.timezone)
        self.zone = zone
        self.offered: tuple[Subject, ...] = (*self.policy.campaign, *more)
        self.now = 0
        self.compared: set[Subject] = set()  # at this moment, after what has happened so far
        self.oracle = HalfHourOracle(self.policy)
        self.ads = Retargeter(self.policy, "memory://", clock=lambda: self.now)

    def at(self, when: str) -> None:
        """It is now `Mon 2026-11-02 20:10`."""
        self.now, before = self._second(when), self.now
        self.compared.clear()
        assert self.now >= before, f"{when} has been"

    def did(self, event: str, subject: Subject | None = None) -> None:
        """Something happened now."""
        self.compared.clear()
        assert self.ads.record("v", event, subject)
        assert self.oracle.record("v", event, subject, self.now)

    def is_shown(self, *candidates: Subject) -> None:
        """Each is claimed, successfully."""
        self.compared.clear()
        for candidate in candidates:
            claim = self.ads.claim("v", [candidate], timezone=self.zone)
            assert claim, (candidate, self.ads.decide("v", [candidate], timezone=self.zone)[candidate])
            assert self.oracle.claim("v", [candidate], self.now, zone=self.zone) == candidate

    def is_not_shown(self, candidate: Subject) -> None:
        """It cannot be claimed."""
        assert self.ads.claim("v", [candidate], timezone=self.zone) is None
        assert self.oracle.claim("v", [candidate], self.now, zone=self.zone) is None

    def may_see(self, *candidates: Subject) -> None:
        """Of everything that is offered these are eligible now, and nothing else."""
        decision = self.ads.decide("v", self.offered, timezone=self.zone)
        assert set(decision.eligible) == set(candidates)
        everything = self.ads.decide("v", timezone=self.zone)
        assert everything.eligible == tuple(c for c in self.policy.campaign if c in candidates)
        for candidate in self.offered:
            self._compare(candidate)

    def may_not_see(self, candidate: Subject, reason: Reason, rule: str, again: str | None) -> None:
        """Why it is not eligible, and when it is if nothing else happens."""
        decision = self.ads.decide("v", [candidate], timezone=self.zone)
        verdict = decision[candidate]
        eligible_at = verdict.eligible_at and f"{verdict.eligible_at.astimezone(self.home):%a %Y-%m-%d %H:%M:%S}"
        assert (verdict.reason, verdict.rule, eligible_at) == (reason, rule, again)
        assert not verdict
        self._compare(candidate)

    def counted(self, candidate: Subject) -> tuple[int | None, int | None]:
        """How much of its rule's limit is used."""
        verdict = self.ads.decide("v", [candidate], timezone=self.zone)[candidate]
        return verdict.seen, verdict.limit

    def patience(self) -> str:
        """The threshold in force and what is used of it."""
        level = self.ads.decide("v", []).annoyance
        assert level is not None
        return f"{level.segment}: {level.points} of {level.rule}"

    def _compare(self, candidate: Subject) -> None:
        if candidate in self.compared:
            return
        self.compared.add(candidate)
        verdict = self.ads.decide("v", [candidate], timezone=self.zone)[candidate]
        expected = self.oracle.decide("v", candidate, self.now, self.zone)
        assert verdict.eligible is expected.eligible, (candidate, verdict, expected)
        assert verdict.reason in get_args(Reason)
        again = None if verdict.eligible_at is None else int(verdict.eligible_at.timestamp())
        assert again == self.oracle.eligible_at("v", candidate, self.now, self.zone), (candidate, verdict)
        if again is not None and not verdict:
            assert again > self.now
            assert self.ads.decide("v", [candidate], now=again, timezone=self.zone).eligible == (candidate,)
            assert self.ads.decide("v", [candidate], now=again - 1, timezone=self.zone).eligible == ()

    def _second(self, when: str) -> int:
        day, _, rest = when.partition(" ")
        local = datetime.fromisoformat(rest).replace(tzinfo=self.home)
        assert f"{local:%a}" == day, f"{rest} is a {local:%a}"
        return int(local.timestamp())
