"""Commands, decoding of replies, and what may be retried: the same for the sync and the async store.

Rules:
- A read is one HGETALL, a write one EVALSHA. A server that does not have the script is sent it whole, once.
- `interpret` makes a result of a reply (a value, an error from the server, or `Lost` if there was none): `Answered`,
  `Resend` or `Failed`.
- Sent again: what certainly was not executed, reads, and writes with an id, which the script remembers.
- Errors say whether the write can have happened, and never contain a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import hiredis
from redis._parsers.base import BaseParser
from redis.exceptions import (
    AskError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from retarget.errors import NotExecuted, OutcomeUnknown, StoreError
from retarget.stores.redis import script
from retarget.stores.redis.slots import BY_MAP, Address, Route, Slots
from retarget.timelines import Answer, State, Write

BATCH = 1_000
"""The most commands sent before their replies are read."""

MAX_ATTEMPTS = 5
"""The most times that one command is sent: redirected, then without the script, and lost in between."""

INCOMPLETE = object()
"""What a reader returns until a reply is complete."""

PUSH = hiredis.PushNotification
"""A message that answers no command."""

_QUOTE = re.compile(r"(?<!\w)['\"`]|,")
_NO_PERMISSION = re.compile(r".* run the '[\w|]+' command")
_MISROUTED = (MovedError, ClusterDownError, ReadOnlyError, MasterDownError)


class Command(NamedTuple):
    """One command. `decode` makes the value of the reply; it raises TypeError or ValueError for one that makes none."""

    key: bytes
    words: tuple[Any, ...]
    decode: Callable[[Any], Any]
    writes: bool = False
    """Whether it may change something."""
    idempotent: bool = True
    """Whether executing it twice is the same as executing it once."""
    max_attempts: int = MAX_ATTEMPTS


def reading(key: bytes) -> Command:
    """Read a visitor's timelines."""
    return Command(key, ("HGETALL", key), _decode_state)


def writing(write: Write) -> Command:
    """Run the write script."""
    words = ("EVALSHA", script.SHA, b"1", *script.arguments(write))
    return Command(write.key, words, _decode_answer, True, bool(write.id))  # noqa: FBT003 - `writes`; hot path


def deleting(key: bytes) -> Command:
    """Forget a visitor."""
    return Command(key, ("UNLINK", key), bool, writes=True, idempotent=False)


def slot_map(slots: Slots, asked: Address) -> Command:
    """Have `slots` updated by the server at `asked`; sent once, for another server may know as well."""
    return Command(b"", ("CLUSTER", "SLOTS"), partial(slots.update, asked=asked), max_attempts=1)


# -- results -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lost:
    """No reply, but this error. `sent` is False if the command certainly was not sent."""

    error: Exception
    sent: bool


class Answered(NamedTuple):
    """The server answered."""

    value: Any
    route: Route


class Resend(NamedTuple):
    """Send it, the first time or again; `error` is what it comes to if there is no time left for that."""

    error: StoreError
    attempts: int
    """How often it was sent so far."""
    route: Route
    whole_script: bool = False
    """Whether to send the script itself, not its SHA."""


class Failed(NamedTuple):
    """It failed, and sending it again is useless or not safe."""

    error: StoreError
    route: Route


Result: TypeAlias = Answered | Resend | Failed

FIRST = Resend(NotExecuted("not sent yet"), 0, BY_MAP)
"""How every command is sent at first."""


def interpret(command: Command, sent: Resend, reply: Any) -> Result:  # noqa: ANN401 - any value or error
    """The result of a command that was sent as `sent` says, from the reply or the loss of it."""
    if not isinstance(reply, (Exception, Lost)):
        try:
            return Answered(command.decode(reply), sent.route)
        except (TypeError, ValueError) as undecodable:
            return Failed(failure(undecodable, executed=None if command.writes else False), sent.route)
    attempts, unknown = sent.attempts + 1, isinstance(sent.error, OutcomeUnknown)
    if isinstance(reply, Lost):
        cause, route = reply.error, Route(doubtful=True)
        unknown = unknown or (command.writes and reply.sent)
        timed_out = isinstance(cause, (TimeoutError, RedisTimeoutError))  # the call's time is over as well
        again = not timed_out and (command.idempotent or not unknown)
        whole_script = sent.whole_script and not reply.sent
    else:
        cause, route = reply, _redirected(reply, sent.route)
        whole_script = isinstance(reply, NoScriptError)
        demoted = isinstance(reply, ReadOnlyError) and attempts == 1  # Sentinel may know a new primary; tried once
        again = whole_script or demoted or isinstance(reply, (AskError, MovedError, TryAgainError))
    error = failure(cause, executed=None if unknown else False)
    if again and attempts < command.max_attempts:
        return Resend(error, attempts, route, whole_script)
    return Failed(error, route)


def not_sent(sent: Resend, reason: str) -> Failed:
    """The result of a command that is not sent, or not again; what is known of an earlier attempt stands."""
    error = sent.error if sent.attempts else NotExecuted(reason)
    return Failed(error, sent.route._replace(doubtful=True))


def value_or_error(result: Result) -> Any:  # noqa: ANN401 - as the command decodes it
    """What the caller gets: the value, or a StoreError."""
    return result.value if isinstance(result, Answered) else result.error


def _redirected(error: Exception, route: Route) -> Route:
    if isinstance(error, (NoScriptError, TryAgainError)):  # from the right server
        return route._replace(doubtful=False)
    doubtful = isinstance(error, _MISROUTED)
    if isinstance(error, AskError) and error.host:  # MOVED is an AskError too; a server without a name sends no host
        return Route((error.host, error.port), not isinstance(error, MovedError), doubtful)
    return Route(doubtful=doubtful)


# -- bytes -------------------------------------------------------------------------------------------------------------


class Call:
    """A command and its result so far. In the async store `future` waits for it, until `deadline` of its loop."""

    __slots__ = ("command", "deadline", "future", "result")

    def __init__(self, command: Command, future: Any = None, deadline: float = 0.0) -> None:  # noqa: ANN401 - asyncio's
        self.command = command
        self.result: Result = FIRST
        self.future = future
        self.deadline = deadline

    def receive(self, reply: Any) -> None:  # noqa: ANN401 - any value or error
        """Take the reply, or the loss of it."""
        assert isinstance(self.result, Resend)  # noqa: S101 - a call that is over is not sent
        self.result = interpret(self.command, self.result, reply)

    def withdraw(self, reason: str) -> None:
        """Do not send it."""
        assert isinstance(self.result, Resend)  # noqa: S101 - as above
        self.result = not_sent(self.result, reason)


def encode(calls: Iterable[Call]) -> tuple[bytes, list[Call | None]]:
    """The bytes to send, and the call that each reply belongs to: None for the reply to ASKING."""
    packed: list[bytes] = []
    receivers: list[Call | None] = []
    script_sent = False
    for call in calls:
        words, sent = call.command.words, call.result
        if sent is not FIRST and isinstance(sent, Resend):
            if sent.route.asking:
                packed.append(hiredis.pack_command(("ASKING",)))
                receivers.append(None)
            if sent.whole_script and not script_sent:  # once: the server has it from then on
                words = ("EVAL", script.SCRIPT, *words[2:])
                script_sent = True
        packed.append(hiredis.pack_command(words))
        receivers.append(call)
    return b"".join(packed), receivers


def new_reader() -> hiredis.Reader:
    """Parses replies; errors are values, of redis-py's classes."""
    return hiredis.Reader(replyError=BaseParser.parse_error, protocolError=InvalidResponse, notEnoughData=INCOMPLETE)


def _decode_state(reply: Any) -> State:  # noqa: ANN401 - RESP2 has pairs in a list, RESP3 a map
    if isinstance(reply, dict):
        return reply
    pairs = iter(reply)
    return dict(zip(pairs, pairs, strict=True))


def _decode_answer(reply: object) -> Answer:
    if not isinstance(reply, bytes | int):
        raise TypeError(f"write.lua returned {type(reply).__name__}")
    return reply


# -- errors ------------------------------------------------------------------------------------------------------------


def failure(error: Exception, *, executed: bool | None) -> StoreError:
    """The StoreError for an error of redis-py's. `executed` is None if the write may have happened."""
    failure = OutcomeUnknown(describe(error)) if executed is None else NotExecuted(describe(error))
    safe = _without_keys(error)
    # A traceback prints the cause, so a cause that quotes a key is replaced by one that does not.
    failure.__cause__ = error if str(error) == safe else type(error)(safe)
    return failure


def describe(error: Exception) -> str:
    """The class and the message of an error, without keys."""
    return f"{type(error).__name__}: {_without_keys(error)}"


def _without_keys(error: Exception) -> str:
    """The message, cut before anything that may be a key: servers quote keys and arguments in some errors."""
    text = str(error)
    if isinstance(error, AskError) or not isinstance(error, ResponseError):
        return text
    command = _NO_PERMISSION.search(text)
    return command[0] if command else _QUOTE.split(text)[0]
