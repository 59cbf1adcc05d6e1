"""Banzhaf power indices of the layers, as in GTAP (Diaz-Ortiz Jr et al. 2023, arXiv:2311.10468).

GTAP ranks neurons by a power index that is estimated as Dropout runs a network: some of them are
out by chance, and every such run tells something of all. Here the players are layers, each in with
probability one half; the index of a layer is the mean value of the coalitions with it less that of
those without it, which is its Banzhaf index (for the estimator see arXiv:2205.15466).
"""

import numpy as np

from coterie.game.coalitions import Coalitions, Indices, Vector
from coterie.rivals._ranking import lowest_first
from coterie.rivals.interface import Chosen, Meter, Task

DRAWS = 512


def choose(task: Task, meter: Meter) -> Chosen:
    """Remove the layers of the smallest power index, in one shot."""
    drawn = task.rng.random((DRAWS, task.n_players)) < 0.5
    # A locked layer is in every coalition: it has no index, and takes no part in the ranking.
    drawn[:, task.locked] = True
    values = meter.ledger().value(drawn)
    return lowest_first(task, meter, power(drawn, values, task.free), task.locked)


def power(coalitions: Coalitions, values: Vector, free: Indices) -> Vector:
    """Mean value with a player less mean value without: ``(n_players,)``, NaN unless free.

    Args:
        coalitions: ``(n_coalitions, n_players)``.
        values: The value of each, ``(n_coalitions,)``.
        free: Players that may go.
    """
    index = np.full(coalitions.shape[1], np.nan)
    for player in free:
        inside = coalitions[:, player]
        index[player] = values[inside].mean() - values[~inside].mean()
    return index
