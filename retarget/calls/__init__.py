"""What each public method does: operations that yield requests to the store and are sent its replies.

Never imports Redis, a socket, asyncio, a system clock or a store.
"""

from retarget.calls.claims import Claim, Confirmation
from retarget.calls.inputs import ClaimRow
from retarget.calls.operations import Operations, Row, batch_results
from retarget.calls.requests import Batches, Request, Steps
from retarget.calls.visitors import VISITOR_BYTES, Pepper, Visitors

__all__ = [
    "VISITOR_BYTES",
    "Batches",
    "Claim",
    "ClaimRow",
    "Confirmation",
    "Operations",
    "Pepper",
    "Request",
    "Row",
    "Steps",
    "Visitors",
    "batch_results",
]
