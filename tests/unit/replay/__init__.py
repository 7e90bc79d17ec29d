"""Tests of `retarget/replay`."""
