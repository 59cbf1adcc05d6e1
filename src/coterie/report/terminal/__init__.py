"""Records as tables on a terminal."""
