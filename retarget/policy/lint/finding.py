"""A finding: one unsound thing in a policy, and the rules that findings are of.

Rules:
- A finding is a value, and reads as one line: severity, place, what is wrong, what would be right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "remark"]

RULES: dict[str, tuple[Severity, str]] = {
    "nobody": ("error", "an audience or a segment that nobody can enter"),
    "circle": ("error", "a campaign that can only be shown after it has been shown"),
    "never-open": ("error", "a flight during which its hours and days are never open"),
    "closed-at-home": ("warning", "a flight with exact times, never open in the policy's time zone"),
    "never-binds": ("warning", "a rule that another rule implies"),
    "never-reached": ("warning", "a limit or a count above what other rules allow"),
    "twice": ("warning", "the same rule twice"),
    "counts-nothing": ("warning", "a window that begins at the newest of what it counts"),
    "never-anew": ("warning", "a window since an event that can never happen"),
    "hidden-segment": ("warning", "a segment whose visitors are all in an earlier one"),
    "beyond-retention": ("warning", "a window that looks back further than retention"),
    "unknown-label": ("warning", "a label that no campaign carries, spelled like one that is carried"),
    "unknown-campaign": ("warning", "a subject that is not a campaign, spelled like one that is"),
    "back-to-back": ("remark", "a calendar cap that can be used up just before its period ends and again just after"),
    "from-candidate": ("remark", "a template that only the candidate can fill"),
    "unknown-event": ("remark", "an event spelled like another one, or missing from the log"),
    "many-timelines": ("remark", "a rule that may remember more of one visitor than there is room for"),
    "always-open": ("remark", "hours or days that exclude nothing"),
}
"""The rules by id: their severity, and what they find."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One unsound thing in a policy: where, what is wrong, and what would be right. `rule` is a key of `RULES`."""

    severity: Severity
    place: str
    text: str
    cure: str
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.severity} {self.place}: {self.text}; {self.cure}"


def make(rule: str, place: str, text: str, cure: str) -> Finding:
    """A finding of this rule, with its severity."""
    return Finding(RULES[rule][0], place, text, cure, rule)
