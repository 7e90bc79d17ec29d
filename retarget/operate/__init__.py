"""For who keeps it running: doctor, capacity planning, an embedded server, explain.

Never imports replay or the command line.
"""

from retarget.operate.capacity import Capacity, Costs, Fleet, Workload, capacity, parse_bytes, parse_number, parse_share
from retarget.operate.diagnosis import SEVERITIES, Finding, Severity
from retarget.operate.doctor import Report, connect, examine
from retarget.operate.embedded import EmbeddedServer
from retarget.operate.explain import Explanation, explain
from retarget.operate.redis_memory import Layout

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
