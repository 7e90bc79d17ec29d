"""script.py: the bytes that go to the server, pinned, since servers keep scripts from one release to the next."""

from __future__ import annotations

import re
from hashlib import sha1

import pytest

from retarget.stores.redis import script
from retarget.timelines import (
    Alternative,
    Anchor,
    Change,
    Clear,
    Cover,
    Enter,
    Guard,
    Remove,
    Reserve,
    Reserved,
    Settle,
    Write,
)


def test_a_program_is_pinned_byte_for_byte() -> None:
    """Guards and changes as write.lua reads them: numbers big-endian, names after their lengths."""
    guards = (
        Guard(b"ia", 3, 0x01020304, wanted=False),
        Guard(b"evisit", 1, 5, wanted=True, more=True, anchor=Anchor(b"@", 2, 9)),
    )
    alternative = Alternative(guards, (Enter(b"ia", 0x0A0B0C0D, 2, 16, 0x8001),), 86_401, b"vwxyz")
    expected = (
        "00000002 00000001 00015181 767778797a 00000032"  # two guards, one change, ttl, outcome, 50 bytes follow
        "00 0003 01020304 0002 6961"  # not wanted
        "07 0001 00000005 0006 657669736974"  # wanted, or the next, anchored
        "0002 00000009 0001 40"  # to the second newest entry of `@`, and nine seconds
        "01 0a0b0c0d 0002 0010 8001 0002 6961"
    )
    assert script.pack(alternative).data == bytes.fromhex(expected)
    write = Write(b"rt:2~v", 7, b"12345", (alternative, alternative))
    program = bytes.fromhex(expected) * 2
    assert script.arguments(write) == (b"rt:2~v", b"7", b"12345", program, b"", b"ia", b"evisit", b"@")


RECORD = "0002 0010 8001 0002 6961 0001 0000 0000 0001 40"


@pytest.mark.parametrize(
    ("change", "parts", "expected"),
    [
        (Enter(b"ia", 0x0A0B0C0D, 2, 16, 0x8001), 1, "01 0a0b0c0d 0002 0010 8001 0002 6961"),
        (Cover(b"@", 0x01020304, 0x0A0B0C0D, 60, 48, 0x8001), 1,
         "02 0a0b0c0d 0001 0030 8001 0001 40 01020304 0000003c"),
        (Remove(b"ia", 0x0A0B0C0D, 3), 1, "03 0a0b0c0d 0003 0000 0000 0002 6961"),
        (Reserve(0x0A0B0C0D, (Reserved(b"ia", 2, 16, 0x8001), Reserved(b"@", 1, 0, 0))), 5,
         f"04 0a0b0c0d 0000 0000 0000 0000 00000013 {RECORD}"
         "01 0a0b0c0d 0002 ffff 8000 0003 686961"
         "01 0a0b0c0d 0001 ffff 8000 0002 6840"
         "01 0a0b0c0d 0001 0001 8000 0001 68"
         "01 0a0b0c0d 0001 0001 8000 0000"),
        (Settle(None), 1, "05 00000000 0000 0000 0000 0000"),
        (Settle(0x0A0B0C0D), 1, "05 0a0b0c0d 0001 0000 0000 0000"),
        (Settle(0), 1, "05 00000000 0001 0000 0000 0000"),
        (Clear(), 1, "06 00000000 0000 0000 0000 0000"),
    ],
)  # fmt: skip
def test_each_kind_of_change_is_pinned(change: Change, parts: int, expected: str) -> None:
    """A reservation is its record and entries; no name is the timeline of the hold that the write names."""
    header = f"00000000 {parts:08x} 00000001 0000000000 {len(bytes.fromhex(expected)):08x}"
    assert script.pack(Alternative((), (change,), 1)).data == bytes.fromhex(header + expected)


def test_a_holds_timeline_says_its_end_once_for_each_piece_of_its_record() -> None:
    """So that the pieces can be read at once: twelve names of 300 bytes are 58 pieces."""
    places = tuple(Reserved(b"i%0299d" % number, 1, 16, 1) for number in range(12))
    data = script.pack(Alternative((), (Reserve(9, places),), 1)).data
    assert data.endswith(bytes.fromhex("01 00000009 003a 003a 8000 0000"))


def test_the_hold_precedes_the_names_of_the_first_alternative() -> None:
    """Names are read in advance, each once; the hold's timeline is one of them only where a change is about it."""
    settling = Alternative((Guard(b"H12345", 1, 8, wanted=True),), (Settle(9),), 1)
    counting = Alternative((), (Enter(b"ia", 9, 1, 16, 1),), 1)
    assert script.arguments(Write(b"v", 7, b"", (settling, counting), b"12345"))[4:] == (b"12345", b"H12345")
    assert script.arguments(Write(b"v", 7, b"", (counting, settling), b"12345"))[4:] == (b"12345", b"ia")
    reserving = Alternative((), (Reserve(9, (Reserved(b"ia", 1, 16, 1),)),), 1)
    assert script.arguments(Write(b"v", 7, b"", (reserving,), b"12345"))[4:] == (b"12345", b"H12345", b"hia", b"h")


def test_one_reservation_serves_all_visitors() -> None:
    """Its program does not say whose hold it is, so it is packed once."""
    reserving = Alternative((), (Reserve(9, (Reserved(b"ia", 1, 16, 1),)),), 1)
    one = script.arguments(Write(b"v", 7, b"", (reserving,), b"12345"))
    other = script.arguments(Write(b"w", 7, b"", (reserving,), b"67890"))
    assert one[3] == other[3]


def test_a_write_without_alternatives_names_nothing() -> None:
    """The script then answers that it is denied."""
    assert script.arguments(Write(b"rt:2~v", 7, b"", ())) == (b"rt:2~v", b"7", b"", b"", b"")


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
    guard = Guard(b"i" * 321, 10_000, 0xFFFF_FFFF, wanted=True)
    change = Enter(b"i" * 321, 0xFFFF_FFFF, weight, 10_000, 0xFFFF)
    assert len(script.pack(Alternative((guard,), (change,), 21 * 366 * 86_400)).data) == 21 + 9 + 321 + 13 + 321


def test_66_000_guards_fit() -> None:
    """They are counted in four bytes."""
    guards = (Guard(b"ia", 1, 0, wanted=True),) * 66_000
    assert script.pack(Alternative(guards, (), 1)).data[:4] == (66_000).to_bytes(4)


def test_a_long_record_fits() -> None:
    """More than two bytes can count."""
    places = tuple(Reserved(b"i%0319d" % number, 1, 16, 1) for number in range(250))
    data = script.pack(Alternative((), (Reserve(9, places),), 1)).data
    assert (250 * 328).to_bytes(4) + b"\0\1\0\x10\0\1\1\x40i000" in data


def test_the_script_is_named_by_its_sha() -> None:
    """The SHA-1 that EVALSHA names is that of the script that EVAL sends."""
    assert sha1(script.SCRIPT.encode(), usedforsecurity=False).hexdigest() == script.SHA


def test_constants_are_filled_in_as_numbers() -> None:
    """No word in capitals is left in the code but what Redis passes and what says that something is corrupt."""
    code = "\n".join(line.split("--")[0] for line in script.SCRIPT.splitlines())
    code = re.sub(r"call\('[A-Z]+'", "call(", code)
    assert set(re.findall(r"\b[A-Z_]{2,}\b", code)) == {"KEYS", "ARGV", "CORRUPT"}
    assert "#raw < 2 + 4" in code
    assert ">= 2048" in code


def test_measurements_may_try_other_constants() -> None:
    """The rest of the script is the same."""
    other = script.source(MOST_TIMELINES=77)
    assert ">= 77" in other
    assert other.replace("77", "2048") == script.SCRIPT
