"""Tokens: opaque text that lets another process confirm or release a claim.

Rules:
- A token names the visitor's key, the candidate and the hold.
- With a secret a token is signed (HMAC-SHA256, cut to 128 bits); without one it only has a checksum against accidents,
  and anybody can write one: everything it says is checked.
"""

from __future__ import annotations

import base64
import hmac
import json
from hashlib import blake2b, sha256
from typing import NamedTuple

from retarget.calls.inputs import key_bytes
from retarget.calls.visitors import Visitors
from retarget.engine import as_candidate
from retarget.errors import InputError, TokenError
from retarget.events import Candidate, Subject
from retarget.policy import check_text
from retarget.timelines import MARK_BYTES

SECRET_BYTES = 16
"""The shortest secret, in bytes."""

HOLD_BYTES = MARK_BYTES
"""The length of what identifies a hold, in bytes."""

_CLEAR = "1"
"""The format of a token that names the visitor by their id."""
_HASHED = "2"
"""The format of a token that names the visitor by a hash."""
_NONSENSE = "this token does not contain what a claim's token contains"


class Token(NamedTuple):
    """What a token says. `visitor` is an id or the bytes that stand for it; `hold` is empty for a claim without one."""

    visitor: str | bytes
    candidate: Candidate
    hold: bytes


NOBODY = Token("", Candidate(""), b"")
"""The token of a claim without a visitor: there is nothing to confirm."""


class Tokens:
    """Seals and opens the tokens of one retargeter. Raises ConfigError for a secret that cannot sign."""

    def __init__(self, visitors: Visitors, secret: object) -> None:
        self._visitors = visitors
        self._secret = None if secret is None else key_bytes(secret, "secret", SECRET_BYTES)

    def seal(self, key: bytes | None, subject: Subject, hold: bytes) -> str:
        """The token of a claim for the visitor of this key; None for a claim without a visitor."""
        if key is None:
            return seal(NOBODY, self._secret)
        return seal(Token(self._visitors.name(key), as_candidate(subject), hold), self._secret)

    def open(self, text: object) -> tuple[tuple[bytes, ...], Token]:
        """The keys under which to look for the hold, and what the token says; no key if it has no hold.

        Raises TokenError.
        """
        token = unseal(text, self._secret)
        try:
            return (self._visitors.named(token.visitor) if token.hold else ()), token
        except InputError as error:
            raise TokenError(_NONSENSE) from error


class Unsealed(NamedTuple):
    """The parts of a token that nobody has asked for yet."""

    tokens: Tokens
    key: bytes | None
    subject: Subject
    hold: bytes

    def seal(self) -> str:
        """The token as URL-safe text."""
        return self.tokens.seal(self.key, self.subject, self.hold)


def seal(token: Token, secret: bytes | None) -> str:
    """The token as URL-safe text."""
    form, name = (_CLEAR, token.visitor) if isinstance(token.visitor, str) else (_HASHED, token.visitor.hex())
    content = [name, token.candidate.campaign, dict(token.candidate.labels), token.hold.hex()]
    payload = f"{form}.{_base64(json.dumps(content, separators=(',', ':')).encode())}"
    return f"{payload}.{_signature(payload, secret)}"


def unseal(text: object, secret: bytes | None) -> Token:
    """What the token says. Raises TokenError for one that is altered, forged, or made with another secret."""
    payload, _, signature = text.rpartition(".") if isinstance(text, str) and text.isascii() else ("", "", "")
    form, _, content = payload.partition(".")
    expected = _signature(payload, secret)
    if form not in (_CLEAR, _HASHED) or not hmac.compare_digest(signature.encode(), expected.encode()):
        raise TokenError("this token was not made with this retargeter's secret, or it was altered")
    try:
        name, campaign, labels, hold = json.loads(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))
        visitor = name if form == _CLEAR else bytes.fromhex(name)
        token = Token(visitor, Candidate(campaign, **labels), bytes.fromhex(hold))
        if token != NOBODY:
            _check(token)
    except (ValueError, TypeError, RecursionError) as error:
        raise TokenError(_NONSENSE) from error
    return token


def _check(token: Token) -> None:
    """Raise ValueError for contents that no claim can have."""
    check_text(token.candidate.campaign, "campaign")
    for kind, label in token.candidate.labels:
        check_text(kind, "the name of a label")
        check_text(label, "label")
    if not isinstance(token.visitor, str | bytes) or not token.visitor:
        raise ValueError("the visitor is missing")
    if len(token.hold) not in (0, HOLD_BYTES):
        raise ValueError("the hold has the wrong length")


def _signature(payload: str, secret: bytes | None) -> str:
    content = payload.encode()
    if secret is None:
        return "u" + _base64(blake2b(content, digest_size=6).digest())
    return "s" + _base64(hmac.new(secret, content, sha256).digest()[:16])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
