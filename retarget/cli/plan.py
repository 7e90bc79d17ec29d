"""`retarget plan`: estimate the nodes, memory and cores for a workload."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterable
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
from retarget.operate import (
    Capacity,
    Costs,
    Fleet,
    Layout,
    Workload,
    estimate_capacity,
    parse_bytes,
    parse_number,
    parse_share,
)
from retarget.policy import Policy


class Spread(StrEnum):
    """How visitors' impressions are distributed."""

    uneven = "uneven"
    even = "even"


def add(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("plan")
    def command(
        visitors: Annotated[str, typer.Option(metavar="NUMBER", help="Visitors remembered at once: 5e8, 500M.")],
        impressions: Annotated[
            str, typer.Option(metavar="NUMBER", help="Remembered impressions per visitor, on average.")
        ] = "20",
        campaigns: Annotated[
            int, typer.Option(metavar="N", help="Campaigns that a visitor's impressions are spread over.")
        ] = 4,
        distinct: Annotated[
            list[str] | None,
            typer.Option(
                metavar="LABEL=N",
                help="Values of a label that comes with candidates, per visitor: item=12. Repeatable.",
            ),
        ] = None,
        visits: Annotated[int, typer.Option(metavar="N", help="Other timelines per visitor: visits, purchases.")] = 0,
        spread: Annotated[
            Spread, typer.Option(help="Impressions per visitor: geometrically distributed, or all the same.")
        ] = Spread.uneven,
        policy: Annotated[
            Path | None, typer.Option(metavar="FILE", help="The policy, which says what timelines there are.")
        ] = None,
        id_bytes: Annotated[int, typer.Option(metavar="N", help="Length of a visitor's id.")] = 36,
        pepper: Annotated[  # noqa: FBT002 - a flag
            bool, typer.Option("--pepper", help="Ids are hashed: 16 bytes, whatever their length.")
        ] = False,
        campaign_bytes: Annotated[
            int, typer.Option(metavar="N", help="Length of ids that the policy does not name.")
        ] = 12,
        prefix: options.Prefix = "rt:",
        event_ids: Annotated[  # noqa: FBT002 - a flag
            bool, typer.Option("--event-ids", help="Events carry ids, which are remembered.")
        ] = False,
        qps: Annotated[str, typer.Option(metavar="NUMBER", help="Calls per second: 400000, 400k.")] = "0",
        share_of_claims: Annotated[str, typer.Option(metavar="SHARE", help="Share of calls that claim.")] = "5%",
        share_of_records: Annotated[
            str, typer.Option(metavar="SHARE", help="Share of calls that record; the rest decide.")
        ] = "5%",
        candidates: Annotated[int, typer.Option(metavar="N", help="Candidates per call.")] = 10,
        node_memory: Annotated[str, typer.Option(metavar="BYTES", help="Memory of a node.")] = "64GB",
        replicas: Annotated[int, typer.Option(metavar="N", help="Replicas of each primary.")] = 1,
        listpack_value: Annotated[int, typer.Option(metavar="N", help="The servers' hash-max-listpack-value.")] = 64,
        headroom: Annotated[str, typer.Option(metavar="SHARE", help="Share of memory that stays free.")] = "20%",
        utilisation: Annotated[
            str, typer.Option(metavar="SHARE", help="Share of time that a core may be busy.")
        ] = "50%",
        no_saving: Annotated[  # noqa: FBT002 - a flag
            bool, typer.Option("--no-saving", help="Servers never fork: no RDB, AOF rewrite or new replica.")
        ] = False,
        costs: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Constants measured on your own machine.")
        ] = None,
        json: options.Json = None,
    ) -> None:
        """Estimate the memory, nodes, cores and network for a workload."""
        work = Workload(
            visitors=round(parse_number(visitors)),
            impressions=parse_number(impressions),
            campaigns=campaigns,
            distinct=_distinct(distinct or (), policy),
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
        capacity = estimate_capacity(work, fleet, plan=plan, costs=None if costs is None else _costs(costs))
        if json is not None:
            write_json(capacity.to_dict(), json)
        if json is None or str(json) != "-":
            _show(Terminal(), work, fleet, capacity)


def _distinct(texts: Iterable[str], policy: Path | None) -> dict[str, int]:
    """How many values of each label a visitor meets. Raises InputError."""
    found: dict[str, int] = {}
    for text in texts:
        kind, equals, number = (part.strip() for part in text.partition("="))
        if not (kind and equals and number.isdecimal()):
            raise InputError(f"--distinct {text}: write LABEL=N, for example --distinct item=12")
        if kind in found:
            raise InputError(f"--distinct {text}: {kind} is already {found[kind]}")
        found[kind] = int(number)
    if found and policy is None:
        raise InputError("--distinct needs --policy, whose rules say which labels are remembered")
    return found


def _costs(file: Path) -> Costs:
    """The constants that `python -m benchmarks.capacity --measure --json FILE` wrote."""
    try:
        return Costs.of(json_format.loads(file.read_text(encoding="utf-8"))["costs"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not what `python -m benchmarks.capacity --measure --json FILE` writes") from error


def _show(terminal: Terminal, work: Workload, fleet: Fleet, capacity: Capacity) -> None:
    terminal.say(Text("What this estimate leaves out", "bold"))
    unknown = Table.grid(padding=(0, 1))
    for text in capacity.unknown:
        unknown.add_row("-", text)
    terminal.say(unknown, "")
    title = f"{work.visitors:,} visitors, {work.impressions:g} impressions each, {work.qps:,.0f} calls per second"
    figures = table(title, "", "|figure", "|details")
    for row in _rows(work, fleet, capacity):
        figures.add_row(*row)
    terminal.say(figures)


def _rows(work: Workload, fleet: Fleet, capacity: Capacity) -> list[tuple[str, str, str]]:
    replicas = f"{_count(fleet.replicas, 'replica')} of each"
    least, most = capacity.visitor_bytes_least, capacity.visitor_bytes
    rows = [
        ("a visitor", f"{least:,.0f} to {most:,.0f} bytes", _visitor(capacity)),
        ("all visitors", _size(capacity.data_bytes), f"{_size(capacity.data_bytes_replicated)} with {replicas}"),
        ("nodes", f"{capacity.nodes:,}", f"{_count(capacity.primaries, 'primary')}, {replicas}"),
        (
            "decided by",
            capacity.decided_by,
            f"{_count(capacity.primaries_by_memory, 'primary')} for memory, {capacity.primaries_by_cpu:,} for CPU",
        ),
        (
            "memory of a node",
            _size(capacity.node_resident_bytes + capacity.node_copied_bytes),
            f"{_size(capacity.node_used_bytes)} used, {_size(capacity.node_resident_bytes)} with fragmentation, "
            f"{_size(capacity.node_copied_bytes)} copied while it saves ({capacity.node_saving_seconds:,.0f} s); "
            f"a node has {_size(fleet.node_memory)}, of which {fleet.headroom:.0%} stays free",
        ),
    ]
    if not work.qps:
        return rows
    times = f"{capacity.server_us_decide:.1f}, {capacity.server_us_claim:.1f}, {capacity.server_us_record:.1f}"
    return [
        *rows,
        (
            "Redis cores",
            f"{capacity.primaries:,}",
            f"one per primary (and occasionally another, to save), {capacity.server_busy:.0%} busy; "
            f"at {fleet.utilisation:.0%} each handles {capacity.calls_per_core:,.0f} calls per second; "
            f"decide, claim, record: {times} us; a call queues for {capacity.wait_us:.0f} us",
        ),
        ("client cores", f"{capacity.client_cores:,.0f}", f"of the ad servers, {fleet.utilisation:.0%} busy"),
        (
            "network",
            f"{(capacity.network_in + capacity.network_out) / 1e6:,.0f} MB/s",
            f"{capacity.network_in / 1e6:,.0f} to the primaries, {capacity.network_out / 1e6:,.0f} back",
        ),
    ]


def _visitor(capacity: Capacity) -> str:
    text = f"{capacity.timelines:.1f} timelines"
    if capacity.beyond_listpack:
        larger = 1 << (capacity.longest_value - 1).bit_length()
        text += (
            f"; {capacity.beyond_listpack:.1%} of visitors do not fit into a listpack: with hash-max-listpack-value "
            f"{larger} a visitor takes {capacity.visitor_bytes_small:,.0f} bytes"
        )
    return text


def _count(number: int, noun: str) -> str:
    """`1 primary`, `8 primaries`, `2 replicas`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def _size(size: float) -> str:
    for unit, power in (("TB", 1e12), ("GB", 1e9)):
        if size >= power:
            return f"{size / power:,.1f} {unit}"
    return f"{size / 1e6:,.1f} MB"
