"""`retarget demo`: a shop's traffic through an embedded Valkey, and what its policy changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retarget.cli.replay import show
from retarget.cli.terminal import Terminal, progress, table
from retarget.demo import DAYS, VISITORS, run

if TYPE_CHECKING:
    from rich.table import Table

    from retarget.demo import Demo


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("demo")
    def command(
        seed: Annotated[int, typer.Option(help="Another seed gives other visitors with the same habits.")] = 1,
        visitors: Annotated[int, typer.Option(help="How many visitors.")] = VISITORS,
        days: Annotated[int, typer.Option(help="How many days of traffic.")] = DAYS,
        keep: Annotated[
            Path | None,
            typer.Option(metavar="FOLDER", help="Leave the log and the policy there, to try your own."),
        ] = None,
    ) -> None:
        """Replay a synthetic shop's traffic under its policy.

        Runs over an embedded Valkey, and shows what the policy changes.
        """
        with progress() as report:
            demo = run(seed=seed, visitors=visitors, days=days, keep=keep, progress=report)
        terminal = Terminal()
        show(terminal, demo.replay)
        terminal.say(_money(demo), *demo.sentences)
        if demo.log is not None:
            terminal.say("", f"Try it yourself: retarget replay {demo.log} --policy {demo.policy_file}")


def _money(demo: Demo) -> Table:
    money = table("Cost by channel", "channel", "impressions", "suppressed", "cost", "saved", "share")
    for channel in demo.channels:
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
