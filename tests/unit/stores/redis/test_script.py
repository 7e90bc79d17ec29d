"""script.py: the bytes that go to the server, pinned, for data and scripts outlive a release."""

from __future__ import annotations

from hashlib import sha1

import pytest

from retarget.stores.redis import script
from retarget.timelines import Alternative, Enter, Guard, Unreserve, Write


def test_a_program_is_pinned_byte_for_byte() -> None:
    """Guards and entries as write.lua reads them: numbers big-endian, names behind their lengths."""
    guards = (
        Guard(b"ia", 3, 0x01020304, wanted=False, more=False, anchored=False),
        Guard(b"evisit", 1, 5, wanted=True, more=True, anchored=True),
    )
    alternative = Alternative(guards, (Enter(b"ia", 0x0A0B0C0D, 2, 16, 0x8001),), 86_401, b"xyz")
    expected = (
        "0002 0001 00015181 78797a 00000028"  # two guards, one entry, ttl, outcome, 40 bytes follow
        "00 0003 01020304 0002 6961"  # not wanted
        "07 0001 00000005 0006 657669736974"  # wanted, or-else, anchored
        "0a0b0c0d 0002 0010 8001 0002 6961"
    )
    assert script.packed(alternative).data == bytes.fromhex(expected)
    write = Write(b"rt:1:v", 7, b"12345", (alternative, alternative))
    program = bytes.fromhex(expected) * 2
    assert script.arguments(write) == (b"rt:1:v", b"7", b"12345", program, b"", b"ia", b"evisit")


def test_a_hold_stands_before_the_names_of_the_first_alternative() -> None:
    """What is taken out is named by its mark; an entry that takes out keeps nothing."""
    alternative = Alternative((), (Unreserve(b"hia", 2), Unreserve(b"H12345", 1)), 1)
    expected = (
        "0000 0002 00000001 000000 00000021"  # no guards, two entries, ttl, outcome, 33 bytes
        "00000000 0002 0000 0000 0003 686961"
        "00000000 0001 0000 0000 0006 483132333435"
    )
    write = Write(b"rt:1:v", 7, b"", (alternative,), b"H12345")
    assert script.arguments(write) == (b"rt:1:v", b"7", b"", bytes.fromhex(expected), b"H12345", b"hia", b"H12345")


def test_an_alternative_is_packed_once() -> None:
    """What many visitors are sent within a second is made once."""
    alternative = Alternative((), (), 1)
    assert script.packed(alternative) is script.packed(alternative)


@pytest.mark.parametrize("weight", [1, 1_000])
def test_the_largest_numbers_a_policy_may_name_fit(weight: int) -> None:
    """A limit of 10,000, a thousand points, 256 bytes of subject and twenty years of time-to-live can be packed."""
    guard = Guard(b"i" * 321, 10_000, 0xFFFF_FFFF, wanted=True, more=False, anchored=False)
    entry = Enter(b"i" * 321, 0xFFFF_FFFF, weight, 10_000, 0xFFFF)
    assert len(script.packed(Alternative((guard,), (entry,), 21 * 366 * 86_400)).data) == 15 + 9 + 321 + 12 + 321


def test_the_script_is_named_by_its_sha() -> None:
    """The SHA-1 that EVALSHA names is that of the file that EVAL sends."""
    assert sha1(script.SCRIPT.encode(), usedforsecurity=False).hexdigest() == script.SHA
    assert "-- write.lua" in script.SCRIPT.splitlines()[1]
