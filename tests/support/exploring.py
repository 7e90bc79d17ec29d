"""Every interleaving of a few operations over a store in memory, with crashes and lost replies between any two steps.

The operations are the library's own generators: each step is one request. A node is what the store holds and what each
operation has been answered so far, which is all that decides what comes next; each node is visited once. An operation
that crashed is one that is never resumed: whatever is asserted of every node is asserted of every crash.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple
from unittest import mock

from retarget import MemoryStore, NotExecuted, OutcomeUnknown, Policy, StoreError
from retarget.calls import Operations, Steps
from retarget.calls.requests import Apply, Delete
from retarget.timelines import timeline
from tests.support.merges import KEYS, NOW

Frozen = tuple[tuple[bytes, tuple[tuple[bytes, bytes], ...]], ...]
"""What a store holds."""

Reply = tuple[str, Any]
"""How a step ended: "sent" with what the store answered, "refused" or "lost" with an error."""

History = tuple[Reply, ...]
Make = Callable[[Operations], Steps[Any]]

POLICY = Policy.from_text('[campaign.a]\ncaps = ["1000 per day", "500 per session"]')
FIELD = b"ia"
_ERRORS: dict[str, type[StoreError]] = {"refused": NotExecuted, "lost": OutcomeUnknown}
_NUMBERS = 10_000


class Node(NamedTuple):
    """What the store holds, how the steps of each operation ended, and how many may still fail."""

    store: Frozen
    histories: tuple[History, ...]
    failures: int


@dataclass
class Model:
    """Operations that begin on a store. `failures` is how many steps may fail; `most` how many an operation takes.

    `check` is called with each node, `step` with a node and one that may follow it.
    """

    begin: Frozen
    operations: list[Make]
    check: Callable[[Node], None]
    step: Callable[[Node, Node], None]
    failures: int = 0
    most: int = 24
    _waiting: dict[tuple[int, History], Any] = field(default_factory=dict)

    def explore(self) -> int:
        """Visit every node; returns how many there are."""
        start = Node(self.begin, ((),) * len(self.operations), self.failures)
        seen, stack = {start}, [start]
        with deterministic():
            while stack:
                node = stack.pop()
                self.check(node)
                for after in self._following(node):
                    self.step(node, after)
                    if after not in seen:
                        seen.add(after)
                        stack.append(after)
        return len(seen)

    def is_over(self, node: Node, number: int) -> bool:
        """Whether this operation has ended."""
        return self._request(number, node.histories[number]) is None

    def _following(self, node: Node) -> Iterator[Node]:
        for number, history in enumerate(node.histories):
            request = self._request(number, history)
            if request is None or len(history) >= self.most:
                continue
            store = thawed(node.store)
            reply = _frozen_reply(request.ask(store))
            after = frozen(store)
            yield _with(node, number, after, ("sent", reply))
            if node.failures:
                yield _with(node, number, node.store, ("refused", None))
                if isinstance(request, Apply | Delete):
                    yield _with(node, number, after, ("lost", None))

    def _request(self, number: int, history: History) -> Any:
        """What the operation asks after this history; None if it is over."""
        key = number, history
        if key not in self._waiting:
            self._waiting[key] = _replayed(self.operations[number], number, history)
        return self._waiting[key]


def _with(node: Node, number: int, store: Frozen, reply: Reply) -> Node:
    histories = list(node.histories)
    histories[number] = (*histories[number], reply)
    return Node(store, tuple(histories), node.failures - (reply[0] != "sent"))


def _replayed(make: Make, number: int, history: History) -> Any:
    _numbers.next = number * _NUMBERS
    steps = make(operations())
    try:
        request = next(steps)
        for kind, value in history:
            request = steps.send(_thawed_reply(value)) if kind == "sent" else steps.throw(_ERRORS[kind](kind))
    except (StopIteration, StoreError):
        return None
    return request


@lru_cache(1)
def operations() -> Operations:
    """What the clients drive, at a clock that stands still."""
    return Operations(
        POLICY, lambda: NOW, clock=lambda: NOW, prefix="rt:", pepper=None, secret=None, remember_denials=None
    )


def run(make: Make, store: MemoryStore) -> Any:
    """Run an operation to its end."""
    steps = make(operations())
    try:
        request = next(steps)
        while True:
            request = steps.send(request.ask(store))
    except StopIteration as stop:
        return stop.value


@lru_cache(100_000)
def merged(content: Frozen, visitors: str, into: str) -> Frozen:
    """The store after all were merged into one, twice: what a merge that was interrupted moves may come back."""
    store = thawed(content)
    for visitor in visitors * 2:
        run(lambda ads, who=visitor: ads.merge(who, into=into, now=None), store)  # type: ignore[misc]
    return frozen(store)


@lru_cache(100_000)
def impressions(content: Frozen, visitor: str) -> Counter[int]:
    """The moments of the visitor's impressions."""
    raw = dict(dict(content).get(KEYS.key(visitor), ())).get(FIELD)
    return Counter(timeline.moments(raw) if raw else ())


@lru_cache(100_000)
def counted(content: Frozen, visitor: str) -> int:
    """How many impressions count for the visitor now, reserved ones included."""
    held = timeline.live_holds(dict(dict(content).get(KEYS.key(visitor), ())), NOW)
    return impressions(content, visitor).total() + len(held.get(FIELD, ()))


class _Numbers:
    """The numbers of the parcels: each operation has its own, the same in each replay."""

    next = 0

    def __call__(self, _: int) -> int:
        self.next += 1
        return self.next


_numbers = _Numbers()


@contextmanager
def deterministic() -> Iterator[None]:
    """Number parcels in order."""
    with mock.patch.object(secrets, "randbelow", _numbers):
        yield


def frozen(store: MemoryStore) -> Frozen:
    """What the store holds."""
    return tuple(sorted((key, tuple(sorted(state.items()))) for key, state in store._visitors.items()))


def thawed(content: Frozen) -> MemoryStore:
    """A store that holds this."""
    store = MemoryStore()
    for key, state in content:
        store._visitors[key] = dict(state)
        store._until[key] = NOW
    return store


def _frozen_reply(value: Any) -> Any:
    if isinstance(value, dict):
        return "state", tuple(sorted(value.items()))
    if isinstance(value, list):
        return "list", tuple(_frozen_reply(part) for part in value)
    return "value", value


def _thawed_reply(value: Any) -> Any:
    kind, content = value
    if kind == "state":
        return dict(content)
    return [_thawed_reply(part) for part in content] if kind == "list" else content
