"""The options that say how to read a log: the same for every command that takes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from retarget.errors import InputError
from retarget.logs import LogOptions

Paths: TypeAlias = Annotated[
    list[str],
    typer.Argument(metavar="LOG...", help="CSV, Parquet or JSON lines; gzip and globs too.", show_default=False),
]
Maps: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="NAME=SQL",
        help="Where a field or a label is: a column, or an SQL expression over the columns. May be given often.",
    ),
]
LogZone: TypeAlias = Annotated[
    str, typer.Option("--log-time-zone", metavar="ZONE", help="The zone of the log's times that carry no offset.")
]
Header: TypeAlias = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="Whether a CSV begins with its columns' names.", show_default="as found"),
]
Columns: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME,NAME", help="Names for a CSV's columns, in their order.")
]
Delimiter: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TEXT", help=r"What parts a CSV's columns; \t is a tab.", show_default="as found")
]
Quote: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help='What a CSV quotes with; "" turns it off.', show_default="double quote"),
]
Constant: TypeAlias = Annotated[
    str | None, typer.Option("--campaign", metavar="ID", help="The campaign of every row, for a log that has none.")
]
PolicyFile: TypeAlias = Annotated[Path, typer.Option("--policy", metavar="FILE", help="The policy, a TOML file.")]
Json: TypeAlias = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there, too; - writes only them, here.")
]
Visitor: TypeAlias = Annotated[str, typer.Argument(metavar="VISITOR", help="Her id.", show_default=False)]
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
        help="What visitors' ids are hashed with.",
        show_default=False,
    ),
]
Prefix: TypeAlias = Annotated[str, typer.Option("--prefix", metavar="TEXT", help="What every key begins with.")]


def log_options(
    paths: list[str],
    maps: list[str] | None,
    log_time_zone: str,
    header: bool | None,  # noqa: FBT001 - as typer hands it over
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
            raise InputError(f"--map {text}: write NAME=COLUMN or NAME=SQL, such as --map visitor=user_id")
        if name in mapping:
            raise InputError(f"--map {text}: {name} is mapped to {mapping[name]} already")
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
