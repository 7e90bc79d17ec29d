"""The conscience of the ad server: what each visitor did and was shown, and what they may still be shown."""

from retarget.calls import Claim
from retarget.engine import AnnoyanceLevel, Decision, Verdict
from retarget.errors import (
    ConfigError,
    InputError,
    LogError,
    NotExecuted,
    OutcomeUnknown,
    PartlyExecuted,
    PolicyError,
    RetargetError,
    RetargetWarning,
    StoreError,
    TokenError,
)
from retarget.events import Candidate, Event
from retarget.policy import Policy
from retarget.retargeter import AsyncRetargeter, Retargeter
from retarget.stores import MemoryStore
from retarget.timelines import Health

__all__ = [
    "AnnoyanceLevel",
    "AsyncRetargeter",
    "Candidate",
    "Claim",
    "ConfigError",
    "Decision",
    "Event",
    "Health",
    "InputError",
    "LogError",
    "MemoryStore",
    "NotExecuted",
    "OutcomeUnknown",
    "PartlyExecuted",
    "Policy",
    "PolicyError",
    "RetargetError",
    "RetargetWarning",
    "Retargeter",
    "StoreError",
    "TokenError",
    "Verdict",
]
