"""What holds on every store and on real servers."""
