"""Every interleaving of a few operations over a store in memory, with crashes and lost replies between any two steps.

The operations are the library's own generators: each step is one request. A node is what the store holds and what each
operation has been answered so far, which is all that decides what comes next; each node is visited once. An operation
that crashed is one that is never resumed: whatever is asserted of every node is asserted of every crash.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple
from unittest import mock

from retarget import MemoryStore, NotExecuted, OutcomeUnknown, Policy, StoreError
from retarget.calls import Operations, Steps, merge
from retarget.calls.requests import Apply, Delete
from retarget.timelines import HELD, State, timeline
from tests.support.merges import KEYS, NOW

Frozen = tuple[tuple[bytes, tuple[tuple[bytes, bytes], ...]], ...]
"""What a store holds."""
Reply = tuple[str, Any]
"""How a step ended: "sent" with the reply, or "raised" with the error that the operation saw."""
Make = Callable[[Operations], Steps[Any]]

POLICY = Policy.from_text("""
    [campaign.a]
    caps = ["1000 per day", "500 per session"]
""")
FIELD = b"ia"
_NUMBERS = 10_000
"""Each operation's parcels have numbers of their own, so that a replay draws the same."""


class Node(NamedTuple):
    """What the store holds, the replies that each operation has had, and how many steps may still fail."""

    store: Frozen
    histories: tuple[tuple[Reply, ...], ...]
    failures: int


@dataclasses.dataclass
class Model:
    """Some operations, and what is asserted of every node and of every step.

    `check` is called with each node, `step` with a node, the one after it and the number of the operation that moved.
    `most` limits the steps of one operation.
    """

    begin: Callable[[Operations], object]
    operations: list[Make]
    check: Callable[[View], None]
    step: Callable[[View, View, int], None] = lambda _before, _after, _number: None
    failures: int = 0
    most: int = 24

    def explore(self) -> int:
        """Visit every node; returns how many there are."""
        store = MemoryStore()
        actual(store, self.begin)
        start = Node(frozen(store), ((),) * len(self.operations), self.failures)
        waiting: dict[tuple[int, tuple[Reply, ...]], Any] = {}
        seen, stack = {start}, [start]
        with deterministic():
            while stack:
                node = stack.pop()
                view = View(self, node)
                view.pending = [self._pending(waiting, number, node) for number in range(len(self.operations))]
                self.check(view)
                for number, request in enumerate(view.pending):
                    if request is None or len(node.histories[number]) >= self.most:
                        continue
                    for after in self._steps(node, number, request):
                        if self.step is not None:
                            self.step(view, View(self, after), number)
                        if after not in seen:
                            seen.add(after)
                            stack.append(after)
        return len(seen)

    def _pending(self, waiting: dict[tuple[int, tuple[Reply, ...]], Any], number: int, node: Node) -> Any:
        """The request that this operation waits for; None if it is over."""
        key = number, node.histories[number]
        if key not in waiting:
            waiting[key] = replayed(self.operations[number], number, node.histories[number])
        return waiting[key]

    def _steps(self, node: Node, number: int, request: Any) -> Iterator[Node]:
        """Every way in which the request may end."""
        store = thawed(node.store)
        try:
            reply: Reply = "sent", request.ask(store)
        except StoreError as error:
            reply = "raised", error
        after = frozen(store)
        yield self._after(node, number, after, reply, 0)
        if node.failures:
            yield self._after(node, number, node.store, ("raised", NotExecuted), 1)
            if isinstance(request, Apply | Delete):
                yield self._after(node, number, after, ("raised", OutcomeUnknown), 1)

    def _after(self, node: Node, number: int, store: Frozen, reply: Reply, failed: int) -> Node:
        kind, value = reply
        histories = list(node.histories)
        histories[number] = (*histories[number], (kind, _frozen_reply(value)))
        return Node(store, tuple(histories), node.failures - failed)


class View:
    """What a node shows."""

    pending: list[Any]

    def __init__(self, model: Model, node: Node) -> None:
        self.model, self.node = model, node

    def is_over(self, number: int) -> bool:
        """Whether this operation has ended, in success or with an error."""
        return replayed(self.model.operations[number], number, self.node.histories[number]) is None

    def replies(self, number: int) -> tuple[Reply, ...]:
        """How the operation's steps ended so far."""
        return self.node.histories[number]

    def succeeded(self, number: int) -> bool:
        """Whether this operation has ended, and none of its steps failed."""
        return self.is_over(number) and all(kind == "sent" for kind, _ in self.replies(number))

    def begun(self, number: int) -> bool:
        """Whether anything that this operation did may have taken effect."""
        return any(reply != ("raised", NotExecuted) for reply in self.node.histories[number])

    def impressions(self, visitor: str) -> Counter[int]:
        """The moments of the impressions that the visitor has now."""
        return impressions(thawed(self.node.store), visitor)

    def count(self, visitors: str, now: int = NOW) -> int:
        """How many impressions count for these visitors, reserved ones included."""
        store = thawed(self.node.store)
        return sum(counted(store, visitor, now) for visitor in visitors)

    def total(self, visitors: str) -> Counter[int]:
        """The moments of all impressions."""
        store = thawed(self.node.store)
        return sum((impressions(store, visitor) for visitor in visitors), Counter())

    def finished(self, visitors: str, *, into: str) -> MemoryStore:
        """The store after everybody was merged into one visitor, twice: what a note is for may come back."""
        return thawed(_finished(self.node.store, visitors, into))


@lru_cache(100_000)
def _finished(content: Frozen, visitors: str, into: str) -> Frozen:
    store = thawed(content)
    for visitor in visitors * 2:
        _run(operations().merge(visitor, into=into, now=None), store)
    return frozen(store)


@lru_cache(8)
def operations(policy: Policy = POLICY) -> Operations:
    """What the clients drive, at a clock that stands still."""
    return Operations(
        policy, lambda: NOW, clock=lambda: NOW, prefix="rt:", pepper=None, secret=None, remember_denials=None
    )


def replayed(make: Make, number: int, history: tuple[Reply, ...]) -> Any:
    """The request that the operation makes after this history; None if it is over."""
    _numbers.__init__(number)  # type: ignore[misc]
    steps = make(operations())
    try:
        request = next(steps)
        for kind, value in history:
            reply = _thawed_reply(value)
            request = steps.send(reply) if kind == "sent" else steps.throw(reply)
    except (StopIteration, StoreError):
        return None
    return request


def actual(store: MemoryStore, make: Callable[[Operations], Any]) -> Any:
    """Run operations to their end, one after the other."""
    result = make(operations())
    for steps in result if isinstance(result, list) else [result]:
        result = _run(steps, store)
    return result


def _run(steps: Steps[Any], store: MemoryStore) -> Any:
    try:
        request = next(steps)
        while True:
            try:
                reply = request.ask(store)
            except StoreError as error:
                request = steps.throw(error)
            else:
                request = steps.send(reply)
    except StopIteration as stop:
        return stop.value


def impressions(store: MemoryStore, visitor: str) -> Counter[int]:
    """The moments of the visitor's impressions."""
    raw = store.read(KEYS.key(visitor)).get(FIELD)
    return Counter(timeline.moments(raw) if raw else ())


def counted(store: MemoryStore, visitor: str, now: int = NOW) -> int:
    """How many impressions count for the visitor, reserved ones included."""
    state: State = store.read(KEYS.key(visitor))
    held = timeline.live_holds(state, now).get(FIELD, [])
    return impressions(store, visitor).total() + len(held)


def reserved(store: MemoryStore, visitor: str) -> Counter[int]:
    """The ends of the visitor's reserved impressions."""
    raw = store.read(KEYS.key(visitor)).get(HELD + FIELD)
    return Counter(timeline.moments(raw) if raw else ())


class _Numbers:
    """The numbers of the parcels of one operation: its own, the same in each replay."""

    def __init__(self, operation: int = 0) -> None:
        self.next = operation * _NUMBERS

    def __call__(self, _: int) -> int:
        self.next += 1
        return self.next


_numbers = _Numbers()


@contextmanager
def deterministic() -> Iterator[None]:
    """Draw the numbers of parcels in order."""
    with mock.patch.object(merge.secrets, "randbelow", _numbers):
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
    return "value", type(value) if isinstance(value, StoreError) else value


def _thawed_reply(value: Any) -> Any:
    kind, content = value
    if kind == "state":
        return dict(content)
    if kind == "list":
        return [_thawed_reply(part) for part in content]
    return content("lost") if isinstance(content, type) else content
