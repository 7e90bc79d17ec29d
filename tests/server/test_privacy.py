"""With a pepper no visitor's id leaves the process; without one it is in keys and tokens, and nowhere else.

Ids are planted in every operation, on stores that work and on stores that fail in every way; then everything stored,
sent, logged, raised and shown is searched for them: in clear, escaped, in hex and in base64.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from retarget import AsyncRetargeter, Candidate, Claim, Event, MemoryStore, Policy, Retargeter, RetargetError
from retarget.calls import Visitors
from retarget.operate import explain_visitor
from retarget.timelines import MOST_TIMELINES
from tests.support import servers
from tests.support.fixtures import Clock
from tests.support.servers import Server

IDS = {
    "an address": "anna.meier@example.com",
    "short": "q7Zx9",
    "a name": "Zoë-Møller-Ωμέγα-李明",
    "long": "L" + "0123456789" * 50 + "R",
    "separators": "rt:1:p1:id=7 x/y?z#%{w}.-\n\r\n\0\t\"'\\`,end",
}
PEPPERS: dict[int, str | bytes] = {1: "an old pepper, out of use", 2: b"sixteen bytes ok"}
RULES = """
    [caps]
    item = ["2 per day"]
    [annoyance]
    threshold = ["40 per week"]
    [campaign.a]
    caps = ["3 per day", "5 per session"]
    [campaign.b]
    audience = ["visit shop within week"]
    gap = "1 minute"
"""


class Seen:
    """Everything that came out of the library."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []

    def add(self, thing: object) -> None:
        """Bytes and texts as they are, errors with their causes, anything else as it prints."""
        if isinstance(thing, bytes):
            self.texts.append(thing)
        elif isinstance(thing, BaseException):
            self.texts.append("".join(traceback.format_exception(thing)).encode(errors="backslashreplace"))
            link: BaseException | None = thing
            while link is not None:
                self.texts += [f"{link!s} {link!r} {link.args!r}".encode(errors="backslashreplace")]
                link = link.__cause__ or link.__context__
            for result in getattr(thing, "results", ()):
                self.add(result)
        else:
            self.texts.append(f"{thing!s} {thing!r}".encode(errors="backslashreplace"))

    def add_token(self, token: str) -> None:
        """A token, what it is when decoded, and what the hex in that is."""
        content = token.split(".")[1]
        decoded = base64.urlsafe_b64decode(content + "=" * (-len(content) % 4))
        hexes = re.findall(r"(?:[0-9a-f]{2})+", decoded.decode("latin-1"))
        self.texts += [token.encode(), decoded, *map(bytes.fromhex, hexes)]

    def tells(self, visitor: str) -> list[bytes]:
        """The texts that contain the id, in whatever form."""
        forms = [form.lower() for form in _forms(visitor)]
        return [text[:300] for text in self.texts if any(form in text.lower() for form in forms)]


def _forms(visitor: str) -> set[bytes]:
    data = visitor.encode()
    forms = {data, repr(visitor)[1:-1].encode(), repr(data)[2:-1].encode(), json.dumps(visitor)[1:-1].encode()}
    forms |= {quote(visitor).encode(), quote(visitor, safe="").encode(), data.hex().encode()}
    if len(data) > 12:  # too little is left of shorter ones: random bytes would match
        for shift in range(3):
            inner = base64.b64encode(b"\0" * shift + data)[-(-shift * 4 // 3) : (shift + len(data)) * 4 // 3]
            forms |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return forms


def calls(ads: Any, visitor: str, clock: Clock, tokens: list[str]) -> Iterable[Callable[[], Any]]:
    """Every public call that reaches the store."""
    shop = Candidate("a", item="sku-1")
    yield lambda: ads.decide(visitor)
    yield lambda: ads.decide(visitor, [shop, "b"], timezone="Asia/Kathmandu")
    yield lambda: ads.decide_many([visitor, None, visitor + "-2"])
    yield lambda: ads.record(visitor, "visit", "shop")
    yield lambda: ads.record(visitor, "impression", shop, id="imp-1")
    yield lambda: ads.record(visitor, "impression", shop, id="imp-1")
    yield lambda: ads.record(visitor, "visit", "shop", at=clock.now - 90 * 86_400)  # too old: logged
    yield lambda: ads.record_many(
        [Event(visitor, "visit", "shop"), (visitor, "click", "a"), {"visitor": visitor, "event": "visit"}]
    )
    yield lambda: ads.claim(visitor)
    yield lambda: ads.claim(visitor, ["a"], id="bid-1")
    yield lambda: ads.claim(visitor, ["a"], id="bid-1", hold="10 minutes")
    yield lambda: ads.claim(visitor, hold="10 minutes")
    yield lambda: ads.claim(visitor, ["b"], hold="20 minutes", id="bid-2")
    for token in tokens:
        yield partial(ads.confirm, token)
        yield partial(ads.release, token)
        yield partial(ads.confirm, token[:-3] + "abc")
    yield lambda: ads.merge(visitor, into=visitor + "-2")
    yield lambda: ads.merge(visitor + "-2", into=visitor)
    yield lambda: ads.rotate(visitor)
    yield lambda: ads.export(visitor)
    yield lambda: ads.forget(visitor + "-2")


def wrong_calls(ads: Any, visitor: str, clock: Clock) -> Iterable[Callable[[], Any]]:
    """Calls that are refused for what they are given."""
    for wrong in (visitor * 600, visitor + "\ud800", visitor.encode(), [visitor]):
        yield partial(ads.decide, wrong)
        yield partial(ads.claim, wrong)
        yield partial(ads.record_many, [(wrong, "visit", "shop")])
        yield partial(ads.forget, wrong)
        yield partial(ads.merge, visitor, into=wrong)
    yield lambda: ads.merge(visitor, into=visitor)
    yield lambda: ads.decide_many(visitor)
    yield lambda: ads.record_many(visitor)
    yield lambda: ads.record_many([visitor])
    yield lambda: ads.record_many([{"visitor": visitor, "events": "visit"}])
    yield lambda: ads.record_many([(visitor, "no event!")])
    yield lambda: ads.record_many([(visitor,) * 9])
    yield lambda: ads.record(visitor, "impression")
    yield lambda: ads.record(visitor, "visit", "shop", at=clock.now + 1_000)
    yield lambda: ads.decide(visitor, ["nobody"])
    yield lambda: ads.decide(visitor, "a")
    yield lambda: ads.decide(visitor, timezone="Nowhere/At_All")
    yield lambda: ads.claim(visitor, hold="2 days")


def run_all(ads: Retargeter, visitor: str, clock: Clock, seen: Seen, tokens: list[str], *, wrong: bool = False) -> None:
    """Make every call, and keep what comes of it."""
    seen.add(ads)
    for call in wrong_calls(ads, visitor, clock) if wrong else calls(ads, visitor, clock, tokens):
        keep(seen, tokens, lambda call=call: listed(call()))  # type: ignore[misc]
    keep(seen, [], lambda: explain_visitor(ads, visitor))
    seen.add(Event(visitor, "visit"))
    seen.add(ads.health())


def run_all_awaited(
    ads: AsyncRetargeter, visitor: str, clock: Clock, seen: Seen, tokens: list[str], *, wrong: bool = False
) -> None:
    """The same with the client for asyncio, all calls in flight together."""
    seen.add(ads)

    async def one(call: Callable[[], Any]) -> None:
        answer: Any
        try:
            answer = call()
            answer = [each async for each in answer] if hasattr(answer, "__aiter__") else await answer
        except RetargetError as error:
            answer = error
        keep(seen, tokens, lambda: answer)

    async def run() -> None:
        async with ads:
            asked = wrong_calls(ads, visitor, clock) if wrong else calls(ads, visitor, clock, list(tokens))
            await asyncio.gather(*map(one, asked))
            seen.add(ads.health())

    asyncio.run(run())


def listed(answer: Any) -> Any:
    """The answers of an iterator, or the answer."""
    return list(answer) if hasattr(answer, "__next__") else answer


def keep(seen: Seen, tokens: list[str], call: Callable[[], Any]) -> None:
    """Keep an answer, or the error instead; collect tokens."""
    try:
        answer = call()
    except RetargetError as error:
        answer = error
    for each in answer if isinstance(answer, list) else [answer]:
        if not isinstance(each, dict):  # an export is for the visitor
            seen.add(each)
        for verdict in getattr(each, "candidates", ()):
            seen.add(each[verdict])
        if getattr(each, "degraded", None) is not None:
            seen.add(each.degraded)
        if isinstance(each, Claim):
            tokens.append(each.token)


def of_logs(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Every log record as a handler writes it, including exceptions, and its arguments."""
    formatter = logging.Formatter("%(name)s %(pathname)s %(message)s")
    return [f"{formatter.format(record)} {record.args!r} {record.msg!r}" for record in caplog.records]


def dump(server: Server) -> Iterable[bytes]:
    """All that a server holds, and what it reports about itself."""
    with server.client() as client:
        for key in client.scan_iter(count=1_000):
            yield key
            kind = client.type(key)
            if kind == b"hash":
                yield from (part for pair in client.hgetall(key).items() for part in pair)
            elif kind == b"string":
                yield client.get(key) or b""
        yield repr(client.client_list()).encode()
        yield repr(client.slowlog_get(100)).encode()
        yield repr(client.info("everything")).encode()


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every logger, at every level."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "retarget")
    return caplog


ON_ERROR = ["block", "allow", "raise"]
FEW = [IDS["an address"], IDS["a name"], IDS["separators"]]


def policy(on_error: str) -> Policy:
    """The rules above, with one of the answers to a store that fails."""
    return Policy.from_text(f'on_store_error = "{on_error}"\n{RULES}')


def test_the_search_would_find_an_id() -> None:
    """Each form in which an id could show is found: in clear, quoted, escaped, in hex, in base64 at any place."""
    for visitor in IDS.values():
        data = visitor.encode()
        shown = [data, f"xx {visitor!r}".encode(), repr(b"rt:1:" + data).encode(), json.dumps([visitor]).encode()]
        shown += [data.hex().upper().encode(), quote(f"a {visitor}").encode()]
        if len(data) > 12:
            shown += [base64.b64encode(b"x" * n + data + b"yy") for n in range(6)]
        for text in shown:
            seen = Seen()
            seen.add(text)
            assert seen.tells(visitor), text
        token = Seen()
        ads = Retargeter(policy("block"), "memory://")
        claim = ads.claim(visitor)
        assert claim is not None
        token.add_token(claim.token)
        assert token.tells(visitor)


@pytest.mark.parametrize("secret", [None, "a secret of its own"])
def test_nothing_of_an_id_is_stored_logged_or_shown(
    url: str, fleet: dict[str, Server], clock: Clock, everything: pytest.LogCaptureFixture, secret: str | None
) -> None:
    """Stores that work, both clients, including an old pepper's data: neither the store nor anything else has an id."""
    seen, store = Seen(), MemoryStore()
    where: Any = store if url == "memory://" else url
    options: dict[str, Any] = {"clock": clock, "secret": secret, "timeout": servers.PATIENCE}
    for visitor in IDS.values():
        tokens: list[str] = []
        with Retargeter(policy("raise"), where, **options, pepper=PEPPERS[1]) as old:
            run_all(old, visitor, clock, seen, tokens)
        with Retargeter(policy("raise"), where, **options, pepper=PEPPERS) as ads:
            run_all(ads, visitor, clock, seen, tokens)
        run_all_awaited(
            AsyncRetargeter(policy("raise"), where, **options, pepper=PEPPERS), visitor, clock, seen, tokens
        )
        assert len(tokens) > 5
        for token in tokens:
            seen.add_token(token)
    stored = [part for running in fleet.values() if running.url == url for part in dump(running)]
    stored += [part for key, state in store._visitors.items() for part in (key, *state.keys(), *state.values())]
    assert len(stored) > 10 * len(IDS)
    for text in stored:
        seen.add(text)
    logged = of_logs(everything)
    assert any("older than any rule" in text for text in logged)
    assert_untold(seen, logged)


@pytest.mark.parametrize("pepper", [PEPPERS, None])
def test_an_error_does_not_contain_the_id(clock: Clock, everything: pytest.LogCaptureFixture, pepper: Any) -> None:
    """Wrong ids, and wrong arguments beside right ids: the errors and their causes have no id."""
    seen = Seen()
    for visitor in IDS.values():
        options: dict[str, Any] = {"clock": clock, "pepper": pepper}
        run_all(Retargeter(policy("raise"), "memory://", **options), visitor, clock, seen, [], wrong=True)
        run_all_awaited(AsyncRetargeter(policy("raise"), "memory://", **options), visitor, clock, seen, [], wrong=True)
    assert_untold(seen, of_logs(everything))


def assert_untold(seen: Seen, logged: list[str]) -> None:
    """No id in what was seen, nor in the logs."""
    for text in logged:
        seen.add(text)
    for visitor in IDS.values():
        assert seen.tells(visitor) == []


def _quoting(command: list[bytes]) -> bytes:
    said = b" ".join(b"'" + word.replace(b"\r", b" ").replace(b"\n", b" ") + b"'" for word in command[:8])
    return b"-ERR unknown command, with args beginning with: " + said[:3_000] + b"\r\n"


def _denying(command: list[bytes]) -> bytes:
    key = command[1] if command[0] == b"HGETALL" else command[-1]
    said = key.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"-NOPERM No permissions to access a key, '" + said + b"' of user " + said + b"\r\n"


FAILING: dict[str, Callable[[list[bytes]], bytes | None]] = {
    "quotes": _quoting,
    "denies": _denying,
    "hangs up": lambda command: None,
    "makes no sense": lambda command: b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n",
    "speaks no RESP": lambda command: b"HTTP/1.1 400 Bad Request " + b" ".join(command[:3]) + b"\r\n",
    "works": lambda command: b"*0\r\n" if command[0] == b"HGETALL" else b":1\r\n",
}


@pytest.mark.parametrize("pepper", [PEPPERS, None])
@pytest.mark.parametrize("how", ["a closed port", *FAILING])
def test_a_store_that_fails_reveals_no_id(
    how: str, clock: Clock, everything: pytest.LogCaptureFixture, pepper: Any
) -> None:
    """Servers that are gone, quote what they were sent, answer nonsense or hang up; and none is sent an id.

    Without a pepper the id is in commands and tokens, but in no log and in no error or its causes.
    """
    seen = Seen()
    with ExitStack() as stack:
        fake = stack.enter_context(servers.fake(FAILING[how])) if how in FAILING else None
        url = fake.url if fake is not None else f"redis://127.0.0.1:{servers.free_port()}/0"
        options: dict[str, Any] = {"clock": clock, "timeout": 5, "pepper": pepper}
        for visitor, on_error in zip(FEW, ON_ERROR, strict=True):
            tokens = tokens_of(visitor, clock, pepper)
            with Retargeter(policy(on_error), url, **options) as ads:
                run_all(ads, visitor, clock, seen, tokens)
            run_all_awaited(AsyncRetargeter(policy(on_error), url, **options), visitor, clock, seen, tokens)
            for token in tokens if pepper else ():
                seen.add_token(token)
        sent = [word for command in fake.commands for word in command] if fake is not None else []
    assert fake is None or len(sent) > 10
    for word in sent if pepper else ():
        seen.add(word)
    assert_untold(seen, of_logs(everything))


def tokens_of(visitor: str, clock: Clock, pepper: Any = PEPPERS) -> list[str]:
    """Tokens of claims made before the store failed."""
    ads = Retargeter(policy("raise"), "memory://", clock=clock, pepper=pepper)
    claims = [ads.claim(visitor, ["a"]), ads.claim(visitor, ["a"], hold="1 hour")]
    return [claim.token for claim in claims if claim]


@pytest.mark.parametrize("pepper", [PEPPERS, None])
@pytest.mark.parametrize("harm", ["wrong type", "no timeline", "ids that are none", "full"])
def test_corrupt_data_reveal_no_id(
    server: Server, clock: Clock, everything: pytest.LogCaptureFixture, harm: str, pepper: Any
) -> None:
    """A key of another type, invalid timelines, a full visitor: reported without the id."""
    seen = Seen()
    keys = Visitors("rt:", pepper)
    for visitor, on_error in zip(FEW, ON_ERROR, strict=True):
        with server.client() as client:
            for key in keys.all_keys(visitor):
                if harm == "wrong type":
                    client.set(key, "x")
                elif harm == "no timeline":
                    client.hset(key, mapping={"ia": "seven..", "evisit shop": "x", "@": ""})
                elif harm == "ids that are none":
                    client.hset(key, "#0", "xyz")
                else:
                    live = bytes.fromhex("ffff") + clock.now.to_bytes(4)
                    client.hset(key, mapping={f"i{n}": live for n in range(MOST_TIMELINES)})
        options: dict[str, Any] = {"clock": clock, "pepper": pepper, "timeout": servers.PATIENCE}
        with Retargeter(policy(on_error), server.url, **options) as ads:
            run_all(ads, visitor, clock, seen, tokens_of(visitor, clock, pepper))
    assert_untold(seen, of_logs(everything))
