"""All commands, in the order of `retarget --help`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from retarget.cli import check, demo, doctor, explain, export, forget, plan, replay

app = typer.Typer(
    help="The conscience of the ad server: frequency caps, audiences and journeys per visitor, over Redis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
