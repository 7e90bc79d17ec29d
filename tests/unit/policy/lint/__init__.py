"""Tests of `retarget/policy/lint`."""
