"""The arguments and options that several commands share, and what they are turned into."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from retarget.errors import InputError
from retarget.logs import LogOptions
from retarget.policy import Policy
from retarget.retargeter import Retargeter

_TIMEOUT = 1.0
"""Seconds for one call: more patient than an ad server, for a person at a terminal."""

Paths: TypeAlias = Annotated[
    list[str],
    typer.Argument(metavar="LOG", help="CSV, Parquet or JSON lines; also gzip and globs.", show_default=False),
]
Maps: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="NAME=SQL",
        help="Where a field or a label comes from: a column or an SQL expression. Repeatable.",
    ),
]
LogZone: TypeAlias = Annotated[
    str, typer.Option("--log-time-zone", metavar="ZONE", help="The zone of times in the log that carry no offset.")
]
Header: TypeAlias = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="Whether a CSV begins with a header row.", show_default="detected"),
]
Columns: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME,NAME", help="Names for a CSV's columns, in order.")
]
Delimiter: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help=r"What separates a CSV's columns; \t is a tab.", show_default="detected"),
]
Quote: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help='The quote character of a CSV; "" turns quoting off.', show_default="double quote"
    ),
]
Constant: TypeAlias = Annotated[
    str | None,
    typer.Option("--campaign", metavar="ID", help="The campaign of every row, for a log without that column."),
]
PolicyFile: TypeAlias = Annotated[Path, typer.Option("--policy", metavar="FILE", help="The policy, a TOML file.")]
Json: TypeAlias = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Also write all results as JSON; - prints the JSON instead of text."),
]
Visitor: TypeAlias = Annotated[str, typer.Argument(metavar="VISITOR", help="The visitor's id.", show_default=False)]
StoreUrl: TypeAlias = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where visitors are remembered: redis://, rediss://, unix://, redis+cluster://, redis+sentinel://.",
    ),
]
Pepper: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--pepper",
        metavar="TEXT",
        envvar="RETARGET_PEPPER",
        help="The pepper that visitor ids are hashed with.",
        show_default=False,
    ),
]
Prefix: TypeAlias = Annotated[str, typer.Option("--prefix", metavar="TEXT", help="The prefix of every key.")]


def retargeter(store: str, prefix: str, pepper: str | None, policy: Policy | None = None) -> Retargeter:
    """A retargeter over a store; to export or forget visitors an empty policy will do. Raises ConfigError."""
    return Retargeter(policy or Policy(), store, timeout=_TIMEOUT, prefix=prefix, pepper=pepper)


def log_options(
    paths: list[str],
    maps: list[str] | None,
    log_time_zone: str,
    header: bool | None,  # noqa: FBT001 - as typer passes it
    columns: str | None,
    delimiter: str | None,
    quote: str | None,
    campaign: str | None,
) -> LogOptions:
    """How to read the log. Raises InputError."""
    mapping: dict[str, str] = {}
    for text in maps or ():
        name, equals, sql = (part.strip() for part in text.partition("="))
        if not (name and equals and sql):
            raise InputError(f"--map {text}: write NAME=COLUMN or NAME=SQL, for example --map visitor=user_id")
        if name in mapping:
            raise InputError(f"--map {text}: {name} is already mapped to {mapping[name]}")
        mapping[name] = sql
    return LogOptions(
        tuple(paths),
        mapping,
        time_zone=log_time_zone,
        header=header,
        delimiter=None if delimiter is None else delimiter.replace("\\t", "\t"),
        quote=quote,
        columns=None if columns is None else tuple(name.strip() for name in columns.split(",")),
        campaign=campaign,
    )
