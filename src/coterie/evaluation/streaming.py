"""The game of a model that is larger than memory: one pass over its weights, all coalitions along.

Each layer is read from the checkpoint's files once, while the layer before it computes, and is
applied to every live state. So the cost of reading is shared by all coalitions asked together, and
memory holds two layers and the states.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from coterie.errors import ModelError
from coterie.evaluation.asking import checked_tokens, question
from coterie.evaluation.capture import LayerStack, NotReplayable
from coterie.evaluation.head import ProjectionHead, TailNotFound, find_head
from coterie.evaluation.memory import free_main_memory
from coterie.evaluation.places import empty_model
from coterie.evaluation.planning import Plan, Spent, plan
from coterie.evaluation.shape import BatchShape
from coterie.evaluation.shards import ShardedWeights
from coterie.evaluation.spill import Spill
from coterie.evaluation.walk import Walker
from coterie.game.coalitions import Block, Coalitions, Indices
from coterie.models.routing import Carried, Forward, patched
from coterie.models.sources import Source
from coterie.models.stack import find_stack

TOKENS_AT_ONCE = 2048
"""Tokens of one call of a layer: enough to keep a device busy, little enough to fit beside it."""

FREE_SHARE = 0.5


class StreamedGame:
    """The game whose players are the layers of a causal language model that is never whole.

    Args:
        source: The checkpoint.
        tokens: Token ids, ``(n_sequences, length)``, without padding.
        dtype: What to compute in; weights are converted as they come.
        device: Where to compute; states rest in main memory.
        state_memory: Bytes of main memory for states; by default half of what is free. States
            beyond go to files.
        spill_folder: Where those files go.
        kl: Whether to observe KL to the full model; without it those entries are NaN.

    Attributes:
        mode: ``"layer by layer from disk"``.
        spent: What has really run so far.
        remarks: What went wrong without stopping anything, one line each.

    Raises:
        TextError: The tokens are not a table, are too short, or are not the model's.
        ModelError: The checkpoint cannot be read layer by layer; load it whole.
    """

    mode = "layer by layer from disk"

    def __init__(
        self,
        source: Source,
        tokens: NDArray[np.int64] | Tensor,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        state_memory: int | None = None,
        spill_folder: Path | None = None,
        shape: BatchShape | None = None,
        kl: bool = True,
    ) -> None:
        started = perf_counter()
        config = source.config()
        self.vocabulary = int(config.get_text_config(decoder=True).vocab_size)
        self.tokens = checked_tokens(tokens, self.vocabulary)
        self.spent, self.remarks = Spent(), list[str]()
        self._spilled = 0
        self._memory, self._spill_folder = state_memory, spill_folder
        model = empty_model(config, dtype, trust_remote_code=source.trust_remote_code)
        self.stack = find_stack(model)
        self._weights = ShardedWeights(source, model, self.stack, dtype, torch.device(device))
        self.traffic = self._weights.traffic
        try:
            self._walker = self._prepared(model, shape, kl)
        except (NotReplayable, TailNotFound) as reason:
            raise ModelError(
                f"{source.name!r} cannot be streamed: {reason}; load it whole"
            ) from reason
        self.spent.setup_seconds += perf_counter() - started

    @property
    def n_players(self) -> int:
        """Number of layers, locked or not."""
        return self.stack.n_players

    @property
    def n_sequences(self) -> int:
        """Number of texts."""
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Tokens of a text."""
        return self.tokens.shape[1]

    @property
    def shape(self) -> BatchShape:
        """The batch shape in use."""
        return self._walker.shape

    def plan(self, coalitions: Coalitions, n_sequences: int | None = None) -> Plan:
        """The work that observing ``coalitions`` will take, the full model's pass included."""
        everyone = np.ones((1, self.n_players), dtype=bool)
        return plan(
            np.concatenate([coalitions, everyone]), n_sequences or self.n_sequences, self.length
        )

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe distinct coalitions on distinct sequences, all in one pass over the weights.

        Ask for many at once: every call reads the whole checkpoint.
        """
        asked = question(coalitions, sequences, self.n_players, self.n_sequences)
        if asked.empty:
            return
        room = self._memory
        if room is None:
            room = int(FREE_SHARE * free_main_memory())
        spill = Spill(room, self._spill_folder)
        self._walker.spill = spill
        started = perf_counter()
        try:
            for block in self._walker.observe_in_one_pass(asked.ordered, asked.sequences):
                seconds = perf_counter() - started
                self.spent.seconds += seconds
                self.remarks.extend(asked.remarks(block))
                yield replace(block, rows=asked.order[block.rows], seconds=seconds)
                started = perf_counter()
        finally:
            self._weights.release()
            self._spilled += spill.written
            spill.close()

    @property
    def spilled(self) -> int:
        """Bytes of states written to files so far."""
        return self._spilled

    def _prepared(self, model: PreTrainedModel, shape: BatchShape | None, kl: bool) -> Walker:
        few = self.tokens[[0, -1]]
        self._weights.learn(self.stack, few)
        head = self._head(model, few)
        with self._weights.beginning():
            layers = LayerStack(model, self.stack, few, self._weights)
            rows = max(1, TOKENS_AT_ONCE // self.length)
            shape = shape or BatchShape(rows, 1024, min(4096, head.vocabulary))
            return Walker(layers, head, self.tokens, shape, self.spent, kl=kl)

    def _head(self, model: PreTrainedModel, few: Tensor) -> ProjectionHead:
        """Find the head by a forward in which no layer does anything."""
        through: dict[nn.Module, Forward] = {
            layer: partial(_through, carried)
            for layer, carried in zip(self.stack.layers, self._weights.carried, strict=True)
        }
        with self._weights.ending(list(model.modules())), patched(through):
            return find_head(model, self.stack, few)


def _through(carried: Carried, *args: object, **kwargs: object) -> object:
    return carried.through(args, kwargs)
