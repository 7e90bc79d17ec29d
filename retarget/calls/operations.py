"""What each public method does, once: generators that ask the store and are sent its replies.

Rules:
- No I/O here: an operation yields requests (requests.py); the sync and the async client each drive the same operations.
  The contract of each is the docstring of the client's method of the same name.
- Everything a caller passes is validated before the first request; a wrong argument changes nothing.
- A call runs to its end with the policy it began with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from retarget.calls.claiming import Asked, Claiming
from retarget.calls.claims import (
    Claim,
    Confirmation,
    confirm_alternatives,
    discard_alternative,
    hold_seconds,
    release_alternative,
)
from retarget.calls.clock import Clock
from retarget.calls.denials import denials_for
from retarget.calls.export import export
from retarget.calls.forgetting import forget_key
from retarget.calls.inputs import ClaimRow, as_event, check_candidates, check_list
from retarget.calls.merge import move_history
from retarget.calls.recording import event_write, report_too_old, was_counted
from retarget.calls.requests import Apply, ApplyMany, Batches, Read, ReadMany, Steps
from retarget.calls.tokens import Token, Tokens
from retarget.calls.visitors import Pepper, Visitors
from retarget.engine import Decision, Plan, PlanAt, Verdict, View, is_full
from retarget.errors import ConfigError, InputError, NotExecuted, PartlyExecuted, RetargetError, StoreError
from retarget.events import Event, Subject, When, Zone
from retarget.policy import Policy
from retarget.timelines import DENIED, FULL, LATE, Answer, Write, keys

T = TypeVar("T")

BATCH = 1_000
"""How many visitors, events or claims decide_many, record_many and claim_many send in one round trip."""

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
        timezone: Zone | None,
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
        timezone: Zone | None,
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
        timezone: Zone | None,
        consent: bool,
    ) -> Steps[Claim | None]:
        """Count or reserve an impression of the first eligible candidate, in one write of alternatives."""
        call = self._claiming(now, timezone, hold)
        asked = call.asked(visitor, candidates, id_, _uniform_verdict(call.plan_at.plan, visitor, consent=consent))
        write = self._due(call, asked)
        if write is not None:
            try:
                asked.reply = yield from self._apply(write)
            except StoreError as error:
                asked.reply = error
                _report_failed("claim", call.plan_at.plan, [error])
        return call.result(asked)

    def claim_many(
        self,
        requests: Iterable[ClaimRow],
        *,
        distinct: bool,
        hold: str | timedelta | None,
        now: When | None,
        timezone: Zone | None,
    ) -> Steps[list[Claim | None]]:
        """Claim for each request, in order, a batch per round trip. All are checked before the first is sent."""
        call = self._claiming(now, timezone, hold)
        unknown = _uniform_verdict(call.plan_at.plan, None, consent=True)
        rows = check_list(requests, "requests", "a list of (visitor, candidates, id)")
        claims = call.asked_of(rows, unknown, distinct=distinct)
        due = [(asked, write) for asked in claims if (write := self._due(call, asked)) is not None]
        for start in range(0, len(due), BATCH):
            batch = due[start : start + BATCH]
            replies: Sequence[Answer | StoreError]
            try:
                replies = yield from self._apply_many([write for _, write in batch])
            except StoreError as error:
                replies = [error] * len(batch)
            for (asked, _), reply in zip(batch, replies, strict=True):
                asked.reply = reply
        errors = [asked.reply for asked in claims if isinstance(asked.reply, StoreError)]
        _report_failed("claim_many", call.plan_at.plan, errors)
        return batch_results(call.results(claims, distinct=distinct))

    def _claiming(self, now: When | None, timezone: Zone | None, hold: str | timedelta | None) -> Claiming:
        second = self._clock.happened(now, "now").second
        plan_at = self._clock.plan_at(self.plan, second, timezone)
        held_for = None if hold is None else hold_seconds(hold)
        return Claiming(plan_at, self._visitors, self._tokens, held_for)

    def _due(self, call: Claiming, asked: Asked) -> Write | None:
        """The write that claims; None if the store need not be asked."""
        write = asked.write(call.plan_at.now)
        if write is None or write.id or self._denied(write.key, call.plan_at, asked.wanted) is None:
            return write
        return None

    def confirm(self, claim: Claim | str, *, at: When | None) -> Steps[Confirmation]:
        """Count a reserved impression: where it was reserved if that is still open, else late."""
        keys_, token = self._opened(claim)
        second, now = self._clock.happened(at, "at")
        if not token.hold:
            return "repeated"
        in_time, late = confirm_alternatives(self.plan, token.candidate, token.hold, second, now)
        id_ = keys.event_id("confirm", token.hold.hex())
        answer: Answer = DENIED
        for key in keys_:
            choices = (in_time, *late) if key == keys_[-1] else (in_time,)
            answer = yield from self._apply(Write(key, now, id_, choices, token.hold))
            if answer != DENIED:
                break
        if isinstance(answer, bytes):
            return "repeated"
        if answer > 1:  # late for this clock; for a repeat by one that is behind, the reservation may be open
            for key in keys_[:-1]:
                with suppress(StoreError):  # it is counted already: no error may say that it was not
                    yield from self._apply(Write(key, now, b"", (discard_alternative(),), token.hold))
        if answer == LATE:
            report_too_old("confirm", second)
        if answer == FULL:
            raise NotExecuted("this visitor's timelines are full: nothing more can be counted")
        return "confirmed" if answer == 1 else "late"

    def release(self, claim: Claim | str, *, now: When | None) -> Steps[bool]:
        """Undo a reserved impression, where it was reserved."""
        keys_, token = self._opened(claim)
        second = self._clock.happened(now, "now").clock
        if token.hold:
            choices = (release_alternative(token.hold, second),)
            for key in keys_:
                if (yield from self._apply(Write(key, second, b"", choices, token.hold))) == 1:
                    return True
        return False

    def _opened(self, claim: Claim | str) -> tuple[tuple[bytes, ...], Token]:
        return self._tokens.open(claim.token if isinstance(claim, Claim) else claim)

    def _apply(self, write: Write) -> Steps[Answer]:
        try:
            return (yield from Apply(write))
        finally:
            self._changed(write.key)

    def _apply_many(self, writes: Sequence[Write]) -> Steps[list[Answer | StoreError]]:
        try:
            return (yield from ApplyMany(writes))
        finally:
            for write in writes:
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
        answers = iter((yield from self._apply_many([write for write in writes if isinstance(write, Write)])))
        replies = (next(answers) if isinstance(write, Write) else write for write in writes)
        return [reply if isinstance(reply, bool | StoreError) else was_counted(reply) for reply in replies]

    # -- what a visitor may ask for ---------------------------------------------------------------------------------

    def export(self, visitor: str) -> Steps[dict[str, Any]]:
        """Read everything kept under the visitor's keys."""
        return export(visitor, (yield from ReadMany(self._visitors.all_keys(visitor))))

    def forget(self, visitor: str) -> Steps[bool]:
        """Forget what is kept under the visitor's keys, the oldest first: a rotation moves it to the current one."""
        known, now = False, self._clock.now(None)
        for key in self._visitors.all_keys(visitor):
            try:
                known = (yield from forget_key(key, now, self._apply)) or known
            finally:
                self._changed(key)
        return known

    def merge(self, source: str, *, into: str, now: When | None) -> Steps[bool]:
        """Move one visitor's history to another."""
        key, target = self._visitors.key(source), self._visitors.key(into)
        if key == target:
            raise InputError("merge: source and into are the same visitor")
        second = self._clock.happened(now, "now").second
        return (yield from move_history(self.plan, key, target, second, self._apply))

    def rotate(self, visitor: str, *, now: When | None) -> Steps[bool]:
        """Move a visitor's history from the old keys to the current one."""
        *old, target = self._visitors.all_keys(visitor)
        moved, second = False, self._clock.happened(now, "now").second
        for key in old:
            moved = (yield from move_history(self.plan, key, target, second, self._apply)) or moved
        return moved


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


def _report_failed(call: str, plan: Plan, errors: Sequence[StoreError]) -> None:
    """Log that the policy answered in place of the store; an error that is raised needs no line in the log."""
    answer = plan.policy.on_store_error
    if errors and answer != "raise":
        _log.warning(
            "%s: the store failed, on_store_error=%s%s: %s: %s",
            call,
            answer,
            f" for {len(errors):,} claims" if len(errors) > 1 else "",
            type(errors[0]).__name__,
            errors[0],
        )


def batch_results(outcomes: Sequence[T | RetargetError]) -> list[T]:
    """The results of a batch. Raises PartlyExecuted if some failed."""
    done = [outcome for outcome in outcomes if not isinstance(outcome, RetargetError)]
    if len(done) < len(outcomes):
        raise PartlyExecuted([*outcomes])
    return done
