"""frozen.py: tables and lists that cannot be changed, and are a dict and a list in all else."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from retarget.policy.frozen import FrozenDict, FrozenList, freeze
from retarget.policy.load import Policy
from tests.support.life import POLICIES

DATA = {"a": [1, {"b": [2]}], "c": {}}

CHANGES: list[Callable[[Any, Any], object]] = [
    lambda table, _: table.clear(),
    lambda table, _: table.pop("a"),
    lambda table, _: table.popitem(),
    lambda table, _: table.setdefault("x", 1),
    lambda table, _: table.update(x=1),
    lambda table, _: table.__setitem__("x", 1),
    lambda table, _: table.__delitem__("a"),
    lambda table, _: table.__ior__({"x": 1}),
    lambda _, row: row.append(1),
    lambda _, row: row.clear(),
    lambda _, row: row.extend([1]),
    lambda _, row: row.insert(0, 1),
    lambda _, row: row.pop(),
    lambda _, row: row.remove(1),
    lambda _, row: row.reverse(),
    lambda _, row: row.sort(),
    lambda _, row: row.__setitem__(0, 1),
    lambda _, row: row.__delitem__(0),
    lambda _, row: row.__iadd__([1]),
    lambda _, row: row.__imul__(2),
    lambda _, row: row[1]["b"].append(1),
]


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_can_be_changed(change: Callable[[Any, Any], object]) -> None:
    """However deep it lies; the error says what to do instead."""
    frozen = freeze(DATA)
    with pytest.raises(TypeError, match=r"^a policy is frozen: load another one, and set ads\.policy to it$"):
        change(frozen, frozen["a"])
    assert frozen == DATA


def test_they_are_a_dict_and_a_list() -> None:
    """Equal, printed and written like what they were made of; nothing else is touched."""
    frozen = freeze(DATA)
    assert (type(frozen), type(frozen["a"]), type(frozen["a"][1])) == (FrozenDict, FrozenList, FrozenDict)
    assert repr(frozen) == repr(DATA)
    assert json.dumps(frozen) == json.dumps(DATA)
    assert [*frozen["a"], 3] == [1, {"b": [2]}, 3]
    assert {**frozen, "d": 4} == {**DATA, "d": 4}
    assert freeze((1, [2])) == (1, [2])


COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    lambda value: pickle.loads(pickle.dumps(value)),  # noqa: S301 - our own
    lambda value: pickle.loads(pickle.dumps(value, protocol=2)),  # noqa: S301
]


@pytest.mark.parametrize("copied", COPIES)
def test_copies_stay_frozen(copied: Callable[[Any], Any]) -> None:
    """Copied or pickled."""
    same = copied(freeze(DATA))
    assert same == DATA
    with pytest.raises(TypeError, match="frozen"):
        same["a"].append(1)


WAYS: list[Callable[[Policy], Policy]] = [
    *COPIES,
    lambda policy: policy.model_copy(),
    lambda policy: policy.model_copy(deep=True),
    lambda policy: Policy.model_validate(policy),
    lambda policy: Policy.model_validate(policy.model_dump(exclude_unset=True)),
    lambda policy: Policy.model_validate_json(policy.model_dump_json(exclude_unset=True)),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", sorted(POLICIES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_policy_survives_copying_and_writing(path: Any, way: Callable[[Policy], Policy]) -> None:
    """The same policy, as frozen as it was."""
    policy = Policy.from_toml(path)
    same = way(policy)
    assert same == policy
    assert same.model_dump() == policy.model_dump()
    for campaign in (*same.campaign.values(), *policy.campaign.values()):
        with pytest.raises(TypeError, match="frozen"):
            campaign.caps.clear()
        with pytest.raises(TypeError, match="frozen"):
            campaign.labels.clear()
    for table in (same.campaign, same.caps, same.annoyance and same.annoyance.points):
        with pytest.raises(TypeError, match="frozen"):
            table.clear()  # type: ignore[union-attr]


def test_what_is_written_is_plain() -> None:
    """`model_dump` gives tables and lists that may be changed."""
    written = Policy.from_text('[campaign.a]\ncaps = ["3 per day"]\n[caps]\nitem = ["1 per day"]').model_dump()
    written["campaign"]["a"]["caps"].append("9 per week")
    written["caps"].clear()
    assert written["campaign"]["a"]["caps"] == ["3 per day", "9 per week"]
