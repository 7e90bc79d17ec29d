"""Tests of `retarget/timelines`."""
