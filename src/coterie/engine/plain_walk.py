"""Coalitions of a model that cannot be taken apart, one after the other through the model itself.

Exact for any model, and it shares no work between coalitions. The losses it gives on a few texts
are also what the fast way is compared with before it is trusted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coterie.engine.batch_shape import BatchShape
from coterie.engine.memory import FREE_SHARE, free_bytes, is_out_of_memory
from coterie.engine.parts.layers import NotReplayable, running_apart
from coterie.engine.parts.one_by_one import LOGIT_ROWS, read_one_by_one
from coterie.engine.parts.readings import observations, refuse_unless_finite
from coterie.engine.played_texts import PlayedTexts
from coterie.engine.question import Question
from coterie.engine.walk import Walker
from coterie.game.coalitions import Block, Coalitions, Indices
from coterie.game.prefixes import prefix_order
from coterie.models.loaded.routing import input_device
from coterie.models.tolerance import tolerance

LOGIT_TABLES = 3
"""Tables of logits of one text that may be in memory at the same time."""

COMPARED_TOKENS = 256
"""Tokens of each of two texts on which the fast way is compared with this one.

The model makes the logits of all of them at once, so they are few.
"""


class PlainWalk:
    """Observes coalitions one at a time, on as many texts at once as memory allows.

    Args:
        texts: The model and its texts.
        shape: How much to compute at once; by default as much as free memory allows.
        kl: Whether KL to the full model is read.
    """

    def __init__(self, texts: PlayedTexts, shape: BatchShape | None, *, kl: bool) -> None:
        self.texts, self.kl = texts, kl
        self._shape = shape

    @property
    def shape(self) -> BatchShape:
        """How much is computed at once; its rows are halved, and stay so, when memory runs out."""
        if self._shape is None:
            texts = self.texts
            # Float32 logits of one text are what takes most memory here.
            table = 4 * texts.length * texts.vocabulary
            fit = int(FREE_SHARE * free_bytes(input_device(texts.model)) / (LOGIT_TABLES * table))
            rows = max(1, min(8, texts.n_sequences, fit))
            self._shape = BatchShape(rows, LOGIT_ROWS, texts.vocabulary)
        return self._shape

    def observe(self, asked: Question) -> Iterator[Block]:
        """Observe what is asked; ``rows`` of a block index into the ordered coalitions."""
        yield from self._from(asked, np.arange(len(asked.sequences)), 0)

    def _from(self, asked: Question, columns: Indices, first: int) -> Iterator[Block]:
        """The coalitions from ``first`` on, on these of the sequences that are asked."""
        while len(columns) > (rows := max(1, self.shape.rows)):
            yield from self._from(asked, columns[:rows], first)
            columns = columns[rows:]
        texts, sequences = self.texts, asked.sequences[columns]
        tokens, row = texts.tokens[sequences], first
        read = read_one_by_one(texts.model, texts.stack, asked.ordered[first:], tokens, kl=self.kl)
        try:
            for full, reading in read:
                refuse_unless_finite(full.nll, sequences.tolist())
                kept = int(asked.ordered[row].sum())
                texts.spent.layer_executions += kept if columns[0] == 0 else 0
                texts.spent.layer_tokens += kept * tokens.numel()
                texts.spent.head_tokens += len(columns) * (texts.length - 1)
                yield Block(np.array([row]), columns, observations(reading))
                row += 1
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(columns) == 1:
                raise
        # Out of memory: the rows are halved, and the rest begins at the coalition that failed.
        self._shape = replace(self.shape, rows=len(columns) // 2)
        yield from self._from(asked, columns, row)


@dataclass(frozen=True, eq=False)
class PlainLosses:
    """Losses of a few coalitions on parts of two texts, measured through the model itself.

    Attributes:
        coalitions: ``(n_coalitions, n_players)``.
        tokens: ``(n_texts, length)``.
        nll: Nats per token, ``(n_coalitions, n_texts)``.
    """

    coalitions: Coalitions
    tokens: Tensor
    nll: NDArray[np.float64]

    def compare(self, walker: Walker, dtype: torch.dtype) -> None:
        """Compare a walk over the same tokens with these losses.

        Raises:
            NotReplayable: its losses are others.
        """
        # The walk wants prefix order; the losses are brought into the same order to compare.
        order = prefix_order(self.coalitions)
        found, everything = np.full(self.nll.shape, np.nan), np.arange(len(self.tokens))
        with running_apart():
            memory = free_bytes(walker.device)
            for block in walker.observe(self.coalitions[order], everything, memory):
                found[np.ix_(block.rows, block.columns)] = block.observations.nll
        expected = self.nll[order]
        allowed = tolerance(dtype).reordered_nats
        if not np.allclose(found, expected, 0, allowed, equal_nan=True):
            raise NotReplayable(
                "layers run apart from the model differ from it by"
                f" {np.abs(found - expected).max():.2g} nats per token"
            )


def plain_losses(texts: PlayedTexts) -> PlainLosses:
    """Losses of the full model and of one coalition on the beginnings of the first and last text.

    Raises:
        ModelError: The full model has no finite loss there.
    """
    # The full model, and one coalition that skips many layers from a third of the depth on.
    keep = np.ones((2, texts.n_players), dtype=bool)
    unlocked = np.array(texts.stack.unlocked, dtype=np.intp)
    stride = 3 if texts.stack.players == "sublayer" else 2  # blocks of either kind go
    keep[1, unlocked[len(unlocked) // 3 :: stride]] = False
    keep = np.unique(keep, axis=0)
    few = np.unique([0, texts.n_sequences - 1])
    tokens = texts.tokens[few, :COMPARED_TOKENS]
    nll = np.empty((len(keep), len(few)))
    for column, text in enumerate(few):
        one = tokens[column : column + 1]
        read = read_one_by_one(texts.model, texts.stack, keep, one, kl=False)
        for row, (full, seen) in enumerate(read):
            refuse_unless_finite(full.nll, [int(text)])
            nll[row, column] = observations(seen).nll.item()
    return PlainLosses(keep, tokens, nll)
