"""Layers drawn by chance: the floor below which no method may fall."""

from coterie.game.designs import draw_distinct
from coterie.rivals.interface import Chosen, Meter, Selection, Task

DRAWS = 10
"""Coalitions per size, or all of them where there are fewer; the method is their mean."""


def choose(task: Task, meter: Meter) -> Chosen:
    """Draw distinct coalitions of each size, uniformly; nothing is asked."""
    chosen: Chosen = {}
    for removal, keep in zip(task.removals, task.keeps, strict=True):
        drawn = draw_distinct(task.n_players, keep, DRAWS, locked=task.locked, rng=task.rng)
        chosen[removal] = Selection(drawn.coalitions)
    return chosen
