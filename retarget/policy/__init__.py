"""What may be written: the grammar, the models of a policy file, loading it, and linting it.

Never imports the engine, a store, Redis or a clock.
"""

from retarget.policy.grammar import Cap, Condition, Span, fill, labels_in, parse_duration
from retarget.policy.load import Policy
from retarget.policy.models import Campaign, Rules, check_text, load_zone

__all__ = [
    "Campaign",
    "Cap",
    "Condition",
    "Policy",
    "Rules",
    "Span",
    "check_text",
    "fill",
    "labels_in",
    "load_zone",
    "parse_duration",
]
