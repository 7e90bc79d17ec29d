"""Claims: what a claim is, and the changes that reserve an impression, confirm it or release it.

Rules:
- A hold counts at once, in timelines of its own whose entries are dated at their own end: it lapses by itself.
- A hold lasts at least as long as was asked: times are floored to the second, so its end is one second later.
- The store keeps where an impression is reserved. Confirmed in time or released, exactly that is counted or undone,
  whatever the policy says by then; confirmed late, it counts by the policy in force.
- A claim never shows its token, and never takes the secret out of the process: copied or pickled, its token is sealed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from retarget.calls.inputs import duration_seconds
from retarget.calls.tokens import Unsealed
from retarget.engine import Plan, PlanAt, alternatives, claim_alternatives, outcome
from retarget.errors import InputError, StoreError
from retarget.events import Candidate, Subject
from retarget.timelines import (
    HOLD,
    IMPRESSION,
    LAST_MOMENT,
    Alternative,
    Change,
    Cover,
    Enter,
    Guard,
    Reserve,
    Reserved,
    Settle,
    timeline,
)

LONGEST = 86_400
"""The longest hold, in seconds."""

Confirmation: TypeAlias = Literal["confirmed", "late", "repeated"]
"""What became of a confirmation: counted in time, counted after the hold had lapsed, or already counted."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An impression that was counted for a visitor, or reserved for `held_for` seconds.

    `second` is the time of the claim in epoch seconds. `repeated`: this id was already counted; the claim describes the
    original impression. `counted` is False where the policy allows without knowing the visitor's history; if that is
    because the store failed, `degraded` is its error. A claim can be pickled and copied.
    """

    candidate: Subject
    second: int
    _token: Unsealed | str = field(repr=False, compare=False)
    """The token, or its parts as long as nobody has asked for it: most never are."""
    held_for: int | None = None
    counted: bool = True
    repeated: bool = False
    degraded: StoreError | None = field(default=None, compare=False)

    @property
    def token(self) -> str:
        """What another process needs to confirm or release the impression: opaque and URL-safe."""
        return self._token if isinstance(self._token, str) else self._token.seal()

    @property
    def campaign(self) -> str:
        """The id of the campaign that may be shown."""
        return campaign_of(self.candidate)

    @property
    def at(self) -> datetime:
        """The time of the claim, in UTC."""
        return datetime.fromtimestamp(self.second, UTC)

    def __reduce__(self) -> tuple[type[Claim], tuple[Any, ...]]:
        """Copied and pickled with the token sealed."""
        parts = self.candidate, self.second, self.token, self.held_for, self.counted, self.repeated, self.degraded
        return Claim, parts


def campaign_of(subject: Subject) -> str:
    """The id of the candidate's campaign."""
    return subject.campaign if isinstance(subject, Candidate) else subject


def hold_seconds(hold: object) -> int:
    """The seconds that a hold lasts. Raises InputError."""
    try:
        seconds = duration_seconds(hold)
    except ValueError as error:
        raise InputError(f'hold={hold!r:.60}: write a duration such as "15 minutes", or give a timedelta') from error
    if not 1 <= seconds <= LONGEST:
        raise InputError(f"hold={hold!r:.60} is {seconds:,.0f} seconds; a hold lasts from 1 second to a day")
    return int(seconds)


def hold_alternatives(plan_at: PlanAt, subject: Subject, seconds: int) -> tuple[Alternative, ...]:
    """What reserves an impression where `claim_alternatives` would count it.

    The same for all visitors of one second: the write, not the alternative, names the reservation.
    """
    counting = claim_alternatives(plan_at, subject)
    known = plan_at.holds.get((subject, seconds))
    if known is None:
        known = tuple(_hold_alternative(choice, plan_at.now, seconds) for choice in counting)
        plan_at.holds[subject, seconds] = known
    return known


def _hold_alternative(counting: Alternative, now: int, seconds: int) -> Alternative:
    """Reserve what the other one counts. The visitor is active now, and as long as the impression is reserved."""
    end = min(now + seconds + 1, LAST_MOMENT)
    covers = _covers(counting.changes)
    places = [
        Reserved(change.field, change.weight, change.keep, change.head)
        for change in counting.changes
        if isinstance(change, Enter)
    ]
    places += [Reserved(cover.field, 1, 0, cover.head) for cover in covers]
    ttl = max([end - now, *(timeline.seconds_of(cover.head) + 1 for cover in covers)])
    return Alternative(counting.guards, (Reserve(end, tuple(places)), *covers), ttl, other_outcome(counting.outcome))


def other_outcome(outcome: bytes) -> bytes:
    """What is remembered with the id of a claim that reserves, given what one that counts would leave; or the reverse.

    So a repeat knows which of the two the original was, and whether there is anything to confirm.
    """
    return bytes(byte ^ 0xFF for byte in outcome)


def confirm_alternatives(
    plan: Plan, candidate: Candidate, hold: bytes, at: int, now: int
) -> tuple[Alternative, tuple[Alternative, ...]]:
    """What confirms a reserved impression: the one that counts what was reserved, and those that count it late."""
    late = alternatives(plan, plan.places(IMPRESSION, candidate), at, now, outcome=outcome(candidate))
    covers = _covers(late[0].changes)
    ttl = max([1, *(timeline.seconds_of(cover.head) + 1 + at - now for cover in covers)])
    return Alternative((_is_live(hold, now),), (Settle(at), *covers), ttl, outcome(candidate)), late


def release_alternative(hold: bytes, now: int) -> Alternative:
    """What undoes a reserved impression that has not lapsed."""
    return Alternative((_is_live(hold, now),), (Settle(None),), 1)


def discard_alternative() -> Alternative:
    """What undoes a reserved impression whether or not it has lapsed: it was counted elsewhere."""
    return Alternative((), (Settle(None),), 1)


def _covers(changes: Iterable[Change]) -> list[Cover]:
    return [change for change in changes if isinstance(change, Cover)]


def _is_live(hold: bytes, now: int) -> Guard:
    """The guard that holds until the hold lapses."""
    return Guard(HOLD + hold, 1, now + 1, wanted=True)
