"""For whoever keeps it running: examine a server, estimate capacity, embed a server, explain a visitor.

Never imports `replay`, `live`, `integrations` or the command line.
"""

from retarget.operate.capacity import Capacity, Fleet, estimate_capacity
from retarget.operate.costs import Costs
from retarget.operate.diagnosis import GRADES, Diagnosis, Grade
from retarget.operate.doctor import Report, connect, examine
from retarget.operate.embedded import EmbeddedServer
from retarget.operate.explain import Explanation, explain_visitor
from retarget.operate.quantities import parse_bytes, parse_number, parse_share
from retarget.operate.redis_memory import Layout
from retarget.operate.workload import Workload

__all__ = [
    "GRADES",
    "Capacity",
    "Costs",
    "Diagnosis",
    "EmbeddedServer",
    "Explanation",
    "Fleet",
    "Grade",
    "Layout",
    "Report",
    "Workload",
    "connect",
    "estimate_capacity",
    "examine",
    "explain_visitor",
    "parse_bytes",
    "parse_number",
    "parse_share",
]
