"""Tests of `retarget/cli`."""
