"""Reserving impressions in tests, and checking what became of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from retarget import Claim, MemoryStore, NotExecuted, Policy, Retargeter
from retarget.events import Subject
from retarget.timelines import Answer, State, Store, Write

MINUTE, HOUR, DAY = 60, 3_600, 86_400
QUARTER = 15 * MINUTE
LAPSED = QUARTER + 1
"""When a hold of a quarter of an hour is over: times are whole seconds, and it lasts at least as long as was asked."""
SECRET = "sixteen bytes or more"  # noqa: S105 - of these tests only
CAP = '[campaign.a]\ncaps = ["1 per hour"]'
SHOP = 'labels = { advertiser = "acme", channel = "email" }'


def hold(ads: Retargeter, subject: Subject = "a", length: str = "15 minutes", visitor: str = "v") -> Claim:
    """Reserve an impression, which must be possible."""
    claim = ads.claim(visitor, [subject], hold=length)
    assert claim is not None
    return claim


def free(ads: Retargeter, subject: Subject = "a", now: int | None = None) -> bool:
    """Whether the visitor may be shown it; asking changes nothing."""
    return bool(ads.decide("v", [subject], now=now).eligible)


def again(ads: Retargeter, subject: Subject = "a") -> int | None:
    """`eligible_at` in epoch seconds, tried: free then, and not one second before."""
    verdict = ads.decide("v", [subject])[subject]
    assert not verdict
    if verdict.eligible_at is None:
        return None
    at = int(verdict.eligible_at.timestamp())
    assert (free(ads, subject, at - 1), free(ads, subject, at)) == (False, True)
    return at


def shown(ads: Retargeter, campaign: str = "a", visitor: str = "v") -> list[int]:
    """The times of the impressions that are remembered, without reserved ones."""
    found = ads.export(visitor)["timelines"].get(f"impression {campaign}", {"at": []})["at"]
    return [int(datetime.fromisoformat(at).timestamp()) for at in found]


def reserved(ads: Retargeter, visitor: str = "v") -> list[str]:
    """The names of the reservations that are remembered, including lapsed ones."""
    return [name for name in ads.export(visitor)["timelines"] if name.startswith("reserv") and name != "reserved until"]


class Counting(MemoryStore):
    """A store that counts its calls, and is down while `down` says so."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.down = 0, False

    def _asked(self) -> None:
        self.calls += 1
        if self.down:
            raise NotExecuted("down for the test")

    def read(self, key: bytes) -> State:
        self._asked()
        return super().read(key)

    def write(self, write: Write) -> Answer:
        self._asked()
        return super().write(write)


def local(policy: str = CAP, store: Store | None = None, secret: Any = None) -> Retargeter:
    """A retargeter in memory whose clock stands still."""
    store = MemoryStore() if store is None else store
    return Retargeter(Policy.from_text(policy), store, clock=lambda: 1_794_312_000, secret=secret)
