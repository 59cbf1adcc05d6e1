"""Sparse layers instead of cut ones: each layer its own sparsity, from what it contributes.

`allocation` decides how sparse each layer becomes; a pruner (`magnitude`, `wanda`, `sparsegpt`)
decides which weights of a map go; `sequential` carries the calibration texts through the layers
and prunes one after the other; `write` puts the zeros into a copy of the source's files.
"""
