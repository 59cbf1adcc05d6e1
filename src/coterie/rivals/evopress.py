"""EvoPress: evolution by level switches (Sieberling et al. 2024, arXiv:2410.14649).

One parent and 32 children that differ by one to three swaps; fitness is the divergence from the
full model; survivors are chosen in two stages, few texts first. See `game/search/evolve.py`.
"""

from coterie.game.search.evolve import evolve
from coterie.rivals.interface import Chosen, Meter, Selection, Task


def choose(task: Task, meter: Meter) -> Chosen:
    """One run of the published length for each size."""
    chosen: Chosen = {}
    for removal, keep in zip(task.removals, task.keeps, strict=True):
        # "kl", not the loss: the published fitness is the divergence from the full model.
        found = evolve(meter.ledger("kl"), keep, locked=task.locked, rng=task.rng)
        chosen[removal] = Selection(found.coalition[None])
    return chosen
