"""Findings: what is unsound in a policy that loads.

Reads models and grammar; imported by `policy.load` alone.
"""

from retarget.policy.lint.finding import Finding, Severity
from retarget.policy.lint.findings import findings

__all__ = ["Finding", "Severity", "findings"]
