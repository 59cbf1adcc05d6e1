"""`export`: what other runtimes need of a checkpoint, checked, and written where it can be."""
