"""A language model as a game: many coalitions observed at once, each prefix computed once."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from coterie.evaluation.asking import Question, checked_tokens, question
from coterie.evaluation.breakdown import breakdowns, broken_layer
from coterie.evaluation.capture import NotReplayable, running_apart
from coterie.evaluation.head import TailNotFound, find_head
from coterie.evaluation.memory import free_bytes
from coterie.evaluation.metrics import observations, refuse_unless_finite
from coterie.evaluation.one_by_one import read_one_by_one
from coterie.evaluation.planning import Plan, Spent, plan
from coterie.evaluation.shape import BatchShape, probe_shape
from coterie.evaluation.steps import steps_of
from coterie.evaluation.trie import prefix_order
from coterie.evaluation.walk import Walker
from coterie.game.coalitions import Block, Coalitions, Indices
from coterie.models.stack import Stack, find_stack

SHARED = "shared prefixes"

FREE_SHARE = 0.5
"""Share of the free memory that live states may take unless `state_memory` says otherwise."""


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
        TextError: The tokens are not a table, are too short, or are not the model's.
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
        self.tokens = checked_tokens(tokens, vocabulary_of(model))
        self.vocabulary = vocabulary_of(model)
        self.spent = Spent()
        self.remarks: list[str] = []
        self._state_memory = state_memory
        self.walker: Walker | None = None
        self._one_by_one_shape = shape
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
        return self._one_by_one_shape or BatchShape(min(8, self.n_sequences), 256, self.vocabulary)

    def plan(self, coalitions: Coalitions, n_sequences: int | None = None) -> Plan:
        """The work that observing ``coalitions`` will take."""
        return plan(coalitions, n_sequences or self.n_sequences, self.length)

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe distinct coalitions on distinct sequences, block by block, as soon as known.

        Nothing of the model is altered while a block is out of hand, so the caller may stop at any.
        """
        asked = question(coalitions, sequences, self.n_players, self.n_sequences)
        if asked.empty:
            return
        blocks = self._plainly if self.walker is None else self._shared
        started = perf_counter()
        for block in blocks(asked):
            seconds = perf_counter() - started
            self.spent.seconds += seconds
            self.remarks.extend(breakdowns(asked, block, partial(self._breakdown, asked)))
            yield replace(block, rows=asked.order[block.rows], seconds=seconds)
            started = perf_counter()

    def _breakdown(self, asked: Question, row: int, column: int) -> int | None:
        """Where a coalition that was asked for breaks down on a text; run once more to see it."""
        coalition, text = asked.ordered[row], self.tokens[asked.sequences[column]]
        self.spent.setup_layer_tokens += int(coalition.sum()) * self.length
        return broken_layer(self.model, self.stack, coalition, text)

    def _known_readings(self) -> "_Known":
        """The full model and one coalition on two sequences, read through the model itself."""
        keep = np.ones((2, self.n_players), dtype=bool)
        unlocked = np.array(self.stack.unlocked, dtype=np.intp)
        stride = 3 if self.stack.players == "sublayer" else 2  # blocks of either kind go
        keep[1, unlocked[len(unlocked) // 3 :: stride]] = False
        keep = np.unique(keep, axis=0)
        few = np.unique([0, self.n_sequences - 1])
        read = list(read_one_by_one(self.model, self.stack, keep, self.tokens[few], kl=False))
        refuse_unless_finite(read[0][0].nll, few.tolist())
        return _Known(keep, few, np.concatenate([observations(seen).nll for _, seen in read]))

    def _prepared(self, shape: BatchShape | None, known: "_Known") -> Walker:
        """Take the model apart and check, on two sequences, that the parts give the whole."""
        few = self.tokens[[0, -1]]
        head = find_head(self.model, find_stack(self.model), few)
        layers = steps_of(self.model, self.stack, few)
        first = shape or BatchShape(1, 256, min(1024, head.vocabulary))
        self._verify(Walker(layers, head, self.tokens, first, Spent(), kl=self.kl), known)
        walker = Walker(layers, head, self.tokens, first, self.spent, kl=self.kl)
        if shape is None:
            walker.shape = probe_shape(layers, head, layers.prelude(few))
        return walker

    def _verify(self, walker: Walker, known: "_Known") -> None:
        rows = known.coalitions[prefix_order(known.coalitions)]
        found = np.full(known.nll.shape, np.nan)
        with running_apart():
            for block in walker.observe(rows, known.sequences, free_bytes(walker.device)):
                found[np.ix_(block.rows, block.columns)] = block.observations.nll
        expected = known.nll[prefix_order(known.coalitions)]
        if not np.allclose(found, expected, 0, _room(self.model.dtype), equal_nan=True):
            raise NotReplayable(
                "layers run apart from the model differ from it by"
                f" {np.abs(found - expected).max():.2g} nats per token"
            )

    def _shared(self, asked: Question) -> Iterator[Block]:
        assert self.walker is not None
        memory = self._state_memory
        if memory is None:
            memory = int(FREE_SHARE * free_bytes(self.walker.device))
        yield from self.walker.observe(asked.ordered, asked.sequences, memory)

    def _plainly(self, asked: Question) -> Iterator[Block]:
        rows = self.shape.rows
        for at in range(0, len(asked.sequences), rows):
            columns = np.arange(at, min(at + rows, len(asked.sequences)))
            sequences = asked.sequences[columns]
            tokens = self.tokens[sequences]
            read = read_one_by_one(self.model, self.stack, asked.ordered, tokens, kl=self.kl)
            for row, (full, reading) in enumerate(read):
                refuse_unless_finite(full.nll, sequences.tolist())
                kept = int(asked.ordered[row].sum())
                self.spent.layer_executions += kept if at == 0 else 0
                self.spent.layer_tokens += kept * tokens.numel()
                self.spent.head_tokens += len(columns) * (self.length - 1)
                yield Block(np.array([row]), columns, observations(reading))


@dataclass(frozen=True, eq=False)
class _Known:
    """Losses ``(n_coalitions, n_sequences)`` measured the plain way, to check the fast one."""

    coalitions: Coalitions
    sequences: Indices
    nll: NDArray[np.float64]


def vocabulary_of(model: PreTrainedModel) -> int:
    """Number of token ids a model knows."""
    return int(model.config.get_text_config(decoder=True).vocab_size)


def _room(dtype: torch.dtype) -> float:
    """Nats per token by which two orders of the same sums may differ."""
    return 1e-4 if dtype in (torch.float32, torch.float64) else 0.1
