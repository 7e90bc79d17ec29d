"""Findings: what is unsound in a policy that loads.

Reads models and grammar; imported by `policy.load` alone.
"""

from retarget.policy.lint.findings import Finding, Severity, findings

__all__ = ["Finding", "Severity", "findings"]
