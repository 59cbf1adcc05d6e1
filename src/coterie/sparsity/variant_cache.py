"""Pruned variants of single layers, made when they are asked for and kept as long as they fit.

Every layer is pruned for what the unpruned model hands to it, so a variant does not depend on what
became of other layers: that is what lets a search judge thousands of allocations from a few dozen
variants per layer (as in EvoPress, arXiv:2410.14649). The checkpoint itself is pruned in sequence.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from coterie.sparsity.calibration import PruningTask, dense_inputs
from coterie.sparsity.layerwise import prune_layer
from coterie.sparsity.levels import Statistics
from coterie.sparsity.linears import LinearMap
from coterie.sparsity.units import Units

_Passing = Iterator[tuple[int, tuple[LinearMap, ...], list[Statistics]]]

KEPT_IN_MEMORY = 2**31
"""Bytes of variants, and of statistics, kept in memory by default; beyond, they go to files."""


class Kept:
    """Tensors put away by name: in memory as long as they fit, in files beyond.

    Args:
        folder: Where the files lie; an empty folder of the caller's.
        memory: Bytes that may stay in memory.
    """

    def __init__(self, folder: Path, memory: int) -> None:
        self._folder, self._memory = folder, memory
        self._held: dict[str, dict[str, Tensor]] = {}

    def put(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Put tensors away under a name that is new."""
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size <= self._memory:
            self._held[name] = tensors
            self._memory -= size
            return
        # safetensors writes contiguous tensors only.
        whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
        save_file(whole, self._folder / f"{name}.safetensors")

    def get(self, name: str, device: torch.device) -> dict[str, Tensor] | None:
        """What was put away under a name, if anything was; from a file, it comes to ``device``."""
        if name in self._held:
            return self._held[name]
        file = self._folder / f"{name}.safetensors"
        return load_file(file, device=str(device)) if file.exists() else None


class Variants(ABC):
    """Gives the tensors of a layer's variants; see `coterie.sparsity.variant_game.Variant`.

    Args:
        task: The model as it is, and its pruner.
        units: What has a sparsity of its own.

    Attributes:
        made: Variants made so far.
    """

    def __init__(self, task: PruningTask, units: Units) -> None:
        self.task, self.units = task, units
        self.made = 0

    @abstractmethod
    def arrived(self, layer: int) -> None:
        """A walk has come to this layer, whose own weights are in place."""

    @abstractmethod
    def __call__(self, layer: int, choice: int) -> Mapping[str, Tensor]:
        """The tensors of one variant, by their names inside the layer."""

    def make(self, layer: int, choice: int, known: Sequence[Statistics]) -> dict[str, Tensor]:
        """Prune a layer to the level that a choice stands for.

        Args:
            layer: Its number.
            choice: From 1 on; see `Units.of_choice`.
            known: Statistics of each of its maps.
        """
        self.made += 1
        level = self.units.of_choice(layer, choice)
        return prune_layer(self.task.stack, layer, level, self.task.pruner, known).tensors


class VariantCache(Variants):
    """Variants that are kept, for searches that use each of them again and again.

    Args:
        task: The model as it is, and its pruner; measured at once.
        units: What has a sparsity of its own.
        folder: Where variants and statistics lie that do not fit in memory; an empty folder of
            the caller's.
        memory: Bytes of variants that may stay in memory, and as many of statistics.
    """

    def __init__(
        self, task: PruningTask, units: Units, *, folder: Path, memory: int = KEPT_IN_MEMORY
    ) -> None:
        super().__init__(task, units)
        # A budget each, so that many variants cannot push the statistics onto disk.
        self._variants, self._measured = Kept(folder, memory), Kept(folder, memory)
        self._rows = []
        for layer, _, known in dense_inputs(task):
            self._measured.put(f"statistics-{layer}", _as_tensors(known))
            self._rows.append([one.rows for one in known])
            del known  # before those of the next layer are gathered

    def arrived(self, layer: int) -> None:
        """Nothing to do: every layer was measured on opening."""

    def __call__(self, layer: int, choice: int) -> Mapping[str, Tensor]:
        """The tensors of one variant, from where they are kept or made now."""
        name = f"{layer}-{choice}"
        # Another candidate may have asked for the same variant before.
        found = self._variants.get(name, self._device(layer))
        if found is not None:
            return found
        made = self.make(layer, choice, self.statistics(layer))
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
        return next(self.task.stack.layers[layer].parameters()).device


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


class PassingVariants(Variants):
    """Variants of the layer a walk has arrived at: made when asked for, and kept nowhere.

    For walks that use each variant once, and models whose layers come from files: of statistics,
    too, only those of one layer are held. A walk must tell of every layer, in order, from layer 0
    on; each measures anew.
    """

    def __init__(self, task: PruningTask, units: Units) -> None:
        super().__init__(task, units)
        self._passing: _Passing = iter(())
        self._known: list[Statistics] = []

    def arrived(self, layer: int) -> None:
        """Measure the layer, whose own weights are in place, on what the unpruned model gives."""
        if layer == 0:
            self._passing = dense_inputs(self.task)
        self._known = []  # freed before those of the next layer are gathered
        at, _, self._known = next(self._passing)
        assert at == layer, "a walk goes through all layers in order"

    def __call__(self, layer: int, choice: int) -> Mapping[str, Tensor]:
        """The tensors of one variant, made for this one use."""
        return self.make(layer, choice, self._known)
