"""`retarget demo`: a shop's traffic through an embedded Valkey, and what the policy changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retarget.cli.replay import show
from retarget.cli.terminal import Terminal, progress, table
from retarget.demo import run
from retarget.demo.shop import DAYS, VISITORS

if TYPE_CHECKING:
    from rich.table import Table

    from retarget.demo import Demo


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("demo")
    def command(
        seed: Annotated[int, typer.Option(help="Another town with the same habits.")] = 1,
        visitors: Annotated[int, typer.Option(help="How many people.")] = VISITORS,
        days: Annotated[int, typer.Option(help="How long.")] = DAYS,
        keep: Annotated[
            Path | None, typer.Option(metavar="FOLDER", help="Leave the log and the policy there, to try your own.")
        ] = None,
    ) -> None:
        """Run a made-up shop's traffic through its policy, over an embedded Valkey, and say what changes."""
        with progress() as told:
            made = run(seed=seed, visitors=visitors, days=days, keep=keep, progress=told)
        terminal = Terminal()
        show(terminal, made.replay)
        terminal.say(_money(made), *made.sentences)
        if made.log is not None:
            terminal.say("", f"Try it yourself: retarget replay {made.log} --policy {made.policy_file}")


def _money(made: Demo) -> Table:
    money = table("Money by channel", "channel", "impressions", "suppressed", "cost", "saved", "share")
    for channel in made.channels:
        share = f"{channel.cost_saved / channel.cost:.0%}" if channel.cost else ""
        money.add_row(
            channel.channel,
            f"{channel.impressions:,}",
            f"{channel.suppressed:,}",
            f"{channel.cost:,.2f}",
            f"{channel.cost_saved:,.2f}",
            share,
        )
    return money
