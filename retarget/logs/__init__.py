"""A log, read."""
