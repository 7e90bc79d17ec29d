"""The contract of a store on each of them: reading, guards, entries, many at once."""

from __future__ import annotations

import pytest

from retarget.errors import StoreError
from retarget.timelines import (
    DENIED,
    LATE,
    NO_OUTCOME,
    SLACK,
    Alternative,
    Anchor,
    Clear,
    Guard,
    Remove,
    Store,
    Write,
    timeline,
)
from tests.support.servers import Server
from tests.support.writes import (
    DAY,
    DAY_LONG,
    KEY,
    NOW,
    SHIELD,
    entry,
    guard,
    moments,
    plant,
    reserve,
    write,
)


def test_a_visitor_not_known_has_no_timelines(store: Store) -> None:
    """Reading what is not there gives nothing and makes nothing."""
    assert dict(store.read(KEY)) == {}
    assert store.delete(KEY) is False


def test_what_is_written_is_read_as_packed(store: Store) -> None:
    """A timeline is a head of two bytes and its moments, whatever the store."""
    assert store.write(write(entry(b"ia"))) == 1
    assert dict(store.read(KEY)) == {b"ia": DAY_LONG.to_bytes(2) + NOW.to_bytes(4)}


def test_a_deleted_visitor_is_gone_whole(store: Store) -> None:
    """Timelines and ids go; a second delete finds nothing."""
    store.write(write(entry(b"ia"), id=b"12345"))
    assert store.delete(KEY) is True
    assert store.delete(KEY) is False
    assert dict(store.read(KEY)) == {}
    assert store.write(write(entry(b"ia"), id=b"12345")) == 1


def test_a_state_read_does_not_change_later(store: Store) -> None:
    """What was read is a snapshot: a write afterwards does not reach into it."""
    store.write(write(entry(b"ia")))
    before = store.read(KEY)
    store.write(write(entry(b"ia"), entry(b"ib")))
    assert moments(before, b"ia") == [NOW]
    assert b"ib" not in before


def test_the_first_alternative_whose_guards_hold_is_applied_alone(store: Store) -> None:
    """Of three, the second fits: its number is the answer, and neither the first nor the third leaves a trace."""
    seen = guard(b"ia", 1, 0)
    choices = (
        Alternative((seen,), (entry(b"i1"),), DAY),
        Alternative((), (entry(b"i2"), entry(b"i")), DAY),
        Alternative((), (entry(b"i3"),), DAY),
    )
    assert store.write(Write(KEY, NOW, b"", choices)) == 2
    assert set(store.read(KEY)) == {b"i2", b"i"}


def test_where_no_alternative_fits_nothing_is_changed(store: Store) -> None:
    """Denied: no timeline, no id, no visitor."""
    denied = (Alternative((guard(b"ia", 1, 0),), (entry(b"ia"),), DAY),) * 3
    assert store.write(Write(KEY, NOW, b"12345", denied)) == DENIED
    assert dict(store.read(KEY)) == {}
    assert store.write(write(entry(b"ia"), id=b"12345")) == 1


def test_a_write_without_alternatives_is_denied(store: Store) -> None:
    """A claim of no candidates still asks whether its id is known."""
    assert store.write(Write(KEY, NOW, b"12345", ())) == DENIED
    store.write(write(entry(b"ia"), id=b"12345"))
    assert store.write(Write(KEY, NOW, b"12345", ())) == NO_OUTCOME


@pytest.mark.parametrize(
    ("n", "since", "is_true"),
    [
        (1, NOW, True),
        (1, NOW + 1, False),
        (2, NOW - 10, True),
        (2, NOW - 9, False),
        (3, NOW - 20, True),
        (3, 0, True),
        (4, 0, False),
        (65_535, 0, False),
        (0, 0xFFFF_FFFF, True),
    ],
)
@pytest.mark.parametrize("wanted", [True, False])
def test_the_one_question(store: Store, n: int, since: int, *, is_true: bool, wanted: bool) -> None:
    """Is the n-th newest of three entries at or after a moment? n = 0 always is. A guard may want either answer."""
    for age in (20, 10, 0):
        store.write(write(entry(b"ia", NOW - age)))
    answer = store.write(write(entry(b"ib"), guards=(guard(b"ia", n, since, wanted=wanted),)))
    assert answer == (1 if is_true is wanted else DENIED)


@pytest.mark.parametrize("n", [0, 1])
def test_of_a_timeline_that_is_not_there_only_n_0_is_true(store: Store, n: int) -> None:
    """Nothing has no newest entry; the fact that always holds holds here too."""
    assert store.write(write(entry(b"ib"), guards=(guard(b"ia", n, 0),))) == (DENIED if n else 1)


TRUE, FALSE = guard(b"ia", 1, 0), guard(b"ia", 9, 0)


@pytest.mark.parametrize(
    ("clauses", "holds"),
    [
        ([[TRUE], [TRUE]], True),
        ([[TRUE], [FALSE]], False),
        ([[FALSE], [TRUE]], False),
        ([[FALSE, TRUE]], True),
        ([[TRUE, FALSE]], True),
        ([[FALSE, FALSE]], False),
        ([[FALSE, FALSE, TRUE], [TRUE, FALSE]], True),
        ([[TRUE, TRUE], [FALSE, FALSE], [TRUE]], False),
        ([[FALSE], [TRUE, TRUE]], False),
    ],
)
def test_clauses_join_guards_with_or_and_each_other_with_and(
    store: Store, clauses: list[list[Guard]], *, holds: bool
) -> None:
    """`more` joins a guard to the next one; what is left of a failed alternative is skipped to the byte."""
    store.write(write(entry(b"ia")))
    guards = [g._replace(more=i < len(clause)) for clause in clauses for i, g in enumerate(clause, 1)]
    choices = (Alternative(tuple(guards), (entry(b"ib"),), DAY), Alternative((), (entry(b"ic"),), DAY))
    assert store.write(Write(KEY, NOW, b"", choices)) == (1 if holds else 2)
    assert (b"ib" in store.read(KEY), b"ic" in store.read(KEY)) == (holds, not holds)


CLICKS = (NOW - 300, NOW - 200, NOW - 100)


@pytest.mark.parametrize(
    ("anchor", "since", "holds"),
    [
        (Anchor(b"eclick", 1, 1), NOW - 400, False),  # after the newest click
        (Anchor(b"eclick", 1, 0), NOW - 400, True),
        (Anchor(b"eclick", 2, 1), NOW - 400, True),
        (Anchor(b"eclick", 3, 250), NOW - 400, False),
        (Anchor(b"eclick", 4, 1), NOW - 400, True),  # there is no fourth: it says nothing
        (Anchor(b"eclick", 4, 1), NOW - 99, False),
        (Anchor(b"evisit", 1, 1), NOW - 100, True),  # nor such a timeline
        (Anchor(b"eclick", 2, 1), NOW - 99, False),  # the window itself is shorter
    ],
)
@pytest.mark.parametrize("alternatives", [1, 2])
def test_an_anchored_guard_looks_back_no_further_than_its_anchor(
    store: Store, anchor: Anchor, since: int, alternatives: int, *, holds: bool
) -> None:
    """The later of `since` and the anchor's moment: in the first alternative, which is read at once, and in others."""
    store.write(write(entry(b"ia", NOW - 100), *(entry(b"eclick", at) for at in CLICKS)))
    never = Alternative((guard(b"ia", 9, 0),), (entry(b"ic"),), DAY)
    anchored = Alternative((guard(b"ia", 1, since, anchor=anchor),), (entry(b"ib"),), DAY)
    choices = (never,) * (alternatives - 1) + (anchored,)
    assert store.write(Write(KEY, NOW, b"", choices)) == (alternatives if holds else DENIED)


def test_a_clause_of_anchored_and_other_guards(store: Store) -> None:
    """What follows an anchor in the program is read as it was meant."""
    store.write(write(entry(b"ia", NOW - 100), entry(b"eclick", NOW - 50)))
    late = guard(b"ia", 1, 0, anchor=Anchor(b"eclick", 1, 1))
    clauses = (late._replace(more=True), guard(b"ia", 1, 0), late._replace(wanted=False))
    assert store.write(write(entry(b"ib"), guards=clauses)) == 1
    assert store.write(write(entry(b"ib"), guards=(*clauses, late))) == DENIED


def test_reserved_impressions_are_no_anchors(store: Store) -> None:
    """They may yet be released: a window begins at what happened."""
    store.write(write(entry(b"ia", NOW - 50), entry(b"ib", NOW - 20)))
    reserve(store, NOW + 60, b"ia")
    seen = guard(b"ib", 1, 0, anchor=Anchor(b"ia", 1, 1))
    assert store.write(write(entry(b"ic"), guards=(seen,))) == 1


def test_guards_see_what_was_before_the_write(store: Store) -> None:
    """An alternative does not meet its own entries: 1 per day can be claimed once, then not again."""
    once = write(entry(b"ia"), guards=(guard(b"ia", 1, NOW - DAY, wanted=False),))
    assert [store.write(once), store.write(once)] == [1, DENIED]


def test_entries_land_in_their_place_whatever_the_order(store: Store) -> None:
    """Late ones too: the timeline is sorted, and what is equal stands side by side."""
    for at in (NOW - 10, NOW, NOW - 20, NOW - 10, NOW - 30):
        assert store.write(write(entry(b"ia", at))) == 1
    assert moments(store.read(KEY), b"ia") == [NOW - 30, NOW - 20, NOW - 10, NOW - 10, NOW]


def test_a_weight_enters_so_many_times(store: Store) -> None:
    """Three points are three entries of one second."""
    store.write(write(entry(b"*", NOW - 5, weight=3)))
    store.write(write(entry(b"*", NOW, weight=2)))
    assert moments(store.read(KEY), b"*") == [NOW - 5] * 3 + [NOW] * 2


def test_a_timeline_named_twice_in_one_write_is_entered_twice(store: Store) -> None:
    """As where an unknown campaign is called `item:x` and the candidate carries that very label."""
    store.write(write(entry(b"ia", NOW - 5), entry(b"ia", NOW)))
    assert moments(store.read(KEY), b"ia") == [NOW - 5, NOW]


def test_the_largest_weight_and_the_largest_timeline(store: Store) -> None:
    """A thousand points at once into a timeline of ten thousand entries: no limit of Lua's is met."""
    for _ in range(12):
        assert store.write(write(entry(b"*", weight=1_000, keep=10_000))) == 1
    assert moments(store.read(KEY), b"*") == [NOW] * 10_000


@pytest.mark.parametrize("late", [False, True])
def test_keep_trims_to_the_newest(store: Store, *, late: bool) -> None:
    """Of ten moments the newest four remain, even if the oldest arrive last."""
    ages = list(range(10))
    for age in ages if late else reversed(ages):
        store.write(write(entry(b"ia", NOW - age, keep=4)))
    assert moments(store.read(KEY), b"ia") == [NOW - 3, NOW - 2, NOW - 1, NOW]


def test_a_smaller_keep_trims_and_a_new_head_replaces_the_old(store: Store) -> None:
    """A timeline follows the policy of the last write."""
    store.write(write(entry(b"ia", weight=10)))
    store.write(write(entry(b"ia", keep=2, head=SHIELD)))
    raw = store.read(KEY)[b"ia"]
    assert timeline.moments(raw) == (NOW, NOW)
    assert timeline.is_shield(raw)


def test_entries_out_of_their_horizon_go_with_time_to_spare(store: Store) -> None:
    """A write at NOW keeps what is a day and 600 s old, and drops what is one second older."""
    horizon = timeline.seconds_of(DAY_LONG)
    oldest = NOW - horizon - SLACK
    store.write(write(entry(b"ia", oldest - 1), now=oldest))
    store.write(write(entry(b"ia", oldest), now=oldest))
    assert moments(store.read(KEY), b"ia") == [oldest - 1, oldest]
    store.write(write(entry(b"ia")))
    assert moments(store.read(KEY), b"ia") == [oldest, NOW]


def test_what_is_too_old_beside_the_newest_entry_is_late(store: Store) -> None:
    """Judged by the timeline too: a replay's `now` lies back, but the entries do not come back."""
    store.write(write(entry(b"ia")))
    before = dict(store.read(KEY))
    old = NOW - timeline.seconds_of(DAY_LONG) - SLACK - 1
    assert store.write(write(entry(b"ia", old), now=old, id=b"12345")) == LATE
    assert dict(store.read(KEY)) == before
    assert store.write(write(entry(b"ia", old + 1), now=old)) == 1


def test_what_is_late_for_one_timeline_enters_the_others(store: Store) -> None:
    """Only where every entry is too old is the answer LATE."""
    long = timeline.head(30 * DAY, shield=False)
    old = NOW - 2 * DAY
    assert store.write(write(entry(b"ia", old), entry(b"i", old, head=long))) == 1
    assert set(store.read(KEY)) == {b"i"}


def test_an_alternative_without_entries_only_remembers_its_id(store: Store) -> None:
    """An event that no rule asks about still counts once."""
    only = Write(KEY, NOW, b"12345", (Alternative((), (), DAY, b"abcde"),))
    assert [store.write(only), store.write(only)] == [1, b"abcde"]
    assert set(store.read(KEY)) == {b"#0"}
    assert store.write(Write(b"rt:2~other", NOW, b"", (Alternative((), (), DAY),))) == 1
    assert dict(store.read(b"rt:2~other")) == {}


def test_clearing_leaves_nothing(store: Store) -> None:
    """Timelines, holds, records and ids go; with an id, that alone is remembered. Nothing to clear is late."""
    store.write(write(entry(b"ia"), id=b"12345"))
    reserve(store, NOW + 60)
    clear = write(Clear(), ttl=1)
    assert store.write(clear) == 1
    assert dict(store.read(KEY)) == {}
    assert store.write(clear) == LATE
    assert store.write(write(entry(b"ia"), id=b"12345")) == 1
    assert store.write(write(Clear(), id=b"67890")) == 1
    assert set(store.read(KEY)) == {b"#0"}
    assert store.write(write(entry(b"ia"), id=b"67890")) == NO_OUTCOME
    assert store.write(write(entry(b"ia"), id=b"12345")) == 1


def test_clearing_is_guarded_like_any_change(store: Store) -> None:
    """And what the same write enters before or after it stays."""
    store.write(write(entry(b"ia"), entry(b"ib")))
    assert store.write(write(Clear(), guards=(guard(b"iz", 1, 0),))) == DENIED
    assert store.write(write(entry(b"ia", NOW + 1), Clear(), entry(b"ic"))) == 1
    assert {field: moments(store.read(KEY), field) for field in store.read(KEY)} == {
        b"ia": [NOW, NOW + 1],
        b"ic": [NOW],
    }


def test_clearing_needs_no_valid_timelines(store: Store, behind: Server | None) -> None:
    """What is corrupt can be forgotten."""
    plant(store, behind, {b"ia": b"\0", b"@": b"", b"#0": b"x", b"": b"y"})
    assert store.write(write(Clear())) == 1
    assert dict(store.read(KEY)) == {}


def test_removing_what_is_there(store: Store) -> None:
    """At most so many; an empty timeline goes, and the visitor with the last one. Nothing found is late."""
    store.write(write(entry(b"ia", weight=3), entry(b"ib")))
    assert store.write(write(Remove(b"ia", NOW, 2), Remove(b"ib", NOW, 5))) == 1
    assert {field: moments(store.read(KEY), field) for field in store.read(KEY)} == {b"ia": [NOW]}
    assert store.write(write(Remove(b"ia", NOW - 1, 1), Remove(b"iz", NOW, 1))) == LATE
    assert store.write(write(Remove(b"ia", NOW, 9))) == 1
    assert dict(store.read(KEY)) == {}
    assert store.delete(KEY) is False


def test_more_guards_than_two_bytes_can_count(store: Store) -> None:
    """66,000 conditions of one campaign: the store counts them in four bytes."""
    store.write(write(entry(b"ia")))
    true = guard(b"ia", 1, 0)
    assert store.write(write(entry(b"ib"), guards=(true,) * 66_000)) == 1
    assert store.write(write(entry(b"ic"), guards=(true,) * 66_000 + (guard(b"iz", 1, 0),))) == DENIED


def test_more_changes_than_lua_can_unpack(store: Store) -> None:
    """9,000 timelines in one write: none is lost, and clearing them again leaves nothing."""
    assert store.write(write(*(entry(b"i%d" % number) for number in range(9_000)))) == 1
    assert len(store.read(KEY)) == 9_000
    assert store.write(write(Clear())) == 1
    assert dict(store.read(KEY)) == {}


def test_many_are_answered_each_by_itself_and_in_order(store: Store) -> None:
    """More than one batch of each; the second write to a visitor sees the first."""
    once = (Alternative((guard(b"ia", 1, NOW - DAY, wanted=False),), (entry(b"ia"),), DAY),)
    keys = [b"rt:2~%d" % (n % 700) for n in range(1_100)]
    answers = store.write_many([Write(key, NOW, b"", once) for key in keys])
    assert answers == [1] * 700 + [DENIED] * 400
    states = store.read_many([b"rt:2~0", b"rt:2~unknown", *keys])
    assert [len(state) for state in states if not isinstance(state, StoreError)] == [1, 0] + [1] * 1_100


def test_none_at_all_is_no_trouble(store: Store) -> None:
    """Empty batches answer with empty lists."""
    assert store.read_many([]) == []
    assert store.write_many([]) == []
