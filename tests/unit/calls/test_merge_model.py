"""merge.py, parcels.py, forgetting.py: every interleaving of a few calls, with crashes and lost replies anywhere.

Of every state that can come about, whoever crashed on the way to it:

- an impression counts for at least one visitor, and so does a reserved one as long as it is reserved;
- once whoever comes next has merged all of them, each impression counts exactly once, and nowhere else;
- what was forgotten does not come back.

A case is a list of calls: "merge s t", "record s", "reserve s", "confirm s", "release s", "forget s t".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from retarget import MemoryStore
from retarget.calls import Operations, Steps, parcels
from retarget.timelines import DUE, PARCEL
from tests.support.exploring import Frozen, Make, Model, Node, counted, frozen, impressions, merged, run
from tests.support.merges import KEYS, NOW

VISITORS = "stu"
DISTINCT = {"s": [NOW - 1, NOW - 2], "t": [NOW - 3], "u": [NOW - 4]}
"""The visitors' impressions, each at a second of its own."""
ALIKE = {"s": [NOW, NOW], "t": [NOW], "u": [NOW]}
"""All of them in one second."""

MERGES = [
    ["merge s t"],
    ["merge s t", "merge s t"],
    ["merge s t", "merge s u"],
    ["merge s t", "merge t s"],
    ["merge s t", "merge t u"],
    ["merge s u", "merge t u"],
    ["merge s t", "merge t u", "record s"],
    ["merge s t", "merge t s", "record t"],
    ["merge s t", "merge s u", "record s"],
]
RESERVATIONS = [
    ["merge s t", "reserve s", "confirm s"],
    ["merge s t", "reserve t", "release s"],
    ["merge s t", "confirm s", "release t"],
    ["merge s t", "merge s u", "confirm s"],
    ["merge s t", "merge t s", "release s"],
]
FORGETTING = [
    ["forget s", "merge s t"],
    ["forget t", "merge s t"],
    ["forget s t", "merge s t"],
    ["forget t s", "merge s t"],
    ["forget s", "merge s t", "record s"],
    ["forget t", "merge s t", "merge t u"],
    ["forget s", "merge s t", "confirm s"],
]
LONG = [
    ["merge s t", "merge s u", "merge s t"],
    ["merge s t", "merge t s", "merge s t"],
    ["merge s t", "merge t u", "merge u s"],
    ["merge s t", "merge t u", "merge s u"],
    ["merge s u", "merge t u", "merge u s"],
    ["merge s t", "merge t u", "confirm t", "confirm s"],
    ["merge s t", "merge t s", "confirm t", "release s"],
    ["merge s t", "merge s t", "record s", "record s"],
    ["forget s", "merge s t", "merge s u"],
    ["forget s", "merge s t", "merge s t"],
    ["forget s", "merge s t", "merge t s"],
    ["forget s t", "merge s t", "merge t s"],
]


class Case:
    """The calls of a case as operations, and what must be true of every node."""

    def __init__(self, calls: list[str], begin: dict[str, list[int]], failures: int = 0) -> None:
        self.calls = [call.split() for call in calls]
        self.begin = begin
        self.reserved = {who for name, who, *_ in self.calls if name in ("confirm", "release")}
        self.tokens: dict[str, str] = {}
        content = self._begun()
        self.model = Model(content, [self._operation(call) for call in self.calls], self.check, self.step, failures)

    def _begun(self) -> Frozen:
        store = MemoryStore()
        for visitor, moments in self.begin.items():
            for at in moments:
                run(lambda ads, who=visitor, at=at: _record(ads, who, at), store)  # type: ignore[misc]
        for visitor in sorted(self.reserved):
            self.tokens[visitor] = run(lambda ads, who=visitor: _reserve(ads, who, "first"), store).token  # type: ignore[misc]
        return frozen(store)

    def _operation(self, call: list[str]) -> Make:
        match call:
            case "merge", source, into:
                return lambda ads: ads.merge(source, into=into, now=None)
            case "record", who:
                return lambda ads: _record(ads, who, NOW)
            case "reserve", who:
                return lambda ads: _reserve(ads, who, "second")
            case "confirm", who:
                return lambda ads: ads.confirm(self.tokens[who], at=None)
            case "release", who:
                return lambda ads: ads.release(self.tokens[who], now=None)
            case "forget", *visitors:
                return lambda ads: _forget(ads, visitors)
        raise ValueError(call)

    def check(self, node: Node) -> None:
        """What counts now, and what counts once everything is merged into one."""
        sure, possible, reserved = self.expected(node)
        assert sum((impressions(node.store, visitor) for visitor in VISITORS), Counter()) >= sure
        assert sum(counted(node.store, visitor) for visitor in VISITORS) >= sure.total() + reserved
        end = merged(node.store, VISITORS, "z")
        assert sure <= impressions(end, "z") <= possible
        assert counted(end, "z") >= sure.total() + reserved
        assert not any(counted(end, visitor) for visitor in VISITORS)
        fields = {field[:1] for _, state in end for field, _ in state}
        assert PARCEL not in fields
        over = [self.model.is_over(node, number) for number in range(len(self.calls))]
        if all(over) and node.failures == self.model.failures:
            assert DUE not in fields, "left behind"

    def step(self, node: Node, after: Node) -> None:
        """What was forgotten, and is nowhere, does not come back."""
        for number in self._forgetting():
            if not self.model.is_over(node, number) or any(kind != "sent" for kind, _ in node.histories[number]):
                continue
            forgotten = [at for who in self.calls[number][1:] for at in self.begin[who]]
            for at in forgotten if self.begin is DISTINCT else ():
                if not any(impressions(node.store, visitor)[at] for visitor in VISITORS):
                    assert not any(impressions(after.store, visitor)[at] for visitor in VISITORS), "came back"
            for who in self.calls[number][1:]:
                if not any(call[0] == "merge" and call[2] == who for call in self.calls):
                    assert not any(impressions(after.store, who)[at] for at in self.begin[who] if at < NOW), "is back"

    def expected(self, node: Node) -> tuple[Counter[int], Counter[int], int]:
        """The impressions that must be there, those that may be, and how many reserved ones must count."""
        losing = self._losing(node)
        sure, possible = Counter[int](), Counter[int]()
        open_ = Counter(self.reserved)
        happened = [(who, at) for who, moments in self.begin.items() for at in moments]
        for (name, who, *_), history in zip(self.calls, node.histories, strict=True):
            if any(kind != "refused" for kind, _ in history):
                happened += [(who, NOW)] if name in ("record", "confirm") else []
                open_[who] += (name == "reserve") - (name in ("confirm", "release"))
        for who, at in happened:
            possible[at] += 1
            sure[at] += who not in losing
        return +sure, possible, sum(number for who, number in open_.items() if who not in losing)

    def _losing(self, node: Node) -> set[str]:
        """The visitors who lose something to a forget that has begun: those who are forgotten, and are merged there."""
        losing = {who for number in self._forgetting() if node.histories[number] for who in self.calls[number][1:]}
        for _ in VISITORS:
            losing |= {call[1] for call in self.calls if call[0] == "merge" and call[2] in losing}
        return losing

    def _forgetting(self) -> Iterator[int]:
        return (number for number, call in enumerate(self.calls) if call[0] == "forget")


def _record(ads: Operations, visitor: str, at: int) -> Steps[bool]:
    return ads.record(visitor, "impression", "a", at=at, id_=None, consent=True)


def _reserve(ads: Operations, visitor: str, id_: str) -> Steps[object]:
    return ads.claim(visitor, ["a"], now=None, id_=id_, hold="10 minutes", timezone=None, consent=True)


def _forget(ads: Operations, visitors: list[str]) -> Steps[None]:
    for visitor in visitors:
        yield from ads.forget(visitor)


def _named(cases: list[list[str]]) -> list[object]:
    return [pytest.param(case, id=", ".join(case)) for case in cases]


@pytest.mark.parametrize("begin", [DISTINCT, ALIKE], ids=["distinct", "alike"])
@pytest.mark.parametrize("calls", _named(MERGES))
def test_merges_in_every_interleaving(calls: list[str], begin: dict[str, list[int]]) -> None:
    """Of one pair, a fan, there and back, a chain, into one; with events in between, in the same second or not."""
    assert Case(calls, begin).model.explore() > len(calls)


@pytest.mark.parametrize("calls", _named([["merge s t"], ["merge s t", "merge s u"], ["merge s t", "merge t s"]]))
def test_merges_with_a_step_that_fails(calls: list[str]) -> None:
    """Any one step is refused, or done with its reply lost, and the caller sees an error."""
    assert Case(calls, DISTINCT, failures=1).model.explore() > len(calls)


@pytest.mark.parametrize("calls", _named(RESERVATIONS))
def test_reservations_in_every_interleaving(calls: list[str]) -> None:
    """Reserved before or during a merge, confirmed, released."""
    assert Case(calls, DISTINCT).model.explore() > len(calls)


@pytest.mark.parametrize("calls", _named(FORGETTING))
def test_what_is_forgotten_in_every_interleaving(calls: list[str]) -> None:
    """The source, the target or both forgotten while merges are under way: it stays forgotten, others lose nothing."""
    assert Case(calls, DISTINCT).model.explore() > len(calls)


@pytest.mark.parametrize("calls", _named(FORGETTING[:4]))
def test_forgetting_with_a_step_that_fails(calls: list[str]) -> None:
    """Any one step of the merge or of the forgetting."""
    assert Case(calls, DISTINCT, failures=1).model.explore() > len(calls)


@pytest.mark.parametrize("begin", [DISTINCT, ALIKE], ids=["distinct", "alike"])
@pytest.mark.parametrize(
    "calls", _named([["merge s t", "record s"], ["merge s t", "merge s u"], ["forget s", "merge s t"]])
)
def test_histories_of_several_parcels(
    calls: list[str], begin: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as they are for parcels of one second each: some are moved, some are not yet, some go elsewhere."""
    monkeypatch.setattr(parcels, "_MOST_OF_ONE", 1)
    merged.cache_clear()
    assert Case(calls, begin).model.explore() > len(calls)
    merged.cache_clear()


@pytest.mark.soak
@pytest.mark.parametrize("begin", [DISTINCT, ALIKE], ids=["distinct", "alike"])
@pytest.mark.parametrize("calls", _named(LONG))
def test_three_merges_in_every_interleaving(calls: list[str], begin: dict[str, list[int]]) -> None:
    """Up to half a million states each: three merges, or two and more than one other call."""
    assert Case(calls, begin).model.explore() > 1_000


@pytest.mark.soak
@pytest.mark.parametrize("calls", _named([*MERGES, *RESERVATIONS, *FORGETTING]))
def test_two_steps_that_fail(calls: list[str]) -> None:
    """Any two steps of all calls together."""
    assert Case(calls, DISTINCT, failures=2).model.explore() > len(calls)


def test_the_begun_visitors_are_what_the_cases_say() -> None:
    """The impressions that a case begins with count for their visitors, and nothing else does."""
    begun = Case(["confirm s"], DISTINCT).model.begin
    assert {visitor: impressions(begun, visitor).total() for visitor in "stuz"} == {"s": 2, "t": 1, "u": 1, "z": 0}
    assert [counted(begun, visitor) for visitor in "stuz"] == [3, 1, 1, 0]
    assert {key for key, _ in begun} == {KEYS.key(visitor) for visitor in VISITORS}
