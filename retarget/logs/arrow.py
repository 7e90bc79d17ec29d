"""Columns of numbers from DuckDB as arrays, read in place through Arrow's C stream interface.

Rules:
- Rows as Python tuples take ten times as long to fetch. DuckDB's other exports of columns need numpy or pyarrow.
- The structures are those of the Arrow C stream and data interfaces, which are fixed: https://arrow.apache.org/docs/format
- Only what is needed here is read: numbers of four or eight bytes without nulls.
- What is borrowed is copied at once and released.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterator
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p, cast, py_object, string_at
from typing import TYPE_CHECKING, Any

from retarget.errors import LogError

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation


class _Array(Structure):
    pass


_Array._fields_ = [
    ("length", c_int64),
    ("null_count", c_int64),
    ("offset", c_int64),
    ("n_buffers", c_int64),
    ("n_children", c_int64),
    ("buffers", POINTER(c_void_p)),
    ("children", POINTER(POINTER(_Array))),
    ("dictionary", c_void_p),
    ("release", CFUNCTYPE(None, POINTER(_Array))),
    ("private_data", c_void_p),
]


class _Stream(Structure):
    _fields_ = (
        ("get_schema", c_void_p),
        ("get_next", CFUNCTYPE(c_int, c_void_p, POINTER(_Array))),
        ("get_last_error", CFUNCTYPE(c_char_p, c_void_p)),
        ("release", c_void_p),
        ("private_data", c_void_p),
    )


_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.argtypes, _pointer_of.restype = [py_object, c_char_p], c_void_p


def batches(result: DuckDBPyRelation, codes: str) -> Iterator[list[array[Any]]]:
    """The columns of a result, some rows at a time. `codes` are their types, as type codes of `array`.

    Raises duckdb.Error or LogError if the query fails on a row.
    """
    capsule = result.__arrow_c_stream__()  # it owns the stream
    pointer = _pointer_of(capsule, b"arrow_array_stream")
    stream = cast(pointer, POINTER(_Stream)).contents
    while True:
        batch = _Array()
        if stream.get_next(pointer, byref(batch)):
            message = stream.get_last_error(pointer).decode(errors="replace")
            raise LogError(f"reading the log failed: {message.partition(chr(10))[0]}")
        if not batch.release:
            return
        try:
            yield [_copied(batch.children[place].contents, code) for place, code in enumerate(codes)]
        finally:
            batch.release(byref(batch))


def _copied(column: _Array, code: str) -> array[Any]:
    copy = array(code)
    begin = column.buffers[1] + column.offset * copy.itemsize
    copy.frombytes(string_at(begin, column.length * copy.itemsize))
    return copy
