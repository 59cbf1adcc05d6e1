"""The repair of a model that is never whole in memory: a layer's weights come when it runs.

Of weights there are two layers in memory at any time, the one that runs and the next as it is read.
Those that a repair has changed wait in files of their own, and are put in again whenever their
layer is.
"""

import os
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from coterie.engine.disk.layer_weights import ShardedWeights
from coterie.engine.disk.parameters import empty_model, find_places
from coterie.engine.interface import CutProof, DiskTraffic
from coterie.engine.parts.head import ProjectionHead
from coterie.engine.parts.layers import LayerStack
from coterie.engine.played_texts import vocabulary_of
from coterie.engine.proof import LossProof
from coterie.engine.streamed_game import StreamedGame
from coterie.errors import MachineError
from coterie.game.coalitions import Vector
from coterie.models.families.fields import text_config
from coterie.models.files.sources import Source
from coterie.models.loaded.stack import find_stack
from coterie.quantization.checkpoint import check_plain
from coterie.repair.changes import Changes, NewWeights, check_unshared, checked_finite
from coterie.repair.walk import Walk
from coterie.scores.sequence_losses import floored
from coterie.texts.sets import Tokens


def check_streamed_repair(source: Source) -> None:
    """Refuse what can be refused of a repair from disk before a weight is read.

    Raises:
        UserError: The checkpoint is quantized, or cannot be read layer by layer, or its layers
            share weights.
    """
    check_plain(source)
    config = source.config()
    model = empty_model(config, torch.float32, trust_remote_code=source.trust_remote_code)
    check_unshared(model, find_stack(model))
    find_places(source, model)


class StreamedModel:
    """A model whose layers are read from disk as a walk comes to them.

    Args:
        source: The checkpoint.
        tokens: A few texts, ``(n_sequences, length)``, as long as all that are given later.
        dtype: What to compute in.
        device: Where to compute; states rest there too.

    Raises:
        ModelError: It cannot be read layer by layer.
    """

    def __init__(
        self, source: Source, tokens: Tokens, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._open, self._dtype = partial(StreamedGame, dtype=dtype, device=device, kl=False), dtype
        self._game = self._open(source, tokens)
        self.model, self.stack, self.device = self._game.model, self._game.stack, device

    @property
    def weights(self) -> ShardedWeights:
        """What brings the weights in."""
        return self._game.weights

    @property
    def pass_bytes(self) -> int:
        """Bytes of all layers on disk."""
        return self._game.pass_bytes

    @property
    def traffic(self) -> DiskTraffic:
        """What reading weights from disk took so far."""
        return self._game.traffic

    def writer_bytes(self, layer: int) -> int:
        """Bytes of the maps of a layer that may write to the state: those as wide as it is."""
        width = int(text_config(self.model.config).hidden_size)
        return sum(
            sum(part.numel() * part.element_size() for part in module.parameters(recurse=False))
            for module in self.stack.layers[layer].modules()
            if isinstance(module, nn.Linear | Conv1D)
            and module.weight.shape[1 if isinstance(module, Conv1D) else 0] == width
        )

    def layers(self, tokens: Tensor) -> LayerStack:
        """The layers, which were checked when the model was opened."""
        layers = self._game.batches.layers
        assert isinstance(layers, LayerStack)  # blocks are not streamed
        return layers

    def changes(self) -> Changes:
        """An empty account of changed weights."""
        return _ChangesOnDisk(self.model, self.weights)

    def outside(self) -> AbstractContextManager[None]:
        """A context in which all weights that belong to no layer are in memory."""
        return self.weights.ending(list(self.model.modules()))

    def head(self, tokens: Tensor) -> ProjectionHead:
        """What stands behind the last layer."""
        return self._game.batches.head

    def losses(self, kept: Sequence[int], tokens: Tokens, weights: NewWeights) -> Vector:
        """Loss of each text, in one pass over the kept layers.

        Args:
            kept: The layers that stay.
            tokens: The texts, ``(n_sequences, length)``.
            weights: Changed parameters by their names in the full model.
        """
        return floored(self._losses(kept, tokens, weights), vocabulary_of(self.model))[0]

    def proof(self, kept: Sequence[int], tokens: Tokens, weights: NewWeights) -> CutProof:
        """The losses of these texts, for what is written is never whole either.

        Args:
            kept: The layers that stay.
            tokens: A few texts, ``(n_sequences, length)``.
            weights: Changed parameters by their names in the full model.
        """
        reopen = partial(self._open, tokens=tokens)
        found = self._losses(kept, tokens, weights)
        return LossProof(found, self._dtype, reopen, whose="of the repaired layers")

    @torch.no_grad()
    def _losses(self, kept: Sequence[int], tokens: Tokens, weights: NewWeights) -> Vector:
        ids = torch.from_numpy(tokens).to(self.device)
        batches, rows = self._game.batches, max(1, self._game.shape.head_tokens // ids.shape[1])
        with self.weights.changed(weights):
            states = Walk(self, kept, ids).end()
            with batches.ending():
                read = [
                    batches.read_full(state, own, kl=False).nll.double().mean(dim=1)
                    for state, own in zip(states.split(rows), ids.split(rows), strict=True)
                ]
        return np.asarray(torch.cat(read).cpu().numpy())


class _ChangesOnDisk:
    """Changed weights of a model whose own are on disk.

    Args:
        model: The model.
        weights: What brings its weights in, and from now on the changed ones instead.
    """

    def __init__(self, model: PreTrainedModel, weights: ShardedWeights) -> None:
        self._model, self._weights = model, weights
        self._new: NewWeights = {}

    def put(self, name: str, value: Tensor) -> None:
        """Make `value` the parameter of this name, in the dtype that it has.

        Raises:
            RepairError: The value is no number in that dtype.
        """
        parameter = self._model.get_parameter(name)
        new = checked_finite(name, value.to(parameter.dtype))
        if name not in self._new:
            self._new[name] = in_a_file(parameter.shape, parameter.dtype)
        self._weights.change(name, self._new[name].copy_(new))

    def __bool__(self) -> bool:
        return bool(self._new)

    def taken_back(self) -> NewWeights:
        """Bring in again what is on disk, and hand over the new weights."""
        new, self._new = self._new, {}
        self._weights.change_nothing()
        return new


def in_a_file(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """A tensor that lies in a file of no name, and in memory only as far as there is room.

    The file goes with the tensor, or with the process, however that ends.

    Args:
        shape: Of the tensor.
        dtype: Of its entries.

    Raises:
        MachineError: The disk of temporary files has no room for it.
    """
    handle, name = tempfile.mkstemp(prefix="coterie-")
    n_bytes = shape.numel() * dtype.itemsize
    try:
        # Room that is missing is told here; found missing by a write to memory, it kills.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, n_bytes)
        return torch.from_file(name, shared=True, size=shape.numel(), dtype=dtype).view(shape)
    except OSError as error:
        raise MachineError(
            f"a changed weight of {n_bytes:,} bytes finds no room in {tempfile.gettempdir()}"
            f" ({error}): name a folder on another disk with TMPDIR"
        ) from error
    finally:
        os.close(handle)
        Path(name).unlink()
