"""What may be written: the grammar, the models of a policy file, loading it, and linting it.

Never imports the engine, a store, Redis or a clock.
"""

from retarget.policy.formula import (
    FALSE,
    MOST_CLAUSES,
    TRUE,
    Clause,
    Formula,
    all_of,
    any_of,
    literal,
    negated,
    outsides,
)
from retarget.policy.grammar import Cap, Condition, Span, fill, labels_in, parse_duration
from retarget.policy.load import Policy
from retarget.policy.models import Campaign, Rules, check_text, events_named, load_zone

__all__ = [
    "FALSE",
    "MOST_CLAUSES",
    "TRUE",
    "Campaign",
    "Cap",
    "Clause",
    "Condition",
    "Formula",
    "Policy",
    "Rules",
    "Span",
    "all_of",
    "any_of",
    "check_text",
    "events_named",
    "fill",
    "labels_in",
    "literal",
    "load_zone",
    "negated",
    "outsides",
    "parse_duration",
]
