"""Searches on a real model: methods played, finalists decided, the record of it."""
