"""Policy to facts to verdict."""
