"""What a visitor weighs on a server: the bytes that Redis 7 allocates for her hash, counted piece by piece.

Rules:
- Every piece is rounded up to what the allocator hands out for it (its size class), as `used_memory` counts it.
- A visitor is the length of her key and the lengths of her fields' names and values: what they say does not matter.
- Sizes are bytes. Where they come from stands beside each: Redis 7.0's sources, and jemalloc's manual.
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
"""`dictEntry` (dict.c): key, value, next. The pointer to it is the table's."""

CLUSTER_ENTRY = 16
"""`clusterDictEntryMetadata` (cluster.h): a cluster's node links the keys of a slot to each other."""

DICT = 56
"""`struct dict` (dict.h)."""

LISTPACK = 7
"""A listpack's header, 6 bytes, and its end, 1 (listpack.c)."""


class Field(NamedTuple):
    """A field of a visitor's hash: the bytes of its name and of its value."""

    name: int
    value: int


class Shape(NamedTuple):
    """A visitor as the server sees her: the bytes of her key, and her fields."""

    key: int
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a server lays out what it keeps.

    `quantum`: small allocations come in steps of so many bytes. 16 is the jemalloc of Debian and of other
    distributions; Redis' own, which official builds and images have, is built with 8.
    `entries`, `value`: hash-max-listpack-entries and hash-max-listpack-value; 512 and 64 unless set otherwise.
    `cluster`: whether the server is a cluster's node.
    """

    quantum: int = 16
    entries: int = 512
    value: int = 64
    cluster: bool = False

    def visitor(self, shape: Shape) -> int:
        """All that belongs to this visitor alone: her part of the server's two tables comes from `tables`."""
        entry = self.allocated(DICT_ENTRY + CLUSTER_ENTRY * self.cluster)
        expiry = self.allocated(DICT_ENTRY)
        return entry + expiry + self.text(shape.key) + self.allocated(OBJECT) + self.hash(shape.fields)

    def hash(self, fields: Iterable[Field]) -> int:
        """The fields: one listpack, or a table of them where there are too many or one is too long."""
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
        """A string of its own (sds.c): a header of 1, 3 or 5 bytes, and a zero behind it."""
        header = 1 if length < 32 else 3 if length < 256 else 5
        return self.allocated(header + length + 1)

    def allocated(self, size: int) -> int:
        """What jemalloc hands out for so many bytes (jemalloc(3), size classes): steps of a quantum at first, then
        four steps to each doubling.
        """
        if size <= 8:
            return 8
        step = max(self.quantum, 1 << max(0, (size - 1).bit_length() - 3))
        return -(-size // step) * step


def packed(field: Field) -> int:
    """The name and the value in a listpack."""
    return sum(map(_entry, field))


def _entry(length: int) -> int:
    """A text in a listpack (listpack.c): its length in 1, 2 or 5 bytes, itself, and the way back to its beginning."""
    size = length + (1 if length < 64 else 2 if length < 4_096 else 5)
    return size + (1 if size < 128 else 2 if size < 16_384 else 3)


def slots(count: int) -> int:
    """The slots of a table of so many: the next power of two, 4 at least (_dictNextExp, dict.c)."""
    return 1 << max(2, (count - 1).bit_length())


class Tables(NamedTuple):
    """The two tables of a server, keys and times to live: bytes at so many visitors, and at worst.

    A table doubles when it is full, so it has one to two slots for each visitor; while it moves to the larger one, both
    are there: three slots. `least` and `most` are those bounds for any number of visitors near this one.
    """

    now: int
    least: int
    most: int
    moving: int


def tables(visitors: int) -> Tables:
    """The tables of a server with so many visitors."""
    slot = 2 * POINTER
    return Tables(slot * slots(visitors), slot * visitors, 2 * slot * visitors, 3 * slot * visitors)
