"""The words: plain English and the field's terms, in the code, the docs and the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import retarget

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(retarget.__file__).parent
KINDS = (".py", ".lua", ".toml", ".md")
TEXTS = [
    *sorted(ROOT.glob("*.md")),
    *(path for folder in (ROOT / "docs", PACKAGE) for path in sorted(folder.rglob("*")) if path.suffix in KINDS),
]

UNWANTED = {
    r"\b(?:she|her|hers)\b": "the visitor, they",
    r"\blets? go\b": "ends, expires, closes",
    r"\blets nobody in\b": "authentication failed",
    r"\b(?:is|are) told\b": "is reported, is given",
    r"\bbe it\b": "including",
    r"\bso many\b": "that many, or a named number",
    r"(?<!there )\bis no (?!longer|earlier|later)": "is not a valid ..., must be a ...",
    r"\bat its word\b": "judged at its own time",
    r"\bsaid inline\b": "inlined",
    r"\bmostly empty: asking\b": "usually empty, which skips ...",
    r"\bwho is known to be down\b": "a circuit breaker",
    r"\bwhat is said to Redis\b": "commands",
    r"\bno primary any more\b": "no longer the primary",
    r"\b[Ww]ho says, in a replay\b": "a judge",
    r"\bhow an operation speaks\b": "generator protocol",
    r"\bwith the defaults filled in\b": "with defaults applied",
    r"\bthe other holds wherever\b": "implies",
    r"\bwhere the answer is as wanted\b": "sufficient test",
}
"""What a native reader stumbles over, and what to say."""


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: "/".join(path.parts[-3:]))
def test_words_are_plain(path: Path) -> None:
    """No text uses the phrases of the list, also where a line break divides one."""
    text = re.sub(r"\s+(?:# |-- )?\s*", " ", path.read_text(encoding="utf-8"))
    found = {match[0]: say for phrase, say in UNWANTED.items() for match in re.finditer(phrase, text, re.IGNORECASE)}
    assert found == {}
