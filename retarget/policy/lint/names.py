"""Names that are probably misspelled, and events and labels that a log does not have.

Rules:
- Labels of candidates and events of a log are unknown, not wrong: only likely misspellings are reported.
- Names are looked up together, by `spelling`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from retarget.policy.grammar import Condition, labels_in
from retarget.policy.lint.finding import Finding, make
from retarget.policy.lint.scopes import NEEDS_SHOWING
from retarget.policy.lint.spelling import misspelled
from retarget.policy.models import PolicyModel
from retarget.timelines import IMPRESSION

WELL_KNOWN = {IMPRESSION, "click", "conversion", "visit", "purchase", "signup", "dismiss", "open", "unsubscribe"}
"""Event names that are never taken for a misspelling."""

_ON_CAMPAIGNS = (*NEEDS_SHOWING, "conversion", "dismiss")


def unknown_labels(
    policy: PolicyModel, conditions: Iterable[tuple[str, Condition]], labels: Collection[str]
) -> Iterator[Finding]:
    """Labels that no campaign carries. A candidate may carry any label, so only likely misspellings are reported."""
    carried: dict[str, dict[str, None]] = {kind: {} for kind in labels}
    for campaign in policy.campaign.values():
        for kind, value in campaign.labels.items():
            carried.setdefault(kind, {})[value] = None
    filled = {kind for _, condition in conditions for kind in labels_in(condition.subject or "")}
    yield from _unknown_kinds(policy, carried, filled, named=bool(labels))
    capped: dict[str, dict[str, str]] = {}
    for key in policy.caps:
        kind, _, value = key.partition(":")
        if value:
            capped.setdefault(kind, {})[value] = f"caps.{key}"
    for kind, places in capped.items():
        yield from _misspelled_values(kind, places, carried.get(kind, {}))
    points = policy.annoyance.points if policy.annoyance else {}
    places = {channel: f"annoyance.points.{channel}" for channel in points}
    yield from _misspelled_values("channel", places, carried.get("channel", {}))


def _unknown_kinds(
    policy: PolicyModel, carried: Collection[str], filled: Collection[str], *, named: bool
) -> Iterator[Finding]:
    """Kinds of labels that nothing carries; `named`: those of the log are known."""
    capped = {key.partition(":")[0] for key in policy.caps}
    unknown = [key for key in policy.caps if key.partition(":")[0] not in carried]
    meant = misspelled((key.partition(":")[0] for key in unknown), (kind for kind in carried if kind not in capped))
    for key in unknown:
        kind = key.partition(":")[0]
        if kind not in filled and (kind in meant or named):
            nor = ", nor does the log" if named else ""
            cure = (
                f"did you mean {meant[kind]!r}?" if kind in meant else "check the name, or pass it with each candidate"
            )
            yield make("unknown-label", f"caps.{key}", f"no campaign carries a label {kind!r}{nor}", cure)


def _misspelled_values(kind: str, places: dict[str, str], carried: Collection[str]) -> Iterator[Finding]:
    """Values of a kind that no campaign carries, each with the place that names it."""
    rest = (value for value in carried if value not in places)
    for value, meant in misspelled((value for value in places if value not in carried), rest).items():
        text = f"no campaign carries the {kind} {value!r}"
        yield make("unknown-label", places[value], text, f"did you mean {meant!r}?")


def unknown_words(
    policy: PolicyModel, conditions: Collection[tuple[str, Condition]], events: Collection[str]
) -> Iterator[Finding]:
    """Events that the log does not have, or that are spelled like others; subjects spelled like campaigns."""
    used = Counter(condition.event for _, condition in conditions)
    if events:
        unknown, known = [event for event in used if event not in {*events, IMPRESSION}], [*events]
    else:
        unknown = [event for event, times in used.items() if times == 1 and event not in WELL_KNOWN]
        known = [*sorted(WELL_KNOWN), *used]
    meant = misspelled(unknown, known)
    reported = {*unknown} if events else {*meant}
    campaigns = misspelled(
        (condition.subject for _, condition in conditions if condition.subject and _may_be_campaign(condition, policy)),
        policy.campaign,
    )
    for place, condition in conditions:
        event, subject = condition.event, condition.subject
        if event in reported:
            text = f"the log has no event {event!r}" if events else f"no other rule names an event {event!r}"
            cure = f"did you mean {meant[event]!r}?" if event in meant else "check the name, and that it is recorded"
            yield make("unknown-event", place, f"{condition.text!r}: {text}", cure)
        if subject in campaigns and _may_be_campaign(condition, policy):
            text = f"{condition.text!r}: there is no campaign {subject!r}"
            yield make("unknown-campaign", place, text, f"did you mean {campaigns[subject]!r}?")


def _may_be_campaign(condition: Condition, policy: PolicyModel) -> bool:
    """Whether the subject would be a campaign, but the policy has none of that name."""
    event, subject = condition.event, condition.subject or ""
    return event in _ON_CAMPAIGNS and subject not in policy.campaign and not {":", "{"} & set(subject)
