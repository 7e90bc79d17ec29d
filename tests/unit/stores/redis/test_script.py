"""script.py: the bytes that go to the server, pinned, since servers keep scripts from one release to the next."""

from __future__ import annotations

from hashlib import sha1

import pytest

from retarget.stores.redis import script
from retarget.timelines import Alternative, Change, Enter, Guard, Remove, Reserve, Unreserve, Write


def test_a_program_is_pinned_byte_for_byte() -> None:
    """Guards and changes as write.lua reads them: numbers big-endian, names after their lengths."""
    guards = (
        Guard(b"ia", 3, 0x01020304, wanted=False, more=False, anchored=False),
        Guard(b"evisit", 1, 5, wanted=True, more=True, anchored=True),
    )
    alternative = Alternative(guards, (Enter(b"ia", 0x0A0B0C0D, 2, 16, 0x8001),), 86_401, b"xyz")
    expected = (
        "0002 0001 00015181 78797a 00000028"  # two guards, one change, ttl, outcome, 40 bytes follow
        "00 0003 01020304 0002 6961"  # not wanted
        "07 0001 00000005 0006 657669736974"  # wanted, or the next, anchored to the session
        "0a0b0c0d 0002 0010 8001 0002 6961"
    )
    assert script.pack(alternative).data == bytes.fromhex(expected)
    write = Write(b"rt:1:v", 7, b"12345", (alternative, alternative))
    program = bytes.fromhex(expected) * 2
    assert script.arguments(write) == (b"rt:1:v", b"7", b"12345", program, b"", b"ia", b"evisit")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Enter(b"ia", 0x0A0B0C0D, 2, 16, 0x8001), "0a0b0c0d 0002 0010 8001 0002 6961"),
        (Remove(b"ia", 0x0A0B0C0D, 3), "0a0b0c0d 0003 0000 0000 0002 6961"),
        (Reserve(0x0A0B0C0D, 0x8000), "0a0b0c0d 0001 0001 8000 0000"),
        (Unreserve(b"hia", 2), "00000000 0002 0000 0000 0003 686961"),
    ],
)
def test_each_kind_of_change_is_pinned(change: Change, expected: str) -> None:
    """With `keep` 0 the script removes, with `at` 0 what the hold's own entry is; no name is the hold's timeline."""
    header = f"0000 0001 00000001 000000 {len(bytes.fromhex(expected)):08x}"
    assert script.pack(Alternative((), (change,), 1)).data == bytes.fromhex(header + expected)


def test_the_hold_precedes_the_names_of_the_first_alternative() -> None:
    """Names are read in advance, each once; the hold's timeline is one of them only where a change names it."""
    alternative = Alternative((), (Unreserve(b"hia", 2), Unreserve(b"H12345", 1)), 1)
    expected = (
        "0000 0002 00000001 000000 00000021"  # no guards, two changes, ttl, outcome, 33 bytes
        "00000000 0002 0000 0000 0003 686961"
        "00000000 0001 0000 0000 0006 483132333435"
    )
    write = Write(b"rt:1:v", 7, b"", (alternative,), b"H12345")
    assert script.arguments(write) == (b"rt:1:v", b"7", b"", bytes.fromhex(expected), b"H12345", b"hia", b"H12345")


def test_a_write_without_alternatives_names_nothing() -> None:
    """The script then answers that it is denied."""
    assert script.arguments(Write(b"rt:1:v", 7, b"", ())) == (b"rt:1:v", b"7", b"", b"", b"")


def test_an_alternative_is_packed_once() -> None:
    """What is sent for many visitors within a second is cached; the long alternatives of a merge are not."""
    alternative = Alternative((), (), 1)
    assert script.pack(alternative) is script.pack(alternative)
    long = Alternative((), tuple(Enter(b"i%d" % n, 7, 1, 16, 1) for n in range(65)), 1)
    assert script.pack(long) is not script.pack(long)
    assert script.pack(long) == script.pack(long)
    assert len(script.pack(long).names) == 64


@pytest.mark.parametrize("weight", [1, 1_000])
def test_the_largest_numbers_of_a_policy_fit(weight: int) -> None:
    """A limit of 10,000, a thousand points, 256 bytes of subject and a TTL of twenty years can be packed."""
    guard = Guard(b"i" * 321, 10_000, 0xFFFF_FFFF, wanted=True, more=False, anchored=False)
    change = Enter(b"i" * 321, 0xFFFF_FFFF, weight, 10_000, 0xFFFF)
    assert len(script.pack(Alternative((guard,), (change,), 21 * 366 * 86_400)).data) == 15 + 9 + 321 + 12 + 321


def test_the_script_is_named_by_its_sha() -> None:
    """The SHA-1 that EVALSHA names is that of the script that EVAL sends: write.lua after a line of constants."""
    assert sha1(script.SCRIPT.encode(), usedforsecurity=False).hexdigest() == script.SHA
    first, second, *_ = script.SCRIPT.splitlines()
    assert first == "local HEAD, ENTRY, SKEW, DAY, MOST_TIMELINES, IDS_KEPT, RECORD = 2, 4, 300, 86400, 512, 16, 8"
    assert second.startswith("-- write.lua")
