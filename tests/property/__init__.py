"""The oracle, the state machine, the fuzzers."""
