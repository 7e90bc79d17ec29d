"""What is said to Redis and what its answers mean: the same for the sync and the async store.

Rules:
- read is one HGETALL, write one EVALSHA. Where the server does not know the script, the script is sent whole, once, to
  that same server.
- A conversation yields the commands to send and is sent a reply for each: what the server said, be it an error, or a
  `Lost` where it said nothing.
- Errors are told apart by whether the write can have happened, and never carry a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError
from redis.retry import Retry

from retarget import wire
from retarget.changes import Answer, Write
from retarget.errors import NotExecuted, OutcomeUnknown, StoreError
from retarget.store import State

Command: TypeAlias = tuple[Any, ...]
Conversation: TypeAlias = Generator[Sequence[Command], list[Any], list[Any]]

CONNECTIONS = 64
"""The most connections that a client built from a URL opens."""

BATCH = 1_000
"""The most commands sent before their replies are read."""

_NAMED = re.compile(r".* run the '[\w|]+' command")


class Ask(NamedTuple):
    """A command, how its reply is read, and whether it writes."""

    command: Command
    read: Callable[[Any], Any]
    writes: bool


def reading(key: bytes) -> Ask:
    """Ask for a visitor's timelines."""
    return Ask(("HGETALL", key), _state, writes=False)


def writing(write: Write) -> Ask:
    """Ask for a write."""
    return Ask(("EVALSHA", wire.SHA, 1, *wire.arguments(write)), _answer, writes=True)


def deleting(key: bytes) -> Ask:
    """Ask to forget a visitor."""
    return Ask(("UNLINK", key), bool, writes=True)


def client_options(timeout: float) -> dict[str, Any]:
    """What a client needs to serve well: no retries of its own, no long waits, plain answers."""
    return {
        "max_connections": CONNECTIONS,
        "timeout": timeout,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
    }


@dataclass(frozen=True, slots=True)
class Lost:
    """No reply came, but this error."""

    error: Exception


def conversation(commands: Sequence[Command]) -> Conversation:
    """The replies to the commands, those sent again that met a server without the script."""
    replies = list((yield commands))
    unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        again = [commands[i] for i in unknown]
        again[0] = ("EVAL", wire.SCRIPT, *again[0][2:])  # the server knows it from then on
        for i, reply in zip(unknown, (yield again), strict=True):
            replies[i] = reply
    return replies


def told(reply: Any, ask: Ask) -> Any:  # noqa: ANN401 - as `ask.read` makes it
    """The reply as it was asked for, or the StoreError it amounts to."""
    if isinstance(reply, Lost):
        return failure(reply.error, executed=None if ask.writes else False)
    if isinstance(reply, Exception):
        return failure(reply, executed=False)
    try:
        return ask.read(reply)
    except (TypeError, ValueError) as error:
        return failure(error, executed=None if ask.writes else False)


def failure(error: Exception, *, executed: bool | None) -> StoreError:
    """Our error for theirs. `executed` is None where the write may have happened."""
    kind = OutcomeUnknown if executed is None else NotExecuted
    failure = kind(f"{type(error).__name__}: {_harmless(error)}")
    failure.__cause__ = error
    return failure


def _harmless(error: Exception) -> str:
    """What the error says without anything a key could stand in: servers quote keys and arguments in some of theirs."""
    if not isinstance(error, ResponseError):
        return str(error)
    command = _NAMED.search(str(error))
    return command[0] if command else str(error).partition("'")[0].partition(",")[0]


def _state(reply: Any) -> State:  # noqa: ANN401 - RESP2 gives pairs in a list, RESP3 a map
    if isinstance(reply, dict):
        return reply
    pairs = iter(reply)
    return dict(zip(pairs, pairs, strict=True))


def _answer(reply: object) -> Answer:
    if not isinstance(reply, bytes | int):
        raise TypeError(f"write.lua answered with {type(reply).__name__}")
    return reply
