"""What other runtimes make of a cut checkpoint, as data that was seen by running them."""
