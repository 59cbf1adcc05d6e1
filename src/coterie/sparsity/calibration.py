"""Calibration texts on their way through the layers of a model, and what pruners measure of them.

Only the states between two layers are held, ``(n_sequences, length, width)``, and what a pruner
must know of the maps of one layer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from coterie.engine.parts.layers import LayerStack, LayerWeights, NotReplayable, Prelude
from coterie.engine.parts.replay import check_replay
from coterie.errors import ModelError
from coterie.models.loaded.stack import Stack
from coterie.sparsity.input_statistics import InputWatch, checked_statistics, experts_one_by_one
from coterie.sparsity.levels import Pruner, Statistics
from coterie.sparsity.linears import LinearMap, linear_maps

TOKENS_AT_ONCE = 2048
"""Tokens of one call of a layer."""


@dataclass(frozen=True, eq=False)
class PruningTask:
    """A model, and how its layers are pruned.

    Attributes:
        model: In evaluation mode.
        stack: Its layers, whole ones.
        tokens: Calibration ids ``(n_sequences, length)``; a pruner that needs none reads none.
        pruner: Which weights go.
        weights: Loads the weights of a layer before it runs; None where they are in memory.
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
        weights: Loads the weights of a layer before it runs; None where they are in memory. The
            caller must have checked that such layers give the same one by one as in the model.

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
        # Two texts show whether layers that are run one by one give what the model gives.
        few = tokens[[0, -1]]
        with refused_unless_replayed(model):
            self._layers = LayerStack(model, stack, few, weights)
            if weights is None:
                check_replay(model, self._layers, few)
            self._prelude: Prelude = self._layers.prelude(tokens)
        self.states = self._prelude.embedded
        # What a layer computes inside grows with the batch: this bounds it.
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
        # The watch reads inputs while the layer runs; what the layer hands on is not needed yet.
        with experts_one_by_one(maps), InputWatch(maps, pruner.needs) as watch:
            for _ in self._pass(layer):
                pass
        found = watch.statistics()
        checked_statistics(found, maps, f"{self.stack.path}.{layer}")
        return found

    def advance(self, layer: int) -> None:
        """Run ``layer`` as its weights are now; `states` become what it hands on."""
        # With pruned weights the error goes on: the next layers are judged on what they will get.
        self.states = torch.cat(list(self._pass(layer)))

    def _pass(self, layer: int) -> Iterator[Tensor]:
        for start in range(0, len(self.states), self._rows):
            yield self._run(layer, slice(start, start + self._rows))

    def _run(self, layer: int, rows: slice) -> Tensor:
        with torch.no_grad():
            return self._layers.run(self._prelude, layer, self.states[rows], rows.start, 1)


@contextmanager
def refused_unless_replayed(model: PreTrainedModel) -> Iterator[None]:
    """Inside this block, a model whose layers cannot be run one by one is refused plainly.

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


def dense_inputs(
    task: PruningTask,
) -> Iterator[tuple[int, tuple[LinearMap, ...], list[Statistics]]]:
    """What the unpruned model gives to each layer's maps, as far as a pruner must know it.

    Yields:
        The layer, its maps, and the statistics of each; the layer's weights stay in place until
        the next layer is asked for. Delete the statistics before that, and only those of one layer
        are in memory.
    """
    texts = task.texts()
    for layer in range(task.stack.n_players):
        maps = linear_maps(task.stack, layer)
        if texts is None:
            yield layer, maps, [Statistics() for _ in maps]
            continue
        known = texts.measure(layer, maps, task.pruner)
        # Dense weights carry the texts on, so no layer is judged on what pruning did before it.
        texts.advance(layer)
        yield layer, maps, known
        del known  # before those of the next layer are gathered
