"""visitors.py: a visitor's key, with and without a pepper, and the name that stands for it in a token."""

from __future__ import annotations

import random
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retarget import ConfigError, InputError, MemoryStore, Policy, Retargeter
from retarget.calls.visitors import PEPPER_BYTES, VISITOR_BYTES, Visitors
from retarget.timelines import Store
from tests.support.fixtures import Clock
from tests.support.holds import SECRET

PEPPER = b"sixteen bytes ok"
OTHER = b"sixteen bytes no"
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100)
POLICY = Policy.from_text('[campaign.a]\ncaps = ["3 per day"]')


def test_without_a_pepper_the_key_is_the_id() -> None:
    """Prefix, format, id: as it always was."""
    assert Visitors("rt:", None).key("visitor-1") == b"rt:2~visitor-1"
    assert Visitors("", None).key("é") == "2~é".encode()


def test_with_a_pepper_the_key_is_a_keyed_hash_of_128_bits() -> None:
    """BLAKE2b with the pepper as its key, cut to 16 bytes, the pepper's version in front: nothing else of the id."""
    digest = blake2b(b"visitor-1", digest_size=16, key=PEPPER).digest()
    assert Visitors("rt:", PEPPER).key("visitor-1") == b"rt:2!1~" + digest
    assert Visitors("rt:", {7: PEPPER}).key("visitor-1") == b"rt:2!7~" + digest


def test_the_highest_version_is_current() -> None:
    """In whatever order they are given; the others give the old keys, oldest first."""
    visitors = Visitors("rt:", {10: b"c" * 16, 2: b"b" * 16, 1: b"a" * 16})
    assert visitors.key("v").startswith(b"rt:2!10~")
    old = [Visitors("rt:", {n: p * 16}).key("v") for n, p in ((1, b"a"), (2, b"b"))]
    assert visitors.all_keys("v") == [*old, visitors.key("v")]
    for one in (Visitors("rt:", PEPPER), Visitors("rt:", None)):
        assert one.all_keys("v") == [one.key("v")]


def test_ids_that_were_stored_in_clear_are_version_0() -> None:
    """The clear key is then an old one, and what is stored there is moved, exported and forgotten."""
    visitors = Visitors("rt:", {0: None, 1: PEPPER})
    assert visitors.key("v") == Visitors("rt:", PEPPER).key("v")
    assert visitors.all_keys("v") == [b"rt:2~v", visitors.key("v")]
    assert Visitors("rt:", {0: None}).key("v") == b"rt:2~v"
    policy, store = Policy.from_text('[campaign.a]\ncaps = ["2 per day"]'), MemoryStore()
    before = Retargeter(policy, store, clock=lambda: 1_795_600_000)
    after = Retargeter(policy, store, clock=lambda: 1_795_600_000, pepper={0: None, 1: PEPPER})
    for ads in (before, after):
        assert ads.record("v", "impression", "a")
    assert len(after.export("v")["timelines"]["impression a"]["at"]) == 2
    assert after.rotate("v") is True
    assert "impression a" not in before.export("v")["timelines"]
    assert after.decide("v").eligible == ()
    assert before.record("v", "impression", "a")
    assert after.forget("v") is True
    assert before.export("v")["timelines"] == after.export("v")["timelines"] == {}


def test_a_string_is_its_bytes() -> None:
    """The same pepper as text and as bytes gives the same keys."""
    assert Visitors("rt:", PEPPER.decode()).key("v") == Visitors("rt:", PEPPER).key("v")
    assert Visitors("rt:", "pfefferpfefferü").key("v") == Visitors("rt:", "pfefferpfefferü".encode()).key("v")


@pytest.mark.parametrize("size", [16, 63, 64, 65, 1_000])
def test_every_byte_of_a_pepper_counts(size: int) -> None:
    """Including one longer than BLAKE2b's key: peppers that differ anywhere give different keys."""
    pepper = bytes(range(256)) * 4
    keys = {Visitors("", pepper[:size]).key("v")}
    for place in (0, size // 2, size - 1):
        changed = bytearray(pepper[:size])
        changed[place] ^= 1
        keys.add(Visitors("", bytes(changed)).key("v"))
    assert len(keys) == 4


@given(IDS, IDS)
def test_ids_peppers_and_versions_are_told_apart(one: str, other: str) -> None:
    """Different ids, peppers and versions give different keys; the same ones always give the same key."""
    makers = [Visitors("rt:", p) for p in (None, PEPPER, OTHER, {2: PEPPER})]
    keys = [maker.key(visitor) for maker in makers for visitor in {one, other}]
    assert len(set(keys)) == len(keys)
    assert keys == [maker.key(visitor) for maker in makers for visitor in {one, other}]


@given(IDS, st.sampled_from(["", "rt:", "é:", "2:1:"]), st.sampled_from([None, PEPPER, {3: PEPPER, 999_999: OTHER}]))
def test_a_name_leads_back_to_its_key(visitor: str, prefix: str, pepper: object) -> None:
    """The name in a token leads back to the visitor's key, under old peppers too; with a pepper it is not a str."""
    visitors = Visitors(prefix, pepper)  # type: ignore[arg-type]
    for key in visitors.all_keys(visitor):
        name = visitors.name(key)
        assert visitors.named(name) == (key,)
        assert name == visitor if pepper is None else isinstance(name, bytes)


def test_a_name_older_than_the_pepper_is_hashed() -> None:
    """A token with an id in clear (made without a pepper, or made up) puts no clear id into the store."""
    visitors = Visitors("rt:", PEPPER)
    assert visitors.named("visitor-1") == (visitors.key("visitor-1"),)


def test_a_name_older_than_the_pepper_is_looked_for_in_clear_where_ids_were_clear() -> None:
    """Told so by version 0: first where it was reserved, then at the visitor's current key."""
    visitors = Visitors("rt:", {0: None, 1: PEPPER})
    assert visitors.named("visitor-1") == (b"rt:2~visitor-1", visitors.key("visitor-1"))
    assert Visitors("rt:", {0: None}).named("visitor-1") == (b"rt:2~visitor-1",)
    assert Visitors("rt:", None).named("visitor-1") == (b"rt:2~visitor-1",)


HASH = b"x" * 16
NO_NAMES = [
    *[b"", b"!1~", b"!1~short", b"!0~" + HASH, b"?1~" + HASH, b"!1~x" + HASH, b"!1:" + HASH, b"!01~" + HASH],
    *["!\N{ARABIC-INDIC DIGIT ONE}~".encode() + HASH, b"!1000000~" + HASH, b"p1:" + HASH, b"~visitor-1", ""],
]


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize("pepper", [None, PEPPER])
def test_an_invalid_name_is_refused(name: str | bytes, pepper: bytes | None) -> None:
    """A made-up token cannot lead to a key that is not a visitor's."""
    with pytest.raises(InputError):
        Visitors("rt:", pepper).named(name)


@pytest.mark.parametrize("pepper", [None, PEPPER])
@pytest.mark.parametrize("visitor", ["", "x" * (VISITOR_BYTES + 1), "é" * 256, 7, b"visitor-1", "a\ud800b", ["v"]])
def test_an_invalid_id_is_refused_and_not_shown(visitor: object, pepper: bytes | None) -> None:
    """Empty, too long, not a str, not Unicode: an InputError with the bounds; neither it nor its context has the id."""
    with pytest.raises(InputError) as raised:
        Visitors("rt:", pepper).key(visitor)  # type: ignore[arg-type]
    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None
    assert not isinstance(visitor, str) or not visitor or visitor not in str(raised.value)


def test_the_bounds_of_an_id_are_bytes() -> None:
    """510 bytes are accepted, whatever letters they are."""
    for visitor in ("x" * VISITOR_BYTES, "é" * 255, "x"):
        assert Visitors("rt:", None).key(visitor) == b"rt:2~" + visitor.encode()
        assert len(Visitors("rt:", PEPPER).key(visitor)) == len(b"rt:2!1~") + 16


WRONG = [
    ("", "at least 16 bytes"),
    ("x" * (PEPPER_BYTES - 1), "at least 16 bytes"),
    (b"x" * (PEPPER_BYTES - 1), "at least 16 bytes"),
    ("no unicode \ud800 at all", "at least 16 bytes"),
    (16, "at least 16 bytes"),
    (bytearray(32), "at least 16 bytes"),
    (["x" * 32], "at least 16 bytes"),
    ({1: "x" * 32, 2: "short"}, "at least 16 bytes"),
    ({1: None}, "at least 16 bytes"),
    ({}, r"\{1: old, 2: new\}"),
    ({0: "x" * 32}, "version 0 is None"),
    ({0: "x" * 32, 1: "y" * 32}, "version 0 is None"),
    ({1: None}, "at least 16 bytes"),
    ({-1: "x" * 32}, r"\{1: old, 2: new\}"),
    ({1_000_000: "x" * 32}, r"\{1: old, 2: new\}"),
    ({"1": "x" * 32}, r"\{1: old, 2: new\}"),
    ({True: "x" * 32}, r"\{1: old, 2: new\}"),
    ({1.0: "x" * 32}, r"\{1: old, 2: new\}"),
]


@pytest.mark.parametrize(("pepper", "cure"), WRONG)
def test_an_invalid_pepper_is_refused_with_the_cure(pepper: object, cure: str) -> None:
    """On set-up, and without the pepper in the message."""
    with pytest.raises(ConfigError, match=cure) as raised:
        Retargeter(POLICY, "memory://", pepper=pepper)  # type: ignore[arg-type]
    assert "xxxx" not in str(raised.value) + repr(raised.value.__context__)
    assert "no unicode" not in repr(raised.value.__context__)


@pytest.mark.parametrize("prefix", [None, 7, b"rt:", "rt\ud800:", ["rt:"]])
def test_an_invalid_prefix_is_refused(prefix: object) -> None:
    """It must be a str; the message shows what was given and what would be right."""
    with pytest.raises(ConfigError, match=r"prefix=.*give a string such as 'rt:'"):
        Retargeter(POLICY, "memory://", prefix=prefix)  # type: ignore[arg-type]


@pytest.mark.parametrize("prefix", ["rt~", "~", "shop!", "a!b", "rt:2~", "rt:2!1~"])
def test_a_prefix_that_would_not_end_where_it_ends_is_refused(prefix: str) -> None:
    """`~` and `!` end the prefix in a key: the message shows what was given and says so."""
    with pytest.raises(ConfigError, match=r"prefix='.*: ~ and ! end the prefix in a key; give a string without them"):
        Retargeter(POLICY, "memory://", prefix=prefix)


ANY_PREFIX = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="~!"), max_size=8)
PREFIXES = st.one_of(ANY_PREFIX, st.sampled_from(["", "shop", "shop2", "shop2:", "shop1:", "rt:", "rt:2"]))
TRICKY = st.one_of(IDS, st.sampled_from(["bob", "1:bob", "2~bob", "~bob", "!1~bob", ":2~bob", "2!1~" + "x" * 16]))


@given(st.lists(st.tuples(PREFIXES, TRICKY), min_size=2, max_size=6, unique=True))
def test_keys_of_two_prefixes_never_meet(owners: list[tuple[str, str]]) -> None:
    """Whatever the prefixes and ids, in clear and hashed: two visitors never share a key."""
    keys = {Visitors(prefix, pepper).key(visitor) for prefix, visitor in owners for pepper in (None, PEPPER)}
    assert len(keys) == 2 * len(owners)


def test_visitors_of_two_prefixes_share_no_history(store: Store, clock: Clock) -> None:
    """As they would if one prefix and an id read like another prefix and another id."""
    capped = Policy.from_text('[campaign.a]\ncaps = ["1 per day"]')
    one = Retargeter(capped, store, clock=clock, prefix="rt:shop")
    other = Retargeter(capped, store, clock=clock, prefix="rt:shop1:")
    for visitor in ("1:bob", "2:bob", ":bob", "2~bob"):
        one.record(visitor, "impression", "a")
    assert other.decide("bob").eligible == ("a",)


# -- rotating the pepper -----------------------------------------------------------------------------------------------

RULES = Policy.from_text("""
    [annoyance]
    threshold = ["9 per 3 days"]
    [caps]
    advertiser = ["4 per day"]
    [campaign.a]
    labels = { advertiser = "ann" }
    caps = ["3 per day", "5 per week"]
    [campaign.b]
    labels = { advertiser = "ann" }
    gap = "2 hours"
    audience = ["2 visit shop within week"]
    [campaign.c]
    exclude = ["buy within 3 days"]
""")


@pytest.mark.parametrize("seed", range(20))
def test_a_rotated_visitor_keeps_their_caps_exactly(seed: int, clock: Clock) -> None:
    """A random history with the pepper rotated in between: every decision is as if it never was."""
    rng, store = random.Random(seed), MemoryStore()
    kept = Retargeter(RULES, store, clock=clock, pepper=PEPPER, prefix="kept:")
    ads = Retargeter(RULES, store, clock=clock, pepper=PEPPER)
    for step in range(60):
        clock.now += rng.choice([0, 1, 600, 7_200, 40_000])
        if step in (20, 40):
            peppers: dict[int, str | bytes] = {1: PEPPER, 2: OTHER, 3: b"a third one, too"}
            ads = Retargeter(RULES, store, clock=clock, pepper=dict(list(peppers.items())[: 1 + step // 20]))
            assert ads.decide("v").eligible == ("a", "c")  # nothing is known under the new pepper yet
            assert ads.rotate("v") is True
            assert ads.rotate("v") is False
        event = rng.choice([("impression", "a"), ("impression", "b"), ("visit", "shop"), ("buy", None), None])
        if event is None:
            assert ads.claim("v") == kept.claim("v")
        else:
            assert ads.record("v", *event) == kept.record("v", *event)
        one, other = ads.decide("v"), kept.decide("v")
        assert [one[name] for name in one] == [other[name] for name in other]
        assert one.annoyance == other.annoyance


def test_a_rotation_moves_reserved_impressions(clock: Clock) -> None:
    """What is reserved under the old pepper counts under the new one, until it lapses."""
    store = MemoryStore()
    old = Retargeter(POLICY, store, clock=clock, pepper=PEPPER)
    for _ in range(3):
        assert old.claim("v", hold="10 minutes")
    ads = Retargeter(POLICY, store, clock=clock, pepper={1: PEPPER, 2: OTHER})
    assert ads.rotate("v")
    assert ads.claim("v") is None
    clock.now += 601
    assert ads.claim("v")


def test_forgetting_under_rotation_leaves_nothing(clock: Clock) -> None:
    """What is stored under any pepper is deleted, rotated or not; True if there was anything."""
    store = MemoryStore()
    old = Retargeter(POLICY, store, clock=clock, pepper=PEPPER)
    ads = Retargeter(POLICY, store, clock=clock, pepper={1: PEPPER, 2: OTHER})
    for clients in ([old], [ads], [old, ads]):
        for client in clients:
            client.claim("v", id="x")
        assert ads.forget("v") is True
        assert len(store) == 0
    assert ads.forget("v") is False


@pytest.mark.parametrize("secret", [None, "a secret of its own"])
def test_a_token_works_in_another_process_with_the_same_pepper(secret: str | None, clock: Clock) -> None:
    """Confirmed and released there, before and after the pepper was rotated."""
    store = MemoryStore()
    old = Retargeter(POLICY, store, clock=clock, pepper=PEPPER, secret=secret)
    claims = [old.claim("v", hold="10 minutes") for _ in range(3)]
    tokens = [claim.token for claim in claims if claim]
    same = Retargeter(POLICY, store, clock=clock, pepper={1: PEPPER}, secret=secret)
    assert same.confirm(tokens[0]) == "confirmed"
    newer = Retargeter(POLICY, store, clock=clock, pepper={1: PEPPER, 2: OTHER}, secret=secret)
    assert newer.release(tokens[1]) is True
    assert newer.rotate("v")
    assert newer.confirm(tokens[2]) == "confirmed"  # what was reserved stays where it was, until it is confirmed
    assert newer.confirm(tokens[2]) == "repeated"
    assert newer.rotate("v")
    clock.now += 601
    assert [bool(newer.claim("v")) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("call", ["confirm", "release"])
@pytest.mark.parametrize("rotated", [False, True])
def test_a_token_of_before_the_pepper_is_settled_where_it_was_reserved(
    store: Store, clock: Clock, call: str, *, rotated: bool
) -> None:
    """Confirmed in time, once, and counted once when all is moved; or released."""
    clear = Retargeter(POLICY, store, clock=clock, secret=SECRET)
    claim = clear.claim("v", hold="10 minutes")
    assert claim is not None
    ads = Retargeter(POLICY, store, clock=clock, secret=SECRET, pepper={0: None, 1: PEPPER})
    if rotated:
        assert ads.rotate("v")
    settle = getattr(ads, call)
    expected = ("confirmed", "repeated") if call == "confirm" else (True, False)
    assert (settle(claim.token), settle(claim)) == expected
    ads.rotate("v")
    clock.now += 601
    ads.rotate("v")
    assert [bool(ads.claim("v")) for _ in range(4)] == [True, True, call == "release", False]


def test_a_token_of_before_the_pepper_counts_late_at_the_current_key(store: Store, clock: Clock) -> None:
    """The hold has lapsed: it counts where the visitor's history is now, once."""
    claim = Retargeter(POLICY, store, clock=clock, secret=SECRET).claim("v", hold="10 minutes")
    assert claim is not None
    ads = Retargeter(POLICY, store, clock=clock, secret=SECRET, pepper={0: None, 1: PEPPER})
    clock.now += 601
    assert [ads.confirm(claim), ads.confirm(claim.token), ads.release(claim)] == ["late", "repeated", False]
    assert [bool(ads.claim("v")) for _ in range(3)] == [True, True, False]


def test_a_token_in_clear_puts_no_clear_id_into_the_store_unless_told_that_ids_were_clear(clock: Clock) -> None:
    """With a pepper and no version 0 it is taken for the visitor's current key: late, and counted there."""
    store = MemoryStore()
    claim = Retargeter(POLICY, store, clock=clock, secret=SECRET).claim("v", hold="10 minutes")
    assert claim is not None
    ads = Retargeter(POLICY, store, clock=clock, secret=SECRET, pepper=PEPPER)
    assert [ads.release(claim), ads.confirm(claim), ads.confirm(claim)] == [False, "late", "repeated"]
    assert [bool(ads.claim("v")) for _ in range(3)] == [True, True, False]


def test_another_pepper_is_another_visitor(clock: Clock) -> None:
    """Two peppers share nothing, whatever the version; nor do a pepper and no pepper."""
    store = MemoryStore()
    clients = [Retargeter(POLICY, store, clock=clock, pepper=pepper) for pepper in (None, PEPPER, OTHER, {2: PEPPER})]
    for number, client in enumerate(clients):
        assert len(client.decide("v").eligible) == 1
        while client.claim("v"):
            pass
        assert len(store) == number + 1
