"""What commands print: tables and progress, and plain text where nobody looks.

Rules:
- Results go to standard output; progress goes to standard error, and only to a terminal.
- What is not a terminal gets the widths it needs, whatever the window's, and no blanks at the ends of lines.
- Ids, rules and names are printed as they are: nothing in them is markup, an emoji or a command to the terminal.
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
    """Where a command's results go."""

    def __init__(self) -> None:
        looked_at = Console(**_LITERAL)
        self.console = looked_at if looked_at.is_terminal else Console(width=_WIDE, color_system=None, **_LITERAL)

    def say(self, *what: RenderableType) -> None:
        """Print texts and tables. What is to have a colour is a `Text`."""
        for one in what:
            if self.console.is_terminal:
                self.console.print(one)
                continue
            with self.console.capture() as printed:
                self.console.print(one)
            self.console.file.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Tell what is being done, and how much of how much (0 of 0 where nobody knows); gone when it is done."""
    console = Console(stderr=True, **_LITERAL)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def told(what: str, done: int, count: int) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bars.remove_task(task)
                tasks.clear()
                tasks[what] = bars.add_task(what, total=count or None)
            bars.update(tasks[what], completed=done, total=count or None)

        yield told


def table(title: str, *columns: str) -> Table:
    """An empty table, the first column of words and the others of figures. A column named `|x` is of words, too."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        words = number == 0 or column.startswith("|")
        made.add_column(column.removeprefix("|"), justify="left" if words else "right", overflow="fold")
    return made


def printable(text: str) -> str:
    """A text that anybody may have made, with its control characters spelt out."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def write_json(data: dict[str, Any], path: Path | None = None) -> None:
    """Write data as JSON; `-`, or no path, is standard output. An OSError passes through."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    if path is None or str(path) == "-":
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")
