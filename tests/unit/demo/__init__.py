"""Tests of `retarget/demo`."""
