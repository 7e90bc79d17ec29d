"""slots.py: which server has which visitor, as the cluster says it, and what happens until it has said it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from retarget.stores.redis.slots import Address, Slots

A, B, C = ("a", 7000), ("b", 7001), ("c", 7002)
MAP = [
    [0, 5460, [b"a", 7000, b"id-a"], [b"r", 7003, b"id-r"]],
    [5461, 10922, [b"b", 7001, b"id-b"]],
    [10923, 16383, [b"c", 7002, b"id-c"]],
]


def learnt(ranges: Any = MAP, *, start: list[Address] | None = None, asked: Address = A) -> Slots:
    """A map that was told this."""
    slots = Slots(start or [A])
    slots.learn(ranges, asked)
    return slots


def key_of(slot: int) -> bytes:
    """A key of that slot."""
    return next(key for n in range(10**6) if key_slot(key := b"rt:1:v%d" % n) == slot)


@given(st.binary(max_size=40))
def test_a_key_is_asked_for_where_its_slot_is(key: bytes) -> None:
    """By the primary of the range; a replica is never asked. A tag in braces decides the slot, as in the cluster."""
    slot = key_slot(key)
    assert learnt().of(key) == (A if slot <= 5460 else B if slot <= 10922 else C)
    assert learnt().of(b"x{tag}" + key.replace(b"}", b"")) == learnt().of(b"{tag}")


@pytest.mark.parametrize(("slot", "address"), [(0, A), (5460, A), (5461, B), (10922, B), (10923, C), (16383, C)])
def test_both_ends_of_a_range_belong_to_it(slot: int, address: Address) -> None:
    """The first slot and the last."""
    assert learnt().of(key_of(slot)) == address


def test_until_it_is_known_any_is_asked() -> None:
    """The first address given: it will say where to go. So with a slot that nobody has."""
    assert Slots([B, A]).of(b"k") == B
    gap = learnt([[0, 1, [b"c", 7002]]], start=[B])
    assert gap.of(key_of(0)) == C
    assert gap.of(key_of(9)) == C  # known to be one of them, which the first address given need not be


@pytest.mark.parametrize("host", [b"", "", None])
def test_a_server_that_does_not_know_its_own_name_has_the_one_it_was_asked_by(host: object) -> None:
    """An empty host, or none, as some servers say it."""
    assert learnt([[0, 16383, [host, 7005]]], asked=("proxy", 9)).of(b"k") == ("proxy", 7005)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        (b"redis-0.example", "redis-0.example"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_names_and_addresses_are_taken_as_they_are(host: object, name: str) -> None:
    """Bytes or texts (RESP2 or RESP3), IPv4, IPv6 or a name."""
    assert learnt([[0, 16383, [host, 7005, b"id", [b"hostname", b"x"]]]]).of(b"k") == (name, 7005)


def test_all_servers_that_are_known_may_be_asked_for_the_map() -> None:
    """The primaries, each once, then those it was set up with: a cluster may have changed altogether."""
    slots = learnt([*MAP[:2], [10923, 16383, [b"a", 7000]]], start=[A, ("seed", 1)])
    assert slots.known == [A, B, ("seed", 1)]
    slots.learn([[0, 16383, [b"c", 7002]]], asked=B)
    assert slots.known == [C, A, ("seed", 1)]


GARBAGE: list[Any] = [
    [],
    None,
    7,
    b"OK",
    "OK",
    [1, 2, 3],
    [[]],
    [[0, 16383]],
    [[0, 16383, []]],
    [[0, 16383, [b"a"]]],
    [[0, 16383, [b"a", b"port"]]],
    [[0, 16383, [b"a", None]]],
    [[b"x", 16383, [b"a", 7000]]],
    [[0, None, [b"a", 7000]]],
    [[0, 16383, [b"\xff", 7000]]],
    [[5, 4, [b"a", 7000]]],
    [[16384, 16390, [b"a", 7000]]],
    [[-3, -1, [b"a", 7000]]],
    [[0, 99999, [b"a", 7000]]],
    {},
]


@pytest.mark.parametrize("ranges", GARBAGE)
def test_what_is_no_map_is_refused_and_changes_nothing(ranges: Any) -> None:
    """A cluster that has no slots yet, and whatever a server may say that is none: what was known stands."""
    slots = learnt()
    with pytest.raises((TypeError, ValueError)):
        slots.learn(ranges, asked=B)
    assert slots.known == [A, B, C]
    assert [slots.of(key_of(slot)) for slot in (0, 5461, 16383)] == [A, B, C]


def test_it_is_due_when_in_doubt_and_at_most_ten_times_a_second() -> None:
    """At first, and when something was not as the map says; not again within 100 ms, nor while there is no doubt."""
    slots = Slots([A])
    assert [slots.due(at) for at in (10, 10, 10.05, 10.1)] == [True, False, False, True]
    slots.learn(MAP, A)
    assert [slots.due(at) for at in (20, 21)] == [False, False]
    slots.doubt()
    assert [slots.due(at) for at in (22, 22.05, 22.1)] == [True, False, True]
    slots.learn(MAP, A)
    slots.doubt()
    assert [slots.due(at) for at in (22.15, 22.25)] == [False, True]


def test_a_slot_that_moved_is_known_at_once() -> None:
    """That slot alone, until the map is learnt anew."""
    slots = learnt()
    key = key_of(0)
    slots.moved(key, ("d", 7009))
    assert slots.of(key) == ("d", 7009)
    assert slots.of(key_of(1)) == A
    slots.learn(MAP, A)
    assert slots.of(key) == A
