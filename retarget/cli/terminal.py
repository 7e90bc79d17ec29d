"""What commands print: tables and progress, and plain text when the output is not a terminal.

Rules:
- Results go to standard output; progress goes to standard error, and only to a terminal.
- Other outputs (a pipe, a file) get a fixed width of 120, whatever the window's, and no trailing spaces.
- Ids, rules and names are printed literally: nothing in them is markup, an emoji or a terminal control sequence.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDE = 120
_LITERAL: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}


class Terminal:
    """Standard output, for a command's results."""

    def __init__(self) -> None:
        console = Console(**_LITERAL)
        self.console = console if console.is_terminal else Console(width=_WIDE, color_system=None, **_LITERAL)

    def say(self, *what: RenderableType) -> None:
        """Print texts and tables. Coloured text is a `Text`."""
        for one in what:
            if self.console.is_terminal:
                self.console.print(one)
                continue
            with self.console.capture() as printed:
                self.console.print(one)
            self.console.file.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show progress until the block ends: call what is yielded with a description, done and total (0: unknown)."""
    console = Console(stderr=True, **_LITERAL)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bars.remove_task(task)
                tasks.clear()
                tasks[what] = bars.add_task(what, total=total or None)
            bars.update(tasks[what], completed=done, total=total or None)

        yield report


def table(title: str, *columns: str) -> Table:
    """An empty table: the first column holds words, the others figures. A column named `|x` holds words too."""
    empty = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        words = number == 0 or column.startswith("|")
        empty.add_column(column.removeprefix("|"), justify="left" if words else "right", overflow="fold")
    return empty


def printable(text: str) -> str:
    """Text from an untrusted source, with its control characters escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def write_json(data: dict[str, Any], path: Path | None = None) -> None:
    """Write data as JSON; `-`, or no path, is standard output. Raises OSError."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    if path is None or str(path) == "-":
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")
