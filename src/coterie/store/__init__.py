"""Observations in SQLite, and a game that asks them before it asks the model."""
