"""Writes for tests of stores: shorthand for entries, guards and reservations; strategies of programs of writes."""

from __future__ import annotations

from typing import TypeAlias

from hypothesis import strategies as st

from retarget.stores import MemoryStore
from retarget.timelines import (
    SESSIONS,
    Alternative,
    Change,
    Enter,
    Guard,
    Remove,
    State,
    Store,
    Unreserve,
    Write,
    timeline,
)
from tests.support.servers import Server

NOW = 1_794_312_000
HOUR, DAY = 3_600, 86_400
KEY = b"rt:1:v"
DAY_LONG = timeline.head(DAY, shield=False)
SHIELD = timeline.head(DAY, shield=True)


def entry(field: bytes, at: int = NOW, weight: int = 1, keep: int = 16, head: int = DAY_LONG) -> Enter:
    """An entry, with defaults for what does not matter."""
    return Enter(field, at, weight, keep, head)


def guard(
    field: bytes, n: int, since: int, *, wanted: bool = True, more: bool = False, anchored: bool = False
) -> Guard:
    """A guard, with defaults for what does not matter."""
    return Guard(field, n, since, wanted, more, anchored)


def write(
    *entries: Change,
    now: int = NOW,
    guards: tuple[Guard, ...] = (),
    id: bytes = b"",  # noqa: A002
    ttl: int = DAY,
    hold: bytes = b"",
) -> Write:
    """A write of one alternative."""
    return Write(KEY, now, id, (Alternative(guards, entries, ttl),), hold)


def moments(state: State, field: bytes) -> list[int]:
    """What a timeline holds; nothing where there is none."""
    return list(timeline.moments(state[field])) if field in state else []


def fill(store: Store, fields: list[bytes], head: int, at: int = NOW) -> None:
    """Enter one moment in each of the fields, in one write."""
    assert store.write(write(*(entry(field, at, head=head) for field in fields), now=at)) == 1


HELD_HEAD = timeline.head(0, shield=True)
MARK, OTHER = b"H12345", b"H67890"


def reserve(store: Store, end: int, mark: bytes = MARK, *fields: bytes, weight: int = 1, now: int = NOW) -> None:
    """Reserve an impression in these timelines (`ia` if none is given), as the library does."""
    held = [entry(b"h" + field, end, weight, head=HELD_HEAD) for field in fields or (b"ia",)]
    marks = [entry(b"h", end, keep=1, head=HELD_HEAD), entry(mark, end, keep=1, head=HELD_HEAD)]
    assert store.write(write(*held, *marks, now=now, ttl=end - now + 1)) == 1


def take_out(*fields: bytes, weight: int = 1, mark: bytes = MARK, hold: bytes = MARK) -> Write:
    """Undo a hold, its mark last."""
    return write(*(Unreserve(field, weight) for field in (*fields, mark)), hold=hold, ttl=1)


def names(count: int, kind: str = "e") -> list[bytes]:
    """Names of timelines."""
    return [b"%bv %d" % (kind.encode(), n) for n in range(count)]


def kept_for(store: Store, server_or_none: Server | None) -> int:
    """Seconds until the visitor expires."""
    if isinstance(store, MemoryStore):
        return store.ttl(KEY, NOW) or -2
    assert server_or_none is not None
    with server_or_none.client() as client:
        return int(client.ttl(KEY.decode()))


FIELDS = [b"ia", b"ib", b"evisit x", b"*", SESSIONS, b"@", b"i\xc3\xa4", b"i\0\xff"]
HELD = [b"h", b"hia", b"hib", b"h*", b"h^"]
MARKS = [MARK, OTHER]
HORIZONS = [0, 60, HOUR, DAY, 400 * DAY]
TIMES = st.one_of(
    st.sampled_from(
        [NOW, NOW - 60, NOW - 360, NOW - 361, NOW + 300, NOW - DAY, NOW - DAY - 1, NOW + DAY, 0, 0xFFFF_FF00]
    ),
    st.integers(NOW - 500, NOW + 500),
)
HEADS = st.builds(
    lambda seconds, shield: timeline.head(seconds, shield=shield), st.sampled_from(HORIZONS), st.booleans()
)
SOON = st.one_of(st.integers(NOW - 70, NOW + 70), TIMES)
ENTRIES = st.one_of(
    st.builds(Enter, st.sampled_from(FIELDS), TIMES, st.integers(1, 5), st.integers(1, 18), HEADS),
    st.builds(Enter, st.sampled_from([*HELD, *MARKS]), SOON, st.integers(1, 5), st.integers(1, 18), st.just(HELD_HEAD)),
    st.builds(Remove, st.sampled_from([*FIELDS, *HELD, *HELD]), TIMES.filter(bool), st.integers(1, 5)),
    st.builds(Unreserve, st.sampled_from([*FIELDS, *HELD, *HELD]), st.integers(1, 5)),
)
GUARDS = st.builds(
    Guard, st.sampled_from([*FIELDS, *MARKS]), st.integers(0, 6), TIMES, st.booleans(), st.booleans(), st.booleans()
)
IDS = st.one_of(st.just(b""), st.integers(0, 19).map(lambda n: b"%05d" % n))
Step: TypeAlias = tuple[int, bytes, tuple[Alternative, ...], bytes]
"""A write: now, id, alternatives, hold."""


def marks_last(entries: list[Enter | Remove | Unreserve]) -> tuple[Change, ...]:
    """In the library's order: removals come last, and no write makes the mark that it removes by."""
    taken = [each for each in entries if not isinstance(each, Enter)]
    entered = [each for each in entries if isinstance(each, Enter) and not (taken and each.field in MARKS)]
    return (*entered, *taken)


@st.composite
def reservations(draw: st.DrawFn) -> Alternative:
    """A hold as the library makes it."""
    end, mark = draw(st.integers(NOW + 1, NOW + 70)), draw(st.sampled_from(MARKS))
    held = draw(st.lists(st.sampled_from(HELD[1:]), min_size=1, max_size=3, unique=True))
    fields = [*[(field, draw(st.integers(1, 3))) for field in held], (b"h", 1), (mark, 1)]
    entries = tuple(entry(field, end, weight, 16 if field in held else 1, HELD_HEAD) for field, weight in fields)
    return Alternative(tuple(draw(st.lists(GUARDS, max_size=2))), entries, 500 * DAY)


def steps(fewest_entries: int, most: int) -> st.SearchStrategy[list[Step]]:
    """Random writes."""
    alternatives = st.builds(
        Alternative,
        st.lists(GUARDS, max_size=4).map(tuple),
        st.lists(ENTRIES, min_size=fewest_entries, max_size=4, unique_by=lambda e: e.field).map(marks_last),
        st.integers(1, 500 * DAY),
        st.binary(min_size=3, max_size=3),
    )
    choices = st.lists(st.one_of(alternatives, alternatives, reservations()), max_size=3).map(tuple)
    step = st.tuples(st.one_of(TIMES, st.just(NOW)), IDS, choices, st.sampled_from([b"", *MARKS, *MARKS]))
    return st.lists(step, min_size=1, max_size=most)
