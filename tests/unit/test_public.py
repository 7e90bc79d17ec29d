"""The public names and their signatures, pinned: changing one is a decision, made here and in the changelog."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

import retarget
from retarget import AsyncRetargeter, Decision, Policy, Retargeter
from retarget.timelines import Store

PUBLIC = """
AnnoyanceLevel
    .segment: str
    .rule: str
    .points: int
    .limit: int
AsyncRetargeter(policy: Policy, store: str | Redis | RedisCluster | MemoryStore | AsyncStore, *, clock: Callable[[],
        float] | None = None, timeout: float = 0.1, prefix: str = 'rt:', pepper: str | bytes | Mapping[int, str |
        bytes | None] | None = None, secret: str | bytes | None = None, remember_denials: str | timedelta | None =
        None)
    .policy: Policy (can be set)
    .decide(visitor: str | None, candidates: Iterable[str | Candidate] | None = None, *, now: datetime | float |
        None = None, timezone: str | int | ZoneInfo | timezone | None = None, consent: bool = True) -> Decision,
        awaited
    .decide_many(visitors: Iterable[str | None], candidates: Iterable[str | Candidate] | None = None, *, now:
        datetime | float | None = None, timezone: str | int | ZoneInfo | timezone | None = None) ->
        AsyncIterator[Decision]
    .claim(visitor: str | None, candidates: Iterable[str | Candidate] | None = None, *, now: datetime | float | None
        = None, id: str | None = None, hold: str | timedelta | None = None, timezone: str | int | ZoneInfo |
        timezone | None = None, consent: bool = True) -> Claim | None, awaited
    .claim_many(requests: Iterable[tuple[str | None, Iterable[str | Candidate] | None] | tuple[str | None,
        Iterable[str | Candidate] | None, str | None]], *, distinct: bool = False, hold: str | timedelta | None =
        None, now: datetime | float | None = None, timezone: str | int | ZoneInfo | timezone | None = None) ->
        list[Claim | None], awaited
    .confirm(claim: Claim | str, *, at: datetime | float | None = None) -> Literal['confirmed', 'late', 'repeated'],
        awaited
    .release(claim: Claim | str, *, now: datetime | float | None = None) -> bool, awaited
    .record(visitor: str | None, event: str, subject: str | Candidate | None = None, *, at: datetime | float | None
        = None, id: str | None = None, consent: bool = True) -> bool, awaited
    .record_many(events: Iterable[Event | tuple[Any, ...] | dict[str, Any]]) -> list[bool], awaited
    .export(visitor: str) -> dict[str, Any], awaited
    .forget(visitor: str) -> bool, awaited
    .merge(source: str, *, into: str, now: datetime | float | None = None) -> bool, awaited
    .rotate(visitor: str, *, now: datetime | float | None = None) -> bool, awaited
    .health() -> tuple[Health, ...]
    .close() -> None, awaited
Candidate(campaign: str, **labels: str)
    .campaign: str
    .labels: tuple[tuple[str, str], ...]
Claim
    .candidate: Subject
    .second: int
    .held_for: int | None
    .counted: bool
    .repeated: bool
    .degraded: StoreError | None
    .token: str
    .campaign: str
    .at: datetime
ConfigError < RetargetError
Decision
    .at: datetime
    .candidates: Sequence[Subject]
    .annoyance: AnnoyanceLevel | None
    .degraded
    .eligible
    .second
Event(visitor: str | None, event: str, subject: Subject | None = None, at: When | None = None, id: str | None =
        None)
    .visitor: str | None
    .event: str
    .subject: Subject | None
    .at: When | None
    .id: str | None
Health
    .server: str
    .up: bool
    .failures: int
    .error: str
InputError < RetargetError, ValueError
LogError < RetargetError
MemoryStore()
    .read(key: bytes) -> State
    .read_many(keys: Sequence[bytes]) -> list[State | StoreError]
    .write_many(writes: Sequence[Write]) -> list[Answer | StoreError]
    .delete(key: bytes) -> bool
    .health() -> tuple[Health, ...]
    .close() -> None
    .expire(now: int) -> None
    .ttl(key: bytes, now: int) -> int | None
    .write(write: Write) -> Answer
NotExecuted < StoreError
OutcomeUnknown < StoreError
PartlyExecuted < StoreError
    .results: list[Any]
Policy
    .timezone
    .retention
    .week_start
    .session
    .on_unknown_visitor
    .on_no_consent
    .on_store_error
    .annoyance
    .caps
    .defaults
    .campaign
    .from_toml(path: str | Path) -> Self
    .from_text(toml: str) -> Self
    .findings(*, events: Collection[str] = (), labels: Collection[str] = ()) -> list[Finding]
PolicyError < RetargetError
    .problems: list[str]
RetargetError < Exception
RetargetWarning < UserWarning
Retargeter(policy: Policy, store: str | Redis | RedisCluster | Store, *, clock: Callable[[], float] | None = None,
        timeout: float = 0.1, prefix: str = 'rt:', pepper: str | bytes | Mapping[int, str | bytes | None] | None =
        None, secret: str | bytes | None = None, remember_denials: str | timedelta | None = None)
    .policy: Policy (can be set)
    .decide(visitor: str | None, candidates: Iterable[str | Candidate] | None = None, *, now: datetime | float |
        None = None, timezone: str | int | ZoneInfo | timezone | None = None, consent: bool = True) -> Decision
    .decide_many(visitors: Iterable[str | None], candidates: Iterable[str | Candidate] | None = None, *, now:
        datetime | float | None = None, timezone: str | int | ZoneInfo | timezone | None = None) ->
        Iterator[Decision]
    .claim(visitor: str | None, candidates: Iterable[str | Candidate] | None = None, *, now: datetime | float | None
        = None, id: str | None = None, hold: str | timedelta | None = None, timezone: str | int | ZoneInfo |
        timezone | None = None, consent: bool = True) -> Claim | None
    .claim_many(requests: Iterable[tuple[str | None, Iterable[str | Candidate] | None] | tuple[str | None,
        Iterable[str | Candidate] | None, str | None]], *, distinct: bool = False, hold: str | timedelta | None =
        None, now: datetime | float | None = None, timezone: str | int | ZoneInfo | timezone | None = None) ->
        list[Claim | None]
    .confirm(claim: Claim | str, *, at: datetime | float | None = None) -> Literal['confirmed', 'late', 'repeated']
    .release(claim: Claim | str, *, now: datetime | float | None = None) -> bool
    .record(visitor: str | None, event: str, subject: str | Candidate | None = None, *, at: datetime | float | None
        = None, id: str | None = None, consent: bool = True) -> bool
    .record_many(events: Iterable[Event | tuple[Any, ...] | dict[str, Any]]) -> list[bool]
    .export(visitor: str) -> dict[str, Any]
    .forget(visitor: str) -> bool
    .merge(source: str, *, into: str, now: datetime | float | None = None) -> bool
    .rotate(visitor: str, *, now: datetime | float | None = None) -> bool
    .health() -> tuple[Health, ...]
    .close() -> None
StoreError < RetargetError
TokenError < InputError
Verdict
    .eligible: bool
    .reason: Reason
    .rule: str | None
    .seen: int | None
    .limit: int | None
    .eligible_at: datetime | None
"""
"""A line for each class, and for each of its public members; types without their modules."""

CONSTRUCTED = {"AsyncRetargeter", "Candidate", "Event", "MemoryStore", "Retargeter"}
"""What callers construct by calling the class; a policy is loaded, everything else is returned or raised."""


class _Bare:
    """A postponed annotation, shown without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _bare(annotation: Any) -> Any:
    text = getattr(annotation, "__forward_arg__", annotation)
    return _Bare(text) if isinstance(text, str) else annotation


def _short(annotation: Any) -> str:
    """A type, or a signature, without modules."""
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z])", "", inspect.formatannotation(_bare(annotation)))


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [part.replace(annotation=_bare(part.annotation)) for part in signature.parameters.values()]
    shown = signature.replace(
        parameters=parameters[parameters[0].name == "self" if parameters else 0 :],
        return_annotation=_bare(signature.return_annotation),
    )
    return _short(str(shown))


def _members(kind: type) -> Iterator[str]:
    fields = dict(inspect.get_annotations(kind))
    if kind is Policy:
        fields = dict.fromkeys(Policy.model_fields, "")
    for name, annotation in fields.items():
        if not name.startswith("_") and not isinstance(inspect.getattr_static(kind, name, None), property):
            yield f"    .{name}: {_short(annotation)}".removesuffix(": ")
    for name, static in vars(kind).items():
        if name.startswith("_") or name in fields or name == "model_config":
            continue
        member = getattr(kind, name)
        if isinstance(static, property):
            assert static.fget is not None
            returned = inspect.signature(static.fget).return_annotation
            yield f"    .{name}: {_short(returned)}{' (can be set)' if static.fset else ''}"
        elif callable(member):
            yield f"    .{name}{_signature(member)}{', awaited' if inspect.iscoroutinefunction(member) else ''}"
        else:
            yield f"    .{name}"


def _described(name: str) -> list[str]:
    kind = getattr(retarget, name)
    bases = [base.__name__ for base in kind.__bases__ if base is not object]
    if issubclass(kind, Exception):
        heading = f"{name} < {', '.join(bases)}"
    elif name in CONSTRUCTED:
        heading = name + _signature(kind).removesuffix(" -> None")
    else:
        heading = name
    return [
        wrapped
        for line in (heading, *_members(kind))
        for wrapped in textwrap.wrap(line, 116, subsequent_indent=" " * 8)
    ]


def test_the_public_names_and_their_signatures_are_these() -> None:
    """Every name of `retarget.__all__`, in order, with its public members."""
    found = [line for name in retarget.__all__ for line in _described(name)]
    assert "\n".join(found) == PUBLIC.strip("\n")


@pytest.mark.parametrize("name", retarget.__all__)
def test_every_public_name_is_importable_and_documented(name: str) -> None:
    """Importable, with a docstring of its own; and so is every public method and property."""
    thing = getattr(retarget, name)
    assert thing.__doc__
    assert not thing.__doc__.startswith(f"{name}(")  # what a dataclass writes where there is none
    for member, value in vars(thing).items():
        verb = name == "MemoryStore" and hasattr(Store, member)  # a store's verbs are documented by the protocol
        if not member.startswith("_") and (callable(value) or isinstance(value, property)) and not verb:
            assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"


def test_all_names_everything_public_once_and_in_order() -> None:
    """`__all__` is sorted and without doubles, and no other name in `retarget` looks public but its modules."""
    assert list(retarget.__all__) == sorted(set(retarget.__all__))
    others = {
        name for name, value in vars(retarget).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert others == set(retarget.__all__)


def test_signatures_show_real_types() -> None:
    """Not text: what help() and editors show is what holds; and what is awaited is a coroutine function."""
    assert inspect.signature(Retargeter.decide).return_annotation is Decision
    assert inspect.signature(AsyncRetargeter.decide).return_annotation is Decision
    for name in vars(Retargeter):
        if name.startswith("_") or name in ("policy", "health"):
            continue
        one, other = getattr(Retargeter, name), getattr(AsyncRetargeter, name)
        assert not inspect.iscoroutinefunction(one)
        awaited = inspect.isasyncgenfunction if name == "decide_many" else inspect.iscoroutinefunction
        assert awaited(other), name
