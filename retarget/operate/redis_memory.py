"""Memory of one visitor on a server: the bytes that Redis 7 allocates for the visitor's hash, piece by piece.

Rules:
- Every piece is rounded up to the allocator's size class, as `used_memory` counts it.
- A visitor is a key length and the lengths of field names and values; contents do not matter.
- Sizes are bytes. The source is named beside each: Redis 7.0's code, or jemalloc's manual.
- No redis and no clock: `python -m benchmarks.capacity` and the tests compare this with real servers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

POINTER = 8
OBJECT = 16
"""`robj` (server.h): type, encoding, LRU bits, reference count, pointer."""

DICT_ENTRY = 24
"""`dictEntry` (dict.c): key, value, next. The pointer to it belongs to the table."""

CLUSTER_ENTRY = 16
"""`clusterDictEntryMetadata` (cluster.h): a cluster's node links the keys of each slot."""

DICT = 56
"""`struct dict` (dict.h)."""

LISTPACK = 7
"""A listpack's header, 6 bytes, and its end, 1 (listpack.c)."""


class Field(NamedTuple):
    """A field of a visitor's hash: the bytes of its name and of its value."""

    name: int
    value: int


class Shape(NamedTuple):
    """A visitor as the server stores them: the bytes of the key, and the fields."""

    key: int
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a server lays out its data in memory.

    `quantum`: small allocations are multiples of this many bytes: 16 with the jemalloc of Debian and other
    distributions, 8 with Redis' own, which official builds and images use.
    `entries`, `value`: hash-max-listpack-entries and hash-max-listpack-value; 512 and 64 by default.
    `cluster`: whether the server is a cluster's node.
    """

    quantum: int = 16
    entries: int = 512
    value: int = 64
    cluster: bool = False

    def visitor(self, shape: Shape) -> int:
        """Bytes of this visitor alone, without the share of the server's two tables (see `tables`)."""
        entry = self.allocated(DICT_ENTRY + CLUSTER_ENTRY * self.cluster)
        expiry = self.allocated(DICT_ENTRY)
        return entry + expiry + self.text(shape.key) + self.allocated(OBJECT) + self.hash(shape.fields)

    def hash(self, fields: Iterable[Field]) -> int:
        """Bytes of the fields: one listpack, or a table if there are too many or one is too long."""
        fields = tuple(fields)
        if self.is_small(fields):
            return self.allocated(LISTPACK + sum(map(packed, fields)))
        each = sum(self.allocated(DICT_ENTRY) + self.text(name) + self.text(value) for name, value in fields)
        return self.allocated(DICT) + self.allocated(POINTER * slots(len(fields))) + each

    def is_small(self, fields: Iterable[Field]) -> bool:
        """Whether the hash is a listpack (hashTypeTryConversion, t_hash.c)."""
        fields = tuple(fields)
        return len(fields) <= self.entries and max(map(max, fields), default=0) <= self.value

    def text(self, length: int) -> int:
        """Bytes of a separate string (sds.c): a header of 1, 3 or 5 bytes, the text, and a zero byte."""
        header = 1 if length < 32 else 3 if length < 256 else 5
        return self.allocated(header + length + 1)

    def allocated(self, size: int) -> int:
        """Bytes that jemalloc allocates for `size` bytes (jemalloc(3), size classes): multiples of the quantum at
        first, then four classes to each doubling.
        """
        if size <= 8:
            return 8
        step = max(self.quantum, 1 << max(0, (size - 1).bit_length() - 3))
        return -(-size // step) * step


def packed(field: Field) -> int:
    """Bytes of the name and the value in a listpack."""
    return sum(map(_entry, field))


def _entry(length: int) -> int:
    """Bytes of a listpack entry (listpack.c): the length in 1, 2 or 5 bytes, the text, and the back length."""
    size = length + (1 if length < 64 else 2 if length < 4_096 else 5)
    return size + (1 if size < 128 else 2 if size < 16_384 else 3)


def slots(count: int) -> int:
    """The slots of a table of `count` entries: the next power of two, at least 4 (_dictNextExp, dict.c)."""
    return 1 << max(2, (count - 1).bit_length())


class Tables(NamedTuple):
    """Bytes of a server's two tables, of keys and of TTLs, for a number of visitors.

    A table doubles when it is full, so it has one to two slots per visitor; `least` and `most` are these bounds. While
    it rehashes, the old and the new table coexist: three slots per visitor, `rehashing`. `now` is for exactly that
    number of visitors.
    """

    now: int
    least: int
    most: int
    rehashing: int


def tables(visitors: int) -> Tables:
    """The tables of a server with `visitors` keys."""
    slot = 2 * POINTER
    return Tables(slot * slots(visitors), slot * visitors, 2 * slot * visitors, 3 * slot * visitors)
