"""Checkpoints as sets of files: sources, downloads, shards, tensors."""
