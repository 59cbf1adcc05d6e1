"""Games around games: one that keeps to a time, and one whose texts are those of two others."""

from collections.abc import Callable, Iterator
from math import inf

import numpy as np

from coterie.game.clocked import ClockedGame
from coterie.game.coalitions import Block, Coalitions, Game, Indices, sizes


class OutOfTime(Exception):
    """The seconds that observing may take are spent; what was observed is kept."""


class TimedGame(ClockedGame):
    """A game that answers until its seconds are spent, and reports how much was asked of it.

    What a store knows takes next to no time, whenever it was observed: the same command, given
    again, goes on from where its time ended.

    Args:
        game: The game.
        seconds: Most seconds to spend observing; a question begun is answered to its end.
        tell: Called with the layer-sequences answered so far.
    """

    def __init__(
        self, game: Game, *, seconds: float | None = None, tell: Callable[[int], None]
    ) -> None:
        super().__init__(game)
        # None is no limit; inf keeps the comparison below free of a special case.
        self.seconds, self.tell = inf if seconds is None else seconds, tell
        self._layer_sequences = 0

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe as the inner game does.

        Raises:
            OutOfTime: the seconds were spent before this was asked.
        """
        # Checked before a question, never inside: half a question would not be resumable.
        if self.spent >= self.seconds:
            raise OutOfTime
        held = sizes(coalitions)
        for block in super().observe(coalitions, sequences):
            self._layer_sequences += int(held[block.rows].sum()) * len(block.columns)
            self.tell(self._layer_sequences)
            yield block


class ConcatenatedGame:
    """One game on the texts of two games of the same players: the first's, then the second's."""

    def __init__(self, first: Game, second: Game) -> None:
        self.first, self.second = first, second

    @property
    def n_players(self) -> int:
        """Number of players of either game."""
        return self.first.n_players

    @property
    def n_sequences(self) -> int:
        """Texts of both together."""
        return self.first.n_sequences + self.second.n_sequences

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe each part of the texts in the game it belongs to."""
        edge = self.first.n_sequences
        # Columns are renumbered into the game's own, and back on the way out.
        for game, start, mine in (
            (self.first, 0, np.flatnonzero(sequences < edge)),
            (self.second, edge, np.flatnonzero(sequences >= edge)),
        ):
            # A question about one half of the texts never reaches the other game.
            if len(mine):
                for block in game.observe(coalitions, sequences[mine] - start):
                    yield Block(block.rows, mine[block.columns], block.observations, block.seconds)
