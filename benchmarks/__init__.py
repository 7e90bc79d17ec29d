"""Measurements that anyone can repeat: `python -m benchmarks`. Every figure in the docs comes from a command here."""
