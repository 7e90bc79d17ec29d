"""From policy to facts to verdicts: the plan, the view of one visitor, the decision, the guards of a claim.

Never imports Redis, a store, a socket or a clock.
"""

from retarget.engine.decision import AnnoyanceLevel, Decision, Verdict, denying_rule
from retarget.engine.fullness import is_full
from retarget.engine.guards import alternatives, claim_alternatives, outcome
from retarget.engine.places import Place
from retarget.engine.plan import BoundClause, Fact, Plan, as_candidate, compile_subject
from retarget.engine.rules import Reason, Rule
from retarget.engine.terms import Topic, is_label
from retarget.engine.view import PlanAt, View

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
    "Topic",
    "Verdict",
    "View",
    "alternatives",
    "as_candidate",
    "claim_alternatives",
    "compile_subject",
    "denying_rule",
    "is_full",
    "is_label",
    "outcome",
]
