"""Loading a policy from TOML text, a file or a mapping, and its checks across keys.

Rules:
- Every error is a PolicyError that lists all problems; each names the place, what was read and what would be right.
- A policy that contradicts itself does not load. One that is merely unsound loads, and `lint` reports it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, model_validator

from retarget.errors import PolicyError
from retarget.policy import grammar
from retarget.policy.grammar import Cap
from retarget.policy.lint import Finding, findings
from retarget.policy.models import (
    Annoyance,
    Campaign,
    PolicyModel,
    Rules,
    Segment,
    check_text,
    load_zone,
    threshold_lists,
)
from retarget.timelines import end_instant, instant

_MAX_PROBLEM = 1_000
"""The longest text of one problem, in characters; the rest is cut off."""


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
            raise _refused(_problem(details) for details in error.errors(include_url=False)) from error
        problems = _contradictions(policy)
        if problems:
            raise _refused(problems)
        return policy


def _refused(problems: Iterable[str]) -> PolicyError:
    """The error for these problems, printable and of limited length whatever the file contains."""
    printable = (problem.encode(errors="backslashreplace").decode() for problem in problems)
    return PolicyError([f"{text[:_MAX_PROBLEM]} ..." if len(text) > _MAX_PROBLEM else text for text in printable])


def _contradictions(policy: PolicyModel) -> list[str]:
    """Problems that involve more than one key, and ids and labels that are not valid texts."""
    problems = _wrong_labels(policy)
    thresholds = threshold_lists(policy)
    problems += [
        f"{place}: {cap.text!r}: a threshold covers all campaigns, so it has no flight; use another window"
        for place, caps in thresholds.items()
        for cap in caps
        if cap.window.period == "flight"
    ]
    problems += [
        f"annoyance.segment.{key}.who: {condition.text!r}: a segment depends on the visitor alone; remove the template"
        for key, segment in (policy.annoyance.segment.items() if policy.annoyance else ())
        for clause in segment.who
        for condition in clause
        if grammar.labels_in(condition.subject or "")
    ]
    kinds = {key.partition(":")[0] for key in policy.caps}.union(*(c.labels for c in policy.campaign.values()))
    zone = load_zone(policy.timezone)
    for id_, own in policy.campaign.items():
        rules = policy.rules(id_) or own
        wrong = (*_wrong_campaign(id_, own, rules, kinds, zone), *_too_heavy(policy, rules, thresholds))
        problems += (f"campaign.{id_}: {problem}" for problem in wrong)
    return problems


def _wrong_labels(policy: PolicyModel) -> list[str]:
    """Label kinds, label values and campaign ids that are not valid."""
    problems: list[str] = []
    texts = [(f"caps.{key}", key, "label") for key in policy.caps]
    for key in policy.caps:
        kind, colon, value = key.partition(":")
        if not grammar.is_label_kind(kind) or (colon and not value):
            problems.append(
                f'caps.{key}: {key!r} is not a valid label: write a kind such as advertiser, or "channel:email"'
            )
        if kind == "campaign":
            problems.append(f"caps.{key}: a campaign is not a label: write its caps under [campaign.ID] or [defaults]")
    for id_, campaign in policy.campaign.items():
        texts.append((f"campaign.{id_}", id_, "campaign id"))
        for kind, value in campaign.labels.items():
            place = f"campaign.{id_}.labels.{kind}"
            texts.append((place, value, "label"))
            if not grammar.is_label_kind(kind) or kind == "campaign":
                problems.append(f"{place}: {kind!r} cannot name a label; use letters, digits, - and _")
    for place, text, what in texts:
        try:
            check_text(text, what)
        except ValueError as error:
            problems.append(f"{place}: {error}")
    return problems


def _wrong_campaign(id_: str, own: Campaign, rules: Campaign, kinds: set[str], zone: ZoneInfo) -> Iterator[str]:
    """Contradictions within one campaign; `rules` is the campaign with defaults applied."""
    if "{" in id_ or "}" in id_:
        yield f"{id_!r} contains braces, which mark templates; rename it"
    if ":" in id_ and id_.partition(":")[0] in kinds:
        yield f"{id_!r} could be a label of the kind {id_.partition(':')[0]!r}; rename one of them"
    if not rules.obeys and (rules.caps or rules.gap) and own.model_fields_set & {"caps", "gap"}:
        yield "obeys = false means never capped, but caps or a gap are given; remove one of the two"
    if rules.start and rules.end and end_instant(rules.end, zone) <= instant(rules.start, zone):
        yield f"the flight ends ({rules.end}) before it starts ({rules.start})"


def _too_heavy(policy: PolicyModel, rules: Campaign, thresholds: Mapping[str, Sequence[Cap]]) -> Iterator[str]:
    """Thresholds that are lower than the points of a single impression of the campaign."""
    if policy.annoyance is None or not rules.obeys:
        return
    channel = rules.labels.get("channel", "")
    points = policy.annoyance.points.get(channel, 1)
    for place, caps in thresholds.items():
        for cap in caps:
            if points > cap.limit:
                yield (
                    f"one impression costs {points} points (channel {channel!r}), more than {place} {cap.text!r} "
                    "ever allows; raise the threshold, lower the points, or set obeys = false"
                )


def _problem(details: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
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
