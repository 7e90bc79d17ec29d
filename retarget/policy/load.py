"""Loading a policy: from TOML or a mapping, and what is refused.

Rules:
- An error names the place, the text and the cure; all errors of a policy are told at once.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, model_validator

from retarget.errors import PolicyError
from retarget.policy import grammar
from retarget.policy.grammar import Cap
from retarget.policy.lint import Finding, findings
from retarget.policy.models import Annoyance, Campaign, PolicyModel, Rules, Segment, check_text, load_zone
from retarget.timelines import end_instant, instant

_TOLD = 1_000
"""The longest that one problem is told, in characters."""


class Policy(PolicyModel):
    """Everything the ad server's conscience knows. Load it with `from_toml`, or build it in Python.

    Raises `PolicyError` listing every problem with its place and cure.
    """

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Load a policy file. Raises `PolicyError` with every problem, or that the file is unreadable or no TOML."""
        try:
            return cls.from_text(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise _refused([f"{path}: {error}"]) from error
        except PolicyError as error:
            raise _refused(f"{path}: {problem}" for problem in error.problems) from error

    @classmethod
    def from_text(cls, toml: str) -> Self:
        """Load a policy from TOML text. Raises `PolicyError`."""
        try:
            data = tomllib.loads(toml)
        except (
            ValueError,
            RecursionError,
        ) as error:  # a ValueError that is no TOMLDecodeError: a number too long to read
            raise _refused([f"this is no TOML: {error}"]) from error
        return cls.model_validate(data)

    def findings(self, *, events: Collection[str] = (), labels: Collection[str] = ()) -> list[Finding]:
        """What is unsound in it though it loads, each with its place and cure; none for a sound policy.

        `events` and `labels` are the event names and label kinds that a log is known to have.
        """
        return findings(self, events=events, labels=labels)

    @model_validator(mode="wrap")
    @classmethod
    def _errors_are_ours(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401
        try:
            policy = handler(data)
        except ValidationError as error:
            raise _refused(_problem(details) for details in error.errors(include_url=False)) from error
        problems = _contradictions(policy)
        if problems:
            raise _refused(problems)
        return policy


def _refused(problems: Iterable[str]) -> PolicyError:
    """Every problem in print: what a file holds may be endless, or no Unicode."""
    printable = (problem.encode(errors="backslashreplace").decode() for problem in problems)
    return PolicyError([f"{text[:_TOLD]} ..." if len(text) > _TOLD else text for text in printable])


def _contradictions(policy: Policy) -> list[str]:
    """What no single key can show: texts that cannot be ids, flights that end first, rules nobody can pass."""
    problems = _wrong_labels(policy)
    problems += [
        f"{place}: {cap.text!r}: the threshold belongs to no one campaign, so it has no flight; write another window"
        for place, threshold in _thresholds(policy)
        for cap in threshold
        if cap.window.period == "flight"
    ]
    problems += [
        f"annoyance.segment.{key}.who: {condition.text!r}: a segment is about the visitor alone; take the label out"
        for key, segment in (policy.annoyance.segment.items() if policy.annoyance else ())
        for clause in segment.who
        for condition in clause
        if grammar.labels_in(condition.subject or "")
    ]
    kinds = {key.partition(":")[0] for key in policy.caps}.union(*(c.labels for c in policy.campaign.values()))
    for id_ in policy.campaign:
        problems += (f"campaign.{id_}: {problem}" for problem in _wrong_campaign(policy, id_, kinds))
    return problems


def _wrong_labels(policy: Policy) -> list[str]:
    """Labels and ids that cannot be such."""
    problems: list[str] = []
    texts = [(f"caps.{key}", key, "label") for key in policy.caps]
    for key in policy.caps:
        kind, colon, value = key.partition(":")
        if not grammar.is_kind(kind) or (colon and not value):
            problems.append(f'caps.{key}: {key!r} is no label: write a kind such as advertiser, or "channel:email"')
        if kind == "campaign":
            problems.append(f"caps.{key}: a campaign is no label: write caps under [campaign.ID] or [defaults]")
    for id_, campaign in policy.campaign.items():
        texts.append((f"campaign.{id_}", id_, "campaign id"))
        for kind, value in campaign.labels.items():
            place = f"campaign.{id_}.labels.{kind}"
            texts.append((place, value, "label"))
            if not grammar.is_kind(kind) or kind == "campaign":
                problems.append(f"{place}: {kind!r} cannot name a label; use letters, digits, - and _")
    for place, text, what in texts:
        try:
            check_text(text, what)
        except ValueError as error:
            problems.append(f"{place}: {error}")
    return problems


def _wrong_campaign(policy: Policy, id_: str, kinds: set[str]) -> Iterator[str]:
    """What contradicts itself in one campaign, the defaults filled in."""
    rules = policy.rules(id_)
    assert rules is not None  # noqa: S101 - it is named in the policy
    if "{" in id_ or "}" in id_:
        yield f"{id_!r} has braces, which stand for labels; rename it"
    if ":" in id_ and id_.partition(":")[0] in kinds:
        yield f"{id_!r} reads as a label of the kind {id_.partition(':')[0]!r}; rename one of them"
    if not rules.obeys and (rules.caps or rules.gap) and policy.campaign[id_].model_fields_set & {"caps", "gap"}:
        yield "obeys = false means never capped, but caps or a gap are given; take one out"
    zone = load_zone(policy.timezone)
    if rules.start and rules.end and end_instant(rules.end, zone) <= instant(rules.start, zone):
        yield f"it ends ({rules.end}) before it starts ({rules.start})"
    if policy.annoyance and rules.obeys:
        channel = rules.labels.get("channel", "")
        weight = policy.annoyance.points.get(channel, 1)
        for place, threshold in _thresholds(policy):
            for cap in threshold:
                if weight > cap.limit:
                    yield (
                        f"one impression costs {weight} points (channel {channel!r}), which {place} {cap.text!r} "
                        "never allows; raise the threshold, lower the points, or set obeys = false"
                    )


def _thresholds(policy: Policy) -> list[tuple[str, list[Cap]]]:
    """Every threshold with its place."""
    if policy.annoyance is None:
        return []
    segments = policy.annoyance.segment.items()
    own = [(f"annoyance.segment.{key}.threshold", segment.threshold) for key, segment in segments]
    return [("annoyance.threshold", policy.annoyance.threshold), *own]


def _problem(details: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    """One pydantic error as `campaign.x.caps[1]: what was read; what would be right`."""
    place = ""
    for step in details["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else str(step)
    if details["type"] == "extra_forbidden":
        known = _keys_at(details["loc"])
        near = difflib.get_close_matches(str(details["loc"][-1]), known, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        return f"{place}: unknown key; {meant}known here: {', '.join(known)}"
    message = details["msg"].removeprefix("Value error, ")
    value = details["input"]
    named = "" if repr(value) in message or isinstance(value, dict | list) else f" (it is {value!r:.80})"
    return f"{place or 'policy'}: {message}{named}"


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    models: dict[int, type[BaseModel]] = {1: Policy}
    if loc[0] == "campaign":
        models[3] = Campaign
    elif loc[0] == "annoyance":
        models |= {2: Annoyance, 4: Segment}
    elif loc[0] == "defaults":
        models[2] = Rules
    return list(models[len(loc)].model_fields)
