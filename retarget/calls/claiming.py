"""Claiming: the write that counts or reserves an impression, and what its answer means to the caller.

Rules:
- A claim is one write: an alternative for each candidate, in the caller's order; the first whose guards hold counts.
- A claim repeated with its id changes nothing. What it was counted for is found again by the outcome remembered with
  the id: among the candidates given now, then among the policy's campaigns. What cannot be told is an InputError.
- Claims of one call that must name distinct campaigns each leave a mark for the campaign they were counted for, and are
  denied by those of the others. The mark's name comes from the ids of that call, so a repeat finds the same marks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import TypeAlias

from retarget.calls.claims import Claim, campaign_of, hold_alternatives, other_outcome
from retarget.calls.inputs import ClaimRow, as_claim_row, check_candidates, event_id
from retarget.calls.tokens import HOLD_BYTES, Tokens, Unsealed
from retarget.calls.visitors import Visitors
from retarget.engine import PlanAt, Verdict, as_candidate, claim_alternatives, outcome
from retarget.errors import InputError, RetargetError, StoreError
from retarget.events import Candidate, Subject
from retarget.timelines import (
    DENIED,
    IMPRESSION,
    SKEW,
    TAKEN,
    Alternative,
    Answer,
    Enter,
    Guard,
    Write,
    timeline,
)

Choice: TypeAlias = tuple[Subject, Alternative]

_MARK_BYTES = 5
_MARK_HEAD = timeline.head(0, shield=False)


@dataclass(slots=True)
class Asked:
    """One claim as it was asked for, checked; then the store's reply.

    `key` is None where the policy answers without the store: as `uniform` says.
    """

    key: bytes | None
    id: bytes
    hold: bytes
    wanted: tuple[Subject, ...]
    choices: Sequence[Choice]
    uniform: Verdict | None
    reply: Answer | StoreError | None = None

    def write(self, now: int) -> Write | None:
        """What to ask of the store; None if it need not be asked."""
        if self.key is None or not (self.choices or self.id):
            return None
        return Write(self.key, now, self.id, tuple([choice for _, choice in self.choices]), self.hold)


class Claiming:
    """The claims of one call: judged at one second, counted or reserved for as long."""

    def __init__(self, plan_at: PlanAt, visitors: Visitors, tokens: Tokens, held_for: int | None) -> None:
        self.plan_at = plan_at
        self._visitors, self._tokens = visitors, tokens
        self._held_for = held_for
        self._found: Callable[[PlanAt, Subject], tuple[Alternative, ...]] = (
            claim_alternatives if held_for is None else partial(hold_alternatives, seconds=held_for)
        )

    def asked(
        self, visitor: str | None, candidates: Iterable[Subject] | None, id_: str | None, uniform: Verdict | None
    ) -> Asked:
        """The claim, checked. Raises InputError."""
        plan_at, wanted = self.plan_at, check_candidates(candidates)
        wanted = tuple(plan_at.plan.compiled) if wanted is None else wanted
        claim_id = event_id(IMPRESSION, id_)
        choices = [(subject, choice) for subject in wanted for choice in self._found(plan_at, subject)]
        if uniform is not None or visitor is None:
            return Asked(None, b"", b"", wanted, choices, uniform)
        hold = b"" if self._held_for is None else claim_id or secrets.token_bytes(HOLD_BYTES)
        return Asked(self._visitors.key(visitor), claim_id, hold, wanted, choices, None)

    def asked_of(self, requests: Iterable[ClaimRow], unknown: Verdict | None, *, distinct: bool) -> list[Asked]:
        """The claims of a list, checked; `unknown` is the verdict without a visitor. Raises InputError."""
        claims, by_key = list[Asked](), dict[bytes, list[tuple[Asked, str | None]]]()
        for position, row in enumerate(requests):
            try:
                visitor, candidates, id_ = as_claim_row(row)
                asked = self.asked(visitor, candidates, id_, unknown if visitor is None else None)
            except InputError as error:
                raise InputError(f"requests[{position}]: {error}") from error
            claims.append(asked)
            if asked.key is not None:
                by_key.setdefault(asked.key, []).append((asked, id_))
        if distinct:
            for of_one in by_key.values():
                _make_distinct(of_one, self.plan_at.now)
        return claims

    def result(self, asked: Asked, besides: Container[str] = ()) -> Claim | None:
        """What the claim is answered. `besides`: campaigns that are not allowed where the store failed.

        Raises InputError if a repeated id was counted for an unknown candidate, StoreError where the policy says so.
        """
        reply = asked.reply
        if asked.key is None:
            return self._uncounted(asked.choices) if asked.uniform else None
        if isinstance(reply, StoreError):
            return self._failed(asked, reply, besides)
        if isinstance(reply, bytes):
            subject, held = _claimed_before(reply, asked.wanted, self.plan_at.plan.compiled)
            token = Unsealed(self._tokens, asked.key, subject, asked.id if held else b"")
            return Claim(subject, self.plan_at.now, token, held_for=self._held_for if held else None, repeated=True)
        if reply is None or reply <= DENIED:
            return None
        subject = asked.choices[reply - 1][0]
        token = Unsealed(self._tokens, asked.key, subject, asked.hold)
        return Claim(subject, self.plan_at.now, token, held_for=self._held_for)

    def results(self, claims: Sequence[Asked], *, distinct: bool) -> list[Claim | RetargetError | None]:
        """What each claim of a list is answered, or its error."""
        results: list[Claim | RetargetError | None] = [None] * len(claims)
        named: dict[bytes | None, set[str]] = {}
        # What the policy allows where the store failed comes last: it must not name what was counted.
        for position in sorted(range(len(claims)), key=lambda number: isinstance(claims[number].reply, StoreError)):
            asked = claims[position]
            of_visitor = named.setdefault(asked.key, set())
            try:
                claim = results[position] = self.result(asked, of_visitor if distinct else ())
            except RetargetError as error:
                results[position] = error
            else:
                if claim is not None:
                    of_visitor.add(claim.campaign)
        return results

    def _failed(self, asked: Asked, error: StoreError, besides: Container[str]) -> Claim | None:
        """The policy's answer where the store failed: if it allows, the first candidate that anybody could be shown."""
        answer = self.plan_at.plan.policy.on_store_error
        if answer == "raise":
            raise error
        if answer == "block":
            return None
        mark = asked.hold or secrets.token_bytes(HOLD_BYTES)
        left = [choice for choice in asked.choices if campaign_of(choice[0]) not in besides]
        return self._uncounted(left, asked.key, mark, error)

    def _uncounted(
        self,
        choices: Sequence[Choice],
        key: bytes | None = None,
        mark: bytes = b"",
        degraded: StoreError | None = None,
    ) -> Claim | None:
        if not choices:
            return None
        subject = choices[0][0]
        token = Unsealed(self._tokens, key, subject, mark)
        return Claim(subject, self.plan_at.now, token, counted=False, degraded=degraded)


def _claimed_before(remembered: bytes, *groups: Iterable[Subject]) -> tuple[Subject, bool]:
    """The candidate that a repeated claim was counted for, and whether it was reserved."""
    either = (remembered, other_outcome(remembered))
    for group in groups:
        found = dict[Candidate, tuple[Subject, bool]]()
        for subject in group:
            counted = outcome(subject)
            if counted in either:
                found.setdefault(as_candidate(subject), (subject, counted != remembered))
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            names = " or ".join(repr(str(subject)) for subject, _ in found.values())
            raise InputError(f"this claim's id was already counted, for {names}; which of them is no longer known")
    raise InputError(
        "this claim's id was already counted, for a candidate that is not among those given now: repeat a claim with "
        "the candidates that it had"
    )


def _make_distinct(claims: Sequence[tuple[Asked, str | None]], now: int) -> None:
    """Let no two of these claims of one visitor, given with their ids, be counted for the same campaign."""
    if len(claims) < 2:
        return
    ids = [id_ for _, id_ in claims if id_ is not None]
    call = _digest("call", *ids) if ids else secrets.token_bytes(_MARK_BYTES)
    marked: dict[Subject, Alternative] = {}
    for asked, _ in claims:
        for subject, choice in asked.choices:
            if subject not in marked:
                marked[subject] = _marked(TAKEN + call + _digest("campaign", campaign_of(subject)), now, choice)
        asked.choices = [(subject, marked[subject]) for subject, _ in asked.choices]


def _marked(mark: bytes, now: int, choice: Alternative) -> Alternative:
    """The choice, denied where the mark is, and leaving it.

    It is dated so that it is evicted once no caller's clock can show the second of the call any more.
    """
    guards = (Guard(mark, 1, 0, wanted=False), *choice.guards)
    changes = (*choice.changes, Enter(mark, max(0, now - SKEW), 1, 1, _MARK_HEAD))
    return Alternative(guards, changes, choice.ttl, choice.outcome)


def _digest(*parts: str) -> bytes:
    """Five bytes for these texts, told apart however they are split."""
    digest = blake2b(digest_size=_MARK_BYTES)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(4) + data)
    return digest.digest()
