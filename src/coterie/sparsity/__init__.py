"""Sparse layers instead of cut ones: each layer its own sparsity, from what it contributes.

`allocation` decides how sparse each layer becomes; a pruner (`pruners/`) decides which weights of a
map go; `calibration` carries the texts through the layers, `layerwise` prunes one after the other;
`write` puts the zeros into a copy of the source's files.
"""
