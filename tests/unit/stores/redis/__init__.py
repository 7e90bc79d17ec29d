"""Tests of `retarget/stores/redis`."""
