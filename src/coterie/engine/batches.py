"""Run layers and read states in batches of the chosen shape, smaller ones if memory is short."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from coterie.engine.batch_shape import BatchShape
from coterie.engine.memory import is_out_of_memory
from coterie.engine.parts.blocks import Steps
from coterie.engine.parts.head import ProjectionHead
from coterie.engine.parts.layers import Prelude
from coterie.engine.parts.one_pass import RowsRead, read_in_one_pass
from coterie.engine.parts.readings import FullModel, Reading, read_full, read_states

Read = TypeVar("Read")

READ_TOGETHER = 16
"""States read by one call in one pass: the full model's logits are made once for all of them."""

ROWS_FOR_ONE = 4
"""Rows of logits made at once in one pass, for each row that is made with copies in float32."""


class Batches:
    """What a device computes at once.

    Args:
        layers: The model's layers or blocks, runnable apart.
        head: The model's end.
        shape: How much to compute at once.
        device: Where states rest between layers.

    Attributes:
        shape: The shape in use: halved, and kept so, whenever memory ran out.
        rows_read: What reads ready logits in one pass; None reads them by `read_states`.
    """

    def __init__(
        self, layers: Steps, head: ProjectionHead, shape: BatchShape, device: torch.device
    ) -> None:
        self.layers, self.head, self.shape, self.device = layers, head, shape, device
        self.rows_read: RowsRead | None = None

    @property
    def reading_device(self) -> torch.device:
        """Where final states are read."""
        return self.head.device or self.device

    def read_together(self, predicted: int) -> int:
        """Number of states of the same texts that are read by one call.

        Args:
            predicted: Places that are predicted in these texts.
        """
        if self.rows_read is not None:
            return READ_TOGETHER
        return max(4, self.shape.head_tokens // predicted)

    def apply(self, prelude: Prelude, layer: int, state: Tensor, first: int, copies: int) -> Tensor:
        """Run a layer on ``copies`` states of the same sequences, from ``first`` on.

        Args:
            prelude: What comes before the first layer, for some sequences.
            layer: Which layer.
            state: States, ``(copies * n_sequences, length, width)``, one copy after the
                other.
            first: Number of the first of these sequences within the prelude.
            copies: How many states of each sequence there are.
        """
        return _joined(self.apply_each(prelude, layer, list(state.chunk(copies)), first))

    def apply_each(
        self, prelude: Prelude, layer: int, states: list[Tensor], first: int
    ) -> list[Tensor]:
        """Run a layer on several states of the same sequences, from ``first`` on; one output each.

        Where memory runs out, the batch is halved, and stays so.

        Args:
            prelude: What comes before the first layer, for some sequences.
            layer: Which layer.
            states: Each ``(n_sequences, length, width)``.
            first: Number of the first of these sequences within the prelude.
        """
        # A batch wider than the shape allows is divided before it is tried.
        copies, width = len(states), len(states[0])
        if copies * width > max(1, self.shape.rows):
            return self._divided(prelude, layer, states, first)
        try:
            with torch.no_grad():
                out = self.layers.run(prelude, layer, _joined(states), first, copies)
                return _parted(out.to(self.device), copies)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or copies * width == 1:
                raise
        # Outside `except`, so that the traceback no longer holds the tensors that did not fit.
        self.shape = replace(self.shape, rows=copies * width // 2)
        return self._divided(prelude, layer, states, first)

    def _divided(
        self, prelude: Prelude, layer: int, states: list[Tensor], first: int
    ) -> list[Tensor]:
        """Run half of the states, then the others; a single state is divided by its sequences."""
        if len(states) > 1:
            half = len(states) // 2
            early = self.apply_each(prelude, layer, states[:half], first)
            return early + self.apply_each(prelude, layer, states[half:], first)
        state, half = states[0], len(states[0]) // 2
        upper = self.apply_each(prelude, layer, [state[:half]], first)
        lower = self.apply_each(prelude, layer, [state[half:]], first + half)
        return [torch.cat(upper + lower)]

    def read(self, states: list[Tensor], tokens: Tensor, full: FullModel) -> Reading:
        """Read final states of the same texts: ``(n_states, n_sequences, n_predicted)``.

        Args:
            states: Final states, each ``(n_sequences, length, width)``.
            tokens: The texts, ``(n_sequences, length)``.
            full: What the full model predicts on them.
        """
        # The token at place t + 1 is what the state at place t predicts.
        targets = tokens[:, 1:].to(self.reading_device)
        flat = full.each(lambda field: field.flatten(0, 1))
        with torch.no_grad():
            # The last place predicts nothing that can be checked: it is dropped.
            ends = torch.stack([self.head.normed(s)[:, :-1].flatten(0, 1) for s in states])
            ends = ends.to(targets.device)
            read = self._halving(lambda: self._read(ends, targets.flatten(), flat))
        return Reading(*(part.unflatten(1, targets.shape) for part in vars(read).values()))

    def _read(self, ends: Tensor, targets: Tensor, full: FullModel) -> Reading:
        tokens, block = self.shape.head_tokens, self.shape.head_block
        if self.rows_read is None:
            return read_states(self.head, ends, targets, full, tokens=tokens, block=block)
        # Logits take a quarter of what they take with their copies in float32.
        rows = ROWS_FOR_ONE * tokens
        return read_in_one_pass(self.head, ends, targets, full, rows=rows, rows_read=self.rows_read)

    def read_full(self, state: Tensor, tokens: Tensor, *, kl: bool) -> FullModel:
        """Read the full model's final state on some texts: ``(n_sequences, n_predicted)``.

        Args:
            state: Final state, ``(n_sequences, length, width)``.
            tokens: The texts, ``(n_sequences, length)``.
            kl: Whether KL to this prediction will be asked for.
        """
        targets = tokens[:, 1:].to(self.reading_device)
        with torch.no_grad():
            ends = self.head.normed(state)[:, :-1].flatten(0, 1).to(targets.device)
            read = self._halving(
                lambda: read_full(
                    self.head,
                    ends,
                    targets.flatten(),
                    kl=kl,
                    tokens=self.shape.head_tokens,
                    block=self.shape.head_block,
                )
            )
        return read.each(lambda field: field.unflatten(0, targets.shape))

    def ending(self) -> AbstractContextManager[None]:
        """A context in which the weights of the head are in memory, wherever they come from."""
        weights = self.layers.weights
        if weights is None:
            return nullcontext()
        return weights.ending([*self.head.norms, self.head.projection])

    def _halving(self, read: Callable[[], Read]) -> Read:
        """Read; where memory runs out, halve the head's batch from then on and read again."""
        while True:
            try:
                return read()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.shape.head_tokens == 1:
                    raise
            self.shape = replace(self.shape, head_tokens=self.shape.head_tokens // 2)


def _joined(states: list[Tensor]) -> Tensor:
    return states[0] if len(states) == 1 else torch.cat(states)


def _parted(out: Tensor, n: int) -> list[Tensor]:
    # Copies: a view would keep the memory of the whole batch for as long as one state lives.
    return [out] if n == 1 else [part.clone() for part in out.chunk(n)]
