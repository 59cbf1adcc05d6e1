"""Layers that are read from files while others compute."""
