"""Tables and lists that cannot be changed: what a policy holds.

Rules:
- They are a dict and a list in all but that: equal to one, printed, written and read like one.
- What would change one raises TypeError, which says what to do instead. Copied or pickled they stay frozen.
"""

from __future__ import annotations

from typing import Any, Generic, NoReturn, Self, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def freeze(value: Any) -> Any:  # noqa: ANN401 - any value of a policy
    """The same value with its tables and lists frozen, however deep they lie in each other."""
    if type(value) is dict:
        return FrozenDict({key: freeze(inner) for key, inner in value.items()})
    if type(value) is list:
        return FrozenList(map(freeze, value))
    return value


def _refuse(*_: object, **__: object) -> NoReturn:
    raise TypeError("a policy is frozen: load another one, and set ads.policy to it")


class FrozenDict(dict[Key, Value], Generic[Key, Value]):
    """A dict that cannot be changed."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


class FrozenList(list[Value], Generic[Value]):
    """A list that cannot be changed."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self),)
