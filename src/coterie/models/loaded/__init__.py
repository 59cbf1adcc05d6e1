"""Models in memory: their stack of layers, their blocks, and running without some."""
