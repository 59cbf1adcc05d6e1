"""`sparsify`: zeros inside layers, more where a layer contributes less."""
