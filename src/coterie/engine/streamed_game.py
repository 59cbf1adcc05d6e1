"""The game of a model that is larger than memory: one pass over its weights, all coalitions along.

Each layer is read from the checkpoint's files once, while the layer before it computes, and is
applied to every live state. So the cost of reading is shared by all coalitions asked together, and
memory holds two layers and the states. Where the states of all texts do not fit, either they wait
in files or the texts are divided among passes, whichever moves fewer bytes.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape
from coterie.engine.batches import Batches
from coterie.engine.breakdown import Breakdowns, Watch
from coterie.engine.cost import Plan, Spent, plan
from coterie.engine.disk.layer_weights import ShardedWeights
from coterie.engine.disk.parameters import empty_model
from coterie.engine.disk.spill import Spill
from coterie.engine.memory import free_main_memory
from coterie.engine.parts.head import ProjectionHead, TailNotFound, find_head
from coterie.engine.parts.layers import LayerStack, NotReplayable, running_apart
from coterie.engine.parts.replay import check_replay
from coterie.engine.question import checked_tokens, longest_text, question
from coterie.engine.walk import Walker
from coterie.errors import ModelError
from coterie.game.coalitions import Block, Coalitions, Indices, Observations
from coterie.models.files.sources import Source
from coterie.models.loaded.routing import Carried, Forward, patched
from coterie.models.loaded.stack import find_stack

TOKENS_AT_ONCE = 2048
"""Tokens of one call of a layer: enough to keep a device busy, little enough to fit beside it."""

FREE_SHARE = 0.5

HEAD_TOKENS = 64
"""Tokens of a text from which the head is found: each brings logits as wide as the vocabulary."""

CHECKED_LAYERS = 2
"""First layers held against the model's own forward, beside one of each class and the last."""


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
        model: The model, its weights on the meta device.
        passes: How many times questions have gone through the layers on disk.
        checked: What was compared with the model's own forward, and how near it came.
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
        if getattr(config, "quantization_config", None) is not None:
            raise ModelError(
                f"{source.name!r} cannot be streamed: its weights are quantised; load it whole, or"
                " stream the checkpoint it was quantised from"
            )
        self.vocabulary = int(config.get_text_config(decoder=True).vocab_size)
        model = empty_model(config, dtype, trust_remote_code=source.trust_remote_code)
        self.model, self.stack = model, find_stack(model)
        self.tokens = checked_tokens(tokens, self.vocabulary, longest_text(model))
        self.spent, self.remarks = Spent(), list[str]()
        self._spilled = self.passes = 0
        self._full: dict[int, Observations] = {}
        self._memory, self._spill_folder = state_memory, spill_folder
        self._weights = ShardedWeights(source, model, self.stack, torch.device(device))
        self.traffic = self._weights.traffic
        try:
            self._walker = self._prepared(model, shape, kl)
            shared = getattr(config.get_text_config(decoder=True), "num_kv_shared_layers", 0)
            self.check_layers(None if shared else self._telling())
        except NotReplayable as reason:
            raise ModelError(
                f"{source.name!r} cannot be streamed: {reason}; load it whole"
            ) from reason
        self.spent.setup_seconds += perf_counter() - started

    def on(self, tokens: NDArray[np.int64] | Tensor) -> "StreamedGame":
        """The game of the same model on other texts; what was learnt and checked is not again.

        Raises:
            TextError: The tokens are not a table, are too short, or are not the model's.
        """
        other = copy(self)
        other.tokens = checked_tokens(tokens, self.vocabulary, longest_text(self.model))
        other.spent, other.remarks, other._full = Spent(), [], {}
        other._spilled = other.passes = 0
        head, kl = self._walker.head, self._walker.kl
        other._walker = other._apart(head, self._walker.shape, kl)
        return other

    def check_layers(self, chosen: Sequence[int] | None = None) -> None:
        """Hold some layers, or all, against the model's own forward; reads these and no others.

        Those that are not chosen hand on what they are given, apart and in the model.

        Raises:
            NotReplayable: they differ, so nothing streamed is to be believed.
        """
        everyone = list(range(self.n_players))
        chosen = sorted(everyone if chosen is None else chosen)
        layers = copy(self._walker.layers)
        assert isinstance(layers, LayerStack)
        layers.weights = _SomeWeights(self._weights, chosen)
        others: dict[nn.Module, Forward] = {
            self.stack.layers[other]: partial(_through, layers.carried[other])
            for other in set(everyone) - set(chosen)
        }
        with running_apart(), patched(others):
            worst = check_replay(self.model, layers, self.tokens[[0, -1]])
        self._weights.forget()
        some = f"the first {CHECKED_LAYERS} layers, one of each class and the last"
        self.checked = (
            f"{some if others else 'all layers'} on two sequences, as in the model's own forward to"
            f" {worst:.0e} of the state{'; the others are not checked' if others else ''}"
        )

    def _telling(self) -> list[int]:
        """The layers that tell most of the others: those that share something come late."""
        first_of = {type(self.stack.layers[i]): i for i in reversed(range(self.n_players))}
        first = range(min(CHECKED_LAYERS, self.n_players))
        return sorted({*first, *first_of.values(), self.n_players - 1})

    @property
    def batches(self) -> Batches:
        """The model taken apart, its weights brought from the files as they are needed."""
        return self._walker.batches

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

    @property
    def pass_bytes(self) -> int:
        """Bytes of all layers on disk: what one pass reads, and what lies outside them besides."""
        return self._weights.layer_bytes

    def memory_bytes(self, coalitions: Coalitions) -> int:
        """Bytes that weights and states take at most, from opening to observing on every text."""
        states = self.plan(coalitions).widest_states * self._walker.state_bytes * self.n_sequences
        passing = self._weights.peak_bytes + min(states, self._room())
        return max(self._weights.opening_bytes, passing)

    def plan(self, coalitions: Coalitions, n_sequences: int | None = None) -> Plan:
        """The work that observing ``coalitions`` will take, the full model's pass included."""
        everyone = np.ones((1, self.n_players), dtype=bool)
        return plan(
            np.concatenate([coalitions, everyone]), n_sequences or self.n_sequences, self.length
        )

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe distinct coalitions on distinct sequences, all in one pass over the weights.

        Ask for many at once: every call reads the whole checkpoint, but one for the full model on
        texts on which it has gone along before. What a pass observes is known when it ends.
        """
        asked = question(coalitions, sequences, self.n_players, self.n_sequences)
        if asked.empty:
            return
        if len(asked.ordered) == 1 and asked.ordered.all() and self._knows(asked.sequences):
            yield self._remembered(asked.sequences)
            return
        everyone = np.ones((1, self.n_players), dtype=bool)
        # All ones come last in prefix order.
        extra = not asked.ordered[-1].all()
        ordered = np.concatenate([asked.ordered, everyone]) if extra else asked.ordered
        room, everything = self._room(), np.arange(len(asked.sequences))
        broken = Breakdowns(asked, self.remarks)
        for columns in np.array_split(everything, self._divided(ordered, len(everything), room)):
            for block in self._pass(ordered, asked.sequences[columns], room):
                self._remember(block, len(ordered) - 1, asked.sequences[columns])
                mine = block.rows < len(asked.order)
                rows, seen = block.rows[mine], block.observations[mine]
                whole = Block(rows, columns[block.columns], seen, block.seconds)
                broken.note(whole, partial(self._breakdown, columns))
                yield replace(whole, rows=asked.order[rows])

    def _breakdown(self, columns: Indices, row: int, column: int) -> int | None:
        """Where a coalition broke down in the pass that has just gone through these columns."""
        assert self._walker.watch is not None
        return self._walker.watch.where(row, column - int(columns[0]))

    def _knows(self, sequences: Indices) -> bool:
        return all(int(sequence) in self._full for sequence in sequences)

    def _remember(self, block: Block, full: int, sequences: Indices) -> None:
        """Keep what the full model did, which goes along in every pass."""
        for row in np.flatnonzero(block.rows == full):
            for place, column in enumerate(block.columns):
                corner = np.s_[row : row + 1, place : place + 1]
                self._full[int(sequences[column])] = block.observations[corner]

    def _remembered(self, sequences: Indices) -> Block:
        table = Observations.empty(1, len(sequences))
        for column, sequence in enumerate(sequences):
            own = np.array([column], dtype=np.intp)
            table.put(Block(np.array([0]), own, self._full[int(sequence)]))
        return Block(np.array([0]), np.arange(len(sequences)), table)

    def _room(self) -> int:
        return int(FREE_SHARE * free_main_memory()) if self._memory is None else self._memory

    def _divided(self, ordered: Coalitions, n_sequences: int, room: int) -> int:
        """Passes among which to divide the texts, so that the fewest bytes are moved.

        A pass reads the layers once; a state that waits in a file is written and read per layer.
        """
        widest = plan(ordered, n_sequences, self.length).widest_states
        states = widest * n_sequences * self._walker.state_bytes
        passes = np.arange(1, n_sequences + 1)
        waiting = np.maximum(0, states - passes * room)
        moved = passes * self._weights.layer_bytes + 2 * self.n_players * waiting
        return int(passes[moved.argmin()])

    def _pass(self, ordered: Coalitions, sequences: Indices, room: int) -> Iterator[Block]:
        """One pass over the weights; rows and columns index into what is given here."""
        spill = Spill(room, self._spill_folder)
        self._walker.spill, self._walker.watch = spill, Watch()
        self.passes += 1
        started = perf_counter()
        try:
            for block in self._walker.observe_in_one_pass(ordered, sequences):
                seconds = perf_counter() - started
                self.spent.seconds += seconds
                yield replace(block, seconds=seconds)
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
        with running_apart():
            self._weights.learn(self.stack, few)
            head = self._head(model, few)
            rows = max(1, TOKENS_AT_ONCE // self.length)
            shape = shape or BatchShape(rows, 1024, min(4096, head.vocabulary))
            return self._apart(head, shape, kl)

    def _apart(self, head: ProjectionHead, shape: BatchShape, kl: bool) -> Walker:
        with self._weights.beginning():
            layers = LayerStack(self.model, self.stack, self.tokens[[0, -1]], self._weights)
            return Walker(layers, head, self.tokens, shape, self.spent, kl=kl)

    def _head(self, model: PreTrainedModel, few: Tensor) -> ProjectionHead:
        """Find the head by a forward in which no layer does anything but the last, and try it.

        That one returns random states: an embedding may be normalised already, and a norm that is
        given its own result changes nothing that coarse numbers would show.
        """
        carried, few = self._weights.carried, few[:, :HEAD_TOKENS]
        returned: list[Tensor] = []

        def last(*args: object, **kwargs: object) -> object:
            leaves, spec = tree_flatten(carried[-1].through(args, kwargs))
            returned.append(_random(leaves[0]).to(leaves[0].device, self._weights.last_dtype))
            return tree_unflatten([returned[-1], *leaves[1:]], spec)

        forwards: dict[nn.Module, Forward] = {
            layer: partial(_through, how)
            for layer, how in zip(self.stack.layers, carried, strict=True)
        }
        forwards[self.stack.layers[-1]] = last
        with self._weights.ending(list(model.modules())), patched(forwards), torch.no_grad():
            try:
                head = find_head(model, self.stack, few)
            except TailNotFound as reason:
                raise NotReplayable(str(reason)) from reason
            with running_apart("its head"):
                head.logits(head.normed(returned[-1]).flatten(0, -2), 0, 1)
        return head


class _SomeWeights:
    """Brings in the weights of some layers; the others do not run."""

    def __init__(self, weights: ShardedWeights, chosen: Sequence[int]) -> None:
        self.carried, self._weights, self._chosen = weights.carried, weights, chosen

    def hold(self, layer: int) -> None:
        if layer in self._chosen:
            later = [other for other in self._chosen if other > layer]
            self._weights.hold(layer, later[0] if later else None)

    def beginning(self) -> AbstractContextManager[None]:
        return self._weights.beginning()

    def ending(self, modules: Sequence[nn.Module]) -> AbstractContextManager[None]:
        return self._weights.ending(modules)


def _through(carried: Carried, *args: object, **kwargs: object) -> object:
    return carried.through(args, kwargs)


def _random(like: Tensor) -> Tensor:
    """Random states, of a different size at every token."""
    values = torch.randn(like.shape, generator=torch.Generator().manual_seed(0))
    return values * torch.linspace(0.3, 3, values[..., 0].numel()).view(*like.shape[:-1], 1)
