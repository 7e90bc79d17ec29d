"""Loading a policy from TOML text, a file or a mapping.

Rules:
- Every error is a PolicyError that lists all problems; each names the place, what was read and what would be right.
- What cannot be read hides no contradiction among the parts that can.
- A policy that contradicts itself does not load. One that is merely unsound loads, and `lint` reports it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, model_validator

from retarget.errors import PolicyError
from retarget.policy.contradictions import Place, contradictions
from retarget.policy.lint import Finding, findings
from retarget.policy.models import Annoyance, Campaign, PolicyModel, Rules, Segment

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_MAX_PROBLEM = 1_000
"""The longest text of one problem, in characters; the rest is cut off."""

_MOST_ROUNDS = 8
"""Leaving out what cannot be read may leave a table without a key that it needs, and so on outwards: a few times."""


class Policy(PolicyModel):
    """All rules of an ad server. Load it with `from_toml` or `from_text`, or pass a mapping to `model_validate`.

    Raises `PolicyError`, which lists every problem with its place and cure.
    """

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Load a policy file. Raises `PolicyError` if it cannot be read, is not TOML or is not a valid policy."""
        try:
            return cls.from_text(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise _refused([f"{path}: {error}"]) from error
        except PolicyError as error:
            raise _refused(f"{path}: {problem}" for problem in error.problems) from error

    @classmethod
    def from_text(cls, toml: str) -> Self:
        """Load a policy from TOML text. Raises `PolicyError` if it is not TOML or not a valid policy."""
        try:
            data = tomllib.loads(toml)
        except (ValueError, RecursionError) as error:  # ValueError: also what tomllib raises for a very long number
            raise _refused([f"not valid TOML: {error}"]) from error
        return cls.model_validate(data)

    def findings(self, *, events: Collection[str] = (), labels: Collection[str] = ()) -> list[Finding]:
        """What is unsound in the policy although it loads, each with its place and cure; empty if nothing is.

        `events` and `labels` are the event names and the label kinds that a log contains, if known.
        """
        return findings(self, events=events, labels=labels)

    @model_validator(mode="wrap")
    @classmethod
    def _errors_are_ours(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401
        try:
            policy = handler(data)
        except ValidationError as error:
            details = error.errors(include_url=False)
            raise _refused([*map(_problem, details), *_other_problems(data, handler, details)]) from error
        if problems := contradictions(policy):
            raise _refused(problems)
        return policy


def _other_problems(data: Any, handler: Callable[[Any], PolicyModel], details: list[ErrorDetails]) -> list[str]:  # noqa: ANN401
    """What the readable parts of a policy contradict, where others cannot be read."""
    unread: list[Place] = []
    for _ in range(_MOST_ROUNDS):
        wrong = [_unreadable(error) for error in details]
        unread += wrong
        if () in wrong:
            return []
        data = _without(data, wrong)
        try:
            return contradictions(handler(data), unread)
        except ValidationError as error:
            details = error.errors(include_url=False)
    return []


def _unreadable(error: ErrorDetails) -> Place:
    """The part to leave out: the value that is wrong, or the table that lacks a key."""
    place = error["loc"]
    if error["type"] == "missing":
        return place[:-1]
    return place[:-1] if place and place[-1] == "[key]" else place


def _without(data: Any, places: Iterable[Place]) -> Any:  # noqa: ANN401 - whatever the file contains
    """A copy of nested tables and lists that lacks these places. Where a list loses a part, the others move up."""
    heads: dict[str | int, list[Place]] = {}
    for place in places:
        heads.setdefault(place[0], []).append(place[1:])

    def rest(key: str | int, value: object) -> object:
        inside = heads.get(key)
        return _without(value, inside) if inside else value

    if isinstance(data, dict):
        return {key: rest(key, value) for key, value in data.items() if () not in heads.get(key, ())}
    if isinstance(data, list):
        return [rest(key, value) for key, value in enumerate(data) if () not in heads.get(key, ())]
    return None  # a value with places inside, such as `{ cap = ... }`: refused as a whole in the next round


def _refused(problems: Iterable[str]) -> PolicyError:
    """The error for these problems, printable and of limited length whatever the file contains."""
    printable = (problem.encode(errors="backslashreplace").decode() for problem in problems)
    return PolicyError([f"{text[:_MAX_PROBLEM]} ..." if len(text) > _MAX_PROBLEM else text for text in printable])


def _problem(details: ErrorDetails) -> str:
    """One pydantic error as `campaign.x.caps[1]: what was read; what would be right`."""
    place = ""
    for step in details["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else str(step)
    if details["type"] == "extra_forbidden":
        known = _keys_at(details["loc"])
        near = difflib.get_close_matches(str(details["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{place}: unknown key; {hint}known here: {', '.join(known)}"
    message = details["msg"].removeprefix("Value error, ")
    value = details["input"]
    quoted = "" if repr(value) in message or isinstance(value, dict | list) else f" (got {value!r:.80})"
    return f"{place or 'policy'}: {message}{quoted}"


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    """The keys of the model that holds the key at this place."""
    models: dict[int, type[BaseModel]] = {1: PolicyModel}
    if loc[0] == "campaign":
        models[3] = Campaign
    elif loc[0] == "annoyance":
        models |= {2: Annoyance, 4: Segment}
    elif loc[0] == "defaults":
        models[2] = Rules
    return list(models[len(loc)].model_fields)
