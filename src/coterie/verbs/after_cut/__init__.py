"""`repair`, `heal` and `quantize`: what is done to a checkpoint after the cut."""
