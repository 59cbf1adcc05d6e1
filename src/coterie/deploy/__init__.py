"""After the cut: quantise a checkpoint, or heal it, and say what that did."""
