"""Layers cut for good: config, weights, and the proof that nothing else changed."""
