"""Which known word an unknown one is probably a misspelling of.

Rules:
- Two words are near if they are the same but for case, or become the same by leaving out at most one letter of each,
  and most of them is the same: one letter missing, added, changed or moved.
- A word that differs from a near one only in digits is intended: "promo2" beside "promo1".
- All words are looked up together: the time grows with the number of words, unknown and known, not with their product.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

_ALIKE = 0.85
"""How much of two words must be the same, from 0 to 1."""
_LONGEST = 64
"""Letters of a longer word are not left out: it is compared without case only."""
_DIGITS = str.maketrans("", "", "0123456789")


def misspelled(words: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """For each of the words that is probably a misspelling, the known word that was meant."""
    by_part: dict[str, list[str]] = {}
    for word in dict.fromkeys(words):
        for part in _parts(word):
            by_part.setdefault(part, []).append(word)
    best: dict[str, tuple[float, str]] = {}
    intended: set[str] = set()
    for other in dict.fromkeys(known) if by_part else ():
        near = dict.fromkeys(word for part in _parts(other) for word in by_part.get(part, ()))
        for word in near:
            alike = _alikeness(word, other)
            if alike is None:
                intended.add(word)
            elif alike >= _ALIKE and alike > best.get(word, (0.0, ""))[0]:
                best[word] = alike, other
    return {word: other for word, (alike, other) in best.items() if alike > 1 or word not in intended}


def _alikeness(word: str, other: str) -> float | None:
    """How much of two near words is the same; 2 if all but case is, 0 for the same word, None if only digits differ."""
    if word == other:
        return 0
    if word.casefold() == other.casefold():
        return 2
    if word.translate(_DIGITS) == other.translate(_DIGITS):
        return None
    return SequenceMatcher(None, other, word).ratio()


def _parts(word: str) -> Iterator[str]:
    """The word without case, and that without each of its letters."""
    word = word.casefold()
    yield word
    if len(word) <= _LONGEST:
        yield from dict.fromkeys(word[:index] + word[index + 1 :] for index in range(len(word)))
