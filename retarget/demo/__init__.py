"""What `retarget demo` ships with: the made-up shop's policy."""
