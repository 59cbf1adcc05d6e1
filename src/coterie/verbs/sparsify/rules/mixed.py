"""Mixed: the least contributing layers are cut, while that helps, and the rest is sparsified."""

import numpy as np

from coterie.game.coalitions import Vector
from coterie.plain import Json
from coterie.sparsity.allocation import SPREADS, mean_of
from coterie.sparsity.allocation import allocate as spread_out
from coterie.sparsity.units import GONE
from coterie.verbs.sparsify.judging import Judging
from coterie.verbs.sparsify.rules._interface import Allocation, RuleTask, SharingCost
from coterie.verbs.sparsify.rules.sv_nup import best_spread, by_contributions, judging_cost

CUT_SHARE = 0.9
"""Of the budget, that whole layers may take when layers are cut and the rest is sparsified."""


def allocate(task: RuleTask) -> Allocation:
    """Measure contributions, judge the spreads, then cuts beside the best of them."""
    return by_contributions(task, choose)


def choose(judging: Judging, contributions: Vector) -> Allocation:
    """Cut 1, 2, 3 … of the least contributing layers too, while that helps on calibration."""
    task, weights, begun = judging.task, judging.units.weights, best_spread(judging, contributions)
    found, lowest = begun.found, begun.loss
    free = np.flatnonzero(~np.isnan(contributions))
    order = free[np.argsort(contributions[free], kind="stable")]
    tried: dict[str, Json] = {"0": lowest}
    for n_cut in range(1, len(order)):
        gone = order[:n_cut]
        rest = np.setdiff1d(np.arange(len(weights)), gone)
        left = (task.target * weights.sum() - weights[gone].sum()) / weights[rest].sum()
        # Beyond this, whole layers would take nearly all of the budget.
        if left < max(task.bounds.least, (1 - CUT_SHARE) * task.target):
            break
        sparsity = np.ones(len(weights))
        # The layers that stay share what is left of the target, by the spread chosen before.
        sparsity[rest] = spread_out(
            begun.importance[rest], weights[rest], left, spread=begun.size, bounds=task.bounds
        )
        levels = judging.levels(sparsity[None])
        levels[0, gone] = GONE
        loss = float(judging(levels)[0])
        tried[str(n_cut)] = loss
        if loss < lowest:
            lowest = loss
            found.sparsity, found.kept = sparsity, np.isin(np.arange(len(weights)), rest)
    assert abs(mean_of(found.sparsity, weights) - task.target) < 1e-6
    found.findings |= {"loss_by_layers_cut": tried}
    return found


def cost(task: RuleTask) -> SharingCost:
    """The spreads, and one more allocation for every layer that may be cut too."""
    return judging_cost(task, float(len(SPREADS) + max(0, task.n_free - 1)), 1)
