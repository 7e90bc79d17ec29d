"""`retarget export`: all that is remembered of a visitor."""

from __future__ import annotations

import typer

from retarget.cli import options
from retarget.cli.terminal import write_json
from retarget.policy import Policy
from retarget.retargeter import Retargeter

_PATIENCE = 1.0


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("export")
    def export(
        visitor: options.Visitor,
        store: options.StoreUrl,
        prefix: options.Prefix = "rt:",
        pepper: options.Pepper = None,
    ) -> None:
        """Print all that is remembered of a visitor, as JSON."""
        with Retargeter(Policy(), store, timeout=_PATIENCE, prefix=prefix, pepper=pepper) as ads:
            write_json(ads.export(visitor))
