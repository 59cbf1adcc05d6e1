"""The small model that ships with the package, its text, and the script that trained it."""
