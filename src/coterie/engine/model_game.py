"""A language model as a game: many coalitions observed at once, each prefix computed once."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from coterie.engine.accelerated import accelerate, parts_asked
from coterie.engine.batch_shape import BatchShape, probe_shape
from coterie.engine.breakdown import Breakdowns, broken_layer
from coterie.engine.cost import Spent
from coterie.engine.interface import PROVED_SEQUENCES, Seconds
from coterie.engine.memory import FREE_SHARE, free_bytes
from coterie.engine.parts.blocks import steps_of
from coterie.engine.parts.head import TailNotFound, find_head
from coterie.engine.parts.layers import NotReplayable, running_apart
from coterie.engine.parts.replay import replayed
from coterie.engine.parts.timed import plain_seconds, walked_seconds
from coterie.engine.plain_walk import PlainLosses, PlainWalk, plain_losses
from coterie.engine.played_texts import PlayedTexts
from coterie.engine.proof import LogitProof
from coterie.engine.question import Question
from coterie.engine.walk import Walker
from coterie.game.coalitions import Block, Coalition, Coalitions, Game, Indices
from coterie.models.cutting.verify import expect
from coterie.models.loaded.routing import input_device
from coterie.models.loaded.stack import Stack, find_stack

log = logging.getLogger(__name__)

SHARED = "shared prefixes"

COALITIONS_AT_ONCE = 32
"""Coalitions of one question, about."""


@final
class ModelGame(PlayedTexts):
    """The game whose players are the layers of a causal language model, or blocks of its layers.

    Args:
        model: The model; it is put into evaluation mode, and no weight is ever changed.
        tokens: Token ids, ``(n_sequences, length)``, without padding.
        stack: The players; by default its layers.
        state_memory: Bytes that live states may take; by default half of what is free.
        shape: Batch shape of an earlier run, to be kept; by default a short probe chooses it.
        kl: Whether to observe KL to the full model; without it those entries are NaN.
        accelerated: What to try to be faster, of `accelerated.PARTS`; by default what the
            environment names, or what is usual on the device.

    Attributes:
        mode: How coalitions are evaluated: ``"shared prefixes"``, or one at a time and why.
        spent: What has really run so far.
        remarks: What went wrong without stopping anything, one line each.
        walker: What walks the trie of prefixes; None where coalitions go one at a time.

    Raises:
        TextError: The tokens are not a table, are too short or too long, or are not the model's.
        ModelError: The full model has no finite loss on the first sequences.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokens: NDArray[np.int64] | Tensor,
        *,
        stack: Stack | None = None,
        state_memory: int | None = None,
        shape: BatchShape | None = None,
        kl: bool = True,
        accelerated: Sequence[str] | None = None,
    ) -> None:
        started = perf_counter()
        model.eval()
        super().__init__(model, find_stack(model) if stack is None else stack, tokens)
        self.kl = kl
        self._state_memory = state_memory
        device = input_device(model)
        self._accelerated = parts_asked(device) if accelerated is None else tuple(accelerated)
        self.walker: Walker | None = None
        self._plain = PlainWalk(self, shape, kl=kl)
        # The plain way is measured first: it is what the shared walk is checked against.
        losses = plain_losses(self)
        try:
            self.walker = self._taken_apart(shape, losses)
            self.mode = SHARED
        # Not an error: such a model is played the slow and exact way, and the report says so.
        except (NotReplayable, TailNotFound) as reason:
            log.info("%s is not taken apart: %s", type(model).__name__, reason)
            self.mode = f"one coalition at a time: {reason}"
            self.remarks.append(
                f"{type(model).__name__} is evaluated one coalition at a time, which is exact but"
                f" shares no work between coalitions: {reason}"
            )
        self.spent.setup_seconds += perf_counter() - started

    @property
    def shape(self) -> BatchShape:
        """The batch shape in use; store it, and give it back to resume."""
        return self._plain.shape if self.walker is None else self.walker.shape

    @property
    def batches(self) -> None:
        """The weights are in memory: nothing is brought from files."""

    @property
    def traffic(self) -> None:
        """Nothing is read from disk."""

    @property
    def pass_bytes(self) -> int:
        """Nothing is read from disk."""
        return 0

    @property
    def at_once(self) -> int:
        """One: the model is on one device."""
        return 1

    def questions(self, coalitions: Coalitions) -> list[Coalitions]:
        """Groups of a few coalitions, so that progress shows and results are stored early.

        Neighbours stay together, for they share prefixes.
        """
        return np.array_split(coalitions, max(1, len(coalitions) // COALITIONS_AT_ONCE))

    def seconds(self) -> Seconds:
        """Time one layer and the head; where coalitions go one at a time, the model on one text."""
        return plain_seconds(self) if self.walker is None else walked_seconds(self.walker)

    def memory_bytes(self, coalitions: Coalitions) -> int:
        """Bytes of the weights and of the fewest states that the coalitions can be walked with."""
        weights = sum(p.numel() * p.element_size() for p in self.model.parameters())
        width = int(self.model.config.get_text_config(decoder=True).hidden_size)
        return weights + self.plan(coalitions).state_bytes(width, self.model.dtype.itemsize)

    def check_layers(self) -> None:
        """Run every layer and the head on their own, on the first and the last text.

        Raises:
            NotReplayable: The layers differ from those in the model.
            TailNotFound: What follows the last layer cannot be run apart.
        """
        layers = find_stack(self.model)
        head = find_head(self.model, layers, self.ends)
        parts = replayed(self.model, layers, self.ends)
        with running_apart():
            Walker(parts, head, self.ends, self.shape, Spent(), kl=True).full(np.arange(2))

    def proof(self, coalition: Coalition, game: Game) -> LogitProof:
        """The logits of the model without what is cut, on a few texts.

        Args:
            coalition: The players that stay, ``(n_players,)``.
            game: Not used: logits are compared, not losses.
        """
        few = self.tokens[:PROVED_SEQUENCES]
        return LogitProof(expect(self.model, self.stack, coalition.tolist(), few))

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe distinct coalitions on distinct sequences, block by block, as soon as known.

        Between two blocks the model is unchanged, so the caller may stop after any of them.
        """
        asked = self.question(coalitions, sequences)
        if asked.empty:
            return
        blocks = self._plain.observe if self.walker is None else self._shared
        broken = Breakdowns(asked, self.remarks)
        started = perf_counter()
        for block in blocks(asked):
            # The caller's time between two blocks is not the engine's.
            seconds = perf_counter() - started
            self.spent.seconds += seconds
            broken.note(block, partial(self._breakdown, asked))
            yield replace(block, rows=asked.order[block.rows], seconds=seconds)
            started = perf_counter()

    def _breakdown(self, asked: Question, row: int, column: int) -> int | None:
        """The layer at which a coalition breaks down on a text: it is run once more to find it."""
        coalition, text = asked.ordered[row], self.tokens[asked.sequences[column]]
        self.spent.setup_layer_tokens += int(coalition.sum()) * self.length
        return broken_layer(self.model, self.stack, coalition, text)

    def _taken_apart(self, shape: BatchShape | None, losses: PlainLosses) -> Walker:
        """Take the model apart, and check on two sequences that the parts give the same losses."""
        # Learn the head and the layers from two texts.
        few = self.ends
        head = find_head(self.model, find_stack(self.model), few)
        layers = steps_of(self.model, self.stack, few)
        block = min(1024, head.vocabulary) if head.readable else head.vocabulary
        first = shape or BatchShape(1, 256, block)
        # A trial with an account of its own, so that checking does not count as work.
        trial = Walker(layers, head, losses.tokens, first, Spent(), kl=self.kl)
        losses.compare(trial, self.model.dtype)
        walker = Walker(layers, head, self.tokens, first, self.spent, kl=self.kl)
        # A shape from an earlier run is kept: timing again could change the order of sums.
        if shape is None:
            walker.shape = probe_shape(layers, head, layers.prelude(few))
            log.info("the probe chose %s", walker.shape)
        self.remarks += accelerate(
            walker, few, losses.coalitions, self._accelerated, self.model.dtype
        )
        return walker

    def _shared(self, asked: Question) -> Iterator[Block]:
        assert self.walker is not None
        memory = self._state_memory
        if memory is None:
            free = free_bytes(self.walker.device) + self.walker.held_bytes
            memory = int(FREE_SHARE * free)
        yield from self.walker.observe(asked.ordered, asked.sequences, memory)
