"""Fuzzed input of every kind: a right answer or one of our errors, short, without a visitor's id; nothing else.

Bytes are flipped, cut, doubled and spliced at random in valid input: policies, log files, tokens, names, and what a
server holds. The normal run takes a slice; `-m soak` takes more than 10^5 inputs.
"""

from __future__ import annotations

import gzip
import json
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from retarget import Candidate, MemoryStore, Policy, Retargeter
from retarget.errors import InputError, LogError, PolicyError, RetargetError, TokenError
from retarget.events import Subject
from retarget.logs import Log, LogOptions
from retarget.timelines import keys
from tests.property.mutation import SECRET, Mutator, check_error, fuzz
from tests.property.oracle import Oracle
from tests.support import servers
from tests.support.fixtures import Clock
from tests.support.servers import Server

NOW = 1_794_312_000


# -- policies ----------------------------------------------------------------------------------------------------------

POLICIES = [
    *(path.read_bytes() for path in sorted((Path(__file__).parents[2] / "docs" / "policies").glob("*.toml"))),
    b"""timezone = "Europe/Zurich"\nretention = "90 days"\nweek_start = "sunday"\nsession = "10 minutes"
on_unknown_visitor = "allow"\non_no_consent = "allow"\non_store_error = "raise"
[annoyance]\nthreshold = ["12 per day", { cap = "30 per 7 days", spread = true }]\npoints = { email = 3 }
[annoyance.segment.vip]\nwho = ["purchase within 90 days", { any = ["2 visit", "3 click a"] }]\nthreshold = ["20/day"]
[caps]\nadvertiser = ["3 per calendar week"]\n"channel:email" = ["1 per session"]
[defaults]\ncaps = ["9 per flight"]\nexclude = ["dismiss {campaign}"]
[campaign.a]\nlabels = { advertiser = "ann", channel = "email" }\naudience = ["visit product/{item} within 3 days"]
exclude = ["purchase \\"red shoes\\" within 2 hours"]\ncaps = ["3 per calendar day", "10 per lifetime"]\ngap = "2 hours"
hours = ["08:00-12:00", "22:00-02:00"]\ndays = "mon, wed-fri"\nstart = 2026-11-01\nend = 2026-12-24T21:00:00+01:00
cost = 0.5
[campaign."b b"]\nobeys = false\ncounts = false\n""",
    b'[campaign.a]\ncaps = ["3 per day"]\n',
]


def a_policy(data: bytes) -> str:
    """Load it; if it loads, check it and decide by it."""
    try:
        policy = Policy.from_text(data.decode(errors="surrogateescape"))
        policy.findings()
        ads = Retargeter(policy, MemoryStore(), clock=lambda: NOW)
    except PolicyError as error:
        check_error(error)
        return "refused"
    campaign = next(iter(policy.campaign), "a")
    item: Subject = Candidate(campaign, item="i1") if campaign in policy.campaign or policy.defaults else "none"
    try:
        ads.record_many([(SECRET, "impression", campaign), (SECRET, "visit", "product/i1")])
        decision = ads.decide(SECRET, [item])
        assert decision[item].eligible is (decision.eligible == (item,))
        assert (ads.claim(SECRET, [item]) is not None) is decision[item].eligible
        ads.claim(SECRET, hold="1 minute")
        again = decision[item].eligible_at
        assert again is None or decision.at <= again
    except InputError as error:
        check_error(error)
        return "loaded, no candidate"
    return "loaded"


# -- tokens ------------------------------------------------------------------------------------------------------------


SHOP = """
[annoyance]
threshold = ["9 per day"]
[caps]
item = ["1 per session"]
[defaults]
caps = ["2 per day"]
exclude = ["hide {campaign}", "2 click item:{item} within 1 hour"]
[campaign.a]
audience = [{ any = ["visit product/{item}", "visit"] }]
"""


def shop(store: Any = None, secret: str | None = None) -> Retargeter:
    """A retargeter whose clock stands still, with a policy that asks about most things."""
    policy = Policy.from_text(SHOP)
    return Retargeter(policy, store or MemoryStore(), clock=lambda: NOW, secret=secret, timeout=servers.PATIENCE)


def a_token(secret: str | None, sealed: str) -> Callable[[bytes], str]:
    """Confirm or release a token that was changed: refused, or nothing was changed in it."""
    ads = shop(secret=secret)

    def check(data: bytes) -> str:
        text = data.decode(errors="surrogateescape")
        try:
            ads.release(text)
        except TokenError as error:
            check_error(error)
            return "refused"
        assert text == sealed
        return "the same"

    return check


# -- what a server holds -----------------------------------------------------------------------------------------------


def verdicts(ads: Retargeter) -> None:
    """Every verdict, and how much of the threshold is used."""
    decision = ads.decide(SECRET, ["a", Candidate("a", item="i1"), Candidate("b", item="i2")])
    assert decision.annoyance is None or decision.annoyance.points >= 0
    assert all(decision[candidate].reason for candidate in decision)


def a_state(server: Server) -> tuple[Callable[[bytes], str], list[bytes]]:
    """Write the changed bytes into one field of a visitor's hash: every call answers, or says that it is corrupt."""
    ads = shop(server.url)
    client = server.client(socket_timeout=servers.PATIENCE)
    ads.record_many([(SECRET, "visit", "product/i1"), (SECRET, "click", Candidate("a", item="i1"))])
    ads.claim(SECRET, [Candidate("a", item="i1")], id="x")
    ads.claim(SECRET, [Candidate("b", item="i2")], hold="1 minute")
    key = keys.key("rt:", SECRET)
    state: dict[Any, Any] = client.hgetall(key)
    fields = [
        *state,
        b"ia",
        b"",
        b"\xff",
        b"#1",
        b"#2",
        b"#h",
        b"iz",
        b"h",
        b"hia",
        b"H\xff",
        b"M",
        b"M>",
        b"D",
        b"@",
        b"e",
    ]
    numbers = iter(range(10**9))

    def check(data: bytes) -> str:
        field = fields[next(numbers) % len(fields)]
        client.delete(key)
        client.hset(key, mapping={**state, field: data})
        became = []
        calls: list[Callable[[], object]] = [
            lambda: ads.decide(SECRET, ["a", Candidate("b", item="i1")]).eligible,
            lambda: verdicts(ads),
            lambda: ads.export(SECRET),
            lambda: ads.claim(SECRET, [Candidate("a", item="i1")], id="x"),
            lambda: ads.claim(SECRET, [Candidate("c", item="i1")], hold="1 minute"),
            lambda: ads.record(SECRET, "impression", "a"),
            lambda: json.dumps(ads.export(SECRET)),
        ]
        for call in calls:
            try:
                call()
                became.append("answered")
            except RetargetError as error:
                check_error(error)
                became.append(type(error).__name__)
        assert ads.forget(SECRET) is True
        return " ".join(sorted(set(became)))

    return check, [*state.values(), *state]


# -- log files ---------------------------------------------------------------------------------------------------------

ROWS = [
    {"at": NOW + n, "visitor": f"{SECRET}{n % 7}", "campaign": f"c{n % 3}", "event": "impression", "cost": n / 8,
     "click": n % 5 == 0, "id": f"i{n}", "advertiser": "ann"}
    for n in range(40)
]  # fmt: skip


def log_files(folder: Path) -> dict[str, bytes]:
    """One small log in every form."""
    import duckdb

    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    csv = "\n".join([",".join(ROWS[0]), *(",".join(map(str, row.values())) for row in ROWS)]).encode()
    (folder / "log.jsonl").write_bytes(lines)
    with duckdb.connect() as db:
        db.execute(f"COPY (FROM read_json('{folder}/log.jsonl')) TO '{folder}/log.parquet' (FORMAT parquet)")
    packed = {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in (("log.csv", csv), ("log.jsonl", lines))}
    return {"log.csv": csv, "log.jsonl": lines, **packed, "log.parquet": (folder / "log.parquet").read_bytes()}


def a_log(folder: Path, name: str) -> Callable[[bytes], str]:
    """Open a file of that name with the changed bytes: refused, or as many rows come out as were counted."""
    path = folder / f"fuzzed-{name}"

    def check(data: bytes) -> str:
        path.write_bytes(data)
        try:
            with closing(Log(LogOptions([path], optional_labels=True))) as log:
                rows = [row for batch in log.rows() for row in batch]
                assert len(rows) == log.count
                assert all(one.at <= other.at for one, other in pairwise(rows))
        except LogError as error:
            check_error(error, names="the columns are")  # a header glued to its first row holds the id
            return "refused"
        return "read"

    return check


# -- what callers give -------------------------------------------------------------------------------------------------

NAMES = [
    *(b"shop", b"product/notebook", b"item:i1", b"{item}", b"a b", b"*", b"i", b"x" * 250),
    "e\u0301 \u4e2d \U0001f600".encode(),
    *(b"impression", b"click", b"2 hours", b"90 minutes", b"3 per day", b"Europe/Zurich", b"1794312000", b"1e9", b"-5"),
]  # fmt: skip
EVERYTHING = Policy.from_text('[defaults]\ncaps = ["1 per day"]\nexclude = ["dismiss {campaign}"]')


def a_name(data: bytes) -> str:
    """The bytes as a text in every place that takes one: counted once under that very name, or refused."""
    text = data.decode(errors="surrogateescape")
    store, clock = MemoryStore(), Clock(NOW)
    ads = Retargeter(EVERYTHING, store, clock=clock)
    oracle = Oracle(EVERYTHING)
    became = "refused"
    try:
        assert ads.record(SECRET + text, "impression", "c") is True
        assert [ads.decide(SECRET + text, ["c"]).eligible, ads.decide(SECRET, ["c"]).eligible][not text] == ()
        exported = ads.export(SECRET + text)
        assert (exported["visitor"], set(exported["timelines"])) == (SECRET + text, {"impression c"})
        assert ads.forget(SECRET + text) is True
        assert len(store) == 0
    except InputError as error:
        check_error(error)
    calls: list[tuple[str, Callable[[], bool]]] = [
        ("campaign", lambda: counts_once(ads, oracle, text)),
        ("label", lambda: counts_once(ads, oracle, Candidate("c", item=text))),
        ("subject", lambda: ads.record(SECRET, "dismiss", text)),
        ("event", lambda: ads.record(SECRET, text, "c") is True),
        ("id", lambda: [ads.record(SECRET, "dismiss", "d", id=text) for _ in range(2)] == [True, False]),
        ("hold", lambda: ads.claim("w", ["h"], hold=text) is not None),
        ("zone", lambda: ads.decide("w", ["h"], timezone=text).degraded is None),
    ]  # fmt: skip
    for what, call in calls:
        try:
            assert call(), what
            became = "taken in places"
        except InputError as error:
            check_error(error)
        ads.forget(SECRET)
        ads.forget("w")
    assert len(store) == 0
    return became


def counts_once(ads: Retargeter, oracle: Oracle, subject: Subject) -> bool:
    """Claimed once by a cap of one, as the oracle says; then forgotten by both."""
    oracle.visitors.clear()
    claims = [ads.claim(SECRET, [subject]) for _ in range(2)]
    assert [claim and claim.candidate for claim in claims] == [subject, None]
    assert [oracle.claim(SECRET, [subject], NOW) for _ in range(2)] == [subject, None]
    return ads.decide(SECRET, [subject]).eligible == ()


# -- all of them -------------------------------------------------------------------------------------------------------


def sealed(secret: str | None) -> str:
    """A token of a reserved impression."""
    claim = shop(secret=secret).claim(SECRET, [Candidate("b", item="i1")], hold="1 minute")
    assert claim is not None
    return claim.token


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep warnings out of the test's log."""
    caplog.set_level(logging.CRITICAL, "retarget")


NORMAL = {"policies": 500, "tokens": 20_000, "states": 400, "names": 1_000, "logs": 6}
SOAK = {"policies": 40_000, "tokens": 20_000, "states": 10_000, "names": 20_000, "logs": 300}


def storm(what: str, times: int, server: Server | None, folder: Path, seed: int) -> Counter[str]:
    """Fuzz `times` inputs of one kind."""
    if what == "policies":
        return fuzz(a_policy, Mutator(seed, POLICIES), times)
    if what == "names":
        return fuzz(a_name, Mutator(seed, NAMES), times)
    became = Counter[str]()
    if what == "tokens":
        for secret in (None, "s" * 16):
            token = sealed(secret)
            became += fuzz(a_token(secret, token), Mutator(seed, [token.encode()]), times // 2)
    if what == "logs":
        for name, data in log_files(folder).items():
            became += fuzz(a_log(folder, name), Mutator(seed, [data]), times)
    if what == "states":
        assert server is not None
        check, corpus = a_state(server)
        became += fuzz(check, Mutator(seed, corpus), times)
    return became


@pytest.mark.parametrize("what", ["policies", "tokens", "names", "logs"])
def test_what_was_valid_and_was_changed_by_chance(what: str, tmp_path: Path) -> None:
    """Right or refused; some is accepted and some refused, or the changes would show nothing."""
    became = storm(what, NORMAL[what], None, tmp_path, seed=1)
    assert became.total() >= NORMAL[what]
    assert "refused" in became
    assert len(became) > 1


def test_what_a_server_holds_changed_by_chance(server: Server, tmp_path: Path) -> None:
    """Corrupt timelines, ids and reservations: answered, degraded or refused, and forgotten without a trace."""
    became = storm("states", NORMAL["states"], server, tmp_path, seed=1)
    assert len(became) > 1


@pytest.mark.soak
@pytest.mark.parametrize("what", SOAK)
def test_a_hundred_thousand_changes(what: str, server: Server, tmp_path: Path) -> None:
    """More than 10^5 inputs in all, others than in the normal run."""
    assert storm(what, SOAK[what], server, tmp_path, seed=2 if server.name == "redis" else 3).total() >= SOAK[what]
