"""Players of unequal cost: coalitions below a ceiling, and exchanges that lead from one to another.

An exchange flips one player, back in or out, and then does what the ceiling asks for: takes others
out until the cost is allowed, and puts others back while there is room. So one move may bring back
a feed-forward block for three attention blocks elsewhere.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coterie.game.coalitions import Coalitions, Indices, Matrix, Vector
from coterie.game.designs import NO_ONE


@dataclass(frozen=True, eq=False)
class Ceiling:
    """What kept players cost, and how much they may cost together.

    Attributes:
        costs: Of each player, ``(n_players,)``: parameters, bytes or seconds.
        most: Cost that the kept players may have.
        locked: Players that stay.

    Examples:
        >>> ceiling = Ceiling(np.array([1.0, 3.0, 1.0]), most=4.0)
        >>> ceiling.allows(np.array([[True, True, False], [True, True, True]])).tolist()
        [True, False]
    """

    costs: Vector
    most: float
    locked: Indices = field(default_factory=lambda: NO_ONE)

    @property
    def limit(self) -> float:
        """The ceiling, a rounding error of the sum above it."""
        return self.most + 1e-9 * float(self.costs.sum())

    @property
    def movable(self) -> NDArray[np.bool_]:
        """Players that are not locked, ``(n_players,)``."""
        movable = np.ones(len(self.costs), dtype=bool)
        movable[self.locked] = False
        return movable

    def allows(self, coalitions: Coalitions) -> NDArray[np.bool_]:
        """Which coalitions cost no more than is allowed and hold all locked players."""
        whole = coalitions[:, self.locked].all(axis=1)
        return whole & (coalitions @ self.costs <= self.limit)


@dataclass(frozen=True, eq=False)
class PairwiseModels:
    """Games in which cutting has an effect, and cutting two an extra one; values of cuts.

    The value of a model is Σ b_i z_i + Σ_{i<j} c_ij z_i z_j, with z = 1 where a player is cut.

    Attributes:
        single: b, ``(n_models, n_players)``.
        pairs: c, symmetric with a zero diagonal, ``(n_models, n_players, n_players)``.
    """

    single: Matrix
    pairs: NDArray[np.float64]

    def some(self, rows: Indices) -> "PairwiseModels":
        """Some of the models."""
        return PairwiseModels(self.single[rows], self.pairs[rows])

    def slopes(self, cut: NDArray[np.float64]) -> NDArray[np.float64]:
        """Effect of each player's cut, the others as they are, ``(n_models, n_cuts, n_players)``.

        Args:
            cut: 1 where a player is cut, ``(n_models, n_cuts, n_players)``.
        """
        return self.single[:, None, :] + np.matmul(cut, self.pairs)

    def values(self, cut: NDArray[np.float64]) -> Matrix:
        """The value of each cut, ``(n_models, n_cuts)``."""
        # Each pair is met twice in the sum, so half of it counts.
        return (cut * (self.single[:, None, :] + self.slopes(cut))).sum(axis=2) / 2


def climb_below(
    models: PairwiseModels, starts: Coalitions, ceiling: Ceiling, *, steps: int = 50
) -> Coalitions:
    """Improve each start by its best exchange until none helps; all starts climb at once.

    Args:
        models: One for each start.
        starts: Allowed coalitions, ``(n_starts, n_players)``.
        ceiling: Costs, and what is allowed.
        steps: Most exchanges of a start.
    """
    cut = (~starts).astype(np.float64)
    values = models.values(cut[:, None, :])[:, 0]
    going = np.arange(len(starts))
    for _ in range(steps):
        few = models.some(going)
        states = exchanges(few, cut[going], ceiling)
        found = few.values(states)
        best = found.argmax(axis=1)
        reached = found[np.arange(len(going)), best]
        better = reached > values[going] + 1e-12
        going, best, reached = going[better], best[better], reached[better]
        if not len(going):
            break
        cut[going], values[going] = states[better][np.arange(len(going)), best], reached
    return cut == 0


def exchanges(models: PairwiseModels, cut: Matrix, ceiling: Ceiling) -> NDArray[np.float64]:
    """Every exchange of each cut: one row a player that is flipped, ``(n, n_players, n_players)``.

    Args:
        models: Say who goes out and who comes back in beside the player that is flipped.
        cut: 1 where a player is cut, ``(n, n_players)``.
        ceiling: Costs, and what is allowed.
    """
    n_players, movable = cut.shape[1], ceiling.movable
    states = np.repeat(cut[:, None, :], n_players, axis=1)
    flipped = np.eye(n_players, dtype=bool) & movable
    states = np.where(flipped, 1 - states, states)
    # Who was flipped stays flipped; whatever else is done makes room for it, or uses its room.
    free = ~flipped & movable
    _brought_below(models, states, free, ceiling)
    _filled_up(models, states, free, ceiling)
    return states


def drawn_below(ceiling: Ceiling, n: int, *, rng: np.random.Generator) -> Coalitions:
    """Random allowed coalitions: players go in random order until the cost is allowed.

    Args:
        ceiling: Costs, and what is allowed.
        n: How many.
        rng: Draws the order.
    """
    n_players = len(ceiling.costs)
    # The random effects alone decide, so there are no pairs.
    models = PairwiseModels(rng.normal(size=(n, n_players)), np.zeros((n, n_players, n_players)))
    states = np.zeros((n, 1, n_players))
    _brought_below(models, states, ceiling.movable[None, :], ceiling)
    return states[:, 0] == 0


def _brought_below(
    models: PairwiseModels,
    states: NDArray[np.float64],
    free: NDArray[np.bool_],
    ceiling: Ceiling,
) -> None:
    """Take out, in place, who costs least value for the cost that must go, until it is allowed."""
    for _ in range(states.shape[2]):
        excess = (1 - states) @ ceiling.costs - ceiling.limit
        may = (states == 0) & free
        rows = (excess > 0) & may.any(axis=2)
        if not rows.any():
            return
        # What a player frees beyond the excess is of no use here.
        relief = np.minimum(ceiling.costs, np.maximum(excess, 1e-300)[..., None])
        worth = np.where(may, models.slopes(states) / relief, -np.inf)
        _set(states, rows, worth.argmax(axis=2), 1.0)


def _filled_up(
    models: PairwiseModels,
    states: NDArray[np.float64],
    free: NDArray[np.bool_],
    ceiling: Ceiling,
) -> None:
    """Put back, in place, whoever gains most and fits, until nobody does both."""
    for _ in range(states.shape[2]):
        room = ceiling.limit - (1 - states) @ ceiling.costs
        gains = -models.slopes(states)
        may = (states == 1) & free & (ceiling.costs <= room[..., None]) & (gains > 0)
        rows = may.any(axis=2)
        if not rows.any():
            return
        _set(states, rows, np.where(may, gains, -np.inf).argmax(axis=2), 0.0)


def _set(states: NDArray[np.float64], rows: NDArray[np.bool_], players: Indices, to: float) -> None:
    model, row = np.nonzero(rows)
    states[model, row, players[model, row]] = to
