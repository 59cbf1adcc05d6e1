"""What is particular about model families, as data."""
