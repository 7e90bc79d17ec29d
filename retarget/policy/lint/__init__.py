"""What is unsound though it loads."""
