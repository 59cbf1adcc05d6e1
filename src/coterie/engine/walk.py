"""Carry the states of texts through the trie of prefixes, and read them off at the end."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coterie.engine.batch_shape import BatchShape
from coterie.engine.batches import Batches
from coterie.engine.breakdown import Watch
from coterie.engine.cost import Spent
from coterie.engine.disk.spill import Spill, Spilled
from coterie.engine.parts.blocks import Steps
from coterie.engine.parts.head import ProjectionHead
from coterie.engine.parts.layers import Prelude
from coterie.engine.parts.readings import FullModel, refuse_unless_finite
from coterie.engine.trie import BESIDE_THE_WALK, Finish, Run, kept_steps, peak_states, schedule
from coterie.engine.unread import Unread
from coterie.errors import ModelError
from coterie.game.coalitions import Block, Coalitions, Indices

State = list[Tensor | Spilled]
"""One state of all sequences of a pass, in pieces ``(n, length, width)`` of consecutive ones."""


@dataclass(eq=False)
class _Pass:
    """Sequences that go through the trie together, and their live states."""

    columns: Indices
    tokens: Tensor
    prelude: Prelude
    pieces: list[tuple[int, int]]
    """First sequence and number of sequences of each piece."""
    states: dict[int, State]
    full: FullModel | None = None


class Walker:
    """Evaluates coalitions by walking the trie of their prefixes.

    Args:
        layers: The model's layers or blocks, runnable apart.
        head: The model's end.
        tokens: All texts, ``(n_sequences, length)``.
        shape: How much to compute at once; halved here when memory runs out.
        spent: The account to write what is run on.
        kl: Whether KL to the full model is read.

    Attributes:
        spill: Where states wait that main memory cannot hold; None where it holds all of them.
        watch: Looks at every state of a single pass as it is made; None looks at none.
        ahead: Blocks whose work is handed to the device before the first of them is waited for.
    """

    def __init__(
        self,
        layers: Steps,
        head: ProjectionHead,
        tokens: Tensor,
        shape: BatchShape,
        spent: Spent,
        *,
        kl: bool,
    ) -> None:
        self.spill: Spill | None = None
        self.watch: Watch | None = None
        self.ahead = 0
        self.layers, self.head, self.tokens = layers, head, tokens
        self.spent, self.kl = spent, kl
        self._full: dict[int, FullModel] = {}
        self._keeps = True
        one = layers.prelude(tokens[:1]).embedded
        self.device = one.device
        self.batches = Batches(layers, head, shape, one.device)
        # A layer may hand on a wider dtype than it was given, up to float32.
        self.state_bytes = one[0].numel() * max(one.element_size(), 4)
        # Per place five numbers, and where KL is read a vector as wide as the state.
        self._full_bytes = 28 * one.shape[1] + (self.state_bytes if kl else 0)

    @property
    def shape(self) -> BatchShape:
        """How much is computed at once."""
        return self.batches.shape

    @shape.setter
    def shape(self, shape: BatchShape) -> None:
        self.batches.shape = shape

    def observe(self, ordered: Coalitions, sequences: Indices, memory: int) -> Iterator[Block]:
        """Observe coalitions in prefix order; ``rows`` of a block index into ``ordered``.

        Args:
            ordered: Distinct coalitions in `prefix_order`.
            sequences: Which texts.
            memory: Bytes that live states may take.
        """
        kept = kept_steps(self.layers.plays, ordered)
        # The least memory that one text needs decides how many texts are walked together.
        narrowest = (peak_states(kept, 0) + BESIDE_THE_WALK) * self.state_bytes
        memory -= self._set_aside(sequences, memory, narrowest)
        at_once = int(memory // narrowest)
        if at_once < 1:
            raise ModelError(
                f"the states of one sequence take {narrowest:,} bytes, {memory:,} are free for"
                " them: use shorter sequences, or allow more (state_memory)"
            )
        for columns in np.array_split(np.arange(len(sequences)), -(-len(sequences) // at_once)):
            most = int(memory // (len(columns) * self.state_bytes)) - BESIDE_THE_WALK - 1
            copies = max(1, self.shape.rows // len(columns))
            # Wide enough to fill the batches, and no wider: blocks are then known early.
            width = min(most, kept.shape[1] + 1 + max(4 * copies, 8))
            yield from self._walk(kept, sequences, columns, width)

    @property
    def held_bytes(self) -> int:
        """Bytes that the full model's stored predictions take."""
        return len(self._full) * self._full_bytes

    def _set_aside(self, sequences: Indices, memory: int, narrowest: int) -> int:
        """Bytes set aside to store the full model's predictions on all texts asked for so far.

        Where that would leave less than half of the memory, nothing is stored, and the full model
        is computed again for every question.
        """
        known = len(self._full) + sum(int(s) not in self._full for s in sequences)
        aside = known * self._full_bytes
        self._keeps = memory - aside >= max(memory // 2, narrowest)
        if self._keeps:
            return aside
        self._full.clear()
        return 0

    def observe_in_one_pass(self, ordered: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe coalitions layer by layer, every state alive at once, each layer visited once.

        The full model is added to them, because no layer is visited a second time.
        """
        everyone = np.ones((1, ordered.shape[1]), dtype=bool)
        extra = not len(ordered) or not ordered[-1].all()  # all ones come last in prefix order
        rows = np.concatenate([ordered, everyone]) if extra else ordered
        columns = np.arange(len(sequences))
        now = self._begin(sequences, columns)
        rows = kept_steps(self.layers.plays, rows)
        for step in schedule(rows, sum(rows.shape) + 1):
            if isinstance(step, Run):
                self._run(now, step)
                self._count(now, step)
                continue
            with self.batches.ending():
                now.full = self._read_whole(now, step.states[-1], sequences)
                mine = Finish(step.rows[: len(ordered)], step.states[: len(ordered)])
                if self.watch is not None:
                    self.watch.ended(mine.rows, mine.states)
                block = self._finish(now, mine).block()
            yield block

    def full(self, sequences: Indices) -> FullModel:
        """The full model on some texts: ``(n_sequences, n_predicted)``.

        It is computed once for each text, if memory allows to keep it.
        """
        missing = [int(s) for s in sequences if int(s) not in self._full]
        for at in range(0, len(missing), max(1, self.shape.rows)):
            chunk = missing[at : at + max(1, self.shape.rows)]
            tokens = self.tokens[chunk]
            prelude = self.layers.prelude(tokens)
            state = prelude.embedded
            for step in range(len(self.layers.plays)):
                state = self.batches.apply(prelude, step, state, 0, 1)
            self.spent.setup_layer_tokens += tokens.numel() * self.layers.stack.n_players
            self.spent.setup_head_tokens += len(chunk) * (tokens.shape[1] - 1)
            read = self.batches.read_full(state, tokens, kl=self.kl)
            refuse_unless_finite(read.nll, chunk)
            self._full |= {sequence: read[row] for row, sequence in enumerate(chunk)}
        gathered = FullModel.gathered(torch.stack, [self._full[int(s)] for s in sequences])
        if not self._keeps:
            self._full.clear()
        return gathered

    def _walk(
        self, kept: Coalitions, sequences: Indices, columns: Indices, width: int
    ) -> Iterator[Block]:
        now = self._begin(sequences, columns)
        # The full model is read first: every coalition is compared with it.
        now.full = self.full(sequences[columns])
        waiting = deque[Unread]()
        for step in schedule(kept, width):
            if isinstance(step, Run):
                self._run(now, step)
                self._count(now, step)
                continue
            # A GPU goes on with the next block while this one is on its way.
            waiting.append(self._finish(now, step))
            if len(waiting) > self.ahead:
                yield waiting.popleft().block()
        while waiting:
            yield waiting.popleft().block()

    def _begin(self, sequences: Indices, columns: Indices) -> _Pass:
        tokens = self.tokens[sequences[columns]]
        prelude = self.layers.prelude(tokens)
        n_pieces = -(-len(columns) // max(1, self.shape.rows))
        pieces = [(int(p[0]), len(p)) for p in np.array_split(np.arange(len(columns)), n_pieces)]
        root: State = [prelude.embedded[first : first + n] for first, n in pieces]
        # Copied once for the pass: a copy for every reading would wait for the GPU each time.
        tokens = tokens.to(self.batches.reading_device)
        return _Pass(columns, tokens, prelude, pieces, {0: root})

    def _count(self, now: _Pass, step: Run) -> None:
        if not self.layers.plays[step.layer]:
            return  # players are counted: what runs with or without them is not
        # Texts that do not fit at once are walked in turns; an execution is counted in the first.
        self.spent.layer_executions += len(step.children) if now.columns[0] == 0 else 0
        self.spent.layer_tokens += len(step.children) * now.tokens.numel()

    def _read_whole(self, now: _Pass, state: int, sequences: Indices) -> FullModel:
        """The full model's prediction, from its final state on all texts of a pass."""
        whole = torch.cat([self._held(piece) for piece in now.states[state]])
        self.spent.setup_head_tokens += len(sequences) * (now.tokens.shape[1] - 1)
        full = self.batches.read_full(whole, now.tokens, kl=self.kl)
        refuse_unless_finite(full.nll, sequences.tolist())
        return full

    def _run(self, now: _Pass, step: Run) -> None:
        freed = set(step.freed)
        together = max(1, self.shape.rows // len(now.columns))
        if self.ahead:  # a GPU wants batches of one size more than few of them
            together = -(-len(step.parents) // -(-len(step.parents) // together))
        for at, n in _batches(len(step.parents), together):
            parents, children = step.parents[at : at + n], step.children[at : at + n]
            for piece, (first, _) in enumerate(now.pieces):
                given = [self._held(now.states[parent][piece]) for parent in parents]
                made = self.batches.apply_each(now.prelude, step.layer, given, first)
                for parent, child, part in zip(parents, children, made, strict=True):
                    if self.watch is not None:
                        self.watch.made(parent, child, step.layer, first, part)
                    now.states.setdefault(child, []).append(self._kept(part))
            for parent in parents:
                if parent in freed:
                    del now.states[parent]

    def _kept(self, state: Tensor) -> Tensor | Spilled:
        return state if self.spill is None else self.spill.keep(state)

    def _held(self, state: Tensor | Spilled) -> Tensor:
        return (state if isinstance(state, Tensor) else state.load()).to(self.device)

    def _finish(self, now: _Pass, step: Finish) -> Unread:
        """Read the final states of some coalitions, and free them."""
        unread = Unread(np.array(step.rows, dtype=np.intp), now.columns)
        for piece, (first, n) in enumerate(now.pieces):
            tokens = now.tokens[first : first + n]
            assert now.full is not None
            full = now.full[first : first + n]
            predicted = n * (tokens.shape[1] - 1)
            for at, count in _batches(len(step.states), self.batches.read_together(predicted)):
                states = [
                    self._held(now.states[state][piece]) for state in step.states[at : at + count]
                ]
                corner = np.s_[at : at + count, first : first + n]
                unread.send(corner, self.batches.read(states, tokens, full))
        for state in step.states:
            del now.states[state]
        n_sequences, length = now.tokens.shape
        self.spent.head_tokens += len(step.rows) * n_sequences * (length - 1)
        return unread


def _batches(n: int, together: int) -> Iterator[tuple[int, int]]:
    """Start and length of runs of at most ``together``."""
    return ((at, min(together, n - at)) for at in range(0, n, together))
