"""What a policy says that cannot all be meant, and what is too large: problems that no key shows by itself.

Rules:
- Each problem is a text that begins with its place and ends with a cure.
- A part of the policy that could not be read (`unread`) stands at its default here. A problem that such a part could
  explain is not reported: it may be gone once that part is mended.
- Every check takes time in proportion to what it reads.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator
from typing import TypeAlias

from retarget.errors import PolicyError
from retarget.policy import grammar
from retarget.policy.formula import MOST_CLAUSES, Formula, all_of, any_of, clauses_of_any, literal, outsides
from retarget.policy.grammar import Cap, Condition, Span
from retarget.policy.models import PolicyModel, Rules, Segment, check_text, load_zone, threshold_lists
from retarget.timelines import DAY, end_instant, instant

Place: TypeAlias = tuple[str | int, ...]
"""Where a part of the policy stands, as keys and positions."""

MOST_FACTS = 65_000
"""The most facts that may decide on one campaign: a claim sends all of them to the store."""


_WHO_OBEYS = ("obeys", "labels")
"""What decides which campaigns of a channel obey."""


def contradictions(policy: PolicyModel, unread: Collection[Place] = ()) -> list[str]:
    """Everything that contradicts itself or is too large, in the order of the policy file."""
    lost = set(unread)
    problems = [*_wrong_labels(policy), *_wrong_thresholds(policy), *_too_heavy(policy, lost)]
    kinds = {key.partition(":")[0] for key in policy.caps}.union(*(c.labels for c in policy.campaign.values()))
    if policy.defaults is not None:
        problems += (f"defaults: {problem}" for problem in _wrong_rules(policy, ("defaults",), policy.defaults, lost))
    for id_ in policy.campaign:
        problems += (f"campaign.{id_}: {problem}" for problem in _wrong_campaign(policy, id_, kinds, lost))
    wrong, facts = _wrong_segments(policy)
    return [*problems, *wrong, *_too_many_facts(policy, facts)]


# ---- Names -----------------------------------------------------------------------------------------------------------


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


# ---- Campaigns and defaults ------------------------------------------------------------------------------------------


def _wrong_campaign(policy: PolicyModel, id_: str, kinds: set[str], unread: set[Place]) -> Iterator[str]:
    """Contradictions within one campaign, and an id that could be something else."""
    own = policy.campaign[id_]
    if "{" in id_ or "}" in id_:
        yield f"{id_!r} contains braces, which mark templates; rename it"
    if ":" in id_ and id_.partition(":")[0] in kinds:
        yield f"{id_!r} could be a label of the kind {id_.partition(':')[0]!r}; rename one of them"
    yield from _wrong_rules(policy, ("campaign", id_), own, unread)


def _wrong_rules(policy: PolicyModel, place: Place, own: Rules, unread: set[Place]) -> Iterator[str]:
    """Contradictions among the rules of a campaign or of [defaults]; `place` is where they stand.

    What a campaign only inherits is reported for [defaults], where all of it stands there.
    """
    given = own.model_fields_set
    rules = own if place == ("defaults",) else policy.rules(str(place[1])) or own

    def is_sure(*keys: str) -> bool:
        return not any({(*place, key), ("defaults", key)} & unread for key in keys)

    if not rules.obeys and (rules.caps or rules.gap) and given & {"caps", "gap"} and is_sure("obeys"):
        yield "obeys = false means never capped, but caps or a gap are given; remove one of the two"
    if rules.start and rules.end and given & {"start", "end"} and is_sure("start", "end"):
        zone, doubt = load_zone(policy.timezone), 2 * DAY if ("timezone",) in unread else 0
        if end_instant(rules.end, zone) + doubt <= instant(rules.start, zone):
            yield f"the flight ends ({rules.end}) before it starts ({rules.start}); change one of them"


# ---- The threshold ---------------------------------------------------------------------------------------------------


def _wrong_thresholds(policy: PolicyModel) -> Iterator[str]:
    """Windows and templates that only make sense for one campaign."""
    for place, caps in threshold_lists(policy).items():
        for cap in caps:
            if any(map(grammar.labels_in, cap.subjects)):
                yield f"{place}: {cap.text!r}: a threshold covers all campaigns; remove the template"
            if cap.window.period == "flight":
                yield (
                    f"{place}: {cap.text!r}: a threshold covers all campaigns, so it has no flight; use another window"
                )
    for key, segment in policy.annoyance.segment.items() if policy.annoyance else ():
        for condition in (condition for clause in segment.who for condition in clause):
            if any(map(grammar.labels_in, condition.subjects)):
                yield (
                    f"annoyance.segment.{key}.who: {condition.text!r}: a segment depends on the visitor alone; "
                    "remove the template"
                )


def _too_heavy(policy: PolicyModel, unread: set[Place]) -> Iterator[str]:
    """Points of a single impression that a threshold never allows, unless nothing of that channel obeys.

    A channel that no campaign carries comes with the candidate, which may be of any campaign.
    """
    if policy.annoyance is None:
        return
    lowest: dict[int, tuple[str, Cap]] = {}
    for place, caps in threshold_lists(policy).items():
        for cap in caps:
            lowest.setdefault(cap.limit, (place, cap))
    obeying: dict[str, bool] = {}
    for id_, campaign in policy.campaign.items():
        if "channel" in campaign.labels:
            rules, channel = policy.rules(id_) or campaign, campaign.labels["channel"]
            obeying[channel] = obeying.get(channel, False) or rules.obeys
    others = policy.defaults is None or policy.defaults.obeys
    if any(place[0] in ("campaign", "defaults") and (len(place) < 3 or place[2] in _WHO_OBEYS) for place in unread):
        return
    for channel, points in policy.annoyance.points.items():
        limit = min(lowest, default=points)
        if limit < points and obeying.get(channel, others):
            place, cap = lowest[limit]
            yield (
                f"annoyance.points.{channel}: one impression costs {points} points, more than {place} {cap.text!r} "
                "ever allows; raise the threshold, lower the points, or set obeys = false in the campaigns of this "
                "channel"
            )


# ---- What is too large -----------------------------------------------------------------------------------------------


def _wrong_segments(policy: PolicyModel) -> tuple[list[str], int]:
    """Segments that multiply beyond what one rule may have; and how many facts the thresholds ask of a campaign.

    A threshold is in force for who is in its segment and in none before it. So it blocks a campaign unless it has room,
    or the visitor is in an earlier segment or not in this one.
    """
    annoyance = policy.annoyance
    if annoyance is None:
        return [], 0
    whos: list[Formula[Hashable]] = []
    for name, segment in annoyance.segment.items():
        whos.append(_who(segment, policy))
        if (clauses := clauses_of_any(_negated(whos[-1]))) > MOST_CLAUSES:
            text = (
                f"annoyance.segment.{name}.who: its {{ any = [...] }} lists multiply to {clauses:,} clauses, at most "
            )
            return [f"{text}{MOST_CLAUSES} are allowed; use fewer or shorter ones"], 0
    facts, tried = 0, 0
    try:
        for outside, caps in zip(outsides(whos), threshold_lists(policy).values(), strict=True):  # the general one last
            facts, tried = facts + _facts_of_threshold(outside, caps), tried + 1
            if facts > MOST_FACTS:
                text = f"annoyance.segment: the thresholds of {len(whos):,} segments ask more than {MOST_FACTS:,} facts"
                return [f"{text} of each campaign; use fewer segments"], 0
    except PolicyError:
        text = f"annoyance.segment: {sum(len(who) > 1 for who in whos)} segments have several conditions in who, which "
        text += (
            f"multiply to {_size(whos, tried):,} clauses, at most {MOST_CLAUSES} are allowed; use fewer such segments"
        )
        return [f"{text}: one condition, or one {{ any = [...] }}, does not multiply"], 0
    return [], facts


def _size(whos: list[Formula[Hashable]], tried: int) -> int:
    """How many clauses the segments come to: all of them, or the first few, or these and that the next does not fit."""
    some = [whos, whos[: tried + 1], *([*whos[:tried], *_negated(who)] for who in whos[tried : tried + 1])]
    return max(map(clauses_of_any, some))


def _negated(formula: Formula[Hashable]) -> Iterator[Formula[Hashable]]:
    """The formulas one of which holds if this one does not."""
    for clause in formula:
        yield all_of(literal(atom, wanted=not wanted) for atom, wanted in clause)


def _facts_of_threshold(outside: Formula[Hashable], caps: Iterable[Cap]) -> int:
    """How many facts a threshold asks: those of its own in each clause of its not being in force."""
    clauses, literals = max(1, len(outside)), sum(map(len, outside))
    return sum(literals * (1 + cap.spread) + clauses * (_facts(cap.window) + cap.spread) for cap in caps)


def _who(segment: Segment, policy: PolicyModel) -> Formula[Hashable]:
    """The formula of a visitor being described by a segment. An `any` list by itself never grows."""
    return all_of(any_of(_reached(condition, policy) for condition in clause) for clause in segment.who)


def _reached(condition: Condition, policy: PolicyModel) -> Formula[Hashable]:
    """The formula of a condition. What counts within a session needs the session to be going on."""
    reached: Formula[Hashable] = literal(
        (condition.event, condition.subject, condition.count, _same(condition.window, policy))
    )
    return all_of([reached, literal("alive")]) if _facts(condition.window) == 2 else reached


def _same(span: Span | None, policy: PolicyModel) -> Span:
    """The window, written in one way. A segment knows no campaign: its flight is as long as retention."""
    if span is None or span.period in ("lifetime", "flight"):
        return Span("rolling", policy.retention.seconds)
    return span


def _too_many_facts(policy: PolicyModel, shared: int) -> Iterator[str]:
    """Campaigns that more facts decide on than a claim may ask for; `shared` are those of the thresholds."""
    most_of_kind: dict[str, dict[str, int]] = {}
    for key, caps in policy.caps.items():
        kind, _, value = key.partition(":")
        most_of_kind.setdefault(kind, {})[value] = _facts_of_caps(caps)
    for of_kind in most_of_kind.values():  # a candidate carries one value of each kind
        shared += of_kind.pop("", 0) + max(of_kind.values(), default=0)
    places = {f"campaign.{id_}": policy.rules(id_) for id_ in policy.campaign}
    for place, rules in {"defaults": policy.defaults, **places}.items():
        facts = _facts_of_rules(rules) + (shared if rules.obeys else 0) if rules else 0
        if facts > MOST_FACTS:
            yield (
                f"{place}: {facts:,} conditions and caps decide on it, at most {MOST_FACTS:,} are allowed; use fewer: "
                'one condition on a subject that all have in common, such as a label: "purchase category:shoes"'
            )


def _facts_of_rules(rules: Rules) -> int:
    """How many facts the campaign's own rules ask, at most."""
    facts = sum(len(clause) * max(_facts(condition.window) for condition in clause) for clause in rules.audience)
    facts += sum(_facts(condition.window) for condition in rules.exclude)
    return facts + (_facts_of_caps(rules.caps) + (rules.gap is not None) if rules.obeys else 0)


def _facts_of_caps(caps: Iterable[Cap]) -> int:
    return sum(_facts(cap.window) + cap.spread for cap in caps)


def _facts(span: Span | None) -> int:
    """A session also asks whether it is going on."""
    return 2 if span and span.period == "session" else 1
