"""Tiny models and checks, for our tests and for those of users."""
