"""What is left when servers, links and processes fail."""
