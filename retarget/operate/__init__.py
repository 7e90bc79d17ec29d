"""For who keeps it running: doctor, capacity planning, an embedded server, explain.

Never imports replay or the command line.
"""

from retarget.operate.capacity import Capacity, Fleet, capacity
from retarget.operate.costs import Costs
from retarget.operate.diagnosis import SEVERITIES, Finding, Severity
from retarget.operate.doctor import Report, connect, examine
from retarget.operate.embedded import EmbeddedServer
from retarget.operate.explain import Explanation, explain
from retarget.operate.quantities import parse_bytes, parse_number, parse_share
from retarget.operate.redis_memory import Layout
from retarget.operate.workload import Workload

__all__ = [
    "SEVERITIES",
    "Capacity",
    "Costs",
    "EmbeddedServer",
    "Explanation",
    "Finding",
    "Fleet",
    "Layout",
    "Report",
    "Severity",
    "Workload",
    "capacity",
    "connect",
    "examine",
    "explain",
    "parse_bytes",
    "parse_number",
    "parse_share",
]
