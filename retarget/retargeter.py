"""The clients: a policy and a store, and what an ad server or a campaign backend asks of them.

Rules:
- A client's methods are written out, with their contract; what they do is in `calls`, once for both clients. A client
  only drives an operation: it asks the store each request and sends the reply back.
- Annotations here are evaluated, not postponed: `inspect.signature` of a public method shows real types.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, Self, TypeVar

from retarget.calls import Claim, ClaimRow, Confirmation, Operations, Pepper, Row, Steps, batch_results
from retarget.engine import Decision
from retarget.errors import StoreError
from retarget.events import Subject, When, Zone
from retarget.policy import Policy
from retarget.stores import AnyAsyncStore, AnyStore, open_async_store, open_store
from retarget.timelines import Health

T = TypeVar("T")


class Retargeter:
    """Remembers what visitors did and were shown, and decides what they may be shown.

    `store` is a URL (`redis://`, `rediss://`, `unix://`, `redis+cluster://`, `redis+sentinel://host/service`,
    `memory://`), a `redis.Redis` (a Sentinel's primary too), a `redis.RedisCluster`, or a store such as
    `MemoryStore()`. Threads may share a retargeter; it closes as a context manager, or with `close()`.

    Options:

    - `clock`: gives epoch seconds where a call gives no time. Default: the system's. With a clock of your own, a call
      may give a time that is any distance ahead of it.
    - `timeout`: seconds that one call may take in all, including connecting and retries; above 0, at most 60.
    - `prefix`: what every key begins with; a string without `~` and `!`, which end it.
    - `pepper`: at least 16 bytes; visitors' ids are hashed with it and never stored. To rotate it, give several by
      version: `{1: old, 2: new}`.
    - `secret`: at least 16 bytes; signs the tokens of claims. Give all processes the same.
    - `remember_denials`: for how long ("5 seconds", at most a minute) a visitor found blocked is answered without
      asking the store. Default: not at all.

    Raises ConfigError for a store or an option that cannot be used; warns (RetargetWarning) if a client's own kind of
    connection pool is not used.
    """

    def __init__(
        self,
        policy: Policy,
        store: AnyStore,
        *,
        clock: Callable[[], float] | None = None,
        timeout: float = 0.1,
        prefix: str = "rt:",
        pepper: Pepper | None = None,
        secret: str | bytes | None = None,
        remember_denials: str | timedelta | None = None,
    ) -> None:
        self._operations = Operations(
            policy,
            time.time,
            clock=clock,
            prefix=prefix,
            pepper=pepper,
            secret=secret,
            remember_denials=remember_denials,
        )
        self._store = open_store(store, timeout)

    @property
    def policy(self) -> Policy:
        """The policy in force. Set another at any time: calls under way finish on the old one."""
        return self._operations.plan.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._operations.use(policy)

    def decide(
        self,
        visitor: str | None,
        candidates: Iterable[Subject] | None = None,
        *,
        now: When | None = None,
        timezone: Zone | None = None,
        consent: bool = True,
    ) -> Decision:
        """Decide which candidates the visitor may be shown. One round trip; nothing is counted.

        `candidates` are campaign ids or Candidates, in the caller's order; None means every campaign of the policy.
        `now` is an aware datetime or epoch seconds (default: the clock's). `timezone` is the visitor's, for calendar
        windows and hours (default: the policy's): an IANA name, "+02:00", minutes east of UTC, a ZoneInfo or a
        `datetime.timezone`. `visitor=None` and `consent=False` get the policy's
        `on_unknown_visitor` and `on_no_consent`, and no store is asked. If the store fails, the answer is the policy's
        `on_store_error`, and `.degraded` is the error.

        Raises InputError for a wrong argument, or a campaign that the policy cannot decide on; StoreError only with
        `on_store_error = "raise"`.
        """
        return self._drive(self._operations.decide(visitor, candidates, now=now, timezone=timezone, consent=consent))

    def decide_many(
        self,
        visitors: Iterable[str | None],
        candidates: Iterable[Subject] | None = None,
        *,
        now: When | None = None,
        timezone: Zone | None = None,
    ) -> Iterator[Decision]:
        """Decide for each visitor, in order, a thousand per round trip. All are judged at one `now`.

        Arguments, answers and errors are those of `decide`; visitors are read from their iterable as they are needed.
        """
        for steps in self._operations.decide_many(visitors, candidates, now=now, timezone=timezone):
            yield from self._drive(steps)

    def claim(
        self,
        visitor: str | None,
        candidates: Iterable[Subject] | None = None,
        *,
        now: When | None = None,
        id: str | None = None,  # noqa: A002 - the field's word
        hold: str | timedelta | None = None,
        timezone: Zone | None = None,
        consent: bool = True,
    ) -> Claim | None:
        """Count an impression of the first eligible candidate, atomically; None if none is eligible. One round trip.

        However many processes claim for one visitor at once, no cap is exceeded. A claim repeated with its `id` counts
        nothing and returns the original one. With `hold` ("15 minutes", or a timedelta; from a second to a day) the
        impression is only reserved: it counts at once, and lapses by itself unless it is confirmed in time; release it
        when the bid is lost. The other arguments are those of `decide`.

        If the store fails: None with `on_store_error = "block"`, an uncounted claim with `.degraded` set with "allow",
        StoreError with "raise". Raises InputError (nothing was counted) for a wrong argument, a `now` more than 300
        seconds ahead of the clock (unless a `clock` was given), or an `id` that was counted for a candidate which is
        neither among those given nor in the policy.
        """
        return self._drive(
            self._operations.claim(visitor, candidates, now=now, id_=id, hold=hold, timezone=timezone, consent=consent)
        )

    def claim_many(
        self,
        requests: Iterable[ClaimRow],
        *,
        distinct: bool = False,
        hold: str | timedelta | None = None,
        now: When | None = None,
        timezone: Zone | None = None,
    ) -> list[Claim | None]:
        """`claim` for each request, in order, a thousand per round trip; returns one answer for each.

        A request is a tuple of a visitor, candidates (None: every campaign) and, where a repeat must not count, an id.
        Each is judged after those before it: a page with three places gets three answers that respect gaps and caps
        together. With `distinct`, no two claims of one call for one visitor name the same campaign, nor do they if the
        whole call is repeated with its ids within five minutes; an id that another call has used keeps its campaign.
        The other arguments are those of `claim`, and hold for all.

        If the store fails, each request is answered as `claim` would answer it; with `on_store_error = "raise"`
        PartlyExecuted has all answers. Raises InputError for a wrong request before anything is counted, and names its
        position: `requests[2]: ...`.
        """
        return self._drive(
            self._operations.claim_many(requests, distinct=distinct, hold=hold, now=now, timezone=timezone)
        )

    def confirm(self, claim: Claim | str, *, at: When | None = None) -> Confirmation:
        """Count a reserved impression, because it was shown. `claim` is the Claim or its token, from any process.

        Returns "confirmed"; "late" if the hold had lapsed (it counts all the same: it was shown); "repeated" if it was
        already counted. `at` says when it was shown (default: the clock's time), the clock says whether the hold still
        lasted. In time, exactly what was reserved is counted, whatever the policy says by now; late, the policy in
        force decides where.

        Raises TokenError for a token that was altered or made with another secret; InputError for an `at` more than 300
        seconds ahead of the clock, unless a `clock` was given; NotExecuted or OutcomeUnknown if the store fails:
        repeating the call is safe.
        """
        return self._drive(self._operations.confirm(claim, at=at))

    def release(self, claim: Claim | str, *, now: When | None = None) -> bool:
        """Undo a reserved impression, because it was not shown (the bid was lost). True if it was still reserved.

        `claim` is the Claim or its token, from any process. Exactly what was reserved is undone. `now` says when the
        impression was lost, the clock says whether the hold still lasted. Raises TokenError, InputError, NotExecuted or
        OutcomeUnknown as `confirm` does; repeating the call is safe.
        """
        return self._drive(self._operations.release(claim, now=now))

    def record(
        self,
        visitor: str | None,
        event: str,
        subject: Subject | None = None,
        *,
        at: When | None = None,
        id: str | None = None,  # noqa: A002 - the field's word
        consent: bool = True,
    ) -> bool:
        """Remember that something happened. True; False if this `id` was already counted.

        `event` is a name ("impression", "click", "visit", ...), `subject` what it was about: a campaign, a Candidate,
        or any other string. `at` is an aware datetime or epoch seconds (default: the clock's). A late event is entered
        at its own time; one older than anything the policy asks about is dropped: False, and a warning in the log
        `retarget`. Without a visitor or consent nothing is remembered: False. A past `at` is judged at its own time,
        unless a `clock` was given.

        Raises InputError (nothing was stored) for a wrong argument, or an `at` more than 300 seconds ahead of the
        clock, unless a `clock` was given; NotExecuted or OutcomeUnknown if the store fails: with an `id`, repeating the
        call is safe.
        """
        return self._drive(self._operations.record(visitor, event, subject, at=at, id_=id, consent=consent))

    def record_many(self, events: Iterable[Row]) -> list[bool]:
        """`record` each event, in order, a thousand per round trip; returns one answer for each.

        An event is an Event, or a tuple or dict of its fields. Raises PartlyExecuted if some failed, with all answers;
        InputError for a wrong event, before the thousand it is in is sent.
        """
        batches = self._operations.record_many(events)
        return batch_results([outcome for steps in batches for outcome in self._drive(steps)])

    def export(self, visitor: str) -> dict[str, Any]:
        """Return everything stored about a visitor, under old peppers too, ready for JSON. Raises StoreError."""
        return self._drive(self._operations.export(visitor))

    def forget(self, visitor: str) -> bool:
        """Delete everything stored about a visitor, under old peppers too; True if there was anything.

        Nothing of it comes back from a merge or a rotation that is under way; what a merge had moved before belongs to
        the other id: forget both, the source first. Raises StoreError; repeating the call is safe.
        """
        return self._drive(self._operations.forget(visitor))

    def merge(self, source: str, *, into: str, now: When | None = None) -> bool:
        """Move the history of `source` to `into`, as when a cookie signs in; True if there was any.

        Several atomic writes: while the merge is under way, or if it was interrupted, what is moved counts for both,
        and any later merge of `source` finishes it. Late, repeated and concurrent merges, into whomever, count nothing
        twice. What happens to `source` afterwards stays there until merged again. Reserved impressions count for `into`
        until their end; they are confirmed and released where they were reserved.

        Raises InputError if both ids are the same; NotExecuted or OutcomeUnknown if the store fails.
        """
        return self._drive(self._operations.merge(source, into=into, now=now))

    def rotate(self, visitor: str, *, now: When | None = None) -> bool:
        """Move what is stored under the visitor's old peppers to the current one; True if there was anything.

        Works as `merge` does, and is as safe to repeat. Raises NotExecuted or OutcomeUnknown if the store fails.
        """
        return self._drive(self._operations.rotate(visitor, now=now))

    def health(self) -> tuple[Health, ...]:
        """Return what is known of each server asked so far: whether it is up, its failures in a row, the last error."""
        return self._store.health()

    def close(self) -> None:
        """Close the connections that the library opened. A client that was given stays as it is."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drive(self, steps: Steps[T]) -> T:
        """Run an operation to its end."""
        try:
            request = next(steps)
            while True:
                try:
                    reply = request.ask(self._store)
                except StoreError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result


class AsyncRetargeter:
    """`Retargeter` for asyncio: the same methods, awaited; concurrent calls share a pipeline.

    `store` is a URL, a `redis.asyncio.Redis` or `RedisCluster`, or a `MemoryStore()`; policy and options are those of
    `Retargeter`. It belongs to the event loop of its first call. A call that is cancelled never spoils another's
    answer; a cancelled write may still have happened. It closes as an async context manager, or with `close()`.
    """

    def __init__(
        self,
        policy: Policy,
        store: AnyAsyncStore,
        *,
        clock: Callable[[], float] | None = None,
        timeout: float = 0.1,
        prefix: str = "rt:",
        pepper: Pepper | None = None,
        secret: str | bytes | None = None,
        remember_denials: str | timedelta | None = None,
    ) -> None:
        self._operations = Operations(
            policy,
            time.time,
            clock=clock,
            prefix=prefix,
            pepper=pepper,
            secret=secret,
            remember_denials=remember_denials,
        )
        self._store = open_async_store(store, timeout)

    @property
    def policy(self) -> Policy:
        """The policy in force. Set another at any time: calls under way finish on the old one."""
        return self._operations.plan.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._operations.use(policy)

    async def decide(
        self,
        visitor: str | None,
        candidates: Iterable[Subject] | None = None,
        *,
        now: When | None = None,
        timezone: Zone | None = None,
        consent: bool = True,
    ) -> Decision:
        """Decide which candidates (None: every campaign) the visitor may be shown. Nothing is counted.

        `visitor=None`, `consent=False` and a store that fails get what the policy says; `.degraded` is then the store's
        error. Raises InputError for a wrong argument; StoreError only with `on_store_error = "raise"`.
        """
        return await self._drive(
            self._operations.decide(visitor, candidates, now=now, timezone=timezone, consent=consent)
        )

    async def decide_many(
        self,
        visitors: Iterable[str | None],
        candidates: Iterable[Subject] | None = None,
        *,
        now: When | None = None,
        timezone: Zone | None = None,
    ) -> AsyncIterator[Decision]:
        """Decide for each visitor, in order, a thousand per round trip: `async for decision in ...`.

        All are judged at one `now`. Answers and errors are those of `decide`.
        """
        for steps in self._operations.decide_many(visitors, candidates, now=now, timezone=timezone):
            for decision in await self._drive(steps):
                yield decision

    async def claim(
        self,
        visitor: str | None,
        candidates: Iterable[Subject] | None = None,
        *,
        now: When | None = None,
        id: str | None = None,  # noqa: A002 - the field's word
        hold: str | timedelta | None = None,
        timezone: Zone | None = None,
        consent: bool = True,
    ) -> Claim | None:
        """Count an impression of the first eligible candidate, atomically; None if none is eligible.

        No cap is exceeded, however many claims run at once. Repeated with its `id`, it returns the original claim. With
        `hold` ("15 minutes", at most a day) the impression is only reserved, until it is confirmed or released. If the
        store fails, the policy's `on_store_error` says whether this is None, an uncounted claim with `.degraded` set,
        or a StoreError. Raises InputError for a wrong argument, or a `now` more than 300 seconds ahead of the clock
        (unless a `clock` was given).
        """
        return await self._drive(
            self._operations.claim(visitor, candidates, now=now, id_=id, hold=hold, timezone=timezone, consent=consent)
        )

    async def claim_many(
        self,
        requests: Iterable[ClaimRow],
        *,
        distinct: bool = False,
        hold: str | timedelta | None = None,
        now: When | None = None,
        timezone: Zone | None = None,
    ) -> list[Claim | None]:
        """`claim` for each request (visitor, candidates, id), in order, a thousand per round trip.

        Each is judged after those before it. With `distinct`, no two claims of one call for one visitor name the same
        campaign. Answers and errors are those of `claim`; with `on_store_error = "raise"` PartlyExecuted has all
        answers. Raises InputError for a wrong request before anything is counted, and names its position.
        """
        return await self._drive(
            self._operations.claim_many(requests, distinct=distinct, hold=hold, now=now, timezone=timezone)
        )

    async def confirm(self, claim: Claim | str, *, at: When | None = None) -> Confirmation:
        """Count a reserved impression, given as a Claim or its token, because it was shown.

        Returns "confirmed", "late" if the hold had lapsed (it counts), or "repeated" if it was already counted. `at`
        says when it was shown, the clock says whether the hold still lasted. Raises TokenError, InputError, NotExecuted
        or OutcomeUnknown; repeating the call is safe.
        """
        return await self._drive(self._operations.confirm(claim, at=at))

    async def release(self, claim: Claim | str, *, now: When | None = None) -> bool:
        """Undo a reserved impression, given as a Claim or its token; True if it was still reserved.

        `now` says when it was lost, the clock says whether the hold still lasted. Raises TokenError, InputError,
        NotExecuted or OutcomeUnknown; repeating the call is safe.
        """
        return await self._drive(self._operations.release(claim, now=now))

    async def record(
        self,
        visitor: str | None,
        event: str,
        subject: Subject | None = None,
        *,
        at: When | None = None,
        id: str | None = None,  # noqa: A002 - the field's word
        consent: bool = True,
    ) -> bool:
        """Remember that something happened. True; False if this `id` was already counted, or nothing was remembered.

        A late event is entered at its own time; one older than anything the policy asks about is dropped. Raises
        InputError for a wrong argument, or an `at` more than 300 seconds ahead of the clock (unless a `clock` was
        given); NotExecuted or OutcomeUnknown if the store fails: with an `id`, repeating the call is safe.
        """
        return await self._drive(self._operations.record(visitor, event, subject, at=at, id_=id, consent=consent))

    async def record_many(self, events: Iterable[Row]) -> list[bool]:
        """`record` each event (Events, tuples or dicts), in order, a thousand per round trip; one answer for each.

        Raises PartlyExecuted if some failed, with all answers; InputError for a wrong event.
        """
        batches = self._operations.record_many(events)
        return batch_results([outcome for steps in batches for outcome in await self._drive(steps)])

    async def export(self, visitor: str) -> dict[str, Any]:
        """Return everything stored about a visitor, ready for JSON. Raises StoreError."""
        return await self._drive(self._operations.export(visitor))

    async def forget(self, visitor: str) -> bool:
        """Delete everything stored about a visitor; True if there was anything. Raises StoreError; safe to repeat."""
        return await self._drive(self._operations.forget(visitor))

    async def merge(self, source: str, *, into: str, now: When | None = None) -> bool:
        """Move the history of `source` to `into`, as when a cookie signs in; True if there was any.

        An interrupted merge counts for both, and any later one of `source` finishes it; nothing is counted twice.
        Raises InputError if both ids are the same; NotExecuted or OutcomeUnknown if the store fails.
        """
        return await self._drive(self._operations.merge(source, into=into, now=now))

    async def rotate(self, visitor: str, *, now: When | None = None) -> bool:
        """Move what is stored under the visitor's old peppers to the current one; True if there was anything.

        As safe to repeat as `merge`. Raises NotExecuted or OutcomeUnknown if the store fails.
        """
        return await self._drive(self._operations.rotate(visitor, now=now))

    def health(self) -> tuple[Health, ...]:
        """Return what is known of each server asked so far, without asking: up or not, failures, the last error."""
        return self._store.health()

    async def close(self) -> None:
        """Close the connections that the library opened. A client that was given stays as it is."""
        await self._store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _drive(self, steps: Steps[T]) -> T:
        """Run an operation to its end."""
        try:
            request = next(steps)
            while True:
                try:
                    reply = await request.ask_async(self._store)
                except StoreError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
