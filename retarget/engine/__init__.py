"""Policy to facts to verdict: the plan, the view of one visitor, the decision, the guards of a claim.

Never imports Redis, a store, a socket or a clock.
"""

from retarget.engine.decision import (
    AnnoyanceLevel,
    Decision,
    PlanAt,
    Verdict,
    View,
    alternatives,
    as_candidate,
    claim_alternatives,
    compile_subject,
    denying_rule,
    is_full,
    outcome,
)
from retarget.engine.plan import BoundClause, Fact, Place, Plan, Reason, Rule

__all__ = [
    "AnnoyanceLevel",
    "BoundClause",
    "Decision",
    "Fact",
    "Place",
    "Plan",
    "PlanAt",
    "Reason",
    "Rule",
    "Verdict",
    "View",
    "alternatives",
    "as_candidate",
    "claim_alternatives",
    "compile_subject",
    "denying_rule",
    "is_full",
    "outcome",
]
