"""Tests of `retarget/operate`."""
