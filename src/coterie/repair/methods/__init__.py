"""The repairs, one file each, each with its equation and its paper."""
