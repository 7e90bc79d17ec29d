"""Write a result's tables into the docs, so that every figure there comes from the command.

    python -m benchmarks.page RESULT.json [--into docs/explanation/performance.md] [--readme README.md]

The text between the markers is replaced; the prose around them stays. Charts in the folder beside the page are shown on
it. The README gets one sentence, on the first case.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import tables

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
README_BEGIN, README_END = "<!-- figure: begin -->", "<!-- figure: end -->"
CHARTS = "charts"
"""The folder beside the page that `benchmarks.charts` writes to."""

PAGE, README = Path("docs/explanation/performance.md"), Path("README.md")


def written(text: str, part: str, begin: str = BEGIN, end: str = END) -> str:
    """The text with the part between its markers replaced. Raises ValueError if it has no markers."""
    before, has_begin, rest = text.partition(begin)
    _, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        raise ValueError(f"no figures can be written: the page needs the lines {begin} and {end}")
    return f"{before}{begin}\n{part}\n{end}{after}"


def sentence(result: Mapping[str, Any]) -> str | None:
    """The README's sentence on the first case; None if it was not measured."""
    rows = [row for case in result["cases"] if case["name"] == "decide" for row in case["contestants"]]
    own = next((row for row in rows if row["role"] == "retarget" and row["status"] == "measured"), None)
    if own is None or own["ratio"] is None:
        return None
    first, third = own["ratio"]["quartiles"]
    text = (
        f"A decision over 50 campaigns with six rules each takes {own['ratio']['median']:.2f} times a GET of a missing "
        f"key, one round trip's floor ({first:.2f} to {third:.2f} from round to round): `python -m benchmarks`, see "
        "[performance](docs/explanation/performance.md)."
    )
    return textwrap.fill(text, 120, break_on_hyphens=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read a result, write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page", description="Write a result's tables into the docs."
    )
    parser.add_argument("result", type=Path)
    parser.add_argument("--into", type=Path, default=PAGE)
    parser.add_argument("--readme", type=Path, default=README)
    options = parser.parse_args(arguments)
    result = json.loads(options.result.read_text(encoding="utf-8"))
    _rewrite(options.into, f"\n{tables.page(result)}{_pictures(options.into.parent / CHARTS)}", BEGIN, END)
    text = sentence(result)
    if text is not None:
        _rewrite(options.readme, text, README_BEGIN, README_END)


def _pictures(folder: Path) -> str:
    """Markdown for the charts in the folder beside the page."""
    files = sorted(folder.glob("*.svg"))
    lines = [f"![{file.stem}]({folder.name}/{file.name})" for file in files]
    return "\n\n".join(["\n### Charts", *lines]) + "\n" if lines else ""


def _rewrite(file: Path, part: str, begin: str, end: str) -> None:
    file.write_text(written(file.read_text(encoding="utf-8"), part, begin, end), encoding="utf-8")


if __name__ == "__main__":
    main()
