"""For who keeps it running."""
