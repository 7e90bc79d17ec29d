"""parcels.py: what goes into a parcel, and the writes that move it."""

from __future__ import annotations

import pytest

from retarget import MemoryStore, Policy, StoreError
from retarget.calls.parcels import Parcel, announce, deliver, next_timelines, note, noted, remove, withdraw
from retarget.engine import Plan
from retarget.timelines import DENIED, FULL, HEAD, MOST_TIMELINES, Write, timeline
from tests.support.merges import DAY, NOW

PLAN = Plan(Policy.from_text('[campaign.a]\ncaps = ["300 per day"]'))
ACTIVE = Plan(Policy.from_text('[campaign.a]\ncaps = ["3 per session"]'))
SHOWN = [NOW - 20, NOW - 10, NOW - 10]


def packed(*moments: int, horizon: int = DAY, shield: bool = True) -> bytes:
    """A timeline with these moments."""
    return timeline.head(horizon, shield=shield).to_bytes(2) + b"".join(at.to_bytes(4) for at in moments)


def parcel(*moments: int, number: int = 7) -> Parcel:
    """A parcel of impressions from s to t."""
    return Parcel(b"s", b"t", number, NOW, {b"ia": packed(*moments or SHOWN)})


def store_of(**visitors: dict[bytes, bytes]) -> MemoryStore:
    """A store that holds this."""
    store = MemoryStore()
    for key, state in visitors.items():
        store._visitors[key.encode()] = state
        store._until[key.encode()] = NOW + DAY
    return store


def moments_of(store: MemoryStore, key: bytes, field: bytes = b"ia") -> list[int]:
    """The moments of a timeline."""
    raw = store.read(key).get(field)
    return list(timeline.moments(raw)) if raw else []


def send(store: MemoryStore, *writes: Write) -> list[int | bytes]:
    """What the store answers."""
    return [store.write(write) for write in writes]


# -- the four writes ---------------------------------------------------------------------------------------------------


def test_the_four_writes_move_it() -> None:
    """Announced, noted, delivered, removed: at the target everything, and at the source nothing, not even a note."""
    store = store_of(s={b"ia": packed(*SHOWN)})
    one, state = parcel(), store.read(b"s")
    assert send(store, announce(one, NOW), note(one, state, NOW)) == [1, 1]
    assert noted(b"s", store.read(b"s")) == one
    assert (moments_of(store, b"s"), moments_of(store, b"t")) == (SHOWN, [])
    assert send(store, deliver(PLAN, one, NOW)) == [1]
    assert (moments_of(store, b"s"), moments_of(store, b"t")) == (SHOWN, SHOWN)
    assert send(store, remove(one, NOW)) == [1]
    assert (dict(store.read(b"s")), dict(store.read(b"t"))) == ({}, {b"ia": packed(*SHOWN)})


def test_it_is_delivered_once() -> None:
    """Repeated, or a day later: denied. It was due once."""
    store = store_of(s={b"ia": packed(*SHOWN)})
    one = parcel()
    assert send(store, announce(one, NOW), note(one, store.read(b"s"), NOW), deliver(PLAN, one, NOW)) == [1, 1, 1]
    for now in (NOW, NOW + 300, NOW + 2 * DAY, NOW + 400 * DAY):
        assert send(store, deliver(PLAN, one, now)) == [DENIED]
    assert moments_of(store, b"t") == SHOWN


def test_what_is_noted_and_announced_is_not_evicted() -> None:
    """Nothing of a parcel makes room for others, even if what is in it may: half of one would be delivered twice."""
    interest = packed(*SHOWN, shield=False)
    store = store_of(s={b"ia": interest})
    one = Parcel(b"s", b"t", 7, NOW, {b"ia": interest})
    send(store, announce(one, NOW), note(one, store.read(b"s"), NOW))
    shields = {field for key in (b"s", b"t") for field, raw in store.read(key).items() if timeline.is_shield(raw)}
    assert shields == {b"M", b"M>t", b"Mia", one.due}
    send(store, deliver(Plan(Policy.from_text("")), one, NOW))
    assert store.read(b"t") == {b"ia": interest}


def test_it_is_due_as_long_as_anything_in_it_matters() -> None:
    """Found by somebody who comes late, with a clock that is 300 seconds behind, and whatever else was written."""
    store = store_of(s={b"ia": packed(*SHOWN, horizon=30 * DAY)})
    one = Parcel(b"s", b"t", 7, NOW, {b"ia": packed(*SHOWN, horizon=30 * DAY)})
    send(store, announce(one, NOW), note(one, store.read(b"s"), NOW))
    late = NOW - 10 + 30 * DAY
    assert timeline.is_live(store.read(b"t")[one.due], late + 300)
    store.expire(late + 300)
    assert moments_of(store, b"s")
    store.write(Write(b"t", late + 300, b"", deliver(PLAN, parcel(late, number=9), late).alternatives))
    assert send(store, deliver(PLAN, one, late)) == [1]


def test_one_that_was_withdrawn_is_not_delivered() -> None:
    """It is no longer due; withdrawing it again changes nothing."""
    store = store_of(s={b"ia": packed(*SHOWN)})
    one = parcel()
    send(store, announce(one, NOW), note(one, store.read(b"s"), NOW), withdraw(one, NOW), withdraw(one, NOW))
    assert send(store, deliver(PLAN, one, NOW)) == [DENIED]
    assert dict(store.read(b"t")) == {}


def test_one_parcel_is_noted_at_a_time() -> None:
    """The second is denied until the first was removed; removing another number changes nothing."""
    store = store_of(s={b"ia": packed(*SHOWN)})
    first, second, state = parcel(), parcel(number=8), store.read(b"s")
    assert send(store, note(first, state, NOW), note(second, state, NOW)) == [1, DENIED]
    assert send(store, remove(second, NOW), remove(parcel(number=6), NOW)) == [DENIED, DENIED]
    assert noted(b"s", store.read(b"s")) == first


@pytest.mark.parametrize(
    "meanwhile",
    [[NOW - 20, NOW - 10], [NOW - 20, NOW - 10, NOW - 10, NOW - 10], [*SHOWN, NOW], SHOWN[1:], [*SHOWN[:2], NOW - 9]],
)
def test_what_is_no_longer_there_is_not_noted(meanwhile: list[int]) -> None:
    """One entry less, one more, another: the note is denied."""
    store = store_of(s={b"ia": packed(*meanwhile)})
    assert send(store, note(parcel(), {b"ia": packed(*SHOWN)}, NOW)) == [DENIED]


def test_older_entries_do_not_matter_to_a_note() -> None:
    """A parcel takes the newest of a long timeline; what is older may come and go."""
    store = store_of(s={b"ia": packed(NOW - 30, *SHOWN)})
    assert send(store, note(parcel(), {b"ia": packed(*SHOWN)}, NOW)) == [1]


def test_removing_leaves_what_came_meanwhile() -> None:
    """In the same second, too."""
    store = store_of(s={b"ia": packed(*SHOWN)})
    one = parcel()
    send(store, note(one, store.read(b"s"), NOW))
    store._visitors[b"s"][b"ia"] = packed(*SHOWN, NOW - 10, NOW)
    send(store, remove(one, NOW))
    assert moments_of(store, b"s") == [NOW - 10, NOW]


def test_a_full_target_is_told_apart() -> None:
    """Neither announced nor delivered, and still due."""
    full = {b"i%d" % number: packed(NOW) for number in range(MOST_TIMELINES)}
    store = store_of(s={b"ia": packed(*SHOWN)}, t=full)
    assert send(store, announce(parcel(), NOW)) == [FULL]
    del full[b"i7"]
    assert send(store, announce(parcel(), NOW), deliver(PLAN, parcel(), NOW)) == [1, FULL]
    del full[b"i8"]
    assert b"D" + (7).to_bytes(4) in store.read(b"t")


# -- what is in it -----------------------------------------------------------------------------------------------------


def test_the_newest_entries_of_a_long_timeline() -> None:
    """A hundred of one timeline, and a thousand in all; it says that it is not everything."""
    moments = list(range(NOW - 300, NOW))
    taken, is_all = next_timelines(PLAN, {b"ia": packed(*moments)}, {}, NOW)
    assert (taken, is_all) == ({b"ia": packed(*moments[-100:])}, False)
    state = {b"i%d" % number: packed(*moments[:100]) for number in range(100)}
    taken, is_all = next_timelines(PLAN, state, {}, NOW)
    assert (len(taken), is_all) == (10, False)
    taken, is_all = next_timelines(PLAN, {b"ia": packed(*moments[:100])}, {}, NOW)
    assert (len(taken), is_all) == (1, True)


def test_only_as_many_timelines_as_there_is_room_for() -> None:
    """The note takes as many fields as the parcel has, and the source must not become full by it."""
    state = {b"i%d" % number: packed(NOW) for number in range(MOST_TIMELINES - 10)}
    taken, is_all = next_timelines(PLAN, state, {}, NOW)
    assert (len(taken), is_all) == (7, False)
    state |= {b"j%d" % number: packed(NOW) for number in range(20)}
    assert len(next_timelines(PLAN, state, {}, NOW)[0]) == 1


def test_what_stays_with_the_source() -> None:
    """Event ids, marks and records of reservations, the end of the last one, marks of claims, parcels due, the dead."""
    mark = b"12345"
    state = {
        b"#0": b"ids",
        b"#h" + mark + b"\0\0": b"record",
        b"H" + mark: packed(NOW + 60, horizon=0),
        b"h": packed(NOW + 60, horizon=0),
        b"d" + mark: packed(NOW, horizon=0),
        b"D1234": packed(NOW),
        b"ia": packed(NOW - 2 * DAY),
        b"hia": packed(NOW, horizon=0),
    }
    assert next_timelines(PLAN, state, {}, NOW) == ({}, True)
    state[b"hia"] = packed(NOW - 5, NOW, NOW + 60, horizon=0)
    assert next_timelines(PLAN, state, {}, NOW) == ({b"hia": packed(NOW + 60, horizon=0)}, True)


def test_activity_that_the_target_is_not_known_to_have_had() -> None:
    """Whole intervals, as far as they are not covered; none if no rule asks about sessions."""
    own = packed(NOW - 30_000, NOW - 29_000, NOW - 20_000, NOW - 19_000, NOW - 10, NOW)
    assert next_timelines(PLAN, {b"@": own}, {}, NOW) == ({}, True)
    assert next_timelines(ACTIVE, {b"@": own}, {}, NOW) == ({b"@": own}, True)
    known = packed(NOW - 30_000, NOW - 28_000, NOW - 20_000, NOW - 19_500)
    assert next_timelines(ACTIVE, {b"@": own}, {b"@": known}, NOW) == ({b"@": own[:HEAD] + own[-16:]}, True)
    assert next_timelines(ACTIVE, {b"@": own}, {b"@": own}, NOW) == ({}, True)
    assert next_timelines(ACTIVE, {b"@": packed(NOW - 3 * DAY, NOW - 2 * DAY)}, {}, NOW) == ({}, True)


def test_a_limited_number_of_intervals() -> None:
    """The latest fifty; it says that it is not everything."""
    often = Plan(Policy.from_text('session = "1 minute"\n[campaign.a]\ncaps = ["3 per session"]'))
    moments = [at for number in range(200, 0, -1) for at in [NOW - 100 * number] * 2]
    taken, is_all = next_timelines(often, {b"@": packed(*moments)}, {}, NOW)
    assert (taken, is_all) == ({b"@": packed(*moments[-100:])}, False)
    taken, is_all = next_timelines(often, {b"@": packed(*moments)}, {b"@": packed(*moments[:302])}, NOW)
    assert (taken, is_all) == ({b"@": packed(*moments[302:])}, True)


# -- notes -------------------------------------------------------------------------------------------------------------


def test_nothing_is_noted() -> None:
    """There is no parcel where there is no number."""
    assert noted(b"s", {}) is None
    assert noted(b"s", {b"ia": packed(NOW)}) is None


@pytest.mark.parametrize(
    "state",
    [
        {b"M": b"x"},
        {b"M": packed(7)},
        {b"M": packed(7), b"M>t": packed(NOW), b"M>u": packed(NOW)},
        {b"M": packed(7), b"M>t": b""},
        {b"M": packed(7), b"M>t": packed(NOW), b"Mia": b"seven.."},
    ],
)
def test_a_corrupt_note(state: dict[bytes, bytes]) -> None:
    """A StoreError, never a guess where it might go."""
    with pytest.raises(StoreError, match="corrupt"):
        noted(b"s", state)
