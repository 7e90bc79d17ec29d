"""Reading a log: CSV, Parquet and JSON lines through DuckDB, and its rows by kind.

Imports timelines only; DuckDB is imported when a log is opened.
"""

from retarget.logs.kinds import UNIT, Chunk, Kind, LogKinds
from retarget.logs.log import BATCH, FIELDS, Log, LogOptions

__all__ = ["BATCH", "FIELDS", "UNIT", "Chunk", "Kind", "Log", "LogKinds", "LogOptions"]
