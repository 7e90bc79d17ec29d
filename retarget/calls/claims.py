"""Claims: what a claim is, the token that says which, and the entries that reserve an impression or undo it.

Rules:
- A hold counts at once, in timelines of its own whose entries are dated at their own end: it lapses by itself.
- A token names the visitor's key, the candidate and the hold, so that another process can confirm or release it.
- With a secret a token is signed (HMAC-SHA256, 128 bits); without one it only has a checksum against accidents.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from typing import Literal, NamedTuple, TypeAlias

from retarget.calls.inputs import key_bytes, seconds_of
from retarget.engine import Place, Plan, PlanAt, as_candidate, claim_alternatives
from retarget.errors import InputError, StoreError, TokenError
from retarget.events import Candidate, Subject
from retarget.policy import check_text
from retarget.timelines import HELD, HOLD, Alternative, Enter, Guard, Reserve, Unreserve, timeline

LONGEST = 86_400
"""A hold lasts at most a day, in seconds."""

_FORMAT = "1"
_HASHED = "2"
"""The format of a token whose visitor is hashed."""
_MARK = 5
_HEAD = timeline.head(0, shield=True)
_ALL = 0xFFFF
"""Reserved impressions are never trimmed: they lapse, and a visitor has room for so many."""


SECRET_BYTES = 16
"""The shortest secret, in bytes."""

Confirmation: TypeAlias = Literal["confirmed", "late", "repeated"]
"""What became of a confirmation: counted in time, counted after the hold had lapsed, or counted before."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An impression that was counted for a visitor, or reserved (`held_for` seconds).

    `token` is opaque and URL-safe: with it another process may confirm or release the impression. `repeated`: the
    claim's id had been counted before, and this is what it was counted for. `counted` is False where the policy allows
    without a look at the visitor; if that is because the store failed, `degraded` is its error.
    """

    candidate: Subject
    second: int
    sealed: Callable[[], str] = field(repr=False, compare=False)
    held_for: int | None = None
    counted: bool = True
    repeated: bool = False
    degraded: StoreError | None = field(default=None, compare=False)

    @property
    def token(self) -> str:
        """What another process needs to confirm or release the impression. Made when asked for: most never are."""
        return self.sealed()

    @property
    def campaign(self) -> str:
        """The id of the campaign that may be shown."""
        return self.candidate.campaign if isinstance(self.candidate, Candidate) else self.candidate

    @property
    def at(self) -> datetime:
        """The moment of the claim, in UTC."""
        return datetime.fromtimestamp(self.second, UTC)


class Token(NamedTuple):
    """What a claim's token says. `visitor` is her id, or the bytes that stand for it; `hold` is five bytes,
    none for a claim that was counted without one.
    """

    visitor: str | bytes
    candidate: Candidate
    hold: bytes


NOBODY = Token("", Candidate(""), b"")
"""The token of a claim without a visitor: there is nothing to confirm."""


def hold_seconds(hold: object) -> int:
    """The seconds that a hold lasts. Raises InputError."""
    try:
        seconds = seconds_of(hold)
    except ValueError as error:
        raise InputError(f'hold={hold!r:.60}: write a duration such as "15 minutes", or give a timedelta') from error
    if not 1 <= seconds <= LONGEST:
        raise InputError(f"hold={hold!r:.60} is {seconds:,.0f} seconds; a hold lasts from 1 second to a day")
    return int(seconds)


def secret_bytes(secret: object) -> bytes | None:
    """The secret as bytes, None for none. Raises ConfigError for one that cannot sign."""
    if secret is None:
        return None
    return key_bytes(secret, "the secret", SECRET_BYTES)


def seal(token: Token, secret: bytes | None) -> str:
    """The token as URL-safe text."""
    form, name = (_FORMAT, token.visitor) if isinstance(token.visitor, str) else (_HASHED, token.visitor.hex())
    content = [name, token.candidate.campaign, dict(token.candidate.labels), token.hold.hex()]
    payload = f"{form}.{_text(json.dumps(content, separators=(',', ':')).encode())}"
    return f"{payload}.{_seal(payload, secret)}"


def unseal(text: object, secret: bytes | None) -> Token:
    """What the text says. Raises TokenError for one that is altered, forged, or of another secret."""
    payload, _, seal = text.rpartition(".") if isinstance(text, str) and text.isascii() else ("", "", "")
    form, _, content = payload.partition(".")
    if form not in (_FORMAT, _HASHED) or not hmac.compare_digest(seal.encode(), _seal(payload, secret).encode()):
        raise TokenError("this token is not one of a claim made with this retargeter's secret, or it was altered")
    try:
        said = json.loads(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))
        name, campaign, labels, hold = said
        token = Token(
            name if form == _FORMAT else bytes.fromhex(name), Candidate(campaign, **labels), bytes.fromhex(hold)
        )
        if token != NOBODY:
            _check(token)
    except (ValueError, TypeError, RecursionError) as error:
        raise TokenError("this token does not say what a claim's token says") from error
    return token


def _check(token: Token) -> None:
    """Raise ValueError for what no claim can have put into a token: without a secret anybody can write one."""
    check_text(token.candidate.campaign, "campaign")
    for kind, label in token.candidate.labels:
        check_text(kind, "the name of a label")
        check_text(label, "label")
    if not isinstance(token.visitor, str | bytes) or not token.visitor:
        raise ValueError("no visitor")
    if len(token.hold) not in (0, _MARK):
        raise ValueError("no hold")


def reservable(plan: Plan, candidate: Candidate) -> tuple[Place, ...]:
    """Where an impression is reserved: where it would be counted; and it keeps a session going."""
    places = plan.places(timeline.IMPRESSION, candidate)
    return (*places, plan.session_places()[0]) if plan.has_sessions else places


def hold_alternatives(moment: PlanAt, subject: Subject, seconds: int) -> tuple[Alternative, ...]:
    """What reserves an impression for so many seconds where `claim_alternatives` would count it.

    The same for all visitors of one second: the reservation's own mark has no name here, the write says it.
    """
    counting = claim_alternatives(moment, subject)
    known = moment.holds.get((subject, seconds))
    if known is None:
        places = reservable(moment.plan, as_candidate(subject))
        known = tuple(_hold_alternative(choice, places, moment.now, seconds) for choice in counting)
        moment.holds[subject, seconds] = known
    return known


def _hold_alternative(counting: Alternative, places: Iterable[Place], now: int, seconds: int) -> Alternative:
    end = min(now + seconds, timeline.LAST_MOMENT)
    held = [Enter(HELD + place.field, end, place.weight, _ALL, _HEAD) for place in places]
    marks = (Enter(HELD, end, 1, 1, _HEAD), Reserve(end, _HEAD))
    session = [
        change
        for change in counting.changes
        if isinstance(change, Enter) and change.field in (timeline.ACTIVITY, timeline.SESSIONS)
    ]
    ttl = max([seconds + 1, *(timeline.seconds_of(entry.head) + 1 for entry in session)])
    return Alternative(counting.guards, (*held, *marks, *session), ttl, counting.outcome)


def lasts(hold: bytes, now: int) -> Guard:
    """The guard that holds while the reserved impression does."""
    return Guard(HOLD + hold, 1, now + 1, wanted=True, more=False, anchored=False)


def taken_out(places: Iterable[Place], hold: bytes) -> tuple[Unreserve, ...]:
    """What undoes a reserved impression; its own mark last, for the others are found by it."""
    held = [Unreserve(HELD + place.field, place.weight) for place in places]
    return (*held, Unreserve(HOLD + hold, 1))


def _seal(payload: str, secret: bytes | None) -> str:
    content = payload.encode()
    if secret is None:
        return "u" + _text(blake2b(content, digest_size=6).digest())
    return "s" + _text(hmac.new(secret, content, sha256).digest()[:16])


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
