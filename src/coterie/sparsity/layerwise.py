"""Prune a model layer by layer: each is judged on what the pruned layers before it hand on.

Only the states between two layers are held, ``(n_sequences, length, width)``, and what a pruner
must know of the maps of one layer. The weights of the model itself become the pruned ones, so that
there is never a second copy; where they come from files one layer at a time, no more than a layer.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from coterie.models.loaded.stack import Stack
from coterie.sparsity.calibration import PruningTask
from coterie.sparsity.checks import check_allocation, check_layer, check_tokens
from coterie.sparsity.levels import (
    Allocation,
    LayerLevel,
    Level,
    PrunedLayer,
    PrunedMap,
    Pruner,
    Statistics,
    share,
)
from coterie.sparsity.linears import level_of, linear_maps

StoredDtype = Callable[[int, str], torch.dtype]
"""The dtype on disk of a parameter, by the number of its layer and its name in the layer."""

LayersDone = Callable[[int, int], None]
"""Called with the layers pruned so far and the layers in all."""


def prune_layer(
    stack: Stack,
    layer: int,
    level: LayerLevel,
    pruner: Pruner,
    statistics: Sequence[Statistics] | None = None,
    *,
    stored: StoredDtype | None = None,
) -> PrunedLayer:
    """A pruned variant of one layer; the model is left as it is.

    Args:
        stack: The layers of a model.
        layer: Which of them.
        level: How sparse it becomes.
        pruner: Which weights go.
        statistics: For each of `linear_maps`, in order; None if the pruner needs none. The same
            ones serve any number of variants at other levels.
        stored: The dtype of each parameter on disk: weights are rounded to it, so that a variant is
            what will be read back.

    Raises:
        SparsityError: The level cannot be had.
        ModelError: The layer holds weights that cannot be pruned.
    """
    maps = linear_maps(stack, layer)
    check_layer(stack, layer, level, maps)
    if statistics is None and pruner.needs != "nothing":
        raise ValueError(f"{pruner.name} needs the statistics of every map: see Calibration")
    known = statistics or [Statistics() for _ in maps]
    tensors: dict[str, Tensor] = {}
    done = []
    for found, one in zip(maps, known, strict=True):
        asked = level_of(level, found)
        weight, damping = found.weight, None
        if share(asked) > 0:
            # Experts of one fused parameter are pruned into one copy of it.
            if found.parameter not in tensors:
                tensors[found.parameter] = found.whole.clone()
            pruned = pruner.prune(weight, one, asked)
            dtype = None if stored is None else stored(layer, found.parameter)
            weight, damping = found.within(tensors[found.parameter]), pruned.damping
            weight.copy_(_rounded(pruned.weight, dtype))
        done.append(_counted(found.name, asked, weight, one.rows, damping))
    return PrunedLayer(layer, tensors, tuple(done))


def _rounded(weight: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The weight as it will be read back from a file of that dtype."""
    return weight if dtype is None else weight.to(dtype).to(weight.dtype)


def _counted(
    name: str, asked: Level, weight: Tensor, rows: int, damping: float | None
) -> PrunedMap:
    """What became of a map, its zeros counted."""
    # Counted after rounding to the stored dtype, which may make further small weights zero.
    zeros = int((weight == 0).sum())
    return PrunedMap(
        name=name,
        asked=share(asked),
        zeros=zeros,
        weights=weight.numel(),
        rows=rows,
        damping=damping,
    )


def prune_layers(
    task: PruningTask,
    allocation: Allocation,
    *,
    stored: StoredDtype | None = None,
    progress: LayersDone | None = None,
) -> Iterator[PrunedLayer]:
    """Prune all layers in turn; each is put into the model, then given to the caller.

    All levels are checked before anything is changed, as far as the weights are at hand.

    Args:
        task: The model, whose weights are CHANGED, and its pruner. Weights that come from files
            are not: a layer that is given must be written before the next one is asked for.
        allocation: A level for every layer.
        stored: The dtype of each parameter on disk, to which weights are rounded.
        progress: Called after every layer.

    Raises:
        SparsityError: A level that cannot be had, or too little text for the pruner.
        ModelError: The layers cannot be pruned.
    """
    check_allocation(task.stack, allocation)
    check_tokens(task.stack, allocation, task.pruner, task.tokens.numel())
    return _in_turn(task, allocation, stored, progress)


def _in_turn(
    task: PruningTask,
    allocation: Allocation,
    stored: StoredDtype | None,
    progress: LayersDone | None,
) -> Iterator[PrunedLayer]:
    stack, texts = task.stack, task.texts()
    for layer, level in enumerate(allocation):
        if task.weights is not None:
            task.weights.hold(layer)
        maps = linear_maps(stack, layer)
        # Measured on what the pruned layers before it hand on, as when the checkpoint runs.
        known = None if texts is None else texts.measure(layer, maps, task.pruner)
        pruned = prune_layer(stack, layer, level, task.pruner, known, stored=stored)
        del known  # before those of the next layer are gathered
        put(stack, pruned)
        if texts is not None and layer + 1 < stack.n_players:
            # Run again, now pruned: the next layer is judged on this output.
            texts.advance(layer)
        if progress is not None:
            progress(layer + 1, stack.n_players)
        yield pruned


def put(stack: Stack, pruned: PrunedLayer) -> None:
    """Make the weights of a layer those of a variant of it, in place."""
    with torch.no_grad():
        for name, tensor in pruned.tensors.items():
            stack.layers[pruned.layer].get_parameter(name).copy_(tensor)
