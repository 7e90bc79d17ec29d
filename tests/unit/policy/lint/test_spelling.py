"""spelling.py: which words are near, which are intended, and how much work it takes to tell."""

from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retarget.policy.lint import spelling
from retarget.policy.lint.spelling import misspelled


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("notebok", ["notebook"], "notebook"),
        ("notebooks", ["notebook"], "notebook"),
        ("note", ["nate"], None),  # too little is the same in a word as short
        ("notebook-comebeck", ["notebook-comeback"], "notebook-comeback"),
        ("notebook-comebakc", ["notebook-comeback"], "notebook-comeback"),
        ("Notebook", ["notebook"], "notebook"),
        ("notebook", ["notebook"], None),
        ("a", ["b"], None),
        ("promo1", ["promo2"], None),
        ("promo12", ["promo1"], None),
        ("Promo1", ["promo2", "promo1"], "promo1"),
        ("telephone", ["notebook"], None),
        ("advertisor", ["advertiser", "advertisors"], "advertisors"),
        ("advertisor", ["advertiser"], "advertiser"),
        ("X" * 200, ["x" * 200], "x" * 200),
        ("x" * 199, ["x" * 200], None),
    ],
)
def test_misspelled(word: str, known: list[str], meant: str | None) -> None:
    """The known word that is nearest; none if only digits differ, or too much does."""
    assert misspelled([word], known) == ({} if meant is None else {word: meant})


@given(st.lists(st.text("abc1", max_size=9)), st.lists(st.text("abc1", max_size=9)))
def test_words_do_not_influence_each_other(words: list[str], known: list[str]) -> None:
    """Looked up together or one by one, the same is found: a known word that is not the word itself."""
    found = misspelled(words, known)
    assert found == {word: meant for one in words for word, meant in misspelled([one], known).items()}
    assert all(meant in known and meant != word for word, meant in found.items())


def test_the_work_grows_with_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as many words, unknown and known, are compared at most twice as often: not each with each."""
    compared: Counter[int] = Counter()
    size = 0

    def counted(*args: Any) -> SequenceMatcher[str]:
        compared[size] += 1
        return SequenceMatcher(*args)

    monkeypatch.setattr(spelling, "SequenceMatcher", counted)
    for size in (500, 1_000):
        found = misspelled((f"click-promo{n:x}" for n in range(size)), (f"summer-{n:x}-shoes" for n in range(size)))
        assert not found
        found = misspelled(
            (f"campaing-{n:x}-shoes" for n in range(size)), (f"campaign-{n:x}-shoes" for n in range(size))
        )
        assert len(found) == size
    assert compared[1_000] <= 2.5 * compared[500]
    assert compared[1_000] < 40_000
