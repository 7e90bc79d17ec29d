"""`retarget export`: everything remembered of a visitor, as JSON."""

from __future__ import annotations

import typer

from retarget.cli import options
from retarget.cli.terminal import write_json


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("export")
    def command(
        visitor: options.Visitor,
        store: options.StoreUrl,
        prefix: options.Prefix = "rt:",
        pepper: options.Pepper = None,
    ) -> None:
        """Print everything remembered of a visitor, as JSON."""
        with options.retargeter(store, prefix, pepper) as ads:
            write_json(ads.export(visitor))
