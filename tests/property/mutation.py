"""Bytes changed at random, for the fuzzers, and what every error must be like."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

from retarget.errors import PolicyError, RetargetError

LONGEST = 2_000
"""Characters in one problem's message, at most."""

SECRET = "SeCrEt"  # noqa: S105 - as a text, not as a password
"""Part of every visitor's id, and so of no error."""

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
    """Changes bytes at random: the same seed makes the same changes."""

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


def check_error(error: RetargetError, names: str = "\0") -> None:
    """An error says what is wrong in a few lines without a visitor's id, except after the text `names`."""
    problems = error.problems if isinstance(error, PolicyError) else [str(error)]
    for problem in problems:
        assert 0 < len(problem) <= LONGEST, problem[:200]
        assert SECRET not in problem.partition(names)[0]
        problem.encode(errors="strict")


def fuzz(check: Callable[[bytes], str], mutator: Mutator, times: int) -> Counter[str]:
    """Check `times` inputs; a failure names its bytes."""
    became: Counter[str] = Counter()
    for _, data in zip(range(times), mutator, strict=False):
        try:
            became[check(data)] += 1
        except Exception as error:
            error.add_note(f"by these bytes: {data[:2_000]!r}")
            raise
    return became
