"""SV-NUP: sparsity by Shapley values, one spread chosen on calibration text (arXiv:2505.01731).

The formula is that of `coterie.sparsity.allocation`; how far apart layers are is the one number it
leaves open, and the best of a few is taken. `guided` and `mixed` begin where this ends.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from coterie.engine.memory import memory_for_states
from coterie.game.coalitions import Vector
from coterie.scratch import Scratch
from coterie.sparsity.allocation import SPREADS, importance_of
from coterie.sparsity.allocation import allocate as spread_out
from coterie.sparsity.pruners import find_pruner
from coterie.sparsity.search import Levels
from coterie.sparsity.variant_game import walks_of
from coterie.verbs.sparsify.contributions import measure
from coterie.verbs.sparsify.judging import Judging
from coterie.verbs.sparsify.rules._interface import Allocation, RuleTask, SharingCost
from coterie.verbs.sparsify.texts import judged_on

Choose = Callable[[Judging, Vector], Allocation]
"""Chooses an allocation from a judge and the contributions of all units ``(n_units,)``."""


@dataclass(frozen=True, eq=False)
class Spread:
    """The allocations of all spreads, judged.

    Attributes:
        found: The best one.
        importance: Of each unit, ``(n_units,)``.
        levels: Of every spread, ``(n_spreads, n_units)``.
        size: The best spread.
        loss: Of the best one, on the texts that judge.
    """

    found: Allocation
    importance: Vector
    levels: Levels
    size: float
    loss: float


def allocate(task: RuleTask) -> Allocation:
    """Measure contributions, judge the spreads, take the best."""
    return by_contributions(task, choose)


def choose(judging: Judging, contributions: Vector) -> Allocation:
    """The spread with the lowest loss on the calibration texts."""
    return best_spread(judging, contributions).found


def cost(task: RuleTask) -> SharingCost:
    """One allocation judged for each spread; statistics are gathered anew on every walk."""
    judged, prepared = judged_on(task.workspace.prepared), task.workspace.prepared
    memory = memory_for_states(task.workspace.request.state_memory, prepared.device)
    width = int(task.workspace.model.config.get_text_config(decoder=True).hidden_size)
    # Memory decides how many candidates walk at once, so how often layers are pruned anew.
    state = judged.length * width * max(prepared.dtype.itemsize, 4)
    walks = walks_of(len(SPREADS), judged.n_sequences, state, memory)
    return judging_cost(task, float(len(SPREADS)), walks)


def judging_cost(
    task: RuleTask, candidates: float, walks: int, what: str | None = None
) -> SharingCost:
    """What judging allocations asks.

    Args:
        task: The model, and how sparse it becomes.
        candidates: Allocations judged at most.
        walks: Times that a pruner which measures has the texts walk through the layers.
        what: What is done, in words; None says that so many allocations are judged.
    """
    what = what or f"{candidates:,.0f} allocations judged, their layers pruned for it"
    measures = find_pruner(task.request.pruner).needs != "nothing"
    judged = judged_on(task.workspace.prepared)
    return SharingCost(what, candidates, judged, walks if measures else 0)


def by_contributions(task: RuleTask, chosen_by: Choose) -> Allocation:
    """Measure what layers contribute, then let an allocation be chosen by judging.

    Raises:
        SparsityError: nothing tells the layers apart.
    """
    measured = measure(task.workspace, task.request, task.progress)
    importance_of(measured.values, task.units.weights)  # refused before any layer is pruned
    keeps = task.request.rule().keeps_variants
    # Variants that do not fit in memory lie in files for as long as allocations are judged.
    with Scratch() as folder:
        task.progress.say("judging allocations on the calibration texts")
        began = perf_counter()
        judging = Judging(task, folder if keeps else None)
        found = chosen_by(judging, measured.values)
        found.findings |= {
            "candidates": judging.candidates,
            "sequences": len(judging.game.tokens),
            "variants": judging.variants.made,
            "layer_tokens_executed": judging.game.spent.layer_tokens,
            "seconds": perf_counter() - began,
        }
    found.measured = measured
    return found


def best_spread(judging: Judging, contributions: Vector) -> Spread:
    """Judge the allocation of every spread.

    Raises:
        SparsityError: nothing tells the layers apart.
    """
    target, bounds, weights = judging.task.target, judging.task.bounds, judging.units.weights
    importance = importance_of(contributions, weights)
    spreads = np.stack(
        [spread_out(importance, weights, target, spread=s, bounds=bounds) for s in SPREADS]
    )
    # Judged on a grid, so that candidates share variants; what is returned is exact.
    levels = judging.levels(spreads)
    losses = judging(levels)
    best = int(losses.argmin())
    found = Allocation(spreads[best], np.ones(len(judging.units.names), dtype=bool))
    found.findings = {
        "spread": SPREADS[best],
        "spreads": {str(s): float(loss) for s, loss in zip(SPREADS, losses, strict=True)},
    }
    return Spread(found, importance, levels, SPREADS[best], float(losses[best]))
