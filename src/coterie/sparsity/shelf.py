"""Pruned variants of single layers, made when they are asked for and kept as long as there is room.

Every layer is pruned for what the unpruned model hands to it, so a variant does not depend on what
became of other layers: that is what lets a search judge thousands of allocations from a few dozen
variants per layer (as in EvoPress, arXiv:2410.14649). The checkpoint itself is pruned in sequence.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from coterie.evaluation.capture import LayerWeights
from coterie.models.stack import Stack
from coterie.sparsity.interface import Pruner, Statistics
from coterie.sparsity.linears import LinearMap, linear_maps
from coterie.sparsity.sequential import Calibration, prune_layer
from coterie.sparsity.units import Units

_Passing = Iterator[tuple[int, tuple[LinearMap, ...], list[Statistics]]]

ROOM = 2**31
"""Bytes of variants kept in memory by default; beyond, they go to files."""


def dense_statistics(
    model: PreTrainedModel,
    stack: Stack,
    tokens: Tensor,
    pruner: Pruner,
    weights: LayerWeights | None = None,
) -> Iterator[tuple[int, tuple[LinearMap, ...], list[Statistics]]]:
    """What the unpruned model gives to each layer's maps, as far as a pruner must know it.

    Args:
        weights: Brings the weights of a layer in, if they are not there already.

    Yields:
        The layer, its maps, and the statistics of each; its weights stay until the next is asked.
    """
    texts = None if pruner.needs == "nothing" else Calibration(model, stack, tokens, weights)
    for layer in range(stack.n_players):
        maps = linear_maps(stack, layer)
        if texts is None:
            yield layer, maps, [Statistics() for _ in maps]
            continue
        known = texts.measure(layer, maps, pruner)
        texts.advance(layer)
        yield layer, maps, known


class Shelf:
    """Gives the tensors of a layer's variants; see `coterie.sparsity.choices.Variant`.

    Args:
        folder: Where variants lie that memory has no room for; an empty folder of the caller's.
        room: Bytes of variants that may stay in memory.

    Attributes:
        made: Variants made so far.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stack: Stack,
        tokens: Tensor,
        pruner: Pruner,
        units: Units,
        *,
        folder: Path,
        room: int = ROOM,
    ) -> None:
        self.stack, self.pruner, self.units = stack, pruner, units
        self.folder, self.room = folder, room
        self.made = 0
        self._known = {
            layer: statistics
            for layer, _, statistics in dense_statistics(model, stack, tokens, pruner)
        }
        self._held: dict[tuple[int, int], dict[str, Tensor]] = {}
        self._bytes = 0

    def __call__(self, layer: int, choice: int) -> Mapping[str, Tensor]:
        """The tensors of one variant, by their names inside the layer."""
        key, file = (layer, choice), self.folder / f"{layer}-{choice}.safetensors"
        if key in self._held:
            return self._held[key]
        if file.exists():
            return load_file(file)
        level = self.units.of_choice(layer, choice)
        made = prune_layer(self.stack, layer, level, self.pruner, self._known[layer]).tensors
        self.made += 1
        size = sum(tensor.nbytes for tensor in made.values())
        if self._bytes + size <= self.room:
            self._held[key] = made
            self._bytes += size
        else:
            save_file({name: tensor.contiguous() for name, tensor in made.items()}, file)
        return made


class PassingShelf:
    """Variants of the layer a walk has arrived at: made when asked for, and kept nowhere.

    For a model whose layers come from files: of its statistics, too, only those of one layer are
    held. A walk must tell of every layer, in order, from layer 0 on.

    Attributes:
        made: Variants made so far.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stack: Stack,
        tokens: Tensor,
        pruner: Pruner,
        units: Units,
        weights: LayerWeights | None,
    ) -> None:
        self.stack, self.pruner, self.units = stack, pruner, units
        self.made = 0
        self._begin = lambda: dense_statistics(model, stack, tokens, pruner, weights)
        self._passing: _Passing = iter(())
        self._known: list[Statistics] = []

    def arrived(self, layer: int) -> None:
        """Measure the layer, whose own weights are in place, on what the unpruned model gives."""
        if layer == 0:
            self._passing = self._begin()
        at, _, self._known = next(self._passing)
        assert at == layer, "a walk goes through all layers in order"

    def __call__(self, layer: int, choice: int) -> Mapping[str, Tensor]:
        """The tensors of one variant, by their names inside the layer."""
        self.made += 1
        level = self.units.of_choice(layer, choice)
        return prune_layer(self.stack, layer, level, self.pruner, self._known).tensors
