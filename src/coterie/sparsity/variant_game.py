"""Many variants of one model, observed together: each layer as it is, pruned to some level, or cut.

A candidate is one choice for each layer. Candidates that agree up to some depth share every state
up to there, so states are keyed by the choices made so far: the trie of coalition prefixes, of
which kept or cut is the case of two choices. The walk goes layer by layer, so only one layer's
variants are in use at a time. No weight is written to: while a layer runs it has other tensors in
their place.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape
from coterie.engine.batches import Batches
from coterie.engine.cost import Spent
from coterie.engine.memory import memory_for_states
from coterie.engine.parts.head import TailNotFound, find_head
from coterie.engine.parts.layers import NotReplayable, Prelude
from coterie.engine.parts.readings import FullModel, observations, refuse_unless_finite
from coterie.engine.parts.replay import replayed
from coterie.errors import ModelError
from coterie.game.coalitions import Block, Indices, Observations
from coterie.models.loaded.routing import input_device
from coterie.models.loaded.stack import Stack

Choices = NDArray[np.intp]
"""Integer array ``(n_candidates, n_layers)``: which variant of each layer a candidate has."""

CUT, AS_IT_IS = -1, 0
"""The two choices every layer has: skipped, and unchanged. Variants count from 1."""

Variant = Callable[[int, int], Mapping[str, Tensor]]
"""Gives the tensors of a layer's variant, by their names inside the layer."""

Readings = dict[tuple[int, ...], FullModel]
"""What the full model predicts, by the numbers of the texts that were read together."""


@contextmanager
def other_weights(layer: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside this block, some parameters of a module are other tensors; then its own are back."""
    places = [name.rpartition(".") for name in tensors]
    owners = [layer.get_submodule(path) for path, _, _ in places]
    # Noted before anything is replaced, so that an error inside restores all of them.
    own = [owner._parameters[leaf] for owner, (_, _, leaf) in zip(owners, places, strict=True)]
    try:
        for owner, (_, _, leaf), tensor in zip(owners, places, tensors.values(), strict=True):
            owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
        yield
    finally:
        for owner, (_, _, leaf), parameter in zip(owners, places, own, strict=True):
            owner._parameters[leaf] = parameter


def together(memory: int, state_bytes: int) -> int:
    """States that fit in memory at once, each of so many bytes; counted twice.

    A layer's outputs exist beside its inputs.

    >>> together(1000, 100)
    5
    """
    return max(1, memory // (2 * state_bytes))


def walks_of(n_candidates: int, n_sequences: int, state_bytes: int, memory: int) -> int:
    """Walks through the layers that observing candidates takes.

    Args:
        n_candidates: Candidates observed.
        n_sequences: Texts each is observed on.
        state_bytes: Of one candidate on one text.
        memory: Bytes that live states may take.
    """
    turns = -(-n_sequences // together(memory, state_bytes))
    at_once = together(memory, -(-n_sequences // turns) * state_bytes)
    return turns * -(-n_candidates // at_once)


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """A model, and the texts that it and its variants are judged on.

    Attributes:
        model: In evaluation mode; no weight is ever changed.
        stack: Its layers.
        tokens: Token ids, ``(n_sequences, length)``, without padding.
        shape: How much to compute at once.
        state_memory: Bytes that live states may take; by default half of what is free.
        batches: The model, taken apart already; its weights may come from files.
    """

    model: PreTrainedModel
    stack: Stack
    tokens: Tensor
    shape: BatchShape
    state_memory: int | None = None
    batches: Batches | None = None

    def as_it_is(self) -> Choices:
        """The one candidate whose layers are all unchanged, ``(1, n_layers)``."""
        return np.full((1, self.stack.n_players), AS_IT_IS, dtype=np.intp)


def no_variants(layer: int, choice: int) -> dict[str, Tensor]:
    """For judging a model as it is: no layer has variants."""
    raise LookupError(f"layer {layer} has no variant {choice}")


class ChoiceGame:
    """Observes candidates on texts, each prefix of choices computed once.

    Args:
        judged: The model and the texts.
        variant: Gives the tensors of a layer's variants, choices from 1 on; `no_variants` for a
            model as it is.
        like: What a full model predicted on the same texts; without it, this model's own
            predictions are what candidates are compared with.
        arrived: Called with a layer when its own weights are in place, before its variants are
            asked for.

    Attributes:
        readings: What candidates are compared with, as far as it has been read.

    Raises:
        ModelError: The layers of this model cannot be run apart from it.
    """

    def __init__(
        self,
        judged: JudgedModel,
        variant: Variant,
        *,
        like: Readings | None = None,
        arrived: Callable[[int], None] | None = None,
    ) -> None:
        self.stack, self.tokens, self.variant = judged.stack, judged.tokens, variant
        self.arrived = arrived
        self.spent = Spent()
        self._batches = judged.batches or _taken_apart(judged)
        self._layers = self._batches.layers
        # One embedded text tells how large a state is, counted as float32 at least.
        one = self._layers.prelude(self.tokens[:1]).embedded
        self._memory = memory_for_states(judged.state_memory, one.device)
        self._state_bytes = one[0].numel() * max(one.element_size(), 4)
        self.readings: Readings = {} if like is None else like

    def observe(self, choices: Choices, sequences: Indices | None = None) -> Observations:
        """Observe candidates on some sequences: tables ``(n_candidates, n_sequences)``."""
        began = perf_counter()
        if sequences is None:
            sequences = np.arange(len(self.tokens))
        turns = -(-len(sequences) // together(self._memory, self._state_bytes))
        if turns > 1:  # not even one candidate fits on all texts
            table, rows = Observations.empty(len(choices), len(sequences)), np.arange(len(choices))
            for columns in np.array_split(np.arange(len(sequences)), turns):
                table.put(Block(rows, columns, self.observe(choices, sequences[columns])))
            return table
        # Equal candidates are run once.
        distinct, inverse = np.unique(choices, axis=0, return_inverse=True)
        tokens = self.tokens[sequences]
        prelude = self._layers.prelude(tokens)
        key = tuple(int(sequence) for sequence in sequences)
        seen = Observations.empty(len(distinct), len(sequences))
        at_once = together(self._memory, len(sequences) * self._state_bytes)
        # As many candidates as memory holds walk together and share their prefixes.
        for rows in np.array_split(np.arange(len(distinct)), -(-len(distinct) // at_once)):
            states = self._walk(prelude, self._with_full(distinct[rows], key))
            with self._batches.ending():
                # The full model came along as the last candidate: see `_with_full`.
                if key not in self.readings:
                    self.readings[key] = self._read_full(states.pop(), tokens, key)
                for row, state in zip(rows, states, strict=True):
                    read = observations(self._batches.read([state], tokens, self.readings[key]))
                    seen.nll[row], seen.kl[row], seen.top1[row] = read.nll, read.kl, read.top1
                    self.spent.head_tokens += len(tokens) * (tokens.shape[1] - 1)
        self.spent.seconds += perf_counter() - began
        return seen[inverse.reshape(-1)]

    def _walk(self, prelude: Prelude, choices: Choices) -> list[Tensor]:
        """Final states of candidates, ``(n_sequences, length, width)`` each."""
        states = [prelude.embedded]
        node = np.zeros(len(choices), dtype=np.intp)
        for layer in range(choices.shape[1]):
            if self._layers.weights is not None:
                self._layers.weights.hold(layer)
            if self.arrived is not None:
                self.arrived(layer)
            # A node is a prefix of choices; equal pairs of parent and choice are the same state.
            steps, node = np.unique(
                np.stack([node, choices[:, layer]], axis=1), axis=0, return_inverse=True
            )
            node = node.reshape(-1)
            below: list[Tensor] = [states[parent] for parent, _ in steps]
            for choice in np.unique(steps[:, 1]):
                if choice == CUT:
                    continue  # a layer that is cut hands on what it is given
                # Grouped by choice: the layer takes a variant's weights once for all its states.
                with other_weights(self.stack.layers[layer], self._tensors(layer, int(choice))):
                    for at in np.flatnonzero(steps[:, 1] == choice):
                        below[at] = self._batches.apply(prelude, layer, below[at], 0, 1)
                        self.spent.layer_executions += 1
                        self.spent.layer_tokens += below[at].shape[0] * below[at].shape[1]
            states = below
        # Back from distinct prefixes to candidates.
        return [states[at] for at in node]

    def _tensors(self, layer: int, choice: int) -> Mapping[str, Tensor]:
        return {} if choice == AS_IT_IS else self.variant(layer, choice)

    def _with_full(self, choices: Choices, key: tuple[int, ...]) -> Choices:
        """The same, and the unpruned model behind them if it has not been read on these texts."""
        if key in self.readings:
            return choices
        return np.vstack([choices, np.full(choices.shape[1], AS_IT_IS)])

    def _read_full(self, state: Tensor, tokens: Tensor, key: tuple[int, ...]) -> FullModel:
        full = self._batches.read_full(state, tokens, kl=True)
        refuse_unless_finite(full.nll, list(key))
        return full


def _taken_apart(judged: JudgedModel) -> Batches:
    """The layers and the head of a model that is in memory."""
    model, stack, few = judged.model, judged.stack, judged.tokens[[0, -1]]
    try:
        layers, head = replayed(model, stack, few), find_head(model, stack, few)
    except (NotReplayable, TailNotFound) as reason:
        raise ModelError(
            f"{type(model).__name__} cannot be run layer by layer, which judging pruned layers "
            f"needs: {reason}; cut whole layers of it instead (coterie prune)"
        ) from reason
    return Batches(layers, head, judged.shape, input_device(model))
