"""Pruned variants of single layers, made when they are asked for and kept as long as there is room.

Every layer is pruned for what the unpruned model hands to it, so a variant does not depend on what
became of other layers: that is what lets a search judge thousands of allocations from a few dozen
variants per layer (as in EvoPress, arXiv:2410.14649). The checkpoint itself is pruned in sequence.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from coterie.engine.parts.layers import LayerWeights
from coterie.models.loaded.stack import Stack
from coterie.sparsity.layerwise import Calibration, prune_layer
from coterie.sparsity.levels import Pruner, Statistics
from coterie.sparsity.linears import LinearMap, linear_maps
from coterie.sparsity.units import Units

_Passing = Iterator[tuple[int, tuple[LinearMap, ...], list[Statistics]]]

ROOM = 2**31
"""Bytes of variants, and of statistics, kept in memory by default; beyond, they go to files."""


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
        Whoever lets the statistics go before has those of one layer in memory.
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
        del known


class Kept:
    """Tensors put away by name: in memory as long as there is room, in files beyond.

    Args:
        folder: Where the files lie; an empty folder of the caller's.
        room: Bytes that may stay in memory.
    """

    def __init__(self, folder: Path, room: int) -> None:
        self._folder, self._room = folder, room
        self._held: dict[str, dict[str, Tensor]] = {}

    def put(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Put tensors away under a name that is new."""
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size <= self._room:
            self._held[name] = tensors
            self._room -= size
            return
        whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
        save_file(whole, self._folder / f"{name}.safetensors")

    def get(self, name: str, device: torch.device) -> dict[str, Tensor] | None:
        """What was put away under a name, if anything was; from a file, it comes to ``device``."""
        if name in self._held:
            return self._held[name]
        file = self._folder / f"{name}.safetensors"
        return load_file(file, device=str(device)) if file.exists() else None


class VariantCache:
    """Gives the tensors of a layer's variants; see `coterie.sparsity.variant_game.Variant`.

    Args:
        tokens: The texts that are measured on, ``(n_sequences, length)``.
        folder: Where variants and statistics lie that memory has no room for; an empty folder of
            the caller's.
        room: Bytes of variants that may stay in memory, and as many of statistics.

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
        self.made = 0
        self._variants, self._measured = Kept(folder, room), Kept(folder, room)
        self._rows = []
        for layer, _, known in dense_statistics(model, stack, tokens, pruner):
            self._measured.put(f"statistics-{layer}", _as_tensors(known))
            self._rows.append([one.rows for one in known])
            del known  # before those of the next layer are gathered

    def __call__(self, layer: int, choice: int) -> Mapping[str, Tensor]:
        """The tensors of one variant, by their names inside the layer."""
        name = f"{layer}-{choice}"
        found = self._variants.get(name, self._device(layer))
        if found is not None:
            return found
        level = self.units.of_choice(layer, choice)
        known = self.statistics(layer)
        made = prune_layer(self.stack, layer, level, self.pruner, known).tensors
        self.made += 1
        self._variants.put(name, made)
        return made

    def statistics(self, layer: int) -> list[Statistics]:
        """What was measured of the maps of a layer."""
        tensors = self._measured.get(f"statistics-{layer}", self._device(layer)) or {}
        return [
            _statistics(rows, tensors.get(f"{at}.squares"), tensors.get(f"{at}.hessian"))
            for at, rows in enumerate(self._rows[layer])
        ]

    def _device(self, layer: int) -> torch.device:
        return next(self.stack.layers[layer].parameters()).device


def _as_tensors(known: list[Statistics]) -> dict[str, Tensor]:
    """Statistics of a layer's maps by name; what a Hessian holds is not said twice."""
    tensors = {}
    for at, one in enumerate(known):
        if one.hessian is not None:
            tensors[f"{at}.hessian"] = one.hessian
        elif one.squares is not None:
            tensors[f"{at}.squares"] = one.squares
    return tensors


def _statistics(rows: int, squares: Tensor | None, hessian: Tensor | None) -> Statistics:
    return Statistics(rows, squares if hessian is None else hessian.diagonal(), hessian)


class PassingShelf:
    """Variants of the layer a walk has arrived at: made when asked for, and kept nowhere.

    For walks that use each variant once, and models whose layers come from files: of statistics,
    too, only those of one layer are held. A walk must tell of every layer, in order, from layer 0
    on; each measures anew.

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
        weights: LayerWeights | None = None,
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
        self._known = []  # let go before those of the next layer are gathered
        at, _, self._known = next(self._passing)
        assert at == layer, "a walk goes through all layers in order"

    def __call__(self, layer: int, choice: int) -> Mapping[str, Tensor]:
        """The tensors of one variant, by their names inside the layer."""
        self.made += 1
        level = self.units.of_choice(layer, choice)
        return prune_layer(self.stack, layer, level, self.pruner, self._known).tensors
