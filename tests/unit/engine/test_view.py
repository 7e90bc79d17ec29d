"""view.py: a plan at one second, what is true of one visitor then, and until when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.engine.plan import Compiled, Fact, Plan
from retarget.engine.view import CACHE_SIZE, Cache, PlanAt, View
from retarget.errors import StoreError
from retarget.policy import Policy
from retarget.timelines import ACTIVITY, DAY, HELD, SESSION_AT_MOST, Anchor, Ends, Hours, Rolling, Starts, State
from tests.support import strategies
from tests.support.histories import NOW, Happened, held, history, packed, plan_of, view_of

HOUR = 3_600
CAPPED = '[campaign.ad]\ncaps = ["2 per day"]\n[campaign.free]'


def looking(plan: Plan, state: State, now: int = NOW) -> View:
    """What the plan sees of these timelines."""
    return View(PlanAt(plan, now, plan.zone), state)


# ---- caches and the plan at a second ----


def test_a_cache_returns_what_was_put_there() -> None:
    """None for what was not."""
    cache: Cache[str, int] = Cache()
    cache["a"] = 1
    cache["a"] = 2
    assert (cache.get("a"), cache.get("b"), len(cache)) == (2, None, 1)


def test_a_full_cache_is_emptied_and_goes_on() -> None:
    """It never holds more than its bound; its `get` still finds what comes afterwards."""
    cache: Cache[int, int] = Cache()
    for number in range(CACHE_SIZE):
        cache[number] = number
    assert len(cache) == CACHE_SIZE
    cache[-1] = -1
    assert (len(cache), cache.get(0), cache.get(-1)) == (1, None, -1)


def test_window_starts_are_packed_and_computed_once() -> None:
    """The first second that counts, as it stands in a timeline; never before 1970."""
    plan = plan_of('retention = "7000 days"\n[campaign.ad]\ncaps = ["2 per day", "9 per lifetime"]')
    at = PlanAt(plan, NOW, plan.zone)
    assert {plan.starts[n].window: at.start(n) for n in range(2)} == {
        Rolling(DAY): (NOW - DAY).to_bytes(4),
        Rolling(7_000 * DAY): (NOW - 7_000 * DAY).to_bytes(4),
    }
    assert at.start(0) is at.start(0)
    early = PlanAt(plan, 100, plan.zone)
    assert [early.start(n) for n in range(2)] == [bytes(4), bytes(4)]


def test_the_clock_is_open_if_every_opening_is() -> None:
    """No openings: always."""
    plan = plan_of("[campaign.ad]")
    at = PlanAt(plan, NOW, plan.zone)
    assert at.is_open(())
    assert at.is_open((Hours(((12 * HOUR, 13 * HOUR),)),))
    assert not at.is_open((Hours(((12 * HOUR, 13 * HOUR),)), Hours(((0, HOUR),))))


# ---- which facts are true ----

AGES = st.sampled_from([0, 1, 5, 6, 60, 61, 600, 601, HOUR, HOUR + 1, DAY, DAY + 1, 3 * DAY, 30 * DAY])


@st.composite
def views(draw: st.DrawFn) -> View:
    """A random policy, and a visitor with a random history under it, some of it held."""
    policy = Policy.model_validate(draw(strategies.policies()))
    plan = Plan(policy)
    events: list[Happened] = []
    for age in sorted(draw(st.lists(AGES, max_size=8)), reverse=True):
        event = draw(strategies.events(policy))
        events.append((event.event, event.subject, age))
    state = dict(history(plan, *events))
    asked = sorted({*plan.on, *plan.anchored_on})
    if draw(st.booleans()) and asked:
        state |= held(draw(st.sampled_from(asked)), *draw(st.lists(st.integers(NOW - 5, NOW + 9), min_size=1)))
    return looking(plan, state)


@given(views())
@settings(max_examples=60, deadline=None)
def test_the_facts_that_are_true_are_those_that_hold(view: View) -> None:
    """The fast path over the visitor's timelines and the lookup of a single fact agree on every fact of a policy.

    Facts of no entry are always true, and are not among the numbers: `satisfies` gets them from elsewhere.
    """
    plan = view.plan_at.plan
    assert view.true == {number for fact, number in plan.facts.items() if fact.n >= 1 and view.holds(fact)}


@given(views())
@settings(max_examples=60, deadline=None)
def test_satisfies_is_every_clause(view: View) -> None:
    """The two sets, numbered clauses and bound clauses come to the same as all clauses, looked up one by one."""
    for compiled in view.plan_at.plan.compiled.values():
        if all(fact.n >= 1 for clause in compiled.guards for fact, _ in clause):
            assert view.satisfies(compiled) is all(map(view.holds_any, compiled.guards))


@given(views())
@settings(max_examples=40, deadline=None)
def test_the_next_second_is_the_first_at_which_all_holds(view: View) -> None:
    """Nothing else happening, all clauses hold then and not one second before; None if a missing event is needed."""
    plan_at = view.plan_at
    for compiled in plan_at.plan.compiled.values():
        found = view.next_second(compiled.guards, compiled.openings)
        assert (found == plan_at.now) is holds_at(view, compiled, plan_at.now)
        if found is not None and found > plan_at.now:
            assert holds_at(view, compiled, found)
            assert not holds_at(view, compiled, found - 1)


def holds_at(view: View, compiled: Compiled, at: int) -> bool:
    """Whether the candidate is eligible at another second, if nothing else happens."""
    later = View(PlanAt(view.plan_at.plan, at, view.plan_at.zone), view.state)
    return all(map(later.holds_any, compiled.guards)) and later.plan_at.is_open(compiled.openings)


def test_an_entry_exactly_as_old_as_the_window_counts() -> None:
    """One second more and it does not."""
    plan = plan_of('[campaign.ad]\ncaps = ["1 per day"]')
    fact = Fact(b"iad", 1, Rolling(DAY))
    assert view_of(plan, ("impression", "ad", DAY)).holds(fact)
    assert not view_of(plan, ("impression", "ad", DAY + 1)).holds(fact)


def test_a_fact_of_no_entry_is_always_true() -> None:
    """With or without a timeline."""
    assert view_of(plan_of(CAPPED)).holds(Fact(b"iad", 0, Rolling(DAY)))


def test_what_nobody_asks_about_is_not_looked_at() -> None:
    """A field that is not ours, or of another policy, does no harm."""
    assert looking(plan_of(CAPPED), {b"#0": b"12345678", b"ix": b"x", b"": b""}).true == set()


IN_SESSION = Fact(b"iad", 2, Rolling(SESSION_AT_MOST), Anchor(ACTIVITY, 2, 0))


def test_a_session_starts_with_the_newest_interval_of_activity() -> None:
    """Entries before it do not count, those at it do; without one, the window's own start is used."""
    plan = plan_of('[campaign.ad]\ncaps = ["2 per session"]')
    seen = {b"iad": packed(NOW - 100, NOW - 50, NOW)}
    assert looking(plan, {**seen, ACTIVITY: packed(NOW - 90, NOW - 80, NOW - 50, NOW)}).holds(IN_SESSION)
    view = looking(plan, {**seen, ACTIVITY: packed(NOW - 90, NOW - 50, NOW - 49, NOW)})
    assert not view.holds(IN_SESSION)
    assert (view.first_second(IN_SESSION), view.count(IN_SESSION)) == (NOW - 49, 1)
    assert view.first_second(Fact(b"iad", 2, Rolling(DAY))) == NOW - DAY
    assert looking(plan, seen).count(IN_SESSION) == 3


def test_an_anchor_before_the_window_changes_nothing() -> None:
    """The later of the two counts: a session that never pauses reaches back 24 hours."""
    plan = plan_of('[campaign.ad]\ncaps = ["2 per session"]')
    state = {b"iad": packed(NOW - DAY - 1, NOW - DAY, NOW - 9), ACTIVITY: packed(NOW - 3 * DAY, NOW)}
    view = looking(plan, state)
    assert (view.first_second(IN_SESSION), view.count(IN_SESSION)) == (NOW - DAY, 2)


def test_what_is_held_is_no_anchor() -> None:
    """Only entries move the start; a reservation may yet be released."""
    plan = plan_of('[campaign.ad]\ncaps = ["2 per day"]')
    fact = Fact(b"epurchase", 1, Rolling(DAY), Anchor(b"iad", 1, 1))
    state = {b"epurchase": packed(NOW - 50), b"iad": packed(NOW - 60), **held(b"iad", NOW + 99)}
    view = looking(plan, state)
    assert (view.first_second(fact), view.holds(fact)) == (NOW - 59, True)
    assert not looking(plan, {**state, b"iad": packed(NOW - 50)}).holds(fact)


def test_a_corrupt_anchor_is_a_store_error() -> None:
    """It names the anchor's timeline, whether the fact is numbered or asked for by itself."""
    plan = plan_of('[campaign.ad]\ncaps = ["2 per session"]')
    with pytest.raises(StoreError, match="the timeline 'activity' is corrupt"):
        looking(plan, {b"iad": packed(NOW - 9, NOW), ACTIVITY: b"x"})
    fact = Fact(b"iad", 1, Rolling(DAY), Anchor(b"eclick x", 1, 1))
    with pytest.raises(StoreError, match="the timeline 'click x' is corrupt"):
        looking(plan, {b"iad": packed(NOW), b"eclick x": b"x"}).holds(fact)


def test_visitors_of_one_second_do_not_share_their_anchors() -> None:
    """The start of one visitor's session says nothing of the next one's."""
    plan = plan_of('[campaign.ad]\ncaps = ["1 per session"]')
    at = PlanAt(plan, NOW, plan.zone)
    seen = {b"iad": packed(NOW - 100)}
    new = View(at, {**seen, ACTIVITY: packed(NOW - 10, NOW)})
    old = View(at, {**seen, ACTIVITY: packed(NOW - 200, NOW)})
    assert (new.eligible(plan.compiled["ad"]), old.eligible(plan.compiled["ad"])) == (True, False)


def test_the_clock_is_asked_apart() -> None:
    """The history lets it be shown, the hours do not."""
    plan = plan_of('[campaign.ad]\nhours = "08:00-09:00"\n[campaign.noon]\nhours = "12:00-13:00"')
    view = view_of(plan)
    assert view.satisfies(plan.compiled["ad"])
    assert not view.eligible(plan.compiled["ad"])
    assert view.eligible(plan.compiled["noon"])


# ---- holds ----


@pytest.mark.parametrize(
    ("ends", "shown", "true"), [((), 1, False), ((9,), 1, True), ((8, 9), 0, True), ((0,), 1, False)]
)
def test_what_is_held_counts_before_what_was_shown(ends: tuple[int, ...], shown: int, *, true: bool) -> None:
    """Until its own end, in every window."""
    plan = plan_of(CAPPED)
    state: dict[bytes, bytes] = {b"iad": packed(*[NOW - HOUR] * shown)} if shown else {}
    if ends:
        state |= held(b"iad", *(NOW + end for end in ends))
    view = looking(plan, state)
    assert view.holds(Fact(b"iad", 2, Rolling(DAY))) is true
    assert view.eligible(plan.compiled["ad"]) is not true
    assert view.count(Fact(b"iad", 2, Rolling(DAY))) == shown + sum(end > 0 for end in ends)


def test_a_hold_ends_at_its_own_end() -> None:
    """The next second is when the first of hold and entry leaves."""
    plan = plan_of(CAPPED)
    state = {b"iad": packed(NOW - HOUR), **held(b"iad", NOW + 60)}
    guards = plan.compiled["ad"].guards
    assert looking(plan, state).next_second(guards, []) == NOW + 60
    state = {b"iad": packed(NOW - DAY + 10), **held(b"iad", NOW + 60)}
    assert looking(plan, state).next_second(guards, []) == NOW + 11


def test_what_is_held_on_timelines_that_nobody_asks_about() -> None:
    """It is known, and changes nothing."""
    view = looking(plan_of(CAPPED), held(b"ifree", NOW + 60))
    assert (view.held, view.true) == ({b"ifree": [NOW + 60]}, set())


# ---- when eligible again ----


def clauses(*literals: Iterable[tuple[Fact, bool]]) -> list[tuple[tuple[Fact, bool], ...]]:
    """Clauses of these literals."""
    return [tuple(each) for each in literals]


SEEN = Fact(b"iad", 1, Rolling(HOUR))
BOUGHT = Fact(b"epurchase", 1, Rolling(DAY))
NEVER = Fact(b"elogin", 1, Rolling(DAY))


@pytest.mark.parametrize(
    ("literals", "seconds"),
    [
        ([[(SEEN, False)]], HOUR + 1),
        ([[(SEEN, True)]], 0),
        ([[(NEVER, True)]], None),
        ([[(NEVER, False)]], 0),
        ([[(SEEN, False), (BOUGHT, False)]], HOUR + 1),
        ([[(SEEN, False)], [(BOUGHT, False)]], DAY + 1),
        ([[(SEEN, False)], [(BOUGHT, True)]], HOUR + 1),
        ([[(SEEN, True)], [(BOUGHT, False)]], None),
        ([[(NEVER, True), (SEEN, False)]], HOUR + 1),
        ([[(BOUGHT, False), (SEEN, False)]], HOUR + 1),
        ([[(Fact(b"iad", 0, Rolling(HOUR)), True)], [(SEEN, False)]], HOUR + 1),
        ([[(Fact(b"iad", 0, Rolling(HOUR)), False)]], None),
        ([[]], None),
        ([], 0),
    ],
)
def test_when_clauses_hold(literals: list[list[tuple[Fact, bool]]], seconds: int | None) -> None:
    """Seconds from now, with an impression and a purchase now; None if it takes an event."""
    plan = plan_of('[campaign.ad]\nexclude = ["purchase within 1 day", "login"]\ncaps = ["1 per hour"]')
    found = view_of(plan, ("impression", "ad", 0), ("purchase", None, 0)).next_second(clauses(*literals), [])
    assert found == (None if seconds is None else NOW + seconds)


def test_clauses_and_the_clock_together() -> None:
    """The first second at which the cap has ended within opening hours; never after the end of the flight."""
    plan = plan_of('[campaign.ad]\ncaps = ["1 per hour"]')
    view = view_of(plan, ("impression", "ad", 0))
    mornings = Hours(((8 * HOUR, 9 * HOUR),))
    tomorrow = NOW - NOW % DAY + DAY + 8 * HOUR
    guards = plan.compiled["ad"].guards
    assert view.next_second(guards, [mornings]) == tomorrow
    end = Ends(datetime.fromtimestamp(tomorrow, UTC))
    assert view.next_second(guards, [mornings, end]) is None


def test_a_search_that_takes_too_many_steps_gives_up() -> None:
    """Openings that never meet: None, and no endless loop."""

    class Odd:
        """Open at every second of the same parity."""

        def __init__(self, parity: int) -> None:
            self.parity = parity

        def next_open(self, now: int, zone: object) -> int:
            return now + (now + self.parity) % 2

    plan = plan_of(CAPPED)
    assert view_of(plan).next_second([], [Odd(0), Odd(1)]) is None
    assert view_of(plan).next_second([], [Starts(datetime.fromtimestamp(NOW + 5, UTC))]) == NOW + 5


# ---- what is corrupt ----


@pytest.mark.parametrize("raw", [b"x", b"\0\1\0", b"\0\1\0\0\0\1\0", b"seven.."])
def test_a_corrupt_timeline_is_a_store_error(raw: bytes) -> None:
    """It names the timeline and its length; a single fact says the same."""
    plan = plan_of('[campaign.ad]\nexclude = ["visit {item}"]\ncaps = ["2 per day"]')
    with pytest.raises(StoreError, match=rf"^the timeline 'impression ad' is corrupt: {len(raw)} bytes$"):
        looking(plan, {b"iad": raw})
    view = looking(plan, {b"evisit sku": raw})
    with pytest.raises(StoreError, match="the timeline 'visit sku' is corrupt"):
        view.holds(Fact(b"evisit sku", 1, Rolling(DAY)))


@pytest.mark.parametrize("field", [HELD, HELD + b"iad"])
def test_a_corrupt_hold_is_a_store_error(field: bytes) -> None:
    """It says that it is what is reserved."""
    with pytest.raises(StoreError, match=r"the timeline 'reserved .*' is corrupt: 1 bytes"):
        looking(plan_of(CAPPED), {HELD: packed(NOW + 9), field: b"x"})


def test_a_timeline_out_of_order_is_corrupt() -> None:
    """Where entries and holds are counted together and too few are within the window: StoreError."""
    plan = plan_of('[campaign.ad]\ncaps = ["3 per day"]')
    view = looking(plan, {b"iad": packed(NOW, NOW - 9 * DAY), **held(b"iad", NOW + 9)})
    with pytest.raises(StoreError, match="the timeline 'impression ad' is corrupt: it is not in order"):
        view.next_second(plan.compiled["ad"].guards, [])
