"""Tests of `retarget/calls`."""
