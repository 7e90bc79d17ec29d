"""Tests of `retarget/logs`."""
