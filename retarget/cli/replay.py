"""`retarget replay`: which impressions of a log a policy would have suppressed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from retarget.cli import options
from retarget.cli.terminal import Terminal, progress, table, write_json
from retarget.policy import Policy
from retarget.replay import Frequency, Fullness, Replay, open_log, replay
from retarget.timelines import MOST_TIMELINES

if TYPE_CHECKING:
    from rich.table import Table

_LARGE = 1_000_000
_MOST_RULES = 20
_MOST_CAMPAIGNS = 20
_MOST_FULL = 5
_FULL = (
    f"A visitor has room for {MOST_TIMELINES:,} timelines that rules which block still ask about; then nothing more is "
    "counted, and nothing is shown. Give these rules a shorter window, or let them ask about something of which a "
    "visitor meets fewer."
)
_BUCKETS = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, 100), (101, None))


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("replay")
    def command(
        logs: options.Paths,
        policy: options.PolicyFile,
        maps: options.Maps = None,
        store: Annotated[
            str, typer.Option(metavar="URL", help="Replay over a real server; its keys are deleted at the end.")
        ] = "memory://",
        keep: Annotated[bool, typer.Option("--keep", help="Leave the keys in the server.")] = False,  # noqa: FBT002
        processes: Annotated[
            int | None,
            typer.Option(metavar="N", min=1, help="How many processes.", show_default="all cores for a large log"),
        ] = None,
        json: options.Json = None,
        time_zone: Annotated[
            str | None,
            typer.Option(metavar="ZONE", help="The zone of days and hours.", show_default="the policy's"),
        ] = None,
        log_time_zone: options.LogZone = "UTC",
        header: options.Header = None,
        columns: options.Columns = None,
        delimiter: options.Delimiter = None,
        quote: options.Quote = None,
        campaign: options.Constant = None,
    ) -> None:
        """Replay a log under a policy.

        Shows which impressions the policy would have suppressed, and what that saves and risks.
        """
        rules = Policy.from_toml(policy)
        reading = options.log_options(logs, maps, log_time_zone, header, columns, delimiter, quote, campaign)
        with progress() as report:
            report("reading the log", 0, 0)
            with open_log(reading, rules) as log:
                result = replay(
                    log,
                    rules,
                    store=store,
                    time_zone=time_zone,
                    keep=keep,
                    processes=processes or _processes(store, log.count),
                    progress=lambda done, count: report("replaying the log", done, count),
                )
        if json is not None:
            write_json(result.to_dict(), json)
        if json is None or str(json) != "-":
            show(Terminal(), result)


def _processes(store: str, rows: int) -> int:
    """All cores for a large log: starting another process takes half a second."""
    cores = getattr(os, "process_cpu_count", os.cpu_count)() or 1  # process_cpu_count is new in Python 3.13
    return cores if store == "memory://" and rows >= _LARGE else 1


def show(terminal: Terminal, result: Replay) -> None:
    """Print the result of a replay."""
    terminal.say(*_heading(result), "", _changes(result))
    if result.suppressed:
        terminal.say(_rules(result))
        if len(result.campaigns) > 1:
            terminal.say(_campaigns(result))
    if result.full.visitors:
        terminal.say(_full(result.full), _FULL, "")
    if result.visitors:
        terminal.say(_frequency(result.frequency_before, result.frequency_after))
    if result.clicks_on_suppressed or result.total.conversions_on_suppressed:
        terminal.say(
            "At risk: clicks and conversions that followed an impression which the policy suppresses. "
            "A log cannot say how many of them would have happened anyway."
        )


def _heading(result: Replay) -> list[str]:
    if result.first is None or result.last is None:
        return ["The log has no rows."]
    span = f"{result.first:%Y-%m-%d %H:%M} to {result.last:%Y-%m-%d %H:%M} UTC"
    lines = [
        f"{result.events:,} events, {span}; replayed in {result.seconds:.1f} s ({result.per_second:,.0f} a second)."
    ]
    if result.repeated:
        lines.append(f"{_many(result.repeated, 'impression')} repeated an id seen before, and counted once.")
    if result.unknown_visitors:
        lines.append(f"{_many(result.unknown_visitors, 'impression')} had no visitor.")
    if result.unknown_campaigns:
        rules = "[defaults]" if result.defaults else "only [annoyance] and [caps]"
        lines.append(f"{_many(len(result.unknown_campaigns), 'campaign')} not in the policy; {rules} applied.")
    if result.full.visitors:
        lost = [f"{_many(full, 'impression')} suppressed"] if (full := result.total.rules.get(("full", "full"))) else []
        lost += [f"{_many(result.dropped, 'event')} dropped"] if result.dropped else []
        lines.append(f"{_many(result.full.visitors, 'visitor')} became full: {', '.join(lost)}.")
    if result.prefix:
        lines.append(f"Keys kept in the store under {result.prefix}")
    return lines


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _changes(result: Replay) -> Table:
    total, before, after = result.total, result.frequency_before, result.frequency_after
    changes = table("What the policy changes", "", "log", "policy", "change", "")
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
        rows.append(("conversion value", total.value, total.value - total.value_on_suppressed, 2, "at risk"))
    rows += [
        ("impressions per visitor reached", before.mean, after.mean, 2, ""),
        ("  99th percentile", before.p99, after.p99, 0, ""),
        ("  maximum", before.max, after.max, 0, ""),
    ]
    for name, logged, served, places, word in rows:
        change = f"{(served - logged) / logged:+.1%}" if logged else ""
        effect = f"{logged - served:,.{places}f} {word}" if word and logged != served else ""
        changes.add_row(name, f"{logged:,.{places}f}", f"{served:,.{places}f}", change, effect)
    return changes


def _rules(result: Replay) -> Table:
    by_rule = table("Suppressed by", "kind", "|rule", "impressions", "share")
    rules = list(result.total.rules.items())
    for (reason, rule), n in rules[:_MOST_RULES]:
        by_rule.add_row(reason, rule if rule != reason else "", f"{n:,}", f"{n / result.suppressed:.1%}")
    if rest := rules[_MOST_RULES:]:
        n = sum(count for _, count in rest)
        by_rule.add_row("", f"{_many(len(rest), 'other rule')}", f"{n:,}", f"{n / result.suppressed:.1%}")
    return by_rule


def _full(full: Fullness) -> Table:
    made = table("What fills visitors", "kind", "|rule", "|a timeline for each", "timelines")
    rules = list(full.rules.items())
    for rule, timelines in rules[:_MOST_FULL]:
        made.add_row(rule.reason, rule.rule, rule.timeline, f"{timelines:,.1f}")
    if rest := rules[_MOST_FULL:]:
        made.add_row("", _many(len(rest), "other rule"), "", f"{sum(timelines for _, timelines in rest):,.1f}")
    return made


def _campaigns(result: Replay) -> Table:
    by_campaign = table("By campaign", "campaign", "impressions", "suppressed", "share", "cost saved", "clicks at risk")
    for id_, figures in list(result.campaigns.items())[:_MOST_CAMPAIGNS]:
        shown = figures.served + figures.suppressed
        by_campaign.add_row(
            id_,
            f"{shown:,}",
            f"{figures.suppressed:,}",
            f"{figures.suppressed / shown:.1%}" if shown else "",
            f"{figures.cost_saved:,.2f}" if figures.cost else "",
            f"{figures.clicks_on_suppressed:,} of {figures.clicks:,}" if figures.clicks else "",
        )
    if len(result.campaigns) > _MOST_CAMPAIGNS:
        by_campaign.add_row(_many(len(result.campaigns) - _MOST_CAMPAIGNS, "other campaign"), "", "", "", "", "")
    return by_campaign


def _frequency(before: Frequency, after: Frequency) -> Table:
    by_frequency = table("Visitors by frequency", "impressions", "visitors in the log", "with the policy")
    for low, high in _BUCKETS:
        logged, served = (
            sum(n for got, n in one.histogram.items() if got >= low and (high is None or got <= high))
            for one in (before, after)
        )
        if logged or served:
            span = str(low) if low == high else f"{low} to {high}" if high else f"{low} or more"
            by_frequency.add_row(span, f"{logged:,}", f"{served:,}")
    if before.visitors > after.visitors:
        by_frequency.add_row("no longer reached", "", f"{before.visitors - after.visitors:,}")
    return by_frequency
