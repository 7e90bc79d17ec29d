"""protocol.py: what each reply makes of a command, the bytes that are sent, and errors that contain no key."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from retarget.errors import NotExecuted, OutcomeUnknown, StoreError
from retarget.stores.redis import script
from retarget.stores.redis.protocol import (
    FIRST,
    INCOMPLETE,
    MAX_ATTEMPTS,
    PUSH,
    Answered,
    Call,
    Command,
    Failed,
    Lost,
    Resend,
    Result,
    deleting,
    describe,
    encode,
    failure,
    interpret,
    new_reader,
    not_sent,
    reading,
    slot_map,
    value_or_error,
    writing,
)
from retarget.stores.redis.slots import BY_MAP, Route, Slots
from retarget.timelines import Alternative, Write

KEY = b"rt:2~visitor-4711"
B = ("b", 7001)
WRITE = Write(KEY, 7, b"", (Alternative((), (), 60),))
WRITE_WITH_ID = Write(KEY, 7, b"12345", (Alternative((), (), 60),))
COMMANDS = {
    "read": reading(KEY),
    "write": writing(WRITE),
    "write with id": writing(WRITE_WITH_ID),
    "delete": deleting(KEY),
}

BROKEN = Lost(RedisConnectionError("the server closed the connection"), sent=True)
REFUSED = Lost(RedisConnectionError("refused"), sent=False)
TIMED_OUT = Lost(RedisTimeoutError("the server did not answer in time"), sent=True)
NOT_IN_TIME = Lost(TimeoutError("no connection"), sent=False)
NOSCRIPT = NoScriptError("No matching script.")
MOVED = MovedError("12 b:7001")
ASK = AskError("12 b:7001")
MOVED_NAMELESS = MovedError("12 :7001")
TRYAGAIN = TryAgainError("Multiple keys request during rehashing of slot")
READONLY = ReadOnlyError("You can't write against a read only replica.")
DOWN = ClusterDownError("The cluster is down")
MASTERDOWN = MasterDownError("Link with MASTER is down")
WRONGTYPE = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")

DOUBTFUL = Route(doubtful=True)
TO_B = Route(B, doubtful=True)
ASK_B = Route(B, asking=True)


def before(error: StoreError | None = None, route: Route = BY_MAP, *, attempts: int = 1, whole: bool = False) -> Resend:
    """A command that was sent and is sent again."""
    return Resend(error or NotExecuted("earlier"), attempts, route, whole)


UNKNOWN = OutcomeUnknown("earlier")
ALL, NO_ID = tuple(COMMANDS), ("write", "delete")
REPEATABLE = ("read", "write with id")

TABLE: list[tuple[tuple[str, ...], Resend, Any, type[Result], type[StoreError], Route, bool]] = [
    # commands, how it was sent, the reply -> result, its error, its route, whether the script is sent whole
    #
    # refused by the right server: final
    (ALL, FIRST, WRONGTYPE, Failed, NotExecuted, BY_MAP, False),
    (ALL, FIRST, DOWN, Failed, NotExecuted, DOUBTFUL, False),
    (ALL, FIRST, MASTERDOWN, Failed, NotExecuted, DOUBTFUL, False),
    (ALL, before(UNKNOWN), WRONGTYPE, Failed, OutcomeUnknown, BY_MAP, False),
    # the script is not there: sent whole, to the same server
    (ALL, FIRST, NOSCRIPT, Resend, NotExecuted, BY_MAP, True),
    (ALL, before(route=TO_B), NOSCRIPT, Resend, NotExecuted, Route(B), True),
    (ALL, before(route=ASK_B), NOSCRIPT, Resend, NotExecuted, ASK_B, True),
    (ALL, before(UNKNOWN), NOSCRIPT, Resend, OutcomeUnknown, BY_MAP, True),
    (ALL, before(whole=True), NOSCRIPT, Resend, NotExecuted, BY_MAP, True),
    # redirected
    (ALL, FIRST, MOVED, Resend, NotExecuted, TO_B, False),
    (ALL, FIRST, ASK, Resend, NotExecuted, ASK_B, False),
    (ALL, before(route=ASK_B), MOVED, Resend, NotExecuted, TO_B, False),
    (ALL, before(route=TO_B), ASK, Resend, NotExecuted, ASK_B, False),
    (ALL, FIRST, MOVED_NAMELESS, Resend, NotExecuted, DOUBTFUL, False),
    (ALL, before(route=ASK_B), TRYAGAIN, Resend, NotExecuted, ASK_B, False),
    (ALL, before(route=TO_B), TRYAGAIN, Resend, NotExecuted, Route(B), False),
    (ALL, before(UNKNOWN), MOVED, Resend, OutcomeUnknown, TO_B, False),
    (ALL, before(route=TO_B), WRONGTYPE, Failed, NotExecuted, BY_MAP, False),
    # a replica: Sentinel is asked once
    (ALL, FIRST, READONLY, Resend, NotExecuted, DOUBTFUL, False),
    (ALL, before(), READONLY, Failed, NotExecuted, DOUBTFUL, False),
    # no reply, not sent: certainly not executed
    (ALL, FIRST, REFUSED, Resend, NotExecuted, DOUBTFUL, False),
    (ALL, FIRST, NOT_IN_TIME, Failed, NotExecuted, DOUBTFUL, False),
    (ALL, before(route=ASK_B), REFUSED, Resend, NotExecuted, DOUBTFUL, False),
    (ALL, before(whole=True), REFUSED, Resend, NotExecuted, DOUBTFUL, True),
    # no reply, sent: a write may have been executed
    (("read",), FIRST, BROKEN, Resend, NotExecuted, DOUBTFUL, False),
    (("write with id",), FIRST, BROKEN, Resend, OutcomeUnknown, DOUBTFUL, False),
    (NO_ID, FIRST, BROKEN, Failed, OutcomeUnknown, DOUBTFUL, False),
    (REPEATABLE, before(whole=True), BROKEN, Resend, StoreError, DOUBTFUL, False),
    (("read",), FIRST, TIMED_OUT, Failed, NotExecuted, DOUBTFUL, False),
    (("write with id", *NO_ID), FIRST, TIMED_OUT, Failed, OutcomeUnknown, DOUBTFUL, False),
    # an outcome that was unknown stays unknown
    (("write with id",), before(UNKNOWN), REFUSED, Resend, OutcomeUnknown, DOUBTFUL, False),
    (NO_ID, before(UNKNOWN), REFUSED, Failed, OutcomeUnknown, DOUBTFUL, False),
    # five attempts at most
    (ALL, before(attempts=MAX_ATTEMPTS - 2), MOVED, Resend, NotExecuted, TO_B, False),
    (ALL, before(attempts=MAX_ATTEMPTS - 1), MOVED, Failed, NotExecuted, TO_B, False),
    (ALL, before(attempts=MAX_ATTEMPTS - 1), NOSCRIPT, Failed, NotExecuted, BY_MAP, False),
    (REPEATABLE, before(attempts=MAX_ATTEMPTS - 1), BROKEN, Failed, StoreError, DOUBTFUL, False),
]


@pytest.mark.parametrize(("names", "sent", "reply", "kind", "error", "route", "whole"), TABLE)
def test_what_a_failure_makes_of_a_command(
    names: tuple[str, ...],
    sent: Resend,
    reply: Any,
    kind: type[Result],
    error: type[StoreError],
    route: Route,
    *,
    whole: bool,
) -> None:
    """The table of (how it was sent, reply) -> result, for each kind of command."""
    for name in names:
        result = interpret(COMMANDS[name], sent, reply)
        assert isinstance(result, kind), name
        assert not isinstance(result, Answered)
        assert isinstance(result.error, error), name
        assert result.route == route, name
        if isinstance(result, Resend):
            assert (result.attempts, result.whole_script) == (sent.attempts + 1, whole), name


VALUES: list[tuple[str, Any, Any]] = [
    ("read", [], {}),
    ("read", [b"ia", b"x", b"ib", b"y"], {b"ia": b"x", b"ib": b"y"}),
    ("read", {b"ia": b"x"}, {b"ia": b"x"}),
    ("write", 1, 1),
    ("write", -2, -2),
    ("write with id", b"abc", b"abc"),
    ("delete", 1, True),
    ("delete", 0, False),
]


@pytest.mark.parametrize("sent", [FIRST, before(UNKNOWN, TO_B), before(route=ASK_B, whole=True)])
@pytest.mark.parametrize(("name", "reply", "value"), VALUES)
def test_a_value_is_the_answer(name: str, reply: Any, value: Any, sent: Resend) -> None:
    """Decoded, whatever went before; the route that led to it is kept."""
    assert interpret(COMMANDS[name], sent, reply) == Answered(value, sent.route)


@pytest.mark.parametrize(
    ("name", "reply", "error"),
    [
        ("read", [b"a", b"b", b"c"], NotExecuted),
        ("read", 7, NotExecuted),
        ("write", [1], OutcomeUnknown),
        ("write with id", None, OutcomeUnknown),
    ],
)
def test_a_reply_that_cannot_be_decoded_is_final(name: str, reply: Any, error: type[StoreError]) -> None:
    """Whatever answered is not a Redis with our script: a read changed nothing, a write may have happened."""
    result = interpret(COMMANDS[name], before(route=TO_B), reply)
    assert isinstance(result, Failed)
    assert (type(result.error), result.route) == (error, TO_B)


def test_the_slot_map_is_asked_for_once_per_server() -> None:
    """The reply updates the map. A server that fails is not asked again: another one is."""
    slots = Slots([("a", 7000)])
    command = slot_map(slots, ("a", 7000))
    assert command.words == ("CLUSTER", "SLOTS")
    failures: list[Any] = [BROKEN, REFUSED, MOVED, DOWN, []]
    for reply in failures:
        assert isinstance(interpret(command, FIRST, reply), Failed)
    assert isinstance(interpret(command, FIRST, [[0, 16383, [b"b", 7001]]]), Answered)
    assert slots.primary(KEY) == B


@pytest.mark.parametrize(
    ("sent", "error", "route"),
    [
        (FIRST, "NotExecuted('down')", DOUBTFUL),
        (before(UNKNOWN), "OutcomeUnknown('earlier')", DOUBTFUL),
        (before(route=ASK_B), "NotExecuted('earlier')", Route(B, asking=True, doubtful=True)),
    ],
)
def test_a_command_that_is_not_sent(sent: Resend, error: str, route: Route) -> None:
    """The reason, or what an earlier attempt came to; the map may be wrong."""
    result = not_sent(sent, "down")
    assert (repr(result.error), result.route) == (error, route)


def test_a_call_keeps_its_latest_result() -> None:
    """It begins unsent, each reply moves it on, and in the end the caller gets a value or an error."""
    call = Call(reading(KEY))
    assert call.result is FIRST
    call.receive(MOVED)
    assert isinstance(call.result, Resend)
    assert call.result.route == TO_B
    call.receive([b"ia", b"x"])
    assert value_or_error(call.result) == {b"ia": b"x"}
    withdrawn = Call(reading(KEY))
    withdrawn.withdraw("down")
    assert repr(value_or_error(withdrawn.result)) == "NotExecuted('down')"


# -- bytes -------------------------------------------------------------------------------------------------------------


def sent_words(calls: list[Call]) -> list[list[bytes]]:
    """What a server reads."""
    reader = hiredis.Reader()
    reader.feed(encode(calls)[0])
    words: list[list[bytes]] = []
    while (command := reader.gets()) is not False:
        words.append(command)
    return words


def call_of(command: Command, result: Result = FIRST) -> Call:
    """A call in that state."""
    call = Call(command)
    call.result = result
    return call


def test_the_words_of_each_command() -> None:
    """One HGETALL, EVALSHA or UNLINK; a write with the arguments of the script."""
    arguments = list(script.arguments(WRITE_WITH_ID))
    assert sent_words([Call(command) for command in COMMANDS.values()]) == [
        [b"HGETALL", KEY],
        [b"EVALSHA", script.SHA.encode(), b"1", *script.arguments(WRITE)],
        [b"EVALSHA", script.SHA.encode(), b"1", *arguments],
        [b"UNLINK", KEY],
    ]


def test_the_script_is_sent_once() -> None:
    """The first of several that need it carries it; the server has it for the others. Each reply has its call."""
    calls = [call_of(writing(WRITE), before(whole=whole)) for whole in (False, True, True)]
    words = sent_words(calls)
    assert [command[0] for command in words] == [b"EVALSHA", b"EVAL", b"EVALSHA"]
    assert words[1][1:] == [script.SCRIPT.encode(), *words[0][2:]]
    assert encode(calls)[1] == calls


def test_asking_precedes_the_one_command_it_is_for() -> None:
    """Its reply belongs to no call; a slot that has moved for good needs none."""
    calls = [call_of(reading(KEY), before(route=route)) for route in (ASK_B, TO_B)]
    assert [command[0] for command in sent_words(calls)] == [b"ASKING", b"HGETALL", b"HGETALL"]
    assert encode(calls)[1] == [None, *calls]


def test_a_reader_returns_errors_as_values() -> None:
    """Of redis-py's classes; an incomplete reply and a push message can be told from every value."""
    reader = new_reader()
    reader.feed(b"-NOSCRIPT No matching script.\r\n-MOVED 12 b:7001\r\n>1\r\n+x\r\n$-1\r\n:0\r\n$3\r\nab")
    replies = [reader.gets(False) for _ in range(6)]  # noqa: FBT003 - not decoded
    assert [type(reply) for reply in replies[:3]] == [NoScriptError, MovedError, PUSH]
    assert (replies[1].host, replies[1].port) == B
    assert replies[3:5] == [None, 0]
    assert replies[5] is INCOMPLETE


# -- errors ------------------------------------------------------------------------------------------------------------

MESSAGES: list[tuple[Exception, str]] = [
    (RedisConnectionError("Error 111 connecting to h:7"), "ConnectionError: Error 111 connecting to h:7"),
    (WRONGTYPE, f"ResponseError: {WRONGTYPE}"),
    (MOVED, f"MovedError: {MOVED}"),
    (
        ResponseError("unknown command 'HGETALL', with args beginning with: 'rt:2~visitor-4711'"),
        "ResponseError: unknown command ",
    ),
    (ResponseError('bad key "rt:2~visitor-4711"'), "ResponseError: bad key "),
    (ResponseError("bad key `rt:2~visitor-4711`"), "ResponseError: bad key "),
    (ResponseError("wrong, see rt:2~visitor-4711"), "ResponseError: wrong"),
    (
        ResponseError("User ads can't access: no permissions to run the 'hgetall' command on rt:2~visitor-4711"),
        "ResponseError: User ads can't access: no permissions to run the 'hgetall' command",
    ),
    (READONLY, "ReadOnlyError: You can't write against a read only replica."),
]


@pytest.mark.parametrize(("error", "text"), MESSAGES)
@pytest.mark.parametrize(("executed", "kind"), [(False, NotExecuted), (None, OutcomeUnknown)])
def test_an_error_says_what_happened_and_contains_no_key(
    error: Exception, text: str, kind: type[StoreError], *, executed: bool | None
) -> None:
    """Neither its message nor its cause, which a traceback prints."""
    ours = failure(error, executed=executed)
    assert (type(ours), str(ours), describe(error)) == (kind, text, text)
    assert type(ours.__cause__) is type(error)
    assert "4711" not in f"{ours!r} {ours.__cause__!r}"
