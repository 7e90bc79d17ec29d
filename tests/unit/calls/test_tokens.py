"""tokens.py: opaque, URL-safe, and refused if anything in it was altered."""

from __future__ import annotations

import base64
import json
import random
import re
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget import (
    Candidate,
    ConfigError,
    TokenError,
)
from retarget.calls.tokens import Token, seal, unseal
from tests.support.fixtures import Ads
from tests.support.holds import (
    CAP,
    SECRET,
    Counting,
    hold,
    local,
    shown,
)

# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [None, SECRET])
@pytest.mark.parametrize("visitor", ["v", "\N{SNOWMAN} {x}\n\0/+=", "x" * 510])
def test_a_token_is_url_safe_and_says_whom_it_is_for(ads: Ads, secret: str | None, visitor: str) -> None:
    """Only letters, digits, `-`, `_` and `.`, for any visitor and candidate."""
    candidate = Candidate("caf\N{LATIN SMALL LETTER E WITH ACUTE} & co", item="\N{SNOWMAN}?", slot="a/b=c")
    shop = ads('[defaults]\ncaps = ["1 per day"]', secret=secret)
    claim = hold(shop, candidate, visitor=visitor)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", claim.token)
    assert shop.confirm(claim.token) == "confirmed"
    assert len(shown(shop, candidate.campaign, visitor)) == 1


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


@pytest.mark.parametrize("secret", [None, SECRET])
def test_no_character_of_a_token_can_be_altered(secret: str | None) -> None:
    """Every single character flipped, dropped or doubled, and every truncation: TokenError, and nothing is changed."""
    store = Counting()
    shop = local(store=store, secret=secret)
    token = hold(shop).token
    before, calls = dict(store.read(b"rt:2~v")), store.calls
    chance = random.Random(1)
    for place, letter in enumerate(token):
        head, tail = token[:place], token[place + 1 :]
        other = chance.choice(ALPHABET.replace(letter, ""))
        near = chr(ord(letter) ^ 1)
        for altered in (head + other + tail, head + near + tail, head + tail, head + letter + letter + tail, head):
            if altered != token:
                for call in (shop.confirm, shop.release):
                    with pytest.raises(TokenError):
                        call(altered)
    for suffix in ("=", "\n", ".", " "):
        with pytest.raises(TokenError):
            shop.confirm(token + suffix)
    assert store.calls == calls
    assert dict(store.read(b"rt:2~v")) == before
    assert shop.confirm(token) == "confirmed"


@pytest.mark.parametrize(
    ("made_with", "given_to"), [(SECRET, SECRET + "!"), (None, SECRET), (SECRET, None)], ids=["other", "none", "some"]
)
def test_a_token_of_another_secret_is_refused(ads: Ads, made_with: str | None, given_to: str | None) -> None:
    """Another secret; unsigned where a secret is set; signed where there is none: nothing is changed."""
    here, there = ads(CAP, prefix="rt:s:", secret=made_with), ads(CAP, prefix="rt:s:", secret=given_to)
    claim = hold(here)
    before = here.export("v")
    for given_claim in (claim, claim.token):
        with pytest.raises(TokenError, match="secret"):
            there.confirm(given_claim)
        with pytest.raises(TokenError, match="secret"):
            there.release(given_claim)
    assert here.export("v") == before


def test_a_forged_token_is_refused() -> None:
    """Knowing the format but not the secret is not enough to make one; nor can one signature serve two claims."""
    shop = local(secret=SECRET)
    one, two = hold(shop), hold(local(secret=SECRET), visitor="w")
    unsigned = seal(Token("v", Candidate("a"), b"12345"), None)
    _, payload, mine = one.token.split(".")
    _, other, _ = two.token.split(".")
    forgeries = [
        unsigned,
        unsigned.replace(".u", ".s"),
        f"1.{other}.{mine}",
        f"1.{payload}.s",
        f"1.{payload}.",
        f"1.{payload}",
    ]
    forgeries += [f"2.{payload}.{mine}", f".{payload}.{mine}", f"{payload}.{mine}", mine, ""]
    for text in forgeries:
        with pytest.raises(TokenError):
            shop.confirm(text)
    assert shop.confirm(one) == "confirmed"


@pytest.mark.parametrize("thing", [None, 5, b"1.x.y", ["1.x.y"], object(), "", "1..", "1.\ud800.x", "1.x.\ud800"])
def test_anything_but_a_token_is_refused(thing: Any) -> None:
    """Of any type, and any string, including one that is not valid Unicode."""
    store = Counting()
    for secret in (None, SECRET):
        shop = local(store=store, secret=secret)
        for call in (shop.confirm, shop.release):
            with pytest.raises(TokenError):
                call(thing)
    assert store.calls == 0


HOLD = "0102030405"


def forged(content: object) -> str:
    """A token without a secret whose checksum is right, whatever it says: anybody can make one."""
    raw = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
    payload = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    check = base64.urlsafe_b64encode(blake2b(f"1.{payload}".encode(), digest_size=6).digest()).decode()
    return f"1.{payload}.u{check}"


def test_a_seal_without_a_secret_is_a_checksum() -> None:
    """The tests below forge tokens the way the library makes them; the data format says how."""
    assert forged(["v", "a", {"item": "x"}, HOLD]) == seal(
        Token("v", Candidate("a", item="x"), bytes.fromhex(HOLD)), None
    )


@pytest.mark.parametrize(
    "content",
    [
        ["v", "a", {}],
        ["v", "a", {}, HOLD, 1],
        ["v", "a", [], HOLD],
        ["v", "a", {}, 5],
        ["v", "a", {}, "xx"],
        ["v", "a", {}, "01"],
        ["v", "a", {}, "01" * 300],
        ["v", "a", {"campaign": "b"}, HOLD],
        ["v", "a", {"x": 5}, HOLD],
        ["v", "a", {"x": [1]}, HOLD],
        [5, "a", {}, HOLD],
        [None, "a", {}, HOLD],
        ["", "a", {}, HOLD],
        ["v" * 511, "a", {}, HOLD],
        ["\ud800", "a", {}, HOLD],
        ["v", "\ud800", {}, HOLD],
        ["v", None, {}, HOLD],
        ["v", ["a"], {}, HOLD],
        ["v", "", {}, HOLD],
        ["v", "a" * 300, {}, HOLD],
        {},
        5,
        b"",
        b"\xff",
        b"[" * 100_000,
    ],
    ids=lambda content: str(content)[:40],
)
def test_a_sealed_token_with_invalid_contents_is_refused(content: object) -> None:
    """Without a secret anyone can seal: always a TokenError, and nothing is read or written."""
    store = Counting()
    shop = local(store=store)
    for call in (shop.confirm, shop.release):
        with pytest.raises(TokenError):
            call(forged(content))
    assert store.calls == 0


_TEXTS = st.one_of(
    st.text(),
    st.text(st.characters()),
    st.text(st.characters(categories=["Cs", "Ll"]), max_size=9).map(lambda text: f"1.{text}.{text}"),
    st.text(ALPHABET).map(lambda text: f"1.{text}"),
    st.tuples(st.text(ALPHABET), st.text(ALPHABET)).map(lambda parts: f"1.{parts[0]}.{parts[1]}"),
)


@given(_TEXTS)
@settings(max_examples=300, deadline=None)
def test_random_text_is_refused(text: str) -> None:
    """Anything that may come in a URL: always a TokenError, with a secret and without."""
    for secret in (None, SECRET.encode()):
        with pytest.raises(TokenError):
            unseal(text, secret)


_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=60)


@given(
    st.text(min_size=1, max_size=120),
    _NAMES,
    st.dictionaries(_NAMES.filter(lambda kind: kind not in ("self", "campaign")), _NAMES),
    st.binary(min_size=5, max_size=5),
    st.sampled_from([None, SECRET.encode()]),
)
@settings(max_examples=200, deadline=None)
def test_what_is_sealed_is_what_is_unsealed(
    visitor: str, campaign: str, labels: dict[str, str], mark: bytes, secret: bytes | None
) -> None:
    """Visitor, candidate and hold come back as they were."""
    token = Token(visitor, Candidate(campaign, **labels), mark)
    assert unseal(seal(token, secret), secret) == token


def test_a_token_is_the_same_in_every_release() -> None:
    """Pinned: a reservation made before an upgrade is confirmed after it."""
    token = Token("visitor-1", Candidate("a", item="x"), b"12345")
    unsigned, signed = seal(token, None), seal(token, SECRET.encode())
    payload = "WyJ2aXNpdG9yLTEiLCJhIix7Iml0ZW0iOiJ4In0sIjMxMzIzMzM0MzUiXQ"
    assert unsigned == f"1.{payload}.u2RGEIuNZ"
    assert signed == f"1.{payload}.sO38VT00tLNBvRn7sNa7GdA"


@pytest.mark.parametrize("secret", ["", "short", "fifteen bytes..", b"short", "\N{SNOWMAN}" * 5])
def test_a_secret_too_short_is_refused_and_not_shown(secret: str | bytes) -> None:
    """Sixteen bytes at least; the message gives the length, not the secret."""
    with pytest.raises(ConfigError, match="at least 16") as caught:
        local(secret=secret)
    assert not secret or str(secret) not in str(caught.value)


@pytest.mark.parametrize("secret", [12345678901234567890, ["sixteen"] * 16, "\ud800" * 16])
def test_a_secret_of_a_wrong_type_is_refused(secret: object) -> None:
    """A number, a list, a string that is not valid Unicode: ConfigError, without the secret in it."""
    with pytest.raises(ConfigError):
        local(secret=secret)


@pytest.mark.parametrize("secret", ["sixteen bytes..!", b"\0" * 16, "\N{SNOWMAN}" * 6])
def test_a_secret_of_sixteen_bytes_will_do(secret: str | bytes) -> None:
    """As str or bytes; counted in bytes."""
    shop = local(secret=secret)
    assert shop.confirm(hold(shop)) == "confirmed"


def test_a_claim_shows_neither_its_token_nor_the_visitor() -> None:
    """Claims end up in logs; a reader of those must not be able to confirm."""
    claim = hold(local(), visitor="a-secret-id")
    for text in (repr(claim), str(claim)):
        assert claim.token not in text
        assert "a-secret-id" not in text


def test_a_refusal_shows_neither_the_token_nor_the_visitor() -> None:
    """Errors end up in logs too."""
    claim = hold(local(secret=SECRET), visitor="a-secret-id")
    with pytest.raises(TokenError) as caught:
        local().confirm(claim)
    assert claim.token not in str(caught.value)
    assert "a-secret-id" not in str(caught.value)


def test_the_name_of_a_label_in_a_token_is_checked() -> None:
    """Without a secret anybody can write a token: a name that is not valid Unicode is a TokenError, as a value is."""
    for labels in ({"\ud800": "x"}, {"item": "\ud800"}, {"": "x"}):
        with pytest.raises(TokenError):
            local().confirm(forged(["v", "a", labels, HOLD]))
