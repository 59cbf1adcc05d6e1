"""The repaired game: a coalition is worth what it predicts when it has been repaired.

What a repair does to a kept layer depends on the kept layers before it and on the next one after
it, and on nothing else. So coalitions are gone through in the order of a trie: what two of them
share is repaired, and run, once; weights that were made stay known for later questions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from coterie.engine.parts.head import TailNotFound, find_head
from coterie.engine.parts.readings import (
    FullModel,
    Reading,
    observations,
    read_full,
    read_states,
)
from coterie.engine.question import question
from coterie.errors import RepairError
from coterie.game.coalitions import Block, Coalition, Coalitions, Indices, Observations
from coterie.models.loaded.routing import input_device
from coterie.models.loaded.stack import Stack
from coterie.repair.amount import check_states_fit
from coterie.repair.changes import NewWeights, RememberedRefits, applied
from coterie.repair.full import RememberedStates
from coterie.repair.gaps import Turn, turns
from coterie.repair.interface import Repair
from coterie.repair.place import KeptLayer
from coterie.repair.repairable import WholeModel
from coterie.repair.walk import Walk
from coterie.texts.sets import Tokens

HEAD_TABLE, HEAD_TABLE_ON_A_GPU = (512, 4096), (4096, 1 << 16)
"""Rows and columns of a table of logits that may exist at once: small enough for a CPU's cache, and
large enough that a GPU is not kept waiting (1 GiB)."""

REMEMBERED = 1 << 30
"""Bytes that the weights of refits may take, unless asked otherwise."""

Node = tuple[tuple[int, ...], int]
"""The kept layers up to one, and the next one after it."""


@dataclass(frozen=True, eq=False)
class _Step:
    """A kept layer that was gone through: the states after it, of all texts."""

    node: Node
    states: Tensor
    weights: NewWeights


@dataclass(frozen=True, eq=False)
class _States:
    """All texts on their way, and the full model's states between all layers."""

    walk: Walk
    full: RememberedStates


class RepairedGame:
    """The losses of repaired coalitions, as a `coterie.game.coalitions.Game`.

    The full model's states between all layers are kept, `state_bytes`, beside those of one way
    through the kept ones: give few texts.

    Args:
        model: The full model, in evaluation mode; it is left as it was.
        stack: Its whole layers: the players.
        fit: Texts that repairs are fitted on, ``(n_fit, length)``.
        tokens: Texts that coalitions are observed on, ``(n_sequences, length)``.
        repair: Which repair; not one that comes back to layers it has passed.
        remember: Bytes that the weights of refits may take; what goes beyond is refitted again.

    Attributes:
        made: Refits of a layer that were made.
        again: Layers whose refit was known from another coalition.

    Raises:
        RepairError: The repair or the model does not allow it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stack: Stack,
        fit: Tokens,
        tokens: Tokens,
        repair: Repair,
        remember: int = REMEMBERED,
    ) -> None:
        if repair.finish is not None:
            raise RepairError(
                f"the repair {repair.name!r} changes layers before a gap by what comes after it, so"
                " that nothing can be shared between coalitions: search with down, both or"
                " progressive"
            )
        self.model, self.stack, self.repair = model, stack, repair
        self._fit, self._spent = fit, 0
        self._both = both = torch.from_numpy(np.concatenate([fit, tokens])).to(input_device(model))
        check_states_fit(model, stack.n_players, both)
        self._first, self._tokens = len(fit), both[len(fit) :]
        try:
            self._head = find_head(model, stack, both[:2])
        except TailNotFound as reason:
            raise RepairError(
                f"{type(model).__name__} cannot be searched repaired ({reason}): search without"
                " repair and repair what is found"
            ) from reason
        self._known = RememberedRefits(remember)
        self._way: list[_Step] = []
        self._read: FullModel | None = None
        on_cpu = both.device.type == "cpu"
        self._rows, self._columns = HEAD_TABLE if on_cpu else HEAD_TABLE_ON_A_GPU
        self.made = self.again = 0

    def on(self, tokens: Tokens) -> "RepairedGame":
        """The same on other texts: refits are taken over, and the states here are let go.

        This game may still be asked: it then runs the full model once more.
        """
        self.release()
        game = RepairedGame(self.model, self.stack, self._fit, tokens, self.repair)
        game._known = self._known
        return game

    def release(self) -> None:
        """Let go of all states."""
        self._spent = self.layer_tokens
        self.__dict__.pop("_states", None)
        self._way, self._read = [], None

    @cached_property
    def _states(self) -> _States:
        players, whole = range(self.n_players), WholeModel(self.model, self.stack)
        walk = Walk(whole, players, self._both, fitted=self._first)
        walk.full = full = RememberedStates(walk.through, walk.kept, self.n_players)
        return _States(walk, full)

    @property
    def n_players(self) -> int:
        """Number of layers."""
        return self.stack.n_players

    @property
    def n_sequences(self) -> int:
        """Number of texts that coalitions are observed on."""
        return len(self._tokens)

    @property
    def state_bytes(self) -> int:
        """Bytes of the full model's states between all layers."""
        one = self._states.full.before[0]
        return (self.n_players + 1) * one.numel() * one.element_size()

    @property
    def full_states(self) -> list[Tensor]:
        """The full model's states before each layer and after the last, of the texts fitted on."""
        return [states[: self._first] for states in self._states.full.before]

    @property
    def layer_tokens(self) -> int:
        """Layer-tokens that were executed so far, refits included."""
        states = self.__dict__.get("_states")
        return self._spent + (states.walk.layer_tokens if states else 0)

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe distinct coalitions on distinct sequences, one coalition after the other."""
        asked = question(coalitions, sequences, self.n_players, self.n_sequences)
        if asked.empty:
            return
        started = perf_counter()
        for place, coalition in enumerate(asked.ordered):
            states = self._repaired(coalition)[self._first :]
            seen = self._seen(
                states[torch.from_numpy(asked.sequences).to(states.device)], asked.sequences
            )
            now = perf_counter()
            columns = np.arange(len(asked.sequences))
            yield Block(asked.order[place : place + 1], columns, seen, now - started)
            started = now

    def weights(self, coalition: Coalition) -> NewWeights:
        """The weights that repair a coalition, by their names in the full model."""
        self._repaired(coalition)
        return {name: value for step in self._way for name, value in step.weights.items()}

    @torch.no_grad()
    def _repaired(self, coalition: Coalition) -> Tensor:
        """The states after the last kept layer of a repaired coalition, of all texts."""
        kept = tuple(np.flatnonzero(coalition).tolist())
        whole = turns(kept, self.n_players)
        nodes = [(kept[: at + 1], turn.following) for at, turn in enumerate(whole)]
        shared = 0
        while shared < min(len(self._way), len(nodes)) and self._way[shared].node == nodes[shared]:
            shared += 1
        del self._way[shared:]
        for node, turn in zip(nodes[shared:], whole[shared:], strict=True):
            before = self._way[-1].states if self._way else self._states.full.before[0]
            self._way.append(self._step(node, turn, before))
        return self._way[-1].states

    def _step(self, node: Node, turn: Turn, states: Tensor) -> _Step:
        walk, full = self._states.walk, self._states.full
        if not turn.behind and not turn.gap:
            return _Step(node, full.at(turn.layer + 1), {})
        if (known := self._known.find(node)) is not None:
            self.again += 1
            with applied(self.model, known):
                return _Step(node, walk.through(turn.layer, states), known)
        walk.kept = states
        full.layer = turn.layer
        place = KeptLayer(walk, turn)
        try:
            self.repair.at(place)
            place.leave()
        finally:
            weights = walk.changes.taken_back()
        self.made += bool(weights)
        self._known.keep(node, weights)
        return _Step(node, walk.kept, weights)

    @torch.no_grad()
    def _seen(self, states: Tensor, sequences: Indices) -> Observations:
        """Repaired states of some texts, read against the full model's in one go."""
        states = self._head.normed(states[:, :-1])
        full = self._full_readings()
        if len(sequences) < self.n_sequences:
            full = FullModel.gathered(torch.stack, [full[text] for text in sequences.tolist()])
        targets = self._tokens[torch.from_numpy(sequences).to(self._tokens.device), 1:]
        reading = read_states(
            self._head,
            states.flatten(0, 1)[None],
            targets.flatten(),
            full.each(lambda field: field.flatten(0, 1)),
            tokens=self._rows,
            block=self._columns,
        )
        n, each = targets.shape
        return observations(
            Reading(*(part.view(1, n, each) for part in (reading.nll, reading.kl, reading.agrees)))
        )

    def _full_readings(self) -> FullModel:
        """What the full model predicts on all texts that are observed on."""
        if self._read is None:
            n, each = len(self._tokens), self._tokens.shape[1] - 1
            states = self._head.normed(self._states.full.before[-1][self._first :, :-1])
            flat = read_full(
                self._head,
                states.flatten(0, 1),
                self._tokens[:, 1:].flatten(),
                kl=True,
                tokens=self._rows,
                block=self._columns,
            )
            self._read = flat.each(lambda field: field.view(n, each, *field.shape[1:]))
        return self._read
