"""Every error this library raises, as one tree.

    RetargetError
    ├── InputError          the caller's fault: a bad id, time, event or candidate; nothing was read or changed
    │   └── TokenError      a claim's token was forged, altered or made with another secret
    ├── PolicyError         the policy's fault: rejected when it is loaded
    ├── ConfigError         the set-up's fault: a client, an option or an extra that cannot be used
    ├── LogError            a log file's fault: unreadable, a missing column, an invalid row
    └── StoreError          the store failed
        ├── NotExecuted     the write certainly did not happen
        ├── OutcomeUnknown  the write may have happened; repeating it with the same event id is safe
        └── PartlyExecuted  some events or claims of a list failed; `results` has the outcome of each

A denial is not an error: it is the value of a `Verdict`.

Rules:
- Messages name the key, the value and what would be right; they never contain a visitor's id.
- Every error can be pickled and copied.
"""

from __future__ import annotations

from typing import Any


class RetargetError(Exception):
    """The root: catch this to catch everything that `retarget` raises."""


class InputError(RetargetError, ValueError):
    """An argument of a call is wrong. Nothing was read or written."""


class TokenError(InputError):
    """A claim's token was forged, altered, or made with another secret."""


class PolicyError(RetargetError):
    """A policy is invalid. `problems` lists what is wrong, each with its place and cure; `str()` has one per line.

    Not a ValueError, so that pydantic passes it on instead of wrapping it.
    """

    problems: list[str]

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,), self.__dict__


class ConfigError(RetargetError):
    """The retargeter cannot be set up this way; the message says what to change."""


class LogError(RetargetError):
    """A log cannot be read as requested; the message names the file, the column or the row."""


class StoreError(RetargetError):
    """The store failed: it refused, timed out, is read-only or full, or holds data that is not this library's."""


class NotExecuted(StoreError):  # noqa: N818 - the name says what happened: what a handler needs to know
    """The store failed before the write took effect: it certainly did not happen."""


class OutcomeUnknown(StoreError):  # noqa: N818 - as above
    """The reply was lost: the write may or may not have happened. With an event id, repeating it is safe."""


class PartlyExecuted(StoreError):  # noqa: N818 - as above
    """Some events or claims of a list failed. `results` has for each, in order, its result or its error."""

    results: list[Any]

    def __init__(self, results: list[Any]) -> None:
        self.results = results
        failures = [result for result in results if isinstance(result, RetargetError)]
        super().__init__(f"{len(failures)} of {len(results)} failed, the first with: {failures[0]}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.results,), self.__dict__


class RetargetWarning(UserWarning):
    """Something works differently than its caller may expect; the message says how."""
