"""From a name or a file to sequences of tokens."""
