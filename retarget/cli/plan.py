"""`retarget plan`: the nodes, memory and cores that a workload takes."""

from __future__ import annotations

import json as json_format
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from retarget.cli import options
from retarget.cli.terminal import Terminal, table, write_json
from retarget.engine import Plan
from retarget.errors import InputError
from retarget.operate import Capacity, Costs, Fleet, Layout, Workload, capacity, parse_bytes, parse_number, parse_share
from retarget.policy import Policy


class Spread(StrEnum):
    """How visitors' impressions are distributed."""

    uneven = "uneven"
    even = "even"


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("plan")
    def command(
        visitors: Annotated[str, typer.Option(metavar="NUMBER", help="How many are remembered: 5e8, 500M.")],
        impressions: Annotated[
            str, typer.Option(metavar="NUMBER", help="Impressions remembered of each, on average.")
        ] = "20",
        campaigns: Annotated[int, typer.Option(help="Over how many campaigns a visitor's impressions are spread.")] = 4,
        visits: Annotated[int, typer.Option(help="Other timelines of a visitor: visits, purchases.")] = 0,
        spread: Annotated[
            Spread, typer.Option(help="Few visitors with many impressions, or all alike.")
        ] = Spread.uneven,
        policy: Annotated[
            Path | None, typer.Option(metavar="FILE", help="The policy: what an impression enters, and keeps.")
        ] = None,
        id_bytes: Annotated[int, typer.Option(help="Bytes of a visitor's id.")] = 36,
        pepper: Annotated[  # noqa: FBT002 - a flag
            bool, typer.Option("--pepper", help="Ids are hashed: 16 bytes, whatever their length.")
        ] = False,
        campaign_bytes: Annotated[int, typer.Option(help="Bytes of a campaign's id, where no policy tells.")] = 12,
        prefix: options.Prefix = "rt:",
        event_ids: Annotated[  # noqa: FBT002 - a flag
            bool, typer.Option("--event-ids", help="Events carry ids, which are remembered.")
        ] = False,
        qps: Annotated[str, typer.Option(metavar="NUMBER", help="Calls a second: 400000, 400k.")] = "0",
        share_of_claims: Annotated[str, typer.Option(metavar="SHARE", help="How many of them claim.")] = "5%",
        share_of_records: Annotated[
            str, typer.Option(metavar="SHARE", help="How many record; the rest decide.")
        ] = "5%",
        candidates: Annotated[int, typer.Option(help="Candidates of a call.")] = 10,
        node_memory: Annotated[str, typer.Option(metavar="BYTES", help="Memory of a node.")] = "64GB",
        replicas: Annotated[int, typer.Option(help="Copies of each primary.")] = 1,
        listpack_value: Annotated[int, typer.Option(help="The servers' hash-max-listpack-value.")] = 64,
        headroom: Annotated[str, typer.Option(metavar="SHARE", help="Memory that stays free.")] = "20%",
        utilisation: Annotated[str, typer.Option(metavar="SHARE", help="How busy a core may be.")] = "50%",
        no_saving: Annotated[  # noqa: FBT002 - a flag
            bool, typer.Option("--no-saving", help="Servers never fork to save, nor for a new replica.")
        ] = False,
        costs: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Constants measured on your own machine.")
        ] = None,
        json: options.Json = None,
    ) -> None:
        """Say what a workload takes: memory, nodes, cores, network; and first, what that does not know."""
        work = Workload(
            visitors=round(parse_number(visitors)),
            impressions=parse_number(impressions),
            campaigns=campaigns,
            visits=visits,
            spread=spread.value,
            id_bytes=None if pepper else id_bytes,
            campaign_bytes=campaign_bytes,
            prefix_bytes=len(prefix.encode()),
            event_ids=event_ids,
            qps=parse_number(qps),
            share_of_claims=parse_share(share_of_claims),
            share_of_records=parse_share(share_of_records),
            candidates=candidates,
        )
        fleet = Fleet(
            node_memory=parse_bytes(node_memory),
            replicas=replicas,
            headroom=parse_share(headroom),
            utilisation=parse_share(utilisation),
            saves=not no_saving,
            layout=Layout(value=listpack_value),
        )
        plan = None if policy is None else Plan(Policy.from_toml(policy))
        answer = capacity(work, fleet, plan=plan, costs=None if costs is None else _costs(costs))
        if json is not None:
            write_json(answer.to_dict(), json)
        if json is None or str(json) != "-":
            _show(Terminal(), work, fleet, answer)


def _costs(file: Path) -> Costs:
    """The constants that `python -m benchmarks.capacity --measure --json FILE` wrote."""
    try:
        return Costs.of(json_format.loads(file.read_text(encoding="utf-8"))["costs"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not what `python -m benchmarks.capacity --measure --json FILE` writes") from error


def _show(terminal: Terminal, work: Workload, fleet: Fleet, answer: Capacity) -> None:
    terminal.say(Text("What this does not know", "bold"))
    unknown = Table.grid(padding=(0, 1))
    for text in answer.unknown:
        unknown.add_row("-", text)
    terminal.say(unknown, "")
    made = table(f"{work.visitors:,} visitors, {work.impressions:g} impressions each, {work.qps:,.0f} calls a second",
                 "", "|figure", "|how it comes about")  # fmt: skip
    for row in _rows(work, fleet, answer):
        made.add_row(*row)
    terminal.say(made)


def _rows(work: Workload, fleet: Fleet, answer: Capacity) -> list[tuple[str, str, str]]:
    copies = f"{fleet.replicas} replica{'s' * (fleet.replicas != 1)} of each"
    rows = [
        ("a visitor", f"{answer.visitor_bytes_least:,.0f} to {answer.visitor_bytes:,.0f} bytes", _visitor(answer)),
        ("all visitors", _size(answer.data_bytes), f"{_size(answer.data_bytes_replicated)} with {copies}"),
        ("nodes", f"{answer.nodes:,}", f"{answer.primaries:,} primaries, {copies}"),
        (
            "decided by",
            answer.decided_by,
            f"memory asks for {answer.primaries_by_memory:,} primaries, CPU for {answer.primaries_by_cpu:,}",
        ),
        (
            "memory of a node",
            _size(answer.node_resident_bytes + answer.node_copied_bytes),
            f"{_size(answer.node_used_bytes)} used, {_size(answer.node_resident_bytes)} with fragmentation, "
            f"{_size(answer.node_copied_bytes)} copied while it saves ({answer.node_saving_seconds:,.0f} s); "
            f"a node has {_size(fleet.node_memory)}, {fleet.headroom:.0%} stay free",
        ),
    ]
    if not work.qps:
        return rows
    times = f"{answer.server_us_decide:.1f}, {answer.server_us_claim:.1f}, {answer.server_us_record:.1f}"
    return [
        *rows,
        (
            "Redis cores",
            f"{answer.primaries:,}",
            f"one for each primary (and now and then another, to save), {answer.server_busy:.0%} busy, "
            f"{answer.calls_per_core:,.0f} calls a second each at "
            f"{fleet.utilisation:.0%}; decide, claim, record: {times} us; a call waits {answer.wait_us:.0f} us",
        ),
        ("client cores", f"{answer.client_cores:,.0f}", f"of the ad servers, {fleet.utilisation:.0%} busy"),
        (
            "network",
            f"{(answer.network_in + answer.network_out) / 1e6:,.0f} MB/s",
            f"{answer.network_in / 1e6:,.0f} to the primaries, {answer.network_out / 1e6:,.0f} back",
        ),
    ]


def _visitor(answer: Capacity) -> str:
    text = f"{answer.timelines:.1f} timelines"
    if answer.beyond_listpack:
        text += (
            f"; {answer.beyond_listpack:.1%} of visitors are beyond a small hash: with hash-max-listpack-value "
            f"{1 << (answer.longest_value - 1).bit_length()} a visitor takes {answer.visitor_bytes_small:,.0f} bytes"
        )
    return text


def _size(size: float) -> str:
    for unit, power in (("TB", 1e12), ("GB", 1e9)):
        if size >= power:
            return f"{size / power:,.1f} {unit}"
    return f"{size / 1e6:,.1f} MB"
