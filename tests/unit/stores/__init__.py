"""Tests of `retarget/stores`."""
