"""Prune a model layer by layer: each is judged on what the pruned layers before it hand on.

Only the states between two layers are held, ``(n_sequences, length, width)``, and what a pruner
must know of the maps of one layer. The weights of the model itself become the pruned ones, so that
there is never a second copy; where they come from files one layer at a time, no more than a layer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from coterie.engine.parts.layers import LayerStack, LayerWeights, NotReplayable, Prelude
from coterie.engine.parts.replay import check_replay
from coterie.errors import ModelError
from coterie.models.loaded.stack import Stack
from coterie.sparsity.bounds import SparsityError
from coterie.sparsity.input_statistics import InputWatch, checked_statistics, experts_one_by_one
from coterie.sparsity.levels import (
    Allocation,
    LayerLevel,
    PrunedLayer,
    PrunedMap,
    Pruner,
    Statistics,
    share,
)
from coterie.sparsity.linears import LinearMap, check_names, level_of, linear_maps
from coterie.sparsity.masks import check_level

TOKENS_AT_ONCE = 2048
"""Tokens of one call of a layer."""

StoredDtype = Callable[[int, str], torch.dtype]
"""The dtype on disk of a parameter, by the number of its layer and its name in the layer."""

LayersDone = Callable[[int, int], None]
"""Called with the layers pruned so far and the layers in all."""


@dataclass(frozen=True, eq=False)
class PruningTask:
    """A model, and how its layers are pruned.

    Attributes:
        model: In evaluation mode.
        stack: Its layers, whole ones.
        tokens: Calibration ids ``(n_sequences, length)``; a pruner that needs none reads none.
        pruner: Which weights go.
        weights: Brings the weights of a layer in before it runs, if they are not there already.
    """

    model: PreTrainedModel
    stack: Stack
    tokens: Tensor
    pruner: Pruner
    weights: LayerWeights | None = None

    def texts(self) -> "Calibration | None":
        """The calibration texts before the first layer; None where the pruner needs none.

        Raises:
            ModelError: The layers of this model cannot be run apart from it.
        """
        if self.pruner.needs == "nothing":
            return None
        return Calibration(self.model, self.stack, self.tokens, self.weights)


class Calibration:
    """Calibration texts on their way through the layers of a model.

    Args:
        model: In evaluation mode.
        stack: Its layers.
        tokens: Ids ``(n_sequences, length)``, without padding.
        weights: Brings the weights of a layer in before it runs, if they are not there already.
            That such layers run apart as in the model is for the caller to have checked.

    Attributes:
        states: What enters the next layer, ``(n_sequences, length, width)``.

    Raises:
        ModelError: The layers of this model cannot be run apart from it, or share more than the
            state that is handed on.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stack: Stack,
        tokens: Tensor,
        weights: LayerWeights | None = None,
    ) -> None:
        self.stack = stack
        few = tokens[[0, -1]]
        with refused_unless_replayed(model):
            self._layers = LayerStack(model, stack, few, weights)
            if weights is None:
                check_replay(model, self._layers, few)
            self._prelude: Prelude = self._layers.prelude(tokens)
        self.states = self._prelude.embedded
        self._rows = max(1, TOKENS_AT_ONCE // tokens.shape[1])

    def measure(self, layer: int, maps: Sequence[LinearMap], pruner: Pruner) -> list[Statistics]:
        """What a pruner must know of the inputs of some maps of the next layer.

        Args:
            layer: Its number.
            maps: Of that layer.
            pruner: Says what it needs.
        """
        if pruner.needs == "nothing":
            return [Statistics() for _ in maps]
        if self._layers.weights is not None:
            self._layers.weights.hold(layer)
        with experts_one_by_one(maps), InputWatch(maps, pruner.needs) as watch:
            for _ in self._pass(layer):
                pass
        found = watch.statistics()
        checked_statistics(found, maps, f"{self.stack.path}.{layer}")
        return found

    def advance(self, layer: int) -> None:
        """Run ``layer`` as its weights are now; `states` become what it hands on."""
        self.states = torch.cat(list(self._pass(layer)))

    def _pass(self, layer: int) -> Iterator[Tensor]:
        for start in range(0, len(self.states), self._rows):
            yield self._run(layer, slice(start, start + self._rows))

    def _run(self, layer: int, rows: slice) -> Tensor:
        with torch.no_grad():
            return self._layers.run(self._prelude, layer, self.states[rows], rows.start, 1)


@contextmanager
def refused_unless_replayed(model: PreTrainedModel) -> Iterator[None]:
    """Inside, layers that cannot be run apart from their model are the user's to hear of.

    Raises:
        ModelError: names the model, the reason and the way out.
    """
    try:
        yield
    except NotReplayable as reason:
        raise ModelError(
            f"{type(model).__name__} cannot be pruned layer by layer ({reason}): cut whole layers"
            " of it instead (coterie prune)"
        ) from reason


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
            if found.parameter not in tensors:
                tensors[found.parameter] = found.whole.clone()
            pruned = pruner.prune(weight, one, asked)
            damping = pruned.damping
            kept = pruned.weight
            if stored is not None:
                kept = kept.to(stored(layer, found.parameter)).to(weight.dtype)
            weight = found.within(tensors[found.parameter])
            weight.copy_(kept)
        zeros = int((weight == 0).sum())
        done.append(PrunedMap(found.name, share(asked), zeros, weight.numel(), one.rows, damping))
    return PrunedLayer(layer, tensors, tuple(done))


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
        known = None if texts is None else texts.measure(layer, maps, task.pruner)
        pruned = prune_layer(stack, layer, level, task.pruner, known, stored=stored)
        del known  # before those of the next layer are gathered
        put(stack, pruned)
        if texts is not None and layer + 1 < stack.n_players:
            texts.advance(layer)
        if progress is not None:
            progress(layer + 1, stack.n_players)
        yield pruned


def dense_inputs(
    task: PruningTask,
) -> Iterator[tuple[int, tuple[LinearMap, ...], list[Statistics]]]:
    """What the unpruned model gives to each layer's maps, as far as a pruner must know it.

    Yields:
        The layer, its maps, and the statistics of each; its weights stay until the next is asked.
        Whoever lets the statistics go before has those of one layer in memory.
    """
    texts = task.texts()
    for layer in range(task.stack.n_players):
        maps = linear_maps(task.stack, layer)
        if texts is None:
            yield layer, maps, [Statistics() for _ in maps]
            continue
        known = texts.measure(layer, maps, task.pruner)
        texts.advance(layer)
        yield layer, maps, known
        del known


def put(stack: Stack, pruned: PrunedLayer) -> None:
    """Make the weights of a layer those of a variant of it, in place."""
    with torch.no_grad():
        for name, tensor in pruned.tensors.items():
            stack.layers[pruned.layer].get_parameter(name).copy_(tensor)


def check_allocation(stack: Stack, allocation: Allocation) -> None:
    """Refuse an allocation that some layer cannot have.

    Raises:
        SparsityError: The number of levels is not that of the layers, or a level cannot be had.
        ModelError: A layer holds weights that cannot be pruned.
    """
    if stack.players != "layer":
        raise ValueError("an allocation speaks of whole layers: give their stack")
    if len(allocation) != stack.n_players:
        raise SparsityError(
            f"the allocation has {len(allocation)} levels, the model {stack.n_players} layers: give"
            " one for each"
        )
    for layer, level in enumerate(allocation):
        check_layer(stack, layer, level, linear_maps(stack, layer))


def check_layer(stack: Stack, layer: int, level: LayerLevel, maps: Sequence[LinearMap]) -> None:
    """Refuse a level that one layer cannot have.

    Args:
        stack: The layers of a model.
        layer: Which of them.
        level: How sparse it should become.
        maps: The linear maps of that layer.

    Raises:
        SparsityError: Names the map, the level and the rule.
    """
    where = f"{stack.path}.{layer}"
    check_names(level, tuple(maps), where)
    for found in maps:
        check_level(level_of(level, found), found.weight.shape[1], f"{where}.{found.name}")


def widest_input(stack: Stack) -> int:
    """Inputs of the widest linear map in any layer; weights are not looked at."""
    maps = [found for layer in range(stack.n_players) for found in linear_maps(stack, layer)]
    return max(found.weight.shape[1] for found in maps)


def check_tokens(stack: Stack, allocation: Allocation, pruner: Pruner, tokens: int) -> None:
    """Refuse texts that are too short for a Hessian of full rank.

    An expert sees only the tokens routed to it, so of experts only what all of them get is asked;
    the record counts the rows each has seen.

    Args:
        stack: The layers of a model; weights are not looked at.
        allocation: A level for every layer.
        pruner: Says what it needs.
        tokens: Calibration tokens there are.

    Raises:
        SparsityError: Names the tokens there are, those that are needed, and the damping without
            which the Hessian would have no inverse.
    """
    if pruner.needs != "hessian":
        return
    widths = {
        found.weight.shape[1]: f"{stack.path}.{layer}.{found.name}"
        for layer, level in enumerate(allocation)
        for found in linear_maps(stack, layer)
        if share(level_of(level, found)) > 0
    }
    widest = max(widths, default=0)
    if tokens < widest:
        damping = getattr(pruner, "damping", 0.0)
        raise SparsityError(
            f"{tokens} calibration tokens are too few for {pruner.name}: {widths[widest]}"
            f" has {widest} inputs, and from fewer tokens than inputs its Hessian would be made up"
            f" by the damping ({damping:g} of its mean diagonal); prune on at least {widest}"
            " tokens (--pruning-sequences), better ten times as many, or by wanda"
        )
