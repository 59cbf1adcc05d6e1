"""Fewer bits for the weights of a checkpoint."""
