"""What policies mean, rule by rule."""
