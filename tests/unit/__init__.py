"""Tests by room and module; they mirror `retarget/`."""
