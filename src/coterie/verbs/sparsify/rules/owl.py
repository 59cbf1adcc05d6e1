"""OWL: layers with more outliers stay denser (arXiv:2310.05175). See `coterie.sparsity.owl`."""

from coterie.sparsity.owl import outlier_ratios, owl
from coterie.sparsity.pruners import find_pruner
from coterie.verbs.sparsify.rules._interface import Allocation, RuleTask, SharingCost
from coterie.verbs.sparsify.texts import judged_on


def allocate(task: RuleTask) -> Allocation:
    """By the share of outliers among the weights of each unit."""
    # An outlier is defined by Wanda's score, whichever pruner prunes afterwards.
    ratios = outlier_ratios(task.pruning(find_pruner("wanda")), task.units)
    sparsity = owl(ratios, task.units.weights, task.target, bounds=task.bounds)
    return Allocation(sparsity, task.everyone, findings={"outlier_ratios": ratios.tolist()})


def cost(task: RuleTask) -> SharingCost:
    """One walk of the texts for pruning."""
    what = "outliers measured in one pass of the texts for pruning"
    return SharingCost(what, 0.0, judged_on(task.workspace.prepared), walks=1)
