"""`retarget explain`: what is remembered of a visitor, and what they may be shown."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from retarget.cli import options
from retarget.cli.terminal import Terminal, printable, table, write_json
from retarget.errors import InputError
from retarget.operate import Explanation, explain_visitor
from retarget.policy import Policy, load_zone

if TYPE_CHECKING:
    from rich.table import Table


_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_WEEK = 6 * 86_400
"""Within this many seconds a weekday is unambiguous."""
_NEVER = {"end": "no longer", "full": "not until other entries expire"}
"""What a verdict without `eligible_at` means, by reason; for other reasons a new event is needed."""


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("explain")
    def command(
        visitor: options.Visitor,
        policy: options.PolicyFile,
        store: options.StoreUrl,
        now: Annotated[
            str | None,
            typer.Option(metavar="TIME", help="The time to judge at: ISO 8601 or epoch seconds.", show_default="now"),
        ] = None,
        time_zone: Annotated[
            str | None, typer.Option(metavar="ZONE", help="The visitor's time zone.", show_default="the policy's")
        ] = None,
        prefix: options.Prefix = "rt:",
        pepper: options.Pepper = None,
        json: options.Json = None,
    ) -> None:
        """Explain what a visitor may be shown now, and why not the rest.

        Also shows what is remembered of the visitor. Changes nothing.
        """
        rules = Policy.from_toml(policy)
        zone = time_zone or rules.timezone
        with options.retargeter(store, prefix, pepper, rules) as ads:
            explanation = explain_visitor(ads, visitor, now=_moment(now, zone), timezone=zone)
        if json is not None:
            write_json(explanation.to_dict(), json)
        if json is None or str(json) != "-":
            _show(Terminal(), explanation, zone)


def _moment(text: str | None, zone: str) -> datetime | float | None:
    """The time that `--now` names; without an offset it is local to the zone. Raises InputError."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=load_zone(zone))
    except ValueError as error:
        raise InputError(
            f"--now {text}: write ISO 8601, for example 2026-11-02T14:05, or epoch seconds ({error})"
        ) from error


def _show(terminal: Terminal, explanation: Explanation, zone: str) -> None:
    at = datetime.fromisoformat(explanation.at)
    terminal.say(Text(f"{printable(explanation.visitor)}, {at:%A %Y-%m-%d %H:%M:%S} {zone}", style="bold"))
    level = explanation.annoyance
    if level is not None:
        style = "red" if level.points >= level.limit else "yellow" if 2 * level.points >= level.limit else "green"
        whose = "" if level.segment == "annoyance" else f", {level.segment}"
        used = Text(f"{level.points} of {level.limit} points", style)
        terminal.say(Text("Annoyance: ") + used + Text(f" used ({level.rule}{whose})"))
    if explanation.known:
        terminal.say("", _timelines(explanation, at))
    else:
        terminal.say("", "Nothing is remembered of this visitor: they get what any new visitor gets.", "")
    terminal.say(_verdicts(explanation, at) if explanation.verdicts else "The policy names no campaigns.")


def _timelines(explanation: Explanation, at: datetime) -> Table:
    listed = table("What is remembered", "timeline", "entries", "|newest", "|oldest")
    moments = {name: [datetime.fromisoformat(text) for text in texts] for name, texts in explanation.timelines.items()}
    for name, entries in sorted(moments.items(), key=lambda item: item[1][-1], reverse=True):
        oldest = relative(entries[0], at) if len(entries) > 1 else ""
        listed.add_row(printable(name), f"{len(entries):,}", relative(entries[-1], at), oldest)
    return listed


def _verdicts(explanation: Explanation, at: datetime) -> Table:
    """The campaigns that may be shown now, then the others, soonest first."""
    listed = table("What may be shown", "campaign", "|when", "|why not")
    verdicts = explanation.verdicts.items()
    for campaign, verdict in sorted(verdicts, key=lambda item: _order(item[1])):
        if verdict["eligible"]:
            when = Text("now", "bold green")
        elif verdict["eligible_at"] is not None:
            when = Text(relative(datetime.fromisoformat(verdict["eligible_at"]), at), "yellow")
        else:
            when = Text(_NEVER.get(verdict["reason"], "not without a new event"), "red")
        listed.add_row(printable(campaign), when, _why(verdict))
    return listed


def _order(verdict: dict[str, Any]) -> tuple[bool, bool, float]:
    text = verdict["eligible_at"]
    return not verdict["eligible"], text is None, 0.0 if text is None else datetime.fromisoformat(text).timestamp()


def _why(verdict: dict[str, Any]) -> str:
    reason, rule = verdict["reason"], verdict["rule"]
    if verdict["eligible"]:
        return ""
    if reason == "full" and rule:
        return f"full: most of what is remembered is there for {rule}"
    text = f"{reason}: {rule}" if rule and not rule.startswith(reason) else rule or reason
    return text if verdict["limit"] is None else f"{text} (seen {verdict['seen']} of {verdict['limit']})"


def relative(moment: datetime, at: datetime) -> str:
    """`in 2 h 13 min (Mon 14:05)`, `3 d ago (Fri 09:30)`: the distance from `at`, and the day and time."""
    seconds = int((moment - at).total_seconds())
    if seconds == 0:
        return "now"
    day = f"{moment:%a}" if abs(seconds) < _WEEK else f"{moment:%Y-%m-%d}"
    clock = f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
    return f"in {_span(seconds)} ({day} {clock})" if seconds > 0 else f"{_span(-seconds)} ago ({day} {clock})"


def _span(seconds: int) -> str:
    """In at most two units: `2 h 13 min`, `3 d`, `45 s`."""
    first = next(place for place, (_, size) in enumerate(_UNITS) if seconds >= size)
    parts = []
    for unit, size in _UNITS[first : first + 2]:
        if seconds >= size:
            parts.append(f"{seconds // size} {unit}")
        seconds %= size
    return " ".join(parts)
