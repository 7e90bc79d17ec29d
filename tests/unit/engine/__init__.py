"""Tests of `retarget/engine`."""
