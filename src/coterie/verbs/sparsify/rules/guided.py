"""Guided: from SV-NUP's spreads a search goes on, layer by layer. See `coterie.sparsity.search`."""

import numpy as np

from coterie.game.coalitions import Vector
from coterie.sparsity.allocation import SPREADS, steps_within
from coterie.sparsity.allocation import allocate as spread_out
from coterie.sparsity.search import Space, guided_allocation, most_judged
from coterie.verbs.sparsify.judging import Judging
from coterie.verbs.sparsify.rules._interface import Allocation, RuleTask, SharingCost
from coterie.verbs.sparsify.rules.sv_nup import best_spread, by_contributions, judging_cost


def allocate(task: RuleTask) -> Allocation:
    """Measure contributions, judge the spreads, search from them."""
    return by_contributions(task, choose)


def choose(judging: Judging, contributions: Vector) -> Allocation:
    """Search from the spreads by level switches; never worse than the best of them."""
    task, units, begun = judging.task, judging.units, best_spread(judging, contributions)
    found, bounds = begun.found, task.bounds
    least, most = (np.full(len(units.weights), step) for step in steps_within(bounds, units.steps))
    space = Space(units.weights, least, most)
    if not space.allowed(begun.levels, float(begun.levels[0] @ units.weights)).any():
        message = f"no steps of 1/{units.steps} lie within the bounds: not searched"
        found.findings |= {"search": message}
        return found
    rng = np.random.default_rng([task.request.seed, 6])
    answer = guided_allocation(judging, begun.levels, space, rng=rng)
    sparse = answer.levels / units.steps
    # The grid meets the target to within half a step of one unit; one shift meets it exactly.
    found.sparsity = spread_out(-sparse, units.weights, task.target, spread=1.0, bounds=bounds)
    found.findings |= {"loss": answer.loss, "history": list(answer.account.history)}
    return found


def cost(task: RuleTask) -> SharingCost:
    """The spreads and all switches of the search; layers are measured once."""
    candidates = most_judged(len(task.units.weights), len(SPREADS))
    what = f"{len(SPREADS)} spreads and level switches, at most {candidates:,.0f} allocations"
    return judging_cost(task, candidates, 1, what)
