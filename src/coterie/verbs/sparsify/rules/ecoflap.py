"""ECoFLaP's rule: by zeroth-order scores (arXiv:2310.02998). See `coterie.sparsity.ecoflap`."""

from coterie.sparsity.ecoflap import ecoflap, losses_read, zeroth_order_scores
from coterie.verbs.sparsify.rules._interface import Allocation, RuleTask, SharingCost


def allocate(task: RuleTask) -> Allocation:
    """By how much the loss moves when the weights of a unit do."""
    # The few texts of the game: two losses for each of many directions are read on them.
    judged, seed = task.judged(task.workspace.calibration.texts), task.workspace.request.seed
    scores, spent = zeroth_order_scores(judged, task.units, seed)
    sparsity = ecoflap(scores, task.units.weights, task.target, bounds=task.bounds)
    return Allocation(
        sparsity,
        task.everyone,
        findings={"scores": scores.tolist(), "layer_tokens_executed": spent.layer_tokens},
    )


def cost(task: RuleTask) -> SharingCost:
    """Two losses for every unit and direction."""
    candidates = float(losses_read(len(task.units.weights)))
    what = f"the loss of {candidates:,.0f} variants of the model"
    return SharingCost(what, candidates, task.workspace.calibration.texts)
