"""`retarget forget`: delete everything remembered of a visitor."""

from __future__ import annotations

import typer

from retarget.cli import options
from retarget.cli.terminal import Terminal, printable


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("forget")
    def command(
        visitor: options.Visitor,
        store: options.StoreUrl,
        prefix: options.Prefix = "rt:",
        pepper: options.Pepper = None,
    ) -> None:
        """Delete everything remembered of a visitor."""
        with options.retargeter(store, prefix, pepper) as ads:
            known = ads.forget(visitor)
        outcome = "everything remembered was deleted" if known else "nothing was remembered"
        Terminal().say(f"{printable(visitor)}: {outcome} under {prefix}")
