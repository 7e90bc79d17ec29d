"""redis_memory.py: size classes, listpacks, tables."""

from __future__ import annotations

import pytest

from retarget.operate.redis_memory import Field, Layout, Shape, packed, slots, tables


@pytest.mark.parametrize(
    ("size", "sixteen", "eight"),
    [(1, 8, 8), (9, 16, 16), (17, 32, 24), (33, 48, 40), (100, 112, 112), (129, 160, 160), (4_097, 5_120, 5_120)],
)
def test_size_classes_are_those_of_jemalloc(size: int, sixteen: int, eight: int) -> None:
    """Some rows of the table in jemalloc(3), for both quanta."""
    assert (Layout().allocated(size), Layout(quantum=8).allocated(size)) == (sixteen, eight)


def test_a_timeline_beyond_64_bytes_makes_a_table_of_the_hash() -> None:
    """15 entries fit into a listpack, 16 do not, unless the server allows longer values."""
    fields = tuple(Field(13, 62) for _ in range(4))
    longer = (*fields[:3], Field(13, 66))
    assert Layout().is_small(fields)
    assert not Layout().is_small(longer)
    assert Layout(value=128).is_small(longer)
    assert Layout().hash(longer) > 1.5 * Layout(value=128).hash(longer)
    assert not Layout().is_small([Field(3, 6)] * 513)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 4), (4, 4), (5, 8), (1_048_576, 1_048_576), (1_048_577, 2_097_152)]
)
def test_tables_double(count: int, expected: int) -> None:
    """A table has one to two slots per entry, a power of two."""
    assert slots(count) == expected
    found = tables(count)
    assert count < 5 or found.least <= found.now <= found.most < found.rehashing


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (Shape(13, (Field(3, 10),) * 4), 176),
        (Shape(13, (Field(3, 6),)), 128),
        (Shape(13, (Field(4, 6),) * 20), 416),
        (Shape(13, (Field(14, 6),) * 100), 2_656),
        (Shape(41, (Field(37, 10),) * 4), 352),
        (Shape(13, (*(Field(3, 10),) * 4, *(Field(2, 64),) * 2)), 320),
        (Shape(13, (Field(3, 66), *(Field(3, 10),) * 3)), 480),
    ],
)
def test_a_visitor_takes_what_was_measured(shape: Shape, size: int) -> None:
    """Bytes as measured on Redis 7.0.15 with a million visitors (plan-capacity.md), without the tables."""
    assert Layout().visitor(shape) == size
    assert Layout(cluster=True).visitor(shape) == size + 16


@pytest.mark.parametrize(("length", "header"), [(31, 1), (32, 3), (255, 3), (256, 5)])
def test_longer_strings_have_longer_headers(length: int, header: int) -> None:
    """As in sds.c: 1, 3 or 5 bytes, and a zero byte at the end."""
    assert Layout().text(length) == Layout().allocated(header + length + 1)


@pytest.mark.parametrize(
    ("field", "size"),
    [(Field(3, 10), 17), (Field(63, 64), 65 + 67), (Field(70, 4_095), 73 + 4_099), (Field(1, 20_000), 3 + 20_008)],
)
def test_longer_listpack_entries_have_longer_headers(field: Field, size: int) -> None:
    """As in listpack.c: 1, 2 or 5 bytes before the text, and 1, 2 or 3 after it."""
    assert packed(field) == size
