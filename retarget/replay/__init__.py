"""A log under a policy."""
