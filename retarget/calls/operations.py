"""What each public method does and promises, once: steps that ask for reads and writes and are sent the replies.

Rules:
- No socket here: an operation yields a `Request` and receives what the store answered, or the StoreError it raised.
  The sync and the async client each drive these same steps.
- Everything a caller gives is checked before the first request; a wrong argument changes nothing.
- A call goes on to its end with the policy it began with.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, TypedDict, Unpack
from zoneinfo import ZoneInfo

from retarget.calls.claims import (
    NOBODY,
    Claim,
    Confirmation,
    Token,
    hold_alternatives,
    hold_seconds,
    lasts,
    reservable,
    seal,
    secret_bytes,
    taken_out,
    unseal,
)
from retarget.calls.clock import Clock
from retarget.calls.denials import denials_for
from retarget.calls.export import exported
from retarget.calls.inputs import as_event, candidate_list, listed
from retarget.calls.merge import merging
from retarget.calls.requests import Batches, Request, Steps
from retarget.calls.visitors import Pepper, Visitors
from retarget.engine import (
    Decision,
    Plan,
    PlanAt,
    Verdict,
    View,
    alternatives,
    as_candidate,
    claim_alternatives,
    is_full,
    outcome,
)
from retarget.errors import ConfigError, InputError, NotExecuted, PartlyExecuted, StoreError, TokenError
from retarget.events import Event, Subject, When
from retarget.policy import Policy
from retarget.timelines import DENIED, FULL, HOLD, IMPRESSION, LATE, NO_OUTCOME, Alternative, Answer, Write, keys

BATCH = 1_000
"""decide_many and record_many ask for so many visitors at a time."""

_EVENT = re.compile(r"[^\W\d][\w.-]{0,63}")
_log = logging.getLogger("retarget")


class Options(TypedDict, total=False):
    """What a retargeter may be given beside its policy and store; the same for both clients."""

    timeout: float
    """Seconds that one call may take in all, above 0 and at most 60. Default: 0.1."""
    clock: Callable[[], float] | None
    """Gives epoch seconds where a call says no time of its own. Default: the system's."""
    prefix: str
    """Begins every key. Default: `rt:`."""
    pepper: Pepper | None
    """At least 16 bytes: visitors' ids are hashed with it and never stored. Several by version to exchange it."""
    secret: str | bytes | None
    """At least 16 bytes: signs the tokens of claims. Give all processes the same."""
    remember_denials: str | timedelta | None
    """So long, at most a minute, a visitor found blocked is answered without asking the store. Default: not at all."""


class Operations:
    """The operations of one retargeter, with its policy and options. Raises ConfigError for one that cannot serve."""

    def __init__(self, policy: Policy, system_clock: Callable[[], float], **options: Unpack[Options]) -> None:
        clock = options.get("clock")
        self._moments = Clock(clock or system_clock, own=clock is not None)
        self._secret = secret_bytes(options.get("secret"))
        self._visitors = Visitors(options.get("prefix", "rt:"), options.get("pepper"))
        self._denials = denials_for(options.get("remember_denials"))
        self.use(policy)

    def use(self, policy: Policy) -> None:
        """Decide by this policy from the next call on."""
        if not isinstance(policy, Policy):
            raise ConfigError(f"{type(policy).__name__} is no policy: load one with Policy.from_toml(path)")
        self.plan = Plan(policy)
        if self._denials is not None:
            self._denials.drop()

    # -- deciding ---------------------------------------------------------------------------------------------------

    def decide(
        self,
        visitor: str | None,
        candidates: Iterable[Subject] | None = None,
        *,
        now: When | None = None,
        timezone: str | ZoneInfo | None = None,
        consent: bool = True,
    ) -> Steps[Decision]:
        """What may this visitor be shown? One round trip; nothing is counted.

        `candidates` in the caller's order, None for every campaign of the policy. `visitor=None` and `consent=False`
        get what the policy says and touch no store. If the store fails, the answer is `on_store_error` and `.degraded`
        is its error. Raises InputError for a wrong argument, or a campaign that the policy cannot decide on;
        StoreError only with `on_store_error = "raise"`.
        """
        wanted = candidate_list(candidates)
        moment = self._moments.at(self.plan, self._moments.second(now), timezone)
        uniform = self._without_history(moment.plan, visitor, consent=consent)
        if uniform is not None or visitor is None:
            return Decision(moment, wanted, uniform=uniform)
        key = self._visitors.key(visitor)
        denials = self._denials
        try:
            if denials is None:
                return self._decision(moment, wanted, (yield Request("read", key)))
            denied = self._denied(key, moment, wanted)
            if denied is not None:
                return denied
            turn = denials.turn
            state = yield Request("read", key)
            decision = self._decision(moment, wanted, state)
        except StoreError as error:
            return self._degraded(moment, wanted, error)
        if not decision.eligible:
            denials.put(key, state, moment.now, turn)
        return decision

    def _denied(self, key: bytes, moment: PlanAt, wanted: tuple[Subject, ...] | None) -> Decision | None:
        """The decision by what is remembered here of a visitor found blocked, if that still denies everything."""
        state = self._denials.get(key, moment.now) if self._denials is not None else None
        decision = None if state is None else self._decision(moment, wanted, state)
        return None if decision is None or decision.eligible else decision

    def _changed(self, key: bytes) -> None:
        """Forget what is remembered here of a visitor."""
        if self._denials is not None:
            self._denials.drop(key)

    def decide_many(
        self,
        visitors: Iterable[str | None],
        candidates: Iterable[Subject] | None = None,
        *,
        now: When | None = None,
        timezone: str | ZoneInfo | None = None,
    ) -> Batches[Decision]:
        """`decide` for each visitor, in order, a thousand to a round trip."""
        wanted = candidate_list(candidates)
        moment = self._moments.at(self.plan, self._moments.second(now), timezone)
        remaining = iter(listed(visitors, "visitors", "a list of visitors' ids"))
        while batch := list(islice(remaining, BATCH)):
            yield self._decide_batch(moment, wanted, batch)

    def _decide_batch(
        self, moment: PlanAt, wanted: tuple[Subject, ...] | None, visitors: list[str | None]
    ) -> Steps[list[Decision]]:
        uniform = self._without_history(moment.plan, None, consent=True)
        states = iter(
            (yield Request("read_many", [self._visitors.key(visitor) for visitor in visitors if visitor is not None]))
        )
        decisions = []
        for visitor in visitors:
            if visitor is None:
                decisions.append(Decision(moment, wanted, uniform=uniform))
                continue
            state = next(states)
            try:
                if isinstance(state, StoreError):
                    raise state
                decisions.append(self._decision(moment, wanted, state))
            except StoreError as error:
                decisions.append(self._degraded(moment, wanted, error))
        return decisions

    def _decision(self, moment: PlanAt, wanted: tuple[Subject, ...] | None, state: Mapping[bytes, bytes]) -> Decision:
        if is_full(state, moment.now):
            return Decision(moment, wanted, uniform=Verdict(eligible=False, reason="full"))
        return Decision(moment, wanted, view=View(moment, state))

    def _degraded(self, moment: PlanAt, wanted: tuple[Subject, ...] | None, error: StoreError) -> Decision:
        answer = moment.plan.policy.on_store_error
        if answer == "raise":
            raise error
        uniform = Verdict(eligible=answer == "allow", reason="store error")
        return Decision(moment, wanted, uniform=uniform, degraded=error)

    # -- claiming and recording -------------------------------------------------------------------------------------

    def claim(
        self,
        visitor: str | None,
        candidates: Iterable[Subject] | None = None,
        *,
        now: When | None = None,
        id: str | None = None,  # noqa: A002 - the field's word
        hold: str | timedelta | None = None,
        timezone: str | ZoneInfo | None = None,
        consent: bool = True,
    ) -> Steps[Claim | None]:
        """Count an impression of the first eligible candidate, atomically; None if none is. One round trip.

        However many processes claim for one visitor at once, none of her caps is passed. A claim repeated with its
        `id` counts nothing and returns what it returned. With `hold` ("15 minutes", at most a day) the impression is
        reserved only: it counts at once, and lapses by itself unless it is confirmed in time; release it when the bid
        is lost. If the store fails: None with `on_store_error = "block"`, an uncounted claim with `.degraded` set with
        "allow", StoreError with "raise". Raises InputError for a wrong argument.
        """
        moment = self._moments.at(self.plan, self._moments.second(now), timezone)
        plan, wanted = moment.plan, candidate_list(candidates)
        wanted = tuple(plan.compiled) if wanted is None else wanted
        event_id = self._event_id(IMPRESSION, id)
        seconds = None if hold is None else hold_seconds(hold)
        mark = b"" if seconds is None else event_id or secrets.token_bytes(5)
        found = claim_alternatives if seconds is None else partial(hold_alternatives, seconds=seconds)
        choices = [(subject, choice) for subject in wanted for choice in found(moment, subject)]
        uniform = self._without_history(plan, visitor, consent=consent)
        if uniform is not None or visitor is None:
            return self._uncounted(choices, moment.now) if uniform else None
        key = self._visitors.key(visitor)
        if not event_id and (not choices or self._denied(key, moment, wanted) is not None):
            return None
        try:
            alternatives = tuple(choice for _, choice in choices)
            held = HOLD + mark if mark else b""
            answer = yield from self._written(Write(key, moment.now, event_id, alternatives, held))
        except StoreError as error:
            if plan.policy.on_store_error == "raise":
                raise
            said = plan.policy.on_store_error, type(error).__name__, error
            _log.warning("claim: the store failed, the policy says %s: %s: %s", *said)
            if plan.policy.on_store_error == "block" or not choices:
                return None
            token = self._token(key, choices[0][0], mark or secrets.token_bytes(5))
            return Claim(choices[0][0], moment.now, token, counted=False, degraded=error)
        if not isinstance(answer, bytes) and answer <= DENIED:
            return None
        repeated = isinstance(answer, bytes)
        subject = self._claimed_before(plan, answer, wanted) if isinstance(answer, bytes) else choices[answer - 1][0]
        return Claim(subject, moment.now, self._token(key, subject, mark), held_for=seconds, repeated=repeated)

    def confirm(self, claim: Claim | str, *, at: When | None = None) -> Steps[Confirmation]:
        """The reserved impression was shown: count it. `claim` is the Claim or its token, from any process.

        "confirmed"; "late" where the hold had lapsed (it counts all the same: it was shown); "repeated" where it was
        counted before. Raises TokenError for a token that is not ours, NotExecuted or OutcomeUnknown if the store
        fails; repeating it is safe.
        """
        token = self._unsealed(claim)
        at_second, now = self._moments.judged(at)
        if not token.hold:
            return "repeated"
        places = self.plan.places(IMPRESSION, token.candidate)
        counted = alternatives(self.plan, places, at_second, now, outcome=outcome(token.candidate))
        guard, removal = lasts(token.hold, now), taken_out(reservable(self.plan, token.candidate), token.hold)
        in_time = tuple(
            Alternative((*choice.guards, guard), (*choice.changes, *removal), choice.ttl, choice.outcome)
            for choice in counted
        )
        id_ = keys.event_id("confirm", token.hold.hex())
        answer = yield from self._written(Write(self._named(token), now, id_, (*in_time, *counted), HOLD + token.hold))
        if isinstance(answer, bytes):
            return "repeated"
        if answer == FULL:
            raise NotExecuted("this visitor's timelines are full: nothing more can be counted for her")
        return "confirmed" if 0 < answer <= len(in_time) else "late"

    def release(self, claim: Claim | str, *, now: When | None = None) -> Steps[bool]:
        """The reserved impression was not shown (the bid was lost): undo it. True if it was reserved still.

        Raises TokenError for a token that is not ours, NotExecuted or OutcomeUnknown if the store fails; repeating it
        is safe.
        """
        token = self._unsealed(claim)
        moment = self._moments.second(now)
        if not token.hold:
            return False
        removal = taken_out(reservable(self.plan, token.candidate), token.hold)
        choice = Alternative((lasts(token.hold, moment),), removal, 1)
        answer = yield from self._written(Write(self._named(token), moment, b"", (choice,), HOLD + token.hold))
        return bool(answer == 1)

    def _written(self, write: Write) -> Steps[Answer]:
        try:
            answer: Answer = yield Request("write", write)
            return answer
        finally:
            self._changed(write.key)

    def _token(self, key: bytes, subject: Subject, mark: bytes) -> Callable[[], str]:
        return lambda: seal(Token(self._visitors.name(key), as_candidate(subject), mark), self._secret)

    def _named(self, token: Token) -> bytes:
        try:
            return self._visitors.named(token.visitor)
        except InputError as error:
            raise TokenError("this token does not say what a claim's token says") from error

    def _unsealed(self, claim: Claim | str) -> Token:
        return unseal(claim.token if isinstance(claim, Claim) else claim, self._secret)

    def record(
        self,
        visitor: str | None,
        event: str,
        subject: Subject | None = None,
        *,
        at: When | None = None,
        id: str | None = None,  # noqa: A002 - the field's word
        consent: bool = True,
    ) -> Steps[bool]:
        """Remember that something happened. True; False where that id was counted before.

        Late events land at their own time; one older than anything the policy asks about is dropped: False, and a
        warning in the log `retarget`. Without a visitor or consent nothing is remembered: False. An `at` of the past is
        taken at its word unless the retargeter was given a clock. Raises InputError (nothing was stored) for a wrong
        argument or a moment more than 300 seconds ahead; NotExecuted or OutcomeUnknown if the store fails.
        """
        write = self._recorded(Event(visitor if consent else None, event, subject, at, id))
        return write if isinstance(write, bool) else self._counted((yield from self._written(write)))

    def record_many(self, events: Iterable[Event | tuple[Any, ...] | dict[str, Any]]) -> Batches[bool | StoreError]:
        """`record` for each event, in order, a thousand to a round trip: one answer each.

        Raises PartlyExecuted if some failed, with all answers; InputError for a wrong event, before its thousand is
        begun.
        """
        remaining = iter(
            listed(events, "events", "a list of Events, or tuples or mappings of their fields; this is no event list")
        )
        while batch := list(islice(remaining, BATCH)):
            yield self._record_batch([as_event(row) for row in batch])

    def _record_batch(self, events: list[Event]) -> Steps[list[bool | StoreError]]:
        writes = [self._recorded(event) for event in events]
        due = [write for write in writes if isinstance(write, Write)]
        try:
            answers = iter((yield Request("write_many", due)))
        finally:
            for write in due:
                self._changed(write.key)
        counted = (next(answers) if isinstance(write, Write) else write for write in writes)
        return [answer if isinstance(answer, bool | StoreError) else self._counted(answer) for answer in counted]

    def _recorded(self, event: Event) -> Write | bool:
        """The write that counts an event, or the answer where there is nothing to write."""
        at, now = self._moments.judged(event.at)
        id_ = self._event_id(event.event, event.id)
        choices = self._choices(self.plan, event, at, now)
        if event.visitor is None:
            return False
        key = self._visitors.key(event.visitor)
        if choices is None:
            self._too_old(at)
            return False
        if not (id_ or choices[0].changes):
            return True
        return Write(key, now, id_, choices)

    def _choices(self, plan: Plan, event: Event, at: int, now: int) -> tuple[Alternative, ...] | None:
        """What enters the event, None if it is too old to; the same for all visitors of one second."""
        moment = self._moments.at(plan, now, None)
        try:
            known = moment.records.get((event.event, event.subject)) if at == now else None
        except TypeError:  # unhashable: no subject at all, which `as_candidate` says properly
            known = None
        if known is not None:
            return known
        if not isinstance(event.event, str) or not _EVENT.fullmatch(event.event):
            raise InputError(
                f"event {event.event!r:.80} is no event name: letters, digits, . - and _, at most 64, no digit first"
            )
        subject = None if event.subject is None else as_candidate(event.subject)
        if subject is None and event.event == IMPRESSION:
            raise InputError("an impression needs its campaign as the subject")
        places = plan.places(event.event, subject)
        fresh = [place for place in places if at >= now - place.horizon]
        if places and not fresh:
            return None
        remembered = outcome(event.subject) if event.subject is not None else NO_OUTCOME
        choices = alternatives(plan, fresh, at, now, outcome=remembered)
        if at == now:
            moment.records[event.event, event.subject] = choices
        return choices

    def _counted(self, answer: Answer) -> bool:
        if answer == LATE:
            self._too_old(None)
        elif answer == FULL:
            _log.warning("record: this visitor's timelines are full, the event is dropped")
        return isinstance(answer, int) and answer > DENIED

    def _too_old(self, at: int | None) -> None:
        when = f"of {datetime.fromtimestamp(at, UTC).isoformat()} " if at is not None else ""
        _log.warning(
            "record: an event %sis older than any rule asks about, and dropped (an old log: give a clock= of its time)",
            when,
        )

    def _uncounted(self, choices: Sequence[tuple[Subject, Alternative]], at: int) -> Claim | None:
        """What the policy allows without a look at the visitor: the first candidate that the clock lets be shown."""
        return Claim(choices[0][0], at, lambda: seal(NOBODY, self._secret), counted=False) if choices else None

    def _claimed_before(self, plan: Plan, remembered: bytes, wanted: Sequence[Subject]) -> Subject:
        for subject in (*wanted, *plan.compiled):
            if outcome(subject) == remembered:
                return subject
        raise InputError("this claim's id was counted before, for a candidate that is not among the ones given now")

    # -- what a visitor may ask for ---------------------------------------------------------------------------------

    def export(self, visitor: str) -> Steps[dict[str, Any]]:
        """All that is remembered of a visitor, under old peppers too, ready for JSON. Raises StoreError."""
        keys = [*self._visitors.old_keys(visitor), self._visitors.key(visitor)]
        return exported(visitor, (yield Request("read_many", keys)))

    def forget(self, visitor: str) -> Steps[bool]:
        """Forget a visitor, under old peppers too; True if anything was known.

        Raises StoreError; repeating it is safe.
        """
        known = False
        for key in [*self._visitors.old_keys(visitor), self._visitors.key(visitor)]:
            try:
                known = bool((yield Request("delete", key))) or known
            finally:
                self._changed(key)
        return known

    def merge(self, source: str, *, into: str, now: When | None = None) -> Steps[bool]:
        """What `source` did and was shown becomes that of `into`, as when a cookie signs in; True if there was any.

        Three writes, each whole by itself: while it is under way, or was broken off, what is moved counts for both, and
        repeating it finishes it. Late, repeated and concurrent merges count nothing twice. What happens to `source`
        afterwards stays there until merged again; reserved impressions are moved, so a confirmation of one comes late.
        Raises InputError for one id given twice; NotExecuted or OutcomeUnknown if the store fails.
        """
        key, target = self._visitors.key(source), self._visitors.key(into)
        if key == target:
            raise InputError("merge: source and into are the same visitor")
        return (yield from self._moved(key, target, now))

    def rotate(self, visitor: str, *, now: When | None = None) -> Steps[bool]:
        """What is stored under an old pepper is moved under the one in force; True if there was anything.

        As `merge` does it, and as safe to repeat. Raises NotExecuted or OutcomeUnknown if the store fails.
        """
        target, moved = self._visitors.key(visitor), False
        for key in self._visitors.old_keys(visitor):
            moved = (yield from self._moved(key, target, now)) or moved
        return moved

    def _moved(self, key: bytes, target: bytes, now: When | None) -> Steps[bool]:
        try:
            return (yield from merging(self.plan, key, target, self._moments.second(now)))
        finally:
            self._changed(key)
            self._changed(target)

    # -- what callers give ------------------------------------------------------------------------------------------

    def _without_history(self, plan: Plan, visitor: str | None, *, consent: bool) -> Verdict | None:
        """The verdict on every candidate where there is no visitor, or no consent to know her."""
        if not consent:
            return Verdict(eligible=plan.policy.on_no_consent == "allow", reason="no consent")
        return (
            Verdict(eligible=plan.policy.on_unknown_visitor == "allow", reason="unknown visitor")
            if visitor is None
            else None
        )

    def _event_id(self, event: str, id_: str | None) -> bytes:
        if id_ is None:
            return b""
        if not isinstance(id_, str) or not id_:
            raise InputError(f"id={id_!r:.80} is no event id: a text that is not empty, or None")
        try:
            return keys.event_id(event, id_)
        except UnicodeEncodeError as error:
            raise InputError(f"id={id_!r:.80} is not valid Unicode") from error


def results(outcomes: list[bool | StoreError]) -> list[bool]:
    """The outcomes of a batch, if none failed. Raises PartlyExecuted."""
    done = [outcome for outcome in outcomes if isinstance(outcome, bool)]
    if len(done) < len(outcomes):
        raise PartlyExecuted(outcomes)
    return done
