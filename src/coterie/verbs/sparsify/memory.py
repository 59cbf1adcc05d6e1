"""What pruning takes beside the weights of the model: states, statistics, variants, files."""

from dataclasses import dataclass

import torch

from coterie.models.loaded.stack import Stack
from coterie.sparsity.levels import Need
from coterie.sparsity.linears import LinearMap, linear_maps
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.units import Units
from coterie.sparsity.variant_cache import KEPT_IN_MEMORY
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.sparsify.request import SparsifyRequest

_STATES = 3
"""Of the texts on their way: what enters a layer, and what it hands on, in parts and as a whole."""

_COPIES = 5
"""Of one map's Hessian: the one all maps of an input share, and those its inverse goes through."""


@dataclass(frozen=True)
class PeakBytes:
    """Bytes taken at most, for a while.

    Attributes:
        memory: Beside the weights, while layers are measured, pruned and kept as variants.
        disk: In temporary files: what does not fit in memory, and a copy without the cut layers.
    """

    memory: int
    disk: int


def peak_bytes(
    prepared: Prepared, request: SparsifyRequest, stack: Stack, units: Units, candidates: float
) -> PeakBytes:
    """The most that pruning takes, from shapes alone.

    Args:
        prepared: The model's files and the texts for pruning.
        request: By which rule, and which pruner.
        stack: Its layers, with or without weights.
        units: What has a sparsity of its own.
        candidates: Allocations judged at most.
    """
    dtype, texts = prepared.dtype, prepared.pruning
    maps = [linear_maps(stack, layer) for layer in range(stack.n_players)]
    need, rule = find_pruner(request.pruner).needs, request.rule()
    memory = max(_weights(layer, dtype) for layer in maps)
    memory += max(_statistics(layer, request.need(), dtype) for layer in maps)
    memory += _COPIES * max(_statistics((one,), need, dtype) for layer in maps for one in layer)
    if texts is not None:
        width = int(prepared.source.config().get_text_config(decoder=True).hidden_size)
        memory += _STATES * texts.tokens.size * width * max(dtype.itemsize, 4)
    if not rule.keeps_variants:
        return PeakBytes(memory, 0)
    least, highest = request.bounds().least, request.bounds().most
    # A layer has at most one variant per level (per pair of levels, of two blocks).
    levels = int(highest * units.steps + 1e-9) - int(least * units.steps) + 1
    variants = min(levels**units.per_layer, int(candidates) + 1)
    made = variants * sum(_weights(layer, dtype) for layer in maps)
    known = sum(_statistics(layer, need, dtype) for layer in maps)
    disk = max(0, made - KEPT_IN_MEMORY) + max(0, known - KEPT_IN_MEMORY)
    if rule.cuts:  # the model without those layers, written when the variants are gone
        disk = max(disk, sum(entry.n_bytes for entry in prepared.source.entries))
    return PeakBytes(memory + min(made, KEPT_IN_MEMORY) + min(known, KEPT_IN_MEMORY), disk)


def _weights(maps: tuple[LinearMap, ...], dtype: torch.dtype) -> int:
    return sum(found.n_weights for found in maps) * dtype.itemsize


def _statistics(maps: tuple[LinearMap, ...], need: Need, dtype: torch.dtype) -> int:
    """Bytes of what is known of one layer's maps; sums are taken in float32 at least."""
    if need == "nothing":
        return 0
    power = 2 if need == "hessian" else 1
    entry = torch.promote_types(dtype, torch.float32).itemsize
    return sum(found.weight.shape[1] ** power for found in maps) * entry
