"""`retarget doctor`: is a server set up for what is promised?"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from retarget.cli import options
from retarget.cli.terminal import Terminal, printable, write_json
from retarget.operate import SEVERITIES, Finding, Report, Severity, connect, examine

_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan", "ok": "green"}


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("doctor")
    def command(
        url: Annotated[
            str, typer.Argument(metavar="URL", help="The server: redis://, rediss:// or unix://.", show_default=False)
        ],
        prefix: options.Prefix = "rt:",
        timeout: Annotated[
            float, typer.Option(metavar="SECONDS", min=0.001, max=60, help="The time-out of those who will use it.")
        ] = 0.1,
        json: options.Json = None,
    ) -> None:
        """Say what of a server's settings would break the promises, and the cure. Nothing is changed there."""
        with connect(url) as client:
            report = examine(client, prefix=prefix, timeout=timeout)
        if json is not None:
            write_json(report.to_dict(), json)
        if json is None or str(json) != "-":
            _show(Terminal(), report)
        raise typer.Exit(2 if report.count("error") else 1 if report.count("warning") else 0)


def _show(terminal: Terminal, report: Report) -> None:
    """What is to be done first, what is well last."""
    many = [(report.count(severity), severity) for severity in SEVERITIES if severity != "ok"]
    counts = ", ".join(f"{count} {severity}{'s' * (count > 1)}" for count, severity in many if count)
    terminal.say(Text(f"{report.server} at {report.address}: {counts or 'all is well'}", "bold"), "")
    listed = Table.grid(padding=(0, 2, 0, 0))
    listed.add_column(no_wrap=True)
    listed.add_column(no_wrap=True)
    listed.add_column(overflow="fold")
    for severity in SEVERITIES:
        for finding in report.findings:
            if finding.severity == severity:
                listed.add_row(Text(severity, _STYLES[severity]), finding.topic, _said(finding))
    terminal.say(listed)


def _said(finding: Finding) -> Text:
    said = Text(printable(finding.found))
    if finding.severity != "ok":
        said += Text(f"\n{finding.why}", "dim") + Text(f"\n{printable(finding.cure)}\n", "bold")
    return said
