"""BlockPruner: greedy removal of attention and feed-forward blocks (arXiv:2406.10594).

The block without which the loss is lowest goes, then all are looked at again, until as many
parameters are gone as the layers asked for hold on average.
"""

import numpy as np

from coterie.errors import ModelError
from coterie.game.coalitions import Coalition, Indices
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import greedy
from coterie.models.loaded.blocks import find_players
from coterie.models.loaded.stack import Stack
from coterie.rivals._ranking import out_of_reach
from coterie.rivals.interface import Chosen, DoesNotApply, Meter, Selection, Task


def choose(task: Task, meter: Meter) -> Chosen:
    """One descent answers all sizes.

    Raises:
        DoesNotApply: The layers are not built of such blocks.
    """
    try:
        blocks = find_players(task.model, "sublayer")
    except ModelError as error:
        raise DoesNotApply(str(error)) from error
    weights = parameters(blocks)
    per_layer = weights.sum() / task.n_players
    # The two blocks of layer i are the players 2i and 2i + 1.
    locked = np.sort(np.concatenate([2 * task.locked, 2 * task.locked + 1]))
    free = weights[np.setdiff1d(np.arange(len(weights)), locked)].sum()
    ledger, chosen = meter.ledger(stack=blocks), Chosen()
    coalition, gone = np.ones(blocks.n_players, dtype=bool), 0
    for removal in task.removals:
        target = removal * per_layer
        if target > free:
            meter.remarks.append(out_of_reach(removal, int(free // per_layer)))
            continue
        while weights[~coalition].sum() < target:
            gone += 1
            coalition = _descended(ledger, gone, locked)
        chosen[removal] = Selection(coalition[None], "sublayer")
    return chosen


def parameters(blocks: Stack) -> Indices:
    """Parameters of each block, ``(n_blocks,)``."""
    return np.array([sum(p.numel() for p in block.parameters()) for block in blocks.layers])


def _descended(ledger: Ledger, gone: int, locked: Indices) -> Coalition:
    # The account remembers the steps before, so only the last one asks.
    return greedy(ledger, [ledger.n_players - gone], locked=locked)[0].coalition
