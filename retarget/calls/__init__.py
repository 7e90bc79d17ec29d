"""What each public method does: operations that yield requests to the store and receive its replies.

Never imports Redis, a socket, asyncio, a clock or a store.
"""

from retarget.calls.claims import Claim
from retarget.calls.operations import Operations, Options, results
from retarget.calls.requests import Batches, Request, Steps, begun, gone_on
from retarget.calls.visitors import VISITOR_BYTES, Visitors

__all__ = [
    "VISITOR_BYTES",
    "Batches",
    "Claim",
    "Operations",
    "Options",
    "Request",
    "Steps",
    "Visitors",
    "begun",
    "gone_on",
    "results",
]
