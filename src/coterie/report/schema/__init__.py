"""The shapes of all records, as plain JSON."""
