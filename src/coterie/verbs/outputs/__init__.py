"""What verbs write and must not write over: the gate, the exchange, records, finished runs."""
