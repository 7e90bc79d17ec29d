"""slots.py: which server owns which visitor, from the cluster's own map, from redirections, and before either."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from retarget.stores.redis.slots import BY_MAP, Address, Route, Slots

A, B, C = ("a", 7000), ("b", 7001), ("c", 7002)
MAP = [
    [0, 5460, [b"a", 7000, b"id-a"], [b"r", 7003, b"id-r"]],
    [5461, 10922, [b"b", 7001, b"id-b"]],
    [10923, 16383, [b"c", 7002, b"id-c"]],
]


def updated(ranges: Any = MAP, *, start: list[Address] | None = None, asked: Address = A) -> Slots:
    """A map after this reply to CLUSTER SLOTS."""
    slots = Slots(start or [A])
    slots.update(ranges, asked)
    return slots


def key_of(slot: int) -> bytes:
    """A key of that slot."""
    return next(key for n in range(10**6) if key_slot(key := b"rt:2~v%d" % n) == slot)


@given(st.binary(max_size=40))
def test_a_key_belongs_to_the_primary_of_its_slot(key: bytes) -> None:
    """Of the range, never a replica. A tag in braces determines the slot, as in the cluster."""
    slot = key_slot(key)
    assert updated().primary(key) == (A if slot <= 5460 else B if slot <= 10922 else C)
    assert updated().primary(b"x{tag}" + key.replace(b"}", b"")) == updated().primary(b"{tag}")


@pytest.mark.parametrize(("slot", "address"), [(0, A), (5460, A), (5461, B), (10922, B), (10923, C), (16383, C)])
def test_both_ends_of_a_range_belong_to_it(slot: int, address: Address) -> None:
    """The first and the last slot."""
    assert updated().primary(key_of(slot)) == address


def test_without_a_map_any_server_is_asked() -> None:
    """The first startup node: it will redirect. The same for a slot that no server owns."""
    assert Slots([B, A]).primary(b"k") == B
    gap = updated([[0, 1, [b"c", 7002]]], start=[B])
    assert gap.primary(key_of(0)) == C
    assert gap.primary(key_of(9)) == C  # a member of the cluster, which the startup node need not be


@pytest.mark.parametrize("host", [b"", "", None])
def test_a_server_without_a_host_is_the_one_that_was_asked(host: object) -> None:
    """An empty host or a null, as some servers reply."""
    assert updated([[0, 16383, [host, 7005]]], asked=("proxy", 9)).primary(b"k") == ("proxy", 7005)


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
    """Bytes or text (RESP2 or RESP3), IPv4, IPv6 or a name."""
    assert updated([[0, 16383, [host, 7005, b"id", [b"hostname", b"x"]]]]).primary(b"k") == (name, 7005)


def test_every_known_server_may_be_asked_for_the_map() -> None:
    """The primaries, each once, then the startup nodes: every other member may have been replaced."""
    slots = updated([*MAP[:2], [10923, 16383, [b"a", 7000]]], start=[A, ("seed", 1)])
    assert slots.nodes == [A, B, ("seed", 1)]
    slots.update([[0, 16383, [b"c", 7002]]], asked=B)
    assert slots.nodes == [C, A, ("seed", 1)]


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
def test_a_reply_that_is_not_a_map_is_refused_and_changes_nothing(ranges: Any) -> None:
    """A cluster without slots yet, and whatever else a server may reply: the old map stays."""
    slots = updated()
    with pytest.raises((TypeError, ValueError)):
        slots.update(ranges, asked=B)
    assert slots.nodes == [A, B, C]
    assert [slots.primary(key_of(slot)) for slot in (0, 5461, 16383)] == [A, B, C]


def test_it_is_due_when_doubtful_and_at_most_ten_times_a_second() -> None:
    """At first, and after a doubt; not again within 100 ms, nor without a doubt."""
    slots = Slots([A])
    assert [slots.due(at) for at in (10, 10, 10.05, 10.1)] == [True, False, False, True]
    slots.update(MAP, A)
    assert [slots.due(at) for at in (20, 21)] == [False, False]
    slots.note(b"", Route(doubtful=True))
    assert [slots.due(at) for at in (22, 22.05, 22.1)] == [True, False, True]
    slots.update(MAP, A)
    slots.note(b"", Route(doubtful=True))
    assert [slots.due(at) for at in (22.15, 22.25)] == [False, True]


def test_a_slot_that_moved_is_noted_at_once() -> None:
    """That slot alone, until the next refresh."""
    slots = updated()
    key = key_of(0)
    slots.note(key, Route(("d", 7009)))
    assert slots.primary(key) == ("d", 7009)
    assert slots.primary(key_of(1)) == A
    slots.update(MAP, A)
    assert slots.primary(key) == A


@pytest.mark.parametrize("route", [BY_MAP, Route(("d", 7009), asking=True)])
def test_other_routes_leave_the_map_alone(route: Route) -> None:
    """No redirection, or one for a single command while its slot is being moved."""
    slots = updated()
    slots.note(key_of(0), route)
    assert slots.primary(key_of(0)) == A
    assert not slots.due(99)
