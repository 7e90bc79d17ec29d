"""The docs and the README, run."""
