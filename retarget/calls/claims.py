"""Claims: what a claim is, and the changes that reserve an impression, confirm it or release it.

Rules:
- A hold counts at once, in timelines of its own whose entries are dated at their own end: it lapses by itself.
- A claim never shows its token, and never takes the secret out of the process: copied or pickled, its token is sealed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from retarget.calls.inputs import duration_seconds
from retarget.calls.tokens import Unsealed
from retarget.engine import Place, Plan, PlanAt, alternatives, as_candidate, claim_alternatives, outcome
from retarget.errors import InputError, StoreError
from retarget.events import Candidate, Subject
from retarget.timelines import (
    ACTIVITY,
    HELD,
    HOLD,
    IMPRESSION,
    LAST_MOMENT,
    SESSIONS,
    Alternative,
    Enter,
    Guard,
    Reserve,
    Unreserve,
    timeline,
)

LONGEST = 86_400
"""The longest hold, in seconds."""

_HEAD = timeline.head(0, shield=True)
_ALL = 0xFFFF
"""Reserved impressions are never trimmed: they lapse, and the number of a visitor's timelines is bounded."""

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
        return self.candidate.campaign if isinstance(self.candidate, Candidate) else self.candidate

    @property
    def at(self) -> datetime:
        """The time of the claim, in UTC."""
        return datetime.fromtimestamp(self.second, UTC)

    def __reduce__(self) -> tuple[type[Claim], tuple[Any, ...]]:
        """Copied and pickled with the token sealed."""
        parts = self.candidate, self.second, self.token, self.held_for, self.counted, self.repeated, self.degraded
        return Claim, parts


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
        places = _held_places(plan_at.plan, as_candidate(subject))
        known = tuple(_hold_alternative(choice, places, plan_at.now, seconds) for choice in counting)
        plan_at.holds[subject, seconds] = known
    return known


def _hold_alternative(counting: Alternative, places: Iterable[Place], now: int, seconds: int) -> Alternative:
    end = min(now + seconds, LAST_MOMENT)
    held = [Enter(HELD + place.field, end, place.weight, _ALL, _HEAD) for place in places]
    marks = (Enter(HELD, end, 1, 1, _HEAD), Reserve(end, _HEAD))
    session = [
        change for change in counting.changes if isinstance(change, Enter) and change.field in (ACTIVITY, SESSIONS)
    ]
    ttl = max([seconds + 1, *(timeline.seconds_of(entry.head) + 1 for entry in session)])
    return Alternative(counting.guards, (*held, *marks, *session), ttl, counting.outcome)


def confirm_alternatives(
    plan: Plan, candidate: Candidate, hold: bytes, at: int, now: int
) -> tuple[tuple[Alternative, ...], tuple[Alternative, ...]]:
    """What confirms a reserved impression: those that count it in place of its live hold, and those that just count."""
    late = alternatives(plan, plan.places(IMPRESSION, candidate), at, now, outcome=outcome(candidate))
    guard, removals = _is_live(hold, now), _removals(plan, candidate, hold)
    in_time = tuple(
        Alternative((*choice.guards, guard), (*choice.changes, *removals), choice.ttl, choice.outcome)
        for choice in late
    )
    return in_time, late


def release_alternative(plan: Plan, candidate: Candidate, hold: bytes, now: int) -> Alternative:
    """What undoes a reserved impression that has not lapsed."""
    return Alternative((_is_live(hold, now),), _removals(plan, candidate, hold), 1)


def _held_places(plan: Plan, candidate: Candidate) -> tuple[Place, ...]:
    """Where an impression is reserved: where it would be counted, and where it keeps a session going."""
    places = plan.places(IMPRESSION, candidate)
    return (*places, plan.session_places()[0]) if plan.has_sessions else places


def _is_live(hold: bytes, now: int) -> Guard:
    """The guard that holds until the hold lapses."""
    return Guard(HOLD + hold, 1, now + 1, wanted=True, more=False, anchored=False)


def _removals(plan: Plan, candidate: Candidate, hold: bytes) -> tuple[Unreserve, ...]:
    """What removes a reserved impression; its own mark last, since the entries are found by it."""
    held = [Unreserve(HELD + place.field, place.weight) for place in _held_places(plan, candidate)]
    return (*held, Unreserve(HOLD + hold, 1))
