"""`evaluate` and `bench`: models side by side, on texts, tasks and time."""
