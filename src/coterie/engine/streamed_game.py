"""The game of a model that is larger than memory: one pass over its weights, all coalitions along.

Each layer is read from the checkpoint's files once, while the layer before it computes, and is
applied to every live state. So the cost of reading is shared by all coalitions asked together, and
memory holds two layers and the states. Where the states of all texts do not fit, either they wait
in files or the texts are divided among passes, whichever moves fewer bytes.
"""

import logging
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coterie.engine.batch_shape import BatchShape
from coterie.engine.batches import Batches
from coterie.engine.breakdown import Breakdowns, Watch
from coterie.engine.cost import plan
from coterie.engine.disk.apart import check_streamed, find_streamed_head, telling_layers
from coterie.engine.disk.full_seen import FullSeen
from coterie.engine.disk.layer_weights import ShardedWeights
from coterie.engine.disk.parameters import empty_model
from coterie.engine.disk.spill import Spill
from coterie.engine.interface import DiskTraffic, Seconds
from coterie.engine.memory import FREE_SHARE, free_bytes, memory_for_states
from coterie.engine.parts.head import ENOUGH_TOKENS, ProjectionHead
from coterie.engine.parts.layers import LayerStack, NotReplayable, running_apart
from coterie.engine.played_texts import PlayedTexts
from coterie.engine.proof import LossProof, losses_of
from coterie.engine.walk import Walker
from coterie.errors import ModelError
from coterie.game.coalitions import (
    Block,
    Coalition,
    Coalitions,
    Game,
    Indices,
    observe_all,
)
from coterie.models.files.sources import Source
from coterie.models.loaded.stack import find_stack

log = logging.getLogger(__name__)

LAYER_TOKENS, GPU_LAYER_TOKENS = 2048, 8192
"""Tokens of one call of a layer: enough to keep a device busy, little enough to fit beside it."""


@final
class StreamedGame(PlayedTexts):
    """The game whose players are the layers of a language model that is never in memory as a whole.

    Args:
        source: The checkpoint.
        tokens: Token ids, ``(n_sequences, length)``, without padding.
        dtype: What to compute in; weights are converted as they come.
        device: Where to compute; states rest in main memory.
        state_memory: Bytes of main memory for states; by default half of what is free. States
            beyond go to temporary files.
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
    at_once = 1

    def __init__(
        self,
        source: Source,
        tokens: NDArray[np.int64] | Tensor,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        state_memory: int | None = None,
        kl: bool = True,
    ) -> None:
        started = perf_counter()
        config = source.config()
        if getattr(config, "quantization_config", None) is not None:
            raise ModelError(
                f"{source.name!r} cannot be streamed: its weights are quantized; load it whole, or"
                " stream the checkpoint it was quantized from"
            )
        model = empty_model(config, dtype, trust_remote_code=source.trust_remote_code)
        super().__init__(model, find_stack(model), tokens)
        self.passes = self.spilled = 0
        self._full, self._dtype = FullSeen(), dtype
        self._state_memory = state_memory
        self._device = torch.device(device)
        self._weights = ShardedWeights(source, model, self.stack, self._device)
        # A proof opens another checkpoint exactly as this one was opened.
        self._reopen = partial(
            StreamedGame, dtype=dtype, device=device, state_memory=state_memory, kl=False
        )
        try:
            self._walker = self._taken_apart(kl)
            # Layers that reuse keys of earlier ones differ from each other: then all are checked.
            shared = getattr(config.get_text_config(decoder=True), "num_kv_shared_layers", 0)
            self.check_layers(None if shared else telling_layers(self.stack))
        except NotReplayable as reason:
            raise ModelError(
                f"{source.name!r} cannot be streamed: {reason}; load it whole"
            ) from reason
        self.spent.setup_seconds += perf_counter() - started

    def on(self, tokens: NDArray[np.int64] | Tensor) -> "StreamedGame":
        """The game of the same model on other texts; what was learnt and checked stays valid.

        Raises:
            TextError: The tokens are not a table, are too short, or are not the model's.
        """
        other = copy(self)
        # Weights, checks and the head are shared; texts, passes and answers are new.
        other.play(tokens)
        other._full = FullSeen()
        other.passes = other.spilled = 0
        walker = self._walker
        other._walker = other._walking(walker.head, walker.shape, kl=walker.kl)
        return other

    def check_layers(self, chosen: Sequence[int] | None = None) -> None:
        """Compare some layers, or all, with the model's own forward; only these are read.

        Raises:
            NotReplayable: they differ, so no streamed result can be trusted.
        """
        layers = self._walker.layers
        assert isinstance(layers, LayerStack)  # blocks are not streamed
        chosen = sorted(range(self.n_players) if chosen is None else chosen)
        self.checked = check_streamed(layers, self._weights, self.ends, chosen)
        log.info("checked %s", self.checked)

    @property
    def batches(self) -> Batches:
        """The model taken apart, its weights brought from the files as they are needed."""
        return self._walker.batches

    @property
    def weights(self) -> ShardedWeights:
        """What brings the weights in from the files."""
        return self._weights

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._device

    @property
    def shape(self) -> BatchShape:
        """The batch shape in use."""
        return self._walker.shape

    @property
    def traffic(self) -> DiskTraffic:
        """What reading weights from disk took so far, over all texts of this model."""
        read = self._weights.traffic
        return DiskTraffic(
            passes=self.passes,
            bytes_spilled=self.spilled,
            bytes_read=read.bytes_read,
            seconds_reading=read.seconds_reading,
            seconds_waiting=read.seconds_waiting,
            checked=self.checked,
        )

    @property
    def pass_bytes(self) -> int:
        """Bytes of all layers on disk: the least that one pass reads."""
        return self._weights.layer_bytes

    def questions(self, coalitions: Coalitions) -> list[Coalitions]:
        """One group of all coalitions: every question reads all layers."""
        return [coalitions]

    def seconds(self) -> Seconds:
        """Time one pass of the full model; its head is counted as part of the layers.

        Coalitions of one pass share the time of reading from disk: one alone takes about this, many
        together take less for each.
        """
        began = perf_counter()
        observe_all(self, np.ones((1, self.n_players), dtype=bool))
        return Seconds((perf_counter() - began) / self.n_players, 0.0)

    def memory_bytes(self, coalitions: Coalitions) -> int:
        """Bytes that weights and states take at most, from opening to observing on every text."""
        everyone = np.ones((1, self.n_players), dtype=bool)  # part of every pass
        widest = self.plan(np.concatenate([coalitions, everyone])).widest_states
        states = widest * self._walker.state_bytes * self.n_sequences
        passing = self._weights.peak_bytes + min(states, self._memory())
        return max(self._weights.opening_bytes, passing)

    def proof(self, coalition: Coalition, game: Game) -> LossProof:
        """The losses of what stays, for the logits of all texts would not fit into memory.

        Args:
            coalition: The players that stay, ``(n_players,)``.
            game: This engine, or what remembers its observations.
        """
        reopen = partial(self._reopen, tokens=self.tokens)
        return LossProof(losses_of(game, coalition), self._dtype, reopen)

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe distinct coalitions on distinct sequences, all in one pass over the weights.

        Ask for many at once: every call reads the whole checkpoint, except one for the full model
        alone on texts that were observed before. Results are known when a pass ends.
        """
        asked = self.question(coalitions, sequences)
        if asked.empty:
            return
        # The full model alone: it went along in an earlier pass, so nothing is read from disk.
        if len(asked.ordered) == 1 and asked.ordered.all() and self._full.knows(asked.sequences):
            yield self._full.block(asked.sequences)
            return
        everyone = np.ones((1, self.n_players), dtype=bool)
        # All ones come last in prefix order.
        extra = not asked.ordered[-1].all()
        ordered = np.concatenate([asked.ordered, everyone]) if extra else asked.ordered
        everything = np.arange(len(asked.sequences))
        on_gpu = self._fits_the_gpu(ordered, len(everything))
        memory = None if on_gpu else self._memory()
        broken = Breakdowns(asked, self.remarks)
        n_passes = 1 if memory is None else self._n_passes(ordered, len(everything), memory)
        # One pass over the weights for each group of texts.
        for columns in np.array_split(everything, n_passes):
            for block in self._pass(ordered, asked.sequences[columns], memory):
                self._full.note(block, len(ordered) - 1, asked.sequences[columns])
                # Drop the row of the full model where it was added and not asked for.
                mine = block.rows < len(asked.order)
                rows, seen = block.rows[mine], block.observations[mine]
                whole = Block(rows, columns[block.columns], seen, block.seconds)
                broken.note(whole, partial(self._breakdown, columns))
                yield replace(whole, rows=asked.order[rows])

    def _breakdown(self, columns: Indices, row: int, column: int) -> int | None:
        """Where a coalition broke down in the pass that has just gone through these columns."""
        assert self._walker.watch is not None
        return self._walker.watch.where(row, column - int(columns[0]))

    def _memory(self) -> int:
        """Bytes of main memory for states."""
        return memory_for_states(self._state_memory, torch.device("cpu"))

    def _fits_the_gpu(self, ordered: Coalitions, n_sequences: int) -> bool:
        """Whether a GPU holds all states of a pass beside the weights: then they stay there."""
        if self._device.type != "cuda" or self._state_memory is not None:
            return False
        widest = plan(ordered, n_sequences, self.length).widest_states
        states = widest * n_sequences * self._walker.state_bytes
        return states + 2 * self._weights.peak_bytes <= FREE_SHARE * free_bytes(self._device)

    def _n_passes(self, ordered: Coalitions, n_sequences: int, memory: int) -> int:
        """Number of passes, each over a part of the texts, that moves the fewest bytes.

        A pass reads the layers once; a state that waits in a file is written and read per layer.
        """
        widest = plan(ordered, n_sequences, self.length).widest_states
        states = widest * n_sequences * self._walker.state_bytes
        passes = np.arange(1, n_sequences + 1)
        waiting = np.maximum(0, states - passes * memory)
        moved = passes * self._weights.layer_bytes + 2 * self.n_players * waiting
        return int(passes[moved.argmin()])

    def _pass(self, ordered: Coalitions, sequences: Indices, memory: int | None) -> Iterator[Block]:
        """One pass over the weights; rows and columns index into what is given here.

        Args:
            ordered: Coalitions in prefix order.
            sequences: Which texts.
            memory: Bytes of main memory for states; None leaves them on the device.
        """
        spill = None if memory is None else Spill(memory)
        self._walker.spill, self._walker.watch = spill, Watch()
        self.passes += 1
        log.debug("pass %d: %d coalitions, %d texts", self.passes, len(ordered), len(sequences))
        started = perf_counter()
        try:
            for block in self._walker.observe_in_one_pass(ordered, sequences):
                seconds = perf_counter() - started
                self.spent.seconds += seconds
                yield replace(block, seconds=seconds)
                started = perf_counter()
        finally:
            self._weights.release()
            if spill is not None:
                self.spilled += spill.written
                spill.close()

    def _taken_apart(self, kl: bool) -> Walker:
        with running_apart():
            self._weights.learn(self.stack, self.ends)
            few = self.ends[:, :ENOUGH_TOKENS]
            head = find_streamed_head(self.model, self.stack, self._weights, few)
            tokens = GPU_LAYER_TOKENS if self._device.type == "cuda" else LAYER_TOKENS
            rows = max(1, tokens // self.length)
            shape = BatchShape(rows, 1024, min(4096, head.vocabulary))
            return self._walking(head, shape, kl=kl)

    def _walking(self, head: ProjectionHead, shape: BatchShape, *, kl: bool) -> Walker:
        with self._weights.beginning():
            layers = LayerStack(self.model, self.stack, self.ends, self._weights)
            return Walker(layers, head, self.tokens, shape, self.spent, kl=kl)
