"""`retarget replay`: what a policy would have made of a log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from retarget.cli import options
from retarget.cli.terminal import Terminal, progress, table, write_json
from retarget.policy import Policy
from retarget.replay import Frequency, Replay, open_log, replay

if TYPE_CHECKING:
    from rich.table import Table

_LARGE = 1_000_000
_MOST_RULES = 20
_MOST_CAMPAIGNS = 20
_BUCKETS = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, 100), (101, None))


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("replay")
    def command(
        logs: options.Paths,
        policy: options.PolicyFile,
        maps: options.Maps = None,
        store: Annotated[
            str, typer.Option(metavar="URL", help="Ask a real server; what is put there is deleted at the end.")
        ] = "memory://",
        keep: Annotated[bool, typer.Option("--keep", help="Leave in the server what was put there.")] = False,  # noqa: FBT002
        processes: Annotated[
            int | None,
            typer.Option(metavar="N", min=1, help="How many judge at once.", show_default="all cores for a large log"),
        ] = None,
        json: options.Json = None,
        time_zone: Annotated[
            str | None,
            typer.Option(metavar="ZONE", help="Days and hours are those of this zone.", show_default="the policy's"),
        ] = None,
        log_time_zone: options.LogZone = "UTC",
        header: options.Header = None,
        columns: options.Columns = None,
        delimiter: options.Delimiter = None,
        quote: options.Quote = None,
        campaign: options.Constant = None,
    ) -> None:
        """Say which impressions of a log a policy would have suppressed, and what that saves and risks."""
        rules = Policy.from_toml(policy)
        reading = options.log_options(logs, maps, log_time_zone, header, columns, delimiter, quote, campaign)
        with progress() as told:
            told("reading the log", 0, 0)
            with open_log(reading, rules) as log:
                result = replay(
                    log,
                    rules,
                    store=store,
                    time_zone=time_zone,
                    keep=keep,
                    processes=processes or _processes(store, log.count),
                    progress=lambda done, count: told("replaying it", done, count),
                )
        if json is not None:
            write_json(result.to_dict(), json)
        if json is None or str(json) != "-":
            show(Terminal(), result)


def _processes(store: str, rows: int) -> int:
    """As many as there are cores where that pays: another process takes half a second to begin."""
    cores = getattr(os, "process_cpu_count", os.cpu_count)() or 1  # the former is new in Python 3.13
    return cores if store == "memory://" and rows >= _LARGE else 1


def show(terminal: Terminal, result: Replay) -> None:
    """Print what a policy made of a log."""
    terminal.say(*_heading(result), "", _changes(result))
    if result.suppressed:
        terminal.say(_rules(result))
        if len(result.campaigns) > 1:
            terminal.say(_campaigns(result))
    if result.visitors:
        terminal.say(_frequency(result.frequency_before, result.frequency_after))
    if result.clicks_on_suppressed or result.total.conversions_on_suppressed:
        terminal.say(
            "At risk: clicks and conversions that followed an impression which the policy suppresses. "
            "No log can say how many of them would have come all the same."
        )


def _heading(result: Replay) -> list[str]:
    if result.first is None or result.last is None:
        return ["The log has no rows."]
    span = f"{result.first:%Y-%m-%d %H:%M} to {result.last:%Y-%m-%d %H:%M} UTC"
    lines = [
        f"{result.events:,} events, {span}; replayed in {result.seconds:.1f} s ({result.per_second:,.0f} a second)."
    ]
    if result.repeated:
        lines.append(f"{_many(result.repeated, 'impression')} came again under an id seen before, and counted once.")
    if result.unknown_visitors:
        lines.append(f"{_many(result.unknown_visitors, 'impression')} had no visitor.")
    if result.unknown_campaigns:
        what = "[defaults] held" if result.defaults else "only [annoyance] and [caps] held"
        lines.append(f"{_many(len(result.unknown_campaigns), 'campaign')} not in the policy; {what} for such.")
    if result.dropped:
        lines.append(f"{_many(result.dropped, 'event')} dropped: that visitor's timelines were full.")
    if result.prefix:
        lines.append(f"Kept in the store under {result.prefix}")
    return lines


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _changes(result: Replay) -> Table:
    total, before, after = result.total, result.frequency_before, result.frequency_after
    made = table("What the policy changes", "", "log", "policy", "change", "")
    shown = total.served + total.suppressed
    rows: list[tuple[str, float, float, int, str]] = [
        ("impressions", shown, total.served, 0, "suppressed"),
        ("visitors reached", result.visitors, result.reached, 0, ""),
    ]
    if total.cost:
        rows.append(("cost", total.cost, total.cost - total.cost_saved, 2, "saved"))
    if total.clicks:
        rows.append(("clicks", total.clicks, total.clicks - total.clicks_on_suppressed, 0, "at risk"))
    if total.conversions:
        kept = total.conversions - total.conversions_on_suppressed
        rows.append(("conversions", total.conversions, kept, 0, "at risk"))
    if total.value:
        rows.append(("conversions' value", total.value, total.value - total.value_on_suppressed, 2, "at risk"))
    rows += [
        ("impressions per visitor reached", before.mean, after.mean, 2, ""),
        ("  99 of 100 get at most", before.p99, after.p99, 0, ""),
        ("  the most", before.max, after.max, 0, ""),
    ]
    for name, was, will_be, places, word in rows:
        change = f"{(will_be - was) / was:+.1%}" if was else ""
        what = f"{was - will_be:,.{places}f} {word}" if word and was != will_be else ""
        made.add_row(name, f"{was:,.{places}f}", f"{will_be:,.{places}f}", change, what)
    return made


def _rules(result: Replay) -> Table:
    made = table("Suppressed by", "kind", "|rule", "impressions", "share")
    rules = list(result.total.rules.items())
    for (reason, rule), n in rules[:_MOST_RULES]:
        made.add_row(reason, rule if rule != reason else "", f"{n:,}", f"{n / result.suppressed:.1%}")
    if rest := rules[_MOST_RULES:]:
        n = sum(count for _, count in rest)
        made.add_row("", f"{_many(len(rest), 'other rule')}", f"{n:,}", f"{n / result.suppressed:.1%}")
    return made


def _campaigns(result: Replay) -> Table:
    made = table("By campaign", "campaign", "impressions", "suppressed", "share", "cost saved", "clicks at risk")
    for id_, figures in list(result.campaigns.items())[:_MOST_CAMPAIGNS]:
        shown = figures.served + figures.suppressed
        made.add_row(
            id_,
            f"{shown:,}",
            f"{figures.suppressed:,}",
            f"{figures.suppressed / shown:.1%}" if shown else "",
            f"{figures.cost_saved:,.2f}" if figures.cost else "",
            f"{figures.clicks_on_suppressed:,} of {figures.clicks:,}" if figures.clicks else "",
        )
    if len(result.campaigns) > _MOST_CAMPAIGNS:
        made.add_row(_many(len(result.campaigns) - _MOST_CAMPAIGNS, "other campaign"), "", "", "", "", "")
    return made


def _frequency(before: Frequency, after: Frequency) -> Table:
    made = table("Visitors by impressions", "impressions", "visitors in the log", "with the policy")
    for low, high in _BUCKETS:
        was, will_be = (
            sum(n for got, n in one.histogram.items() if got >= low and (high is None or got <= high))
            for one in (before, after)
        )
        if was or will_be:
            span = str(low) if low == high else f"{low} to {high}" if high else f"{low} and more"
            made.add_row(span, f"{was:,}", f"{will_be:,}")
    if before.visitors > after.visitors:
        made.add_row("none any more", "", f"{before.visitors - after.visitors:,}")
    return made
