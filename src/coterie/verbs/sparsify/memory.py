"""What pruning takes beside the weights of the model: states, statistics, variants, files."""

from dataclasses import dataclass

import torch

from coterie.models.loaded.stack import Stack
from coterie.sparsity.levels import Need
from coterie.sparsity.linears import LinearMap, linear_maps
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.units import Units
from coterie.sparsity.variant_cache import ROOM
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.sparsify.request import JUDGED_AGAIN, SparsifyRequest

_STATES = 3
"""Of the texts on their way: what enters a layer, and what it hands on, in parts and as a whole."""

_COPIES = 5
"""Of one map's Hessian: the one all maps of an input share, and those its inverse goes through."""


@dataclass(frozen=True)
class Room:
    """Bytes taken at most, for a while.

    Attributes:
        memory: Beside the weights, while layers are measured, pruned and kept as variants.
        disk: In temporary files: what memory has no room for, and a copy without the cut layers.
    """

    memory: int
    disk: int


def room_of(
    prepared: Prepared, request: SparsifyRequest, stack: Stack, units: Units, candidates: float
) -> Room:
    """The most that pruning takes, from shapes alone.

    Args:
        candidates: Allocations judged at most.
    """
    dtype, texts = prepared.dtype, prepared.pruning
    maps = [linear_maps(stack, layer) for layer in range(stack.n_players)]
    need: Need = find_pruner(request.pruner).needs
    # OWL knows of its inputs what Wanda does.
    most = "norms" if request.allocation == "owl" and need == "nothing" else need
    memory = max(_weights(layer, dtype) for layer in maps)
    memory += max(_statistics(layer, most, dtype) for layer in maps)
    memory += _COPIES * max(_statistics((one,), need, dtype) for layer in maps for one in layer)
    if texts is not None:
        width = int(prepared.source.config().get_text_config(decoder=True).hidden_size)
        memory += _STATES * texts.tokens.size * width * max(dtype.itemsize, 4)
    if request.allocation not in JUDGED_AGAIN:
        return Room(memory, 0)
    least, highest = request.bounds().least, request.bounds().most
    levels = int(highest * units.steps + 1e-9) - int(least * units.steps) + 1
    variants = min(levels**units.per_layer, int(candidates) + 1)
    made = variants * sum(_weights(layer, dtype) for layer in maps)
    known = sum(_statistics(layer, need, dtype) for layer in maps)
    disk = max(0, made - ROOM) + max(0, known - ROOM)
    if request.allocation == "mixed":  # written when those are gone
        disk = max(disk, sum(entry.n_bytes for entry in prepared.source.entries))
    return Room(memory + min(made, ROOM) + min(known, ROOM), disk)


def _weights(maps: tuple[LinearMap, ...], dtype: torch.dtype) -> int:
    return sum(found.n_weights for found in maps) * dtype.itemsize


def _statistics(maps: tuple[LinearMap, ...], need: Need, dtype: torch.dtype) -> int:
    """Bytes of what is known of one layer's maps; sums are taken in float32 at least."""
    if need == "nothing":
        return 0
    power = 2 if need == "hessian" else 1
    entry = torch.promote_types(dtype, torch.float32).itemsize
    return sum(found.weight.shape[1] ** power for found in maps) * entry
