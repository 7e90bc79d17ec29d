"""Writes for tests of stores: shorthand for entries, guards and reservations; strategies of programs of writes."""

from __future__ import annotations

from typing import TypeAlias

from hypothesis import strategies as st

from retarget.stores import MemoryStore
from retarget.timelines import (
    ACTIVITY,
    HELD,
    HOLD,
    LAST_MOMENT,
    Alternative,
    Anchor,
    Change,
    Clear,
    Cover,
    Enter,
    Guard,
    Remove,
    Reserve,
    Reserved,
    Settle,
    State,
    Store,
    Write,
    keys,
    timeline,
)
from tests.support.servers import Server

NOW = 1_794_312_000
HOUR, DAY = 3_600, 86_400
KEY = keys.key("rt:", "v")
DAY_LONG = timeline.head(DAY, shield=False)
SHIELD = timeline.head(DAY, shield=True)


def entry(field: bytes, at: int = NOW, weight: int = 1, keep: int = 16, head: int = DAY_LONG) -> Enter:
    """An entry, with defaults for what does not matter."""
    return Enter(field, at, weight, keep, head)


def guard(
    field: bytes, n: int, since: int, *, wanted: bool = True, more: bool = False, anchor: Anchor | None = None
) -> Guard:
    """A guard, with defaults for what does not matter."""
    return Guard(field, n, since, wanted, more, anchor)


def cover(first: int, last: int | None = None, pause: int = 60, keep: int = 100, field: bytes = ACTIVITY) -> Cover:
    """An interval of activity of the last day."""
    return Cover(field, first, first if last is None else last, pause, keep, timeline.head(DAY + pause, shield=True))


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
HOLD_ID, OTHER_ID = b"12345", b"67890"
MARK, OTHER = HOLD + HOLD_ID, HOLD + OTHER_ID


def place(field: bytes, weight: int = 1, keep: int = 16, head: int = SHIELD) -> Reserved:
    """A place of a reservation, with defaults for what does not matter."""
    return Reserved(field, weight, keep, head)


def reserving(
    end: int, *fields: bytes, hold: bytes = HOLD_ID, weight: int = 1, now: int = NOW, head: int = SHIELD
) -> Write:
    """Reserve an impression in these timelines (`ia` if none is given), as the library does."""
    places = tuple(place(field, weight, head=head) for field in fields or (b"ia",))
    return write(Reserve(end, places), now=now, ttl=max(1, end - now + 1), hold=hold)


def reserve(
    store: Store,
    end: int,
    *fields: bytes,
    hold: bytes = HOLD_ID,
    weight: int = 1,
    now: int = NOW,
    head: int = SHIELD,
) -> None:
    """`reserving`, done."""
    assert store.write(reserving(end, *fields, hold=hold, weight=weight, now=now, head=head)) == 1


def settle(at: int | None = None, hold: bytes = HOLD_ID, now: int = NOW) -> Write:
    """Release a hold or, with `at`, count it."""
    return write(Settle(at), hold=hold, ttl=1, now=now)


def recorded(state: State) -> int:
    """How many fields of holds' records there are."""
    return sum(field.startswith(b"#h") for field in state)


def plant(store: Store, server_or_none: Server | None, fields: dict[bytes, bytes]) -> None:
    """Put these fields there as they are, past the store: what no store writes."""
    if isinstance(store, MemoryStore):
        store._visitors[KEY] = {**store.read(KEY), **fields}
    else:
        assert server_or_none is not None
        with server_or_none.client() as client:
            client.hset(KEY, mapping=dict(fields))


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


FIELDS = [b"ia", b"ib", b"evisit x", b"*", b"lchannel:email", b"i\xc3\xa4", b"i\0\xff"]
DELIVERIES = [b"D\0\0\0\1", b"D\0\0\0\2"]
PLACES = [b"ia", b"ib", b"*", ACTIVITY, b"i" + b"z" * 50]
HOLDS = [HOLD_ID, OTHER_ID]
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
ANCHORS = st.one_of(
    st.none(),
    st.builds(Anchor, st.sampled_from([*FIELDS, ACTIVITY]), st.integers(1, 3), st.integers(0, 1)),
)
GUARDS = st.builds(
    Guard,
    st.sampled_from([*FIELDS, MARK, OTHER, ACTIVITY]),
    st.integers(0, 6),
    TIMES,
    st.booleans(),
    st.booleans(),
    ANCHORS,
)
WEIGHTS, KEEPS = st.integers(1, 5), st.integers(1, 18)
COVERS = st.builds(
    lambda at, longer, pause, keep, horizon: Cover(
        ACTIVITY, at, min(at + longer, LAST_MOMENT), pause, 2 * keep, timeline.head(horizon, shield=True)
    ),
    TIMES,
    st.sampled_from([0, 0, 0, 30, 3_000]),
    st.sampled_from([30, 30, 30, 60]),
    st.sampled_from([1, 2, 100]),
    st.sampled_from([DAY, DAY, HOUR]),
)
RESERVES = st.builds(
    Reserve,
    st.one_of(st.integers(NOW - 601, NOW + 70), TIMES),
    st.lists(
        st.builds(Reserved, st.sampled_from(PLACES), WEIGHTS, st.sampled_from([0, 1, 3, 16]), HEADS), max_size=6
    ).map(tuple),
)
CHANGES = st.one_of(
    st.builds(Enter, st.sampled_from(FIELDS), TIMES, WEIGHTS, KEEPS, HEADS),
    st.builds(Enter, st.sampled_from(DELIVERIES), TIMES, st.just(1), st.just(1), st.just(SHIELD)),
    st.builds(Remove, st.sampled_from([*FIELDS, *(HELD + field for field in PLACES)]), TIMES, WEIGHTS),
    COVERS,
    COVERS,
    RESERVES,
    st.builds(Settle, st.one_of(st.none(), TIMES)),
    st.just(Clear()),
)
IDS = st.one_of(st.just(b""), st.integers(0, 19).map(lambda n: b"%05d" % n))
Step: TypeAlias = tuple[int, bytes, tuple[Alternative, ...], bytes]
"""A write: now, id, alternatives, hold."""


def steps(most: int, changes: st.SearchStrategy[Change] = CHANGES) -> st.SearchStrategy[list[Step]]:
    """Random writes, by callers whose clocks differ, over days."""
    alternatives = st.builds(
        Alternative,
        st.lists(GUARDS, max_size=4).map(tuple),
        st.lists(changes, max_size=4).map(tuple),
        st.integers(1, 500 * DAY),
        st.binary(min_size=5, max_size=5),
    )
    open_ = st.builds(
        Alternative, st.just(()), st.lists(changes, min_size=1, max_size=4).map(tuple), st.sampled_from([1, DAY])
    )
    choices = st.lists(st.one_of(alternatives, open_), max_size=3).map(tuple)
    now = st.one_of(TIMES, st.integers(NOW - 300, NOW + 300), st.just(NOW))
    step = st.tuples(now, IDS, choices, st.sampled_from([b"", *HOLDS, *HOLDS])).map(named)
    return st.lists(step, min_size=1, max_size=most)


def named(step: Step) -> Step:
    """A write that reserves or settles names its hold."""
    now, id_, choices, hold = step
    refers = any(isinstance(change, Reserve | Settle) for choice in choices for change in choice.changes)
    return now, id_, choices, hold or (HOLD_ID if refers else b"")
