"""`retarget doctor`: is a server set up to keep the library's guarantees?"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from retarget.cli import options
from retarget.cli.terminal import Terminal, printable, write_json
from retarget.operate import GRADES, Diagnosis, Grade, Report, connect, examine

_STYLES: dict[Grade, str] = {"error": "bold red", "warning": "yellow", "note": "cyan", "ok": "green"}


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("doctor")
    def command(
        url: Annotated[
            str, typer.Argument(metavar="URL", help="The server: redis://, rediss:// or unix://.", show_default=False)
        ],
        prefix: options.Prefix = "rt:",
        timeout: Annotated[
            float,
            typer.Option(metavar="SECONDS", min=0.001, max=60, help="The timeout of the retargeters that will use it."),
        ] = 0.1,
        json: options.Json = None,
    ) -> None:
        """Examine a server for settings that would break caps.

        Names the cure for each. Changes nothing on the server.
        """
        with connect(url) as client:
            report = examine(client, prefix=prefix, timeout=timeout)
        if json is not None:
            write_json(report.to_dict(), json)
        if json is None or str(json) != "-":
            _show(Terminal(), report)
        raise typer.Exit(2 if report.count("error") else 1 if report.count("warning") else 0)


def _show(terminal: Terminal, report: Report) -> None:
    """Print the diagnoses, the worst first."""
    counted = [(report.count(grade), grade) for grade in GRADES if grade != "ok"]
    counts = ", ".join(f"{count} {grade}{'s' * (count > 1)}" for count, grade in counted if count)
    terminal.say(Text(f"{report.server} at {report.address}: {counts or 'all is well'}", "bold"), "")
    listed = Table.grid(padding=(0, 2, 0, 0))
    listed.add_column(no_wrap=True)
    listed.add_column(no_wrap=True)
    listed.add_column(overflow="fold")
    for grade in GRADES:
        for diagnosis in report.diagnoses:
            if diagnosis.grade == grade:
                listed.add_row(Text(grade, _STYLES[grade]), diagnosis.topic, _described(diagnosis))
    terminal.say(listed)


def _described(diagnosis: Diagnosis) -> Text:
    text = Text(printable(diagnosis.found))
    if diagnosis.grade != "ok":
        text += Text(f"\n{diagnosis.why}", "dim") + Text(f"\n{printable(diagnosis.cure)}\n", "bold")
    return text
