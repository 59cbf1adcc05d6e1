"""The small model that ships with the package, and its text."""
