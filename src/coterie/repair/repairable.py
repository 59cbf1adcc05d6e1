"""What a repair needs of a full model, and a model in memory, which has it.

A model whose layers are read from disk has it too (`coterie.repair.streamed`). Where all weights
are in memory, bringing those of a layer in does nothing.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from coterie.engine.interface import CutProof, DiskTraffic
from coterie.engine.parts.head import ProjectionHead, find_head
from coterie.engine.parts.layers import LayerStack, NotReplayable
from coterie.engine.parts.replay import replayed
from coterie.engine.proof import LogitProof
from coterie.errors import RepairError
from coterie.game.coalitions import Vector
from coterie.models.cutting.verify import expect
from coterie.models.loaded.routing import input_device, routed
from coterie.models.loaded.stack import Stack
from coterie.repair.changes import Changes, ChangesInMemory, NewWeights, applied
from coterie.scores.sequence_losses import floored_losses
from coterie.texts.sets import Tokens


class Repairable(Protocol):
    """A full model whose layers can be refitted, wherever its weights are; it is left as it was."""

    @property
    def model(self) -> PreTrainedModel:
        """The model, in evaluation mode; it may be without weights."""
        ...

    @property
    def stack(self) -> Stack:
        """Its whole layers."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def traffic(self) -> DiskTraffic | None:
        """What reading weights from disk took so far; None where they are in memory."""
        ...

    @property
    def pass_bytes(self) -> int:
        """Bytes of all layers on disk; 0 where they are in memory."""
        ...

    def layers(self, tokens: Tensor) -> LayerStack:
        """The layers, to be run one by one on texts like these.

        Raises:
            RepairError: They cannot be run apart from the model.
        """
        ...

    def changes(self) -> Changes:
        """An empty account of changed weights."""
        ...

    def outside(self) -> AbstractContextManager[None]:
        """A context in which all weights that belong to no layer are in memory."""
        ...

    def head(self, tokens: Tensor) -> ProjectionHead:
        """What stands behind the last layer."""
        ...

    def losses(self, kept: Sequence[int], tokens: Tokens, weights: NewWeights) -> Vector:
        """Loss of each text under the kept layers with some weights changed, nats per token.

        Args:
            kept: The layers that stay.
            tokens: The texts, ``(n_sequences, length)``.
            weights: Changed parameters by their names in the full model; none where empty.
        """
        ...

    def proof(self, kept: Sequence[int], tokens: Tokens, weights: NewWeights) -> CutProof:
        """What the checkpoint of the kept layers with these weights must do.

        Args:
            kept: The layers that stay.
            tokens: A few texts, ``(n_sequences, length)``.
            weights: Changed parameters by their names in the full model.
        """
        ...


class WholeModel:
    """A model that is in memory.

    Args:
        model: In evaluation mode.
        stack: Its whole layers.
    """

    traffic = None
    pass_bytes = 0

    def __init__(self, model: PreTrainedModel, stack: Stack) -> None:
        self.model, self.stack = model, stack

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return input_device(self.model)

    def layers(self, tokens: Tensor) -> LayerStack:
        """The layers, checked on the first and the last of these texts."""
        try:
            return replayed(self.model, self.stack, tokens[[0, -1]])
        except NotReplayable as reason:
            raise RepairError(
                f"{type(self.model).__name__} cannot be repaired layer by layer ({reason}): leave"
                " it as it was cut (--repair none)"
            ) from reason

    def changes(self) -> Changes:
        """An empty account of changed weights."""
        return ChangesInMemory(self.model)

    def outside(self) -> AbstractContextManager[None]:
        """Nothing has to be brought in."""
        return nullcontext()

    def head(self, tokens: Tensor) -> ProjectionHead:
        """What stands behind the last layer, found on these texts."""
        return find_head(self.model, self.stack, tokens)

    def losses(self, kept: Sequence[int], tokens: Tokens, weights: NewWeights) -> Vector:
        """Loss of each text, by the model's own forward.

        Args:
            kept: The layers that stay.
            tokens: The texts, ``(n_sequences, length)``.
            weights: Changed parameters by their names in the full model.
        """
        return cut_loss(self.model, self.stack, kept, tokens, weights)

    def proof(self, kept: Sequence[int], tokens: Tokens, weights: NewWeights) -> CutProof:
        """The logits of these texts.

        Args:
            kept: The layers that stay.
            tokens: A few texts, ``(n_sequences, length)``.
            weights: Changed parameters by their names in the full model.
        """
        coalition = [layer in kept for layer in range(self.stack.n_players)]
        with applied(self.model, weights):
            return LogitProof(expect(self.model, self.stack, coalition, torch.from_numpy(tokens)))


def cut_loss(
    model: PreTrainedModel,
    stack: Stack,
    kept: Sequence[int],
    tokens: Tokens,
    weights: NewWeights,
) -> Vector:
    """Loss of each text under the kept layers with some weights changed, nats per token.

    Args:
        model: The full model, in evaluation mode; it is left as it was.
        stack: Its whole layers.
        kept: The layers that stay.
        tokens: The texts, ``(n_sequences, length)``.
        weights: Changed parameters by their names in the full model; none where empty.
    """
    coalition = [layer in kept for layer in range(stack.n_players)]
    with applied(model, weights), routed(model, stack, coalition):
        return floored_losses(model, tokens)[0]
