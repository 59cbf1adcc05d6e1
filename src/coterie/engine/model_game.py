"""A language model as a game: many coalitions observed at once, each prefix computed once."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape, probe_shape
from coterie.engine.breakdown import Breakdowns, broken_layer
from coterie.engine.cost import Plan, Spent, plan
from coterie.engine.memory import free_bytes, is_out_of_memory
from coterie.engine.parts.blocks import steps_of
from coterie.engine.parts.head import TailNotFound, find_head
from coterie.engine.parts.layers import NotReplayable, running_apart
from coterie.engine.parts.one_by_one import TOKENS_AT_ONCE, read_one_by_one
from coterie.engine.parts.readings import observations, refuse_unless_finite
from coterie.engine.question import Question, checked_tokens, longest_text, question
from coterie.engine.trie import prefix_order
from coterie.engine.walk import Walker
from coterie.game.coalitions import Block, Coalitions, Indices
from coterie.models.loaded.routing import input_device
from coterie.models.loaded.stack import Stack, find_stack
from coterie.models.tolerance import tolerance

SHARED = "shared prefixes"

FREE_SHARE = 0.5
"""Share of the free memory that live states may take unless `state_memory` says otherwise."""

TABLES = 3
"""Tables of logits of one text that may be alive when coalitions go one at a time."""

CHECKED_TOKENS = 256
"""Of two texts, to hold losses against the model's own: its logits are one table of all of them."""


class ModelGame:
    """The game whose players are the layers of a causal language model, or blocks of its layers.

    Args:
        model: The model; it is put into evaluation mode, and no weight is ever changed.
        tokens: Token ids, ``(n_sequences, length)``, without padding.
        stack: The players; by default its layers.
        state_memory: Bytes that live states may take; by default half of what is free.
        shape: Batch shape of an earlier run, to be kept; by default a short probe chooses it.
        kl: Whether to observe KL to the full model; without it those entries are NaN.

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
    ) -> None:
        started = perf_counter()
        model.eval()
        self.model, self.kl = model, kl
        self.stack = find_stack(model) if stack is None else stack
        self.tokens = checked_tokens(tokens, vocabulary_of(model), longest_text(model))
        self.vocabulary = vocabulary_of(model)
        self.spent = Spent()
        self.remarks: list[str] = []
        self._state_memory = state_memory
        self.walker: Walker | None = None
        self._plain_shape = shape
        known = self._known_readings()
        try:
            self.walker = self._prepared(shape, known)
            self.mode = SHARED
        except (NotReplayable, TailNotFound) as reason:
            self.mode = f"one coalition at a time: {reason}"
            self.remarks.append(
                f"{type(model).__name__} is evaluated one coalition at a time, which is exact but"
                f" shares no work between coalitions: {reason}"
            )
        self.spent.setup_seconds += perf_counter() - started

    @property
    def n_players(self) -> int:
        """Number of players, locked or not."""
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
        """The batch shape in use; store it, and give it back to resume."""
        if self.walker is not None:
            return self.walker.shape
        if self._plain_shape is None:
            table = 4 * self.length * self.vocabulary
            fit = int(FREE_SHARE * free_bytes(input_device(self.model)) / (TABLES * table))
            rows = max(1, min(8, self.n_sequences, fit))
            self._plain_shape = BatchShape(rows, TOKENS_AT_ONCE, self.vocabulary)
        return self._plain_shape

    def plan(self, coalitions: Coalitions, n_sequences: int | None = None) -> Plan:
        """The work that observing ``coalitions`` will take."""
        sequences = n_sequences or self.n_sequences
        return plan(coalitions, sequences, self.length, self.stack.players)

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe distinct coalitions on distinct sequences, block by block, as soon as known.

        Nothing of the model is altered while a block is out of hand, so the caller may stop at any.
        """
        asked = question(coalitions, sequences, self.n_players, self.n_sequences)
        if asked.empty:
            return
        blocks = self._plainly if self.walker is None else self._shared
        broken = Breakdowns(asked, self.remarks)
        started = perf_counter()
        for block in blocks(asked):
            seconds = perf_counter() - started
            self.spent.seconds += seconds
            broken.note(block, partial(self._breakdown, asked))
            yield replace(block, rows=asked.order[block.rows], seconds=seconds)
            started = perf_counter()

    def _breakdown(self, asked: Question, row: int, column: int) -> int | None:
        """Where a coalition that was asked for breaks down on a text; run once more to see it."""
        coalition, text = asked.ordered[row], self.tokens[asked.sequences[column]]
        self.spent.setup_layer_tokens += int(coalition.sum()) * self.length
        return broken_layer(self.model, self.stack, coalition, text)

    def _known_readings(self) -> "_Known":
        """The full model and one coalition on parts of two texts, through the model itself."""
        keep = np.ones((2, self.n_players), dtype=bool)
        unlocked = np.array(self.stack.unlocked, dtype=np.intp)
        stride = 3 if self.stack.players == "sublayer" else 2  # blocks of either kind go
        keep[1, unlocked[len(unlocked) // 3 :: stride]] = False
        keep = np.unique(keep, axis=0)
        few = np.unique([0, self.n_sequences - 1])
        tokens = self.tokens[few, :CHECKED_TOKENS]
        nll = np.empty((len(keep), len(few)))
        for column, text in enumerate(few):
            one = tokens[column : column + 1]
            read = read_one_by_one(self.model, self.stack, keep, one, kl=False)
            for row, (full, seen) in enumerate(read):
                refuse_unless_finite(full.nll, [int(text)])
                nll[row, column] = observations(seen).nll.item()
        return _Known(keep, tokens, nll)

    def _prepared(self, shape: BatchShape | None, known: "_Known") -> Walker:
        """Take the model apart and check, on two sequences, that the parts give the whole."""
        few = self.tokens[[0, -1]]
        head = find_head(self.model, find_stack(self.model), few)
        layers = steps_of(self.model, self.stack, few)
        block = min(1024, head.vocabulary) if head.readable else head.vocabulary
        first = shape or BatchShape(1, 256, block)
        self._verify(Walker(layers, head, known.tokens, first, Spent(), kl=self.kl), known)
        walker = Walker(layers, head, self.tokens, first, self.spent, kl=self.kl)
        if shape is None:
            walker.shape = probe_shape(layers, head, layers.prelude(few))
        return walker

    def _verify(self, walker: Walker, known: "_Known") -> None:
        rows = known.coalitions[prefix_order(known.coalitions)]
        found, everything = np.full(known.nll.shape, np.nan), np.arange(len(known.tokens))
        with running_apart():
            for block in walker.observe(rows, everything, free_bytes(walker.device)):
                found[np.ix_(block.rows, block.columns)] = block.observations.nll
        expected = known.nll[prefix_order(known.coalitions)]
        allowed = tolerance(self.model.dtype).reordered_nats
        if not np.allclose(found, expected, 0, allowed, equal_nan=True):
            raise NotReplayable(
                "layers run apart from the model differ from it by"
                f" {np.abs(found - expected).max():.2g} nats per token"
            )

    def _shared(self, asked: Question) -> Iterator[Block]:
        assert self.walker is not None
        memory = self._state_memory
        if memory is None:
            free = free_bytes(self.walker.device) + self.walker.held_bytes
            memory = int(FREE_SHARE * free)
        yield from self.walker.observe(asked.ordered, asked.sequences, memory)

    def _plainly(self, asked: Question) -> Iterator[Block]:
        yield from self._one_by_one(asked, np.arange(len(asked.sequences)), 0)

    def _one_by_one(self, asked: Question, columns: Indices, first: int) -> Iterator[Block]:
        """Coalitions from ``first`` on, on as many texts at once as memory has room for."""
        while len(columns) > (rows := max(1, self.shape.rows)):
            yield from self._one_by_one(asked, columns[:rows], first)
            columns = columns[rows:]
        sequences = asked.sequences[columns]
        tokens, row = self.tokens[sequences], first
        read = read_one_by_one(self.model, self.stack, asked.ordered[first:], tokens, kl=self.kl)
        try:
            for full, reading in read:
                refuse_unless_finite(full.nll, sequences.tolist())
                kept = int(asked.ordered[row].sum())
                self.spent.layer_executions += kept if columns[0] == 0 else 0
                self.spent.layer_tokens += kept * tokens.numel()
                self.spent.head_tokens += len(columns) * (self.length - 1)
                yield Block(np.array([row]), columns, observations(reading))
                row += 1
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(columns) == 1:
                raise
        self._plain_shape = replace(self.shape, rows=len(columns) // 2)
        yield from self._one_by_one(asked, columns, row)


@dataclass(frozen=True, eq=False)
class _Known:
    """Losses ``(n_coalitions, n_texts)`` measured the plain way, to check the fast one."""

    coalitions: Coalitions
    tokens: Tensor
    nll: NDArray[np.float64]


def vocabulary_of(model: PreTrainedModel) -> int:
    """Number of token ids a model knows."""
    return int(model.config.get_text_config(decoder=True).vocab_size)
