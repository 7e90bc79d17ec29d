"""Fuzzed input of every kind: a right answer or one of our errors, short, without a visitor's id; never anything else.

Bytes are turned, cut, doubled and spliced by chance in what was valid: policies, log files, tokens, names, and what a
server holds. Hypothesis makes up whatever else callers may give. The normal run takes a slice.
"""

from __future__ import annotations

import gzip
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retarget import Candidate, MemoryStore, Policy, Retargeter
from retarget.errors import InputError, LogError, PolicyError, RetargetError, TokenError
from retarget.events import Subject
from retarget.logs import Log, LogOptions
from tests.property.oracle import Oracle
from tests.support import servers
from tests.support.fixtures import Clock
from tests.support.servers import Server

NOW = 1_794_312_000
LONGEST = 2_000
"""Characters that one problem may be told in."""

SECRET = "SeCrEt"  # noqa: S105 - as a text, not as a password
"""Stands in every visitor's id, and so in no error."""

TOKENS = [
    *(b"0", b"-1", b"1", b"10001", b"9" * 30, b"9" * 5_000, b"1e999", b"nan", b"-0", b"0x10", b"1_000", b"\xd9\xa3"),
    *(
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\xe2\x80\xae",
        b"\xf0\x9f\x98\x80",
        b"\xc2\x85",
        b"\r",
        b"\n",
    ),
    *(
        b"[" * 300,
        b"{a=" * 200,
        b'"' * 3,
        b"'''",
        b"{",
        b"}",
        b"{item}",
        b"{campaign}",
        b"{{",
        b"[[",
        b"]]",
        b"=",
        b",",
    ),
    *(b" per ", b"/", b" within ", b"within", b" calendar ", b"month", b"session", b"flight", b"lifetime", b"day"),
    *(b"true", b"false", b"1979-05-27T07:32:00Z", b"07:32:00", b"24:00", b"00:00-24:00", b"fri-mon", b" " * 500),
    *(
        b"[campaign.x]",
        b"[defaults]",
        b"[caps]",
        b"[annoyance]",
        b"audience",
        b"exclude",
        b"threshold",
        b"any",
        b"spread",
    ),
    *(b"\x1f\x8b", b"PAR1", b"impression", b"*", b"@", b"^", b"#0", b"h", b"H", b"\\u0000", b"\\uD800", b"a" * 600),
]


class Mutator:
    """Changes bytes by chance: the same seed, the same changes."""

    def __init__(self, seed: int, corpus: list[bytes], words: list[bytes] | None = None) -> None:
        self.chance = random.Random(seed)
        self.corpus = corpus
        self.words = words or TOKENS

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data = bytearray(self.chance.choice(self.corpus))
        for _ in range(self.chance.choice([1, 1, 1, 2, 3, 8])):
            self._change(data)
        return bytes(data)

    def _change(self, data: bytearray) -> None:
        chance = self.chance
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice([1, 1, 2, 4, 16, 64]))
        match chance.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at:at] = bytes([chance.randrange(256)])
            case 2:
                del data[at:end]
            case 3:
                data[end:end] = data[at:end] * chance.choice([1, 1, 2, 50])
            case 4:
                other = chance.choice(self.corpus)
                cut = chance.randrange(len(other) + 1)
                data[at:end] = other[cut : cut + chance.choice([4, 16, 64, 4_000])]
            case _:
                data[at : chance.choice([at, end])] = chance.choice(self.words)


def told(error: RetargetError, names: str = "\0") -> None:
    """An error says what is wrong in a few lines, and tells nobody who it was, but for what stands behind `names`."""
    problems = error.problems if isinstance(error, PolicyError) else [str(error)]
    for problem in problems:
        assert 0 < len(problem) <= LONGEST, problem[:200]
        assert SECRET not in problem.partition(names)[0]
        problem.encode(errors="strict")


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
        told(error)
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
        assert again is None or decision.at <= again.timestamp()
    except InputError as error:
        told(error)
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
            told(error)
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
    """Write what was changed into one field of a visitor's hash: every call answers, or says that it is corrupt."""
    ads = shop(server.url)
    client = server.client(socket_timeout=servers.PATIENCE)
    ads.record_many([(SECRET, "visit", "product/i1"), (SECRET, "click", Candidate("a", item="i1"))])
    ads.claim(SECRET, [Candidate("a", item="i1")], id="x")
    ads.claim(SECRET, [Candidate("b", item="i2")], hold="1 minute")
    key = f"rt:1:{SECRET}"
    state: dict[Any, Any] = client.hgetall(key)
    fields = [*state, b"ia", b"", b"\xff", b"#1", b"iz", b"h", b"hia", b"H\xff", b"^", b"@", b"e"]
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
                told(error)
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
    """Open a file of that name that holds what was changed: refused, or every row comes out as it was counted."""
    path = folder / f"fuzzed-{name}"

    def check(data: bytes) -> str:
        path.write_bytes(data)
        try:
            with closing(Log(LogOptions([path], optional_labels=True))) as log:
                rows = [row for batch in log.rows() for row in batch]
                assert len(rows) == log.count
                assert all(one.at <= other.at for one, other in pairwise(rows))
        except LogError as error:
            told(error, names="the columns are")  # a header glued to its first row has her in it
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
        told(error)
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
            told(error)
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


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | st.binary(max_size=20)
WEIRD = st.recursive(
    ANYTHING | st.datetimes() | st.dates() | st.decimals() | st.timedeltas(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)
_HYPOTHESIS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(st.lists(WEIRD, min_size=9, max_size=9))
@settings(_HYPOTHESIS, max_examples=100)
def test_whatever_a_caller_gives_is_taken_or_refused(given_: list[Any]) -> None:
    """Things of every type in every place: an InputError, or an answer; a store that was refused holds nothing."""
    ads = Retargeter(EVERYTHING, store := MemoryStore(), clock=lambda: NOW)
    a, b, c, d, e, f, g, h, i = given_
    calls: list[Callable[[], object]] = [
        lambda: ads.decide(a, [b], now=c, timezone=d),
        lambda: ads.decide(a, b, consent=c),
        lambda: list(ads.decide_many([a, b], c, now=d)),
        lambda: list(ads.decide_many(a)),
        lambda: ads.claim(a, [b], now=c, id=d, hold=e, timezone=f),
        lambda: ads.claim("v", [b], hold=e),
        lambda: ads.record(a, b, c, at=d, id=e),
        lambda: ads.record("v", "click", "c", at=d),
        lambda: ads.record("v", "click", Candidate(b, item=c)),
        lambda: ads.record_many([(a, b, c, d, e)]),
        lambda: ads.record_many(f),
        lambda: ads.record_many([g]),
        lambda: ads.confirm(h),
        lambda: ads.release(h, now=i),
        lambda: ads.export(a),
        lambda: ads.forget(a),
        lambda: ads.decide("v", [Candidate(a, item=b)]).eligible,
    ]
    for call in calls:
        before = len(store)
        try:
            call()
        except RetargetError as error:
            told(error)
            assert len(store) == before


@given(WEIRD)
@settings(_HYPOTHESIS, max_examples=150)
def test_whatever_is_given_for_a_policy_is_one_or_refused(data: Any) -> None:
    """Data of every shape, whole or as one key of a policy."""
    campaigns = [data, {"caps": data}, {"audience": [{"any": data}], "start": data, "cost": data, "labels": data}]
    shapes = [data, *({"campaign": {"a": campaign}} for campaign in campaigns), {"caps": {"item": data}}]
    for shape in [*shapes, {"annoyance": data}, {"annoyance": {"threshold": data}}, {"retention": data}]:
        try:
            Retargeter(Policy.model_validate(shape), "memory://")
        except PolicyError as error:
            told(error)


BLANKS = " " * 200_000


@pytest.mark.parametrize(
    "rule",
    [
        {"caps": [f"3 per day{BLANKS}x"]},
        {"caps": [f"3{BLANKS}x"]},
        {"exclude": [f'visit{BLANKS}"']},
        {"exclude": [f"visit a within{BLANKS}x"]},
        {"exclude": ["visit " + "{a}" * 100_000]},
        {"exclude": ["visit " + "a" * 70_000]},
        {"exclude": ["visit" * 20_000]},
        {"exclude": ["visit shop" + " within" * 50_000]},
        {"gap": f"1{BLANKS}x"},
        {"gap": "9" * 4_000 + " days"},
        {"hours": "," * 200_000},
        {"days": "-" * 200_000},
    ],
    ids=map(str, range(12)),
)
def test_endless_texts_are_refused_at_once_and_briefly(rule: dict[str, Any]) -> None:
    """None is tried in more ways than it has letters: that would take minutes."""
    with pytest.raises(PolicyError) as raised:
        Retargeter(Policy.model_validate({"campaign": {"a": rule}}), "memory://").decide("v")
    told(raised.value)


@pytest.mark.parametrize("text", ["\ud800", "shop/\udfff"])
def test_what_is_no_unicode_is_no_subject(text: str) -> None:
    """A lone surrogate in a rule: refused when it is loaded, in a message that can be printed."""
    for rule in ({"exclude": [f"visit {text}"]}, {"audience": [{"any": [f'visit "{text}"', "visit"]}]}):
        with pytest.raises(PolicyError) as raised:
            Policy.model_validate({"campaign": {"a": rule}, "defaults": rule})
        told(raised.value)


@pytest.mark.parametrize(
    "text", ["[campaign.a]\ncost = " + "9" * 5_000, "a = " + "[" * 10_000, "[campaign.a]\n\ud800 = 1"]
)
def test_toml_that_cannot_be_read_is_refused(text: str) -> None:
    """A number of thousands of digits, brackets without end, no Unicode."""
    with pytest.raises(PolicyError) as raised:
        Policy.from_text(text)
    told(raised.value)


FIRST, LAST = datetime(1970, 1, 2), datetime(2106, 1, 1)  # noqa: DTZ001 - Hypothesis wants them like this


@given(st.integers(0, 2**32 - 301) | st.floats(0, 2**32 - 301) | st.datetimes(FIRST, LAST))
@settings(_HYPOTHESIS, max_examples=200)
def test_a_moment_is_the_same_in_every_form(moment: float | datetime) -> None:
    """A number or an aware datetime: floored to its second, exported as that second, and claimed once in it."""
    moment = moment.replace(tzinfo=UTC) if isinstance(moment, datetime) else moment
    second = int(moment.timestamp() if isinstance(moment, datetime) else moment)
    ads = Retargeter(EVERYTHING, MemoryStore())
    claim = ads.claim("v", ["c"], now=moment)
    assert claim is not None
    assert claim.second == second
    assert ads.export("v")["timelines"]["impression c"]["at"] == [datetime.fromtimestamp(second, UTC).isoformat()]
    again = ads.decide("v", ["c"], now=moment)["c"].eligible_at
    assert again == datetime.fromtimestamp(second, UTC) + timedelta(seconds=86_401)


@given(st.integers(1, 10**9), st.sampled_from(["second", "minute", "hour", "day", "week"]), st.booleans())
@settings(_HYPOTHESIS, max_examples=200)
def test_a_duration_lasts_as_long_as_it_says(count: int, unit: str, capital: bool) -> None:  # noqa: FBT001
    """As a gap and as a hold: so many seconds, or refused where that is more than may be."""
    seconds = count * {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}[unit]
    text = f"{count} {unit}s".upper() if capital else f"{count} {unit}"
    try:
        ads = Retargeter(Policy.model_validate({"campaign": {"a": {"gap": text}}}), MemoryStore(), clock=lambda: 10**9)
        ads.record("v", "impression", "a")
        free = ads.decide("v")["a"].eligible_at
        assert free is not None
        assert int(free.timestamp()) == 10**9 + seconds + 1
    except PolicyError as error:
        told(error)
        assert seconds > 20 * 366 * 86_400
    try:
        claim = shop().claim("w", ["b"], hold=text)
        assert claim is not None
        assert claim.held_for == seconds
    except InputError as error:
        told(error)
        assert seconds > 86_400


# -- all of them -------------------------------------------------------------------------------------------------------


def fuzz(check: Callable[[bytes], str], mutator: Mutator, times: int) -> Counter[str]:
    """Check so many inputs; what fails is told by its bytes."""
    became: Counter[str] = Counter()
    for _, data in zip(range(times), mutator, strict=False):
        try:
            became[check(data)] += 1
        except Exception as error:
            error.add_note(f"by these bytes: {data[:2_000]!r}")
            raise
    return became


def sealed(secret: str | None) -> str:
    """A token of a reserved impression."""
    claim = shop(secret=secret).claim(SECRET, [Candidate("b", item="i1")], hold="1 minute")
    assert claim is not None
    return claim.token


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Warnings of the log are for whoever runs an ad server."""
    caplog.set_level(logging.CRITICAL, "retarget")


NORMAL = {"policies": 500, "tokens": 20_000, "states": 400, "names": 1_000, "logs": 6}
SOAK = {"policies": 40_000, "tokens": 20_000, "states": 10_000, "names": 20_000, "logs": 300}


def storm(what: str, times: int, server: Server | None, folder: Path, seed: int) -> Counter[str]:
    """So many inputs of one kind."""
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
    """Right or refused; some of it is taken and some refused, or the changes would show nothing."""
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
