"""The tests, as a package, so that they can import their helpers by name."""
