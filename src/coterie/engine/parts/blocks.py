"""What a walk goes through: whole layers, or the attention and feed-forward blocks of each in turn.

A block is run through the layer it belongs to while the layer's other block adds nothing: so its
norms, its residual and whatever else the layer does to it are the model's own, of any family. That
a layer is its attention followed by its feed-forward block is checked, layer by layer: those that
feed both from one state are not.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from coterie.engine.memory import is_out_of_memory
from coterie.engine.parts.layers import LayerWeights, NotReplayable, Prelude
from coterie.engine.parts.replay import replayed
from coterie.models.loaded.blocks import blocks_of
from coterie.models.loaded.routing import patched, zero_output
from coterie.models.loaded.stack import Stack, find_stack


class Steps(Protocol):
    """The parts of a model in the order they run, each of which turns a state into the next."""

    stack: Stack
    """The players."""
    plays: NDArray[np.bool_]
    """``(n_steps,)``: True marks the steps that are players, in order; the others always run."""
    weights: LayerWeights | None

    def prelude(self, tokens: Tensor) -> Prelude:
        """Everything before the first step, for `tokens` ``(n_sequences, length)``."""
        ...

    def run(self, prelude: Prelude, layer: int, state: Tensor, first: int, copies: int) -> Tensor:
        """Apply a step to ``copies`` states of the same sequences, from ``first`` on.

        Args:
            prelude: What comes before the first layer, for some sequences.
            layer: Which step.
            state: States, ``(copies * n_sequences, length, width)``, one copy after the
                other.
            first: Number of the first of these sequences within the prelude.
            copies: How many states of each sequence there are.
        """
        ...


class BlockSteps:
    """The blocks of a model's layers, attention and feed-forward in turn, run apart.

    Args:
        model: A model in evaluation mode.
        stack: Its players, which are blocks: of one kind, or of both.
        tokens: A few sequences, ``(n_sequences, length)``, to learn from and to check on.

    Raises:
        NotReplayable: The layers cannot be run apart, or are not one block after the other.
    """

    weights: LayerWeights | None = None

    def __init__(self, model: PreTrainedModel, stack: Stack, tokens: Tensor) -> None:
        layers = find_stack(model)
        self.stack = stack
        self._whole = replayed(model, layers, tokens)
        pairs = [blocks_of(layer, "sublayer", layers.path) for layer in layers.layers]
        # Attention and feed-forward in turn; with players of one kind, every second step plays.
        self.plays = np.array([block in set(stack.layers) for pair in pairs for block in pair])
        # To run one block, the layer runs while its other block adds zeros.
        self._without = [{other: zero_output(other)} for pair in pairs for other in reversed(pair)]
        try:
            self._check(tokens)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            raise NotReplayable(f"a block run apart from the model fails: {error}") from error

    def prelude(self, tokens: Tensor) -> Prelude:
        """Everything before the first block."""
        return self._whole.prelude(tokens)

    def run(self, prelude: Prelude, layer: int, state: Tensor, first: int, copies: int) -> Tensor:
        """Apply one block to ``copies`` states of the same sequences, from ``first`` on.

        Args:
            prelude: What comes before the first layer, for some sequences.
            layer: Which step.
            state: States, ``(copies * n_sequences, length, width)``, one copy after the
                other.
            first: Number of the first of these sequences within the prelude.
            copies: How many states of each sequence there are.
        """
        with patched(self._without[layer]):
            return self._whole.run(prelude, layer // 2, state, first, copies)

    @torch.no_grad()
    def _check(self, tokens: Tensor) -> None:
        """Compare every layer with its two blocks run one after the other."""
        prelude = self.prelude(tokens)
        state = prelude.embedded
        allowed = 1e-5 if state.dtype in (torch.float32, torch.float64) else 1e-2
        for layer in range(self._whole.stack.n_players):
            # Copies, for some layers add to their input in place.
            whole = self._whole.run(prelude, layer, state.clone(), 0, 1)
            between = self.run(prelude, 2 * layer, state.clone(), 0, 1)
            apart = self.run(prelude, 2 * layer + 1, between, 0, 1)
            # As a share of what the layer adds: beside a giant state nothing would show.
            if not (apart - whole).abs().max() <= allowed * (whole - state).abs().max():
                raise NotReplayable(
                    f"layer {layer} is not its attention followed by its feed-forward block"
                )
            state = whole


def steps_of(model: PreTrainedModel, stack: Stack, tokens: Tensor) -> Steps:
    """The steps of a model: its players, and the blocks between them that always run.

    Args:
        model: In evaluation mode.
        stack: Its players.
        tokens: A few texts to check on, ``(n_sequences, length)``.

    Raises:
        NotReplayable: They cannot be run apart from the model, or differ from it there.
    """
    if stack.players == "layer":
        return replayed(model, stack, tokens)
    return BlockSteps(model, stack, tokens)
