"""What a published method is given, what it answers with, and what it has cost.

A rival is a module with one function, ``choose(task, meter)``. It is given a model and texts, and
answers for each number of layers to remove: with coalitions, or with a way to write a checkpoint,
which is then judged like any other. It may play the game, through an account that the meter keeps,
or run the model itself, and then tells the meter.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from coterie.errors import UserError
from coterie.game.clocked import ClockedGame
from coterie.game.coalitions import Coalition, Coalitions, Game, Indices
from coterie.game.designs import NO_ONE
from coterie.game.search.ledger import Ledger

# These load torch, which the table of rivals is read without.
if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from coterie.engine.cost import Spent
    from coterie.models.cutting.write import Written
    from coterie.models.files.shards import Progress
    from coterie.models.files.sources import Source
    from coterie.models.loaded.stack import Players, Stack

    Writer = Callable[[Source, Path, Progress | None], Written]


class DoesNotApply(UserError):
    """A method that cannot be used on this model; the message says why, in one line."""


@dataclass(frozen=True, eq=False)
class Task:
    """What every rival is given.

    Attributes:
        model: The full model, in evaluation mode; no rival leaves a weight of it changed.
        stack: Its layers.
        tokens: Calibration texts, ``(n_sequences, length)``.
        documents: The document of each text, ``(n_sequences,)``.
        game: The game of ``stack`` on ``tokens``, behind whatever store there is.
        play: Makes the game of other players of the same model on the same texts.
        spent: What the engines behind these games have run so far.
        floor: What a loss that is not finite is read as.
        removals: Numbers of layers to remove, ascending.
        rng: All chance there is.
        locked: Players of ``stack`` that stay.
    """

    model: "PreTrainedModel"
    stack: "Stack"
    tokens: NDArray[np.int64]
    documents: Indices
    game: Game
    play: "Callable[[Stack], Game]"
    spent: "Callable[[], Spent]"
    floor: float
    removals: tuple[int, ...]
    rng: np.random.Generator
    locked: Indices = field(default_factory=lambda: NO_ONE)

    @property
    def n_players(self) -> int:
        """Number of layers, locked or not."""
        return self.stack.n_players

    @property
    def length(self) -> int:
        """Tokens of a text."""
        return self.tokens.shape[1]

    @property
    def free(self) -> Indices:
        """Layers that may go, ascending."""
        return np.setdiff1d(np.arange(self.n_players), self.locked)

    @property
    def keeps(self) -> tuple[int, ...]:
        """Layers that stay, one number per removal."""
        return tuple(self.n_players - removal for removal in self.removals)


@dataclass(frozen=True, eq=False)
class Selection:
    """The coalitions a method keeps at one size.

    Attributes:
        coalitions: ``(n_draws, n_players)``: one row, but of a method that is a mean of several
            draws all of them, to be judged one by one and averaged.
        players: What a player is. A coalition of sublayers removes as many parameters as the
            layers asked for, in whichever blocks.
    """

    coalitions: Coalitions
    players: "Players" = "layer"


@dataclass(frozen=True, eq=False)
class Rewrite:
    """A way to write a checkpoint that is more than a cut.

    Attributes:
        write: Called with the source, an empty folder and a progress display or None.
        kept: The layers whose places stay, ``(n_layers,)``.
        what: One line that says what was done to the weights.
        own_code: The checkpoint brings a modelling file of ours: it loads with
            ``trust_remote_code=True``.
    """

    write: "Writer"
    kept: Coalition
    what: str
    own_code: bool = False


Chosen = dict[int, Selection | Rewrite]
"""An answer per number of layers removed; a number the method cannot reach is missing."""


@dataclass(frozen=True)
class Cost:
    """What a method asked for and what runs for it, both as if it had been alone.

    A backward pass counts in the column of its own and in none of the others.
    """

    layer_tokens_asked: int
    layer_tokens_executed: int
    head_tokens: int
    """Predicted places at which the whole vocabulary was read, as asked."""
    backward_layer_tokens: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method found, for every number of layers removed that it can reach.

    The cost is of the whole call: one that asks for several removals shares what they share.
    """

    chosen: Chosen
    cost: Cost
    remarks: tuple[str, ...] = ()


class Meter:
    """Counts what one method asks for and runs; hands out accounts of the game."""

    def __init__(self, task: Task) -> None:
        self._task, self._started = task, perf_counter()
        self._ledgers: list[Ledger] = []
        self._clocks: list[ClockedGame] = []
        self._share = 1.0  # of a layer, that a player is: engines count players
        self._layer_tokens = self._head_tokens = self._backward = 0
        self.remarks: list[str] = []

    def ledger(
        self, quantity: Literal["nll", "kl"] = "nll", *, stack: "Stack | None" = None
    ) -> Ledger:
        """A fresh account with the task's game, or with the game of other players.

        Two sublayers count as one layer. A method plays with players of one kind.
        """
        task = self._task
        game = task.game if stack is None else task.play(stack)
        clocked = ClockedGame(game)
        self._clocks.append(clocked)
        made = Ledger(clocked, floor=task.floor, quantity=quantity)
        # One share holds for the whole meter, so a second kind of player would be miscounted.
        if self._ledgers and self._ledgers[0].n_players != made.n_players:
            raise ValueError("a method plays with players of one kind: take a meter for each")
        self._share = task.n_players / made.n_players
        self._ledgers.append(made)
        return made

    def ran(self, *, layer_tokens: int, head_tokens: int = 0, backward: int = 0) -> None:
        """Note what was run outside the game.

        Args:
            layer_tokens: Tokens times layers that ran.
            head_tokens: Places at which the whole vocabulary was read.
            backward: Tokens times layers of backward passes.
        """
        self._layer_tokens += layer_tokens
        self._head_tokens += head_tokens
        self._backward += backward

    def cost(self) -> Cost:
        """All of it so far."""
        length = self._task.length
        # Asked: as if the method were alone, whatever the store knew already.
        asked = sum(ledger.layer_sequences for ledger in self._ledgers) * length
        # Executed: what an engine runs that shares prefixes within every question.
        executed = sum(ledger.layers_executed for ledger in self._ledgers) * length
        # The first token of a text is never predicted, so a text of n tokens has n - 1 places.
        read = sum(int(np.isfinite(ledger.seen()[1]).sum()) for ledger in self._ledgers)
        return Cost(
            layer_tokens_asked=round(asked * self._share) + self._layer_tokens,
            layer_tokens_executed=round(executed * self._share) + self._layer_tokens,
            head_tokens=read * (length - 1) + self._head_tokens,
            backward_layer_tokens=self._backward,
            # What was known took its time when it was observed.
            seconds=perf_counter() - self._started + sum(clocked.saved for clocked in self._clocks),
        )
