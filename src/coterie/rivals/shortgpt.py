"""ShortGPT: layers that hardly turn the state go first (Men et al. 2024, arXiv:2403.03853).

Block Influence of a layer is 1 − E[cos(h_in, h_out)], over all tokens.
"""

import numpy as np
from torch.nn.functional import cosine_similarity

from coterie.game.coalitions import Vector
from coterie.rivals._ranking import lowest_first
from coterie.rivals._states import states_of
from coterie.rivals.interface import Chosen, Meter, Task


def block_influence(task: Task, meter: Meter) -> Vector:
    """One minus the mean cosine of what enters a layer and what leaves it, ``(n_players,)``."""
    total = np.zeros(task.n_players)
    for states in states_of(task, meter):
        for layer in range(task.n_players):
            cosines = cosine_similarity(states[layer], states[layer + 1], dim=-1)
            # A sum, divided at the end: the last batch may be smaller than the others.
            total[layer] += cosines.double().sum().item()
    return 1 - total / task.tokens.size


def choose(task: Task, meter: Meter) -> Chosen:
    """Remove the layers of the lowest Block Influence, in one shot."""
    return lowest_first(task, meter, block_influence(task, meter), task.locked)
