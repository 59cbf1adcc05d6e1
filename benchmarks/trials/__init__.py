"""The trials of the campaign for faults: what is run, how it is disturbed, and what must hold."""
