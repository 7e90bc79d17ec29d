"""A log, read: CSV, Parquet and JSON lines through DuckDB, and its rows by kind.

Imports timelines only; DuckDB is imported when a log is opened.
"""

from retarget.logs.kinds import UNIT, Kind, Numbered, Share
from retarget.logs.log import BATCH, Log, LogOptions

__all__ = ["BATCH", "UNIT", "Kind", "Log", "LogOptions", "Numbered", "Share"]
