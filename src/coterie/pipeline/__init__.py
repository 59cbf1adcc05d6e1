"""The bridge between games and models: one file per verb, and what they share."""
