"""`compare`: published methods under one evaluator, each at its stated cost."""
