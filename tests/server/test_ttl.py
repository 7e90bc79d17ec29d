"""How long a visitor is kept: always with an expiry, never longer than the longest window that asks for their events,
and the slack for clocks that differ.

Over random policies and histories, in memory to the second and on real servers by their own clock. The expected time
is worked out here from the policy's own words, as the oracle does it, and compared with the stored bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import count
from typing import TypeAlias

import pytest
import redis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from retarget import Candidate, MemoryStore, Policy, PolicyError, Retargeter
from retarget.events import Subject
from retarget.policy import Campaign, Cap, Condition, Span, labels_in, load_zone
from retarget.timelines import ACTIVITY, SESSION_AT_MOST, SLACK, keys, timeline
from tests.property.local_time import DAY, end_moment, moment
from tests.property.oracle import LONGEST
from tests.support import servers, strategies
from tests.support.fixtures import Clock
from tests.support.servers import Server

_RUNS = count()
_STEPS = st.sampled_from([0, 0, 1, 5, 61, 599, 3_601, 86_400, 86_401, 172_801, 259_201, 3_000_000])
_LATE = st.sampled_from([0, 0, 0, -1, -60, -3_599, -86_400, -200_000, 1, 300])
_ZONES = 2 * DAY
"""Dates are days of the visitor's own zone: a flight may begin in one zone and end in another."""

Stored: TypeAlias = Mapping[bytes, bytes]


class Asked:
    """For how many seconds a policy asks about an event, read from its rules one by one."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.zone = load_zone(policy.timezone)

    def seconds(self, event: str, subject: Subject | None) -> int:
        """The longest window of any rule that may count this event; 0 for one that no rule asks about."""
        policy = self.policy
        shared = [cap for caps in policy.caps.values() for cap in caps]
        conditions: list[tuple[Condition, Campaign | None]] = []
        if policy.annoyance is not None:
            segments = policy.annoyance.segment.values()
            shared += [*policy.annoyance.threshold, *(cap for s in segments for cap in s.threshold)]
            conditions += [(condition, None) for s in segments for clause in s.who for condition in clause]
        everyone = [rules for name in (*policy.campaign, strategies.STRANGER) if (rules := policy.rules(name))]
        own: list[tuple[Cap, Campaign | None]] = []
        gaps = []
        for rules in everyone:
            own += [(cap, rules) for cap in rules.caps]
            gaps += [rules.gap.seconds] if rules.gap is not None else []
            conditions += [(c, rules) for c in (*rules.exclude, *(c for clause in rules.audience for c in clause))]
        caps = [*((cap, None) for cap in shared), *own]
        windows = [*(cap.window for cap, _ in caps), *(condition.window for condition, _ in conditions)]
        asked = [self._length(c.window, rules) for c, rules in conditions if _meant(c, event, subject)]
        if event == "impression":
            asked += [*gaps, *(self._length(cap.window, rules) for cap, rules in caps)]
            asked += [cap.spacing for cap, _ in caps]
        if any(
            window is not None and window.event is not None and _meant(window, event, subject) for window in windows
        ):
            asked += [policy.retention.seconds]
        if Span("session") in windows:
            head = timeline.head(policy.session.seconds + SESSION_AT_MOST, shield=True)
            asked += [timeline.seconds_of(head)]
        return max(asked, default=0)

    def _length(self, span: Span | None, rules: Campaign | None) -> int:
        retention = self.policy.retention.seconds
        if span is None or span.period == "lifetime" or span.event is not None:
            return retention
        if span.period == "rolling":
            return span.seconds
        if span.period == "session":
            return SESSION_AT_MOST
        if span.period == "flight":
            if rules is None or rules.start is None or rules.end is None:
                return retention
            return min(retention, end_moment(rules.end, self.zone) - moment(rules.start, self.zone) + _ZONES)
        return LONGEST[span.period]


def _meant(condition: Condition | Span, event: str, subject: Subject | None) -> bool:
    """Whether the condition may count this event, or the window begin at it; a template may be filled with anything."""
    if condition.event != event or condition.subject is None or labels_in(condition.subject):
        return condition.event == event
    name = subject.campaign if isinstance(subject, Candidate) else subject
    return ":" in condition.subject or condition.subject == name


class Kept:
    """One visitor's history under one policy, in every store, and until when it may be kept."""

    def __init__(self, policy: Policy, clock: Clock, stores: list[MemoryStore | str]) -> None:
        self.prefix = f"rt:ttl-{next(_RUNS)}:"
        self.clock = clock
        self.asked = Asked(policy)
        self.memory = next(store for store in stores if isinstance(store, MemoryStore))
        options = {"clock": clock, "prefix": self.prefix}
        self.ads = [Retargeter(policy, s, timeout=servers.PATIENCE, **options) for s in stores]  # type: ignore[arg-type]
        self.until = 0
        self.longest = 0

    @property
    def key(self) -> bytes:
        return keys.key(self.prefix, "v")

    def happens(self, event: str, subject: Subject | None, at: int) -> None:
        """An event; the windows that count it may keep the visitor longer."""
        self._allowed(event, subject, at)
        before = dict(self.memory.read(self.key))
        answers = [ads.record("v", event, subject, at=at) for ads in self.ads]
        assert len(set(answers)) == 1
        self._checked(before)

    def is_shown(self, candidates: list[Subject]) -> None:
        """A claim, granted or not."""
        for candidate in candidates:
            self._allowed("impression", candidate, self.clock.now)
        before = dict(self.memory.read(self.key))
        claims = [ads.claim("v", candidates) for ads in self.ads]
        assert len({claim and claim.candidate for claim in claims}) == 1
        self._checked(before)

    def _allowed(self, event: str, subject: Subject | None, at: int) -> None:
        seconds = self.asked.seconds(event, subject)
        if seconds:
            self.until = max(self.until, at + seconds + 1)
            self.longest = max(self.longest, at + seconds + 1 - self.clock.now)

    def _checked(self, before: Stored) -> None:
        """In memory: the visitor is kept as long as their newest entries matter and the slack, not a second longer."""
        now, state = self.clock.now, self.memory.read(self.key)
        ttl = self.memory.ttl(self.key, now)
        assert (ttl is None) is (not state)
        if ttl is None:
            return
        ends = {field: timeline.newest(raw) + timeline.horizon_of(raw) for field, raw in state.items()}
        assert now + ttl <= self.until + SLACK
        if state != before:
            rounding = {field: timeline.horizon_of(raw) // 500 for field, raw in state.items()}
            assert now + ttl - SLACK > max(end - rounding[field] for field, end in ends.items())
        for field, raw in state.items():
            if raw != before.get(field):
                oldest = timeline.moments(raw)[field == ACTIVITY]  # of an interval, its end
                assert oldest >= now - timeline.horizon_of(raw) - SLACK

    def on_server(self, client: redis.Redis) -> None:
        """On a server: the key has an expiry, by the server's clock, which hardly moves while the policy's jumps."""
        keys = list(client.scan_iter(match=self.prefix + "*", count=1_000))
        assert set(keys) <= {self.key}
        for key in keys:
            assert 0 < client.ttl(key) <= self.longest + SLACK
            assert client.hgetall(key) == dict(self.memory.read(key))

    def forgotten(self, clients: list[redis.Redis]) -> None:
        """`forget` leaves nothing: no key under the prefix, and nothing to forget again."""
        known = self.ads[0].forget("v")
        assert [ads.forget("v") for ads in self.ads[1:]] == [known] * (len(self.ads) - 1)
        assert [ads.forget("v") for ads in self.ads] == [False] * len(self.ads)
        assert len(self.memory) == 0
        for client in clients:
            assert list(client.scan_iter(match=self.prefix + "*", count=1_000)) == []


@pytest.fixture(scope="module")
def clients(fleet: dict[str, Server]) -> Iterator[dict[str, redis.Redis]]:
    """A client of every real server by its URL, to read past the library."""
    with ExitStack() as stack:
        yield {s.url: stack.enter_context(s.client(socket_timeout=servers.PATIENCE)) for s in fleet.values()}


def history(data: st.DataObject, clients: dict[str, redis.Redis], most: int) -> Kept:
    """Random events and claims of one visitor by a random policy, checked after each."""
    policy = Policy.model_validate(data.draw(strategies.policies(), "policy"))
    clock = Clock(strategies.BASE)
    try:
        kept = Kept(policy, clock, [MemoryStore(), *clients])
    except PolicyError as error:  # too many clauses: a refusal, not a wrong answer
        assume("clauses" not in str(error))
        raise
    for _ in range(data.draw(st.integers(1, most), "how many")):
        clock.now += data.draw(_STEPS, "seconds")
        if data.draw(st.booleans(), "an event"):
            event = data.draw(strategies.events(policy, at=st.just(0)), "event")
            kept.happens(event.event, event.subject, clock.now + data.draw(_LATE, "late"))
        else:
            kept.is_shown(data.draw(st.lists(strategies.candidates(policy), min_size=1, max_size=3), "candidates"))
        for client in clients.values():
            kept.on_server(client)
    return kept


def _settings(examples: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=examples, deadline=None, suppress_health_check=checks)


@given(st.data())
@_settings(80)
def test_nothing_outlives_the_longest_window_that_asks_for_it(
    clients: dict[str, redis.Redis], data: st.DataObject
) -> None:
    """In memory and on every server, whatever the policy and the history; once forgotten, nothing is left at all."""
    kept = history(data, clients, 15)
    kept.forgotten(list(clients.values()))


@given(st.data())
@_settings(100)
def test_when_the_last_window_has_closed_nothing_is_left(data: st.DataObject) -> None:
    """In memory: when the last window has closed on the last entry, and the slack has passed, all is gone."""
    kept = history(data, {}, 20)
    kept.memory.expire(kept.until + SLACK + 1)
    assert len(kept.memory) == 0
    assert dict(kept.memory.read(kept.key)) == {}


@pytest.mark.soak
@given(st.data())
@_settings(5_000)
def test_nothing_outlives_its_window_in_five_thousand_histories(data: st.DataObject) -> None:
    """The same in memory, five thousand times."""
    kept = history(data, {}, 40)
    kept.memory.expire(kept.until + SLACK + 1)
    assert len(kept.memory) == 0
