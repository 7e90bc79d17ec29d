"""What each public method does, once: generators that ask the store and are sent its replies.

Rules:
- No I/O here: an operation yields requests (requests.py); the sync and the async client each drive the same operations.
  The contract of each is the docstring of the client's method of the same name.
- Everything a caller passes is validated before the first request; a wrong argument changes nothing.
- A call runs to its end with the policy it began with.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from retarget.calls.claims import (
    Claim,
    Confirmation,
    confirm_alternatives,
    hold_alternatives,
    hold_seconds,
    release_alternative,
)
from retarget.calls.clock import Clock
from retarget.calls.denials import denials_for
from retarget.calls.export import export
from retarget.calls.inputs import as_event, check_candidates, check_list, event_id
from retarget.calls.merge import move_history
from retarget.calls.recording import event_write, was_counted
from retarget.calls.requests import Apply, ApplyMany, Batches, Delete, Read, ReadMany, Steps
from retarget.calls.tokens import HOLD_BYTES, Token, Tokens, Unsealed
from retarget.calls.visitors import Pepper, Visitors
from retarget.engine import Decision, Plan, PlanAt, Verdict, View, claim_alternatives, is_full, outcome
from retarget.errors import ConfigError, InputError, NotExecuted, PartlyExecuted, StoreError
from retarget.events import Event, Subject, When
from retarget.policy import Policy
from retarget.timelines import DENIED, FULL, HOLD, IMPRESSION, Alternative, Answer, Write, keys

BATCH = 1_000
"""How many visitors or events decide_many and record_many send in one round trip."""

Row: TypeAlias = Event | tuple[Any, ...] | dict[str, Any]
"""What record_many takes: an Event, or its fields in order or by name."""

_Candidates: TypeAlias = tuple[Subject, ...] | None
_log = logging.getLogger("retarget")


class Operations:
    """The operations of one retargeter, with its policy and options. Raises ConfigError for one that cannot serve."""

    def __init__(
        self,
        policy: Policy,
        system_clock: Callable[[], float],
        *,
        clock: Callable[[], float] | None,
        prefix: str,
        pepper: Pepper | None,
        secret: str | bytes | None,
        remember_denials: str | timedelta | None,
    ) -> None:
        self._clock = Clock(clock or system_clock, own=clock is not None)
        self._visitors = Visitors(prefix, pepper)
        self._tokens = Tokens(self._visitors, secret)
        self._denials = denials_for(remember_denials)
        self.use(policy)

    def use(self, policy: Policy) -> None:
        """Decide by this policy from the next call on."""
        if not isinstance(policy, Policy):
            raise ConfigError(f"policy must be a Policy, got {type(policy).__name__}: load one with Policy.from_toml")
        self.plan = Plan(policy)
        if self._denials is not None:
            self._denials.drop()

    # -- deciding ---------------------------------------------------------------------------------------------------

    def decide(
        self,
        visitor: str | None,
        candidates: Iterable[Subject] | None,
        *,
        now: When | None,
        timezone: str | ZoneInfo | None,
        consent: bool,
    ) -> Steps[Decision]:
        """Decide on the visitor's timelines, those remembered from a denial or those in the store."""
        wanted = check_candidates(candidates)
        plan_at = self._clock.plan_at(self.plan, self._clock.now(now), timezone)
        uniform = _uniform_verdict(plan_at.plan, visitor, consent=consent)
        if uniform is not None or visitor is None:
            return Decision(plan_at, wanted, uniform=uniform)
        key = self._visitors.key(visitor)
        denials = self._denials
        try:
            if denials is None:
                return _decision(plan_at, wanted, (yield from Read(key)))
            denied = self._denied(key, plan_at, wanted)
            if denied is not None:
                return denied
            generation = denials.generation
            state = yield from Read(key)
            decision = _decision(plan_at, wanted, state)
        except StoreError as error:
            return _degraded(plan_at, wanted, error)
        if not decision.eligible:
            denials.put(key, state, plan_at.now, generation)
        return decision

    def decide_many(
        self,
        visitors: Iterable[str | None],
        candidates: Iterable[Subject] | None,
        *,
        now: When | None,
        timezone: str | ZoneInfo | None,
    ) -> Batches[Decision]:
        """Decide for each visitor, in order, a batch per round trip."""
        wanted = check_candidates(candidates)
        plan_at = self._clock.plan_at(self.plan, self._clock.now(now), timezone)
        remaining = iter(check_list(visitors, "visitors", "a list of visitor ids"))
        while batch := list(islice(remaining, BATCH)):
            yield self._decide_batch(plan_at, wanted, batch)

    def _decide_batch(self, plan_at: PlanAt, wanted: _Candidates, visitors: list[str | None]) -> Steps[list[Decision]]:
        uniform = _uniform_verdict(plan_at.plan, None, consent=True)
        states = iter(
            (yield from ReadMany([self._visitors.key(visitor) for visitor in visitors if visitor is not None]))
        )
        decisions = []
        for visitor in visitors:
            if visitor is None:
                decisions.append(Decision(plan_at, wanted, uniform=uniform))
                continue
            state = next(states)
            try:
                if isinstance(state, StoreError):
                    raise state
                decisions.append(_decision(plan_at, wanted, state))
            except StoreError as error:
                decisions.append(_degraded(plan_at, wanted, error))
        return decisions

    def _denied(self, key: bytes, plan_at: PlanAt, wanted: _Candidates) -> Decision | None:
        """The decision on what is remembered of a visitor found blocked, if it still denies everything."""
        state = self._denials.get(key, plan_at.now) if self._denials is not None else None
        decision = None if state is None else _decision(plan_at, wanted, state)
        return None if decision is None or decision.eligible else decision

    def _changed(self, key: bytes) -> None:
        """Drop what is remembered of a visitor who may have changed."""
        if self._denials is not None:
            self._denials.drop(key)

    # -- claiming ---------------------------------------------------------------------------------------------------

    def claim(
        self,
        visitor: str | None,
        candidates: Iterable[Subject] | None,
        *,
        now: When | None,
        id_: str | None,
        hold: str | timedelta | None,
        timezone: str | ZoneInfo | None,
        consent: bool,
    ) -> Steps[Claim | None]:
        """Count or reserve an impression of the first eligible candidate, in one write of alternatives."""
        plan_at = self._clock.plan_at(self.plan, self._clock.now(now), timezone)
        plan, wanted = plan_at.plan, check_candidates(candidates)
        wanted = tuple(plan.compiled) if wanted is None else wanted
        claim_id = event_id(IMPRESSION, id_)
        held_for = None if hold is None else hold_seconds(hold)
        mark = b"" if held_for is None else claim_id or secrets.token_bytes(HOLD_BYTES)
        found = claim_alternatives if held_for is None else partial(hold_alternatives, seconds=held_for)
        choices = [(subject, choice) for subject in wanted for choice in found(plan_at, subject)]
        uniform = _uniform_verdict(plan, visitor, consent=consent)
        if uniform is not None or visitor is None:
            return self._uncounted(choices, plan_at.now) if uniform else None
        key = self._visitors.key(visitor)
        if not claim_id and (not choices or self._denied(key, plan_at, wanted) is not None):
            return None
        try:
            alternatives = tuple(choice for _, choice in choices)
            answer = yield from self._apply(
                Write(key, plan_at.now, claim_id, alternatives, HOLD + mark if mark else b"")
            )
        except StoreError as error:
            answer_is = plan.policy.on_store_error
            if answer_is == "raise":
                raise
            _log.warning("claim: the store failed, on_store_error=%s: %s: %s", answer_is, type(error).__name__, error)
            if answer_is == "block":
                return None
            return self._uncounted(choices, plan_at.now, key, mark or secrets.token_bytes(HOLD_BYTES), error)
        repeated = isinstance(answer, bytes)
        if isinstance(answer, bytes):
            subject = _claimed_before(plan, answer, wanted)
        elif answer > DENIED:
            subject = choices[answer - 1][0]
        else:
            return None
        token = Unsealed(self._tokens, key, subject, mark)
        return Claim(subject, plan_at.now, token, held_for=held_for, repeated=repeated)

    def _uncounted(
        self,
        choices: Sequence[tuple[Subject, Alternative]],
        now: int,
        key: bytes | None = None,
        mark: bytes = b"",
        degraded: StoreError | None = None,
    ) -> Claim | None:
        """What the policy allows without the visitor's history: the first candidate that could be shown to anybody."""
        if not choices:
            return None
        subject = choices[0][0]
        token = Unsealed(self._tokens, key, subject, mark)
        return Claim(subject, now, token, counted=False, degraded=degraded)

    def confirm(self, claim: Claim | str, *, at: When | None) -> Steps[Confirmation]:
        """Count a reserved impression, in time or late."""
        key, token = self._opened(claim)
        second, now = self._clock.event_time(at)
        if not token.hold:
            return "repeated"
        in_time, late = confirm_alternatives(self.plan, token.candidate, token.hold, second, now)
        id_ = keys.event_id("confirm", token.hold.hex())
        answer = yield from self._apply(Write(key, now, id_, (*in_time, *late), HOLD + token.hold))
        if isinstance(answer, bytes):
            return "repeated"
        if answer == FULL:
            raise NotExecuted("this visitor's timelines are full: nothing more can be counted")
        return "confirmed" if 0 < answer <= len(in_time) else "late"

    def release(self, claim: Claim | str, *, now: When | None) -> Steps[bool]:
        """Undo a reserved impression."""
        key, token = self._opened(claim)
        second = self._clock.now(now)
        if not token.hold:
            return False
        choice = release_alternative(self.plan, token.candidate, token.hold, second)
        answer = yield from self._apply(Write(key, second, b"", (choice,), HOLD + token.hold))
        return answer == 1

    def _opened(self, claim: Claim | str) -> tuple[bytes, Token]:
        return self._tokens.open(claim.token if isinstance(claim, Claim) else claim)

    def _apply(self, write: Write) -> Steps[Answer]:
        try:
            return (yield from Apply(write))
        finally:
            self._changed(write.key)

    # -- recording --------------------------------------------------------------------------------------------------

    def record(
        self,
        visitor: str | None,
        event: str,
        subject: Subject | None,
        *,
        at: When | None,
        id_: str | None,
        consent: bool,
    ) -> Steps[bool]:
        """Count one event."""
        happened = Event(visitor if consent else None, event, subject, at, id_)
        write = event_write(self.plan, self._clock, self._visitors, happened)
        return write if isinstance(write, bool) else was_counted((yield from self._apply(write)))

    def record_many(self, events: Iterable[Row]) -> Batches[bool | StoreError]:
        """Count each event, in order, a batch per round trip."""
        remaining = iter(check_list(events, "events", "a list of Events, or of tuples or mappings of their fields"))
        while batch := list(islice(remaining, BATCH)):
            yield self._record_batch([as_event(row) for row in batch])

    def _record_batch(self, events: list[Event]) -> Steps[list[bool | StoreError]]:
        writes = [event_write(self.plan, self._clock, self._visitors, event) for event in events]
        due = [write for write in writes if isinstance(write, Write)]
        try:
            answers = iter((yield from ApplyMany(due)))
        finally:
            for write in due:
                self._changed(write.key)
        replies = (next(answers) if isinstance(write, Write) else write for write in writes)
        return [reply if isinstance(reply, bool | StoreError) else was_counted(reply) for reply in replies]

    # -- what a visitor may ask for ---------------------------------------------------------------------------------

    def export(self, visitor: str) -> Steps[dict[str, Any]]:
        """Read everything kept under the visitor's keys."""
        return export(visitor, (yield from ReadMany(self._visitors.all_keys(visitor))))

    def forget(self, visitor: str) -> Steps[bool]:
        """Delete the visitor's keys, the oldest first."""
        known = False
        for key in self._visitors.all_keys(visitor):
            try:
                known = (yield from Delete(key)) or known
            finally:
                self._changed(key)
        return known

    def merge(self, source: str, *, into: str, now: When | None) -> Steps[bool]:
        """Move one visitor's history to another."""
        key, target = self._visitors.key(source), self._visitors.key(into)
        if key == target:
            raise InputError("merge: source and into are the same visitor")
        return (yield from self._move(key, target, now))

    def rotate(self, visitor: str, *, now: When | None) -> Steps[bool]:
        """Move a visitor's history from the old keys to the current one."""
        *old, target = self._visitors.all_keys(visitor)
        moved = False
        for key in old:
            moved = (yield from self._move(key, target, now)) or moved
        return moved

    def _move(self, key: bytes, target: bytes, now: When | None) -> Steps[bool]:
        try:
            return (yield from move_history(self.plan, key, target, self._clock.now(now)))
        finally:
            self._changed(key)
            self._changed(target)


def _uniform_verdict(plan: Plan, visitor: str | None, *, consent: bool) -> Verdict | None:
    """The verdict on every candidate where there is no visitor, or no consent to use their history."""
    if not consent:
        return Verdict(eligible=plan.policy.on_no_consent == "allow", reason="no consent")
    if visitor is None:
        return Verdict(eligible=plan.policy.on_unknown_visitor == "allow", reason="unknown visitor")
    return None


def _decision(plan_at: PlanAt, wanted: _Candidates, state: Mapping[bytes, bytes]) -> Decision:
    if is_full(state, plan_at.now):
        return Decision(plan_at, wanted, full=state)
    return Decision(plan_at, wanted, view=View(plan_at, state))


def _degraded(plan_at: PlanAt, wanted: _Candidates, error: StoreError) -> Decision:
    """The policy's answer where the store failed. Raises that error where the policy says so."""
    answer = plan_at.plan.policy.on_store_error
    if answer == "raise":
        raise error
    uniform = Verdict(eligible=answer == "allow", reason="store error")
    return Decision(plan_at, wanted, uniform=uniform, degraded=error)


def _claimed_before(plan: Plan, remembered: bytes, wanted: Sequence[Subject]) -> Subject:
    """The candidate that a repeated claim was counted for."""
    for subject in (*wanted, *plan.compiled):
        if outcome(subject) == remembered:
            return subject
    raise InputError("this claim's id was already counted, for a candidate that is not among those given now")


def batch_results(outcomes: list[bool | StoreError]) -> list[bool]:
    """The results of a batch. Raises PartlyExecuted if some failed."""
    done = [outcome for outcome in outcomes if isinstance(outcome, bool)]
    if len(done) < len(outcomes):
        raise PartlyExecuted(outcomes)
    return done
