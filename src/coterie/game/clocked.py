"""A game that adds up how long its answers took: now, and when they were first observed."""

from collections.abc import Iterator
from time import perf_counter

from coterie.game.coalitions import Block, Coalitions, Game, Indices


class ClockedGame:
    """A game whose seconds are kept apart: what a store knows took its time in an earlier run.

    Attributes:
        spent: Seconds in which answers were waited for here.
        recorded: Seconds that the same answers took when they were observed, in whichever run.
    """

    def __init__(self, inner: Game) -> None:
        self.inner, self.spent, self.recorded = inner, 0.0, 0.0

    @property
    def n_players(self) -> int:
        """Number of players of the inner game."""
        return self.inner.n_players

    @property
    def n_sequences(self) -> int:
        """Number of texts of the inner game."""
        return self.inner.n_sequences

    @property
    def saved(self) -> float:
        """Seconds that the answers would have taken more, had nothing been known."""
        return max(0.0, self.recorded - self.spent)

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe as the inner game does."""
        began = perf_counter()
        for block in self.inner.observe(coalitions, sequences):
            self.spent += perf_counter() - began
            self.recorded += block.seconds
            yield block
            began = perf_counter()
