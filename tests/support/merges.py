"""Histories to merge in tests, and what is known of the visitors afterwards."""

from __future__ import annotations

from typing import Any

from retarget import Policy, Retargeter
from retarget.calls import Steps, Visitors
from retarget.calls.merge import move_history
from retarget.engine import Plan
from retarget.timelines import Store

NOW = 1_794_312_000
DAY = 86_400
POLICY = Policy.from_text("""
    [annoyance]
    threshold = ["30 per week", "12 per day"]
    points = { mail = 3 }
    [caps]
    advertiser = ["5 per day"]
    item = ["2 per day"]
    [campaign.a]
    labels = { advertiser = "ann", channel = "mail" }
    caps = ["3 per day", "6 per week", "9 per lifetime"]
    [campaign.b]
    labels = { advertiser = "ann" }
    gap = "2 hours"
    audience = ["2 visit shop within week"]
    [campaign.c]
    exclude = ["buy within 3 days"]
    caps = [{ cap = "4 per day", spread = true }]
    [campaign.d]
    caps = ["2 per calendar day"]
""")
EVENTS = [
    ("impression", "a"),
    ("impression", "b"),
    ("impression", "c"),
    ("impression", "d"),
    ("visit", "shop"),
    ("buy", None),
]
KEYS = Visitors("rt:", None)
COUNTED = Policy.from_text('[campaign.a]\ncaps = ["1000 per day"]')


def answers(ads: Retargeter, visitor: str, now: int) -> list[Any]:
    """Everything a decision says of a visitor: each verdict, and the annoyance."""
    decision = ads.decide(visitor, now=now)
    return [*(decision[candidate] for candidate in decision), decision.annoyance]


def kept(ads: Retargeter, visitor: str) -> dict[str, list[str]]:
    """The visitor's timelines, without what stays and counts nothing: the end of the last reserved impression, when
    they were active, and parcels that were announced by merges which went no further.
    """
    lines = ads.export(visitor)["timelines"]
    return {
        name: line["at"]
        for name, line in lines.items()
        if name not in ("reserved until", "activity") and not name.startswith(("expected parcel", "reservation "))
    }


def count(ads: Retargeter, visitor: str) -> int:
    """How many impressions of a are remembered, including reserved ones."""
    lines = kept(ads, visitor)
    return len(lines.get("impression a", [])) + len(lines.get("reserved impression a", []))


def merge_steps(source: str, into: str, policy: Policy = POLICY) -> Steps[bool]:
    """A merge to be driven by hand."""
    return move_history(Plan(policy), KEYS.key(source), KEYS.key(into), NOW)


def perform(store: Store, request: Any) -> Any:
    """What the store answers."""
    return request.ask(store)


class ByHand:
    """An operation that makes one request at a time. Anything may happen while it waits to make the next."""

    def __init__(self, steps: Steps[Any], store: Store) -> None:
        self.steps, self.store, self.result = steps, store, None
        self.request: Any = next(steps)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.request is None

    def step(self, times: int = 1) -> None:
        """Make the next requests, as many as there are."""
        for _ in range(times):
            if not self.over:
                try:
                    self.request = self.steps.send(perform(self.store, self.request))
                except StopIteration as stop:
                    self.request, self.result = None, stop.value

    def finish(self) -> Any:
        """Make all requests that are left; returns the result."""
        while not self.over:
            self.step()
        return self.result
