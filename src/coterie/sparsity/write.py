"""Write a sparse checkpoint: a copy of the source's files with the new weights put in their places.

Names, shapes and dtypes are those of the source, so its headers are too: files are copied byte by
byte, and then the bytes of each pruned tensor are written over. What no pruner touched stays bit by
bit, in pruned tensors too, whatever the dtype they were pruned in. Memory holds one layer; the
checkpoint is an ordinary one, as large as its source.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from coterie.engine.disk.parameters import DiskNames
from coterie.engine.parts.layers import LayerWeights
from coterie.errors import ModelError, VerificationError
from coterie.models.cutting.write import Written, carried_and_left, carry
from coterie.models.files.shards import DTYPES, write_over
from coterie.models.files.sources import Source
from coterie.models.files.tensors import Entry, read_header, read_tensor
from coterie.models.loaded.stack import Stack, find_stack
from coterie.sparsity.levels import PrunedLayer, PrunedMap
from coterie.sparsity.linears import linear_maps


class SparseWriter:
    """Puts pruned layers into a copy of a source's files, one layer at a time.

    Args:
        source: From `resolve`.
        model: The model of that source, with or without weights.
        stack: Its layers.

    Raises:
        ModelError: The weights on disk are not those of the model under other names, so that they
            cannot be replaced; this is found out before anything is written.
    """

    def __init__(self, source: Source, model: PreTrainedModel, stack: Stack) -> None:
        self._source, self._model, self._stack = source, model, stack
        self._names = DiskNames(source, model)
        self._stored: dict[tuple[int, str], torch.dtype] = {}
        # Every place on disk is looked up now, so that nothing is refused after hours of pruning.
        for layer in range(stack.n_players):
            for name in dict.fromkeys(found.parameter for found in linear_maps(stack, layer)):
                tensor = stack.layers[layer].get_parameter(name)
                places = self._places(layer, {name: torch.empty_like(tensor, device="meta")})
                self._stored[layer, name] = DTYPES[places[0][0].dtype]

    def stored(self, layer: int, name: str) -> torch.dtype:
        """The dtype on disk of a parameter of a layer."""
        return self._stored[layer, name]

    def write(self, layers: Iterable[PrunedLayer], output: Path) -> tuple[PrunedLayer, ...]:
        """Copy the source into an empty folder and put pruned layers in, each as it comes.

        Args:
            layers: Such as `prune_layers` gives them.
            output: An empty folder, or one that does not exist yet. Give a temporary one and rename
                it when all is checked: after an error it is left half-written.

        Returns:
            The layers without their tensors.
        """
        # All files first; then only the bytes of pruned tensors are replaced.
        self._copy(output)
        done = []
        for pruned in layers:
            for entry, tensor in self._places(pruned.layer, pruned.tensors):
                write_over(output / self._relative(entry.file), entry, _unrounded(entry, tensor))
            done.append(PrunedLayer(pruned.layer, {}, pruned.maps))
        return tuple(done)

    def written(self, output: Path) -> Written:
        """What the folder now consists of."""
        entries = self._source.entries
        carried, left = carried_and_left(self._source.folder)
        return Written(
            files=tuple(str(self._relative(file)) for file in self._source.files),
            n_bytes=sum(entry.n_bytes for entry in entries),
            n_parameters=sum(entry.n_values for entry in entries),
            carried=carried,
            left=left,
            config_changes={},
        )

    def _copy(self, output: Path) -> None:
        output.mkdir(parents=True, exist_ok=True)
        carry(self._source.folder, output)
        # `carry` leaves these out, because a cut changes them; zeros do not.
        weights = self._source.weights
        for file in (self._source.folder / "config.json", weights.index, *weights.files):
            if file is not None:
                place = output / self._relative(file)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)

    def _relative(self, file: Path) -> Path:
        """A file of the source, relative to its folder."""
        return file.relative_to(self._source.folder)

    def _places(self, layer: int, tensors: Mapping[str, Tensor]) -> list[tuple[Entry, Tensor]]:
        """Where the parameters of a layer lie on disk, which may hold them in other pieces."""
        named = {f"{self._stack.path}.{layer}.{name}": part for name, part in tensors.items()}
        if not named:
            return []
        found = []
        # transformers may rename or merge tensors as it loads; the file has the old pieces.
        for name, tensor in _on_disk(self._model, named).items():
            entry = self._names.find(name)
            if entry is None or entry.shape != tuple(tensor.shape) or entry.dtype not in DTYPES:
                what = "nothing" if entry is None else f"{entry.dtype} {list(entry.shape)}"
                raise ModelError(
                    f"{self._source.name!r} cannot be written sparse: {name} is"
                    f" {list(tensor.shape)} in the model and {what} on disk; cut whole layers of it"
                    " instead (coterie prune)"
                )
            found.append((entry, tensor))
        return found


def _unrounded(entry: Entry, tensor: Tensor) -> Tensor:
    """The tensor, and the source's own weight wherever that is what the tensor has of it.

    A model may be pruned in a coarser dtype than it is stored in; what it keeps is not rounded.
    """
    stored = read_tensor(entry)
    # Zeros are never taken back: the stored weight may be small and not zero.
    same = (tensor.cpu() == stored.to(tensor.dtype)) & (tensor.cpu() != 0)
    return torch.where(same, stored, tensor.cpu().to(stored.dtype))


def _on_disk(model: PreTrainedModel, named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters under the names and in the pieces in which transformers saves them."""
    try:
        return revert_weight_conversion(model, named)
    except Exception as error:  # whatever a conversion that has no inverse for these may raise
        raise ModelError(
            f"{next(iter(named))} cannot be turned back into what is on disk"
            f" ({type(error).__name__}: {error}); cut whole layers of this model instead"
        ) from error


@dataclass(frozen=True)
class Sparsity:
    """What a checkpoint holds, counted after it was read back.

    Attributes:
        asked: Share of zeros asked for, of the weights of all linear maps.
        realised: The share there is.
        zeros: Zeros in all linear maps.
        weights: Weights of all linear maps.
        of_all: Zeros as a share of all parameters, embeddings included.
    """

    asked: float
    realised: float
    zeros: int
    weights: int
    of_all: float


def check_sparse(
    layers: Iterable[PrunedLayer],
    source: Source,
    model: PreTrainedModel,
    output: Path,
    weights: LayerWeights | None = None,
) -> Sparsity:
    """Compare a checkpoint that was read back with what was pruned.

    Args:
        layers: What `SparseWriter.write` gave.
        source: What was pruned.
        model: The model reloaded from ``output``.
        output: The checkpoint.
        weights: Loads the weights of a layer; None where they are in memory.

    Raises:
        VerificationError: A map has other zeros than it was given, or a file another header.
    """
    # Only bytes of weights may differ: names, shapes and places must be the same.
    for file in source.files:
        before, after = read_header(file), read_header(output / file.relative_to(source.folder))
        if [_form(entry) for entry in before.entries] != [_form(entry) for entry in after.entries]:
            raise VerificationError(f"{file.name} does not list the same tensors as the source's")
    stack = find_stack(model)
    everything: list[PrunedMap] = []
    # Count the zeros of every map anew, in the model that was read back.
    for pruned in layers:
        if weights is not None:
            weights.hold(pruned.layer)
        for found, given in zip(linear_maps(stack, pruned.layer), pruned.maps, strict=True):
            zeros = int((found.weight == 0).sum())
            if (found.name, zeros) != (given.name, given.zeros):
                raise VerificationError(
                    f"{stack.path}.{pruned.layer}.{found.name} has {zeros} zeros on disk, it was"
                    f" given {given.zeros}"
                )
        everything += pruned.maps
    return total(everything, n_parameters(model))


def total(maps: Iterable[PrunedMap], n_parameters: int) -> Sparsity:
    """The sparsity of many maps together; ``n_parameters`` counts all of the model."""
    counted = list(maps)
    weights = sum(one.weights for one in counted)
    zeros = sum(one.zeros for one in counted)
    asked = sum(one.asked * one.weights for one in counted)
    return Sparsity(asked / weights, zeros / weights, zeros, weights, zeros / n_parameters)


def n_parameters(model: nn.Module) -> int:
    """Parameters of a model, those used twice counted once."""
    return sum(tensor.numel() for tensor in model.parameters())


def _form(entry: Entry) -> tuple[str, str, tuple[int, ...], int, int]:
    return entry.name, entry.dtype, entry.shape, entry.start, entry.stop
