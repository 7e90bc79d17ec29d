"""`retarget check`: lint a policy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from retarget.cli import options
from retarget.cli.terminal import Terminal, progress, write_json
from retarget.errors import PolicyError
from retarget.logs import Log, LogOptions
from retarget.policy import Policy
from retarget.policy.lint import Finding, Severity

_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "remark": "cyan"}


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("check")
    def command(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="The policy, a TOML file.", show_default=False)],
        logs: Annotated[
            list[str] | None,
            typer.Option("--log", metavar="LOG", help="A log to compare events and labels with. Repeatable."),
        ] = None,
        maps: options.Maps = None,
        json: options.Json = None,
        log_time_zone: options.LogZone = "UTC",
        header: options.Header = None,
        columns: options.Columns = None,
        delimiter: options.Delimiter = None,
        quote: options.Quote = None,
        campaign: options.Constant = None,
    ) -> None:
        """Lint a policy for contradictions and rules that never bind.

        Also for audiences that nobody can enter, and for names that nothing else uses.
        """
        reading = options.log_options(logs or [], maps, log_time_zone, header, columns, delimiter, quote, campaign)
        found = _findings(file, reading if logs else None)
        many = Counter(finding.severity for finding in found)
        if json is not None:
            counts = {f"{severity}s": many[severity] for severity in _STYLES}
            write_json({**counts, "findings": [asdict(finding) for finding in found]}, json)
        if json is None or str(json) != "-":
            _show(Terminal(), str(file), found, many)
        raise typer.Exit(2 if many["error"] else 1 if many["warning"] else 0)


def _findings(file: Path, reading: LogOptions | None) -> Sequence[Finding]:
    """The policy's findings; its problems, if it does not load."""
    try:
        policy = Policy.from_toml(file)
    except PolicyError as error:
        return [_refused(problem.removeprefix(f"{file}: ")) for problem in error.problems]
    if reading is None:
        return policy.findings()
    with progress() as report:
        report("reading the log", 0, 0)
        with Log(reading) as log:
            events = {row.event for rows in log.rows() for row in rows}
            return policy.findings(events=events, labels=log.label_names)


def _refused(problem: str) -> Finding:
    """A problem as a finding: what precedes the first colon is its place, if it begins with a key."""
    place, _, text = problem.partition(": ")
    is_place = re.split(r"[.\[]", place, maxsplit=1)[0] in Policy.model_fields or text.startswith("unknown key")
    return Finding("error", place if is_place else "", text if is_place else problem, "", "refused")


def _show(terminal: Terminal, file: str, found: Sequence[Finding], many: Counter[Severity]) -> None:
    counts = [f"{many[severity]:,} {severity}" + "s" * (many[severity] > 1) for severity in _STYLES if many[severity]]
    terminal.say(Text(f"{file}: {', '.join(counts) or 'no findings, the policy is sound'}", style="bold"))
    listed = Table.grid(padding=(0, 2, 0, 0))
    listed.add_column(no_wrap=True)
    listed.add_column(overflow="fold")
    for finding in found:
        place = Text(finding.place, "bold") + Text(f" ({finding.rule})", "dim") if finding.place else Text()
        text = Text("\n").join(line for line in (place, Text(finding.text), Text(finding.cure, "dim")) if line)
        listed.add_row("", "")
        listed.add_row(Text(finding.severity, _STYLES[finding.severity]), text)
    if found:
        terminal.say(listed)
