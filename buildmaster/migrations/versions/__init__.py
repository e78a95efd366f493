"""The changes, oldest first by their names."""
