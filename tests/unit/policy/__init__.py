"""Tests of `retarget/policy`."""
