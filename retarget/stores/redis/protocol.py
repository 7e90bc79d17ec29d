"""What is said to Redis and what its answers mean: the same for the sync and the async store.

Rules:
- read is one HGETALL, write one EVALSHA. Where the server does not know the script, the script is sent whole, once, to
  that same server.
- An `Ask` is sent, hears a reply (what the server said, be it an error, or a `Lost` where it said nothing), and knows
  then its answer, and whether it may be sent again: what certainly did not happen, what only reads, and writes with an
  id, which the script remembers.
- Errors are told apart by whether the write can have happened, and never carry a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

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
from retarget.stores.redis.slots import Address
from retarget.timelines import Answer, State, Write

Command: TypeAlias = tuple[Any, ...]

BATCH = 1_000
"""The most commands sent before their replies are read."""

TRIES = 5
"""The most times that one command is sent: moved to another server, then without the script, and lost in between."""

MORE = object()
"""What a reader gives while a reply is not whole."""

PUSH = hiredis.PushNotification
"""What a server says without being asked."""

_QUOTE = re.compile(r"(?<!\w)['\"`]|,")
_NAMED = re.compile(r".* run the '[\w|]+' command")
_ELSEWHERE = (MovedError, ClusterDownError, ReadOnlyError, MasterDownError)


@dataclass(frozen=True, slots=True)
class Lost:
    """No reply came, but this error. `sent` is False where the command certainly was not sent."""

    error: Exception
    sent: bool


class Ask:
    """A command on its way to its answer. What most asks never need is the class's: an ask is made for every call."""

    answer: Any = None
    """What it came to so far: what was asked for, or a StoreError."""
    tries = 0
    again = False
    """Whether it is safe, and of use, to send it again."""
    elsewhere = False
    """Whether the reply makes it doubtful that this was the right server."""
    moved: Address | None = None
    """Where a server said to go instead."""
    asking = False
    scriptless = False
    end = 0.0
    """When its time is over, for the async store."""
    reply: Any = None
    """The future that waits for the answer, for the async store."""

    def __init__(
        self, key: bytes, command: Command, read: Callable[[Any], Any], *, writes: bool = False, retryable: bool = True
    ) -> None:
        self.key = key
        self.command = command
        self.read = read
        self.writes = writes
        self.retryable = retryable

    def hear(self, reply: Any) -> None:  # noqa: ANN401 - whatever the server said
        """Take the reply, or the loss of it."""
        if not isinstance(reply, (Exception, Lost)):
            self.again = False
            try:
                self.answer = self.read(reply)
            except (TypeError, ValueError) as error:
                self.answer = failure(error, executed=None if self.writes else False)
            return
        self.tries += 1
        if not isinstance(reply, (NoScriptError, TryAgainError)):  # said by the right server
            self.asking, self.moved = False, None
        doubtful = isinstance(self.answer, OutcomeUnknown)
        if isinstance(reply, Lost):
            doubtful = doubtful or (self.writes and reply.sent)
            in_time = not isinstance(reply.error, (TimeoutError, RedisTimeoutError))  # it has waited all its time
            mendable = in_time and (self.retryable or not doubtful)
            self.elsewhere, cause = True, reply.error
        else:
            mendable, cause = self._mendable(reply), reply
        self.answer = failure(cause, executed=None if doubtful else False)
        self.again = mendable and self.tries < TRIES

    def give_up(self, why: str) -> None:
        """It is not sent (any more); what is known of an earlier try stands."""
        if self.answer is None:
            self.answer = NotExecuted(why)
        self.again, self.elsewhere = False, True

    def _mendable(self, error: Exception) -> bool:
        """Whether another server, another connection or the whole script can do what this server refused."""
        self.elsewhere = isinstance(error, _ELSEWHERE)
        if isinstance(error, (AskError, MovedError)) and error.host:  # a server that has no name for it says none
            self.moved = (error.host, error.port)
            self.asking = not isinstance(error, MovedError)
        self.scriptless = isinstance(error, NoScriptError)
        demoted = isinstance(error, ReadOnlyError) and self.tries == 1  # a Sentinel may know a new primary; asked once
        return self.scriptless or demoted or isinstance(error, (AskError, MovedError, TryAgainError))


def reading(key: bytes) -> Ask:
    """Ask for a visitor's timelines."""
    return Ask(key, ("HGETALL", key), _state)


def writing(write: Write) -> Ask:
    """Ask for a write."""
    command = ("EVALSHA", script.SHA, b"1", *script.arguments(write))
    return Ask(write.key, command, _answer, writes=True, retryable=bool(write.id))


def deleting(key: bytes) -> Ask:
    """Ask to forget a visitor."""
    return Ask(key, ("UNLINK", key), bool, writes=True, retryable=False)


def packed(asks: Sequence[Ask]) -> tuple[bytes, list[Ask | None]]:
    """The bytes of all commands, and whose reply each one brings: None for one that nobody waits for."""
    commands: list[bytes] = []
    whose: list[Ask | None] = []
    whole = True
    for ask in asks:
        command = ask.command
        if ask.asking:
            commands.append(hiredis.pack_command(("ASKING",)))
            whose.append(None)
        if ask.scriptless:
            ask.scriptless = False
            if whole:  # the server knows the script from then on
                command = ("EVAL", script.SCRIPT, *command[2:])
                whole = False
        commands.append(hiredis.pack_command(command))
        whose.append(ask)
    return b"".join(commands), whose


def new_reader() -> hiredis.Reader:
    """Makes replies of bytes; errors are the ones redis-py knows, as values."""
    return hiredis.Reader(replyError=BaseParser.parse_error, protocolError=InvalidResponse, notEnoughData=MORE)


def failure(error: Exception, *, executed: bool | None) -> StoreError:
    """Our error for theirs. `executed` is None where the write may have happened."""
    failure = OutcomeUnknown(told(error)) if executed is None else NotExecuted(told(error))
    harmless = _harmless(error)
    # A traceback prints the cause: where it would tell more than we do, one that does not takes its place.
    failure.__cause__ = error if str(error) == harmless else type(error)(harmless)
    return failure


def told(error: Exception) -> str:
    """What kind of error it is, and what it says."""
    return f"{type(error).__name__}: {_harmless(error)}"


def _harmless(error: Exception) -> str:
    """What the error says without anything a key could stand in: servers quote keys and arguments in some of theirs."""
    text = str(error)
    if isinstance(error, AskError) or not isinstance(error, ResponseError):
        return text
    command = _NAMED.search(text)
    return command[0] if command else _QUOTE.split(text)[0]


def _state(reply: Any) -> State:  # noqa: ANN401 - RESP2 gives pairs in a list, RESP3 a map
    if isinstance(reply, dict):
        return reply
    pairs = iter(reply)
    return dict(zip(pairs, pairs, strict=True))


def _answer(reply: object) -> Answer:
    if not isinstance(reply, bytes | int):
        raise TypeError(f"write.lua answered with {type(reply).__name__}")
    return reply
