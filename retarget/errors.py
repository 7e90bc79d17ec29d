"""Every error this library raises, as one tree.

    RetargetError
    ├── InputError          the caller's fault: a bad id, time, event or candidate; nothing was read or changed
    │   └── TokenError      a claim's token that is forged, altered or of another secret
    ├── PolicyError         the policy's fault: refused when it is loaded
    ├── ConfigError         the set-up's fault: a client, an option or an extra that cannot serve
    ├── LogError            a log file's fault: unreadable, a column missing, a row that makes no sense
    └── StoreError          nobody's fault here: the store did not answer as it should
        ├── NotExecuted     the write certainly did not happen
        ├── OutcomeUnknown  the write may have happened; repeating it with the same event id is safe
        └── PartlyExecuted  of a batch some failed; `results` says for each event what became of it

Being denied is no error: it is the value of a `Verdict`. Messages name the key, the value and what would be right;
they never carry a visitor's id.
"""

from __future__ import annotations


class RetargetError(Exception):
    """The root: catch this to catch everything `retarget` raises."""


class InputError(RetargetError, ValueError):
    """An argument of a call is wrong. Nothing was read or written."""


class TokenError(InputError):
    """A claim's token is forged, altered, or was made with another secret."""


class PolicyError(RetargetError):
    """A policy is refused. `str()` lists every problem, one a line, each with its place and cure.

    No ValueError, so that pydantic hands it through as it is instead of wrapping it in its own.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class ConfigError(RetargetError):
    """The retargeter cannot be set up like this; the message says what to change."""


class LogError(RetargetError):
    """A log cannot be read as it was asked for; the message names the file, the column or the row."""


class StoreError(RetargetError):
    """The store failed: refused, silent, read-only, full, or holding something that is not ours."""


class NotExecuted(StoreError):  # noqa: N818 - the name says what happened, which is what the handler needs
    """The store failed before the write took effect: it certainly did not happen."""


class OutcomeUnknown(StoreError):  # noqa: N818 - as above
    """The answer was lost: the write may or may not have happened. With an event id, repeating it is safe."""


class PartlyExecuted(StoreError):  # noqa: N818 - as above
    """Some events of a batch failed. `results` holds for each, in order, True, False or its own StoreError."""

    def __init__(self, results: list[bool | StoreError]) -> None:
        self.results = results
        failures = [result for result in results if isinstance(result, StoreError)]
        super().__init__(f"{len(failures)} of {len(results)} events failed, the first with: {failures[0]}")


class RetargetWarning(UserWarning):
    """Something works otherwise than its caller may think; the message says how."""
