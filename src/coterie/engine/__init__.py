"""Many coalitions of one model at once: shared prefixes are computed once."""
