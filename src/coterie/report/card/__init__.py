"""Records as model cards."""
