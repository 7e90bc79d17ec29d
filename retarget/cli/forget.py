"""`retarget forget`: delete all that is remembered of a visitor."""

from __future__ import annotations

import typer

from retarget.cli import options
from retarget.cli.terminal import Terminal, printable
from retarget.policy import Policy
from retarget.retargeter import Retargeter

_PATIENCE = 1.0


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("forget")
    def forget(
        visitor: options.Visitor,
        store: options.StoreUrl,
        prefix: options.Prefix = "rt:",
        pepper: options.Pepper = None,
    ) -> None:
        """Delete all that is remembered of a visitor."""
        with Retargeter(Policy(), store, timeout=_PATIENCE, prefix=prefix, pepper=pepper) as ads:
            known = ads.forget(visitor)
        what = "everything that was remembered is deleted" if known else "nothing was remembered"
        Terminal().say(f"{printable(visitor)}: {what} under {prefix}")
