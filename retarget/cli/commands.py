"""All commands, in the order of `retarget --help`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from retarget.cli import check, demo, doctor, explain, export, forget, plan, replay

app = typer.Typer(
    help="The conscience of the ad server: frequency caps, audiences and journeys per visitor, over Redis.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


Interrupted: type[Exception] = typer.Abort
UsageFailed: type[Exception] = typer.BadParameter.__mro__[2]
"""What typer raises if a command is used wrongly: click's ClickException, of which newer versions have a copy."""


def usage(error: Exception) -> str:
    """What was wrong, in one line, and where to read what would be right."""
    context = getattr(error, "ctx", None)
    path = "retarget" if context is None else context.command_path
    what = " ".join(error.format_message().split()) if hasattr(error, "format_message") else str(error)
    if what == "Missing command.":
        what = f"give a command: {', '.join(name for name in context.command.commands)}" if context else what
    what = what.replace("Value error, ", "").removesuffix(".")
    return f"{what[:1].lower()}{what[1:]}{' See' if what.endswith('?') else '; see'} {path} -h"


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        typer.echo(f"retarget {version('retarget')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for command in (demo, replay, check, explain, export, forget, doctor, plan):
    command.add(app)
